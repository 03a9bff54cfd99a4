"""permessage-deflate: compressed messages, and what must be refused (RFC 7692)."""
import os
import zlib

from deflate import (MIB, NAME, TEXT_SAMPLE, bomb, deflate, lasting_packer, must, offer,
                     packed_echo, proof, started)
from registry import SERVER, case
from wire import BINARY, CONTINUATION, PING, TEXT


# Messages.

@case("deflate/example-{}", "7692-7.2.3", each=[
    ("one-block", "f248cdc9c90700"), ("stored-block", "000500faff48656c6c6f00"),
    ("final-block", "f348cdc9c9070000"), ("two-blocks", "f248050000 00ffffcac9c90700")])
def examples(t, packed):
    link = started(t)
    link.send(TEXT, bytes.fromhex(packed), rsv=4)
    link.expect_echo("Hello")
    link.send(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4)
    link.expect_echo("Hello")
    t.done(link)


@case("deflate/example-in-fragments", "7692-7.2.3")
def example_fragments(t):
    packed = bytes.fromhex("f248cdc9c90700")
    link = started(t)
    for at in range(len(packed) + 1):
        link.send(TEXT, packed[:at], fin=False, rsv=4)
        link.send(PING, b"between")
        link.expect("pong", b"between")
        link.send(CONTINUATION, packed[at:])
        link.expect_echo("Hello")
    for at in range(len(packed)):
        link.send(TEXT if at == 0 else CONTINUATION, packed[at:at + 1], rsv=4 if at == 0 else 0,
                  fin=at == len(packed) - 1)
    link.expect_echo("Hello")
    t.done(link)


@case("deflate/takeover", "7692-7.2.3.2")
def takeover(t):
    """The second message refers to the window that the first one left: that works where the window
    lasts, and is an error where it was agreed not to. `serve` and `connect` always agree not to, as
    a server may by itself (RFC 7692, section 7.1.1.2) and a client by asking (7.1.1.1)."""
    link = started(t)
    link.send(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4)
    link.expect_echo("Hello")
    link.send(TEXT, bytes.fromhex("f200110000"), rsv=4)
    if not link.keep_window:
        return t.fails(link, 1002, 1007)
    link.expect_echo("Hello")
    t.done(link)


@case("deflate/takeover-long", "7692-7.2.3.2")
def takeover_long(t):
    link = started(t)
    packer = lasting_packer(link, 9)
    base = os.urandom(2000).hex().encode()
    for number in range(40):
        packed_echo(link, base[number * 20:] + b"%d" % number, packer=packer)
        if number % 5 == 0:
            link.alive()
    t.done(link)


@case("deflate/window-of-last-message-is-gone", "7692-7.1.1.1", SERVER)
def no_takeover(t):
    """With client_no_context_takeover agreed a reference into the last message is an error."""
    link = must(offer(t, f"{NAME}; client_no_context_takeover"))
    if link.keep_window:
        return t.done(link)
    link.send(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4)
    link.expect_echo("Hello")
    link.send(TEXT, bytes.fromhex("f200110000"), rsv=4)
    t.fails(link, 1002, 1007)


@case("deflate/plain-and-packed-mixed", "7692-6")
def mixed(t):
    link = started(t)
    packer = lasting_packer(link)
    for number in range(20):
        data = b"%d " % number + TEXT_SAMPLE
        if number % 2:
            link.text(data)
            link.expect_echo(data)
        else:
            packed_echo(link, data, packer=packer)
    t.done(link)


@case("deflate/empty-message", "7692-7.2.3.6")
def empty(t):
    link = started(t)
    for _ in range(3):
        link.send(TEXT, b"\x00", rsv=4)
        link.expect_echo("")
        link.send(BINARY, b"\x02\x00", rsv=4)
        link.expect_echo(b"", "binary")
        link.text("")
        link.expect_echo("")
        packed_echo(link, TEXT_SAMPLE)
    t.done(link)


@case("deflate/sizes", "7692-7.2", scale=2)
def sizes(t):
    link = started(t, serve=("--max-message", str(4 * MIB), "--queue-bytes", str(16 * MIB)))
    for size in (1, 2, 125, 126, 1000, 65535, 65536, 1 << 20):
        noise = os.urandom(size)
        packed_echo(link, noise, BINARY)
        packed_echo(link, b"z" * size, BINARY)
    t.done(link)


@case("deflate/level-{}", "7692-7.2.1", each=[0, 1, 9])
def levels(t, level):
    link = started(t)
    for data in (b"x", TEXT_SAMPLE, os.urandom(70000)):
        packer = zlib.compressobj(level, zlib.DEFLATED, -15)
        packed_echo(link, data, BINARY, packer)
    t.done(link)


@case("deflate/several-flushes-in-one-message", "7692-7.2.1")
def several_flushes(t):
    link = started(t)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed, data = b"", b""
    for number in range(10):
        part = b"part %d " % number
        packed += packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH if number % 2 else
                                                       zlib.Z_SYNC_FLUSH)
        data += part
    link.send(TEXT, packed[:-4], rsv=4)
    link.expect_echo(data)
    t.done(link)


@case("deflate/split-character", "7692-6")
def split_character(t):
    link = started(t)
    data = ("\u20ac\U0001f600" * 50).encode()
    packed = deflate(data)
    for at in range(0, len(packed), 3):
        link.send(TEXT, packed[:at], fin=False, rsv=4)
        link.send(CONTINUATION, packed[at:])
        link.expect_echo(data)
    t.done(link)


# Refusals.

@case("deflate/rsv1-on-continuation", "7692-6.1")
def rsv1_on_continuation(t):
    link = started(t)
    packed = deflate(TEXT_SAMPLE)
    link.send(TEXT, packed[:5], fin=False, rsv=4)
    link.send(CONTINUATION, packed[5:], rsv=4)
    t.fails(link, 1002)


@case("deflate/rsv1-on-continuation-of-plain", "7692-6.1")
def rsv1_on_continuation_of_plain(t):
    link = started(t)
    link.text("a", fin=False)
    link.send(CONTINUATION, b"b", rsv=4)
    t.fails(link, 1002)


@case("deflate/rsv1-on-{}", "7692-6.1", each=[("close", 8), ("ping", 9), ("pong", 10)])
def rsv1_on_control(t, opcode):
    link = started(t)
    link.send(opcode, b"\x03\xe8", rsv=4)
    t.fails(link, 1002)


@case("deflate/other-reserved-bits-{}", "7692-6", each=[("rsv2", 2), ("rsv3", 1),
                                                         ("rsv1-and-2", 6)])
def other_bits(t, rsv):
    link = started(t)
    link.send(TEXT, deflate(b"hello"), rsv=rsv)
    t.fails(link, 1002)


@case("deflate/invalid-data-{}", "7692-6.2", each=[
    ("reserved-block-type", b"\x07\x00"), ("noise", b"\xff" * 40),
    ("reference-before-start", bytes.fromhex("f200110000")),
    ("stored-length-mismatch", b"\x00\x05\x00\x05\x00Hello\x00")])
def invalid_data(t, packed):
    """RFC 7692 names no code: 1007, data not consistent with its type, and 1002 both say it."""
    link = started(t)
    link.send(BINARY, packed, rsv=4)
    t.fails(link, 1007, 1002)


@case("deflate/invalid-utf-8", "8.1")
def invalid_utf8(t):
    link = started(t)
    link.send(TEXT, deflate(b"fine so far \xed\xa0\x80 not any more"), rsv=4)
    t.fails(link, 1007)


@case("deflate/truncated-utf-8", "8.1")
def truncated_utf8(t):
    link = started(t)
    link.send(TEXT, deflate(b"cut \xf0\x9f\x98"), rsv=4)
    t.fails(link, 1007)


# What is wrong with a message shows before its end, which is never sent here. Each row: opcode, the
# compressed bytes, how many of them suffice to know, and the codes that say so.

LIMITED = ("--max-message", "10000")


def wrong(name, opcode, packed, shows, *codes):
    return name, opcode, packed, proof(packed, shows), codes


def produced(count):
    return lambda output, failed: len(output) >= count


WRONG = [
    wrong("invalid-utf-8", TEXT, deflate(b"fine " * 9 + b"\xff" + TEXT_SAMPLE), produced(46), 1007),
    wrong("surrogate", TEXT, deflate(b"\xed\xa0\x80" + TEXT_SAMPLE), produced(2), 1007),
    wrong("too-long", BINARY, deflate(b"y" * 200000), produced(10001), 1009),
    wrong("broken", BINARY, deflate(TEXT_SAMPLE) + b"\0\0\xff\xff\x07" + b"z" * 50,
          lambda output, failed: failed, 1007, 1002)]


@case("deflate/fail-fast-{}-in-open-frame", "7692-6.2", each=WRONG)
def fail_fast_in_frame(t, opcode, packed, enough, codes):
    """The frame announces more bytes than come. One byte less, and all is well yet."""
    link = started(t, LIMITED, LIMITED)
    whole = link.frame(opcode, packed, rsv=4)
    end = len(whole) - len(packed) + enough
    link.push_cut(whole[:end], end - 1)
    t.fails(link, *codes)


@case("deflate/fail-fast-{}-in-open-message", "7692-6.2", each=WRONG)
def fail_fast_in_message(t, opcode, packed, enough, codes):
    """The first fragment alone shows it."""
    link = started(t, LIMITED, LIMITED)
    link.send(opcode, packed[:enough], fin=False, rsv=4)
    t.fails(link, *codes)


@case("deflate/fail-fast-{}-with-the-last-byte-needed", "7692-6.2", each=WRONG)
def fail_fast_next_byte(t, opcode, packed, enough, codes):
    """One byte less, and the connection goes on; then a fragment of that byte."""
    link = started(t, LIMITED, LIMITED)
    link.send(opcode, packed[:enough - 1], fin=False, rsv=4)
    link.send(PING, b"still fine")
    link.expect("pong", b"still fine")
    link.send(CONTINUATION, packed[enough - 1:enough], fin=False)
    t.fails(link, *codes)


@case("deflate/fail-fast-{}-byte-by-byte", "7692-6.2", each=WRONG)
def fail_fast_byte_by_byte(t, opcode, packed, enough, codes):
    link = started(t, LIMITED, LIMITED)
    for at in range(enough):
        link.send(opcode if at == 0 else CONTINUATION, packed[at:at + 1], fin=False,
                  rsv=4 if at == 0 else 0)
    t.fails(link, *codes)


@case("deflate/bomb", "7692-8", scale=2)
def bomb_whole(t):
    link = started(t, serve=("--max-message", str(MIB)))
    link.send(BINARY, bomb(256 * MIB), rsv=4)
    t.fails(link, 1009)


@case("deflate/bomb-in-fragments", "7692-8", scale=2)
def bomb_in_fragments(t):
    """The limit holds for what comes out, however small the fragments are, and whether or not a last
    one follows."""
    limit = ("--max-message", str(MIB))
    link = started(t, limit, limit)
    packed = bomb(128 * MIB)
    step = len(packed) // 20
    for at in range(0, len(packed), step):
        link.send(BINARY if at == 0 else CONTINUATION, packed[at:at + step], fin=False,
                  rsv=4 if at == 0 else 0)
    t.fails(link, 1009)


@case("deflate/limit-counts-inflated-bytes", "7692-8", SERVER)
def limit_inflated(t):
    link = started(t, serve=("--max-message", "10000"))
    packed_echo(link, b"y" * 10000)
    link.send(TEXT, deflate(b"y" * 10001), rsv=4)
    t.fails(link, 1009)


@case("deflate/byte-by-byte", "7692-6")
def byte_by_byte(t):
    link = started(t)
    whole = link.frame(TEXT, deflate(TEXT_SAMPLE), rsv=4)
    link.push_cut(whole, *range(1, len(whole)))
    link.expect_echo(TEXT_SAMPLE)
    for at in range(1, len(whole), 7):
        link.push_cut(link.frame(TEXT, deflate(TEXT_SAMPLE), rsv=4), at)
        link.expect_echo(TEXT_SAMPLE)
    t.done(link)
