"""The closing handshake."""
import struct

from registry import CLIENT, SERVER, case
from wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, Failure, close_payload

NORMAL = (1000, 1001)
ERRORS = (1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)
PRIVATE = (3000, 3001, 3999, 4000, 4001, 4999)
# What `connect` says about a private code is its own affair, as long as it ends in order.
STATUS = {**{code: (0,) for code in NORMAL}, **{code: (6,) for code in ERRORS},
          **{code: (0, 6) for code in PRIVATE}}


@case("close/code-{}", "7.4", each=list(STATUS))
def valid_code(t, code):
    link = t.open()
    link.alive()
    link.close_with(code)
    t.closed(link, code, 1000, status=STATUS[code])


@case("close/code-{}-refused", "7.4", each=[0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000,
                                             2999, 5000, 5001, 32768, 65535])
def invalid_code(t, code):
    link = t.open()
    link.send(CLOSE, close_payload(code))
    t.fails(link, 1002)


@case("close/code-{}-with-reason-refused", "7.4", each=[999, 1005, 5000])
def invalid_code_with_reason(t, code):
    link = t.open()
    link.send(CLOSE, close_payload(code, b"a reason"))
    t.fails(link, 1002)


@case("close/without-code", "7.1.5")
def no_code(t):
    link = t.open()
    link.close_with(None)
    t.closed(link, None, 1000)


@case("close/one-byte-payload", "5.5.1")
def one_byte(t):
    link = t.open()
    link.send(CLOSE, b"\x03")
    t.fails(link, 1002)


@case("close/reason-{}", "5.5.1", each=[
    ("short", b"bye"), ("utf-8", "sch\u00f6n \U0001f44b".encode()), ("longest", b"x" * 123),
    ("longest-utf-8", "\u20ac".encode() * 41), ("with-zero", b"a\0b")])
def reason(t, text):
    link = t.open()
    link.close_with(1000, text)
    t.closed(link, 1000)


@case("close/reason-not-utf-8-{}", "8.1", each=[
    ("lone-byte", b"\xff"), ("truncated", b"abc\xe2\x82"), ("surrogate", b"\xed\xa0\x80"),
    ("overlong", b"\xc0\xaf")])
def reason_not_utf8(t, text):
    link = t.open()
    link.send(CLOSE, close_payload(1000, text))
    t.fails(link, 1007)


@case("close/data-after-close-{}", "5.5.1", each=[
    ("text", TEXT, b"late"), ("ping", PING, b"late"), ("binary", BINARY, b"late"),
    ("second-close", CLOSE, b"\x03\xe9"), ("wrong-opcode", 3, b"late"),
    ("continuation", CONTINUATION, b"late")])
def data_after_close(t, opcode, payload):
    """Frames behind the close, in the same segment, change nothing and are not answered."""
    link = t.open()
    link.sent_close = True
    link.push(link.frame(CLOSE, close_payload(1000)) + link.frame(opcode, payload))
    t.closed(link, 1000)


@case("close/garbage-after-close", "5.5.1")
def garbage_after_close(t):
    link = t.open()
    link.sent_close = True
    link.push(link.frame(CLOSE, close_payload(1000)) + b"\xff" * 1000)
    t.closed(link, 1000)


@case("close/nothing-processed-after-{}", "7.1.7", each=[
    ("bad-opcode", 3, b"", 1002), ("bad-text", TEXT, b"\xff", 1007)])
def ignored_after_failure(t, opcode, payload, code):
    """After an error nothing is taken from the stream any more, not even a correct message."""
    link = t.open()
    link.push(link.frame(opcode, payload) + link.frame(TEXT, b"late") + link.frame(PING, b"late"))
    t.fails(link, code)


@case("close/message-before-close", "5.5.1")
def message_before_close(t):
    link = t.open()
    link.sent_close = True
    link.push(link.frame(TEXT, b"last words") + link.frame(CLOSE, close_payload(1000)))
    events = link.transcript()
    if events not in ([("text", b"last words"), ("close", 1000, b""), ("end",)],
                      [("close", 1000, b""), ("end",)]):
        raise Failure("at most the echo, then close 1000 and the end", str(events))
    t.finish(link, 0)


@case("close/echo-of-code-and-reason", "5.5.1")
def reason_not_changed(t):
    """A reason in the answer is the one that was sent, or none."""
    link = t.open()
    link.close_with(1000, b"the very reason")
    event = t.closed(link, 1000)
    if event[2] not in (b"", b"the very reason"):
        raise Failure("the same reason or none", str(event))


@case("close/cut-{}", "5.5.1", each=[1, 2, 3])
def cut(t, at):
    link = t.open()
    link.sent_close = True
    link.push_cut(link.frame(CLOSE, close_payload(1000, b"bye")), at)
    t.closed(link, 1000)


@case("close/server-ends-tcp-first", "7.1.1", SERVER)
def server_ends_first(t):
    """After the closing handshake the server closes TCP and does not wait for the client to."""
    link = t.open()
    link.close_with(1000)
    event = link.next_event()
    if event[:2] != ("close", 1000):
        raise Failure("close 1000", str(event))
    if link.more("the end of TCP") or link.end != "closed":
        raise Failure("an orderly end of TCP", f"{bytes(link.inbox)!r} {link.end}")


@case("close/peer-ends-without-close-frame", "7.1.5", CLIENT)
def end_without_close(t):
    link = t.open()
    link.alive()
    link.half_close()
    while link.next_event()[0] != "end":
        pass
    link.sock.close()
    link.process.expect_exit(t.deadline, 1, 6)


@case("close/half-close-by-client", "7.1.5", SERVER)
def half_close(t):
    """A client that ends its direction without a close frame is let go."""
    link = t.open()
    link.alive()
    link.half_close()
    events = [event[0] for event in link.transcript()]
    if events not in (["end"], ["close", "end"]):
        raise Failure("the end, at most a close frame before it", str(events))


assert struct.pack("!H", 1000) == b"\x03\xe8"
