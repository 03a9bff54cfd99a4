"""Starting servers under test, on their own processor, and ending them as their contract says."""

import contextlib
import os
import pathlib
import re
import select
import shlex
import signal
import socket
import subprocess
import time

SERVER_CPU, LOAD_CPU = 0, 1
TWO_CPUS = {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0)


class Trouble(Exception):
    """Something that ends one measurement, with a sentence for the reader."""


def pin(cpu):
    """What a child does before it becomes its program: stay on one processor, when there are two."""
    return (lambda: os.sched_setaffinity(0, {cpu})) if TWO_CPUS else None


def only_child(pid):
    """The process that a tracer runs, or the process itself."""
    with contextlib.suppress(OSError):
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
    return pid


def cpu_ticks(pid):
    """User and system time from /proc/PID/stat, in seconds; None when the process is gone."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


@contextlib.contextmanager
def running(command, wrapper=(), traced=False, patience=60, pinned=True):
    """Start a server, give (url, pid), and end it by SIGTERM as its own contract says."""
    argv = [*wrapper, *shlex.split(command)]
    if "{port}" in command:
        port = free_port()
        argv = [a.replace("{port}", str(port)) for a in argv]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE if traced else None,
                               preexec_fn=pin(SERVER_CPU) if pinned else None)
    pid = process.pid
    try:
        if "{port}" in command:
            wait_for_port(port, process, patience)
            url = f"ws://127.0.0.1:{port}"
        else:
            url = read_url(process, command, patience)
        pid = only_child(process.pid) if traced else process.pid
        yield url, pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            raise Trouble(f"'{command}' did not end within 30 s of SIGTERM") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def read_url(process, command, patience):
    deadline = time.monotonic() + patience
    text = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], 0.2)
        if ready:
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                break
            text += chunk
            found = re.search(rb"listening on (ws://\S+)\s", text)
            if found:
                return found[1].decode()
        elif process.poll() is not None:
            break
    raise Trouble(f"'{command}' never said 'listening on ws://...'")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port, process, patience):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Trouble(f"nothing listens on port {port}")
