#!/usr/bin/env python3
"""Checks the direction of the includes in src/, and where third-party headers may appear.

Rooms stand in one order and a file includes only its own room and rooms above it. A header is public
when a header directly in src/chorus/ (what users include) reaches it; the rest are internal.

usage: check_includes.py [SOURCE_ROOT]     (default: the src/ of this tree)
"""

import pathlib
import re
import sys

ROOMS = [
    "base", "protocol", "async", "transport", "session", "json",
    "client", "server", "cluster", "observe", "testing",
]
CLI = "cli"

# Prefix of the included path -> rooms that may include it. None of these is ever public.
HIDDEN = {
    "zlib.h": {"protocol"},
    "openssl/": {"base", "protocol", "transport", "cluster"},
    "boost/beast": {"client", "server"},
    "hiredis/": {"cluster"},
    "nats/": {"cluster"},
    "prometheus/": {"observe"},
    "CLI/": {CLI},
    "spdlog/": {CLI},
}
# base/ and protocol/ do no I/O.
NO_ASIO = {"base", "protocol"}
# Boost.JSON is public, but chorus.hpp leaves it out: only json.hpp may bring it.
JSON_ENTRY = "chorus/json.hpp"

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def room_of(path):
    """The room of a path relative to src/, or None for a header directly in chorus/."""
    parts = path.split("/")
    if parts[0] == CLI:
        return CLI
    return parts[1] if len(parts) > 2 else None


def main():
    default = pathlib.Path(__file__).resolve().parents[2] / "src"
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    includes = {}
    for file in sorted(root.rglob("*")):
        if file.suffix in (".hpp", ".cpp"):
            name = file.relative_to(root).as_posix()
            includes[name] = INCLUDE.findall(file.read_text(encoding="utf-8"))
    if not includes:
        sys.exit(f"no sources below {root}")

    def closure(start):
        seen, todo = set(), [start]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += [i for i in includes.get(name, []) if i in includes]
        return seen

    entries = [n for n in includes if n.startswith("chorus/") and room_of(n) is None]
    public = {header: entry for entry in entries for header in closure(entry)}

    problems = []
    for name, included in includes.items():
        room = room_of(name)
        if room not in (None, CLI) and room not in ROOMS:
            problems.append(f"{name}: '{room}' is not one of the rooms {', '.join(ROOMS)}")
            continue
        for target in included:
            problem = None
            if target.startswith("chorus/") and target not in includes:
                problem = "no such file"
            elif target.startswith("chorus/"):
                other = room_of(target)
                if room == CLI:
                    if target not in public:
                        problem = "the program uses public headers only"
                elif room is not None and other is None:
                    problem = "a room must not include a header that gathers rooms"
                elif room is not None and ROOMS.index(other) > ROOMS.index(room):
                    problem = f"{room}/ must not include {other}/, which is below it"
            elif target.startswith("boost/asio") and room in NO_ASIO:
                problem = f"{room}/ does no I/O and includes no Asio"
            elif target.startswith("boost/json") and room not in ("json", CLI) and name.endswith(".hpp"):
                problem = "only json/ has Boost.JSON in the headers of the library"
            for prefix, rooms in HIDDEN.items():
                if not target.startswith(prefix):
                    continue
                if room not in rooms:
                    problem = f"only {', '.join(sorted(rooms))} may include it"
                elif name in public:
                    problem = f"public through {public[name]}: belongs in a .cpp or an internal header"
            if problem:
                problems.append(f"{name}: <{target}>: {problem}")

    for entry in entries:
        if entry == JSON_ENTRY:
            continue
        for name in sorted(closure(entry)):
            if room_of(name) == "json":
                problems.append(f"{entry}: reaches {name}, which only {JSON_ENTRY} may bring")

    for problem in problems:
        print(problem)
    print(f"{len(includes)} files, {len(public)} public headers, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
