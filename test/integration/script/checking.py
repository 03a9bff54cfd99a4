"""What is said of a file that can't be run, and where."""
import json
import pathlib

from contract import OK, USAGE, Contract, run
from examples import schema, validator
from scripting import Scripting

# A step that can be run as far as the checker knows, and a value for each field.
STEPS = {
    "connect_gate": {"host": "ws://127.0.0.1:1/"}, "send": {"text": "a"}, "receive": {}, "expect": {"equals": "a"},
    "ping": {}, "close": {}, "wait_closed": {}, "reconnect": {}, "print": {"message": "a"},
    "set": {"name": "a", "value": 1}, "sleep": {"duration": 0}, "repeat": {"times": 1, "steps": []},
    "parallel": {"copies": 1, "steps": []}, "include": {"file": "empty.json"},
}
VALUES = {
    "host": "ws://127.0.0.1:1/", "port": 1, "connection": "main", "headers": {"a": "b"}, "subprotocols": ["a"],
    "timeout": "1s", "fails": "any", "framing": "raw", "compression": True, "ca": "a", "tls_cert": "a",
    "tls_key": "a", "server_name": "a", "insecure": True, "max_message": 1, "ping_interval": 1, "text": "a",
    "json": 1, "hex": "00", "as": "text", "value": 1, "equals": "a", "contains": "a", "matches": "a",
    "type": "text", "close": 1000, "nothing": True, "skip": True, "code": 1000, "reason": "a", "attempts": 1,
    "delay": 1, "message": "a", "name": "a", "default": 1, "duration": 1, "times": 1, "steps": [], "index": "i",
    "copies": 1, "file": "empty.json", "comment": "a", "save": "a",
}


def misspelt(name):
    """A letter twice, two letters swapped, one left out of the longer ones."""
    forms = {name + name[-1], name[:-2] + name[-1] + name[-2]}
    if len(name) > 4:
        forms.add(name[:2] + name[3:])
    return sorted(forms - {name})


class Mutations(Scripting):
    """Each command and field of the table, wrong in every way. The schema refuses the same files."""

    def setUp(self):
        super().setUp()
        self.write([], "empty.json")
        self.commands = {name: one for name, one in schema()["$defs"].items() if "cmd" in one.get("properties", {})
                         and name != "step"}
        self.assertEqual(set(self.commands), set(STEPS))

    def refuse(self, cases):
        """Each case is a step, the column of the fault and what is said of it. Many steps go into one file;
        the schema is asked about each by itself."""
        cases = list(cases)
        self.assertGreater(len(cases), 5)
        for first in range(0, len(cases), 40):
            part = cases[first:first + 40]
            steps = [self.step("connect_gate"), *(step for step, _, _ in part)]
            ended = self.script("[" + ",\n".join(json.dumps(s) for s in steps) + "]", "--json")
            self.assert_status(ended, USAGE)
            said = [((c["line"], c["column"]), c["error"]) for c in json.loads(ended.out)["complaints"]]
            for line, (step, column, wanted) in enumerate(part, 2):
                with self.subTest(step):
                    self.assertTrue(any(at == (line, column) and wanted in text for at, text in said),
                                    [wanted, *(one for one in said if one[0][0] == line)])
                    self.assertFalse(validator().is_valid([step]))

    def step(self, command):
        return {"cmd": command, **STEPS[command]}

    def fields(self):
        for command, one in self.commands.items():
            for field in one["properties"]:
                if field != "cmd":
                    yield command, field

    def test_samples_are_good(self):
        for command in self.commands:
            with self.subTest(command):
                steps = [self.step("connect_gate"), self.step(command)]
                self.assert_status(self.script(steps, "--check"), OK)
                validator().validate(steps)

    def test_misspelt_commands(self):
        self.refuse(({"cmd": wrong}, 9, f"unknown command '{wrong}'; did you mean '{command}'?")
                    for command in self.commands for wrong in misspelt(command))

    def with_first(self, command, name, value, instead_of):
        """The command's step with this field right behind `cmd`, and the column of its name."""
        step = {"cmd": command, name: value}
        step.update({k: v for k, v in STEPS[command].items() if k != instead_of})
        return step, len(json.dumps({"cmd": command})) + 2

    def test_misspelt_fields(self):
        def cases():
            for command, field in self.fields():
                for wrong in misspelt(field):
                    step, column = self.with_first(command, wrong, VALUES[field], field)
                    yield step, column, f"unknown field '{wrong}' of {command}; did you mean '{field}'?"
        self.refuse(cases())

    def test_wrong_types(self):
        def cases():
            for command, field in self.fields():
                if set(self.commands[command]["properties"][field]) <= {"description"}:
                    continue  # any value
                step, column = self.with_first(command, field, {"wrong": 1}, field)
                # Of headers it is the member that is wrong.
                inner = len('{"wrong": ') if field == "headers" else 0
                yield step, column + len(f'"{field}": ') + inner, f'"{field}" takes '
        self.refuse(cases())

    def test_missing_fields(self):
        self.refuse(({k: v for k, v in self.step(command).items() if k != field}, 1, f'{command} needs "{field}"')
                    for command, one in self.commands.items() for field in one["required"] if field != "cmd")

    def test_groups(self):
        def cases():
            for command, one in self.commands.items():
                for rule in one.get("allOf", []):
                    members = [r["required"][0] for r in rule.get("oneOf", rule.get("anyOf", []))]
                    step = {k: v for k, v in self.step(command).items() if k not in members}
                    if members:
                        yield step, 1, f"{command} needs one "
                    if "oneOf" in rule:
                        yield {**step, **{name: VALUES[name] for name in members}}, 1, f"{command} needs only one of "
                    if "not" in rule:
                        pair = rule["not"]["required"]
                        step = {k: v for k, v in step.items() if k not in pair}
                        first, column = self.with_first(command, pair[1], VALUES[pair[1]], None)
                        first[pair[0]] = VALUES[pair[0]]
                        yield first, column, f"'{pair[0]}' and '{pair[1]}' can't stand in one {command}"
        self.refuse(cases())


class Messages(Scripting):
    CASES = [
        # text, place, what is said
        ("", "1:1", "the file is empty"),
        ("[", "1:2", "ends too early"),
        ('[{"cmd":"ping"},]', "1:17", "take away the comma"),
        ('[{"cmd":"ping"}\n {"cmd":"ping"}]', "2:2", "a comma is missing"),
        ("[{'cmd': 1}]", "1:3", "double quotes"),
        ("[\n// no\n]", "2:1", "no comments"),
        ('{"cmd": "ping"}', "1:1", "array of steps"),
        ("[1]", "1:2", "a step is an object"),
        ("[{}]", "1:2", 'no "cmd"'),
        ('[{"cdm": "ping"}]', "1:2", "did you mean \"cmd\" by 'cdm'?"),
        ('[{"cmd": 3}]', "1:10", "takes the name of a command"),
        ('[{"cmd": "frobnicate"}]', "1:10", "there are connect_gate, send"),
        ('[{"cmd": "sleep", "duration": 1, "duration": 2}]', "1:34", "'duration' is given twice"),
        ('[{"cmd": "ping"}]', "1:2", "no connect_gate opens the connection 'main'"),
        ('[{"cmd":"connect_gate","host":"ws://a","connection":"red"},\n{"cmd":"ping","connection":"reed"}]',
         "2:28", "did you mean 'red'?"),
        ('[{"cmd": "connect_gate", "host": "example.org"}]', "1:34", 'needs a "port"'),
        ('[{"cmd": "connect_gate", "host": "a:1", "port": 2}]', "1:49", "has a port already"),
        ('[{"cmd": "connect_gate", "host": "ws://a", "port": 2}]', "1:52", "take away \"port\""),
        ('[{"cmd": "connect_gate", "host": "http://a"}]', "1:34", "http"),
        ('[{"cmd": "connect_gate", "host": "ws://a", "framing": "raw"}]', "1:55", "for TCP"),
        ('[{"cmd": "connect_gate", "host": "a:1", "headers": {}}]', "1:52", "for WebSocket"),
        ('[{"cmd": "connect_gate", "host": "ws://a", "insecure": true}]', "1:56", "wss://"),
        ('[{"cmd": "connect_gate", "host": "wss://a", "tls_key": "k"}]', "1:56", '"tls_cert"'),
        ('[{"cmd": "connect_gate", "host": "ws://a", "headers": {"a b": "c"}}]', "1:63", "is no header"),
        ('[{"cmd": "connect_gate", "host": "ws://a", "fails": "refusd"}]', "1:53", "did you mean 'refused'?"),
        ('[{"cmd": "expect", "value": 1, "matches": "a("}]', "1:43", "is no regular expression"),
        ('[{"cmd": "send", "hex": "abc"}]', "1:25", "even number of hexadecimal digits"),
        ('[{"cmd": "close", "code": 1005}]', "1:27", "can't be sent as a close code"),
        ('[{"cmd": "sleep", "duration": "soon"}]', "1:31", '"500ms"'),
        ('[{"cmd": "print", "message": "ret[\\"prnt\\"]"}]', "1:30", "did you mean 'print'?"),
        ('[{"cmd": "print", "message": ["var[\\"x\\"]"]}]', "1:31", "--set x="),
        ('[{"cmd": "set", "name": "color", "value": 1},\n{"cmd": "print", "message": "var[\'colour\']"}]', "2:29",
         "did you mean 'color'?"),
        ('[{"cmd": "print", "message": "env[\\"NO_SUCH_NAME\\"]"}]', "1:30", "the environment has no"),
        ('[{"cmd": "print", "message": "ret[\\"print"}]', "1:30", "is not closed"),
        ('[{"cmd": "print", "message": "\u00e4\u00f6"}, {"cmd": "pint"}]', "1:45", "did you mean"),
        ("[" * 100 + "]" * 100, "1:65", "deep"),
    ]

    def test_messages(self):
        for text, place, said in self.CASES:
            with self.subTest(text[:80]):
                self.assert_refused(self.script(text), place, said)

    def test_all_at_once(self):
        ended = self.script([{"cmd": "pong"}, {"cmd": "sleep", "duration": -1}, {"cmd": "set", "nam": "a"}])
        for place in ("2:9", "3:30", "4:16"):
            self.assert_refused(ended, place)
        ended = self.script([{"cmd": "x"}] * 50)
        self.assertEqual(len(self.complaints(ended)), 21)
        self.assertIn("and 30 more", ended.err)

    def test_nothing_is_run(self):
        ended = self.script([{"cmd": "print", "message": "one"}, {"cmd": "print"}])
        self.assert_refused(ended, "3:1", 'print needs "message"')
        self.assertEqual(ended.out, b"")

    def test_more_than_one_way_out(self):
        """A URL of a variable is looked at when it is known."""
        ended = self.script([{"cmd": "connect_gate", "host": "var['u']"}], "--set", "u=http://a")
        self.assert_status(ended, 1)
        self.assertIn("script.json:2:1: connect_gate: ", ended.err)


class Includes(Scripting):
    def test_fault_in_the_other_file(self):
        (self.folder / "sub").mkdir()
        self.write('[\n  {"cmd": "slep"}\n]', "sub/inner.json")
        path = self.write([{"cmd": "include", "file": "sub/inner.json"}])
        ended = self.script(path)
        self.assert_refused(ended, "2:11", str(self.folder / "sub/inner.json") + ":2:11", "'sleep'")

    def test_relative_to_the_file(self):
        (self.folder / "sub").mkdir()
        self.write([{"cmd": "include", "file": "b.json"}], "sub/a.json")
        self.write([{"cmd": "print", "message": "from b: var[\"x\"]"}], "sub/b.json")
        path = self.write([{"cmd": "set", "name": "x", "value": [1, 2]}, {"cmd": "include", "file": "sub/a.json"}])
        for where in (None, self.folder.parent):
            ended = self.script(path, cwd=where)
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, b"from b: [1,2]\n")

    def test_cycles(self):
        self.write([{"cmd": "include", "file": "b.json"}], "a.json")
        self.write([{"cmd": "include", "file": "./sub/../a.json"}], "b.json")
        (self.folder / "sub").mkdir()
        ended = self.script(self.folder / "a.json")
        self.assert_refused(ended, "2:28", "would include itself", "a.json -> ", "b.json -> ")
        ended = self.script([{"cmd": "include", "file": "script.json"}])
        self.assert_refused(ended, "2:28", "would include itself")

    def test_twice_is_no_cycle(self):
        self.write([{"cmd": "print", "message": "x"}], "x.json")
        ended = self.script([{"cmd": "include", "file": "x.json"}] * 2)
        self.assert_status(ended, OK)
        self.assertEqual(ended.out, b"x\nx\n")

    def test_too_many(self):
        for i in range(20):
            self.write([{"cmd": "include", "file": f"{i + 1}.json"}], f"{i}.json")
        self.assert_refused(self.script(self.folder / "0.json"), "2:28", "at most 16 deep")
        for i in range(4):
            self.write([{"cmd": "include", "file": f"{i + 1}.json"}] * 10, f"{i}.json")
        self.write([], "4.json")
        ended = self.script(self.folder / "0.json")
        self.assert_status(ended, USAGE)
        self.assertIn("includes at most 1000 files", ended.err)

    def test_unreadable(self):
        self.assert_refused(self.script([{"cmd": "include", "file": "nope.json"}]), "2:28", "nope.json", "No such file")
        self.assert_refused(self.script([{"cmd": "include", "file": "."}]), "2:28", "directory")
        ended = self.script(self.folder / "none.json")
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "script", "can't read", "none.json")
