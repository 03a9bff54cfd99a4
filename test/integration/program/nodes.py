"""`chorus serve` as one of several nodes, and its rooms that clients join by path. What the engines do is
tested with the library."""
import json
import os
import subprocess
import urllib.request

from contract import OK, PATIENCE, PROTOCOL, USAGE, Contract, Serve, program, run


class Engines(Contract):
    def test_urls_that_name_no_engine(self):
        for url, part in (("mongodb://u:hunter2@host", "'mongodb:'"), ("hunter2", "no URL of an engine"),
                          ("", "no URL of an engine"), ("REDIS://hunter2", "no URL of an engine")):
            with self.subTest(url):
                ended = run("serve", "--listen", "127.0.0.1:0", "--broker", url)
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended, "--broker", part, "redis://HOST:6379", "nats://HOST:4222")
                self.assertNotIn("hunter2", ended.err)

    def test_by_the_environment(self):
        environment = {**os.environ, "CHORUS_BROKER": "mongodb://u:hunter2@host"}
        ended = subprocess.run([program(), "serve", "--listen", "127.0.0.1:0"], capture_output=True,
                               timeout=PATIENCE, env=environment, stdin=subprocess.DEVNULL)
        self.assertEqual(ended.returncode, USAGE)
        self.assertIn(b"'mongodb:' is no engine", ended.stderr)
        self.assertNotIn(b"hunter2", ended.stderr)

    def test_options_that_need_an_engine(self):
        for option in (("--when-away", "buffer"), ("--broker-lease", "3s"), ("--broker-ca", "/dev/null")):
            with self.subTest(option[0]):
                ended = run("serve", "--listen", "127.0.0.1:0", *option)
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended, option[0], "requires --broker")

    def test_values_out_of_range(self):
        for option in (("--when-away", "ignore"), ("--broker-lease", "999ms"),
                       ("--broker-ca", "/nowhere.pem")):
            with self.subTest(option[0]):
                ended = run("serve", "--listen", "127.0.0.1:0", "--broker", "redis://127.0.0.1:1", *option)
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended, option[0])

    def test_alone_there_is_none(self):
        with Serve() as server:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/dashboard/stats.json",
                                        timeout=PATIENCE) as answer:
                self.assertIsNone(json.load(answer)["broker"])


class Rooms(Contract):
    def talk(self, server, path, *lines, count):
        ended = run("connect", server.url + path, "--count", str(count),
                    stdin="".join(line + "\n" for line in lines).encode())
        self.assert_status(ended, OK)
        return ended.out.decode().splitlines()

    def test_all_that_was_said_comes_back_with_the_history(self):
        with Serve() as server:
            self.assertEqual(self.talk(server, "/ws/room/tea", "one", "two", count=2), ["one", "two"])
            self.assertEqual(self.talk(server, "/ws/room/tea?history=1", "three", count=2),
                             ["two", "three"])
            self.assertEqual(self.talk(server, "/ws/room/tea?history=1000", count=3),
                             ["one", "two", "three"])
            self.assertEqual(self.talk(server, "/ws/room/milk?history=1000", "none", count=1), ["none"])

    def test_each_message_is_confirmed(self):
        with Serve() as server:
            lines = self.talk(server, "/ws/room/tea?confirm=1", "a-1", "x" * 65, "a-2", count=6)
            own = [line for line in lines if not line.startswith("{")]
            told = [json.loads(line) for line in lines if line.startswith("{")]
            self.assertEqual(own, ["a-1", "x" * 65, "a-2"])
            self.assertEqual(told, [{"ref": ref, "outcome": "accepted"} for ref in ("a-1", "", "a-2")])

    def test_names(self):
        with Serve() as server:
            for name in ("a" * 65, "a%20b", "%C3%A9"):
                with self.subTest(name):
                    ended = run("connect", f"{server.url}/ws/room/{name}", "--count", "1")
                    self.assert_status(ended, PROTOCOL)
                    self.assert_sentence(ended, "1008", "1 to 64 letters")
