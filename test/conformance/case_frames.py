"""Framing: lengths, reserved bits, opcodes, masking, fragmentation, message limits."""
import itertools
import os

from registry import BOTH, CLIENT, SERVER, case
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Failure, frame

MIB = 1 << 20
BIG = ("--max-message", str(32 * MIB), "--queue-bytes", str(64 * MIB))
NONE = b"\0\0\0\0"


def pattern(size):
    block = bytes(range(256)) * 4 + b"chorus"
    return (block * (size // len(block) + 1))[:size]


# Lengths.

@case("length/{}", "5.2", each=[0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536,
                                65537, 100000])
def length(t, size):
    link = t.open()
    text = (b"0123456789" * (size // 10 + 1))[:size]
    link.text(text)
    link.expect_echo(text)
    link.send(BINARY, pattern(size))
    link.expect_echo(pattern(size), "binary")
    t.done(link)


@case("length/1-mib", "5.2", scale=2)
def one_mebibyte(t):
    link = t.open(serve=BIG)
    link.send(BINARY, pattern(MIB))
    link.expect_echo(pattern(MIB), "binary")
    link.text(b"x" * MIB)
    link.expect_echo(b"x" * MIB)
    t.done(link)


@case("length/16-mib", "5.2", SERVER, scale=4)
def sixteen_mebibytes(t):
    link = t.open(serve=BIG)
    link.send(BINARY, pattern(16 * MIB))
    link.expect_echo(pattern(16 * MIB), "binary")
    t.done(link)


@case("length/16-mib-in-fragments", "5.4", SERVER, scale=4)
def sixteen_mebibytes_fragmented(t):
    link = t.open(serve=BIG)
    data = pattern(16 * MIB)
    step = MIB - 7
    for at in range(0, len(data), step):
        link.send(BINARY if at == 0 else CONTINUATION, data[at:at + step],
                  fin=at + step >= len(data))
    link.expect_echo(data, "binary")
    t.done(link)


@case("length/not-minimal-{}", "5.2", each=[
    (f"{size}-in-{form}-bits", size, form)
    for form, sizes in ((16, (0, 1, 125)), (64, (0, 125, 126, 65535))) for size in sizes])
def not_minimal(t, size, form):
    link = t.open()
    link.send(BINARY, pattern(size), length_form=form)
    t.fails(link, 1002)


@case("length/top-bit-set", "5.2")
def top_bit(t):
    link = t.open()
    link.send(BINARY, b"", length_form=64, announce=1 << 63)
    t.fails(link, 1002)


@case("length/all-64-bits-set", "5.2")
def all_bits(t):
    link = t.open()
    link.send(BINARY, b"", length_form=64, announce=(1 << 64) - 1)
    t.fails(link, 1002)


# Limits on messages, refused before the payload comes.

@case("limit/announced-{}", "10.4", each=[("2-to-62", 1 << 62), ("1-tib", 1 << 40),
                                            ("63-bits", (1 << 63) - 1)])
def announced_too_big(t, size):
    link = t.open()
    link.send(BINARY, b"", announce=size)
    t.fails(link, 1009)


LIMITED = ("--max-message", "1000")


@case("limit/at-the-limit", "10.4", SERVER)
def at_the_limit(t):
    link = t.open(serve=LIMITED)
    link.send(BINARY, pattern(1000))
    link.expect_echo(pattern(1000), "binary")
    link.send(BINARY, pattern(400), fin=False)
    link.send(CONTINUATION, pattern(600))
    link.expect_echo(pattern(400) + pattern(600), "binary")
    t.done(link)


@case("limit/one-above", "10.4", SERVER)
def above_the_limit(t):
    link = t.open(serve=LIMITED)
    link.send(BINARY, b"", announce=1001)
    t.fails(link, 1009)


@case("limit/one-above-with-payload", "10.4", SERVER)
def above_the_limit_whole(t):
    link = t.open(serve=LIMITED)
    link.send(BINARY, pattern(1001))
    t.fails(link, 1009)


@case("limit/fragments-together", "10.4", SERVER)
def fragments_above_the_limit(t):
    link = t.open(serve=LIMITED)
    link.send(BINARY, pattern(600), fin=False)
    link.send(CONTINUATION, b"", fin=False, announce=401)
    t.fails(link, 1009)


@case("limit/much-data-after-refusal", "10.4", SERVER)
def flood_after_refusal(t):
    link = t.open(serve=LIMITED)
    link.send(BINARY, pattern(4 * MIB))
    t.fails(link, 1009)


# Reserved bits and opcodes.

@case("rsv/{}", "5.2", each=[
    (f"{rsv:03b}-{name}", rsv, opcode) for rsv in range(1, 8)
    for name, opcode in (("text", TEXT), ("binary", BINARY), ("ping", PING), ("pong", PONG),
                         ("close", CLOSE))])
def reserved_bits(t, rsv, opcode):
    link = t.open()
    link.send(opcode, b"\x03\xe8" if opcode == CLOSE else b"hello", rsv=rsv)
    t.fails(link, 1002)


@case("rsv/{}-on-continuation", "5.2", each=[(f"{rsv:03b}", rsv) for rsv in (1, 2, 4)])
def reserved_bits_on_continuation(t, rsv):
    link = t.open()
    link.text("a", fin=False)
    link.send(CONTINUATION, b"b", rsv=rsv)
    t.fails(link, 1002)


@case("opcode/{}", "5.2", each=[
    (f"{opcode}-{name}", opcode, payload, fin)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    for name, payload, fin in (("empty", b"", True), ("with-payload", b"hello", True),
                               ("fragment", b"hello", False))])
def reserved_opcode(t, opcode, payload, fin):
    link = t.open()
    link.send(opcode, payload, fin=fin)
    t.fails(link, 1002)


@case("opcode/{}-inside-fragmented", "5.2", each=[3, 7, 11, 15])
def reserved_opcode_inside(t, opcode):
    link = t.open()
    link.text("a", fin=False)
    link.send(opcode, b"")
    t.fails(link, 1002)


# Masking.

@case("mask/unmasked-{}", "5.1", SERVER, each=[
    ("text", TEXT, b"hello", True), ("empty-text", TEXT, b"", True),
    ("binary", BINARY, b"hello", True), ("ping", PING, b"hello", True), ("pong", PONG, b"", True),
    ("close", CLOSE, b"\x03\xe8", True), ("fragment", TEXT, b"hello", False)])
def unmasked_from_client(t, opcode, payload, fin):
    link = t.open()
    link.send(opcode, payload, fin=fin, mask=None)
    t.fails(link, 1002)


@case("mask/unmasked-continuation", "5.1", SERVER)
def unmasked_continuation(t):
    link = t.open()
    link.text("a", fin=False)
    link.send(CONTINUATION, b"b", mask=None)
    t.fails(link, 1002)


@case("mask/masked-{}", "5.1", CLIENT, each=[
    ("text", TEXT, b"hello", NONE), ("text-key", TEXT, b"hello", b"\x01\x02\x03\x04"),
    ("empty-text", TEXT, b"", NONE), ("binary", BINARY, b"hello", NONE),
    ("ping", PING, b"hello", NONE), ("pong", PONG, b"", NONE), ("close", CLOSE, b"\x03\xe8", NONE)])
def masked_from_server(t, opcode, payload, mask):
    link = t.open()
    link.send(opcode, payload, mask=mask)
    t.fails(link, 1002)


@case("mask/keys-{}", "5.3", SERVER, each=[
    ("zero", NONE), ("ones", b"\xff\xff\xff\xff"), ("one-byte", b"\0\0\0\x80"),
    ("different", b"\x01\x82\x7f\xfe")])
def any_key(t, mask):
    link = t.open()
    for size in [*range(0, 40), 63, 64, 65, 127, 128, 129, 1000, 4095, 4097, 70001]:
        link.send(BINARY, pattern(size), mask=mask)
        link.expect_echo(pattern(size), "binary")
    t.done(link)


@case("mask/keys-change", "5.3", CLIENT)
def keys_change(t):
    link = t.open()
    for number in range(64):
        link.text(f"message {number}")
        link.expect_echo(f"message {number}")
    if len(set(link.keys_seen)) < 64:
        raise Failure("64 different masking keys", f"{len(set(link.keys_seen))} of 64")
    steps = {(int.from_bytes(b, "big") - int.from_bytes(a, "big")) & 0xffffffff
             for a, b in zip(link.keys_seen, link.keys_seen[1:])}
    if len(steps) < 60:
        raise Failure("unpredictable masking keys", f"{len(steps)} different steps between 64 keys")
    t.done(link)


@case("mask/keys-differ-between-connections", "5.3", CLIENT)
def keys_differ(t):
    seen = set()
    for _ in range(3):
        link = t.open()
        link.alive()
        seen.add(link.keys_seen[0])
        t.done(link)
    if len(seen) != 3:
        raise Failure("three different first keys", str(len(seen)))


# Fragmentation.

WORD = "h\u00e9llo \u20ac \U0001f600".encode()


@case("fragments/two-at-every-position", "5.4")
def two_fragments(t):
    link = t.open()
    for at in range(len(WORD) + 1):
        for opcode, kind in ((TEXT, "text"), (BINARY, "binary")):
            link.send(opcode, WORD[:at], fin=False)
            link.send(CONTINUATION, WORD[at:])
            link.expect_echo(WORD, kind)
    t.done(link)


@case("fragments/three-at-all-positions", "5.4")
def three_fragments(t):
    link = t.open()
    for first, second in itertools.combinations_with_replacement(range(len(WORD) + 1), 2):
        link.text(WORD[:first], fin=False)
        link.send(CONTINUATION, WORD[first:second], fin=False)
        link.send(CONTINUATION, WORD[second:])
        link.expect_echo(WORD)
    t.done(link)


@case("fragments/one-byte-each", "5.4")
def single_bytes(t):
    link = t.open()
    data = (WORD * 40)[:len(WORD) * 40]
    for at in range(len(data)):
        link.send(TEXT if at == 0 else CONTINUATION, data[at:at + 1], fin=at == len(data) - 1)
    link.expect_echo(data)
    t.done(link)


@case("fragments/empty-{}", "5.4", each=[
    ("all", [b"", b"", b""]), ("first", [b"", b"a"]), ("last", [b"a", b""]),
    ("middle", [b"a", b"", b"", b"b"]), ("many", [b""] * 300 + [b"end"])])
def empty_fragments(t, parts):
    link = t.open()
    for at, part in enumerate(parts):
        link.send(TEXT if at == 0 else CONTINUATION, part, fin=at == len(parts) - 1)
    link.expect_echo(b"".join(parts))
    t.done(link)


@case("fragments/large-mixed-lengths", "5.4")
def large_fragments(t):
    link = t.open()
    sizes = [0, 125, 126, 65535, 65536, 1]
    for at, size in enumerate(sizes):
        link.send(BINARY if at == 0 else CONTINUATION, pattern(size), fin=at == len(sizes) - 1)
    link.expect_echo(b"".join(map(pattern, sizes)), "binary")
    t.done(link)


@case("fragments/ping-between", "5.4")
def ping_between(t):
    link = t.open()
    link.text("one ", fin=False)
    link.send(PING, b"first")
    link.expect("pong", b"first")
    link.send(CONTINUATION, b"two ", fin=False)
    link.send(PONG, b"unasked")
    link.send(PING, b"second")
    link.expect("pong", b"second")
    link.send(CONTINUATION, b"three")
    link.expect_echo("one two three")
    t.done(link)


@case("fragments/close-between", "5.4")
def close_between(t):
    link = t.open()
    link.text("never finished", fin=False)
    link.close_with(1000)
    t.closed(link, 1000)


@case("fragments/continuation-without-start-{}", "5.4", each=[
    ("final", True, b"x"), ("not-final", False, b"x"), ("empty", True, b"")])
def continuation_without_start(t, fin, payload):
    link = t.open()
    link.send(CONTINUATION, payload, fin=fin)
    t.fails(link, 1002)


@case("fragments/continuation-after-complete", "5.4")
def continuation_after_complete(t):
    link = t.open()
    link.text("a", fin=False)
    link.send(CONTINUATION, b"b")
    link.expect_echo("ab")
    link.send(CONTINUATION, b"c")
    t.fails(link, 1002)


@case("fragments/continuation-after-single", "5.4")
def continuation_after_single(t):
    link = t.open()
    link.alive()
    link.send(CONTINUATION, b"c")
    t.fails(link, 1002)


@case("fragments/new-{}-inside", "5.4", each=[
    (f"{second_name}-in-{first_name}-{'final' if fin else 'open'}", first, second, fin)
    for first_name, first in (("text", TEXT), ("binary", BINARY))
    for second_name, second in (("text", TEXT), ("binary", BINARY)) for fin in (True, False)])
def new_message_inside(t, first, second, fin):
    link = t.open()
    link.send(first, b"a", fin=False)
    link.send(second, b"b", fin=fin)
    t.fails(link, 1002)


@case("messages/many-in-order", "5.4", scale=2)
def many_in_order(t):
    link = t.open()
    expected = [b"%d" % number + os.urandom(number % 50).hex().encode() for number in range(1000)]
    link.push(b"".join(link.frame(TEXT, payload) for payload in expected))
    for payload in expected:
        link.expect_echo(payload)
    t.done(link)


@case("messages/kinds-are-kept", "5.6", BOTH)
def kinds_kept(t):
    link = t.open()
    for number in range(50):
        kind = "text" if number % 3 else "binary"
        link.send(TEXT if kind == "text" else BINARY, b"same bytes")
        link.expect_echo(b"same bytes", kind)
    t.done(link)


assert frame(TEXT, b"Hello").hex() == "810548656c6c6f"  # the example of section 5.7
