"""Help, version, usage errors, and descriptors that were closed at the start."""
import os
import signal
import subprocess

from contract import (FAILED, OK, PATIENCE, USAGE, Contract, Serve, program, run, settings)


class Help(Contract):
    def test_lists_everything(self):
        wanted = {
            "serve": "--listen --threads --tls-cert --tls-key --max-connections --max-message "
                     "--ping-interval --pong-wait --overflow --queue-bytes --compression --log-level "
                     "--log-format --metrics-token --presence-grace "
                     "--max-connections-per-address --max-connections-per-user --on-limit "
                     "--on-user-limit --max-handshakes --handshake-timeout --max-header --allow-origin "
                     "--trusted-proxy --proxy-protocol --messages-per-second --bytes-per-second "
                     "--burst-messages --burst-bytes --over-rate --queue-budget",
            "connect": "URL --header --subprotocol --ca --insecure --tls-cert --tls-key --reconnect "
                       "--echo --binary --count --timeout --max-message --queue-bytes "
                       "--ping-interval --pong-wait --compression --log-level --log-format "
                       "--cookie --user-agent --proxy --redirects --protocol --race --server-name --pin --color "
                       "--record --record-limit --replay --replay-speed",
            "probe": "URL --header --subprotocol --ca --insecure --tls-cert --tls-key --alpn --proxy "
                     "--compression --pings --timeout --json --color",
            "script": "FILE --set --check --keep-going --json --junit --quiet --timeout --schema",
            "bench": "--url --connections --size --in-flight --duration --warmup --threads "
                     "--server-threads --server-pid --ca --insecure --compression --json --header "
                     "--tls-cert --tls-key --proxy --redirects --protocol --pin",
        }
        top = run("--help")
        self.assert_status(top, OK)
        for command, options in wanted.items():
            self.assertIn(command, top.out.decode())
            text = run(command, "--help").out.decode()
            for option in options.split():
                self.assertIn(option, text, command)
        everything = run("--help-all").out.decode()
        self.assertIn("--in-flight", everything)
        self.assertIn("--overflow", everything)

    def test_version(self):
        for arguments in (["--version"], ["--version", "serve"]):
            done = run(*arguments)
            self.assert_status(done, OK)
            self.assertEqual(done.out.decode(), f"chorus {settings.project_version}\n")
            self.assertEqual(done.err, "")

    def test_wrong_usage(self):
        for arguments in ([], ["frobnicate"], ["serve", "--frobnicate"], ["serve", "--threads", "x"],
                          ["serve", "--overflow", "maybe"], ["serve", "--ping-interval", "soon"],
                          ["serve", "--max-message", "-1"], ["serve", "--compression", "perhaps"],
                          ["serve", "--tls-cert", "only.pem"], ["connect"],
                          ["connect", "ws://127.0.0.1:1/", "--timeout", "1y"],
                          ["connect", "ws://127.0.0.1:1/", "--header", "no colon"],
                          ["connect", "ws://127.0.0.1:1/", "--header", "a: b\r\nc: d"],
                          ["connect", "ws://127.0.0.1:1/", "--cookie", "no value"],
                          ["connect", "ws://127.0.0.1:1/", "--redirects", "-1"],
                          ["connect", "ws://127.0.0.1:1/", "--proxy", "ftp://127.0.0.1:1"],
                          ["connect", "--reconnect", "ws://127.0.0.1:1/", "--proxy", "ftp://127.0.0.1:1"],
                          ["connect", "127.0.0.1:1", "--protocol", "ws,quic"],
                          ["connect", "127.0.0.1:1", "--protocol", "ws,ws"],
                          ["connect", "127.0.0.1:1", "--race"], ["connect", "127.0.0.1"],
                          ["connect", "127.0.0.1:1/path"],
                          ["connect", "http://127.0.0.1:1/"], ["connect", "ws://"],
                          ["connect", "--reconnect", "ws://"], ["serve", "--listen", "bogus"],
                          ["serve", "--listen", ""], ["serve", "--listen", ":99999"],
                          ["serve", "--listen", "unix:"], ["serve", "more"], ["bench"], ["bench", "dance"],
                          ["bench", "echo", "--connections", "0"], ["bench", "echo", "--size", "1q"]):
            with self.subTest(arguments):
                ended = run(*arguments)
                self.assert_status(ended, USAGE)
                known = arguments[:1] if arguments and arguments[0] != "frobnicate" else []
                prefix = " ".join(["chorus", *known]) + ": "
                self.assertTrue(ended.err.startswith(prefix), ended.err)
                self.assertEqual(ended.err.count("\n"), 1, ended.err)
                self.assertEqual(ended.out, b"")

    def test_pong_wait_must_exceed_ping_interval(self):
        for command in (["serve"], ["connect", "ws://127.0.0.1:1/"],
                        ["connect", "--reconnect", "ws://127.0.0.1:1/"]):
            for pair in (["--ping-interval", "20s", "--pong-wait", "20s"],
                         ["--pong-wait", "5s"], ["--ping-interval", "2m"]):
                with self.subTest(command + pair):
                    ended = run(*command, *pair)
                    self.assert_status(ended, USAGE)
                    sentence = ended.err.splitlines()[0]
                    self.assertIn("--ping-interval", sentence)
                    self.assertIn("--pong-wait", sentence)
                    self.assertEqual(ended.out, b"")
        for pair in (["--ping-interval", "0", "--pong-wait", "1s"],
                     ["--ping-interval", "2m", "--pong-wait", "0"],
                     ["--ping-interval", "1s", "--pong-wait", "1001ms"]):
            with self.subTest(pair), Serve(*pair) as server:
                self.assertTrue(server.ready)

    def test_usage_names_the_option_once(self):
        for arguments in (["serve", "--threads", "x"], ["serve", "--overflow", "maybe"],
                          ["connect", "ws://127.0.0.1:1/", "--header", "foo"],
                          ["connect", "ws://127.0.0.1:1/", "--timeout", "1y"]):
            with self.subTest(arguments):
                self.assertEqual(run(*arguments).err.count(arguments[-2]), 1)

    def test_wrong_header_is_not_echoed(self):
        for line, begin in (("Authorization Bearer secret", "'Authorization...'"), ("secret", "this"),
                            ("Authorization\tsecret", "'Authorization...'"), (": secret", "this"),
                            ("Authorization: secret\x01", "'Authorization...'")):
            with self.subTest(line):
                ended = run("connect", "ws://127.0.0.1:1/", "--header", line)
                self.assert_status(ended, USAGE)
                self.assertNotIn("secret", ended.err)
                self.assertIn(f"{begin} is no header", ended.err)

    def test_ping_interval_does_not_depend_on_silence(self):
        for command in ("serve", "connect"):
            self.assertIn("whatever else", " ".join(run(command, "--help").out.decode().split()))

    def test_numbers_out_of_range(self):
        """Each numeric option of each command refuses what lies outside, and says what lies inside."""
        url = "ws://127.0.0.1:1/"
        bad_count, bad_size, bad_time = ("-1", "-5", "+1", "1.5", "99999999999999999999", "0x10", "", " 1"), \
            ("-1", "1025T", "99999999999999999999"), ("-1", "-1s", "87601h", "1e3", "nan")
        cases = [(bad_count, ["serve"], ("--threads", "--max-connections", "--max-connections-per-address",
                                         "--max-connections-per-user", "--max-handshakes",
                                         "--messages-per-second", "--burst-messages")),
                 (bad_count, ["connect", url], ("--count",)),
                 (bad_count, ["bench", "echo"], ("--connections", "--in-flight", "--threads",
                                                 "--server-threads", "--server-pid")),
                 (bad_size, ["serve"], ("--max-message", "--queue-bytes", "--max-header", "--bytes-per-second",
                                        "--burst-bytes", "--queue-budget")),
                 (bad_size, ["connect", url], ("--max-message", "--queue-bytes")),
                 (bad_size, ["bench", "echo"], ("--size",)),
                 (bad_time, ["serve"], ("--ping-interval", "--pong-wait", "--handshake-timeout",
                                        "--presence-grace")),
                 (bad_time, ["connect", url], ("--timeout", "--ping-interval", "--pong-wait")),
                 (bad_time, ["bench", "echo"], ("--duration", "--warmup"))]
        for values, command, options in cases:
            for option in options:
                for value in values:
                    with self.subTest(command=command[0], option=option, value=value):
                        ended = run(*command, option, value)
                        self.assert_status(ended, USAGE)
                        self.assertIn(option, ended.err)
                        self.assertIn(repr(value), ended.err)
                        self.assertRegex(ended.err, r"from [0-9]+ to [0-9]+")
        for option in ("--connections", "--in-flight", "--threads", "--server-threads", "--server-pid"):
            with self.subTest(option):
                self.assert_status(run("bench", "echo", option, "0"), USAGE)

    def test_values(self):
        for text in ("500ms", "30s", "2m", "1h", "0", "1.5s", "7"):
            with self.subTest(text), Serve("--ping-interval", text, "--pong-wait", "0") as server:
                self.assertTrue(server.ready)
        for text in ("1000", "64k", "1M", "16MiB", "2kB", "1.5M"):
            with self.subTest(text), Serve("--max-message", text) as server:
                self.assertTrue(server.ready)


class ClosedDescriptors(Contract):
    """Started without some of the three standard descriptors, as by `<&-` in a shell."""

    def start(self, *arguments, closed, **streams):
        def close():
            for descriptor in closed:
                os.close(descriptor)
        if 2 not in closed:
            streams.setdefault("stderr", subprocess.DEVNULL)
        return subprocess.Popen([program(), *arguments], preexec_fn=close, **streams)

    def ended(self, child):
        try:
            out, err = child.communicate(timeout=PATIENCE)
            return child.returncode, out, (err or b"").decode()
        finally:
            child.kill()
            child.wait()

    def test_connect_without_input(self):
        with Serve() as server:
            child = self.start("connect", server.url + "/echo", closed=[0], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
            self.assertEqual(self.ended(child), (OK, b"", ""))

    def test_connect_without_output(self):
        with Serve() as server:
            child = self.start("connect", server.url + "/echo", "--count", "1", closed=[1],
                               stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            child.stdin.write(b"x\n")
            child.stdin.flush()  # and the input stays open
            status = child.wait(PATIENCE)
            self.assertEqual(status, FAILED)
            self.assertIn("standard output", self.ended(child)[2])

    def test_connect_without_any(self):
        with Serve() as server:
            child = self.start("connect", server.url + "/echo", closed=[0, 1, 2])
            self.assertEqual(self.ended(child)[0], OK)

    def test_serve_without_any_logs_into_none_of_its_descriptors(self):
        for closed in ([2], [0, 2], [0]):
            with self.subTest(closed):
                child = self.start("serve", "--listen", "127.0.0.1:0", closed=closed,
                                   stdout=subprocess.PIPE)
                try:
                    self.assertTrue(child.stdout.readline().startswith(b"listening on "))
                    for descriptor in closed:
                        self.assertEqual(os.readlink(f"/proc/{child.pid}/fd/{descriptor}"), "/dev/null")
                    child.send_signal(signal.SIGTERM)
                finally:
                    status = self.ended(child)[0]
                self.assertEqual(status, OK)
