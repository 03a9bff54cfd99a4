"""`chorus script` as docs/script.md states it: the examples, what is said about files that can't be run,
reports, exit statuses. The tests are in script/; the peers are `chorus serve` and a TCP echo of Python's.

    script_test.py --program PATH --examples DIR --schema FILE [unittest arguments]
"""
import argparse
import pathlib
import sys
import unittest

here = pathlib.Path(__file__).parent
sys.path[:0] = [str(here / "script"), str(here / "program")]

import contract
from checking import *
from examples import *
from outcomes import *
from reports import *

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--program", required=True)
    parser.add_argument("--examples", type=pathlib.Path, required=True)
    parser.add_argument("--schema", type=pathlib.Path, required=True)
    _, rest = parser.parse_known_args(namespace=contract.settings)
    unittest.main(argv=[sys.argv[0], *rest])
