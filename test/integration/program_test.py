"""The contract of the `chorus` program, as docs/program.md states it: lines, exit statuses, sentences,
signals. Python's standard library, and pyte for terminals; the tests are in program/.

    program_test.py --program PATH --project-version X.Y.Z --certificates make_certs.sh
                    [--without CLASS] [unittest arguments]
"""
import argparse
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "program"))

import contract
from benching import *
from command_line import *
from connecting import *
from interactive import *
from limits import *
from nodes import *
from operating import *
from probing import *
from reaching import *
from recording import *
from serving import *
from statuses import *

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--program", required=True)
    parser.add_argument("--project-version", required=True)
    parser.add_argument("--certificates", required=True)
    parser.add_argument("--without", help="a class of tests that another run has")
    _, rest = parser.parse_known_args(namespace=contract.settings)
    if contract.settings.without:
        del globals()[contract.settings.without]
    unittest.main(argv=[sys.argv[0], *rest])
