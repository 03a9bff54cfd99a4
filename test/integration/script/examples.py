"""The example scripts, and the schema that they and the program have in common."""
import json

import jsonschema

from contract import OK, run, settings
from scripting import Scripting


def schema():
    return json.loads(settings.schema.read_text())


def validator():
    return jsonschema.Draft202012Validator(schema())


class Examples(Scripting):
    def arguments(self):
        return ["--set", "server=" + self.server.url, "--set", f"tcp_port={self.tcp.port}"]

    def test_all_run(self):
        files = sorted(settings.examples.glob("*.json"))
        self.assertGreaterEqual(len(files), 10)
        kinds = set()
        for file in files:
            with self.subTest(file.name):
                ended = self.script(file, *self.arguments(), "--json")
                self.assert_status(ended, OK)
                report = json.loads(ended.out)
                self.assertEqual((report["outcome"], report["failed"], report["skipped"]), ("passed", 0, 0))
                kinds |= {step["result"]["type"] for step in report["steps"]
                          if step["cmd"] == "connect_gate" and step["result"]["connected"]}
        self.assertEqual(kinds, {"websocket", "tcp"})

    def test_all_are_of_the_schema(self):
        for file in sorted(settings.examples.rglob("*.json")):
            with self.subTest(file.name):
                validator().validate(json.loads(file.read_text()))

    def test_every_command_has_an_example(self):
        used = set()

        def look(steps):
            for step in steps:
                used.add(step["cmd"])
                look(step.get("steps", []))
        for file in settings.examples.rglob("*.json"):
            look(json.loads(file.read_text()))
        self.assertEqual(set(schema()["$defs"]["step"]["properties"]["cmd"]["enum"]) - used, {"sleep"})

    def test_checked_without_a_server(self):
        for file in sorted(settings.examples.glob("*.json")):
            with self.subTest(file.name):
                ended = self.script(file, "--check")
                self.assert_status(ended, OK)
                self.assertEqual((ended.out, ended.err), (b"", ""))


class Schema(Scripting):
    def test_file_is_what_the_program_prints(self):
        ended = run("script", "--schema")
        self.assert_status(ended, OK)
        self.assertEqual(ended.out.decode(), settings.schema.read_text(),
                         "docs/script.schema.json is not what `chorus script --schema` prints")
        jsonschema.Draft202012Validator.check_schema(schema())


class AsWritten(Scripting):
    """The two forms of connect_gate and what print makes of their results."""

    def test_complete(self):
        ended = self.script("""[
  {"cmd": "connect_gate", "host": "%s/echo", "comment": "WebSocket by its URL"},
  {"cmd": "print", "message": "type: ret[\\"connect_gate\\"][\\"type\\"], connected: ret[\\"connect_gate\\"][\\"connected\\"]"},
  {"cmd": "print", "message": "ret[\\"connect_gate\\"][\\"url\\"]"},
  {"cmd": "print", "message": "done", "comment": "no reference"}
]""" % self.server.url)
        self.assert_status(ended, OK)
        self.assertEqual(ended.out.decode().splitlines(),
                         ["type: websocket, connected: true", self.server.url + "/echo", "done"])

    def test_mixed(self):
        steps = [self.echo,
                 {"cmd": "print", "message": "ret[\"connect_gate\"][\"type\"]"},
                 {"cmd": "connect_gate", "host": "127.0.0.1", "port": self.tcp.port},
                 {"cmd": "print", "message": "ret[\"connect_gate\"][\"type\"] ret['connect_gate']['port']"},
                 {"cmd": "print", "message": {"all": "ret[\"connect_gate\"]"}}]
        ended = self.script(steps)
        self.assert_status(ended, OK)
        lines = ended.out.decode().splitlines()
        self.assertEqual(lines[:2], ["websocket", f"tcp {self.tcp.port}"])
        self.assertEqual(json.loads(lines[2]), {"all": {"connected": True, "host": "127.0.0.1",
                                                        "port": self.tcp.port, "type": "tcp"}})
