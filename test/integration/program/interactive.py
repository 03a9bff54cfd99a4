"""`chorus connect` at a terminal: a real pseudo-terminal, its screen read by a terminal emulator."""
import errno
import fcntl
import os
import pty
import queue
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time

import pyte

from contract import OK, PATIENCE, PROTOCOL, Contract, Peer, Serve, close_frame, drain, frame, program

COLUMNS, ROWS = 80, 24
UP, LEFT, DELETE = b"\x1b[A", b"\x1b[D", b"\x1b[3~"
TIME = r"\d\d:\d\d:\d\d\.\d\d\d"


class Terminal:
    """The program at a terminal of its own."""

    def __init__(self, *arguments, state, **environment):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.slave = slave
        self.usual = termios.tcgetattr(slave)
        env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        env.update({"TERM": "xterm", "XDG_STATE_HOME": state, **environment})
        self.child = subprocess.Popen([program(), "connect", *arguments], stdin=slave, stdout=slave,
                                      stderr=slave, env=env, start_new_session=True,
                                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def type(self, text):
        os.write(self.master, text if isinstance(text, bytes) else text.encode())

    def read(self, patience):
        """False when nothing came, or nothing more will."""
        if not select.select([self.master], [], [], patience)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError as e:
            if e.errno == errno.EIO:
                return False
            raise
        self.raw += data
        self.stream.feed(data)
        return bool(data)

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines())

    def wait_for(self, seen, what):
        deadline = time.monotonic() + PATIENCE
        while not seen():
            left = deadline - time.monotonic()
            if left <= 0 or (not self.read(left) and not seen()):
                raise AssertionError(f"never seen: {what}\n{self.text()}")

    def wait_line(self, pattern):
        found = []

        def seen():
            found[:] = [line for line in self.lines() if re.fullmatch(pattern, line)]
            return found

        self.wait_for(seen, pattern)
        return found[-1]

    def wait_edited(self, line, column=None):
        """Until the line being edited, and the cursor, stand so."""
        column = len(line) if column is None else column
        self.wait_for(lambda: self.lines()[self.screen.cursor.y] == line.rstrip() and
                      self.screen.cursor.x == column, f"{line!r} edited at {column}")

    def connected(self):
        self.wait_line(TIME + r" \* connected to \S+; .*")
        self.wait_edited("> ")
        return self

    def end(self):
        """Reads to the end; the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self.child.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        while self.read(0):
            pass
        return self.child.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        os.close(self.master)
        os.close(self.slave)


class Client:
    """What a scripted peer does at a test's word, and what it hears: (opcode, payload)."""

    def __init__(self):
        self.orders = queue.Queue()
        self.heard = queue.Queue()

    def __call__(self, sock):
        try:
            self.talk(sock)
        except OSError:  # the program has gone
            pass

    def talk(self, sock):
        data = bytearray()
        sock.setblocking(False)
        while True:
            try:
                order = self.orders.get_nowait()
                if order is None:
                    return
                sock.setblocking(True)
                sock.sendall(order)
                sock.setblocking(False)
            except queue.Empty:
                pass
            if not select.select([sock], [], [], 0.01)[0]:
                continue
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
            while len(data) >= 6:
                size, head = data[1] & 127, 2
                if size == 126:
                    size, head = struct.unpack("!H", data[2:4])[0], 4
                if len(data) < head + 4 + size:
                    break
                mask = data[head:head + 4]
                payload = bytes(b ^ mask[i % 4] for i, b in enumerate(data[head + 4:head + 4 + size]))
                self.heard.put((data[0] & 15, payload))
                del data[:head + 4 + size]
                if self.heard.queue[-1][0] == 8:
                    self.orders.put(frame(8, payload))
                    self.orders.put(None)

    def say(self, data):
        self.orders.put(data)

    def hear(self):
        return self.heard.get(timeout=PATIENCE)


class Interactive(Contract):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.state = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def test_talk(self):
        with Serve() as server, Terminal(server.url + "/echo", state=self.state) as t:
            t.connected().type("hello w\u00f6rld\r")
            t.wait_line(TIME + " > hello w\u00f6rld")
            t.wait_line(TIME + " < hello w\u00f6rld")
            t.wait_edited("> ")
            t.type(b"\x04")
            self.assertEqual(t.end(), OK)
            # Nothing is left of the prompt, and the terminal is as it was.
            self.assertEqual([line for line in t.lines() if line.startswith(">")], [])
            self.assertEqual(termios.tcgetattr(t.slave), t.usual)

    def test_what_comes_does_not_garble_what_is_typed(self):
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected().type("hel")
            t.wait_edited("> hel")
            client.say(frame(1, b"first of all"))
            t.wait_line(TIME + " < first of all")
            t.wait_edited("> hel")
            t.type(LEFT + LEFT)
            t.wait_edited("> hel", 3)
            client.say(frame(1, b"and another"))
            t.wait_line(TIME + " < and another")
            t.wait_edited("> hel", 3)
            t.type("X\r")
            self.assertEqual(client.hear(), (1, b"hXel"))
            t.wait_line(TIME + " > hXel")
            t.wait_edited("> ")
            # A line of several rows, the cursor in one of those above.
            long = "".join(chr(ord("a") + i % 26) for i in range(200))
            t.type(long)
            t.wait_for(lambda: "> " + long in "".join(t.screen.display), "the long line")
            t.type(LEFT * 100)
            t.wait_for(lambda: (t.screen.cursor.x, ) == (102 % COLUMNS, ), "the cursor in it")
            client.say(frame(1, b"in between"))
            t.wait_line(TIME + " < in between")
            t.wait_for(lambda: t.screen.cursor.x == 102 % COLUMNS and
                       "".join(t.screen.display).count("> " + long) == 1, "the long line again")
            self.assertEqual("".join(t.screen.display).count("abcdefg"), 8)
            t.type("\r")
            self.assertEqual(client.hear(), (1, long.encode()))
            t.type(b"\x04")
            self.assertEqual(t.end(), OK)

    def test_keys(self):
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected()
            for keys, meant in ((b"abc" + LEFT + LEFT + DELETE + b"\r", b"ac"),
                                (b"one two\x1b[1;5DX\r", b"one Xtwo"),
                                (b"key\x1b[25~\x1b[200~less\r", b"keyless"),
                                (b"word\x17other\r", b"other"),
                                (b"\x16\x1bxall\r", b"all"),
                                ("\u00e9\u20ac\U0001f600\r".encode(), "\u00e9\u20ac\U0001f600".encode())):
                with self.subTest(keys=keys):
                    t.type(keys)
                    self.assertEqual(client.hear(), (1, meant))
            # A key that comes in pieces.
            for piece in (b"ab", b"\x1b", b"[", b"D", b"c", b"\xc3"):
                t.type(piece)
                time.sleep(0.02)
            t.type(b"\xa9\r")
            self.assertEqual(client.hear(), (1, "ac\u00e9b".encode()))
            # Escape alone waits for a key, and the connection does not wait with it.
            t.type(b"\x1b")
            client.say(frame(9, b"?"))
            self.assertEqual(client.hear(), (10, b"?"))

    def test_paste(self):
        client = Client()
        text = "".join(chr(ord("a") + i % 26) if i % 100 else "\u20ac" for i in range(8000))
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            def hear():  # whoever writes to a terminal waits for who reads it
                deadline = time.monotonic() + PATIENCE
                while client.heard.empty() and time.monotonic() < deadline:
                    t.read(0.05)
                return client.heard.get_nowait()

            t.connected()
            for start in range(0, len(text), 500):  # the terminal's own buffer is small
                t.type(text[start:start + 500])
                t.read(0)
                if start == 4000:
                    client.say(frame(9, b"?"))
            t.wait_for(lambda: text[-40:] in "".join(t.screen.display).rstrip(), "the end of the paste")
            self.assertEqual(hear(), (10, b"?"))
            t.type(LEFT + b"|\r")
            t.wait_edited("> ")
            self.assertEqual(hear(), (1, (text[:-1] + "|" + text[-1]).encode()))
            # Several lines and other keys in one paste.
            t.type("1" * 20 + "\x01" + "2" * 20 + "\r" + "3" * 300 + "\x17\r" + "4\r")
            self.assertEqual(hear(), (1, b"2" * 20 + b"1" * 20))
            self.assertEqual(hear(), (1, b""))
            self.assertEqual(hear(), (1, b"4"))

    def test_history(self):
        path = os.path.join(self.state, "chorus", "history")
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected().type("one\r two\rthree\rthree\r")
            self.assertEqual([client.hear()[1] for _ in range(4)], [b"one", b" two", b"three", b"three"])
            t.type(UP + UP + b"\r")
            self.assertEqual(client.hear(), (1, b"one"))
            t.type(b"\x04")
            self.assertEqual(t.end(), OK)
        with open(path) as file:
            self.assertEqual(file.read(), "one\nthree\none\n")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(os.path.dirname(path)).st_mode & 0o777, 0o700)

        with open(path, "a") as file:
            file.writelines(f"line {i}\n" for i in range(2500))
        os.chmod(path, 0o644)
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected().type(UP + b"\r")
            self.assertEqual(client.hear(), (1, b"line 2499"))
            t.type(b"line 15\x12\r")  # Ctrl-R: the newest that begins so
            self.assertEqual(client.hear(), (1, b"line 1599"))
            t.type(b"\x04")
            self.assertEqual(t.end(), OK)
        with open(path) as file:
            self.assertEqual(len(file.readlines()), 1001)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

    def test_history_that_cannot_be_kept(self):
        with open(os.path.join(self.state, "chorus"), "w"):
            pass
        with Serve() as server, Terminal(server.url + "/echo", state=self.state) as t:
            t.wait_for(lambda: "history is not kept: " in t.text(), "the note")
            t.type("x\r")
            t.wait_line(TIME + " < x")

    def test_headers_of_a_client_that_comes_back(self):
        """The server's answer is kept with --reconnect, too."""
        with Peer(Client()) as peer, Terminal(peer.url, "--reconnect", state=self.state) as t:
            t.connected().type("/headers\r")
            t.wait_line(TIME + r" \* status 101")
            t.wait_line(r" +Upgrade: websocket")

    def test_commands(self):
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected().type("/ping\r")
            opcode, payload = client.hear()
            self.assertEqual(opcode, 9)
            client.say(frame(10, payload))
            t.wait_line(TIME + r" \* pong after \d+\.\d\d ms")
            t.type("/headers\r")
            t.wait_line(TIME + r" \* status 101")
            t.wait_line(r" +Upgrade: websocket")
            t.type("/stats\r")
            t.wait_line(TIME + r" \* connected to 127\.0\.0\.1:\d+ for \d+\.\d s, from \S+")
            t.wait_line(r" +subprotocol: none; compression: off")
            t.type("/help\r")
            t.wait_line(r" +/binary FILE +.*")
            t.type("/pong\r")
            t.wait_line(TIME + r" \* no command '/pong'; did you mean '/ping'\?.*")
            t.type("//ping\r")
            self.assertEqual(client.hear(), (1, b"/ping"))
            with tempfile.NamedTemporaryFile() as file:
                file.write(b"\x00\xff\x1b")
                file.flush()
                t.type(f"/binary {file.name}\r")
                self.assertEqual(client.hear(), (2, b"\x00\xff\x1b"))
                t.wait_line(TIME + " > 3 bytes: 00 ff 1b")
            t.type("/binary /nonexistent\r")
            t.wait_line(TIME + r" \* /nonexistent: No such file or directory")
            t.type("/close 1005\r")
            t.wait_line(TIME + r" \* '1005' is no code to close with.*")
            t.type("/close 4001 good bye\r")
            self.assertEqual(client.hear(), (8, struct.pack("!H", 4001) + b"good bye"))
            self.assertEqual(t.end(), OK)

    def test_peer_that_closes(self):
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected().type("half a li")
            t.wait_edited("> half a li")
            client.say(close_frame(4000, b"no more"))
            self.assertEqual(t.end(), PROTOCOL)
            self.assertIn("chorus connect: the peer closed the connection with 4000 (no more)", t.text())
            self.assertNotIn("half a li", t.text())
            self.assertEqual(termios.tcgetattr(t.slave), t.usual)

    def test_interrupt(self):
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected().type("x")
            t.wait_edited("> x")
            t.type(b"\x03")
            self.assertEqual(client.hear(), (8, struct.pack("!H", 1000)))
            self.assertEqual(t.end(), OK)
            self.assertEqual(termios.tcgetattr(t.slave), t.usual)

    def test_size_and_job_control(self):
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, state=self.state) as t:
            t.connected().type("y" * 50)
            t.wait_edited("> " + "y" * 50)
            t.screen.resize(ROWS, 40)
            fcntl.ioctl(t.slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, 40, 0, 0))
            t.child.send_signal(signal.SIGWINCH)
            t.wait_edited("y" * 12)
            client.say(frame(1, b"narrow"))
            t.wait_line(TIME + " < narrow")
            t.wait_edited("y" * 12)
            # As a shell does it: its own modes while the program is stopped.
            t.child.send_signal(signal.SIGSTOP)
            termios.tcsetattr(t.slave, termios.TCSANOW, t.usual)
            t.child.send_signal(signal.SIGCONT)
            t.wait_for(lambda: not termios.tcgetattr(t.slave)[3] & termios.ICANON, "the mode again")
            t.type("z\r")
            self.assertEqual(client.hear(), (1, b"y" * 50 + b"z"))

    def test_json(self):
        client = Client()
        text = b'{"id":12345678901234567890,"price":1.10,"list":[1,2,[]],"text":"a:\\"{,","id":null,' \
               b'"nested":{"empty":{},"flag":true,"more":"01234567890123456789"}}'
        with Peer(client) as peer, Terminal(peer.url, "--color", "never", state=self.state) as t:
            t.connected()
            client.say(frame(1, text))
            t.wait_line(r" {15}\}")
            margin = " " * 15
            start = next(i for i, line in enumerate(t.lines()) if line.endswith(" < {"))
            self.assertEqual(t.lines()[start + 1:start + 12], [
                margin + '  "id": 12345678901234567890,',
                margin + '  "price": 1.10,',
                margin + '  "list": [1, 2, []],',
                margin + '  "text": "a:\\"{,",',
                margin + '  "id": null,',
                margin + '  "nested": {',
                margin + '    "empty": {},',
                margin + '    "flag": true,',
                margin + '    "more": "01234567890123456789"',
                margin + '  }',
                margin + '}'])
            client.say(frame(1, b'{"short" : [1,\n2]}') + frame(1, b'{"no": json') + frame(1, b"[" * 100 + b"]" * 100))
            t.wait_line(TIME + r' < \{"short": \[1, 2\]\}')
            t.wait_line(TIME + r' < \{"no": json')
            t.wait_for(lambda: "[" * 60 in t.text(), "what is nested too deep, as it is")

    def test_peers_do_not_control_the_terminal(self):
        client = Client()
        with Peer(client) as peer, Terminal(peer.url, "--color", "never", state=self.state) as t:
            t.connected()
            client.say(frame(1, "a\x1b[2Jb\rc\u009bd\u202ee\n\x07f".encode()))
            t.wait_line(TIME + r" < a\\x1b\[2Jb\\x0dc\\x9bd\\u202ee")
            t.wait_line(r" {15}\\x07f")
            client.say(frame(2, b"\x1bc" * 200))
            t.wait_line(TIME + " < 400 bytes:")
            t.wait_line(r" {15}and 144 bytes more")
            self.assertEqual(t.text().count(" 1b 63" * 8 + " .c.c.c.c.c.c.c.c\n"), 16)
            self.assertNotIn(b"\x1bc", t.raw)

    def test_colors(self):
        for arguments, environment, colored in (([], {}, True), ([], {"NO_COLOR": "1"}, False),
                                                ([], {"NO_COLOR": ""}, True),
                                                (["--color", "never"], {}, False),
                                                (["--color", "always"], {"NO_COLOR": "1"}, True)):
            with self.subTest(arguments=arguments, environment=environment), Serve() as server, \
                    Terminal(server.url + "/echo", *arguments, state=self.state, **environment) as t:
                t.connected().type("x\r")
                t.wait_line(TIME + " < x")
                self.assertEqual(b"\x1b[32m<\x1b[0m" in t.raw, colored)
                self.assertEqual(b"\x1b[36m>\x1b[0m" in t.raw, colored)

    def test_log_is_shown_above_the_line(self):
        for level, loss in (("warn", "disconnected: "), ("info", "client lost ")):
            with Serve() as server, Terminal(server.url + "/echo", "--reconnect", "--log-level", level,
                                             state=self.state) as t:
                t.connected().type("unfinished")
                t.wait_edited("> unfinished")
                self.assertEqual(server.stop(), OK)
                t.wait_line(TIME + r" \* " + loss + ".*")
                t.wait_edited("> unfinished")

    def test_dumb_terminal(self):
        """Lines, as for a pipe."""
        with Serve() as server, Terminal(server.url + "/echo", "--count", "1", state=self.state, TERM="dumb") as t:
            t.type("plain\n")
            self.assertEqual(t.end(), OK)
            self.assertEqual(t.raw, b"plain\r\nplain\r\n")  # the terminal's own echo, and the answer
