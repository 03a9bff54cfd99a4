"""`chorus serve`."""
import http.client
import signal
import socket
import subprocess
import tempfile

from contract import (FAILED, OK, PATIENCE, PROTOCOL, REFUSED, TLS, USAGE, Contract, Serve,
                      close_frame, program, run)


class Serving(Contract):
    def test_ready_line_is_exact(self):
        with Serve() as server:
            self.assertRegex(server.ready, r"^listening on ws://127\.0\.0\.1:[1-9][0-9]*\n$")

    def test_stops_at_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                self.assertEqual(Serve().stop(number), 0)

    def test_stops_without_an_answer_to_the_close(self):
        with tempfile.TemporaryFile() as log:
            server = Serve(stderr=log)
            request = ("GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
                sock.sendall(request.encode())
                answer = sock.makefile("rb")
                while answer.readline() != b"\r\n":
                    pass
                server.child.send_signal(signal.SIGTERM)
                expected = close_frame(1012, b"retry-after=1")
                self.assertEqual(answer.read(len(expected)), expected)
                try:
                    self.assertEqual(server.child.wait(PATIENCE), OK)
                finally:
                    server.stop()
            log.seek(0)
            self.assertIn(b" 1 session(s) did not answer the close in time", log.read())

    def test_standard_output_is_the_ready_line_only(self):
        server = Serve()
        self.assertEqual(run("connect", server.url + "/echo", "--count", "1", stdin=b"x\n").status, OK)
        server.child.send_signal(signal.SIGTERM)
        self.assertEqual(server.child.stdout.read(), b"")
        self.assertEqual(server.stop(), 0)

    def test_address_in_use(self):
        with Serve() as server:
            again = run("serve", "--listen", f"127.0.0.1:{server.port}")
            self.assert_status(again, FAILED)
            self.assert_sentence(again, "serve", str(server.port))
            self.assertEqual(again.out, b"")

    def test_unusable_certificate(self):
        files = ["--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.key"]
        for command in (["serve", "--listen", "127.0.0.1:0"], ["connect", "wss://127.0.0.1:1/"]):
            with self.subTest(command):
                ended = run(*command, *files)
                self.assert_status(ended, TLS)
                self.assert_sentence(ended, command[0], "nonexistent")

    def test_pages(self):
        with Serve() as server:
            for path, status in (("/", b"200"), ("/nothing", b"404")):
                with self.subTest(path), socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                                 % path.encode())
                    sock.settimeout(PATIENCE)
                    answer = b""
                    while piece := sock.recv(4096):
                        answer += piece
                    self.assertEqual(answer.split()[1], status)
                    if path == "/":
                        self.assertIn(b"<title>Chorus chat</title>", answer)

    def ask(self, server, path, token=None):
        """Status, and body."""
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        try:
            link.request("GET", path, headers={"Authorization": "Bearer " + token} if token else {})
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def test_admin_pages_need_their_token(self):
        with Serve("--admin-token", "let-me-in") as server:
            for path, name in (("/rooms", b"rooms"), ("/connections", b"connections")):
                self.assertEqual(self.ask(server, path)[0], 401)
                self.assertEqual(self.ask(server, path, "let-me-out")[0], 401)
                status, body = self.ask(server, path, "let-me-in")
                self.assertEqual(status, 200)
                self.assertIn(name, body)
            self.assertEqual(self.ask(server, "/")[0], 200)
        with Serve() as server:
            self.assertEqual(self.ask(server, "/rooms", "let-me-in")[0], 404)

    def test_empty_tokens_are_refused(self):
        for option in ("--admin-token", "--metrics-token"):
            for token in ("", "two words"):
                with self.subTest((option, token)):
                    ended = run("serve", "--listen", "127.0.0.1:0", option, token)
                    self.assert_status(ended, USAGE)
                    self.assert_sentence(ended, option, "not empty")

    def test_the_log_names_what_a_browser_finds(self):
        with tempfile.TemporaryFile() as log:
            with Serve(stderr=log) as server:
                port = server.port
            log.seek(0)
            text = log.read().decode()
            self.assertIn(f"http://127.0.0.1:{port}/,", text)
            self.assertIn(f"http://127.0.0.1:{port}/dashboard", text)

    def test_an_unknown_option_is_named(self):
        ended = run("serve", "--lisen", "127.0.0.1:0")
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "no option '--lisen'", "chorus serve --help")

    def test_unknown_path_is_refused(self):
        with Serve() as server:
            ended = run("connect", server.url + "/nothing")
            self.assert_status(ended, REFUSED)
            self.assert_sentence(ended, "404")

    def test_broadcast_includes_the_sender(self):
        with Serve() as server:
            url = server.url + "/broadcast"
            other = subprocess.Popen([program(), "connect", url], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE)
            try:
                other.stdin.write(b"mine\n")
                other.stdin.flush()
                self.assertEqual(other.stdout.readline(), b"mine\n")
                sender = run("connect", url, "--count", "1", stdin=b"to all\n")
                self.assert_status(sender, OK)
                self.assertEqual(sender.out, b"to all\n")
                self.assertEqual(other.stdout.readline(), b"to all\n")
                other.stdin.close()
                self.assertEqual(other.wait(PATIENCE), 0)
            finally:
                other.kill()
                other.wait()
                other.stdout.close()

    def test_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/s"
            with Serve(listen="unix:" + path) as server:
                self.assertTrue(server.ready.startswith("listening on "), server.ready)
                ended = run("connect", f"ws+unix://{path}:/echo", "--count", "1", stdin=b"hi\n")
                self.assert_status(ended, OK)
                self.assertEqual(ended.out, b"hi\n")

    def test_large_messages_fit_by_default(self):
        with Serve() as server:
            line = b"x" * (3 << 20) + b"\n"
            ended = run("connect", server.url + "/echo", "--count", "1", stdin=line)
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, line)

    def test_limits(self):
        with Serve("--max-message", "1k") as server:
            ended = run("connect", server.url + "/echo", "--count", "1", stdin=b"x" * 2000 + b"\n")
            self.assert_status(ended, PROTOCOL)
            self.assert_sentence(ended, "1009", "smaller")
        # A message larger than the whole queue is taken when the queue is empty.
        with Serve("--queue-bytes", "64k") as server:
            line = b"x" * 100_000 + b"\n"
            ended = run("connect", server.url + "/echo", "--count", "1", stdin=line)
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, line)
