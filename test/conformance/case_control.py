"""Control frames: ping, pong, their limits, floods."""
from registry import case
from wire import CLOSE, CONTINUATION, PING, PONG, TEXT, Failure


@case("ping/every-payload-length", "5.5.2")
def every_length(t):
    link = t.open()
    for size in range(126):
        payload = bytes((size * 7 + at) & 0xff for at in range(size))
        link.send(PING, payload)
        link.expect("pong", payload)
    t.done(link)


@case("ping/with-key-zero-bytes", "5.5.2")
def binary_payload(t):
    link = t.open()
    for payload in (b"\0" * 125, b"\xff" * 125, b"\x80\xfe\xff\0"):
        link.send(PING, payload)
        link.expect("pong", payload)
    t.done(link)


@case("control/{}-too-long", "5.5", each=[
    (f"{name}-{size}", opcode, size) for name, opcode in (("ping", PING), ("pong", PONG),
                                                           ("close", CLOSE))
    for size in (126, 65536)])
def too_long(t, opcode, size):
    link = t.open()
    link.send(opcode, b"\x03\xe8" + b"x" * (size - 2))
    t.fails(link, 1002)


@case("control/{}-too-long-refused-by-its-head", "5.5", each=[("ping", PING), ("pong", PONG),
                                                               ("close", CLOSE)])
def too_long_head(t, opcode):
    link = t.open()
    link.push(link.frame(opcode, b"", announce=126)[:2])
    t.fails(link, 1002)


@case("control/{}-fragmented", "5.5", each=[("ping", PING), ("pong", PONG), ("close", CLOSE)])
def fragmented(t, opcode):
    link = t.open()
    link.send(opcode, b"\x03\xe8", fin=False)
    t.fails(link, 1002)


@case("control/{}-fragmented-inside-message", "5.5", each=[("ping", PING), ("pong", PONG)])
def fragmented_inside(t, opcode):
    link = t.open()
    link.send(TEXT, b"a", fin=False)
    link.send(opcode, b"b", fin=False)
    link.send(CONTINUATION, b"c")
    t.fails(link, 1002)


@case("pong/unsolicited", "5.5.3")
def unsolicited(t):
    link = t.open()
    for payload in (b"", b"unasked", b"x" * 125):
        link.send(PONG, payload)
        link.alive()
    t.done(link)


@case("ping/before-and-after-messages", "5.5.2")
def around_messages(t):
    link = t.open()
    for number in range(20):
        mark = b"%d" % number
        link.send(PING, mark)
        link.send(TEXT, mark)
        seen = {tuple(link.next_event()), tuple(link.next_event())}
        if seen != {("pong", mark), ("text", mark)}:
            raise Failure(f"one pong and one message {mark!r}", str(seen))
    t.done(link)


@case("ping/flood", "5.5.3", scale=2)
def flood(t):
    """Ten thousand pings without a look at the answers: pongs come in order, at least the newest
    is answered, and the connection goes on."""
    link = t.open()
    link.push(b"".join(link.frame(PING, b"%05d" % number) for number in range(10000)))
    last = -1
    while last != 9999:
        event = link.next_event()
        if event[0] != "pong" or not event[1].isdigit() or int(event[1]) <= last:
            raise Failure(f"a pong newer than {last}", str(event))
        last = int(event[1])
    link.alive()
    t.done(link)


@case("ping/flood-among-fragments", "5.5.3")
def flood_among_fragments(t):
    link = t.open()
    data = [b"part %d " % number for number in range(200)]
    stream = b""
    for at, part in enumerate(data):
        stream += link.frame(TEXT if at == 0 else CONTINUATION, part, fin=at == len(data) - 1)
        stream += link.frame(PING, b"%05d" % at)
    link.push(stream)
    last, message = -1, None
    while last != len(data) - 1 or message is None:
        event = link.next_event()
        if event[0] == "text":
            message = event[1]
        elif event[0] != "pong" or int(event[1]) <= last:
            raise Failure(f"a pong newer than {last}", str(event))
        else:
            last = int(event[1])
    if message != b"".join(data):
        raise Failure("the message whole", str(event))
    t.done(link)
