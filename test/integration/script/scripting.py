"""What the tests of `chorus script` share."""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading

from contract import PATIENCE, Contract, Ended, Serve, program, settings


class TcpEcho:
    """Sends all bytes back, so that every framing gets its messages again."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(sock,), daemon=True).start()

    @staticmethod
    def echo(sock):
        with sock, contextlib.suppress(OSError):
            while piece := sock.recv(65536):
                sock.sendall(piece)

    def close(self):
        self.listener.close()


def unused_port():
    """Where nobody listens. Bound but not listening: nobody else gets it meanwhile."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


class Scripting(Contract):
    @classmethod
    def setUpClass(cls):
        cls.server = Serve("--log-level", "off")
        cls.tcp = TcpEcho()

    @classmethod
    def tearDownClass(cls):
        cls.tcp.close()
        cls.server.stop()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, steps, name="script.json"):
        """Into the test's folder, unless text is given one step a line: step n is on line n + 1."""
        path = self.folder / name
        if not isinstance(steps, str):
            steps = "[\n" + ",\n".join(json.dumps(s) for s in steps) + "\n]\n"
        path.write_text(steps)
        return path

    def script(self, steps, *options, environment=(), cwd=None):
        """Runs a file, or steps that are written to one."""
        path = steps if isinstance(steps, pathlib.Path) else self.write(steps)
        return Ended(subprocess.run([program(), "script", str(path), *options], capture_output=True,
                                    stdin=subprocess.DEVNULL, timeout=PATIENCE, cwd=cwd,
                                    env={**os.environ, **dict(environment)}))

    @property
    def echo(self):
        return {"cmd": "connect_gate", "host": self.server.url + "/echo"}

    def complaints(self, ended):
        return [line for line in ended.err.splitlines() if line.startswith("chorus script: ")]

    def assert_refused(self, ended, place, *parts):
        """Status 2, nothing was run, and one complaint at this place has all these parts."""
        self.assert_status(ended, 2)
        self.assertNotIn(" skipped, in ", ended.err)
        for line in self.complaints(ended):
            if f":{place}: " in line and all(part in line for part in parts):
                return
        self.fail(f"no complaint at {place} has {parts}:\n{ended.err}")
