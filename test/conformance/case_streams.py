"""Whole conversations, delivered in every segmentation: the answer must not depend on it. And
connections that break off at every step."""
import zlib

from program import check_101, read_response, upgrade_request
from registry import CLIENT, SERVER, case
from wire import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Failure, close_payload, frame,
                  hard_reset)

MASK = b"\x37\xfa\x21\x3d"


def packed(data):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


# name: (frames as (opcode, payload, fin, rsv), answers without the end, exit status of connect).
# A close or error makes what comes behind it irrelevant.
OK = ("close", 1000, b"bye")
STREAMS = {
    "conversation": (
        [(TEXT, b"Hello", True, 0), (BINARY, bytes(range(20)), True, 0), (PING, b"p1", True, 0),
         (TEXT, b"\xe2\x82", False, 0), (PONG, b"", True, 0), (CONTINUATION, b"\xac", True, 0),
         (TEXT, b"", True, 0), (CLOSE, close_payload(1000, b"bye"), True, 0)],
        [("text", b"Hello"), ("binary", bytes(range(20))), ("pong", b"p1"),
         ("text", b"\xe2\x82\xac"), ("text", b""), OK], 0),
    "length-126": ([(BINARY, b"m" * 126, True, 0), (CLOSE, close_payload(1000, b"bye"), True, 0)],
                   [("binary", b"m" * 126), OK], 0),
    "bad-opcode": ([(TEXT, b"Hello", True, 0), (3, b"abc", True, 0), (TEXT, b"late", True, 0)],
                   [("text", b"Hello"), ("close", 1002, b"")], 6),
    "bad-text": ([(TEXT, b"ok", True, 0), (TEXT, b"a\xed\xa0\x80b", True, 0), (PING, b"", True, 0)],
                 [("text", b"ok"), ("close", 1007, b"")], 6),
    "bad-reserved-bit": ([(TEXT, b"ok", True, 0), (TEXT, b"a", True, 2)],
                         [("text", b"ok"), ("close", 1002, b"")], 6),
    "bad-continuation": ([(CONTINUATION, b"a", True, 0), (TEXT, b"late", True, 0)],
                         [("close", 1002, b"")], 6),
    "bad-close": ([(CLOSE, close_payload(1005), True, 0), (TEXT, b"late", True, 0)],
                  [("close", 1002, b"")], 6),
    "long-ping": ([(PING, b"x" * 126, True, 0)], [("close", 1002, b"")], 6),
}


def stream_bytes(rows, mask):
    return b"".join(frame(opcode, payload, fin=fin, rsv=rsv, mask=mask)
                    for opcode, payload, fin, rsv in rows)


def ordered(events):
    """Control answers may overtake messages, so each kind is compared in its own order. A message
    that an error overtook need not have been answered."""
    failed = any(event[0] == "close" and event[1] in (1002, 1007) for event in events)
    messages = [event for event in events if event[0] in ("text", "binary")]
    others = [event[:2] for event in events if event[0] not in ("text", "binary")]
    return others, [] if failed else messages


def judge(t, link, rows, expected, status, how):
    events = link.transcript()
    wanted = ordered([*expected, ("end",)])
    # Whether messages right before a close frame are still answered is left to the endpoint.
    got = ordered(events)
    complete = got[1] == wanted[1] or got[1] == wanted[1][:len(got[1])]
    if got[0] != wanted[0] or not complete:
        raise Failure(f"{expected} {how}", str(events))
    t.finish(link, status)


def opened(t):
    link = t.open()
    link.sent_close = True
    return link


@case("stream/{}-whole", "5.2", each=[(name, *row) for name, row in STREAMS.items()])
def whole(t, rows, expected, status):
    link = opened(t)
    link.push(stream_bytes(rows, MASK if link.masks else None))
    judge(t, link, rows, expected, status, "in one segment")


@case("stream/{}-byte-by-byte", "5.2", each=[(name, *row) for name, row in STREAMS.items()])
def byte_by_byte(t, rows, expected, status):
    link = opened(t)
    data = stream_bytes(rows, MASK if link.masks else None)
    link.push_cut(data, *range(1, len(data)))
    judge(t, link, rows, expected, status, "byte by byte")


@case("stream/{}-cut-at-every-position", "5.2", scale=6,
      each=[(name, *row) for name, row in STREAMS.items()])
def cut_everywhere(t, rows, expected, status):
    size = len(stream_bytes(rows, MASK if t.role == "server" else None))
    for at in range(1, size):
        link = opened(t)
        link.push_cut(stream_bytes(rows, MASK if link.masks else None), at)
        judge(t, link, rows, expected, status, f"cut at {at}")


@case("stream/messages-answered-across-every-cut", "5.2", scale=2)
def messages_across_cuts(t):
    """One connection, one message for each way to cut it; every one must come back."""
    link = t.open()
    mask = MASK if link.masks else None
    for payload, opcode in ((b"Hello", TEXT), (b"m" * 130, BINARY), (b"", TEXT)):
        data = frame(opcode, payload[:3], fin=False, mask=mask) + frame(PING, b"p", mask=mask)
        data += frame(CONTINUATION, payload[3:], mask=mask)
        for at in range(1, len(data)):
            link.push_cut(data, at)
            seen = sorted([tuple(link.next_event()), tuple(link.next_event())])
            kind = "text" if opcode == TEXT else "binary"
            if seen != sorted([("pong", b"p"), (kind, payload)]):
                raise Failure(f"pong and {kind}, cut at {at}", str(seen))
    t.done(link)


@case("stream/large-frame-in-odd-pieces", "5.2")
def odd_pieces(t):
    link = t.open()
    payload = bytes(range(251)) * 400
    data = link.frame(BINARY, payload)
    for step in (1, 2, 3, 7, 13, 4093, 9973):
        cuts = range(1, min(40, len(data)), step) if step < 10 else range(step, len(data), step)
        link.push_cut(data, *cuts)
        link.expect_echo(payload, "binary")
    t.done(link)


@case("stream/coalesced", "5.2")
def coalesced(t):
    """Many frames of all sizes in one write, with lengths that fall on every boundary."""
    link = t.open()
    sizes = (*range(0, 300), 4096, 65536, 3, 20000, 0)
    payloads = [bytes([65 + size % 26]) * size for size in sizes]
    link.push(b"".join(link.frame(TEXT, payload) for payload in payloads))
    for payload in payloads:
        link.expect_echo(payload)
    t.done(link)


@case("stream/upgrade-and-conversation-in-one-segment", "4.2.2", SERVER)
def upgrade_and_conversation(t):
    rows, expected, status = STREAMS["conversation"]
    port = t.servers.get().port
    link = t.dial(port)
    link.sent_close = True
    link.push(upgrade_request(port) + stream_bytes(rows, MASK))
    check_101(read_response(link))
    judge(t, link, rows, expected, status, "behind the upgrade")


# Breaking off.

def break_off(t, how, data=b"", upgraded=True):
    port = t.servers.get().port
    link = t.upgrade(port) if upgraded else t.dial(port)
    link.push(data)
    if how == "reset":
        hard_reset(link.sock)
    else:
        link.sock.close()


STEPS = {
    "at-once": (b"", False),
    "in-the-request": (b"GET /echo HTTP/1.1\r\nHost: a\r\nUpg", False),
    "after-upgrade": (b"", True),
    "in-a-frame-head": (b"\x81", True),
    "in-a-16-bit-length": (b"\x82\xfe\x01", True),
    "in-a-64-bit-length": (b"\x82\xff\0\0\0\0\0", True),
    "in-a-mask": (b"\x81\x85\x01\x02", True),
    "in-a-payload": (frame(TEXT, b"Hello", mask=MASK)[:-2], True),
    "in-a-large-payload": (frame(BINARY, b"x" * 100000, mask=MASK)[:-2], True),
    "after-a-message": (frame(TEXT, b"Hello", mask=MASK), True),
    "after-many-messages": (frame(TEXT, b"Hello" * 100, mask=MASK) * 500, True),
    "in-a-fragmented-message": (frame(TEXT, b"Hel", fin=False, mask=MASK), True),
    "after-a-ping": (frame(PING, b"x", mask=MASK), True),
    "after-a-close": (frame(CLOSE, close_payload(1000), mask=MASK), True),
    "after-an-error": (frame(3, b"", mask=MASK), True),
}


@case("break/{}", "7.1.5", SERVER, each=[
    (f"{step}-by-{how}", how, data, upgraded) for step, (data, upgraded) in STEPS.items()
    for how in ("reset", "end")])
def server_survives(t, how, data, upgraded):
    other = t.open()
    for _ in range(5):
        break_off(t, how, data, upgraded)
    other.alive()
    link = t.open()
    link.alive()
    t.done(link)
    t.done(other)


@case("break/request-complete-without-reading", "7.1.5", SERVER)
def request_then_reset(t):
    port = t.servers.get().port
    for _ in range(20):
        link = t.dial(port)
        link.push(upgrade_request(port))
        hard_reset(link.sock)
    t.done(t.open())


@case("break/by-client-{}", "7.1.5", CLIENT, each=[
    ("after-upgrade", b""), ("in-a-frame-head", b"\x81"), ("in-a-length", b"\x82\x7e\x01"),
    ("in-a-payload", b"\x81\x05Hel"), ("in-a-fragmented-message", b"\x01\x03Hel"),
    ("after-a-message", b"\x81\x05Hello")])
def client_ends(t, data):
    """A server that vanishes: the client ends in time with an error, not with success."""
    for how in ("reset", "end"):
        link = t.open()
        link.push(data)
        if how == "reset":
            hard_reset(link.sock)
        else:
            link.half_close()
            while link.more("the client to end"):
                pass
            link.sock.close()
        link.process.expect_exit(t.deadline, 1, 6)
