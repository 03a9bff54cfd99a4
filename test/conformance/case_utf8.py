"""UTF-8 in text messages: what is valid, what is not, and that the refusal comes with the first
byte that can't be part of any valid text."""
from registry import case
from wire import BINARY, CONTINUATION, PING, TEXT

VALID = {
    "empty": b"",
    "ascii-ends": b"\x00\x7f",
    "two-bytes-first": b"\xc2\x80",
    "two-bytes-last": b"\xdf\xbf",
    "three-bytes-first": b"\xe0\xa0\x80",
    "below-surrogates": b"\xed\x9f\xbf",
    "above-surrogates": b"\xee\x80\x80",
    "three-bytes-e1": b"\xe1\x80\x80",
    "three-bytes-ec": b"\xec\xbf\xbf",
    "replacement-character": b"\xef\xbf\xbd",
    "noncharacter-fffe": b"\xef\xbf\xbe",
    "three-bytes-last": b"\xef\xbf\xbf",
    "byte-order-mark": b"\xef\xbb\xbftext",
    "four-bytes-first": b"\xf0\x90\x80\x80",
    "four-bytes-f1": b"\xf1\x80\x80\x80",
    "four-bytes-f3": b"\xf3\xbf\xbf\xbf",
    "highest": b"\xf4\x8f\xbf\xbf",
    "noncharacter-1fffe": b"\xf0\x9f\xbf\xbe",
    "greek": "\u03ba\u1f79\u03c3\u03bc\u03b5".encode(),
    "mixed": "a\u00e9\u20ac\U0001f600z".encode(),
    "combining": "e\u0301 \u200d \u202e".encode(),
    "long-ascii-then-wide": b"x" * 63 + "\u20ac".encode() + b"y" * 62 + "\U0001f600".encode(),
}

# Each row: bytes, and how many of them suffice to know. None: only the end of the message tells.
INVALID = {
    "lone-continuation-80": (b"\x80", 1),
    "lone-continuation-bf": (b"\xbf", 1),
    "continuations": (b"\x80\xbf\x80", 1),
    "overlong-c0": (b"\xc0\xaf", 1),
    "overlong-c1": (b"\xc1\xbf", 1),
    "overlong-e0-80": (b"\xe0\x80\xaf", 2),
    "overlong-e0-9f": (b"\xe0\x9f\xbf", 2),
    "overlong-f0-80": (b"\xf0\x80\x80\xaf", 2),
    "overlong-f0-8f": (b"\xf0\x8f\xbf\xbf", 2),
    "surrogate-d800": (b"\xed\xa0\x80", 2),
    "surrogate-dbff": (b"\xed\xaf\xbf", 2),
    "surrogate-dc00": (b"\xed\xb0\x80", 2),
    "surrogate-dfff": (b"\xed\xbf\xbf", 2),
    "surrogate-pair": (b"\xed\xa0\x80\xed\xb0\x80", 2),
    "above-highest": (b"\xf4\x90\x80\x80", 2),
    "f4-bf": (b"\xf4\xbf\xbf\xbf", 2),
    "f5": (b"\xf5\x80\x80\x80", 1),
    "f7": (b"\xf7\xbf\xbf\xbf", 1),
    "five-bytes": (b"\xf8\x88\x80\x80\x80", 1),
    "six-bytes": (b"\xfc\x84\x80\x80\x80\x80", 1),
    "fe": (b"\xfe", 1),
    "ff": (b"\xff", 1),
    "c2-then-ascii": (b"\xc2a", 2),
    "c2-then-lead": (b"\xc2\xc2\x80", 2),
    "df-then-c0": (b"\xdf\xc0", 2),
    "e2-then-ascii": (b"\xe2(\xa1", 2),
    "e2-82-then-ascii": (b"\xe2\x82(", 3),
    "e2-82-then-lead": (b"\xe2\x82\xe2\x82\xac", 3),
    "f0-then-ascii": (b"\xf0(\x8c\xbc", 2),
    "f0-9f-then-ascii": (b"\xf0\x9f(\xbc", 3),
    "f0-9f-98-then-ascii": (b"\xf0\x9f\x98(", 4),
    "f4-8f-bf-then-c0": (b"\xf4\x8f\xbf\xc0", 4),
    "after-ascii": (b"hello\xffworld", 6),
    "after-long-ascii": (b"x" * 100 + b"\xc0\x80", 101),
    "after-wide": ("\u20ac\u20ac".encode() + b"\x80", 7),
    "in-the-middle-of-long": (b"y" * 70 + b"\xed\xa0\x80" + b"z" * 70, 72),
    "truncated-c2": (b"\xc2", None),
    "truncated-e2": (b"\xe2", None),
    "truncated-e2-82": (b"\xe2\x82", None),
    "truncated-f0": (b"\xf0", None),
    "truncated-f0-9f": (b"\xf0\x9f", None),
    "truncated-f0-9f-98": (b"\xf0\x9f\x98", None),
    "text-then-truncated": (b"hello \xf0\x9f\x98", None),
}


@case("utf8/valid-{}", "8.1", each=[(name, text) for name, text in VALID.items()])
def valid(t, text):
    link = t.open()
    link.text(text)
    link.expect_echo(text)
    for at in range(len(text) + 1):
        link.text(text[:at], fin=False)
        link.send(CONTINUATION, text[at:])
        link.expect_echo(text)
    for at in range(len(text)):
        link.send(TEXT if at == 0 else CONTINUATION, text[at:at + 1], fin=at == len(text) - 1)
    if text:
        link.expect_echo(text)
    t.done(link)


@case("utf8/valid-across-reads", "8.1")
def valid_across_reads(t):
    link = t.open()
    text = VALID["mixed"]
    whole = link.frame(TEXT, text)
    for at in range(1, len(whole)):
        link.push_cut(whole, at)
        link.expect_echo(text)
    link.push_cut(whole, *range(1, len(whole)))
    link.expect_echo(text)
    t.done(link)


@case("utf8/invalid-{}", "8.1", each=[(name, row[0]) for name, row in INVALID.items()])
def invalid(t, text):
    link = t.open()
    link.text(text)
    t.fails(link, 1007)


@case("utf8/invalid-{}-in-fragments", "8.1", each=[
    (f"{name}-cut-{at}", row[0], at) for name, row in INVALID.items() if len(row[0]) <= 12
    for at in range(len(row[0]) + 1)])
def invalid_in_fragments(t, text, at):
    link = t.open()
    link.push(link.frame(TEXT, text[:at], fin=False) + link.frame(CONTINUATION, text[at:]))
    t.fails(link, 1007)


@case("utf8/fail-fast-{}-in-open-frame", "8.1", each=[
    (name, row[0][:row[1]]) for name, row in INVALID.items() if row[1]])
def fail_fast_in_frame(t, text):
    """The frame announces more bytes than come; the refusal must not wait for them."""
    link = t.open()
    link.push(link.frame(TEXT, text + b"z" * 1000)[:-1000])
    t.fails(link, 1007)


@case("utf8/fail-fast-{}-in-open-message", "8.1", each=[
    (name, row[0][:row[1]]) for name, row in INVALID.items() if row[1]])
def fail_fast_in_message(t, text):
    """The frame is complete, the message is not."""
    link = t.open()
    link.text(text, fin=False)
    t.fails(link, 1007)


@case("utf8/fail-fast-{}-byte-by-byte", "8.1", each=[
    (name, row[0][:row[1]]) for name, row in INVALID.items() if row[1] and len(row[0]) <= 12])
def fail_fast_byte_by_byte(t, text):
    link = t.open()
    for at in range(len(text)):
        link.send(TEXT if at == 0 else CONTINUATION, text[at:at + 1], fin=False)
        link.settle()
    t.fails(link, 1007)


@case("utf8/fail-fast-with-16-bit-length", "8.1")
def fail_fast_long_frame(t):
    link = t.open()
    link.push(link.frame(TEXT, b"a" * 3000 + b"\xf5" + b"z" * 60000)[:-60000])
    t.fails(link, 1007)


@case("utf8/fail-fast-with-64-bit-length", "8.1")
def fail_fast_very_long_frame(t):
    link = t.open()
    link.push(link.frame(TEXT, b"a" * 300000 + b"\xf5" + b"z" * 200000)[:-200000])
    t.fails(link, 1007)


@case("utf8/ping-inside-split-character", "8.1")
def ping_inside_character(t):
    link = t.open()
    link.text(b"\xf0\x9f", fin=False)
    link.send(PING, b"\xff\xfe")
    link.expect("pong", b"\xff\xfe")
    link.send(CONTINUATION, b"\x98\x80")
    link.expect_echo(b"\xf0\x9f\x98\x80")
    t.done(link)


@case("utf8/state-does-not-outlive-message", "8.1")
def binary_is_not_checked(t):
    link = t.open()
    for data, _ in INVALID.values():
        link.send(BINARY, data)
        link.expect_echo(data, "binary")
    link.send(BINARY, b"\xf0\x9f", fin=False)
    link.send(CONTINUATION, b"\xff")
    link.expect_echo(b"\xf0\x9f\xff", "binary")
    link.alive()
    t.done(link)
