#!/usr/bin/env python3
"""A room of 200, of which 10 never read: the other 190 get every message, in order, and what the ten
cost the server stays within the bounds of their queues.

usage: slow_members_test.py CHORUS CHORUS_LOAD
"""

import json
import re
import signal
import subprocess
import sys

MEMBERS, STALLED, SIZE, RATE, SECONDS = 200, 10, 1024, 2000, 4
QUEUE_BYTES = 256 * 1024


def start(program):
    server = subprocess.Popen(
        [program, "serve", "--listen", "127.0.0.1:0", "--overflow", "wait",
         "--queue-bytes", str(QUEUE_BYTES), "--log-level", "info"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = server.stdout.readline().split()[-1]
    return server, url


def main():
    program, load = sys.argv[1:]
    server, url = start(program)
    try:
        run = subprocess.run(
            [load, "slow", "--url", url + "/broadcast", "--members", str(MEMBERS),
             "--stalled", str(STALLED), "--size", str(SIZE), "--rate", str(RATE),
             "--duration", str(SECONDS), "--drain", "60", "--pid", str(server.pid), "--json"],
            capture_output=True, text=True, timeout=150, check=False)
    finally:
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=30)
    print(run.stdout, run.stderr)
    report = json.loads(run.stdout)
    evicted = int(re.search(r"(\d+) evicted", log).group(1))
    checks = {
        "the load saw nothing lost, repeated or out of order": run.returncode == 0 and report["ok"],
        "every healthy member got everything": report["fewest_received"] == RATE * SECONDS,
        "memory within the bounds of the queues":
            report["server_resident_growth"] <= MEMBERS * QUEUE_BYTES,
        "every member that never reads was closed, and nobody else":
            evicted == STALLED and report["stalled_closed_1013"] == STALLED,
        "the server stopped in order": server.returncode == 0,
    }
    failed = [name for name, good in checks.items() if not good]
    for name in failed:
        print("failed:", name, "(evicted %d)" % evicted)
    print(f"{len(checks) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
