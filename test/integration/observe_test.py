"""What `chorus serve` tells monitoring systems: /metrics, held to the format and to Prometheus' rules of
naming, health pages, and the log. Python's standard library only.

    observe_test.py --program PATH --documentation docs/observe.md [unittest arguments]
"""
import argparse
import base64
import datetime
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "observe"))

import prometheus_text

settings = argparse.Namespace()
PATIENCE = 60  # seconds; only what hangs meets it
SECRET = "c0rrect-h0rse"


class Serve:
    def __init__(self, *arguments, environment=None):
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            [settings.program, "serve", "--listen", "127.0.0.1:0", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
            env={**os.environ, **(environment or {})})
        self.port = int(self.child.stdout.readline().decode().rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.log.close()

    def stop(self):
        """Stops it; the lines of its log."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(PATIENCE)
        finally:
            self.child.kill()
            self.child.stdout.close()
        self.log.seek(0)
        return self.log.read().decode().splitlines()

    def get(self, path, *headers):
        """Status, headers and body."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            sock.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *headers,
                                      "", ""]).encode())
            answer = b""
            while part := sock.recv(65536):
                answer += part
        head, _, body = answer.decode().partition("\r\n\r\n")
        return int(head.split()[1]), head, body

    def metrics(self):
        status, _, body = self.get("/metrics")
        assert status == 200, body
        return prometheus_text.parse(body)

    def session(self, path, *headers):
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: a", "Upgrade: websocket",
                                  "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                                  f"Sec-WebSocket-Key: {key}", *headers, "", ""]).encode())
        stream = sock.makefile("rb")
        status = int(stream.readline().split()[1])
        while stream.readline().strip():
            pass
        return status, sock, stream


def frame(opcode, payload):
    """As a client sends it, masked with zeroes."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def echo(sock, stream, payload):
    sock.sendall(frame(1, payload))
    head = stream.read(2)
    return stream.read(head[1] & 0x7f)


class Parser(unittest.TestCase):
    """The reader is strict: these it must not let pass."""

    def test_malformed(self):
        good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\"} 1\n"
        prometheus_text.parse(good)
        for bad in (good.rstrip("\n"), good + good, good.replace("# HELP a_total x\n", ""),
                    good.replace("# TYPE a_total counter\n", ""), good + "a_total{b=\"c\"} 2\n",
                    good + "b_total 1\n", good.replace("} 1", "} one"), good.replace('"c"', "c"),
                    good.replace("counter", "count"), good + "\n", good.replace("} 1", "}  1"),
                    good.replace('b="c"', 'b="c",b="d"'), good + "# HELP z x\n# TYPE z gauge\n"):
            with self.subTest(bad):
                self.assertRaises(prometheus_text.Malformed, prometheus_text.parse, bad)

    def test_histograms(self):
        good = ("# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n"
                "h_sum 3\nh_count 2\n")
        prometheus_text.parse(good)
        for old, new in (('le="1"} 1', 'le="1"} 3'), ("h_count 2", "h_count 3"), ("h_sum 3\n", ""),
                         ('h_bucket{le="+Inf"} 2\n', "")):
            with self.subTest(new):
                self.assertRaises(prometheus_text.Malformed, prometheus_text.parse,
                                  good.replace(old, new))

    def test_names(self):
        for name, kind in (("a", "counter"), ("a_total", "gauge"), ("aB", "gauge"), ("a_ms", "gauge"),
                           ("a_seconds_now", "gauge"), ("a_gauge", "gauge"), ("a_count", "gauge"),
                           ("a_milliseconds_total", "counter")):
            with self.subTest(name):
                text = f"# HELP {name} x\n# TYPE {name} {kind}\n{name} 1\n"
                self.assertTrue(prometheus_text.lint(prometheus_text.parse(text)))


class Metrics(unittest.TestCase):
    def test_form_and_names(self):
        with Serve() as server:
            status, head, body = server.get("/metrics")
            self.assertEqual(status, 200)
            self.assertIn("Content-Type: text/plain; version=0.0.4; charset=utf-8", head)
            families = prometheus_text.parse(body)
            self.assertEqual(prometheus_text.lint(families), [])
            for name in families:
                self.assertTrue(name.startswith("chorus_"), name)
            self.assertLess(sum(len(f.series) for f in families.values()), 300)

    def test_documentation_names_them_all(self):
        families = {}
        brokers = [()]
        if "--broker" in subprocess.run([settings.program, "serve", "--help"], capture_output=True,
                                        text=True, check=True).stdout:
            brokers.append(("--broker", "redis://127.0.0.1:1")) # where nobody is
        for options in brokers:
            with Serve(*options) as server:
                families.update(server.metrics())
        rows = re.findall(r"^\| `(chorus_\w+)`(?:[^|]*)\| (\w+) \|",
                          pathlib.Path(settings.documentation).read_text(), re.MULTILINE)
        documented = {name: kind for name, kind in rows if not name.startswith("chorus_client_")}
        self.assertEqual({f.name: f.type for f in families.values()}, documented)

    def test_counters_move_as_the_traffic_does(self):
        with Serve("--threads", "2") as server:
            open_sockets = [server.session("/echo") for _ in range(3)]
            for status, sock, stream in open_sockets:
                self.assertEqual(status, 101)
                for _ in range(4):
                    self.assertEqual(echo(sock, stream, b"hello"), b"hello")
            families = server.metrics()

            def value(name, **labels):
                key = name, tuple(sorted(labels.items()))
                return families[name].series[key]
            self.assertEqual(value("chorus_sessions"), 3)
            self.assertEqual(value("chorus_messages_received_total"), 12)
            self.assertEqual(value("chorus_received_bytes_total"), 12 * 11)
            self.assertEqual(value("chorus_sent_bytes_total"), 12 * 7)
            for _, sock, stream in open_sockets:
                sock.sendall(frame(8, b"\x03\xe8"))
                stream.read()
                sock.close()
            while True:  # till the last of them is over
                families = server.metrics()
                if value("chorus_sessions") == 0:
                    break
            self.assertEqual(value("chorus_sessions_closed_total", code="1000", by="peer"), 3)
            self.assertEqual(value("chorus_messages_received_total"), 12)

    def test_token(self):
        for arguments, environment in ((["--metrics-token", SECRET], {}),
                                       ([], {"CHORUS_METRICS_TOKEN": SECRET})):
            with Serve(*arguments, environment=environment) as server:
                self.assertEqual(server.get("/metrics")[0], 401)
                self.assertEqual(server.get("/metrics", "Authorization: Bearer no")[0], 401)
                self.assertEqual(server.get("/metrics", f"Authorization: Bearer {SECRET}")[0], 200)
                self.assertEqual(server.get("/healthz")[0], 200)

    def test_health(self):
        with Serve() as server:
            self.assertEqual(server.get("/healthz")[0], 200)
            self.assertEqual(server.get("/readyz")[0], 200)


class Log(unittest.TestCase):
    def lines(self, *arguments):
        """The log of a server that has seen sessions, refusals and secrets."""
        with Serve(*arguments) as server:
            status, sock, stream = server.session(f"/echo?token={SECRET}",
                                                  f"Authorization: Bearer {SECRET}",
                                                  f"Sec-WebSocket-Protocol: {SECRET}")
            self.assertEqual(status, 101)
            self.assertEqual(echo(sock, stream, SECRET.encode()), SECRET.encode())
            sock.sendall(frame(8, b"\x0f\xa1" + SECRET.encode()))
            stream.read()
            sock.close()
            status, sock, stream = server.session(f"/nowhere?token={SECRET}", f"Cookie: {SECRET}")
            self.assertEqual(status, 404)
            stream.read()
            sock.close()
            return server.stop()

    def test_json_lines(self):
        lines = self.lines("--log-format", "json", "--log-level", "trace")
        records = [json.loads(line, parse_constant=lambda c: self.fail(c)) for line in lines]
        for record in records:
            self.assertRegex(record["time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
            datetime.datetime.strptime(record["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
            self.assertIn(record["level"], ("trace", "debug", "info", "warn", "error"))
            self.assertTrue(record["room"] and record["event"])
        closed = next(r for r in records if r["event"] == "closed")
        self.assertEqual((closed["code"], closed["by"], closed["messages_received"]),
                         (4001, "peer", 1))
        of_it = [r["event"] for r in records if r.get("connection") == closed["connection"]]
        self.assertEqual(of_it, ["accepted", "upgraded", "closed"])
        refused = next(r for r in records if r["event"] == "refused")
        self.assertEqual((refused["status"], refused["path"]), (404, "/nowhere"))
        events = [r["event"] for r in records if r["room"] == "server"]
        self.assertEqual((events[0], events[-1]), ("listening", "stopped"))

    def test_nothing_secret(self):
        for form in ("text", "json"):
            lines = self.lines("--log-format", form, "--log-level", "trace")
            self.assertGreater(len(lines), 5)
            for line in lines:
                self.assertNotIn(SECRET, line)

    def test_levels_by_room(self):
        lines = self.lines("--log-level", "off,session=debug")
        self.assertEqual(len(lines), 2, lines)
        self.assertRegex(lines[0], r"debug session upgraded connection=\d+ ")
        self.assertRegex(lines[1], r"debug session closed connection=\d+ code=4001 by=peer ")
        self.assertEqual(self.lines("--log-level", "off"), [])

    def test_wrong_levels(self):
        for level in ("loud", "session=loud", "attic=debug", "debug,info"):
            done = subprocess.run([settings.program, "serve", "--log-level", level],
                                  capture_output=True, text=True, timeout=PATIENCE, check=False)
            self.assertEqual(done.returncode, 2, level)
            self.assertIn("--log-level", done.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--program", required=True)
    parser.add_argument("--documentation", required=True)
    _, rest = parser.parse_known_args(namespace=settings)
    unittest.main(argv=[sys.argv[0], *rest])
