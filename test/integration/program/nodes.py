"""`chorus serve` as one of several nodes, and its rooms that clients join by path. What the engines do is
tested with the library."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.request

from contract import OK, PATIENCE, PROTOCOL, USAGE, Contract, Serve, program, run, settings


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


class NatsByTls(Contract):
    """A nats-server that takes TLS only, with a certificate of the tests' own authority."""

    @classmethod
    def setUpClass(cls):
        refused = run("serve", "--broker", "nats://h", "no such option")
        if "built without NATS" in refused.err:
            raise unittest.SkipTest("the program was built without NATS")
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        folder = cls.folder = pathlib.Path(cls.temporary.name)
        subprocess.run(["sh", settings.certificates, folder], check=True, timeout=PATIENCE)
        where = shutil.which("nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not where:
            raise AssertionError("nats-server is not installed; ./run test installs it")
        cls.nats = subprocess.Popen(
            [where, "--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir", folder / "data",
             "--tls", "--tlscert", folder / "server.pem", "--tlskey", folder / "server.key",
             "--ports_file_dir", folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.nats.wait, PATIENCE)
        cls.addClassCleanup(cls.nats.kill)
        cls.url = cls.until(cls.told_port, "nats-server tells no port")

    @classmethod
    def told_port(cls):
        for file in cls.folder.glob("*.ports"):
            try:
                return json.loads(file.read_text())["nats"][0]
            except ValueError:
                pass  # not written to its end
        return None

    @staticmethod
    def until(look, otherwise):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(0.01)
        raise AssertionError(otherwise)

    @staticmethod
    def engine_of(server):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/dashboard/stats.json",
                                    timeout=PATIENCE) as answer:
            return json.load(answer)["broker"]

    def test_nodes_that_know_its_authority_share_rooms(self):
        trusting = ("--broker", self.url, "--broker-ca", self.folder / "ca.pem")
        with Serve(*trusting) as one, Serve(*trusting) as other:
            for server in (one, other):
                self.until(lambda at=server: self.engine_of(at)["connected"], "a node is not connected")
            for server, said, heard in ((one, "from one\n", ["from one"]),
                                        (other, "from the other\n", ["from one", "from the other"])):
                ended = run("connect", server.url + "/ws/room/tea?history=1000", "--count",
                            str(len(heard)), stdin=said.encode())
                self.assert_status(ended, OK)
                self.assertEqual(ended.out.decode().splitlines(), heard)

    def test_others_are_told_why_not(self):
        for more in ((), ("--broker-ca", self.folder / "stranger_ca.pem")):
            with self.subTest(more), Serve("--broker", self.url, *more) as server:
                part = "unable to get local issuer certificate"
                self.until(lambda at=server: part in self.engine_of(at)["why"], "it does not say why")
                self.assertFalse(self.engine_of(server)["connected"])


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
