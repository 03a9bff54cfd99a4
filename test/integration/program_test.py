"""The contract of the `chorus` program, as docs/program.md states it: lines, exit statuses, sentences,
signals. Python's standard library only.

    program_test.py --program PATH --project-version X.Y.Z --certificates make_certs.sh
                    [unittest arguments]
"""
import argparse
import base64
import hashlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PROGRAM = "chorus"
PROJECT_VERSION = None
MAKE_CERTS = None
PATIENCE = 60  # seconds; only a hanging program meets it
OK, FAILED, USAGE, REFUSED, TLS, TIMEOUT, PROTOCOL = range(7)


class Serve:
    """A running `chorus serve`."""

    def __init__(self, *arguments, listen="127.0.0.1:0", stderr=subprocess.DEVNULL):
        self.child = subprocess.Popen([PROGRAM, "serve", "--listen", listen, *arguments],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
        self.ready = self.child.stdout.readline().decode()
        self.url = self.ready.removeprefix("listening on ").rstrip("\n")
        self.port = int(self.url.rpartition(":")[2]) if "://127" in self.url else 0

    def stop(self, number=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(PATIENCE)
        finally:
            self.child.kill()
            self.child.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Peer:
    """A server that a test scripts: it accepts one connection at a time and hands it to `script`,
    the opening handshake done unless `raw`."""

    def __init__(self, script, raw=False):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "ws://127.0.0.1:%d/" % self.listener.getsockname()[1]
        self.request = b""
        self.thread = threading.Thread(target=self.run, args=(script, raw), daemon=True)
        self.thread.start()

    def run(self, script, raw):
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE)
        with sock:
            if not raw:
                while b"\r\n\r\n" not in self.request:
                    self.request += sock.recv(4096)
                key = re.search(rb"(?i)sec-websocket-key: *(\S+)", self.request).group(1)
                accept = base64.b64encode(
                    hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            script(sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.thread.join(PATIENCE)


def frame(opcode, payload=b""):
    length = len(payload)
    head = struct.pack("!BB", 0x80 | opcode, length) if length < 126 else \
        struct.pack("!BBH", 0x80 | opcode, 126, length)
    return head + payload


def close_frame(code, reason=b""):
    return frame(8, struct.pack("!H", code) + reason)


def finish(sock):
    """Waits for the program's close frame, the first thing it sends, and answers it."""
    sock.recv(4096)
    sock.sendall(close_frame(1000))
    drain(sock)


def drain(sock):
    """Reads until the program ends the connection."""
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass


class Ended:
    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr.decode()


OPEN = object()  # an input that gives nothing and does not end


def run(*arguments, stdin=b""):
    options = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    ends = os.pipe() if stdin is OPEN else ()
    if ends:
        options["stdin"] = ends[0]
    try:
        return Ended(subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=PATIENCE,
                                    **options))
    finally:
        for end in ends:
            os.close(end)


class Contract(unittest.TestCase):
    def assert_status(self, ended, status):
        self.assertEqual(ended.status, status, ended.err)

    def assert_sentence(self, ended, *parts):
        """One line that names the command and each of these."""
        lines = [line for line in ended.err.splitlines() if line.startswith("chorus ")]
        self.assertEqual(len(lines), 1, ended.err)
        for part in parts:
            self.assertIn(part, lines[0])


class Help(Contract):
    def test_lists_everything(self):
        wanted = {
            "serve": "--listen --threads --tls-cert --tls-key --max-connections --max-message "
                     "--ping-interval --pong-wait --overflow --queue-bytes --compression --log-level",
            "connect": "URL --header --subprotocol --ca --insecure --tls-cert --tls-key --reconnect "
                       "--echo --binary --count --timeout --max-message --queue-bytes "
                       "--ping-interval --pong-wait --compression --log-level",
            "bench": "--url --connections --size --in-flight --duration --warmup --threads "
                     "--server-threads --server-pid --ca --insecure --compression --json",
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
            self.assertEqual(done.out.decode(), f"chorus {PROJECT_VERSION}\n")
            self.assertEqual(done.err, "")

    def test_wrong_usage(self):
        for arguments in ([], ["frobnicate"], ["serve", "--frobnicate"], ["serve", "--threads", "x"],
                          ["serve", "--overflow", "maybe"], ["serve", "--ping-interval", "soon"],
                          ["serve", "--max-message", "-1"], ["serve", "--compression", "perhaps"],
                          ["serve", "--tls-cert", "only.pem"], ["connect"],
                          ["connect", "ws://127.0.0.1:1/", "--timeout", "1y"],
                          ["connect", "ws://127.0.0.1:1/", "--header", "no colon"],
                          ["connect", "ws://127.0.0.1:1/", "--header", "a: b\r\nc: d"],
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

    def test_ping_interval_does_not_depend_on_silence(self):
        for command in ("serve", "connect"):
            self.assertIn("whatever else", " ".join(run(command, "--help").out.decode().split()))

    def test_numbers_out_of_range(self):
        """Each numeric option of each command refuses what lies outside, and says what lies inside."""
        url = "ws://127.0.0.1:1/"
        bad_count, bad_size, bad_time = ("-1", "-5", "+1", "1.5", "99999999999999999999", "0x10", "", " 1"), \
            ("-1", "1025T", "99999999999999999999"), ("-1", "-1s", "87601h", "1e3", "nan")
        cases = [(bad_count, ["serve"], ("--threads", "--max-connections")),
                 (bad_count, ["connect", url], ("--count",)),
                 (bad_count, ["bench", "echo"], ("--connections", "--in-flight", "--threads",
                                                 "--server-threads", "--server-pid")),
                 (bad_size, ["serve"], ("--max-message", "--queue-bytes")),
                 (bad_size, ["connect", url], ("--max-message", "--queue-bytes")),
                 (bad_size, ["bench", "echo"], ("--size",)),
                 (bad_time, ["serve"], ("--ping-interval", "--pong-wait")),
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
        return subprocess.Popen([PROGRAM, *arguments], preexec_fn=close, **streams)

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
                self.assertEqual(answer.read(4), close_frame(1001))
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
                        self.assertIn(b"/broadcast", answer)

    def test_unknown_path_is_refused(self):
        with Serve() as server:
            ended = run("connect", server.url + "/nothing")
            self.assert_status(ended, REFUSED)
            self.assert_sentence(ended, "404")

    def test_broadcast_includes_the_sender(self):
        with Serve() as server:
            url = server.url + "/broadcast"
            other = subprocess.Popen([PROGRAM, "connect", url], stdin=subprocess.PIPE,
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

    def test_endless_line(self):
        """It is given up as soon as it is too long, and no more of it is read."""
        child = subprocess.Popen([PROGRAM, "connect", self.url], stdin=subprocess.PIPE,
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
            child = subprocess.Popen([PROGRAM, "connect", self.url], stdin=slave,
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
            status = subprocess.run([PROGRAM, "connect", self.url, "--count", "1"], input=b"x\n",
                                    stdout=file, timeout=PATIENCE).returncode
            file.seek(0)
            self.assertEqual((status, file.read()), (0, b"x\n"))

    def test_closed_output(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        try:
            ended = subprocess.run([PROGRAM, "connect", self.url, "--count", "5"], input=b"x\n" * 5,
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
                    child = subprocess.Popen([PROGRAM, "connect", self.url, *extra],
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


class Statuses(Contract):
    def closed_with(self, data):
        with Peer(lambda sock: (sock.sendall(data), drain(sock))) as peer:
            return run("connect", peer.url, stdin=OPEN)

    def test_normal_closes(self):
        for data in (close_frame(1000), close_frame(1001, b"bye"), frame(8)):
            with self.subTest(data):
                self.assert_status(self.closed_with(data), OK)

    def test_error_codes(self):
        for code in (1002, 1008, 1011, 1013, 4321):
            with self.subTest(code):
                ended = self.closed_with(close_frame(code, b"the reason"))
                self.assert_status(ended, PROTOCOL)
                self.assert_sentence(ended, str(code), "(the reason); ")

    def test_broken_protocol(self):
        for data in (b"\xf1\x00", b"\x83\x00", frame(1, b"\xff"), close_frame(999)):
            with self.subTest(data):
                ended = self.closed_with(data)
                self.assert_status(ended, PROTOCOL)
                self.assert_sentence(ended, "; the fault is the peer's")

    def test_too_large(self):
        with Serve() as server:
            ended = run("connect", server.url + "/echo", "--count", "1", "--max-message", "1k",
                        stdin=b"x" * 2000 + b"\n")
        self.assert_status(ended, PROTOCOL)
        self.assert_sentence(ended, "; --max-message", "1k")

    def test_lost(self):
        def vanish(sock):
            sock.sendall(frame(1, b"last words"))

        with Peer(vanish) as peer:
            ended = run("connect", peer.url, stdin=OPEN)
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "; --reconnect")
        self.assertEqual(ended.out, b"last words\n")

    def test_lost_in_the_upgrade(self):
        def reset(sock):
            sock.recv(4096)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with Peer(reset, raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "broke during the upgrade", "--reconnect")

    def test_no_answer_to_the_upgrade(self):
        with Peer(lambda sock: sock.recv(4096), raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "without answering the upgrade; ", "wss://")
        self.assertEqual(ended.err.count(";"), 1, ended.err)  # the advice is given once

    def test_nobody_listens(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            ended = run("connect", f"ws://127.0.0.1:{port}/")
        self.assert_status(ended, REFUSED)
        self.assert_sentence(ended, str(port), "listens")
        self.assertEqual(ended.err.count(";"), 1, ended.err)  # the advice is given once

    def test_refused_upgrade(self):
        def refuse(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot you!\n")
            drain(sock)

        for extra in ([], ["--reconnect"]):  # 403 is for good
            with self.subTest(extra), Peer(refuse, raw=True) as peer:
                ended = run("connect", peer.url, *extra)
                self.assert_status(ended, REFUSED)
                self.assertIn("403", ended.err)
                self.assertIn("not you!", ended.err)

    def test_credentials_are_asked_for_as_an_option(self):
        def refuse(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            drain(sock)

        with Peer(refuse, raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, REFUSED)
        self.assert_sentence(ended, "401", "--header 'Authorization: Bearer ...'")
        self.assertNotIn("{", ended.err)

    def test_no_websocket(self):
        def nonsense(sock):
            sock.sendall(b"220 mail.example ready\r\n\r\n")
            drain(sock)

        with Peer(nonsense, raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, PROTOCOL)
        self.assert_sentence(ended)

    def test_timeout_while_connecting(self):
        for extra in ([], ["--reconnect"]):
            with self.subTest(extra), Peer(drain, raw=True) as peer:
                ended = run("connect", peer.url, "--timeout", "300ms", *extra)
                self.assert_status(ended, TIMEOUT)
                self.assert_sentence(ended, "--timeout")

    def test_timeout_without_a_server(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = "ws://127.0.0.1:%d/" % closed.getsockname()[1]
            ended = run("connect", url, "--reconnect", "--timeout", "300ms")
        self.assert_status(ended, TIMEOUT)
        self.assert_sentence(ended, "--timeout")

    def test_timeout_between_messages(self):
        with Serve() as server:
            ended = run("connect", server.url + "/echo", "--count", "2", "--timeout", "300ms",
                        stdin=b"only one\n")
            self.assert_status(ended, TIMEOUT)
            self.assert_sentence(ended, "300ms", "--timeout")
            self.assertEqual(ended.out, b"only one\n")

    def test_dead_peer(self):
        with Peer(drain) as peer:  # reads, but never answers a ping
            ended = run("connect", peer.url, "--count", "1", "--ping-interval", "100ms", "--pong-wait",
                        "300ms")
        self.assert_status(ended, TIMEOUT)
        self.assert_sentence(ended)

    def test_unknown_host(self):
        ended = run("connect", "ws://no-such-host.invalid/")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "no-such-host.invalid")


class Secure(Contract):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        subprocess.run(["sh", MAKE_CERTS, cls.folder.name], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def serve(self, name):
        return Serve("--tls-cert", self.path(name + ".pem"), "--tls-key", self.path(name + ".key"))

    def test_trusted(self):
        with self.serve("server") as server:
            self.assertRegex(server.ready, r"^listening on wss://127\.0\.0\.1:[1-9][0-9]*\n$")
            ended = run("connect", server.url + "/echo", "--ca", self.path("ca.pem"), "--count", "1",
                        stdin=b"secret\n")
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, b"secret\n")

    def test_not_trusted(self):
        for name in ("stranger", "other", "expired"):
            with self.subTest(name), self.serve(name) as server:
                url = server.url + "/echo"
                for extra in ([], ["--reconnect"]):
                    ended = run("connect", url, "--ca", self.path("ca.pem"), *extra)
                    self.assert_status(ended, TLS)
                    self.assertTrue(ended.err.strip())
                ended = run("connect", url, "--insecure", "--count", "1", stdin=b"x\n")
                self.assert_status(ended, OK)

    def test_sentence_names_the_remedy(self):
        with self.serve("server") as server:
            ended = run("connect", server.url + "/echo")
            self.assert_status(ended, TLS)
            self.assert_sentence(ended, "--ca", "--insecure")
            self.assertNotIn("ca_file", ended.err)
        with self.serve("other") as server:
            ended = run("connect", server.url + "/echo", "--ca", self.path("ca.pem"))
            self.assert_status(ended, TLS)
            self.assert_sentence(ended, "name that the certificate holds", "--insecure")
            self.assertNotIn("server_name", ended.err)

    def test_not_tls(self):
        with Serve() as server:
            ended = run("connect", server.url.replace("ws:", "wss:") + "/echo")
            self.assert_status(ended, TLS)
            self.assert_sentence(ended)

    def test_unusable_ca(self):
        ended = run("connect", "wss://127.0.0.1:1/", "--ca", "/nonexistent.pem")
        self.assert_status(ended, TLS)
        self.assert_sentence(ended, "nonexistent")


class Reconnecting(Contract):
    def test_across_a_restart(self):
        server = Serve()
        child = subprocess.Popen([PROGRAM, "connect", server.url + "/echo", "--reconnect"],
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


class Bench(Contract):
    FIELDS = {"mode", "url", "own_server", "connections", "size", "in_flight", "threads", "compression",
              "seconds", "messages", "rate", "mb_per_s", "latency_us", "server",
              "client_cpu_us_per_message", "client_memory_per_connection", "unanswered", "errors"}

    def bench(self, *arguments):
        ended = run("bench", *arguments, "--json", "--warmup", "100ms", "--duration", "400ms")
        self.assert_status(ended, OK)
        self.assertEqual(ended.out.count(b"\n"), 1)
        result = json.loads(ended.out)
        self.assertEqual(set(result), self.FIELDS)
        self.assertEqual(result["mode"], arguments[0])
        self.assertEqual(result["errors"], 0)
        self.assertEqual(result["unanswered"], 0)
        return result

    def check_load(self, result):
        self.assertGreater(result["messages"], 0)
        self.assertGreater(result["rate"], 0)
        latency = result["latency_us"]
        self.assertEqual(set(latency), {"p50", "p99", "p99_9", "max"})
        self.assertLessEqual(latency["p50"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["p99_9"])
        self.assertLessEqual(latency["p99_9"], latency["max"])

    def test_echo(self):
        result = self.bench("echo", "--connections", "10", "--in-flight", "4", "--size", "64")
        self.check_load(result)
        self.assertTrue(result["own_server"])
        self.assertGreater(result["server"]["cpu_us_per_message"], 0)
        self.assertIsNotNone(result["server"]["memory_per_connection"])

    def test_broadcast(self):
        result = self.bench("broadcast", "--connections", "20", "--in-flight", "4", "--threads", "2",
                            "--server-threads", "2")
        self.check_load(result)

    def test_idle(self):
        result = self.bench("idle", "--connections", "50")
        self.assertEqual(result["messages"], 0)
        self.assertIsNone(result["latency_us"])
        self.assertIsNone(result["server"]["cpu_us_per_message"])

    def test_small_messages_have_no_latency(self):
        for load in ("echo", "broadcast"):
            result = self.bench(load, "--connections", "2", "--size", "0")
            self.assertGreater(result["messages"], 0)
            self.assertIsNone(result["latency_us"])

    def test_compression_and_large_messages(self):
        self.check_load(self.bench("echo", "--connections", "2", "--compression", "on"))
        self.check_load(self.bench("echo", "--connections", "2", "--in-flight", "2", "--size", "2M"))

    def test_other_server(self):
        with Serve() as server:
            result = self.bench("echo", "--url", server.url, "--connections", "2")
            self.assertFalse(result["own_server"])
            self.assertIsNone(result["server"])
            result = self.bench("broadcast", "--url", server.url + "/broadcast", "--connections", "2",
                                "--server-pid", str(server.child.pid))
            self.assertGreater(result["server"]["cpu_us_per_message"], 0)

    def test_process_that_is_not_there(self):
        with Serve() as server:
            own = run("bench", "echo", "--server-pid", str(server.child.pid))
            self.assert_status(own, USAGE)
            self.assert_sentence(own, "bench", "--server-pid", "--url")
            url = server.url
            pid = str(server.child.pid)
        ended = run("bench", "echo", "--url", url, "--server-pid", pid)
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "bench", "--server-pid", pid)

    def test_nothing_to_measure(self):
        ended = run("bench", "echo", "--duration", "0")
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "--duration")

    def test_server_that_stops_answering(self):
        """In mid-run, as a process does that was stopped; its sockets stay open."""
        in_flight, answered, size = 4, 6, 16

        def script(sock):
            data = b""
            for _ in range(answered):
                while len(data) < 6 + size:
                    data += sock.recv(65536)
                mask, payload, data = data[2:6], data[6:6 + size], data[6 + size:]
                sock.sendall(frame(2, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))))
            drain(sock)

        with Peer(script) as peer:
            ended = run("bench", "echo", "--url", peer.url, "--connections", "1", "--in-flight",
                        str(in_flight), "--size", str(size), "--warmup", "0", "--duration", "300ms", "--json")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "bench", f"{in_flight} message(s) did not come back")
        self.assertEqual(json.loads(ended.out)["unanswered"], in_flight)

    def test_interrupted(self):
        """As by Ctrl-C, which signals the whole process group: what was measured is printed."""
        for load in ("echo", "broadcast"):
            master, slave = pty.openpty()
            child = subprocess.Popen([PROGRAM, "bench", load, "--connections", "2", "--warmup", "0", "--duration",
                                      "1h", "--json"], stdout=subprocess.PIPE, stderr=slave,
                                     start_new_session=True)
            os.close(slave)
            try:
                shown = b""
                while load.encode() + b": " not in shown:  # the live line of the measuring
                    shown += os.read(master, 4096)
                os.killpg(child.pid, signal.SIGINT)
                out, _ = child.communicate(timeout=PATIENCE)
            finally:
                child.kill()
                child.wait()
                child.stdout.close()
                os.close(master)
            self.assertEqual(child.returncode, OK, out)
            result = json.loads(out)
            self.assertGreater(result["messages"], 0)
            self.assertGreater(result["seconds"], 0)
            self.assertEqual((result["errors"], result["unanswered"]), (0, 0))

    def test_server_that_goes_away(self):
        with Peer(lambda sock: sock.recv(4096)) as peer:
            ended = run("bench", "echo", "--url", peer.url, "--connections", "1", "--duration", "1h")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "bench", "1 connection(s) failed", "log may say why")

    def test_table(self):
        ended = run("bench", "echo", "--connections", "2", "--warmup", "50ms", "--duration", "100ms")
        self.assert_status(ended, OK)
        for word in (b"rate", b"latency", b"p99.9", b"server CPU", b"server memory"):
            self.assertIn(word, ended.out)
        self.assertEqual(ended.err, "")

    def test_nobody_listens(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            ended = run("bench", "echo", "--url", "ws://127.0.0.1:%d" % closed.getsockname()[1])
        self.assert_status(ended, REFUSED)
        self.assert_sentence(ended, "bench", "0 of 100")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--program", required=True)
    parser.add_argument("--project-version", required=True)
    parser.add_argument("--certificates", required=True)
    settings, rest = parser.parse_known_args()
    PROGRAM, MAKE_CERTS = settings.program, settings.certificates
    PROJECT_VERSION = settings.project_version
    unittest.main(argv=[sys.argv[0], *rest])
