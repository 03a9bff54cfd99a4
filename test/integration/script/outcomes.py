"""What each command does, what its failures say, and the exit status that comes of them."""
import json
import os
import signal
import socket
import subprocess
import xml.etree.ElementTree

from contract import FAILED, OK, PATIENCE, PROTOCOL, REFUSED, TIMEOUT, TLS, USAGE, Ended, Peer, close_frame, drain, frame, program, run
from scripting import Scripting, unused_port


def say(*messages):
    """A peer that sends these, answers the close, and reads on."""
    def script(sock):
        for m in messages:
            sock.sendall(frame(1, m.encode()) if isinstance(m, str) else frame(2, m))
        drain(sock)
    return script


class Failures(Scripting):
    def fails(self, steps, status, *parts):
        """The last step fails, all before it pass."""
        ended = self.script(steps)
        self.assert_status(ended, status)
        self.assert_sentence(ended, f"script.json:{len(steps) + 1}:1: {steps[-1]['cmd']}: ", *parts)
        self.assertIn(f"{len(steps) - 1} passed, 1 failed, 0 skipped", ended.err)
        return ended

    def test_connecting(self):
        with unused_port()[0] as sock:
            port = sock.getsockname()[1]
            self.fails([{"cmd": "connect_gate", "host": f"ws://127.0.0.1:{port}"}], REFUSED, "is the server running")
            self.fails([{"cmd": "connect_gate", "host": "127.0.0.1", "port": port}], REFUSED)
        self.fails([{"cmd": "connect_gate", "host": self.server.url + "/none"}], REFUSED, "404")
        self.fails([{"cmd": "connect_gate", "host": f"tls://127.0.0.1:{self.tcp.port}", "insecure": True}], TLS)
        self.fails([{"cmd": "connect_gate", "host": f"ws://127.0.0.1:{self.tcp.port}"}],
                   PROTOCOL)
        self.fails([{**self.echo, "fails": "any"}], FAILED, "was to fail")
        with unused_port()[0] as sock:
            self.fails([{"cmd": "connect_gate", "host": f"127.0.0.1:{sock.getsockname()[1]}", "fails": "tls"}],
                       REFUSED)

    def test_a_server_that_does_not_answer(self):
        with Peer(drain, raw=True) as peer:
            self.fails([{"cmd": "connect_gate", "host": peer.url, "timeout": "100ms"}], TIMEOUT, "100ms", "timeout")

    def test_the_answer_to_a_close(self):
        def script(sock):
            sock.recv(4096)  # the close frame
            sock.sendall(close_frame(1011, b"internal fault"))
            sock.shutdown(socket.SHUT_WR)
            drain(sock)

        with Peer(script) as peer:
            ended = self.script([{"cmd": "connect_gate", "host": peer.url}, {"cmd": "close"}], "--json")
        self.assert_status(ended, OK)
        result = json.loads(ended.out)["steps"][1]["result"]
        self.assertEqual((result["code"], result["reason"], result["by_peer"]), (1011, "internal fault", False))

    def test_hostile_text(self):
        """What a peer says reaches neither the terminal as it is nor makes the report invalid."""
        def refuse(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\n\xe9t\xe9\xff\x9b\xc2\x9bx")
            drain(sock)

        with Peer(refuse, raw=True) as peer:
            ended = self.script([{"cmd": "connect_gate", "host": peer.url}], "--json")
        self.assert_status(ended, REFUSED)
        error = json.loads(ended.out.decode())["steps"][0]["error"]
        self.assertIn("\\xe9t\\xe9\\xff\\x9b\\x9bx", error)
        evil = "a\u009b\u202e\u2028b"
        with Peer(say(evil, json.dumps({"a": evil}, ensure_ascii=False))) as peer:
            ended = self.script([{"cmd": "connect_gate", "host": peer.url}, {"cmd": "receive"},
                                 {"cmd": "expect", "json": {"a": "other"}}])
        for one in "\u009b\u202e\u2028":
            self.assertNotIn(one, ended.err)
        self.assertIn("\\x9b\\u202e\\u2028", ended.err)

    def test_expectations(self):
        sent = {"cmd": "send", "json": {"a": [1, {"b": "x"}], "n": 2}}
        for wanted, parts in (
                ({"equals": "x"}, ['expected "x", got "{']),
                ({"equals": {"n": 2}}, ["expected {", "got {"]),
                ({"contains": "zzz"}, ['"zzz" is not contained in']),
                ({"matches": "^x+$"}, ["no part of", "^x+$"]),
                ({"json": {"a": [1, {"b": "y"}]}}, ['a[1].b is "x", not "y"']),
                ({"json": {"a": [1]}}, ["a has 2 elements, not 1"]),
                ({"json": {"c": 1}}, ["the JSON has no member 'c'"]),
                ({"json": {"n": {}}}, ["n is no object but 2"]),
                ({"hex": "00"}, ["expected the bytes 00, got 7b"]),
                ({"type": "binary"}, ["expected a message of type binary, got text"]),
                ({"nothing": True}, ["expected nothing, got"])):
            with self.subTest(wanted):
                self.fails([self.echo, sent, {"cmd": "expect", **wanted}], FAILED, *parts)
        self.fails([self.echo, {"cmd": "expect", "equals": 1, "timeout": "50ms"}], TIMEOUT, "no message came within 50ms")
        self.fails([self.echo, sent, {"cmd": "expect", "equals": 1, "skip": True, "timeout": "3s"}], TIMEOUT,
                   "of 1 messages none fits", "expected 1")
        self.fails([self.echo, {"cmd": "expect", "close": 1000, "timeout": "50ms"}], TIMEOUT, "did not end within 50ms")
        self.fails([self.echo, {"cmd": "close", "code": 4001}, {"cmd": "expect", "close": 4002}], FAILED,
                   "expected the close code 4002, got 4001")
        self.fails([{"cmd": "expect", "value": [1, 2], "equals": [1, 3]}], FAILED, "expected [1,3], got [1,2]")
        self.fails([self.echo, {"cmd": "send", "text": "no"}, {"cmd": "expect", "json": 1}], FAILED, "expected JSON")

    def test_expectations_that_hold(self):
        ended = self.script([
            self.echo, {"cmd": "send", "json": {"a": [1, {"b": "x", "c": None}], "n": 2.0}},
            {"cmd": "expect", "json": {"a": [1.0, {"b": "x"}], "n": 2}, "contains": "\"n\"", "matches": "a.*b", "type": "text"},
            {"cmd": "send", "text": "one"}, {"cmd": "send", "text": "two"},
            {"cmd": "expect", "equals": "two", "skip": True},
            {"cmd": "send", "json": 17}, {"cmd": "expect", "equals": 17},
            {"cmd": "send", "json": "s"}, {"cmd": "expect", "equals": "\"s\""},
            {"cmd": "expect", "value": {"a": 1, "b": 2}, "json": {"b": 2}}])
        self.assert_status(ended, OK)

    def test_other_commands(self):
        self.fails([self.echo, {"cmd": "receive", "timeout": "50ms"}], TIMEOUT, "no message came within 50ms", "timeout")
        self.fails([self.echo, {"cmd": "send", "text": "x"}, {"cmd": "receive", "as": "json"}], FAILED, "not valid JSON")
        self.fails([self.echo, {"cmd": "send", "hex": "ff"}, {"cmd": "receive", "as": "text"}], FAILED, "no text: ff")
        self.fails([self.echo, {"cmd": "close"}, {"cmd": "wait_closed", "code": 1001}], FAILED, "expected the close code 1001")
        self.fails([self.echo, {"cmd": "wait_closed", "timeout": "50ms"}], TIMEOUT, "did not end within 50ms")
        self.fails([{"cmd": "connect_gate", "host": f"127.0.0.1:{self.tcp.port}"}, {"cmd": "ping"}], FAILED, "only WebSocket")
        self.fails([self.echo, {"cmd": "close"}, {"cmd": "send", "text": "x"}], FAILED)
        self.fails([{"cmd": "repeat", "times": 3, "steps": [{"cmd": "expect", "value": "var['i']", "equals": 0}]}],
                   FAILED, "in round 2: expected 0, got 1")
        self.fails([{"cmd": "parallel", "copies": 4, "steps": [{"cmd": "expect", "value": "var['copy']", "equals": 1}]}],
                   FAILED, "3 of 4 copies failed")

    def test_references_that_stand_for_nothing(self):
        first = {"cmd": "set", "name": "v", "value": {"list": [1, 2], "name": "x"}}
        for reference, said in (("var['v']['nam']", "did you mean 'name'?"), ("var['v']['list'][2]", "has 2 elements, no 2"),
                                ("var['v'][0]", "is no array"), ("var['v']['list']['a']", "is no object"),
                                ("ret['print']", "there is no result 'print' yet")):
            with self.subTest(reference):
                self.fails([first, {"cmd": "print", "message": reference}], FAILED, said)

    def test_values_that_do_not_fit_when_they_are_known(self):
        steps = [{"cmd": "set", "name": "n", "default": "many"}, {"cmd": "repeat", "times": "var['n']", "steps": []}]
        self.fails(steps, FAILED, '"times" takes a number from 0 to 1000000, not "many"')
        self.assert_status(self.script(steps, "--set", "n=2"), OK)

    def test_the_peer_closes_or_goes(self):
        def rude(sock):
            sock.sendall(close_frame(1011, b"no luck"))
            sock.recv(4096)  # the answer
        with Peer(rude) as peer:
            self.fails([{"cmd": "connect_gate", "host": peer.url}, {"cmd": "receive"}], PROTOCOL, "1011 (no luck)")
        with Peer(rude) as peer:
            ended = self.script([{"cmd": "connect_gate", "host": peer.url}, {"cmd": "expect", "close": 1011},
                                 {"cmd": "print", "message": "ret['expect']['reason'] ret['expect']['by_peer']"}])
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, b"no luck true\n")
        with Peer(lambda sock: None) as peer:
            ended = self.script([{"cmd": "connect_gate", "host": peer.url}, {"cmd": "wait_closed", "code": 1006}])
            self.assert_status(ended, OK)
        with Peer(lambda sock: (sock.sendall(b"\xff\xff"), drain(sock))) as peer:
            self.fails([{"cmd": "connect_gate", "host": peer.url}, {"cmd": "receive"}], PROTOCOL)


class Running(Scripting):
    def test_progress(self):
        ended = self.script([{**self.echo, "comment": "the way in"}, {"cmd": "print", "message": "x"},
                             {"cmd": "expect", "value": 1, "equals": 2}, {"cmd": "ping"}])
        lines = ended.err.splitlines()
        self.assertRegex(lines[0], r"^\[1/4\] connect_gate ws://127.0.0.1:\d+/echo: ok, [\d.]+ ms - the way in$")
        self.assertRegex(lines[2], r"^\[3/4\] expect 1: FAILED, [\d.]+ ms$")
        self.assertRegex(lines[3], r"^4 steps: 2 passed, 1 failed, 1 skipped, in [\d.]+ s$")
        self.assertEqual(ended.out, b"x\n")

    def test_no_secret_in_progress(self):
        host = self.server.url.replace("://", "://user:hidden@") + "/echo?room=secret&token=secret"
        ended = self.script([{**self.echo, "host": host}, {"cmd": "reconnect"}])
        self.assert_status(ended, OK)
        self.assertEqual(ended.err.count("/echo"), 2, ended.err)
        sock, port = unused_port()
        with sock:
            refused = self.script([{"cmd": "connect_gate", "host": f"ws://user:hidden@127.0.0.1:{port}/?token=secret"}])
            self.assert_status(refused, REFUSED)
        framed = self.script([{"cmd": "connect_gate", "host": f"tcp://user:hidden@127.0.0.1:{self.tcp.port}"},
                              {"cmd": "ping"}])
        for one in (ended, refused, framed):
            self.assertNotIn("secret", one.err)
            self.assertNotIn("hidden", one.err)

    def test_no_value_of_a_header_in_complaints(self):
        for headers in ({"Authorization Bearer secret": ""}, {"Authorization": "Bearer secret\n"},
                        {"Authorization": ["secret"]}, {"X-Pin": 5318008}, "Authorization: Bearer secret"):
            with self.subTest(headers):
                ended = self.script([{**self.echo, "headers": headers}])
                self.assert_status(ended, USAGE)
                self.assertIn("header", ended.err)
                self.assertNotIn("secret", ended.err)
                self.assertNotIn("5318008", ended.err)

    def test_quiet(self):
        ended = self.script([{"cmd": "print", "message": "x"}], "--quiet")
        self.assertEqual((ended.status, ended.out, ended.err), (OK, b"x\n", ""))

    def test_standard_input(self):
        steps = [self.echo, {"cmd": "print", "message": "ret['connect_gate']['type']"}]
        ended = run("script", "-", stdin=json.dumps(steps).encode())
        self.assert_status(ended, OK)
        self.assertEqual(ended.out, b"websocket\n")
        ended = run("script", "-", stdin=b'[{"cmd": "prnt"}]')
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "standard input:1:10: unknown command 'prnt'; did you mean 'print'?")
        self.assert_status(run("script", "-"), USAGE)

    def test_includes_of_standard_input_are_beside_the_user(self):
        self.write([{"cmd": "print", "message": "here"}], "x.json")
        done = subprocess.run([program(), "script", "-"], input=b'[{"cmd": "include", "file": "x.json"}]',
                              capture_output=True, cwd=self.folder, timeout=PATIENCE)
        self.assertEqual((done.returncode, done.stdout), (OK, b"here\n"), done.stderr)

    def test_variables(self):
        steps = [{"cmd": "set", "name": "a", "default": 1}, {"cmd": "set", "name": "b", "value": {"k": [True]}},
                 {"cmd": "print", "message": "a=var['a'] b=var[\"b\"]['k'][0] c=var['c'] e=env['WHO'] \\var['a']"}]
        ended = self.script(steps, "--set", "c=x=y", environment={"WHO": "me"})
        self.assertEqual(ended.out, b"a=1 b=true c=x=y e=me var['a']\n", ended.err)
        ended = self.script(steps, "--set", "a=2", "--set", "c=", environment={"WHO": ""})
        self.assertEqual(ended.out, b"a=2 b=true c= e= var['a']\n", ended.err)

    def test_a_variable_that_nothing_reads_is_told(self):
        steps = [{"cmd": "set", "name": "server", "default": "there"}, {"cmd": "print", "message": "var['server']"}]
        ended = self.script(steps, "--set", "sever=here")
        self.assert_status(ended, OK)
        self.assertIn("--set sever changes nothing", ended.err)
        self.assertIn("did you mean 'server'?", ended.err)
        self.assertNotIn("changes nothing", self.script(steps, "--set", "server=here").err)
        unread = self.script(steps[:1], "--set", "server=here")
        self.assertNotIn("changes nothing", unread.err)

    def test_a_lone_reference_keeps_its_type(self):
        ended = self.script([self.echo, {"cmd": "set", "name": "v", "value": {"n": [1.5, None]}},
                             {"cmd": "send", "json": {"all": "var['v']", "one": "var['v']['n'][0]", "text": "<var['v']['n'][0]>"}},
                             {"cmd": "expect", "equals": {"all": {"n": [1.5, None]}, "one": 1.5, "text": "<1.5>"}}])
        self.assert_status(ended, OK)

    def test_copies_have_connections_and_results_of_their_own(self):
        ended = self.script([
            {**self.echo, "connection": "outer"},
            {"cmd": "parallel", "copies": 50, "index": "me", "steps": [
                self.echo, {"cmd": "send", "text": "var['me']"}, {"cmd": "receive"},
                {"cmd": "expect", "value": "ret['receive']['text']", "matches": "^var['me']$"},
                {"cmd": "ping", "connection": "outer"}]},
            {"cmd": "expect", "value": "ret['parallel']", "json": {"copies": 50, "passed": 50, "failed": 0}},
            {"cmd": "ping", "connection": "outer"}])
        self.assert_status(ended, OK)

    def test_copies_know_what_was_before_and_keep_theirs(self):
        ended = self.script([
            {"cmd": "set", "name": "v", "value": "outer"},
            {"cmd": "parallel", "copies": 5, "index": "me", "steps": [
                {"cmd": "set", "name": "v", "default": "other"},
                {"cmd": "expect", "value": "ret['set'] var['v']", "equals": "outer outer"},
                {"cmd": "set", "name": "v", "value": "var['me']"},
                {"cmd": "parallel", "copies": 2, "steps": [
                    {"cmd": "expect", "value": "var['v'] ret['set'] var['copy']", "matches": "^var['me'] var['me'] [01]$"}]}]},
            {"cmd": "expect", "value": "ret['set'] var['v']", "equals": "outer outer"}])
        self.assert_status(ended, OK)

    def test_keep_going(self):
        steps = [{"cmd": "expect", "value": 1, "equals": 2}, {"cmd": "print", "message": "on"},
                 {"cmd": "connect_gate", "host": self.server.url + "/none"},
                 {"cmd": "repeat", "times": 3, "steps": [{"cmd": "print", "message": "var['i']"},
                                                         {"cmd": "expect", "value": "var['i']", "equals": 1}]}]
        ended = self.script(steps)
        self.assert_status(ended, FAILED)
        self.assertEqual(ended.out, b"")
        ended = self.script(steps, "--keep-going")
        self.assert_status(ended, FAILED)  # that of the first
        self.assertEqual(ended.out, b"on\n0\n1\n2\n")
        self.assertEqual(len(self.complaints(ended)), 3)
        self.assert_status(self.script(steps[2:], "--keep-going"), REFUSED)

    def test_reconnecting_after_a_refusal(self):
        with unused_port()[0] as sock:
            ended = self.script([{"cmd": "connect_gate", "host": f"127.0.0.1:{sock.getsockname()[1]}", "fails": "refused"},
                                 {"cmd": "reconnect", "attempts": 3, "delay": "10ms"}], "--json")
        self.assert_status(ended, REFUSED)
        self.assertEqual(json.loads(ended.out)["steps"][1]["result"]["attempts"], 3)

    def test_headers_and_subprotocols_are_sent(self):
        with Peer(say("hi")) as peer:
            ended = self.script([{"cmd": "connect_gate", "host": peer.url, "headers": {"X-Token": "t var['v']"},
                                  "subprotocols": ["b", "a"], "fails": "any"}], "--set", "v=7")
            request = peer.request.lower()
        self.assertIn(b"x-token: t 7\r\n", request)
        self.assertRegex(request, rb"sec-websocket-protocol: b, ?a\r\n")

    def test_time_is_bounded(self):
        ended = self.script([{"cmd": "print", "message": "x"}, {"cmd": "sleep", "duration": "1h"}], "--timeout", "3s")
        self.assert_status(ended, TIMEOUT)
        self.assert_sentence(ended, "script.json:3:1: sleep: ", "within 3s", "--timeout")
        self.assertRegex(ended.err, r"\n\[2/2\] sleep: FAILED, ")
        self.assertIn("1 passed, 1 failed, 0 skipped", ended.err)

    def test_interrupted(self):
        for number, name in ((signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")):
            path = self.write([{"cmd": "parallel", "copies": 3, "steps": [
                {"cmd": "print", "message": "up"}, {"cmd": "sleep", "duration": "1h"}]}])
            child = subprocess.Popen([program(), "script", str(path), "--json"], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
            try:
                for _ in range(3):
                    self.assertEqual(child.stderr.readline(), b"up\n")
                child.send_signal(number)
                out, err = child.communicate(timeout=PATIENCE)
            finally:
                child.kill()
                child.wait()
            self.assertEqual(child.returncode, FAILED, err)
            report = json.loads(out)
            self.assertEqual((report["interrupted"], report["failed"]), (f"interrupted by {name}", 1))
            self.assertIn(f"script.json:2:1: parallel: interrupted by {name}\n".encode(), err)
            step = report["steps"][0]
            self.assertEqual((step["outcome"], step["exit_status"], step["error"]),
                             ("failed", FAILED, f"was under way when {name} came"))
            self.assertGreater(step["seconds"], 0)

    def test_interrupted_in_an_included_file(self):
        self.write([{"cmd": "print", "message": "up"}, {"cmd": "sleep", "duration": "1h"}], "inner.json")
        path = self.folder / "report.xml"
        ended = self.script([{"cmd": "include", "file": "inner.json"}, {"cmd": "print", "message": "b"}], "--json",
                            "--timeout", "3s", "--junit", str(path))
        self.assert_status(ended, TIMEOUT)
        self.assert_sentence(ended, "inner.json:3:1: sleep: ", "within 3s")
        self.assertEqual([(s["cmd"], s["outcome"], s.get("exit_status")) for s in json.loads(ended.out)["steps"]],
                         [("include", "failed", TIMEOUT), ("print", "passed", None), ("sleep", "failed", TIMEOUT),
                          ("print", "skipped", None)])
        suite = xml.etree.ElementTree.parse(path).getroot()
        self.assertEqual([suite.get(k) for k in ("failures", "errors", "skipped")], ["2", "1", "1"])
        self.assertIn("was under way", suite.findall(".//failure")[1].get("message"))

    def test_standard_output_gone(self):
        path = self.write([{"cmd": "print", "message": "x"}])
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([program(), "script", str(path)], stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE)
        os.close(write)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(b"standard output is gone", done.stderr)

    def test_wrong_usage(self):
        for arguments in (["script"], ["script", "--set", "x", "-"], ["script", "--set", "=x", "-"],
                          ["script", "--set", "a b=x", "-"], ["script", "--timeout", "soon", "-"], ["script", "--schema", "x"],
                          ["script", "-", "--junit", "/no/such/folder/x.xml"]):
            with self.subTest(arguments):
                ended = run(*arguments, stdin=b"[]")
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended, "chorus script: ")
