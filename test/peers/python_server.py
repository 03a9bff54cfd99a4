"""python3-websockets as the server that `chorus connect` talks to."""
import asyncio
import http
import itertools
import ssl

import websockets
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from harness import MIB, PACKABLE, SIZES, Failure, check, echo_all, equal, tests


class Peer:
    """A server that runs `script(ws)` on each connection and keeps what it returned or raised."""

    def __init__(self, script, **options):
        self.script = script
        self.options = {"compression": None, "ping_interval": None, "max_size": 8 * MIB, **options}
        self.finished = asyncio.Queue()

    async def __aenter__(self):
        self.server = await websockets.serve(self._handle, "127.0.0.1", 0, **self.options)
        scheme = "wss" if "ssl" in self.options else "ws"
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}/"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def _handle(self, ws):
        try:
            result = await self.script(ws)
        except Exception as error:  # noqa: BLE001  handed over to the test
            result = error
        self.finished.put_nowait(result)

    async def result(self):
        outcome = await self.finished.get()
        if isinstance(outcome, Exception):
            raise Failure(f"in the peer: {type(outcome).__name__}: {outcome}")
        return outcome


@tests.test("server/text", ["hello", "", "\u00e9\u20ac\U0001f600", "line\nbreak\0zero"])
@tests.test("server/binary", [b"", bytes(range(256)), b"\xff\xfe"])
@tests.test("server/text-of-every-length-form", ["x" * size for size in SIZES])
@tests.test("server/binary-of-every-length-form", [b"\x80" * size for size in SIZES])
@tests.test("server/1-mib", ["\u20ac" * (MIB // 3), b"\x80" * MIB, "x" * MIB])
async def server_echo(setting, messages):
    async def script(ws):
        await echo_all(ws, messages)
        await ws.close(1000, "done")
        return ws.close_code

    async with Peer(script) as peer, setting.connect(peer.url, "--echo") as program:
        equal(await peer.result(), 1000, "answer to the close")
        await program.expect_exit(0)


@tests.test("server/fragments")
async def server_fragments(setting):
    async def script(ws):
        for parts in (["one ", "two ", "three"], ["", "a", ""], [b"bin", b"", b"ary"],
                      [b"\xfe" * 70000] * 3):
            await ws.send(parts)
            equal(await ws.recv(), parts[0][:0].join(parts), "echo of the fragments")

    async with Peer(script) as peer, setting.connect(peer.url, "--echo") as program:
        await peer.result()
        await program.expect_exit(0)


@tests.each("server/compression-{}", [
    ("default", {}), ("no-takeover", {"server_no_context_takeover": True,
                                       "client_no_context_takeover": True}),
    ("server-window-10", {"server_max_window_bits": 10}),
    ("client-window-10", {"client_max_window_bits": 10})])
async def server_compression(setting, parameters):
    async def script(ws):
        check(ws.extensions, "compression was not agreed")
        await echo_all(ws, PACKABLE)
        await ws.send(["again ", "and again " * 100])
        equal(await ws.recv(), "again " + "and again " * 100, "echo of compressed fragments")

    factory = ServerPerMessageDeflateFactory(**parameters)
    async with Peer(script, extensions=[factory]) as peer, \
            setting.connect(peer.url, "--echo", "--compression", "on") as program:
        await peer.result()
        await program.expect_exit(0)


@tests.test("server/compression-not-offered-when-off")
async def server_compression_off(setting):
    async def script(ws):
        check(not ws.extensions, "compression was offered although it is off")
        await echo_all(ws, ["plain " * 100])

    async with Peer(script, compression="deflate") as peer, \
            setting.connect(peer.url, "--echo", "--compression", "off") as program:
        await peer.result()
        await program.expect_exit(0)


@tests.test("server/ping-to-program")
async def server_ping(setting):
    async def script(ws):
        for payload in (b"", b"x", bytes(range(125)), None):
            await (await ws.ping(payload))
        await echo_all(ws, ["after pings"])

    async with Peer(script) as peer, setting.connect(peer.url, "--echo") as program:
        await peer.result()
        await program.expect_exit(0)


@tests.each("server/close-{}", [
    (code, code, reason, status) for code, reason, status in (
        (1000, "", (0,)), (1001, "going away", (0,)), (1000, "\u20ac" * 41, (0,)),
        (1008, "not here", (6,)), (1011, "", (6,)), (1012, "later", (6,)),
        (3000, "mine", (6,)), (4999, "x" * 123, (6,)))])
async def server_closes(setting, code, reason, statuses):
    async def script(ws):
        await echo_all(ws, ["before"])
        await ws.close(code, reason)
        return ws.close_code

    async with Peer(script) as peer, setting.connect(peer.url, "--echo") as program:
        equal(await peer.result(), code, "answer to the close")
        await program.expect_exit(*statuses)


@tests.test("server/lines-and-count")
async def server_lines(setting):
    """Input lines reach the peer as text, its messages come out as lines, and the program closes
    with 1000 when it has had its count."""
    lines = ["first", "\u00e9\u20ac\U0001f600", "", "x" * 70000]

    async def script(ws):
        heard = []
        async for message in ws:
            heard.append(message)
            await ws.send(message)
        return heard, ws.close_code

    async with Peer(script) as peer, \
            setting.connect(peer.url, "--count", len(lines)) as program:
        await program.write("".join(line + "\n" for line in lines).encode())
        program.end_input()
        seen = [await program.line() for _ in lines]
        equal(seen, [line + "\n" for line in lines], "output lines")
        equal(await peer.result(), (lines, 1000), "messages and close code")
        await program.expect_exit(0)


@tests.test("server/header-and-subprotocol")
async def server_header(setting):
    async def script(ws):
        return ws.request_headers.get("X-Extra"), ws.subprotocol

    async with Peer(script, subprotocols=["two.example"]) as peer, \
            setting.connect(peer.url, "--echo", "--header", "X-Extra: value", "--subprotocol",
                            "one.example", "--subprotocol", "two.example") as program:
        equal(await peer.result(), ("value", "two.example"), "header and subprotocol")
        await program.expect_exit(0)


@tests.each("server/refuses-with-{}", [(401, 401), (403, 403), (503, 503)])
async def server_refuses(setting, status):
    async def refuse(_path, _headers):
        return http.HTTPStatus(status), [], b"no\n"

    async with Peer(None, process_request=refuse) as peer, \
            setting.connect(peer.url, "--echo") as program:
        await program.expect_exit(3)


@tests.test("server/reconnects")
async def server_reconnects(setting):
    """The program comes back after the peer dropped it without a close frame."""
    counter = itertools.count()

    async def script(ws):
        await echo_all(ws, ["here"])
        if next(counter) == 0:
            ws.transport.abort()

    async with Peer(script) as peer, \
            setting.connect(peer.url, "--echo", "--reconnect") as program:
        await peer.result()
        await peer.result()
        check(program.process.returncode is None or program.process.returncode == 0,
              "the program gave up")


def identity(setting, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(setting.pem(f"{name}.pem"), setting.pem(f"{name}.key"))
    return context


@tests.each("server/wss-{}", [
    ("by-address", "127.0.0.1", "server", True, 0), ("by-name", "localhost", "server", True, 0),
    ("wrong-host", "127.0.0.1", "other", True, 4), ("expired", "127.0.0.1", "expired", True, 4),
    ("unknown-issuer", "127.0.0.1", "stranger", True, 4),
    ("no-issuer-given", "127.0.0.1", "server", False, 4)])
async def server_wss(setting, host, name, trusting, status):
    async def script(ws):
        await echo_all(ws, ["secret", b"\0\1", "x" * MIB, b"\x80" * MIB])
        await (await ws.ping())
        await ws.close(1000, "done")

    async with Peer(script, ssl=identity(setting, name)) as peer, setting.connect(
            peer.url.replace("127.0.0.1", host), "--echo",
            *(["--ca", setting.pem("ca.pem")] if trusting else [])) as program:
        if status == 0:
            await peer.result()
        await program.expect_exit(status)
        check(status == 0 or peer.finished.empty(), "the peer saw a connection")


@tests.each("server/wss-insecure-{}", [("stranger", "stranger"), ("other", "other"),
                                        ("expired", "expired")])
async def server_wss_insecure(setting, name):
    async def script(ws):
        await echo_all(ws, ["trusting"])
        await ws.close()

    async with Peer(script, ssl=identity(setting, name)) as peer, \
            setting.connect(peer.url, "--echo", "--insecure") as program:
        await peer.result()
        await program.expect_exit(0)


@tests.test("server/wss-to-a-plain-port")
async def server_not_tls(setting):
    async def script(ws):
        return None

    async with Peer(script) as peer, setting.connect(
            peer.url.replace("ws:", "wss:"), "--echo", "--ca", setting.pem("ca.pem")) as program:
        await program.expect_exit(4)


@tests.test("server/ws-to-a-tls-port")
async def server_only_tls(setting):
    async def script(ws):
        return None

    async with Peer(script, ssl=identity(setting, "server")) as peer, setting.connect(
            peer.url.replace("wss:", "ws:"), "--echo") as program:
        await program.expect_exit(1, 3, 6)
