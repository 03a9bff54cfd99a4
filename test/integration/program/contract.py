"""What the tests of the program share: running it, servers and peers for it, and what they check."""
import argparse
import base64
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import unittest

# Set by program_test.py before a test runs.
settings = argparse.Namespace(program="chorus", project_version=None, certificates=None)


def program():
    return settings.program


PATIENCE = 60  # seconds; only a hanging program meets it
OK, FAILED, USAGE, REFUSED, TLS, TIMEOUT, PROTOCOL = range(7)


class Serve:
    """A running `chorus serve`."""

    def __init__(self, *arguments, listen="127.0.0.1:0", stderr=subprocess.DEVNULL):
        self.child = subprocess.Popen([program(), "serve", "--listen", listen, *arguments],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
        self.ready = self.child.stdout.readline().decode()
        self.url = self.ready.removeprefix("listening on ").rstrip("\n")
        first = self.url.partition(" ")[0]
        self.port = int(first.rpartition(":")[2]) if "://127" in first else 0

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


def reserved_port():
    """A socket whose port stays the test's between two that listen there: they, too, allow the address to be
    used again."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


class Peer:
    """A server that a test scripts: it accepts one connection at a time and hands it to `script`,
    the opening handshake done unless `raw`."""

    def __init__(self, script, raw=False, port=0):
        self.listener = socket.create_server(("127.0.0.1", port))
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
        return Ended(subprocess.run([program(), *arguments], capture_output=True, timeout=PATIENCE,
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
