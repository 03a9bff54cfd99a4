#!/usr/bin/python3
"""Debian's python3-websockets against the program, in both roles.

    python_websockets.py --program PATH/chorus [--only NAME]

`client/...`: the library is a client of `chorus serve`. `server/...`: it is the server that
`chorus connect` talks to.
"""
import argparse
import logging
import os
import sys
import tempfile

from harness import Setting, make_certificates, tests
import python_client, python_server  # noqa: E401,F401  importing them registers their tests


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    # Refused handshakes are part of the tests; the library reports them on its logger.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(folder)
        return tests.run(Setting(os.path.abspath(options.program), folder), options.only)


if __name__ == "__main__":
    sys.exit(main())
