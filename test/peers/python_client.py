"""python3-websockets as client of `chorus serve`."""
import asyncio
import logging
import os
import ssl

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from harness import LARGE, MIB, PACKABLE, SIZES, Failure, check, echo_all, equal, tests


def dial(url, **options):
    return websockets.connect(url, **{"compression": None, "ping_interval": None,
                                      "max_size": 8 * MIB, **options})


class FrameLog(logging.Handler):
    """Tells when the library has read a frame of one kind."""

    def __init__(self, mark):
        super().__init__(logging.DEBUG)
        self.mark, self.seen = mark, asyncio.Event()
        self.logger = logging.Logger("frames", logging.DEBUG)
        self.logger.addHandler(self)

    def emit(self, record):
        if record.getMessage().startswith(self.mark):
            self.seen.set()


@tests.test("client/text", ["hello", "", "\u00e9\u20ac\U0001f600", "line\nbreak\0zero"])
@tests.test("client/binary", [b"", bytes(range(256)), b"\xff\xfe"])
@tests.test("client/text-of-every-length-form", ["x" * size for size in SIZES])
@tests.test("client/binary-of-every-length-form", [b"\x80" * size for size in SIZES])
async def client_echo(setting, messages):
    async with setting.serve() as program:
        async with dial(await program.url() + "/echo") as ws:
            await echo_all(ws, messages)
        equal(ws.close_code, 1000, "close code")
        await program.stop()


@tests.test("client/1-mib")
async def client_mebibyte(setting):
    async with setting.serve(*LARGE) as program:
        async with dial(await program.url() + "/echo") as ws:
            await echo_all(ws, ["\u20ac" * (MIB // 3), os.urandom(MIB), "x" * MIB])


@tests.test("client/fragments")
async def client_fragments(setting):
    async with setting.serve() as program:
        async with dial(await program.url() + "/echo") as ws:
            for parts in (["one ", "two ", "three"], ["", "a", ""], ["\u20ac"] * 300,
                          [b"bin", b"", b"ary"], [os.urandom(70000)] * 3):
                await ws.send(parts)
                equal(await ws.recv(), parts[0][:0].join(parts), "echo of the fragments")


@tests.test("client/1000-in-flight")
async def client_pipelined(setting):
    async with setting.serve("--queue-bytes", 16 * MIB) as program:
        async with dial(await program.url() + "/echo", max_queue=None) as ws:
            messages = [f"message {number}" for number in range(1000)]

            async def send_all():
                for message in messages:
                    await ws.send(message)

            sender = asyncio.ensure_future(send_all())
            equal([await ws.recv() for _ in messages], messages, "messages in order")
            await sender


@tests.each("client/compression-{}", [
    ("default", {}), ("no-takeover", {"server_no_context_takeover": True,
                                       "client_no_context_takeover": True}),
    ("server-window-10", {"server_max_window_bits": 10}),
    ("client-window-10", {"client_max_window_bits": 10}),
    ("small-windows", {"server_max_window_bits": 9, "client_max_window_bits": 9})])
async def client_compression(setting, parameters):
    factory = ClientPerMessageDeflateFactory(**parameters)
    async with setting.serve("--compression", "on", *LARGE) as program:
        async with dial(await program.url() + "/echo", extensions=[factory]) as ws:
            check(ws.extensions, "compression was not agreed")
            await echo_all(ws, PACKABLE)
            for parts in (["again ", "and again " * 100], [b"a" * 1000, b"b" * 1000, b""]):
                await ws.send(parts)
                equal(await ws.recv(), parts[0][:0].join(parts), "echo of compressed fragments")


@tests.test("client/compression-declined-when-off")
async def client_compression_off(setting):
    async with setting.serve("--compression", "off") as program:
        async with dial(await program.url() + "/echo", compression="deflate") as ws:
            check(not ws.extensions, "compression was agreed although it is off")
            await echo_all(ws, ["plain " * 100])


@tests.test("client/ping-to-program")
async def client_ping(setting):
    async with setting.serve() as program:
        async with dial(await program.url() + "/echo") as ws:
            for payload in (b"", b"x", bytes(range(125)), None):
                await (await ws.ping(payload))
            await echo_all(ws, ["after pings"])


@tests.test("client/ping-from-program")
async def client_pinged(setting):
    """The library answers the heartbeat, so the connection outlives the pong wait."""
    frames = FrameLog("< PING")
    async with setting.serve("--ping-interval", "1s", "--pong-wait", "10s") as program:
        async with dial(await program.url() + "/echo", logger=frames.logger) as ws:
            for _ in range(12):
                frames.seen.clear()
                await frames.seen.wait()
            await echo_all(ws, ["still here"])


@tests.each("client/close-{}", [(code, code, reason) for code, reason in (
    (1000, ""), (1000, "done"), (1001, "going away"), (1008, "\u20ac" * 41), (1011, ""),
    (1012, "later"), (3000, "mine"), (4999, "x" * 123))])
async def client_closes(setting, code, reason):
    async with setting.serve() as program:
        ws = await dial(await program.url() + "/echo")
        await echo_all(ws, ["before"])
        await ws.close(code, reason)
        equal(ws.close_code, code, "answer to the close")
        equal(ws.close_reason, "", f"reason in the answer to {reason!r}")
        await program.stop()


@tests.test("client/closed-by-program-that-stops")
async def client_server_stops(setting):
    async with setting.serve() as program:
        ws = await dial(await program.url() + "/echo")
        await echo_all(ws, ["before"])
        program.process.terminate()
        await ws.wait_closed()
        equal(ws.close_code, 1012, "close code of a server that stops")
        await program.expect_exit(0)


@tests.test("client/closed-for-a-message-too-big")
async def client_too_big(setting):
    async with setting.serve("--max-message", 1000) as program:
        ws = await dial(await program.url() + "/echo")
        await echo_all(ws, ["x" * 1000])
        try:
            await ws.send("x" * 1001)
            await ws.recv()
            raise Failure("a message above the limit came back")
        except websockets.ConnectionClosed:
            equal(ws.close_code, 1009, "close code")


@tests.test("client/broadcast")
async def client_broadcast(setting):
    async with setting.serve("--threads", 2) as program:
        url = await program.url() + "/broadcast"
        members = [await dial(url, max_queue=None) for _ in range(20)]
        for number, member in enumerate(members):
            await member.send(f"in {number}")
            while await member.recv() != f"in {number}":
                pass
        await members[0].send("start")
        for member in members:
            while await member.recv() != "start":
                pass
        for number in range(100):
            await members[0].send(f"message {number}" if number % 2 else b"binary %d" % number)
        for member in members:
            for number in range(100):
                expected = f"message {number}" if number % 2 else b"binary %d" % number
                equal(await member.recv(), expected, "broadcast")
        for member in members:
            await member.close()
        await program.stop()


@tests.test("client/refused")
async def client_refused(setting):
    async with setting.serve() as program:
        try:
            await dial(await program.url() + "/nothing/here")
            raise Failure("an unknown path was upgraded")
        except websockets.InvalidStatusCode as error:
            equal(error.status_code, 404, "status")


def trust(path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return context


@tests.test("client/wss")
async def client_wss(setting):
    async with setting.serve("--tls-cert", setting.pem("server.pem"), "--tls-key",
                             setting.pem("server.key"), "--compression", "on",
                             *LARGE) as program:
        url = await program.url("wss") + "/echo"
        for host in ("127.0.0.1", "localhost"):
            async with dial(url.replace("127.0.0.1", host), family=2,
                            ssl=trust(setting.pem("ca.pem"))) as ws:
                await echo_all(ws, ["secret", b"\0\1", "x" * MIB, os.urandom(MIB)])
                await (await ws.ping())
            equal(ws.close_code, 1000, "close code")
        async with dial(url, ssl=trust(setting.pem("ca.pem")), compression="deflate") as ws:
            await echo_all(ws, ["secret and packed " * 1000])
        try:
            await dial(url, ssl=trust(setting.pem("stranger_ca.pem")))
            raise Failure("connected without a trusted issuer")
        except ssl.SSLCertVerificationError:
            pass
        async with dial(url, ssl=trust(setting.pem("ca.pem"))) as ws:
            await echo_all(ws, ["after a failed handshake"])
        await program.stop()


@tests.each("client/refuses-certificate-{}", [(name, name) for name in
                                                  ("other", "expired", "stranger")])
async def client_bad_certificate(setting, name):
    """Shows that the certificates of the tests are as wrong as their names say."""
    async with setting.serve("--tls-cert", setting.pem(f"{name}.pem"), "--tls-key",
                             setting.pem(f"{name}.key")) as program:
        try:
            await dial(await program.url("wss") + "/echo", ssl=trust(setting.pem("ca.pem")))
            raise Failure(f"connected to the certificate {name}")
        except ssl.SSLCertVerificationError:
            pass
