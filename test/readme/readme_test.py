"""Runs the programs of README.md against each other: readme_test.py SERVER CLIENT

A member of the server's room hears the client's "hello" and answers; the client ends with the answer,
the server at SIGTERM with the member closed in order.
"""
import base64
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import time

PATIENCE = 30  # seconds; only what hangs meets it


def listening_port(child):
    """The port on which a process listens, as the kernel tells it."""
    deadline = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < deadline:
        sockets = set()
        for entry in pathlib.Path(f"/proc/{child.pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(entry))
            except OSError:
                continue
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                return int(fields[1].rpartition(":")[2], 16)
        time.sleep(0.01)  # nobody tells when a process begins to listen
    sys.exit("readme: the server does not listen")


def joined(port):
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.sendall(b"GET /chat/blue HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) +
                 b"\r\n\r\n")
    stream = sock.makefile("rb")
    status = stream.readline()
    if b" 101 " not in status:
        sys.exit(f"readme: the upgrade was answered with {status}")
    while stream.readline() != b"\r\n":
        pass
    return sock, stream


def receive(stream):
    opcode, length = stream.read(2)
    return opcode & 15, stream.read(length)


def seated(port, stream, sock):
    """Returns when the member is in the room: it hears what another one says there."""
    other, _ = joined(port)
    with other:
        heard = False
        deadline = time.monotonic() + PATIENCE
        while not heard:
            if time.monotonic() > deadline:
                sys.exit("readme: a member hears nothing of what another says")
            send(other, 1, b"?")
            heard = bool(select.select([sock], [], [], 0.05)[0])
        send(other, 1, b"!")
        while receive(stream) != (1, b"!"):
            pass


def send(sock, opcode, payload):
    sock.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)


def check(what, seen, wanted):
    if seen != wanted:
        sys.exit(f"readme: {what}: {seen!r} instead of {wanted!r}")


def main():
    server = subprocess.Popen([sys.argv[1]])
    client = None
    try:
        port = listening_port(server)
        sock, stream = joined(port)
        seated(port, stream, sock)
        client = subprocess.Popen([sys.argv[2], f"ws://127.0.0.1:{port}/chat/blue"])
        check("the member hears", receive(stream), (1, b"hello"))
        send(sock, 1, b"and hello to you")
        check("the client's status", client.wait(PATIENCE), 0)
        server.send_signal(signal.SIGTERM)
        check("the member is closed", receive(stream), (8, struct.pack("!H", 1001)))
        send(sock, 8, struct.pack("!H", 1001))
        check("the server's status", server.wait(PATIENCE), 0)
    finally:
        for child in filter(None, (client, server)):
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
