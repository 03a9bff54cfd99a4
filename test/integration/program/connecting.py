"""`chorus connect`: lines in and out, and coming back."""
import json
import os
import pty
import signal
import socket
import subprocess
import tempfile
import threading

from contract import (FAILED, OK, PATIENCE, PROTOCOL, REFUSED, TIMEOUT, USAGE, Contract, Peer, Serve,
                      close_frame, drain, finish, frame, program, reserved_port, run)


class Connecting(Contract):
    def setUp(self):
        self.server = Serve()
        self.url = self.server.url + "/echo"

    def tearDown(self):
        self.server.stop()

    def test_lines(self):
        text = "one\n\nthr\u00e9e\nno newline at the end"
        ended = run("connect", self.url, "--count", "4", stdin=text.encode())
        self.assert_status(ended, OK)
        self.assertEqual(ended.out.decode(), text + "\n")
        self.assertEqual(ended.err, "")

    def test_end_of_input_closes_when_all_is_sent(self):
        heard = []

        def script(sock):
            data = b""
            while len(data) < 3 * 7 + 8:
                data += sock.recv(4096)
            heard.append([data[at] & 15 for at in (0, 7, 14, 21)])
            sock.sendall(frame(1, b"an answer after the close") + close_frame(1000))
            drain(sock)

        with Peer(script) as peer:
            ended = run("connect", peer.url, stdin=b"a\nb\nc\n")
        self.assert_status(ended, OK)
        self.assertEqual(heard, [[1, 1, 1, 8]])
        self.assertEqual(ended.out, b"an answer after the close\n")

    def test_answer_to_the_close(self):
        """The peer could not use what was sent, and says so when this side closes."""
        def script(sock):
            data = b""
            while len(data) < 7 + 8:  # the line, and the close frame
                data += sock.recv(4096)
            sock.sendall(answer)
            sock.shutdown(socket.SHUT_WR)
            drain(sock)

        for answer, status in ((close_frame(1008, b"bad \xc2\x9binput"), PROTOCOL), (close_frame(1001), OK),
                               (frame(8), OK)):
            for extra in ([], ["--reconnect"]):
                with self.subTest(answer=answer, extra=extra), Peer(script) as peer:
                    ended = run("connect", peer.url, *extra, stdin=b"x\n")
                self.assert_status(ended, status)
                if status != OK:
                    self.assert_sentence(ended, "answered 1008 (bad \\x9binput)")

    def test_http_server_without_a_scheme(self):
        ended = run("connect", f"127.0.0.1:{self.server.port}", stdin=b"hi\n")
        self.assert_status(ended, PROTOCOL)
        self.assert_sentence(ended, "HTTP", "ws://")
        self.assertNotIn("RFC 6455", ended.err)
        self.assertNotIn("--max-message", ended.err)

    def test_endless_line(self):
        """It is given up as soon as it is too long, and no more of it is read."""
        child = subprocess.Popen([program(), "connect", self.url], stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        piece, given = bytes(1 << 16), 0
        try:
            while given < 64 << 20:
                given += os.write(child.stdin.fileno(), piece)
        except BrokenPipeError:
            pass
        try:
            self.assertLess(given, 17 << 20)
            self.assertEqual(child.wait(PATIENCE), USAGE)
            self.assertIn(b"longer than 16M; ", child.stderr.read())
        finally:
            child.kill()
            child.wait()
            for end in (child.stdin, child.stderr):
                end.close()

    def test_longest_line(self):
        longest = 16 << 20
        for extra, size, status in (([], longest, OK), ([], longest + 1, USAGE),
                                    (["--max-message", "17M"], longest + 1, OK)):
            for end in (b"\n", b""):
                with self.subTest(size=size, end=end, extra=extra), Serve("--max-message", "17M") as server:
                    ended = run("connect", server.url + "/broadcast", *extra, stdin=b"x" * size + end)
                    self.assert_status(ended, status)

    def test_many_lines(self):
        lines = b"".join(b"line %d\n" % i for i in range(20000))
        ended = run("connect", self.url, "--count", "20000", stdin=lines)
        self.assert_status(ended, OK)
        self.assertEqual(ended.out, lines)

    def test_close_that_is_not_answered(self):
        with Peer(drain) as peer:
            ended = run("connect", peer.url, "--timeout", "500ms")
        self.assert_status(ended, TIMEOUT)
        self.assert_sentence(ended)

    def test_inputs_of_every_kind(self):
        with tempfile.TemporaryFile() as file:
            file.write(b"from a file\n")
            file.seek(0)
            ended = run("connect", self.url, "--count", "1", stdin=file)
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, b"from a file\n")
        ended = run("connect", self.url, stdin=subprocess.DEVNULL)
        self.assert_status(ended, OK)
        self.assertEqual(ended.out, b"")

        master, slave = pty.openpty()
        try:
            child = subprocess.Popen([program(), "connect", self.url], stdin=slave,
                                     stdout=subprocess.PIPE)
            os.write(master, b"typed\n")
            self.assertEqual(child.stdout.readline(), b"typed\n")
            os.write(master, b"\x04")  # end of input
            self.assertEqual(child.wait(PATIENCE), 0)
            child.stdout.close()
        finally:
            os.close(master)
            os.close(slave)

    def test_output_to_a_file(self):
        with tempfile.TemporaryFile() as file:
            status = subprocess.run([program(), "connect", self.url, "--count", "1"], input=b"x\n",
                                    stdout=file, timeout=PATIENCE).returncode
            file.seek(0)
            self.assertEqual((status, file.read()), (0, b"x\n"))

    def test_closed_output(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        try:
            ended = subprocess.run([program(), "connect", self.url, "--count", "5"], input=b"x\n" * 5,
                                   stdout=write_end, stderr=subprocess.PIPE, timeout=PATIENCE)
        finally:
            os.close(write_end)
        self.assertEqual(ended.returncode, FAILED)
        self.assertIn(b"standard output", ended.stderr)

    def test_binary(self):
        ended = run("connect", self.url, "--binary", "--count", "2", stdin=b"\xff\xfe\nplain\n")
        self.assert_status(ended, OK)
        self.assertEqual(ended.out, b"\xff\xfe\nplain\n")
        with Peer(lambda sock: (sock.sendall(frame(2, b"\x00\xffA")), finish(sock))) as peer:
            ended = run("connect", peer.url, "--count", "1")
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, b"00ff41\n")

    def test_text_that_is_none(self):
        ended = run("connect", self.url, "--count", "1", stdin=b"\xff\n")
        self.assert_status(ended, PROTOCOL)
        self.assert_sentence(ended, "1007", "--binary")

    def test_count_not_reached(self):
        with Peer(lambda sock: (sock.sendall(frame(1, b"a") + close_frame(1000)), drain(sock))) as peer:
            ended = run("connect", peer.url, "--count", "2")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "1 of 2")
        self.assertEqual(ended.out, b"a\n")

    def test_echo(self):
        heard = []

        def script(sock):
            sock.sendall(frame(1, b"text") + frame(2, b"\x00\xff"))
            data = b""
            while len(data) < 2 * 6 + 4 + 2:
                data += sock.recv(4096)
            for at, size in ((0, 4), (10, 2)):
                mask, payload = data[at + 2:at + 6], data[at + 6:at + 6 + size]
                heard.append((data[at] & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))))
            sock.sendall(close_frame(1000))
            drain(sock)

        with Peer(script) as peer:
            ended = run("connect", peer.url, "--echo", stdin=b"not sent\n")
        self.assert_status(ended, OK)
        self.assertEqual(heard, [(1, b"text"), (2, b"\x00\xff")])
        self.assertEqual(ended.out, b"")

    def test_a_slow_reader_of_the_output_is_no_silence_of_the_peer(self):
        lines = [b"%06d" % i + b"x" * 3000 for i in range(1000)]
        heard, waited = [], threading.Event()

        def script(sock):
            sender = threading.Thread(target=lambda: sock.sendall(
                b"".join(frame(1, line) for line in lines) + close_frame(1000)))
            sender.start()
            try:
                sock.settimeout(13)  # longer than --timeout, for what must not come
                heard.append(sock.recv(4096))
            except TimeoutError:
                pass
            waited.set()
            sock.settimeout(PATIENCE)
            drain(sock)
            sender.join()

        with Peer(script) as peer:
            child = subprocess.Popen([program(), "connect", peer.url, "--timeout", "10s"], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                self.assertTrue(waited.wait(PATIENCE))
                out, err = child.stdout.read(), child.stderr.read()
                child.wait(PATIENCE)
            finally:
                child.kill()
                child.communicate()
        self.assertEqual(heard, [])
        self.assertEqual((child.returncode, err), (OK, b""))
        self.assertEqual(out.splitlines(), lines)

    def test_headers_and_subprotocols(self):
        with Peer(lambda sock: (sock.sendall(close_frame(1000)), drain(sock))) as peer:
            ended = run("connect", peer.url, "--header", "X-One: 1", "--header", "Authorization:Bearer  t",
                        "--subprotocol", "a", "--subprotocol", "b")
            request = peer.request.decode()
        self.assert_status(ended, OK)
        self.assertRegex(request, r"\r\nX-One: 1\r\n")
        self.assertRegex(request, r"\r\nAuthorization: Bearer  t\r\n")
        self.assertRegex(request, r"(?i)\r\nSec-WebSocket-Protocol: a, *b\r\n")

    def test_signals_close_in_order(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            for extra in ([], ["--reconnect"]):
                with self.subTest(number=number, extra=extra):
                    child = subprocess.Popen([program(), "connect", self.url, *extra],
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                    child.stdin.write(b"up\n")
                    child.stdin.flush()
                    self.assertEqual(child.stdout.readline(), b"up\n")
                    child.send_signal(number)
                    self.assertEqual(child.wait(PATIENCE), 0)
                    child.stdin.close()
                    child.stdout.close()

    def test_compression(self):
        with Serve("--compression", "on") as server:
            line = b"again and again " * 1000 + b"\n"
            ended = run("connect", server.url + "/echo", "--compression", "on", "--count", "1",
                        stdin=line)
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, line)


class Reconnecting(Contract):
    def serve(self):
        held = reserved_port()
        self.addCleanup(held.close)
        return Serve(listen="127.0.0.1:%d" % held.getsockname()[1])

    def test_across_a_restart(self):
        server = self.serve()
        child = subprocess.Popen([program(), "connect", server.url + "/echo", "--reconnect"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            child.stdin.write(b"before\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), b"before\n")
            self.assertEqual(server.stop(), 0)
            # Seen to be away, it takes this into its outbox.
            self.assertIn(b"disconnected", child.stderr.readline())
            child.stdin.write(b"meanwhile\n")
            child.stdin.flush()
            with Serve(listen=f"127.0.0.1:{server.port}"):
                self.assertEqual(child.stdout.readline(), b"meanwhile\n")
                child.stdin.write(b"after\n")
                child.stdin.flush()
                self.assertEqual(child.stdout.readline(), b"after\n")
                child.stdin.close()
                self.assertEqual(child.wait(PATIENCE), 0)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
            child.stderr.close()

    def log_of(self, *arguments):
        """The log of a client that loses its server once and then is refused."""
        server = self.serve()
        child = subprocess.Popen([program(), "connect", server.url + "/echo", "--reconnect", *arguments],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            child.stdin.write(b"here\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), b"here\n")

            def refuse(sock):
                sock.recv(4096)
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

            self.assertEqual(server.stop(), 0)
            with Peer(refuse, raw=True, port=server.port):
                err = child.stderr.read()
                child.wait(PATIENCE)
        finally:
            child.kill()
            child.communicate()
        self.assertEqual(child.returncode, REFUSED, err)
        *log, last = err.decode().splitlines()
        self.assertTrue(last.startswith("chorus connect: "), err)
        return log

    def test_log(self):
        """The library's events where they are asked for, and then not the program's of the same."""
        log = self.log_of("--log-level", "info", "--log-format", "json")
        events = [json.loads(line) for line in log]
        self.assertEqual({one["room"] for one in events}, {"client"})
        names = [one["event"] for one in events]
        self.assertEqual((names[0], names[-1]), ("connected", "gave_up"))
        self.assertEqual([names.count(one) for one in ("connected", "lost", "gave_up")], [1, 1, 1])
        names = [json.loads(line)["event"] for line in self.log_of("--log-level", "off,client=debug",
                                                                   "--log-format", "json")]
        self.assertEqual(names[:2], ["attempt", "connected"])
        log = self.log_of()
        self.assertIn("disconnected: ", log[0])
        self.assertNotIn("client ", "\n".join(log))
        self.assertEqual(self.log_of("--log-level", "off"), [])
