"""The program under test: servers that stay up for many cases, one `connect` process per case,
and the opening handshakes that put a case on an open connection."""
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

from wire import Failure, Link, accept_for, brief, hard_reset

KEY = b"AAECAwQFBgcICQoLDA0ODw=="


class Settings:
    """What the command line of the runner decides."""
    program = "chorus"
    patience = 10.0       # seconds that one case may take


def ended(status):
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


class Process:
    """One running program; standard error goes to a file so that it can't block."""

    def __init__(self, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE):
        self.errors = tempfile.TemporaryFile()
        self.child = subprocess.Popen([Settings.program, *arguments], stdin=stdin, stdout=stdout,
                                      stderr=self.errors)

    def error_text(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()

    def write(self, data):
        self.child.stdin.write(data)
        self.child.stdin.flush()

    def end_input(self):
        self.child.stdin.close()

    def read_until(self, enough, deadline, what):
        """Standard output up to the point where `enough(bytes)` is true."""
        data = b""
        while not enough(data):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.child.stdout], [], [], left)[0]:
                raise Failure(f"{what} on standard output", f"{brief(data)} in the time allowed")
            piece = os.read(self.child.stdout.fileno(), 65536)
            if not piece:
                raise Failure(f"{what} on standard output",
                              f"{brief(data)} and its end; {self.error_text()[-300:]}")
            data += piece
        return data

    def wait(self, deadline):
        try:
            return self.child.wait(max(0.01, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failure("the program to end", "it still runs") from None

    def expect_exit(self, deadline, *statuses):
        status = self.wait(deadline)
        if status not in statuses:
            wanted = " or ".join(map(str, statuses))
            raise Failure(f"exit status {wanted}",
                          f"{ended(status)}; {self.error_text()[-300:] or 'nothing on stderr'}")
        if status != 0 and not self.error_text():
            raise Failure("a sentence on standard error", "nothing")

    def discard(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            if stream:
                try:
                    stream.close()
                except OSError:
                    pass
        self.errors.close()


class Server(Process):
    def __init__(self, *arguments):
        super().__init__("serve", "--listen", "127.0.0.1:0", *arguments)
        try:
            deadline = time.monotonic() + Settings.patience
            ready = self.read_until(lambda data: b"\n" in data, deadline, "the ready line")
            line = ready.decode().splitlines()[0]
            prefix = "listening on ws://127.0.0.1:"
            if not line.startswith(prefix) or not line[len(prefix):].strip().isdigit():
                raise Failure(prefix + "PORT", line)
            self.port = int(line[len(prefix):])
        except Failure:
            self.discard()
            raise


class Servers:
    """Running servers by their arguments; each is stopped, and its exit judged, at the end."""

    def __init__(self):
        self.running = {}

    def get(self, *arguments):
        server = self.running.get(arguments)
        if server is None:
            server = self.running[arguments] = Server(*arguments)
        return server

    def take_dead(self):
        """Sentences about servers that ended by themselves, which no case may bring about."""
        dead = []
        for arguments, server in list(self.running.items()):
            if server.child.poll() is not None:
                dead.append(f"server {' '.join(arguments)} ended with "
                            f"{ended(server.child.returncode)}: {server.error_text()[-600:]}")
                server.discard()
                del self.running[arguments]
        return dead

    def stop(self):
        wrong = []
        for arguments, server in self.running.items():
            server.child.terminate()
            try:
                server.expect_exit(time.monotonic() + Settings.patience, 0)
            except Failure as failure:
                wrong.append(f"server {' '.join(arguments)} at SIGTERM: {failure}")
            server.discard()
        self.running.clear()
        return wrong


class Response:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise Failure("an HTTP/1.x status line", brief(raw))
        self.line, self.status = lines[0], int(parts[1])
        self.headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise Failure("header lines with a colon", line)
            self.headers.append((name.lower(), value.strip()))

    def all(self, name):
        return [value for header, value in self.headers if header == name]

    def one(self, name):
        values = self.all(name)
        if len(values) != 1:
            raise Failure(f"one {name} header", f"{values} in {self.line}")
        return values[0]

    def tokens(self, name):
        return [token.strip().lower() for value in self.all(name) for token in value.split(",")]


def read_head(link, what="an HTTP head"):
    """Reads up to the empty line; what follows stays in the link."""
    while b"\r\n\r\n" not in link.inbox:
        if not link.more(what):
            raise Failure(what, f"{brief(link.inbox)} and then {link.end}")
    end = link.inbox.index(b"\r\n\r\n") + 4
    head = bytes(link.inbox[:end])
    del link.inbox[:end]
    return head


def read_response(link):
    """A whole response; the body of a refusal by its length, or up to the end."""
    response = Response(read_head(link, "an HTTP response"))
    if response.status == 101:
        return response
    lengths = response.all("content-length")
    if lengths:
        if not lengths[0].isdigit():
            raise Failure("a numeric content-length", lengths[0])
        if not link.need(int(lengths[0])):
            raise Failure(f"{lengths[0]} bytes of body", f"{brief(link.inbox)} and {link.end}")
        response.body = bytes(link.inbox[:int(lengths[0])])
        del link.inbox[:int(lengths[0])]
    elif response.status != 204:
        while link.more("the body of the response"):
            pass
        response.body = bytes(link.inbox)
        link.inbox.clear()
    return response


def upgrade_request(port, path="/echo", *, drop=(), replace=(), extra=(), line=None):
    """The bytes of an upgrade. `drop` and `replace` act on header names in lower case."""
    changed = {name.lower(): value for name, value in replace}
    headers = [("Host", f"127.0.0.1:{port}"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
               ("Sec-WebSocket-Key", KEY.decode()), ("Sec-WebSocket-Version", "13")]
    lines = [line or f"GET {path} HTTP/1.1"]
    for name, value in headers:
        if name.lower() not in drop:
            lines.append(f"{name}: {changed.get(name.lower(), value)}")
    lines += [f"{name}: {value}" for name, value in extra]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def check_101(response, key=KEY):
    if response.status != 101:
        raise Failure("status 101", f"{response.line} {brief(response.body)}")
    if response.one("upgrade").lower() != "websocket":
        raise Failure("Upgrade: websocket", response.one("upgrade"))
    if "upgrade" not in response.tokens("connection"):
        raise Failure("Connection: Upgrade", str(response.all("connection")))
    if response.one("sec-websocket-accept") != accept_for(key).decode():
        raise Failure(f"accept value {accept_for(key).decode()}",
                      response.one("sec-websocket-accept"))
    for name in ("content-length", "transfer-encoding"):
        if response.all(name):
            raise Failure(f"no {name} in a 101", str(response.all(name)))


class Context:
    """What one case works with. Everything it opened is closed when the case ends."""

    def __init__(self, role, servers, deadline):
        self.role = role
        self.servers = servers
        self.deadline = deadline
        self.links, self.processes, self.listeners = [], [], []

    def cleanup(self):
        for link in self.links:
            link.sock.close()
        for listener in self.listeners:
            listener.close()
        for process in self.processes:
            process.discard()

    # The program as server.

    def dial(self, port):
        sock = socket.create_connection(("127.0.0.1", port),
                                        max(0.01, self.deadline - time.monotonic()))
        link = Link(sock, True, self.deadline)
        self.links.append(link)
        return link

    def upgrade(self, port, path="/echo", extra=(), **changes):
        link = self.dial(port)
        link.push(upgrade_request(port, path, extra=extra, **changes))
        link.response = read_response(link)
        check_101(link.response)
        return link

    # The program as client.

    def listen(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners.append(listener)
        return listener, listener.getsockname()[1]

    def start(self, *arguments, **streams):
        process = Process(*arguments, **streams)
        self.processes.append(process)
        return process

    def accept(self, listener, process=None):
        """The next connection of the program; its request head is in `link.request`."""
        while not select.select([listener], [], [], 0.05)[0]:
            if time.monotonic() > self.deadline:
                raise Failure("a connection from the program", "none in the time allowed")
            if process and process.child.poll() is not None:
                raise Failure("a connection from the program",
                              f"{ended(process.child.returncode)}: {process.error_text()[-300:]}")
        link = Link(listener.accept()[0], False, self.deadline)
        self.links.append(link)
        link.process = process
        return link

    def answer(self, link, headers=(), accept=None, status="101 Switching Protocols"):
        """Sends a 101 to the request that was read."""
        link.push(self.response_bytes(link, headers, accept, status))

    @staticmethod
    def response_bytes(link, headers=(), accept=None, status="101 Switching Protocols"):
        accept = accept or accept_for(link.request.one("sec-websocket-key").encode())
        lines = [f"HTTP/1.1 {status}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Accept: {accept.decode()}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def connect(self, *arguments, path="/", echo=True, stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL):
        """Starts `connect` against a listener of the suite and reads its request."""
        listener, port = self.listen()
        process = self.start("connect", f"ws://127.0.0.1:{port}{path}",
                             *(["--echo"] if echo else []), *arguments, stdin=stdin, stdout=stdout)
        link = self.accept(listener, process)
        head = read_head(link, "the client's request")
        link.request_bytes, link.port = head, port
        request_line, _, rest = head.partition(b"\r\n")
        link.request_line = request_line.decode("latin-1")
        link.request = Response(b"HTTP/1.1 0 request\r\n" + rest)
        return link

    # Either role: an open connection on which the program echoes.

    def open(self, serve=(), connect=()):
        if self.role == "server":
            return self.upgrade(self.servers.get(*serve).port)
        link = self.connect(*connect)
        self.answer(link)
        return link

    def finish(self, link, *statuses):
        """After the end of the connection: in the client role the exit status of the program."""
        if self.role == "client":
            link.sock.close()
            link.process.expect_exit(self.deadline, *statuses)

    def closed(self, link, *codes, status=(0,)):
        event = link.expect_close(*codes)
        self.finish(link, *status)
        return event

    def fails(self, link, *codes):
        """The program gives up the connection with one of these codes."""
        event = link.expect_close(*codes)
        self.finish(link, 6)
        return event

    def done(self, link):
        """Ends an open connection in order."""
        link.close_with(1000)
        self.closed(link, 1000)

    def reset(self, link):
        hard_reset(link.sock)
