"""What the Python peer tests share: running the program, certificates, counting."""
import asyncio
import os
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 60.0  # seconds for one test, and for one wait inside it
MIB = 1 << 20
SIZES = (0, 1, 125, 126, 127, 65535, 65536, 100000)
LARGE = ("--max-message", 4 * MIB, "--queue-bytes", 16 * MIB)
# The repeated line refers to the window that the one before left.
PACKABLE = ("", "x", "again and again " * 1000, "a line of its own", "a line of its own",
            b"\0" * MIB, os.urandom(MIB), "again and again " * 1000)


class Failure(Exception):
    pass


def check(condition, sentence):
    if not condition:
        raise Failure(sentence)


def equal(seen, expected, what):
    if seen != expected:
        raise Failure(f"{what}: expected {str(expected)[:120]}, saw {str(seen)[:120]}")


def make_certificates(folder):
    script = os.path.join(HERE, "..", "certs", "make_certs.sh")
    subprocess.run(["/bin/sh", script, folder], check=True)


class Program:
    """One run of `chorus`, to be used as `async with`. Standard error goes to a file."""

    def __init__(self, path, *arguments):
        self.command = [path, *map(str, arguments)]

    async def __aenter__(self):
        self.errors = tempfile.TemporaryFile()
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=self.errors, limit=1 << 23)
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.errors.close()

    def error_text(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()

    async def line(self):
        return (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode()

    async def url(self, scheme="ws"):
        """The address from the ready line of `serve`."""
        line = (await self.line()).strip()
        prefix = f"listening on {scheme}://127.0.0.1:"
        check(line.startswith(prefix), f"ready line: {line!r}; {self.error_text()[-300:]}")
        return line[len("listening on "):]

    async def write(self, data):
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    def end_input(self):
        self.process.stdin.close()

    async def expect_exit(self, *statuses):
        try:
            status = await asyncio.wait_for(self.process.wait(), PATIENCE)
        except asyncio.TimeoutError:
            raise Failure("the program still runs") from None
        text = self.error_text()
        check(status in statuses,
              f"exit status {status}, expected {' or '.join(map(str, statuses))}; {text[-300:]}")
        check(status == 0 or text, f"exit status {status} without a sentence on standard error")

    async def stop(self):
        self.process.terminate()
        await self.expect_exit(0)


class Tests:
    def __init__(self):
        self.rows = []

    def test(self, name, *arguments):
        def register(function):
            self.rows.append((name, function, arguments))
            return function
        return register

    def each(self, name, rows):
        """One test per row; the first item of a row fills the name."""
        def register(function):
            for label, *arguments in rows:
                self.rows.append((name.format(label), function, arguments))
            return function
        return register

    def run(self, setting, only=()):
        """Runs the tests; the exit status of the whole."""
        passed = failed = 0
        for name, function, arguments in self.rows:
            if only and not any(part in name for part in only):
                continue
            try:
                asyncio.run(asyncio.wait_for(function(setting, *arguments), PATIENCE))
                passed += 1
                continue
            except asyncio.TimeoutError:
                problem = "not finished in the time allowed"
            except Failure as failure:
                problem = str(failure)
            except Exception as error:  # noqa: BLE001  what a peer throws is a failed test
                problem = f"{type(error).__name__}: {error}"
            failed += 1
            print(f"FAILED {name}: {problem}", flush=True)
        print(f"{passed} passed, {failed} failed")
        return 1 if failed or not passed else 0


tests = Tests()


class Setting:
    def __init__(self, program, certificates):
        self.program, self.certificates = program, certificates

    def serve(self, *arguments):
        return Program(self.program, "serve", "--listen", "127.0.0.1:0", *arguments)

    def connect(self, *arguments):
        return Program(self.program, "connect", *arguments)

    def pem(self, name):
        return os.path.join(self.certificates, name)


async def echo_all(ws, messages):
    for message in messages:
        await ws.send(message)
        equal(await ws.recv(), message, "echo")
