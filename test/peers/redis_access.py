"""Whether nodes do with what docs/scaling.md gives a user of Redis: rooms, presence, a connection that is
lost, a node that dies. Redis itself tells what it denied.

    redis_access.py --program PATH --page docs/scaling.md
"""
import argparse
import asyncio
import os
import pathlib
import re
import signal
import sys
import tempfile

from daemons import Daemon, Port, find
from harness import Program, Setting, check, equal, tests


class Redis(Daemon):
    """With the user that the page tells to make."""

    def __init__(self, rules):
        self.folder = tempfile.TemporaryDirectory()
        self.port = Port()
        self.rules = rules
        super().__init__([find("redis-server"), "--port", self.port, "--bind", "127.0.0.1", "--dir",
                          self.folder.name, "--save", ""], [self.port])
        self.url = f"redis://chorus:secret@127.0.0.1:{self.port}"

    async def __aenter__(self):
        await self.start()
        equal(await self.ask("ACL", "SETUSER", *self.rules), "OK", "the page's user")
        return self

    async def ask(self, *words):
        asked = await asyncio.create_subprocess_exec(find("redis-cli"), "-p", str(self.port), *words,
                                                     stdout=asyncio.subprocess.PIPE)
        said, _ = await asyncio.wait_for(asked.communicate(), 20)
        return said.decode().strip()

    async def connections(self):
        clients = (await self.ask("CLIENT", "LIST")).splitlines()
        return [re.search(r"id=(\d+)", one)[1] for one in clients if "user=chorus" in one]


def rules_of(page):
    text = pathlib.Path(page).read_text(encoding="utf-8")
    found = re.search(r"ACL SETUSER (.*?)```", text, re.DOTALL)
    check(found, "the page has no ACL SETUSER")
    return found[1].replace("\\\n", " ").replace(">PASSWORD", ">secret").split()


def connect(setting, url, path, *arguments):
    return Program(setting.program, "connect", url + path, *arguments)


async def comes_true(condition):
    while not await condition():  # as long as a test may take
        await asyncio.sleep(0.02)


def chat(name):
    return f"/ws/chat/tea?user_id={name}&username={name}"


async def until(program, part):
    while part not in (line := await program.line()):
        check(line, f"ended before {part!r}: {program.error_text()[-300:]}")
    return line


@tests.test("access/enough")
async def enough(setting):
    async with Redis(setting.rules) as redis:
        options = ("--broker", redis.url, "--broker-lease", "1s", "--presence-grace", "0")
        async with setting.serve(*options) as one, setting.serve(*options) as two:
            here, there = await one.url(), await two.url()
            async with connect(setting, here, chat("ann")) as ann, \
                    connect(setting, here, "/ws/room/tea?confirm=1") as publisher, \
                    connect(setting, there, "/ws/room/tea?history=9") as reader:
                await until(ann, '"welcome"')
                async with connect(setting, there, chat("bob")) as bob:
                    await until(ann, '"user_joined"')
                    await bob.write(b'{"type":"message","message":"hello"}\n')
                    await until(ann, '"hello"')
                    await publisher.write(b"first\n")
                    equal(await publisher.line(), "first\n", "own copy")
                    equal(await publisher.line(), '{"ref":"first","outcome":"accepted"}\n', "confirmation")
                    equal(await reader.line(), "first\n", "copy on the other node")
                    # A lost connection has to be ended at Redis before its publishes are looked up.
                    before = set(await redis.connections())
                    check(len(before) == 4, f"{len(before)} connections of two nodes")
                    for one_id in before:
                        await redis.ask("CLIENT", "KILL", "ID", one_id)

                    async def back():
                        now = set(await redis.connections())
                        return len(now) == 4 and not now & before
                    await comes_true(back)
                    two.process.send_signal(signal.SIGKILL)
                    await until(ann, '"user_left"')
        equal(await redis.ask("ACL", "LOG"), "", "what Redis denied")


@tests.test("access/told-when-not")
async def not_enough(setting):
    """Without one of the commands Redis' own words are in the log."""
    async with Redis([rule for rule in setting.rules if rule != "+zadd"]) as redis:
        async with setting.serve("--broker", redis.url) as node:
            await node.url()

            async def told():
                return "Redis refused" in node.error_text()
            await comes_true(told)
            check("secret" not in node.error_text(), "the password is in the log")
        check("zadd" in await redis.ask("ACL", "LOG"), "Redis denied nothing")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("program", "page"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    setting = Setting(os.path.abspath(options.program), None)
    setting.rules = rules_of(options.page)
    return tests.run(setting, options.only)


if __name__ == "__main__":
    sys.exit(main())
