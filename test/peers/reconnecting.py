#!/usr/bin/python3
"""A client that comes back, with python3-websockets and npm's `ws` as servers that are killed, restarted, and
behave oddly.

    reconnecting.py --client PATH/peer_client --node NODE --node-modules PATH [--only NAME]
"""
import argparse
import json
import os
import sys

from daemons import PeerClient, Port
from harness import HERE, Program, Tests, check, equal

tests = Tests()
SERVERS = [("python", "python"), ("node", "node")]


class Server(Program):
    """ws_server.py or ws_server.cjs; its lines are events."""

    async def __aenter__(self):
        await super().__aenter__()
        await self.until("listening")
        return self

    async def until(self, name):
        while True:
            line = await self.line()
            check(line, f"the server ended: {self.error_text()[-300:]}")
            seen = json.loads(line)
            if name in seen:
                return seen

    async def kill(self):
        await self.__aexit__()


class Setting:
    def __init__(self, options):
        self.client = os.path.abspath(options.client)
        script = os.path.join(HERE, "ws_server.")
        self.servers = {"python": (sys.executable, "-B", script + "py"),
                        "node": (options.node, script + "cjs", "--node-modules", options.node_modules)}

    def server(self, kind, port):
        return Server(*self.servers[kind], "--port", port)

    def stay(self, port, path, *options):
        return PeerClient(self.client, "stay", f"ws://127.0.0.1:{port}{path}", "initial", 1, "cap", 50,
                          *options)


@tests.each("reconnecting/killed-{}", SERVERS)
async def killed(setting, kind):
    """Killed in the middle of what it answers, twice over. Every message is echoed at most once and
    in order, and those that are not are told as unconfirmed; what is sent while it is away arrives."""
    port, servers = Port(), []

    async def serve():
        servers.append(await setting.server(kind, port).__aenter__())

    try:
        await serve()
        await killed_twice(setting, port, servers, serve)
    finally:
        for server in servers:
            await server.kill()


async def killed_twice(setting, port, servers, serve):
    async with setting.stay(port, "/echo") as client:
        await client.expect("open")
        sent, echoed = 0, []
        for _ in range(2):
            for _ in range(100):
                await client.say(f"send {sent}")
                sent += 1
            echoed.append((await client.until("message"))["text"])
            await servers[-1].kill()
            while (seen := await client.event())["event"] != "lost":
                echoed.append(seen["text"])
            equal(seen["error"], "lost", "how it was lost")
            await client.finds_nobody()
            away = [str(sent + number) for number in range(10)]
            sent += len(away)
            for text in away:
                await client.say(f"send {text}")
            await serve()
            while not echoed or echoed[-1] != away[-1]:
                echoed.append((await client.until("message"))["text"])
            check(set(away) <= set(echoed), "what was sent meanwhile is missing")
        numbers = [int(text) for text in echoed]
        equal(numbers, sorted(set(numbers)), "each at most once, and in order")
        seen = await client.stats()
        equal((seen["connects"], seen["queued"]), (3, 0), "connections and what is left")
        check(sent - len(echoed) <= seen["unconfirmed"],
              f"{sent} sent, {len(echoed)} echoed, {seen['unconfirmed']} unconfirmed")
        check(seen["downtime_ms"] > 0, "no downtime was counted")
        await client.end()


@tests.each("reconnecting/left-by-{}", SERVERS)
async def left(setting, kind):
    """However the server ends a connection, the client comes back, and the message that the server has
    taken is not sent again."""
    port = Port()
    async with setting.server(kind, port):
        for path, error, code in (
                ("/drop", "lost", 1006), ("/end", "lost", 1006), ("/close?code=1000", "closed", 1000),
                ("/close?code=1001", "closed", 1001), ("/close?code=4321", "closed", 4321),
                ("/close?code=1011&reason=broken", "closed", 1011)):
            async with setting.stay(port, path) as client:
                await client.expect("open")
                await client.say("send taken")
                seen = await client.expect("lost", error=error, close_code=code)
                check(code == 1006 or str(code) in seen["said"], f"{seen}")
                await client.expect("open")
                await client.echoed("again")
                seen = await client.stats()
                equal((seen["connects"], seen["received"]), (2, 1), f"{path}: connections, messages")
                await client.end()


@tests.each("reconnecting/refused-for-good-by-{}", SERVERS)
async def for_good(setting, kind):
    """These can't become better by trying again."""
    port = Port()
    async with setting.server(kind, port):
        for code in (1002, 1007, 1008):
            async with setting.stay(port, f"/close?code={code}&reason=no") as client:
                await client.expect("open")
                await client.say("send what it does not like")
                await client.expect("lost", error="closed", close_code=code, fatal=True)
                await client.expect("ended")
                await client.end()


@tests.each("reconnecting/restarts-later-{}", SERVERS)
async def later(setting, kind):
    """1012 with a time to come back after: not earlier, whatever the backoff says."""
    port = Port()
    async with setting.server(kind, port) as server, \
            setting.stay(port, "/close?code=1012&reason=retry-after%3D0.6") as client:
        await server.until("arrived")
        await client.expect("open")
        await client.say("send x")
        await client.expect("lost", close_code=1012, remedy="try_later")
        closed = await server.until("closing")
        again = await server.until("arrived")
        check(again["at"] - closed["at"] >= 600, f"after {again['at'] - closed['at']} ms")
        await client.expect("open")
        await client.echoed("again")
        await client.end()


@tests.each("reconnecting/busy-{}", SERVERS)
async def busy(setting, kind):
    """503 with Retry-After: the attempt is told, and the next one comes not before that time."""
    port = Port()
    async with setting.server(kind, port) as server, setting.stay(port, "/busy?after=1") as client:
        refused = await server.until("left")
        await client.expect("attempt", error="upgrade_refused", status=503, remedy="try_later",
                            fatal=False)
        again = await server.until("arrived")
        check(again["at"] - refused["at"] >= 1000, f"after {again['at'] - refused['at']} ms")
        await client.expect("open")
        await client.echoed("in")
        await client.end()


@tests.each("reconnecting/deaf-{}", SERVERS)
async def deaf(setting, kind):
    """It keeps the connection and reads no more: the heartbeat ends it."""
    port = Port()
    async with setting.server(kind, port), \
            setting.stay(port, "/deaf", "ping", 200, "pong", 5000) as client:
        await client.expect("open")
        await client.say("send lost on it")
        await client.expect("lost", error="timed_out")
        await client.expect("open")
        await client.echoed("again")
        seen = await client.stats()
        equal(seen["unconfirmed"], 1, "unconfirmed")
        await client.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("client", "node", "node-modules"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", action="append", default=[])
    return tests.run(Setting(parser.parse_args()), parser.parse_args().only)


if __name__ == "__main__":
    sys.exit(main())
