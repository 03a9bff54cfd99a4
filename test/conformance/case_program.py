"""What the commands promise beside the protocol: the ready line, signals, limits, heartbeat,
broadcast; input lines, output lines, exit statuses."""
import signal
import subprocess

from program import Response, Server, read_head, read_response, upgrade_request
from registry import CLIENT, SERVER, case
from wire import PING, PONG, Failure, hard_reset


def own_server(t, *arguments):
    server = Server(*arguments)
    t.processes.append(server)
    return server


# serve

@case("serve/stops-at-{}", "7.4.1", SERVER, each=[("sigterm", signal.SIGTERM, 1012),
                                                    ("sigint", signal.SIGINT, 1001)])
def stops(t, number, code):
    server = own_server(t, "--drain-window", "0")
    links = [t.upgrade(server.port) for _ in range(3)]
    idle, half = t.dial(server.port), t.dial(server.port)
    half.push(b"GET /echo HTTP/1.1\r\nHost: a\r\n")
    for link in links:
        link.alive()
    server.child.send_signal(number)
    for link in links:
        link.expect_close(code)
    for link in (idle, half):
        while link.more("the end of unfinished connections"):
            pass
    server.expect_exit(t.deadline, 0)


@case("serve/stops-with-nobody-connected", "7.4.1", SERVER)
def stops_idle(t):
    server = own_server(t)
    server.child.terminate()
    server.expect_exit(t.deadline, 0)


@case("serve/threads", "5.4", SERVER)
def threads(t):
    server = own_server(t, "--threads", "2")
    links = [t.upgrade(server.port) for _ in range(8)]
    for link in links:
        link.text("x" * 1000)
    for link in links:
        link.expect_echo("x" * 1000)
    for link in links:
        link.close_with(1000)
        link.expect_close(1000)
    server.child.terminate()
    server.expect_exit(t.deadline, 0)


@case("serve/max-connections", "10.4", SERVER)
def max_connections(t):
    server = own_server(t, "--max-connections", "2")
    first, second = t.upgrade(server.port), t.upgrade(server.port)
    third = t.dial(server.port)
    third.push(upgrade_request(server.port))
    response = read_response(third)
    if response.status == 101:
        third.expect_close(1013)
    elif response.status != 503:
        raise Failure("status 503 or close 1013", response.line)
    first.alive()
    second.alive()
    first.close_with(1000)
    first.expect_close(1000)
    first.sock.close()
    # The place is free once the server has seen the one that left go.
    while True:
        again = t.dial(server.port)
        again.push(upgrade_request(server.port))
        if read_response(again).status == 101:
            again.text("in")
            event = again.next_event()
            if tuple(event) == ("text", b"in"):
                return
            if event[0] != "close":
                raise Failure("the echo or close 1013", str(event))
        again.sock.close()


@case("serve/ping-interval", "5.5.2", SERVER)
def ping_interval(t):
    server = own_server(t, "--ping-interval", "1s", "--pong-wait", "5s")
    link = t.upgrade(server.port)
    for _ in range(3):
        event = link.next_event()
        if event[0] != "ping":
            raise Failure("a ping", str(event))
        link.send(PONG, event[1])
    link.alive()


@case("serve/pong-wait", "5.5.2", SERVER, scale=2)
def pong_wait(t):
    """Without an answer to its pings the server gives the connection up, others stay."""
    server = own_server(t, "--ping-interval", "1s", "--pong-wait", "3s")
    silent, good = t.upgrade(server.port), t.upgrade(server.port)
    pings = 0
    while True:
        event = good.next_event()
        if event[0] != "ping":
            raise Failure("a ping", str(event))
        good.send(PONG, event[1])
        pings += 1
        if pings == 5:
            break
    events = [event[0] for event in silent.transcript()]
    if "ping" not in events or any(kind not in ("ping", "close", "end") for kind in events):
        raise Failure("a ping, then the end", str(events))
    good.alive()


@case("broadcast/everyone-with-sender", "5.4", SERVER)
def broadcast(t):
    server = own_server(t, "--threads", "2")
    links = [t.upgrade(server.port, "/broadcast") for _ in range(10)]
    # A member is in once its own message comes back to it; what it saw before belongs to others.
    for number, link in enumerate(links):
        mark = b"in %d" % number
        link.text(mark)
        for member in links[:number + 1]:
            while True:
                event = member.next_event()
                if event[0] != "text":
                    raise Failure(f"the message {mark!r}", str(event))
                if event[1] == mark:
                    break
    for number in range(200):
        links[number % 3].send(1 if number % 2 else 2, b"message %d" % number)
        kind = "text" if number % 2 else "binary"
        for link in links:
            link.expect(kind, b"message %d" % number)


@case("broadcast/order-is-the-same-for-all", "5.4", SERVER)
def broadcast_order(t):
    server = own_server(t, "--threads", "2")
    links = [t.upgrade(server.port, "/broadcast") for _ in range(6)]
    for number, link in enumerate(links):
        link.text("in %d" % number)
        while tuple(link.next_event()) != ("text", b"in %d" % number):
            pass
    for number in range(100):
        for who, link in enumerate(links):
            link.text("from %d number %d" % (who, number))
    heard = []
    for link in links:
        own = []
        while len(own) < 600:
            event = link.next_event()
            if event[0] != "text":
                raise Failure("messages only", str(event))
            if event[1].startswith(b"from"):
                own.append(event[1])
        heard.append(own)
    if any(own != heard[0] for own in heard):
        raise Failure("the same order at every member", "different orders")
    for who in range(6):
        mine = [line for line in heard[0] if line.startswith(b"from %d " % who)]
        if mine != [b"from %d number %d" % (who, number) for number in range(100)]:
            raise Failure("each sender's messages once and in order", f"sender {who} differs")


@case("serve/refuses-wrong-arguments-{}", "usage", SERVER, each=[
    ("unknown-option", ("--no-such-option",)), ("bad-number", ("--threads", "many")),
    ("negative-number", ("--max-connections", "-5")), ("bad-policy", ("--overflow", "sometimes")),
    ("bad-address", ("--listen", "not an address")), ("bad-port", ("--listen", ":99999"))])
def wrong_arguments(t, arguments):
    process = t.start("serve", *arguments)
    status = process.wait(t.deadline)
    if status != 2 or not process.error_text():
        raise Failure("status 2 with a sentence", f"{status}: {process.error_text()}")


@case("serve/address-in-use", "usage", SERVER)
def address_in_use(t):
    taken = own_server(t)
    process = t.start("serve", "--listen", f"127.0.0.1:{taken.port}")
    status = process.wait(t.deadline)
    if status <= 0 or not process.error_text():
        raise Failure("a failure with a sentence", f"{status}: {process.error_text()}")


# connect

@case("connect/lines", "usage", CLIENT)
def lines(t):
    """Lines of standard input become text messages, messages become lines of output."""
    link = t.connect("--count", "3", echo=False, stdout=subprocess.PIPE)
    t.answer(link)
    link.process.write("first line\nsecond \u20ac\n\n".encode())
    for line in ("first line", "second \u20ac", ""):
        link.expect_echo(line)
    for line in ("one", "tw\u00f6", "three"):
        link.text(line)
    output = link.process.read_until(lambda data: data.count(b"\n") == 3, t.deadline, "three lines")
    if output.decode() != "one\ntw\u00f6\nthree\n":
        raise Failure("the three messages as lines", repr(output))
    link.expect_close(1000)
    t.finish(link, 0)


@case("connect/last-line-without-newline", "usage", CLIENT)
def last_line(t):
    link = t.connect("--count", "1", echo=False, stdout=subprocess.PIPE)
    t.answer(link)
    link.process.write(b"no newline here")
    link.process.end_input()
    link.expect_echo("no newline here")
    link.text("answer")
    link.expect_close(1000)
    t.finish(link, 0)


@case("connect/count-waits-after-end-of-input", "usage", CLIENT)
def count_waits(t):
    link = t.connect("--count", "2", echo=False, stdout=subprocess.PIPE)
    link.process.end_input()
    t.answer(link)
    link.send(PING, b"there?")
    link.expect("pong", b"there?")
    link.text("a")
    link.text("b")
    link.expect_close(1000)
    output = link.process.read_until(lambda data: data.count(b"\n") == 2, t.deadline, "two lines")
    if output != b"a\nb\n":
        raise Failure("two lines", repr(output))
    t.finish(link, 0)


@case("connect/count-not-reached", "usage", CLIENT)
def count_not_reached(t):
    """The peer ends in order before the count: what came is printed, and the status is normal."""
    link = t.connect("--count", "5", echo=False, stdout=subprocess.PIPE)
    t.answer(link)
    link.text("only one")
    link.close_with(1000)
    link.expect_close(1000)
    output = link.process.read_until(lambda data: b"\n" in data, t.deadline, "a line")
    if output != b"only one\n":
        raise Failure("one line", repr(output))
    t.finish(link, 0, 1)


@case("connect/refuses-wrong-arguments-{}", "usage", CLIENT, each=[
    ("no-url", ("connect",)), ("unknown-option", ("connect", "ws://127.0.0.1:1/", "--no-such")),
    ("bad-url", ("connect", "ws://")), ("unknown-scheme", ("connect", "gopher://127.0.0.1/")),
    ("bad-port", ("connect", "ws://127.0.0.1:99999/")),
    ("bad-count", ("connect", "ws://127.0.0.1:1/", "--count", "x")),
    ("negative-count", ("connect", "ws://127.0.0.1:1/", "--count", "-1")),
    ("bad-header", ("connect", "ws://127.0.0.1:1/", "--header", "no colon")),
    ("header-with-line-break", ("connect", "ws://127.0.0.1:1/", "--header", "A: b\r\nC: d")),
    ("unknown-command", ("conect",))])
def usage(t, arguments):
    t.start(*arguments, stdin=subprocess.DEVNULL).expect_exit(t.deadline, 2)


@case("connect/reconnects", "usage", CLIENT, scale=3)
def reconnects(t):
    listener, port = t.listen()
    process = t.start("connect", f"ws://127.0.0.1:{port}/", "--echo", "--reconnect",
                      stdout=subprocess.DEVNULL)
    for how in ("reset", "end", "stay"):
        link = t.accept(listener, process)
        head = read_head(link)
        link.request = Response(b"HTTP/1.1 0 request\r\n" + head.partition(b"\r\n")[2])
        t.answer(link)
        link.alive()
        if how == "reset":
            hard_reset(link.sock)
        elif how == "end":
            link.sock.close()
        else:
            process.child.terminate()
            event = link.next_event()
            if event[0] not in ("close", "end"):
                raise Failure("a close or the end at SIGTERM", str(event))
