"""`chorus serve`: who may connect, and how much each may do."""
import base64
import contextlib
import json
import socket
import struct
import urllib.request

import contract
from contract import PATIENCE, REFUSED, USAGE, Contract, run


class Serve(contract.Serve):
    """Its wires end before it does: it need not wait for them."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.opened = []

    def wires(self, count):
        self.opened += [Wire(self) for _ in range(count)]
        return self.opened[-count:]

    def __exit__(self, *_):
        for wire in self.opened:
            wire.__exit__()
        super().__exit__()


class Wire:
    """A raw connection to a server."""

    def __init__(self, server, receive_buffer=0):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", server.port))
        self.input = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.input.close()
        self.sock.close()

    def ask(self, target="/echo", *headers, before=b""):
        """Asks for an upgrade and gives the status; 0 when the connection is just closed."""
        lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode(), *headers]
        with contextlib.suppress(OSError):
            self.sock.sendall(before + "\r\n".join([*lines, "", ""]).encode())
        return self.status()

    def status(self):
        try:
            first = self.input.readline()
            while first and self.input.readline() not in (b"\r\n", b""):
                pass
        except OSError:
            return 0
        return int(first.split()[1]) if first else 0

    def send(self, *texts):
        """All in one piece, masked with zeroes."""
        def frame(text):
            data = text.encode()
            length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
            return b"\x81" + length + bytes(4) + data
        self.sock.sendall(b"".join(map(frame, texts)))

    def receive(self):
        """A text, or the code of a close."""
        head = self.input.read(2)
        if len(head) < 2:
            return 0
        length = head[1] & 127
        if length == 126:
            length = struct.unpack("!H", self.input.read(2))[0]
        payload = self.input.read(length)
        return struct.unpack("!H", payload[:2])[0] if head[0] & 15 == 8 else payload.decode()

    def closed(self):
        """The code of the close that comes after whatever else."""
        got = ""
        while not isinstance(got, int):
            got = self.receive()
        return got


def stats(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/dashboard/stats.json",
                                timeout=PATIENCE) as answer:
        return json.load(answer)["server"]


def comes_to(server, name, least):
    """The counters are looked at twice a second, so that one asks until they show it."""
    value = stats(server)[name]
    while value < least:
        value = stats(server)[name]
    return value


class Limits(Contract):
    def test_connections(self):
        with Serve("--max-connections", "2") as server:
            one, two, three = server.wires(3)
            self.assertEqual([one.ask(), two.ask(), three.ask()], [101, 101, 503])
            self.assertEqual(comes_to(server, "refused_limit", 1), 1)
            ended = run("connect", server.url + "/echo")
            self.assert_status(ended, REFUSED)
            self.assert_sentence(ended, "503")

    def test_on_limit_close(self):
        with Serve("--max-connections", "1", "--on-limit", "close") as server:
            one, two = server.wires(2)
            self.assertEqual([one.ask(), two.ask()], [101, 101])
            self.assertEqual(two.closed(), 1013)

    def test_connections_per_address(self):
        with Serve("--max-connections-per-address", "1") as server:
            one, two = server.wires(2)
            self.assertEqual([one.ask(), two.ask()], [101, 429])
            self.assertEqual(comes_to(server, "refused_address", 1), 1)

    def test_trusted_proxy(self):
        header = "X-Forwarded-For: 192.0.2.%d"
        with Serve("--max-connections-per-address", "1", "--trusted-proxy", "10.0.0.0/8",
                   "--trusted-proxy", "127.0.0.1") as server:
            one, two, three = server.wires(3)
            answers = [one.ask("/echo", header % 1), two.ask("/echo", header % 1),
                       three.ask("/echo", header % 2)]
            self.assertEqual(answers, [101, 429, 101])
        with Serve("--max-connections-per-address", "1") as server:  # not believed
            one, two = server.wires(2)
            self.assertEqual([one.ask("/echo", header % 1), two.ask("/echo", header % 2)], [101, 429])

    def test_connections_per_user(self):
        chat = "/ws/chat/%s?user_id=%s&username=A"
        with Serve("--max-connections-per-user", "1") as server:
            one, two, three, four = server.wires(4)
            answers = [one.ask(chat % ("tea", "ada")), two.ask(chat % ("coffee", "ada")),
                       three.ask(chat % ("tea", "bo")), four.ask("/echo")]
            self.assertEqual(answers, [101, 429, 101, 101])
            self.assertEqual(comes_to(server, "refused_user", 1), 1)

    def test_on_user_limit_oldest(self):
        chat = "/ws/chat/%s?user_id=ada&username=A"
        with Serve("--max-connections-per-user", "1", "--on-user-limit", "oldest") as server:
            one, two = server.wires(2)
            self.assertEqual([one.ask(chat % "tea"), two.ask(chat % "tea")], [101, 101])
            self.assertEqual(one.closed(), 1008)

    def test_handshakes(self):
        with Serve("--max-handshakes", "2", "--handshake-timeout", "1h") as server:
            server.wires(2)
            with Wire(server) as third:
                self.assertEqual(third.status(), 503)

    def test_handshake_timeout(self):
        with Serve("--handshake-timeout", "200ms") as server, Wire(server) as slow:
            slow.sock.sendall(b"GET /echo HTTP/1.1\r\nHost: ")
            self.assertIn(slow.status(), (0, 408))
            self.assertEqual(slow.input.read().partition(b"\n")[2], b"")

    def test_header(self):
        with Serve("--max-header", "1k") as server:
            one, two = server.wires(2)
            self.assertEqual(one.ask("/echo", "X-Long: " + "x" * 2000), 431)
            self.assertEqual(two.ask("/echo", "X-Long: " + "x" * 500), 101)

    def test_origins(self):
        cases = {"https://one.example": 101, "https://two.example:8443": 101, "https://evil.example": 403,
                 "http://one.example": 403, "null": 403}
        with Serve("--allow-origin", "https://one.example",
                   "--allow-origin", "https://two.example:8443/") as server:
            for origin, status in cases.items():
                with self.subTest(origin), Wire(server) as wire:
                    self.assertEqual(wire.ask("/echo", "Origin: " + origin), status)
            self.assertEqual(comes_to(server, "refused_origin", 3), 3)
        for arguments, status in (([], 403), (["--allow-origin", "*"], 101)):
            with self.subTest(arguments), Serve(*arguments) as server, Wire(server) as wire:
                self.assertEqual(wire.ask("/echo", "Origin: https://one.example"), status)

    def test_proxy_protocol(self):
        head = b"PROXY TCP4 192.0.2.%d 127.0.0.1 4000 80\r\n"
        limit = ("--max-connections-per-address", "1")
        for arguments in (["required"], ["trusted", "--trusted-proxy", "127.0.0.0/8"]):
            with self.subTest(arguments), Serve("--proxy-protocol", *arguments, *limit) as server:
                bare, one, two, three = server.wires(4)
                self.assertEqual(bare.ask(), 0)
                answers = [one.ask(before=head % 1), two.ask(before=head % 1), three.ask(before=head % 2)]
                self.assertEqual(answers, [101, 429, 101])
        with Serve("--proxy-protocol", "trusted", "--trusted-proxy", "10.0.0.0/8") as server:
            with Wire(server) as bare:
                self.assertEqual(bare.ask(), 101)

    def test_messages_per_second(self):
        texts = [str(n) for n in range(10)]
        rate = ("--messages-per-second", "1", "--burst-messages", "3", "--over-rate")
        with Serve(*rate, "close") as server, Wire(server) as wire:
            self.assertEqual(wire.ask(), 101)
            wire.send(*texts)
            self.assertEqual([wire.receive() for _ in range(4)], ["0", "1", "2", 1008])
            self.assertEqual(comes_to(server, "rate_closed", 1), 1)
        with Serve(*rate, "drop") as server, Wire(server) as wire:
            self.assertEqual(wire.ask(), 101)
            wire.send(*texts)
            self.assertEqual([wire.receive() for _ in range(3)], ["0", "1", "2"])
            self.assertGreaterEqual(comes_to(server, "rate_dropped", 1), 1)
        with Serve("--messages-per-second", "20", "--burst-messages", "3") as server, \
                Wire(server) as wire:
            self.assertEqual(wire.ask(), 101)
            wire.send(*texts)  # delayed, and none lost
            self.assertEqual([wire.receive() for _ in range(10)], texts)

    def test_bytes_per_second(self):
        with Serve("--bytes-per-second", "1k", "--burst-bytes", "2k", "--over-rate", "close") as server:
            with Wire(server) as wire:
                self.assertEqual(wire.ask(), 101)
                wire.send("x" * 1000, "y" * 1000, "z" * 1000, "late")
                got = [wire.receive()[:1] for _ in range(3)]
                self.assertEqual([*got, wire.receive()], ["x", "y", "z", 1008])

    def test_queue_budget(self):
        with Serve("--queue-bytes", "64M", "--queue-budget", "1M", "--log-level", "error") as server:
            with Wire(server, receive_buffer=4096) as deaf, Wire(server) as one:
                self.assertEqual([deaf.ask("/broadcast"), one.ask("/broadcast")], [101, 101])
                text = "x" * 60000
                for n in range(4000):
                    one.send(text)
                    self.assertEqual(one.receive(), text)  # who reads loses nothing
                    if n % 50 == 49 and stats(server)["evicted_budget"] == 1:
                        break
                self.assertEqual(comes_to(server, "evicted_budget", 1), 1)
                one.send("still here")
                self.assertEqual(one.receive(), "still here")

    def test_wrong_usage(self):
        for option, value, says in (
                ("--on-limit", "shrug", "refuse|close"), ("--on-user-limit", "newest", "refuse|oldest"),
                ("--over-rate", "ignore", "delay|drop|close"), ("--proxy-protocol", "on", "off|required|trusted"),
                ("--proxy-protocol", "trusted", "--trusted-proxy"), ("--trusted-proxy", "10.0.0.0/99", "10.0.0.0/99"),
                ("--trusted-proxy", "nobody", "nobody"), ("--allow-origin", "example.org", "https://example.org"),
                ("--allow-origin", "https://a.example/path", "is no origin"), ("--allow-origin", "", "is no origin"),
                ("--handshake-timeout", "0", "no time"), ("--max-header", "255", "from 256 to"),
                ("--bytes-per-second", "4G", "from 0 to 4294967295"),
                ("--messages-per-second", "4294967296", "from 0 to 4294967295")):
            with self.subTest(option=option, value=value):
                ended = run("serve", "--listen", "127.0.0.1:0", option, value)
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended, "chorus serve: ", option, says)
                self.assertEqual(ended.out, b"")
