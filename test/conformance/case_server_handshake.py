"""The opening handshake as the server sees it, and plain HTTP beside it."""
import base64

from program import KEY, check_101, read_response, upgrade_request
from registry import SERVER, case
from wire import BINARY, TEXT, Failure, brief


def ask(t, request, *args):
    """Sends a request; the response, on a link that is still open."""
    link = t.dial(t.servers.get(*args).port)
    link.push(request)
    link.response = read_response(link)
    return link


def refused(t, request, *statuses):
    """The request is refused with one of the statuses, and no frame follows."""
    link = ask(t, request)
    response = link.response
    if response.status not in statuses:
        raise Failure(f"status {' or '.join(map(str, statuses))}", response.line)
    if response.all("sec-websocket-accept"):
        raise Failure("no accept value in a refusal", str(response.headers))
    return response


def port(t):
    return t.servers.get().port


def accepted(t, request, key=KEY):
    link = t.dial(port(t))
    link.push(request)
    response = link.response = read_response(link)
    check_101(response, key)
    link.alive()
    link.close_with(1000)
    link.expect_close(1000)
    return response


@case("upgrade/plain", "4.2.2", SERVER)
def plain(t):
    response = accepted(t, upgrade_request(port(t)))
    for name in ("sec-websocket-protocol", "sec-websocket-extensions"):
        if response.all(name):
            raise Failure(f"no {name} when none was offered", str(response.all(name)))


@case("upgrade/key-of-the-standard", "1.3", SERVER)
def standard_key(t):
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    response = accepted(t, upgrade_request(port(t), replace=[("Sec-WebSocket-Key", key.decode())]),
                        key)
    if response.one("sec-websocket-accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=":
        raise Failure("the accept value of section 1.3", response.one("sec-websocket-accept"))


@case("upgrade/accepts-{}", "4.2.1", SERVER, each=[
    ("upgrade-in-capitals", [("Upgrade", "WEBSOCKET")]),
    ("upgrade-in-mixed-case", [("Upgrade", "WebSocket")]),
    ("connection-in-lower-case", [("Connection", "upgrade")]),
    ("connection-in-capitals", [("Connection", "UPGRADE")]),
    ("keep-alive-first", [("Connection", "keep-alive, Upgrade")]),
    ("keep-alive-last", [("Connection", "Upgrade, keep-alive")]),
    ("connection-without-spaces", [("Connection", "keep-alive,Upgrade")]),
    ("connection-with-tabs", [("Connection", "keep-alive ,\tUpgrade ")]),
    ("host-by-name", [("Host", "localhost")]),
    ("key-surrounded-by-spaces", [("Sec-WebSocket-Key", "  " + KEY.decode() + "  ")])])
def accepts(t, changes):
    accepted(t, upgrade_request(port(t), replace=changes))


@case("upgrade/accepts-header-names-in-any-case", "4.2.1", SERVER)
def header_case(t):
    request = upgrade_request(port(t)).decode()
    line, rest = request.split("\r\n", 1)
    for change in (str.lower, str.upper):
        names = "\r\n".join(
            change(header.split(":", 1)[0]) + ":" + header.split(":", 1)[1] if ":" in header
            else header for header in rest.split("\r\n"))
        accepted(t, f"{line}\r\n{names}".encode())


@case("upgrade/accepts-{}", "4.2.1", SERVER, each=[
    ("unknown-headers", [("X-Anything", "at all"), ("Cookie", "a=b; c=d"),
                         ("User-Agent", "suite/1")]),
    ("several-connection-headers", [("Connection", "keep-alive")]),
    ("own-origin", None), ("an-empty-header", [("X-Empty", "")]),
    ("unknown-extension", [("Sec-WebSocket-Extensions", "x-unheard-of; a=1, x-other")]),
    ("many-headers", [(f"X-Header-{number}", "v" * 20) for number in range(40)])])
def accepts_extra(t, extra):
    if extra is None:
        extra = [("Origin", f"http://127.0.0.1:{port(t)}")]
    response = accepted(t, upgrade_request(port(t), extra=extra))
    if response.all("sec-websocket-extensions"):
        raise Failure("no extension that was not offered", str(response.headers))


@case("upgrade/accepts-query", "4.2.1", SERVER)
def query(t):
    accepted(t, upgrade_request(port(t), "/echo?token=a%20b&x=/y"))


@case("upgrade/accepts-absolute-target", "4.1", SERVER)
def absolute_target(t):
    accepted(t, upgrade_request(port(t), f"http://127.0.0.1:{port(t)}/echo"))


@case("upgrade/subprotocol-only-from-the-offer", "4.2.2", SERVER)
def subprotocol(t):
    response = accepted(t, upgrade_request(
        port(t), extra=[("Sec-WebSocket-Protocol", "first.example, second.example")]))
    chosen = response.all("sec-websocket-protocol")
    if chosen not in ([], ["first.example"], ["second.example"]):
        raise Failure("none or one of the two that were offered", str(chosen))


@case("upgrade/refuses-{}", "4.2.1", SERVER, each=[
    ("no-host", ("host",), [], (400,)),
    ("no-upgrade", ("upgrade",), [], (400, 404, 426)),
    ("upgrade-to-something-else", (), [("Upgrade", "h2c")], (400, 404, 426)),
    ("upgrade-that-only-begins-right", (), [("Upgrade", "websockets")], (400, 404, 426)),
    ("no-connection", ("connection",), [], (400, 404, 426)),
    ("connection-close", (), [("Connection", "close")], (400, 404, 426)),
    ("connection-keep-alive", (), [("Connection", "keep-alive")], (400, 404, 426)),
    ("connection-upgraded", (), [("Connection", "upgraded")], (400, 404, 426)),
    ("no-version", ("sec-websocket-version",), [], (400, 426)),
    ("no-key", ("sec-websocket-key",), [], (400,)),
    ("empty-key", (), [("Sec-WebSocket-Key", "")], (400,)),
    ("key-of-15-bytes", (), [("Sec-WebSocket-Key", base64.b64encode(b"x" * 15).decode())], (400,)),
    ("key-of-17-bytes", (), [("Sec-WebSocket-Key", base64.b64encode(b"x" * 17).decode())], (400,)),
    ("key-of-24-bytes", (), [("Sec-WebSocket-Key", base64.b64encode(b"x" * 24).decode())], (400,)),
    ("key-not-base64", (), [("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!==")], (400,)),
    ("key-without-padding", (), [("Sec-WebSocket-Key", KEY.decode().rstrip("="))], (400,))])
def refuses(t, drop, replace, statuses):
    refused(t, upgrade_request(port(t), drop=drop, replace=replace), *statuses)


@case("upgrade/version-{}-gets-426", "4.4", SERVER, each=[
    ("0", "0"), ("7", "7"), ("8", "8"), ("12", "12"), ("14", "14"), ("255", "255"),
    ("word", "thirteen"), ("130", "130"), ("negative", "-13")])
def wrong_version(t, version):
    request = upgrade_request(port(t), replace=[("Sec-WebSocket-Version", version)])
    response = refused(t, request, 426)
    if "13" not in response.tokens("sec-websocket-version"):
        raise Failure("Sec-WebSocket-Version: 13 in the answer", str(response.headers))


@case("upgrade/refuses-two-{}", "4.2.1", SERVER, each=[
    ("keys", "Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA==", (400,)),
    ("hosts", "Host", "other.example", (400,)),
    ("versions", "Sec-WebSocket-Version", "8", (400, 426))])
def twice(t, name, value, statuses):
    refused(t, upgrade_request(port(t), extra=[(name, value)]), *statuses)


@case("upgrade/refuses-method-{}", "4.1", SERVER,
      each=["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def method(t, name):
    refused(t, upgrade_request(port(t), line=f"{name} /echo HTTP/1.1"), 400, 405, 501)


@case("upgrade/refuses-method-in-lower-case", "4.1", SERVER)
def lower_case_method(t):
    refused(t, upgrade_request(port(t), line="get /echo HTTP/1.1"), 400, 405, 501)


@case("upgrade/refuses-http-1.0", "4.1", SERVER)
def http10(t):
    refused(t, upgrade_request(port(t), line="GET /echo HTTP/1.0"), 400, 404, 405, 426, 505)


@case("upgrade/refuses-unknown-path", "4.2.2", SERVER)
def unknown_path(t):
    refused(t, upgrade_request(port(t), "/no-such-place"), 404)


@case("upgrade/refuses-foreign-origin", "10.2", SERVER)
def foreign_origin(t):
    refused(t, upgrade_request(port(t), extra=[("Origin", "http://elsewhere.example")]), 403)


# Requests that are not HTTP.

@case("request/refuses-{}", "4.2.1", SERVER, each=[
    ("words", b"hello there, this is not HTTP\r\n\r\n"),
    ("binary", bytes(range(256)) * 2 + b"\r\n\r\n"),
    ("empty-lines-and-words", b"\r\n\r\nnothing\r\n\r\n"),
    ("tls-hello", bytes.fromhex("160301002a0100002603034b0d9c") + b"\x17" * 33 + b"\r\n\r\n"),
    ("a-frame", b"\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e\r\n\r\n"),
    ("unknown-http-version", b"GET /echo HTTP/9.9\r\nHost: a\r\n\r\n"),
    ("no-version-at-all", b"GET /echo\r\nHost: a\r\n\r\n"),
    ("version-word", b"GET /echo HTTX/1.1\r\nHost: a\r\n\r\n"),
    ("space-in-target", b"GET /ec ho HTTP/1.1\r\nHost: a\r\n\r\n")])
def not_http(t, request):
    refused(t, request, 400, 405, 501, 505)


@case("request/refuses-header-{}", "4.2.1", SERVER, each=[
    ("without-colon", b"X-Header without colon"),
    ("with-space-before-colon", b"X-Header : value"), ("without-name", b": value"),
    ("with-control-byte-in-name", b"X-\x01Bad: value"), ("with-zero-byte", b"X-Zero: a\0b"),
    ("with-bare-carriage-return", b"X-Bare: a\rb: c"), ("with-space-in-name", b"X Bad: value")])
def bad_header(t, line):
    request = upgrade_request(port(t))
    refused(t, request[:-2] + line + b"\r\n\r\n", 400)


@case("request/folded-header", "4.2.1", SERVER)
def folded_header(t):
    """Of the two things that a server may do with a folded header (RFC 9112, section 5.2) the program
    refuses the request: what another server reads there may be something else."""
    for fold in ("\r\n ", "\r\n\t", " \r\n  \t"):
        refused(t, upgrade_request(port(t), replace=[("Connection", f"keep-alive,{fold}Upgrade")]), 400)


@case("request/header-{}-gets-431", "10.4", SERVER, each=[
    ("value-of-1-mib", b"X-Large: " + b"v" * (1 << 20)),
    ("many-lines", b"\r\n".join(b"X-Line-%d: %s" % (n, b"v" * 100) for n in range(10000))),
    ("that-never-ends", None)])
def header_too_large(t, lines):
    request = upgrade_request(port(t))[:-2]
    if lines is None:
        request += b"X-Endless: " + b"e" * (2 << 20)
    else:
        request += lines + b"\r\n\r\n"
    refused(t, request, 431)


@case("request/target-too-long", "10.4", SERVER)
def target_too_long(t):
    refused(t, upgrade_request(port(t), "/echo?" + "q" * (1 << 20)), 400, 414, 431)


# Segmentation of the handshake.

@case("upgrade/first-frame-in-the-same-segment", "4.2.2", SERVER)
def pipelined(t):
    link = t.dial(port(t))
    link.push(upgrade_request(port(t)) + link.frame(TEXT, b"early") + link.frame(BINARY, b"bird"))
    check_101(read_response(link))
    link.expect_echo("early")
    link.expect_echo(b"bird", "binary")
    link.close_with(1000)
    link.expect_close(1000)


@case("upgrade/large-first-message-in-the-same-segment", "4.2.2", SERVER)
def pipelined_large(t):
    link = t.dial(port(t))
    link.push(upgrade_request(port(t)) + link.frame(TEXT, b"e" * 300000))
    check_101(read_response(link))
    link.expect_echo(b"e" * 300000)
    link.close_with(1000)
    link.expect_close(1000)


@case("upgrade/part-of-a-frame-in-the-same-segment", "4.2.2", SERVER)
def pipelined_part(t):
    for cut in range(1, 11):
        link = t.dial(port(t))
        whole = link.frame(TEXT, b"early")
        link.push(upgrade_request(port(t)) + whole[:cut])
        check_101(read_response(link))
        link.push(whole[cut:])
        link.expect_echo("early")
        link.close_with(1000)
        link.expect_close(1000)


@case("upgrade/cut-at-every-byte", "4.2.1", SERVER, scale=3)
def cut_everywhere(t):
    request = upgrade_request(port(t))
    for at in range(1, len(request)):
        link = t.dial(port(t))
        link.push_cut(request + link.frame(TEXT, b"after"), at)
        check_101(read_response(link))
        link.expect_echo("after")
        link.close_with(1000)
        link.expect_close(1000)


@case("upgrade/byte-by-byte", "4.2.1", SERVER)
def byte_by_byte(t):
    request = upgrade_request(port(t))
    link = t.dial(port(t))
    link.push_cut(request, *range(1, len(request)))
    check_101(read_response(link))
    link.alive()
    link.close_with(1000)
    link.expect_close(1000)


@case("request/refusal-byte-by-byte", "4.2.1", SERVER)
def refusal_byte_by_byte(t):
    request = upgrade_request(port(t), drop=("sec-websocket-key",))
    link = t.dial(port(t))
    link.push_cut(request, *range(1, len(request)))
    response = read_response(link)
    if response.status != 400:
        raise Failure("status 400", response.line)


# Plain HTTP.

@case("http/page", "1.7", SERVER)
def page(t):
    link = ask(t, f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port(t)}\r\n\r\n".encode())
    if link.response.status != 200 or not link.response.body.strip():
        raise Failure("status 200 and a page", f"{link.response.line} {brief(link.response.body)}")


@case("http/page-closes-when-asked", "1.7", SERVER)
def page_close(t):
    link = ask(t, f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port(t)}\r\n"
                  "Connection: close\r\n\r\n".encode())
    if link.response.status != 200:
        raise Failure("status 200", link.response.line)
    while link.more("the end"):
        pass
    if link.end != "closed" or link.inbox:
        raise Failure("an orderly end after the page", f"{link.end}, {brief(link.inbox)}")


@case("http/unknown-path", "1.7", SERVER)
def page_unknown(t):
    refused(t, f"GET /nothing/here HTTP/1.1\r\nHost: 127.0.0.1:{port(t)}\r\n\r\n".encode(), 404)


@case("http/upgrade-after-refusal-on-a-new-connection", "4.2.2", SERVER)
def after_refusals(t):
    for _ in range(20):
        refused(t, upgrade_request(port(t), drop=("sec-websocket-key",)), 400)
    accepted(t, upgrade_request(port(t)))
