"""permessage-deflate: the negotiation, in both roles (RFC 7692, sections 5 and 7.1)."""
import os
import zlib

from deflate import (NAME, ON, TEXT_SAMPLE, agree, client_offer, deflate, must, offer, owed,
                     packed_echo, parse, started, written)
from program import check_101, read_response, upgrade_request
from registry import CLIENT, SERVER, case
from wire import BINARY, TEXT, Failure, brief


# Negotiation, server.

@case("deflate/off-by-default", "7692-5", SERVER)
def off_by_default(t):
    link = offer(t, NAME, serve=())
    if link.agreed is not None:
        raise Failure("declined", str(link.agreed))
    link.send(TEXT, deflate(b"hello"), rsv=4)
    t.fails(link, 1002)


@case("deflate/off-when-told", "7692-5", SERVER)
def off_when_told(t):
    if offer(t, NAME, serve=("--compression", "off")).agreed is not None:
        raise Failure("declined", "agreed")


@case("deflate/not-offered", "7692-5", SERVER)
def not_offered(t):
    link = t.upgrade(t.servers.get(*ON).port)
    if link.response.all("sec-websocket-extensions"):
        raise Failure("no extension", str(link.response.headers))
    link.text(TEXT_SAMPLE)
    link.expect_echo(TEXT_SAMPLE)
    link.send(TEXT, deflate(b"hello"), rsv=4)
    t.fails(link, 1002)


@case("deflate/offer-{}", "7692-7.1", SERVER, each=[
    ("plain", NAME), ("server-no-context-takeover", f"{NAME}; server_no_context_takeover"),
    ("client-no-context-takeover", f"{NAME}; client_no_context_takeover"),
    ("both-no-context-takeover",
     f"{NAME}; server_no_context_takeover; client_no_context_takeover"),
    ("client-window-open", f"{NAME}; client_max_window_bits"),
    *[(f"client-window-{bits}", f"{NAME}; client_max_window_bits={bits}") for bits in range(8, 16)],
    *[(f"server-window-{bits}", f"{NAME}; server_max_window_bits={bits}") for bits in range(8, 16)],
    ("all", f"{NAME}; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=11; client_max_window_bits=12"),
    ("without-spaces", f"{NAME};server_no_context_takeover;client_max_window_bits"),
    ("quoted", f'{NAME}; server_max_window_bits="10"')])
def offers(t, value):
    """Every one of these can be agreed to. The answer fits the offer, and messages decode within what
    was agreed."""
    link = must(offer(t, value))
    asked = parse([value])[0][1]
    if "server_no_context_takeover" in asked and "server_no_context_takeover" not in link.agreed:
        raise Failure("server_no_context_takeover in the answer", str(link.agreed))
    if "server_max_window_bits" in asked:
        limit = int(asked["server_max_window_bits"])
        if "server_max_window_bits" not in link.agreed or link.inflate_bits > limit:
            raise Failure(f"server_max_window_bits up to {limit}", str(link.agreed))
    if "client_max_window_bits" in link.agreed:
        if "client_max_window_bits" not in asked:
            raise Failure("no client_max_window_bits, it was not offered", str(link.agreed))
        if link.send_bits > int(asked["client_max_window_bits"] or 15):
            raise Failure("client_max_window_bits within the offer", str(link.agreed))
    far = os.urandom(3000)
    for data in (TEXT_SAMPLE, far + far + far, b"", b"x", TEXT_SAMPLE * 100, TEXT_SAMPLE):
        packed_echo(link, data, BINARY)
    if not link.compressed_seen:
        raise Failure("at least one compressed answer", "none")
    t.done(link)


@case("deflate/declines-{}", "7692-7.1", SERVER, each=[
    ("unknown-parameter", f"{NAME}; unheard_of"),
    ("unknown-parameter-with-value", f"{NAME}; server_max_windows=10"),
    ("server-window-7", f"{NAME}; server_max_window_bits=7"),
    ("server-window-16", f"{NAME}; server_max_window_bits=16"),
    ("server-window-0", f"{NAME}; server_max_window_bits=0"),
    ("server-window-word", f"{NAME}; server_max_window_bits=ten"),
    ("server-window-leading-zero", f"{NAME}; server_max_window_bits=010"),
    ("server-window-negative", f"{NAME}; server_max_window_bits=-10"),
    ("server-window-huge", f"{NAME}; server_max_window_bits=4294967306"),
    ("server-window-empty", f"{NAME}; server_max_window_bits="),
    ("server-window-open", f"{NAME}; server_max_window_bits"),
    ("client-window-7", f"{NAME}; client_max_window_bits=7"),
    ("client-window-16", f"{NAME}; client_max_window_bits=16"),
    ("client-window-leading-zero", f"{NAME}; client_max_window_bits=09"),
    ("server-takeover-with-value", f"{NAME}; server_no_context_takeover=1"),
    ("client-takeover-with-value", f"{NAME}; client_no_context_takeover=true"),
    ("parameter-twice", f"{NAME}; server_no_context_takeover; server_no_context_takeover"),
    ("window-twice", f"{NAME}; client_max_window_bits=10; client_max_window_bits=11"),
    ("similar-name", "permessage-deflated"), ("older-name", "x-webkit-deflate-frame")])
def declines(t, value):
    """A bad offer is declined (or the upgrade refused); it is never agreed."""
    port = t.servers.get(*ON).port
    link = t.dial(port)
    link.push(upgrade_request(port, extra=[("Sec-WebSocket-Extensions", value)]))
    response = read_response(link)
    if response.status == 400:
        return
    check_101(response)
    if response.all("sec-websocket-extensions"):
        raise Failure("declined", str(response.all("sec-websocket-extensions")))
    link.alive()
    t.done(link)


@case("deflate/second-offer-{}", "7692-5", SERVER, each=[
    ("in-one-header", (f"{NAME}; unheard_of, {NAME}; client_max_window_bits",)),
    ("in-two-headers", (f"{NAME}; unheard_of", NAME)),
    ("after-another-extension", (f"x-other; a=1, {NAME}",)),
    ("after-a-bad-window", (f"{NAME}; server_max_window_bits=99, {NAME}",))])
def second_offer(t, values):
    link = must(offer(t, *values))
    packed_echo(link, TEXT_SAMPLE)
    t.done(link)


# Negotiation, client.

@case("deflate/client-offers", "7692-5", CLIENT)
def client_offers(t):
    link = started(t)
    link.send(TEXT, deflate(TEXT_SAMPLE), rsv=4)
    link.expect_echo(TEXT_SAMPLE)
    if not link.compressed_seen:
        raise Failure("a compressed answer", "a plain one")
    t.done(link)


@case("deflate/client-off-{}", "7692-5", CLIENT, each=[("by-default", ()),
                                                        ("when-told", ("--compression", "off"))])
def client_off(t, arguments):
    link = t.connect(*arguments)
    if link.request.all("sec-websocket-extensions"):
        raise Failure("no offer", str(link.request.all("sec-websocket-extensions")))
    t.answer(link)
    link.send(TEXT, deflate(b"hello"), rsv=4)
    t.fails(link, 1002)


@case("deflate/client-accepts-declined", "7692-5", CLIENT)
def client_declined(t):
    link = t.connect(*ON)
    client_offer(link)
    t.answer(link)
    link.text(TEXT_SAMPLE)
    link.expect_echo(TEXT_SAMPLE)
    link.send(TEXT, deflate(b"hello"), rsv=4)
    t.fails(link, 1002)


@case("deflate/client-accepts-{}", "7692-7.1", CLIENT, each=[
    ("server-no-context-takeover", "server_no_context_takeover"),
    ("client-no-context-takeover", "client_no_context_takeover"),
    *[(f"client-window-{bits}", f"client_max_window_bits={bits}") for bits in range(8, 16)],
    *[(f"server-window-{bits}", f"server_max_window_bits={bits}") for bits in range(8, 16)]])
def client_accepts(t, parameter):
    link = t.connect(*ON)
    offered = client_offer(link)
    name, _, value = parameter.partition("=")
    parameters = {**owed(offered), name: value or None}
    if name == "client_max_window_bits" and name not in offered:
        # Not offered, so not allowed: then the answer must be refused.
        t.answer(link, [("Sec-WebSocket-Extensions", NAME + written(parameters))])
        return client_refuses_now(t, link)
    agree(t, link, parameters)
    far = os.urandom(3000)
    packer = None
    if link.keep_window:
        packer = zlib.compressobj(6, zlib.DEFLATED, -max(9, link.send_bits))
    for data in (TEXT_SAMPLE, far * 3, TEXT_SAMPLE * 100, TEXT_SAMPLE):
        packed_echo(link, data, BINARY, packer)
    if not link.compressed_seen:
        raise Failure("a compressed message", "none")
    t.done(link)


def client_refuses_now(t, link):
    while link.more("the client to give up"):
        pass
    if link.inbox:
        raise Failure("nothing sent on a refused connection", brief(link.inbox))
    link.sock.close()
    link.process.expect_exit(t.deadline, 3, 6)


@case("deflate/client-refuses-{}", "7692-7.1", CLIENT, each=[
    ("unknown-parameter", "{}; unheard_of"), ("server-window-7", "{}; server_max_window_bits=7"),
    ("server-window-16", "{}; server_max_window_bits=16"),
    ("server-window-open", "{}; server_max_window_bits"),
    ("client-window-open", "{}; client_max_window_bits"),
    ("client-window-16", "{}; client_max_window_bits=16"),
    ("takeover-with-value", "{}; client_no_context_takeover=1"),
    ("parameter-twice", "{}; client_no_context_takeover; client_no_context_takeover"),
    ("another-extension", "x-other"), ("twice", "{0}, {0}"), ("one-more-extension", "{}, x-other")])
def client_refuses(t, template):
    """Each of these answers would be fine but for the one thing its name says."""
    link = t.connect(*ON)
    good = NAME + written(owed(client_offer(link)))
    t.answer(link, [("Sec-WebSocket-Extensions", template.format(good))])
    client_refuses_now(t, link)


@case("deflate/client-refuses-answer-without-what-it-asked", "7692-7.1.1.1", CLIENT)
def client_refuses_ignored_request(t):
    """A server accepts an offer with server_no_context_takeover by having it in its answer. Without
    it the server may refer to a window that this client does not keep."""
    link = t.connect(*ON)
    if "server_no_context_takeover" not in client_offer(link):
        raise Failure("an offer of server_no_context_takeover", str(client_offer(link)))
    t.answer(link, [("Sec-WebSocket-Extensions", NAME)])
    client_refuses_now(t, link)
