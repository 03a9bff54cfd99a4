"""Programs that stand between the two ends, or are one: started, waited for and ended by their ids."""
import asyncio
import json
import os
import shutil
import socket
import tempfile

from harness import PATIENCE, Failure, Program, check


def find(program):
    """Where a program is; those of administrators are not on everybody's path."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    check(found, f"{program} is not installed: ./run test installs the Debian packages of the tests")
    return found


class Port:
    """A port that stays the test's until a program listens there, and between two that do: all of them
    allow the address to be used again."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.number = self.socket.getsockname()[1]

    def __str__(self):
        return str(self.number)


class Daemon:
    """One run of a program, to be used as `async with`: there once all its ports accept."""

    def __init__(self, command, ports):
        self.command, self.ports = [str(word) for word in command], ports
        self.errors = tempfile.TemporaryFile()
        self.process = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=self.errors)
        try:
            for port in self.ports:
                await self._accepts(port)
        except BaseException:
            await self.kill()
            raise
        return self

    async def _accepts(self, port):
        while True:
            if self.process.returncode is not None:
                raise Failure(f"{self.command[0]} ended: {self.said()}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port.number)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.01)

    def said(self):
        return os.pread(self.errors.fileno(), 4096, 0).decode(errors="replace")

    def children(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        try:
            with open(path, encoding="ascii") as children:
                return [int(word) for word in children.read().split()]
        except OSError:
            return []

    async def kill(self):
        """At once, with what it started; nothing of it says goodbye."""
        if self.process is None or self.process.returncode is not None:
            return
        started = self.children()
        self.process.kill()
        await self.process.wait()
        for pid in started:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass

    async def stop(self, number):
        self.process.send_signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), PATIENCE)
        except asyncio.TimeoutError:
            raise Failure(f"{self.command[0]} still runs") from None

    __aenter__ = start

    async def __aexit__(self, *_):
        await self.kill()
        self.errors.close()


class PeerClient(Program):
    """One run of `peer_client`; its lines are events."""

    def __init__(self, path, how, *arguments):
        super().__init__(path, how, *arguments)

    async def event(self):
        line = await self.line()
        check(line, f"the client ended: {self.error_text()[-300:]}")
        return json.loads(line)

    async def until(self, event):
        """The next event of that kind; those before it are passed over."""
        while True:
            seen = await self.event()
            if seen["event"] == event:
                return seen
            check(seen["event"] != "ended", f"ended while waiting for {event}")

    async def expect(self, event, **members):
        """The very next event, and what it has to say."""
        seen = await self.event()
        wanted = {"event": event, **members}
        picked = {name: seen.get(name) for name in wanted}
        check(picked == wanted, f"expected {wanted}, saw {seen}")
        return seen

    async def finds_nobody(self):
        """The attempt that meets a closed port; one before it may still have met who was just dying."""
        while (seen := await self.until("attempt"))["error"] == "lost":
            pass
        picked = seen["error"], seen["remedy"], seen["fatal"]
        check(picked == ("connect_failed", "start_server", False), f"an attempt meanwhile: {seen}")

    async def say(self, line):
        await self.write(line.encode() + b"\n")

    async def echoed(self, text):
        """Sends, and waits for the echo behind whatever else happens."""
        await self.say(f"send {text}")
        while (await self.until("message"))["text"] != text:
            pass

    async def stats(self):
        await self.say("stats")
        return await self.until("stats")

    async def end(self):
        self.end_input()
        await self.until_closed()
        await self.expect_exit(0)

    async def until_closed(self):
        while (seen := await self.event())["event"] not in ("closed", "failed"):
            pass
        return seen


def holds(text, *parts):
    for part in parts:
        check(part in text, f"{part!r} is not in {text!r}")
