"""--json and --junit."""
import json
import xml.etree.ElementTree

from contract import FAILED, OK, USAGE
from scripting import Scripting


class Reports(Scripting):
    def steps(self):
        return [{**self.echo, "comment": "<in> & \"out\""}, {"cmd": "print", "message": "shown"},
                {"cmd": "send", "text": "\u0001<&\u00e4\u0007"},
                {"cmd": "expect", "equals": "b"},
                {"cmd": "repeat", "times": 2, "steps": [{"cmd": "expect", "value": 1, "equals": "c"}]},
                {"cmd": "ping"}]

    def test_json(self):
        ended = self.script(self.steps(), "--json")
        self.assert_status(ended, FAILED)
        report = json.loads(ended.out)
        self.assertEqual({k: report[k] for k in ("outcome", "exit_status", "passed", "failed", "skipped")},
                         {"outcome": "failed", "exit_status": FAILED, "passed": 3, "failed": 1, "skipped": 2})
        steps = report["steps"]
        self.assertEqual([s["outcome"] for s in steps], ["passed"] * 3 + ["failed"] + ["skipped"] * 2)
        self.assertEqual([(s["number"], s["line"], s["column"]) for s in steps], [(n, n + 1, 1) for n in range(1, 7)])
        self.assertEqual(steps[0]["result"], {"connected": True, "url": self.server.url + "/echo", "type": "websocket"})
        self.assertEqual(steps[0]["comment"], "<in> & \"out\"")
        self.assertIn("expected \"b\"", steps[3]["error"])
        self.assertEqual(steps[3]["exit_status"], FAILED)
        self.assertNotIn("result", steps[5])
        self.assertIn("shown\n", ended.err)  # standard output is the report's

    def test_inside(self):
        ended = self.script(self.steps(), "--json", "--keep-going")
        report = json.loads(ended.out)
        self.assertEqual(report["failed"], 2)
        inside = report["steps"][4]["inside"]
        self.assertEqual([(one["line"], one["cmd"]) for one in inside], [(6, "expect")] * 2)

    def test_long_results_are_cut(self):
        ended = self.script([self.echo, {"cmd": "send", "text": "\u00e4" * 5000}, {"cmd": "receive"},
                             {"cmd": "expect", "value": "ret['receive']['size']", "equals": 10000}], "--json")
        self.assert_status(ended, OK)
        self.assertEqual(json.loads(ended.out)["steps"][2]["result"]["text"], "\u00e4" * 500 + "...")

    def junit(self, steps, *options):
        path = self.folder / "report.xml"
        ended = self.script(steps, "--junit", str(path), *options)
        return ended, xml.etree.ElementTree.parse(path).getroot()

    def test_junit(self):
        ended, root = self.junit(self.steps(), "--keep-going")
        self.assert_status(ended, FAILED)
        suite = root.find("testsuite")
        for one in (root, suite):
            self.assertEqual([one.get(k) for k in ("tests", "failures", "errors", "skipped")], ["6", "2", "0", "0"])
        cases = suite.findall("testcase")
        self.assertEqual(cases[0].get("name"), "1 connect_gate: <in> & \"out\"")
        self.assertEqual([c.get("line") for c in cases], ["2", "3", "4", "5", "6", "7"])
        failures = [c.find("failure") for c in cases]
        self.assertEqual([f is not None for f in failures], [False] * 3 + [True] * 2 + [False])
        self.assertIn("expected \"b\"", failures[3].get("message"))
        self.assertIn("script.json:5:1: ", failures[3].text)
        self.assertIn("script.json:6:41: expect: ", failures[4].text)

    def test_junit_of_what_was_skipped(self):
        _, root = self.junit(self.steps())
        self.assertEqual(root.get("skipped"), "2")
        self.assertEqual(len(root.findall(".//skipped")), 2)

    def test_included_steps_have_numbers_of_their_own(self):
        self.write([{"cmd": "print", "message": "a"}, {"cmd": "expect", "value": 1, "equals": 2}], "inner.json")
        ended = self.script([{"cmd": "include", "file": "inner.json"}, {"cmd": "print", "message": "b"}], "--json")
        self.assert_status(ended, FAILED)
        steps = json.loads(ended.out)["steps"]
        self.assertEqual([(s["number"], s["cmd"], s["outcome"]) for s in steps],
                         [(1, "include", "failed"), (2, "print", "passed"), (3, "expect", "failed"), (4, "print", "skipped")])
        self.assertTrue(steps[1]["file"].endswith("inner.json"))
        self.assert_sentence(ended, "inner.json:3:1: expect: ")

    def test_of_a_script_that_can_not_be_run(self):
        ended, root = self.junit([{"cmd": "pong"}, {"cmd": "slep"}], "--json")
        self.assert_status(ended, USAGE)
        report = json.loads(ended.out)
        self.assertEqual((report["outcome"], report["exit_status"]), ("invalid", USAGE))
        self.assertEqual([(c["line"], c["column"]) for c in report["complaints"]], [(2, 9), (3, 9)])
        self.assertEqual((root.get("tests"), root.get("errors")), ("2", "2"))
        self.assertIn("did you mean 'sleep'?", root.findall(".//error")[1].get("message"))
