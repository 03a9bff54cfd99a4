#!/usr/bin/python3
"""Faults of networks, made for real between two network namespaces: loss, delay, a black hole, addresses that
go, peers that vanish. Skipped where the system forbids such namespaces.

    networks.py --program PATH/chorus --client PATH/peer_client [--only NAME]
"""
import argparse
import asyncio
import os
import sys

from daemons import PeerClient, holds
from harness import PATIENCE, Failure, Tests, check, equal
from wire import On, Wire, enter_or_skip

tests = Tests()
PORT = 9000
LIVELY = ("--ping-interval", "200ms", "--pong-wait", "5s", "--log-level", "debug")
QUICK = ("initial", 1, "cap", 50, "timeout", 300)


class Client(On, PeerClient):
    def __init__(self, host, path, how, *options):
        On.__init__(self, host, path, how, f"ws://10.99.0.2:{PORT}/echo", *QUICK, *options)


class Setting:
    def __init__(self, options):
        self.program, self.client = os.path.abspath(options.program), os.path.abspath(options.client)

    async def serve(self, wire, *options):
        server = On(wire.far, self.program, "serve", "--listen", f"10.99.0.2:{PORT}", *options)
        wire.programs.append(await server.__aenter__())
        line = await server.line()
        check(line.startswith("listening on "), f"ready line {line!r}; {server.error_text()}")
        return server

    def stay(self, wire, *options):
        return Client(wire.near, self.client, "stay", *options)


async def until_logged(server, *parts):
    async def look():
        while not all(part in server.error_text() for part in parts):
            await asyncio.sleep(0.05)
    try:
        await asyncio.wait_for(look(), PATIENCE)
    except asyncio.TimeoutError:
        raise Failure(f"{parts} is not in the log: {server.error_text()[-600:]}") from None


async def comes_back(client, *, waited):
    """What was sent meanwhile arrives, and then all is as before."""
    await client.until("open")
    await client.say("send after")
    texts = [(await client.until("message"))["text"] for _ in range(len(waited) + 1)]
    equal(texts, [*waited, "after"], "messages")
    await client.end()


@tests.test("network/loss-and-delay")
async def loss_and_delay(setting):
    """Of each hundred packets five are lost, and the others take 50 ms each way: everything arrives once
    and in order on one connection, and a heartbeat that allows for it does not blame the peer."""
    async with Wire(delay=0.05, loss=0.05) as wire:
        server = await setting.serve(wire, "--ping-interval", "500ms", "--pong-wait", "15s")
        async with setting.stay(wire, "ping", 500, "pong", 15000, "timeout", 15000) as client:
            await client.until("open")
            texts = [f"{number:03} " + "x" * 130 for number in range(300)]
            for text in texts:
                await client.say(f"send {text}")
            equal([(await client.until("message"))["text"] for _ in texts], texts, "echoes")
            while (seen := await client.stats())["round_trip_us"] == 0:
                await asyncio.sleep(0.05)  # until a pong has come
            equal((seen["attempts"], seen["connects"]), (1, 1), "attempts and connections")
            check(seen["round_trip_us"] >= 100_000, f"a round trip of {seen['round_trip_us']} us")
            await client.end()
        check(wire.lost > 0, f"nothing was lost of {wire.passed}")
        await server.__aexit__()


@tests.test("network/large-through-loss")
async def large(setting):
    """By the program, in both directions at once, with more loss and less delay."""
    async with Wire(delay=0.005, loss=0.05, seed=2) as wire:
        server = await setting.serve(wire)
        lines = [str(number) * (30_000 + number) for number in range(8)]
        async with On(wire.near, setting.program, "connect", f"ws://10.99.0.2:{PORT}/echo", "--count",
                      len(lines)) as program:
            await program.write("".join(f"{line}\n" for line in lines).encode())
            for line in lines:
                equal(await program.line(), line + "\n", "echo")
            await program.expect_exit(0)
        check(wire.lost > 0, f"nothing was lost of {wire.passed}")
        await server.__aexit__()


@tests.test("network/black-hole")
async def black_hole(setting):
    """No packet passes any more and nobody says so: the heartbeats of both sides end it, attempts name
    the network, and the client is back once the hole has gone."""
    async with Wire() as wire:
        server = await setting.serve(wire, *LIVELY)
        async with setting.stay(wire, "ping", 200, "pong", 5000) as client:
            await client.until("open")
            await client.echoed("before")
            wire.hole = True
            await client.expect("lost", error="timed_out")
            await until_logged(server, "timed_out")
            await client.expect("attempt", error="connect_timeout", stage="connect",
                                remedy="check_network", fatal=False)
            for text in ("one", "two"):
                await client.say(f"send {text}")
            wire.hole = False
            await comes_back(client, waited=["one", "two"])
        check(wire.swallowed > 0, "the hole has eaten nothing")
        await server.__aexit__()


@tests.test("network/black-hole-under-way")
async def black_hole_under_way(setting):
    """Messages are under way when it opens. Each is echoed at most once, in order, and those that are not
    are counted as unconfirmed."""
    async with Wire(delay=0.01) as wire:
        server = await setting.serve(wire)
        async with setting.stay(wire, "ping", 200, "pong", 5000) as client:
            await client.until("open")
            await client.echoed("before")
            for number in range(50):
                await client.say(f"send early {number:03}")
            await client.until("message")
            wire.hole = True
            for number in range(50):
                await client.say(f"send into the hole {number:03}")
            await wire.until_swallowed(1)
            texts = []
            while (seen := await client.event())["event"] != "lost":
                texts.append(seen["text"])
            equal(seen["error"], "timed_out", "why it ends")
            wire.hole = False
            await client.until("open")
            await client.say("send last")
            while not texts or texts[-1] != "last":
                texts.append((await client.until("message"))["text"])
            equal(texts, sorted(set(texts), key=texts.index), "each at most once")
            order = [text for text in texts if text != "last"]
            equal(order, sorted(order), "order")
            counted = await client.stats()
            missing = 101 - 1 - len(texts)  # the first echo of the early ones was passed over
            check(missing <= counted["unconfirmed"],
                  f"{missing} are missing, {counted['unconfirmed']} unconfirmed")
            await client.end()
        await server.__aexit__()


@tests.test("network/address-gone")
async def address_gone(setting):
    """This side's address goes: nothing can be sent, attempts name the network; it comes back with it."""
    async with Wire() as wire:
        server = await setting.serve(wire)
        async with setting.stay(wire, "ping", 200, "pong", 5000) as client:
            await client.until("open")
            await client.echoed("before")
            wire.near.ip("address", "delete", "10.99.0.1/24", "dev", "near")
            await client.until("lost")
            missed = await client.expect("attempt", error="connect_failed", remedy="check_network",
                                         fatal=False)
            holds(missed["what"], "can't be reached from here")
            await client.say("send waited")
            wire.near.ip("address", "add", "10.99.0.1/24", "dev", "near")
            await comes_back(client, waited=["waited"])
        await server.__aexit__()


@tests.test("network/address-changed")
async def address_changed(setting):
    """Another address instead: the client is there again under it."""
    async with Wire() as wire:
        server = await setting.serve(wire)
        async with setting.stay(wire, "ping", 200, "pong", 5000) as client:
            await client.until("open")
            wire.near.ip("address", "delete", "10.99.0.1/24", "dev", "near")
            wire.near.ip("address", "add", "10.99.0.7/24", "dev", "near")
            await client.until("lost")
            await comes_back(client, waited=[])
        await server.__aexit__()


@tests.each("network/server-{}", [
    ("address-gone", ("address", "delete", "10.99.0.2/24", "dev", "far"),
     ("address", "add", "10.99.0.2/24", "dev", "far")),
    ("link-down", ("link", "set", "far", "down"), ("link", "set", "far", "up"))])
async def server_gone(setting, gone, back):
    """The other side's: it looks like a black hole from here."""
    async with Wire() as wire:
        server = await setting.serve(wire)
        async with setting.stay(wire, "ping", 200, "pong", 5000) as client:
            await client.until("open")
            await client.echoed("before")
            wire.far.ip(*gone)
            await client.expect("lost", error="timed_out")
            await client.expect("attempt", error="connect_timeout", remedy="check_network")
            await client.say("send waited")
            wire.far.ip(*back)
            await comes_back(client, waited=["waited"])
        await server.__aexit__()


@tests.test("network/link-down")
async def link_down(setting):
    async with Wire() as wire:
        server = await setting.serve(wire)
        async with setting.stay(wire, "ping", 200, "pong", 5000) as client:
            await client.until("open")
            wire.near.ip("link", "set", "near", "down")
            await client.until("lost")
            await client.expect("attempt", error="connect_failed", remedy="check_network")
            wire.near.ip("link", "set", "near", "up")
            await comes_back(client, waited=[])
        await server.__aexit__()


@tests.each("network/route-{}", [("unreachable", "unreachable", "check_network"),
                                  ("prohibited", "prohibit", "check_permission")])
async def route(setting, kind, remedy):
    """A router says no: this is not a server that does not run."""
    async with Wire() as wire:
        wire.near.ip("route", "add", kind, "10.99.0.2")
        async with Client(wire.near, setting.client, "once") as client:
            await client.expect("failed", error="connect_failed", remedy=remedy)
            await client.expect_exit(0)
        async with On(wire.near, setting.program, "connect", f"ws://10.99.0.2:{PORT}/") as program:
            await program.expect_exit(1, 3)
            check("listens there" not in program.error_text(), program.error_text())


@tests.test("network/half-open-vanished")
async def vanished(setting):
    """The peer's machine is off, without a FIN: nobody ever answers again."""
    async with Wire() as wire:
        server = await setting.serve(wire)
        async with setting.stay(wire, "ping", 200, "pong", 5000) as client:
            await client.until("open")
            await client.echoed("before")
            wire.hole = True  # while it dies: its kernel would say so
            await server.__aexit__()
            await wire.far.end()
            wire.hole = False
            await client.expect("lost", error="timed_out")
            await client.expect("attempt", error="connect_timeout", remedy="check_network")
            await wire.replace_far()
            await client.say("send waited")
            server = await setting.serve(wire)
            await comes_back(client, waited=["waited"])
        await server.__aexit__()


@tests.test("network/half-open-restarted")
async def restarted(setting):
    """It is there again before anyone noticed: it knows nothing of the connection and resets it at the
    next ping, long before the pong is given up."""
    async with Wire() as wire:
        server = await setting.serve(wire)
        async with setting.stay(wire, "ping", 300, "pong", 60000) as client:
            await client.until("open")
            await client.echoed("before")
            wire.hole = True
            await server.__aexit__()
            await wire.replace_far()
            server = await setting.serve(wire)
            wire.hole = False
            await client.expect("lost", error="lost")
            await comes_back(client, waited=[])
        await server.__aexit__()


@tests.test("network/half-open-client")
async def client_vanished(setting):
    """The other way round: the server's heartbeat ends the session of a client that is no more."""
    async with Wire() as wire:
        server = await setting.serve(wire, *LIVELY)
        client = await setting.stay(wire).__aenter__()
        await client.until("open")
        wire.hole = True
        await client.__aexit__()
        await until_logged(server, "timed_out")
        wire.hole = False
        async with setting.stay(wire) as client:
            await client.until("open")
            await client.echoed("another")
            await client.end()
        await server.__aexit__()


def main():
    enter_or_skip()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("program", "client"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    return tests.run(Setting(options), options.only)


if __name__ == "__main__":
    sys.exit(main())
