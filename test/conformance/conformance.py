#!/usr/bin/env python3
"""Conformance suite: drives raw bytes at `chorus serve` and at `chorus connect URL --echo`.

    conformance.py --program PATH/chorus [--role server|client] [--only NAME] [--list]

Each case has a bounded time, works on connections of its own and prints one line when it fails:
what was expected and what was seen. The last line is `N passed, N failed`; exit status 1 when any
failed. `--only` takes a part of a name and may be given more than once.
"""
import argparse
import collections
import os
import signal
import sys
import time
import traceback

from program import Context, Servers, Settings
from registry import CASES
from wire import PROBE, Failure
# Importing the files registers their cases.
import case_frames, case_control, case_close, case_utf8, case_server_handshake  # noqa: E401,F401
import case_client_handshake, case_deflate_offers, case_deflate                 # noqa: E401,F401
import case_streams, case_program                                               # noqa: E401,F401


def run_case(case, servers):
    context = Context(case.role, servers,
                      time.monotonic() + Settings.patience * case.scale)
    problem = None
    try:
        case.run(context)
    except Failure as failure:
        problem = str(failure)
    except Exception as error:  # noqa: BLE001  a defect of the suite must not end the run
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(where.filename)}:{where.lineno}"
        problem = f"{type(error).__name__}: {error} ({place})"
    finally:
        context.cleanup()
    dead = servers.take_dead()
    return "; ".join(([problem] if problem else []) + dead)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", help="path of the chorus program")
    parser.add_argument("--role", choices=("server", "client"),
                        help="only this role of the program")
    parser.add_argument("--only", action="append", default=[], help="part of a case name")
    parser.add_argument("--list", action="store_true", help="print names and sections")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds for one case")
    parser.add_argument("--verbose", action="store_true", help="a line for each case")
    options = parser.parse_args()

    twice = [name for name, n in collections.Counter(case.name for case in CASES).items() if n > 1]
    if twice:
        sys.exit(f"cases registered twice: {' '.join(twice)}")
    chosen = [case for case in CASES if options.role in (None, case.role)
              and (not options.only or any(part in case.name for part in options.only))]
    if options.list:
        for case in chosen:
            print(f"{case.name}  ({case.section})")
        return 0
    if not options.program:
        parser.error("--program is needed")
    if not chosen:
        sys.exit("no case has such a name")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Settings.program = os.path.abspath(options.program)
    Settings.patience = options.patience
    if PROBE.netlink is None:
        print("note: no socket diagnosis here; cut streams may arrive joined", file=sys.stderr)

    servers, passed, failed = Servers(), 0, 0
    for case in chosen:
        started = time.monotonic()
        problem = run_case(case, servers)
        if problem:
            failed += 1
            print(f"FAILED {case.name} ({case.section}): {problem}", flush=True)
        else:
            passed += 1
            if options.verbose:
                print(f"ok {case.name} {time.monotonic() - started:.3f} s", flush=True)
    for problem in servers.stop():
        failed += 1
        print(f"FAILED server/stop: {problem}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
