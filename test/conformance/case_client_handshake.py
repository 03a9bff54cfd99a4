"""The opening handshake as the client sees it: its request, and the answers it must refuse."""
import base64
import subprocess

from registry import CLIENT, case
from wire import BINARY, TEXT, Failure, brief, hard_reset

# Refused by an HTTP status, or an answer that breaks the protocol.
REFUSED = (3,)
BROKEN = (3, 6)


def rejects(t, link, statuses):
    """The client gives up: it sends nothing more, ends the connection and exits in time."""
    while link.more("the client to give up"):
        pass
    if link.inbox:
        raise Failure("nothing sent on a refused connection", brief(link.inbox))
    link.sock.close()
    link.process.expect_exit(t.deadline, *statuses)


# The request.

@case("request/shape", "4.1", CLIENT)
def shape(t):
    link = t.connect(path="/some/path?and=query%20too")
    request = link.request
    if link.request_line != "GET /some/path?and=query%20too HTTP/1.1":
        raise Failure("the path and query as given", link.request_line)
    if request.one("host") != f"127.0.0.1:{link.port}":
        raise Failure("the host with its port", request.one("host"))
    if request.one("upgrade").lower() != "websocket":
        raise Failure("Upgrade: websocket", request.one("upgrade"))
    if "upgrade" not in request.tokens("connection"):
        raise Failure("Connection: Upgrade", str(request.all("connection")))
    if request.one("sec-websocket-version") != "13":
        raise Failure("version 13", request.one("sec-websocket-version"))
    for name in ("sec-websocket-protocol", "sec-websocket-extensions"):
        if request.all(name):
            raise Failure(f"no {name} unless asked for", str(request.all(name)))
    if link.inbox:
        raise Failure("nothing sent before the answer", brief(link.inbox))
    t.answer(link)
    link.alive()
    t.done(link)


@case("request/empty-path", "4.1", CLIENT)
def empty_path(t):
    link = t.connect(path="")
    if link.request_line != "GET / HTTP/1.1":
        raise Failure("GET / HTTP/1.1", link.request_line)
    t.answer(link)
    t.done(link)


@case("request/query-without-path", "4.1", CLIENT)
def query_without_path(t):
    link = t.connect(path="?a=b")
    if link.request_line != "GET /?a=b HTTP/1.1":
        raise Failure("GET /?a=b HTTP/1.1", link.request_line)
    t.answer(link)
    t.done(link)


@case("request/keys-are-16-bytes-and-new", "4.1", CLIENT)
def keys(t):
    seen = set()
    for _ in range(4):
        link = t.connect()
        key = base64.b64decode(link.request.one("sec-websocket-key"), validate=True)
        if len(key) != 16:
            raise Failure("a key of 16 bytes", str(len(key)))
        seen.add(key)
        t.answer(link)
        t.done(link)
    if len(seen) != 4:
        raise Failure("a new key for each connection", f"{len(seen)} of 4")


@case("request/headers-of-the-command-line", "4.1", CLIENT)
def headers(t):
    link = t.connect("--header", "X-First: one", "--header", "Authorization: Bearer abc")
    if link.request.one("x-first") != "one" or link.request.one("authorization") != "Bearer abc":
        raise Failure("both headers", str(link.request.headers))
    t.answer(link)
    t.done(link)


@case("request/subprotocols-in-order", "4.1", CLIENT)
def subprotocols(t):
    link = t.connect("--subprotocol", "first.example", "--subprotocol", "second.example")
    offered = link.request.tokens("sec-websocket-protocol")
    if offered != ["first.example", "second.example"]:
        raise Failure("both subprotocols in order", str(offered))
    t.answer(link, [("Sec-WebSocket-Protocol", "second.example")])
    link.alive()
    t.done(link)


@case("answer/offered-subprotocol-not-chosen", "4.1", CLIENT)
def subprotocol_not_chosen(t):
    """A server may choose none; whether the client goes on is its own affair, but in order."""
    link = t.connect("--subprotocol", "first.example")
    t.answer(link)
    link.close_with(1000)
    if link.next_event()[0] not in ("close", "end"):
        raise Failure("a close or the end", "something else")
    link.sock.close()
    link.process.expect_exit(t.deadline, 0, 3, 6)


# Answers that are fine.

@case("answer/accepts-{}", "4.1", CLIENT, each=[
    ("capitals", b"101 X", [b"UPGRADE: WEBSOCKET", b"CONNECTION: UPGRADE",
                            b"SEC-WEBSOCKET-ACCEPT: %s"]),
    ("lower-case", b"101 x", [b"upgrade: websocket", b"connection: upgrade",
                              b"sec-websocket-accept: %s"]),
    ("connection-list", b"101 x", [b"Upgrade: websocket", b"Connection: keep-alive, Upgrade",
                                   b"Sec-WebSocket-Accept: %s"]),
    ("extra-headers", b"101 x", [b"Server: suite", b"Upgrade: websocket", b"Connection: Upgrade",
                                 b"Sec-WebSocket-Accept: %s", b"X-Other: y"]),
    # RFC 9112, section 5.2: a user agent must replace a fold by spaces.
    ("folded-header", b"101 x", [b"Upgrade: websocket", b"Connection: keep-alive,\r\n Upgrade",
                                 b"Sec-WebSocket-Accept: %s"]),
    ("no-reason-phrase", b"101 ", [b"Upgrade: websocket", b"Connection: Upgrade",
                                   b"Sec-WebSocket-Accept: %s"]),
    ("value-spaces", b"101 x", [b"Upgrade:websocket", b"Connection:Upgrade  ",
                                b"Sec-WebSocket-Accept:   %s  "])])
def good_answer(t, status, lines):
    link = t.connect()
    right = t.response_bytes(link).split(b"Sec-WebSocket-Accept: ")[1].split(b"\r\n")[0]
    link.push((b"HTTP/1.1 " + b"\r\n".join([status, *lines]) + b"\r\n\r\n") % right)
    link.alive()
    t.done(link)


@case("answer/frames-in-the-same-segment", "4.1", CLIENT)
def pipelined(t):
    link = t.connect()
    link.push(t.response_bytes(link) + link.frame(TEXT, b"early") + link.frame(BINARY, b"bird"))
    link.expect_echo("early")
    link.expect_echo(b"bird", "binary")
    t.done(link)


@case("answer/part-of-a-frame-in-the-same-segment", "4.1", CLIENT)
def pipelined_part(t):
    for cut in range(1, 7):
        link = t.connect()
        whole = link.frame(TEXT, b"early")
        link.push(t.response_bytes(link) + whole[:cut])
        link.settle()
        link.push(whole[cut:])
        link.expect_echo("early")
        t.done(link)


@case("answer/close-in-the-same-segment", "4.1", CLIENT)
def closed_at_once(t):
    link = t.connect()
    link.sent_close = True
    link.push(t.response_bytes(link) + link.frame(8, b"\x03\xe8"))
    t.closed(link, 1000)


@case("answer/byte-by-byte", "4.1", CLIENT)
def byte_by_byte(t):
    link = t.connect()
    answer = t.response_bytes(link)
    link.push_cut(answer, *range(1, len(answer)))
    link.alive()
    t.done(link)


@case("answer/cut-at-every-byte", "4.1", CLIENT, scale=6)
def cut_everywhere(t):
    at, size = 1, 2
    while at < size:
        link = t.connect()
        answer = t.response_bytes(link) + link.frame(TEXT, b"after")
        size = len(answer)
        link.push_cut(answer, at)
        link.expect_echo("after")
        t.done(link)
        at += 1


@case("answer/input-at-its-end", "4.1", CLIENT)
def no_input(t):
    """`--echo` goes on until the peer closes, also when there is no standard input."""
    link = t.connect(stdin=subprocess.DEVNULL)
    t.answer(link)
    link.alive()
    link.alive()
    t.done(link)


# Answers that must be refused.

@case("answer/refuses-status-{}", "4.1", CLIENT, each=[200, 204, 400, 401, 403, 404, 426, 429, 500,
                                                         503])
def status(t, code):
    link = t.connect()
    link.push(b"HTTP/1.1 %d Something\r\nContent-Length: %d\r\n\r\n%s"
              % (code, 0 if code == 204 else 9, b"" if code == 204 else b"some body"))
    rejects(t, link, REFUSED)


@case("answer/refuses-redirect", "4.1", CLIENT)
def redirect(t):
    """One that leads to a WebSocket is followed; this one does not."""
    link = t.connect()
    link.push(b"HTTP/1.1 302 Found\r\nLocation: ftp://elsewhere/\r\nContent-Length: 0\r\n\r\n")
    rejects(t, link, REFUSED)


@case("answer/refuses-refusal-with-all-headers-of-101", "4.1", CLIENT)
def refusal_like_101(t):
    link = t.connect()
    t.answer(link, status="403 Forbidden", headers=[("Content-Length", "0")])
    rejects(t, link, REFUSED)


@case("answer/refuses-accept-{}", "4.1", CLIENT, each=[
    ("of-another-key", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), ("word", b"yes"),
    ("too-long", b"A" * 27 + b"==" * 40)])
def wrong_accept(t, value):
    link = t.connect()
    t.answer(link, accept=value)
    rejects(t, link, BROKEN)


@case("answer/refuses-accept-in-wrong-case", "4.1", CLIENT)
def accept_case(t):
    link = t.connect()
    right = t.response_bytes(link).split(b"Sec-WebSocket-Accept: ")[1].split(b"\r\n")[0]
    t.answer(link, accept=right.swapcase())
    rejects(t, link, BROKEN)


@case("answer/refuses-without-{}", "4.1", CLIENT, each=[
    ("upgrade", b"Upgrade: websocket\r\n"), ("connection", b"Connection: Upgrade\r\n"),
    ("accept", None)])
def missing_header(t, line):
    link = t.connect()
    answer = t.response_bytes(link)
    if line is None:
        line = next(row for row in answer.splitlines(True) if row.startswith(b"Sec-WebSocket-A"))
    link.push(answer.replace(line, b""))
    rejects(t, link, BROKEN)


@case("answer/refuses-{}", "4.1", CLIENT, each=[
    ("upgrade-to-something-else", b"Upgrade: websocket", b"Upgrade: h2c"),
    ("connection-without-upgrade", b"Connection: Upgrade", b"Connection: keep-alive"),
    ("http-2-status-line", b"HTTP/1.1 101", b"HTTP/2.0 101"),
    ("broken-status-line", b"HTTP/1.1 101", b"HTTP/1.1 one-hundred-one"),
    ("header-without-colon", b"Upgrade: websocket", b"X-No colon\r\nUpgrade: websocket"),
    ("unasked-subprotocol", b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
    ("unasked-extension", b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x-new\r\n\r\n"),
    ("unasked-compression", b"\r\n\r\n",
     b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")])
def changed_answer(t, old, new):
    link = t.connect()
    link.push(t.response_bytes(link).replace(old, new))
    rejects(t, link, BROKEN)


@case("answer/refuses-subprotocol-{}", "4.1", CLIENT, each=[
    ("not-offered", [("Sec-WebSocket-Protocol", "third.example")]),
    ("in-another-case", [("Sec-WebSocket-Protocol", "FIRST.example")]),
    ("list", [("Sec-WebSocket-Protocol", "first.example, second.example")]),
    ("twice", [("Sec-WebSocket-Protocol", "first.example"),
               ("Sec-WebSocket-Protocol", "second.example")])])
def wrong_subprotocol(t, headers):
    link = t.connect("--subprotocol", "first.example", "--subprotocol", "second.example")
    t.answer(link, headers)
    rejects(t, link, BROKEN)


@case("answer/refuses-garbage-{}", "4.1", CLIENT, each=[
    ("words", b"hello, I am not a web server\r\n\r\n"),
    ("binary", bytes(range(256)) * 4 + b"\r\n\r\n"),
    ("a-frame", b"\x81\x05hello\r\n\r\n"), ("ssh", b"SSH-2.0-OpenSSH_9\r\n\r\n")])
def garbage(t, data):
    link = t.connect()
    link.push(data)
    rejects(t, link, BROKEN)


@case("answer/refuses-endless-header", "10.4", CLIENT)
def endless_header(t):
    link = t.connect()
    link.push(b"HTTP/1.1 101 x\r\nX-Endless: " + b"e" * (4 << 20))
    rejects(t, link, BROKEN)


@case("answer/refuses-endless-body-of-a-refusal", "10.4", CLIENT)
def endless_body(t):
    """The body of a refusal is of interest only at its start."""
    link = t.connect()
    link.push(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000000\r\n\r\n" + b"e" * (4 << 20))
    rejects(t, link, REFUSED)


@case("answer/end-{}", "4.1", CLIENT, each=[("at-once", b""), ("in-the-line", b"HTTP/1.1 1"),
                                              ("in-the-headers", b"HTTP/1.1 101 x\r\nUpgr")])
def end_early(t, data):
    link = t.connect()
    link.push(data)
    link.half_close()
    rejects(t, link, (1, 3, 6))


@case("answer/reset-{}", "4.1", CLIENT, each=[("at-once", b""),
                                                ("in-the-headers", b"HTTP/1.1 101")])
def reset_early(t, data):
    link = t.connect()
    link.push(data)
    hard_reset(link.sock)
    link.process.expect_exit(t.deadline, 1, 3, 6)


@case("answer/never-{}", "4.1", CLIENT, each=[("anything", b""),
                                              ("the-end", b"HTTP/1.1 101 x\r\n")])
def never(t, data):
    link = t.connect("--timeout", "1s")
    link.push(data)
    rejects(t, link, (5,))


@case("connect/nobody-listens", "4.1", CLIENT)
def nothing_listens(t):
    listener, port = t.listen()
    listener.close()
    process = t.start("connect", f"ws://127.0.0.1:{port}/", "--echo")
    process.expect_exit(t.deadline, 3)
