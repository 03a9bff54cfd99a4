"""`chorus probe`: the report, stage by stage, and what it says to do."""
import json
import os
import re
import socket
import subprocess
import tempfile
import threading

import contract
from contract import (FAILED, OK, PROTOCOL, REFUSED, TIMEOUT, TLS, USAGE, Contract, Peer, Serve,
                      close_frame, drain, frame, run)

STAGE = re.compile(r"^  (FAIL| ok |  - )  (\S+(?: \S+)*?) {2,}", re.MULTILINE)


def stages(report):
    """What came of each stage: [("resolve", "ok"), ...]."""
    return [(name, mark.strip()) for mark, name in STAGE.findall(report)]


class Probing(Contract):
    def probe(self, *arguments):
        return run("probe", *arguments, "--timeout", "20s")

    def report(self, *arguments):
        ended = self.probe(*arguments, "--json")
        self.assertEqual(ended.out.count(b"\n"), 1, ended.out)
        return ended, json.loads(ended.out)

    def assert_stages(self, found, **wanted):
        names = {stage["name"].replace(" ", "_"): stage["state"] for stage in found["stages"]}
        self.assertEqual(names, wanted)

    def test_healthy(self):
        with Serve() as server:
            ended = self.probe(server.url + "/echo", "--pings", "3")
            self.assert_status(ended, OK)
            self.assertEqual(ended.err, "")
            text = ended.out.decode()
            self.assertEqual(stages(text), [("resolve", "ok"), ("tcp", "ok"), ("upgrade", "ok"),
                                            ("round trip", "ok"), ("close", "ok")])
            self.assertIn("101, no subprotocol, no extensions", text)
            self.assertIn("3 pings: min ", text)
            self.assertIn("\nhealthy: ", text)
            self.assertNotIn("\x1b", text)
            with_secrets = server.url.replace("ws://", "ws://user:word@") + "/echo?token=hidden"
            for extra in ([], ["--json"]):
                ended = self.probe(with_secrets, *extra)
                self.assert_status(ended, OK)
                for secret in (b"word", b"hidden"):
                    self.assertNotIn(secret, ended.out)
            self.assertIn("\x1b[", self.probe(server.url + "/echo", "--color", "always").out.decode())

    def test_json(self):
        with Serve("--compression", "on") as server:
            ended, found = self.report(server.url + "/echo", "--compression", "on", "--pings", "2")
            self.assert_status(ended, OK)
            self.assert_stages(found, resolve="ok", tcp="ok", upgrade="ok", round_trip="ok", close="ok")
            by_name = {stage["name"]: stage for stage in found["stages"]}
            self.assertEqual(by_name["resolve"]["addresses"], [f"127.0.0.1:{server.port}"])
            self.assertEqual(by_name["tcp"]["address"], f"127.0.0.1:{server.port}")
            self.assertEqual(by_name["upgrade"]["status"], 101)
            self.assertIn("permessage-deflate", by_name["upgrade"]["extensions"])
            self.assertIn(["upgrade", "websocket"],
                          [[name.lower(), value] for name, value in by_name["upgrade"]["headers"]])
            trip = by_name["round trip"]
            self.assertEqual(trip["pings"], 2)
            self.assertLessEqual(trip["min_ms"], trip["median_ms"])
            self.assertLessEqual(trip["median_ms"], trip["max_ms"])
            self.assertEqual(by_name["close"]["code"], 1000)
            self.assertEqual((found["healthy"], found["status"], found["failure"]), (True, 0, None))
            for stage in found["stages"]:
                self.assertGreaterEqual(stage["ms"], 0)

    def test_names_are_resolved(self):
        with Serve() as server:
            ended, found = self.report(f"ws://localhost:{server.port}/echo")
            self.assert_status(ended, OK)
            self.assertIn(f"127.0.0.1:{server.port}", found["stages"][0]["addresses"])

    def test_refused_port(self):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            ended = self.probe(f"ws://127.0.0.1:{port}/")
        self.assert_status(ended, REFUSED)
        self.assertEqual(stages(ended.out.decode()),
                         [("resolve", "ok"), ("tcp", "FAIL"), ("upgrade", "-"), ("round trip", "-"),
                          ("close", "-")])
        self.assertIn("\nwhat to do: check that the server runs", ended.out.decode())
        self.assert_sentence(ended, "tcp: ", str(port))

    def test_unknown_name(self):
        ended, found = self.report("ws://no-such-host.invalid/")
        self.assertIn(ended.status, (FAILED, TIMEOUT))
        self.assertEqual(found["stages"][0]["state"], "failed")
        self.assertEqual(found["failure"]["remedy"], "check_name")

    def test_plain_http_server(self):
        def script(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 200 OK\r\nServer: hello\x1b[31m\r\nContent-Length: 2\r\n\r\nhi")
            drain(sock)

        with Peer(script, raw=True) as peer:
            ended = self.probe(peer.url)
        self.assertIn(ended.status, (REFUSED, PROTOCOL))
        text = ended.out.decode()
        self.assertEqual(dict(stages(text))["upgrade"], "FAIL")
        self.assertIn("no WebSocket", text)
        self.assertNotIn("\x1b", text)

    def test_refused_upgrade(self):
        def script(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n"
                         b"Content-Length: 8\r\n\r\nno token")
            drain(sock)

        with Peer(script, raw=True) as peer:
            ended, found = self.report(peer.url)
        self.assert_status(ended, REFUSED)
        self.assert_stages(found, resolve="ok", tcp="ok", upgrade="failed", round_trip="not_reached",
                           close="not_reached")
        self.assertEqual(found["stages"][2]["status"], 401)
        self.assertIn("--header", found["failure"]["what_to_do"])
        self.assertIn("no token", found["failure"]["said"])

    def test_not_a_websocket(self):
        with Peer(lambda sock: (sock.sendall(b"220 mail.example ESMTP\r\n"), drain(sock)), raw=True) as peer:
            ended, found = self.report(peer.url)
        self.assert_status(ended, PROTOCOL)
        self.assertEqual(found["failure"]["stage"], "upgrade")
        self.assertIn("probe wss://", found["failure"]["what_to_do"])

    def test_silent_server(self):
        with Peer(drain, raw=True) as peer:
            ended = run("probe", peer.url, "--timeout", "5s")
        self.assert_status(ended, TIMEOUT)
        text = ended.out.decode()
        self.assertEqual(dict(stages(text)), {"resolve": "ok", "tcp": "ok", "upgrade": "FAIL",
                                              "round trip": "-", "close": "-"})
        self.assertIn("what to do: if the port speaks TLS, probe wss://", text)
        self.assert_sentence(ended, "upgrade: ")

    def test_pings_that_are_not_answered(self):
        with Peer(drain) as peer:
            ended = run("probe", peer.url, "--timeout", "5s")
        self.assert_status(ended, TIMEOUT)
        self.assertEqual(dict(stages(ended.out.decode()))["round trip"], "FAIL")

    def test_peer_that_closes(self):
        def script(sock):
            sock.sendall(close_frame(1008, b"go away"))
            sock.shutdown(socket.SHUT_WR)
            drain(sock)

        with Peer(script) as peer:
            ended, found = self.report(peer.url)
        self.assert_status(ended, PROTOCOL)
        self.assertIn("go away", found["failure"]["said"])

    def answer_to_close(self, answer):
        """A server that answers pings, and the close with `answer`."""
        def script(sock):
            data = bytearray()
            while piece := sock.recv(4096):
                data += piece
                while len(data) >= 6 and len(data) >= 6 + (data[1] & 127):
                    size = data[1] & 127
                    payload = bytes(b ^ data[2 + i % 4] for i, b in enumerate(data[6:6 + size]))
                    opcode = data[0] & 15
                    del data[:6 + size]
                    if opcode == 9:
                        sock.sendall(frame(10, payload))
                    elif opcode == 8:
                        sock.sendall(answer)
                        sock.shutdown(socket.SHUT_WR)
                        return drain(sock)
        return script

    def test_answer_to_the_close(self):
        for answer, code in ((close_frame(1001), 1001), (frame(8), 1005)):
            with self.subTest(code=code), Peer(self.answer_to_close(answer)) as peer:
                ended, found = self.report(peer.url)
                self.assert_status(ended, OK)
                self.assertEqual(found["stages"][-1]["code"], code)
        with Peer(self.answer_to_close(close_frame(1011, b"internal fault"))) as peer:
            ended, found = self.report(peer.url)
        self.assert_status(ended, PROTOCOL)
        self.assertEqual((found["stages"][-1]["state"], found["stages"][-1]["code"]), ("failed", 1011))
        self.assertEqual(found["failure"]["stage"], "close")
        self.assertIn("internal fault", found["failure"]["said"])
        self.assertNotEqual(found["failure"]["what_to_do"], "")
        self.assert_sentence(ended, "1011", "internal fault")

    def test_hostile_headers(self):
        def script(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 403 No\xff\x9b\r\nX-Evil: a\x9bb\xff\xc2\x9bc\r\n"
                         b"Content-Length: 9\r\n\r\n\xe9t\xe9\xc2\x9b\xe2\x80\xae")
            drain(sock)

        with Peer(script, raw=True) as peer:
            ended = self.probe(peer.url, "--json")
        self.assert_status(ended, REFUSED)
        found = json.loads(ended.out.decode())  # UTF-8, strictly
        self.assertIn(["X-Evil", "a\\x9bb\\xff\\x9bc"], found["stages"][2]["headers"])
        with Peer(script, raw=True) as peer:
            ended = self.probe(peer.url)
        for text in (ended.out.decode(), ended.err):
            for evil in "\x9b\u202e\ufffd":
                self.assertNotIn(evil, text)

    def test_every_failure_has_advice(self):
        def cut(sock):
            sock.recv(2)  # the beginning of a ping; what is unread makes it a reset

        for script, stage, status in ((drain, "round trip", TIMEOUT), (cut, "round trip", FAILED),
                                      (self.answer_to_close(b""), "close", None),
                                      (lambda sock: (sock.sendall(close_frame(1008)), drain(sock)),
                                       "round trip", PROTOCOL)):
            with self.subTest(stage=stage, status=status), Peer(script) as peer:
                ended = run("probe", peer.url, "--timeout", "5s", "--json")
                found = json.loads(ended.out)
                self.assertNotEqual(ended.status, OK)
                if status is not None:
                    self.assert_status(ended, status)
                self.assertEqual(found["failure"]["stage"], stage)
                self.assertEqual([one["name"] for one in found["stages"] if one["state"] == "failed"],
                                 [stage])
                self.assertNotEqual(found["failure"]["what_to_do"], "")

    def test_options_that_cannot_be_used(self):
        ended, found = self.report("wss://127.0.0.1:1/", "--ca", "/no/such/file")
        self.assert_status(ended, TLS)
        self.assertEqual((found["healthy"], found["status"]), (False, TLS))
        self.assertEqual({one["state"] for one in found["stages"]}, {"not_reached"})
        self.assertEqual(found["failure"]["stage"], "configure")
        self.assertNotEqual(found["failure"]["what_to_do"], "")
        self.assert_sentence(ended, "/no/such/file")

    def test_proxy_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        ended, found = self.report("ws://localhost/", "--proxy", f"http://127.0.0.1:{port}")
        self.assertNotEqual(ended.status, OK)
        self.assert_stages(found, resolve="ok", tcp="failed", proxy="not_reached", upgrade="not_reached",
                           round_trip="not_reached", close="not_reached")

    def test_talkative_server(self):
        """What the server says unasked does not keep the pongs waiting, nor reach the report."""
        def script(sock):
            sock.sendall(frame(1, b"chatter " * 4) * 20000)
            pings = bytearray()
            while True:
                try:
                    data = sock.recv(4096)
                except ConnectionResetError:  # the program has gone, with chatter unread
                    return
                if not data:
                    return
                pings += data
                while len(pings) >= 6:
                    opcode, size = pings[0] & 15, pings[1] & 127
                    if len(pings) < 6 + size:
                        break
                    payload = bytes(b ^ pings[2 + i % 4] for i, b in enumerate(pings[6:6 + size]))
                    del pings[:6 + size]
                    sock.sendall(frame(10 if opcode == 9 else 8, payload))
                    if opcode == 8:
                        return

        with Peer(script) as peer:
            ended, found = self.report(peer.url)
        self.assert_status(ended, OK)
        self.assertTrue(found["healthy"])

    def test_redirect(self):
        with Serve() as server:
            def script(sock):
                sock.recv(4096)
                sock.sendall(f"HTTP/1.1 307 Moved\r\nLocation: {server.url}/echo?token=secret\r\n"
                             "Content-Length: 0\r\n\r\n".encode())
                drain(sock)

            with Peer(script, raw=True) as peer:
                ended, found = self.report(peer.url)
        self.assert_status(ended, OK)
        self.assertEqual([stage["name"] for stage in found["stages"]],
                         ["resolve", "tcp", "upgrade", "resolve", "tcp", "upgrade", "round trip", "close"])
        self.assertEqual(found["stages"][2]["redirected_to"], server.url + "/echo")
        self.assertNotIn(b"secret", ended.out)

    def test_framed(self):
        with Peer(drain, raw=True) as peer:
            ended, found = self.report(peer.url.replace("ws:", "tcp:").rstrip("/"))
        self.assert_status(ended, OK)
        self.assert_stages(found, resolve="ok", tcp="ok", round_trip="not_reached", close="ok")

    def test_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            with Serve(listen="unix:" + path):
                ended, found = self.report(f"ws+unix://{path}:/echo")
            self.assert_status(ended, OK)
            self.assert_stages(found, resolve="ok", socket="ok", upgrade="ok", round_trip="ok", close="ok")
            ended, found = self.report(f"unix://{path}-away")
            self.assertNotEqual(ended.status, OK)
            self.assert_stages(found, resolve="ok", socket="failed", round_trip="not_reached",
                               close="not_reached")

    def test_proxy(self):
        """Through a CONNECT proxy, and one that refuses."""
        def tunnel(answer, port):
            def script(sock):
                sock.recv(4096)
                sock.sendall(answer)
                if b" 200 " not in answer:
                    return drain(sock)
                with socket.create_connection(("127.0.0.1", port)) as further:
                    threading.Thread(target=lambda: copy(further, sock), daemon=True).start()
                    copy(sock, further)
            return script

        def copy(source, target):
            try:
                while data := source.recv(4096):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        with Serve() as server:
            for answer, status in ((b"HTTP/1.1 200 OK\r\n\r\n", OK),
                                   (b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n", None)):
                with Peer(tunnel(answer, server.port), raw=True) as proxy:
                    ended, found = self.report(server.url + "/echo", "--proxy",
                                               proxy.url.replace("ws:", "http:").rstrip("/"))
                by_name = {stage["name"]: stage["state"] for stage in found["stages"]}
                if status == OK:
                    self.assert_status(ended, OK)
                    self.assertEqual(by_name["proxy"], "ok")
                else:
                    self.assertNotEqual(ended.status, OK)
                    self.assertEqual((by_name["proxy"], by_name["upgrade"]), ("failed", "not_reached"))
                    self.assertIn("--proxy", found["failure"]["what_to_do"])

    def test_asks_as_connect_does(self):
        with Peer(lambda sock: (sock.sendall(close_frame(1000)), drain(sock))) as peer:
            self.probe(peer.url, "--user-agent", "tester/1", "--cookie", "a=1", "--cookie", "b=2")
            request = peer.request.decode()
        self.assertIn("\r\nUser-Agent: tester/1\r\n", request)
        self.assertIn("\r\nCookie: a=1; b=2\r\n", request)
        ended, found = self.report("ws://localhost:1/", "--server-name", "", "--redirects", "0")
        self.assert_stages(found, resolve="ok", tcp="failed", upgrade="not_reached",
                           round_trip="not_reached", close="not_reached")

    def test_usage(self):
        for arguments in (["http://127.0.0.1/"], ["ws://h:99999/"], ["ws://127.0.0.1/", "--timeout", "0"],
                          ["ws://127.0.0.1/", "--pings", "0"], ["tcp://127.0.0.1:1", "--subprotocol", "a"],
                          ["ws://127.0.0.1/", "--color", "blue"]):
            with self.subTest(arguments=arguments):
                ended = run("probe", *arguments)
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended)


class ProbingTLS(Contract):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        subprocess.run(["sh", contract.settings.certificates, cls.folder.name], check=True,
                       stdout=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def probe(self, certificate, *arguments, ca="ca.pem"):
        with Serve("--tls-cert", self.path(certificate + ".pem"), "--tls-key",
                   self.path(certificate + ".key")) as server:
            ended = run("probe", f"wss://localhost:{server.port}/echo", "--json", "--ca", self.path(ca),
                        *arguments)
        found = json.loads(ended.out)
        tls = [stage for stage in found["stages"] if stage["name"] == "tls"][0]
        return ended, found, tls

    def test_good_certificate(self):
        ended, found, tls = self.probe("server")
        self.assert_status(ended, OK)
        self.assertEqual(tls["version"], "TLSv1.3")
        self.assertTrue(tls["cipher"].startswith("TLS_"))
        shown = tls["certificate"]
        self.assertEqual((shown["subject"], shown["issuer"]), ("CN=server", "CN=Chorus test issuer"))
        self.assertEqual(shown["names"][:2], ["DNS:localhost", "IP:127.0.0.1"])
        self.assertEqual(shown["chain"], ["CN=server", "CN=Chorus test issuer"])
        self.assertEqual((shown["trusted"], shown["verdict"], shown["key"]), (True, "ok", "EC 256"))
        self.assertLess(shown["not_before"], shown["not_after"])
        self.assertIn("renew it in time", " ".join(found["notes"]))

    def test_bad_certificates(self):
        for name, ca, remedy, advice, subject in (
                ("expired", "ca.pem", "renew_certificate", "renew", "CN=expired"),
                ("stranger", "ca.pem", "trust_authority", "--ca FILE", "CN=stranger"),
                ("other", "ca.pem", "use_certificate_name", "DNS:other.example", "CN=other")):
            with self.subTest(name=name):
                ended, found, tls = self.probe(name, ca=ca)
                self.assert_status(ended, TLS)
                self.assertEqual(tls["state"], "failed")
                self.assertEqual(tls["certificate"]["subject"], subject)
                self.assertFalse(tls["certificate"]["trusted"])
                self.assertNotEqual(tls["certificate"]["verdict"], "ok")
                self.assertEqual(found["failure"]["remedy"], remedy)
                self.assertIn(advice, found["failure"]["what_to_do"])
                self.assertEqual(found["stages"][-1]["state"], "not_reached")

    def test_insecure(self):
        ended, found, tls = self.probe("expired", "--insecure")
        self.assert_status(ended, OK)
        self.assertFalse(tls["certificate"]["trusted"])
        self.assertIn("impostor", " ".join(found["notes"]))

    def test_plain_port(self):
        with Serve() as server:
            ended = run("probe", f"wss://127.0.0.1:{server.port}/echo")
        self.assert_status(ended, TLS)
        self.assertIn(f"probe ws://127.0.0.1:{server.port}/echo", ended.out.decode())

    def test_tls_port_without_tls(self):
        with Serve("--tls-cert", self.path("server.pem"), "--tls-key", self.path("server.key")) as server:
            ended = run("probe", f"ws://127.0.0.1:{server.port}/echo")
            self.assertNotEqual(ended.status, OK)
            self.assertIn(f"probe wss://127.0.0.1:{server.port}/echo", ended.out.decode())
            ended = run("probe", f"tls://127.0.0.1:{server.port}", "--ca", self.path("ca.pem"), "--json")
            self.assert_status(ended, OK)

    def test_refused_client_certificate(self):
        """One stage of TLS, also where the handshake seemed done when the server refused."""
        with Serve("--tls-cert", self.path("server.pem"), "--tls-key", self.path("server.key"),
                   "--tls-client-ca", self.path("ca.pem"), "--tls-client-cert", "require") as server:
            url = f"wss://localhost:{server.port}/echo"
            ended = run("probe", url, "--json", "--ca", self.path("ca.pem"))
            found = json.loads(ended.out)
            self.assert_status(ended, TLS)
            self.assertEqual([(one["name"], one["state"]) for one in found["stages"]],
                             [("resolve", "ok"), ("tcp", "ok"), ("tls", "failed"), ("upgrade", "not_reached"),
                              ("round trip", "not_reached"), ("close", "not_reached")])
            self.assertEqual(found["failure"]["stage"], "tls")
            self.assertIn("--tls-cert", found["failure"]["what_to_do"])
            ended = run("probe", url, "--ca", self.path("ca.pem"))
            self.assertEqual(ended.out.count(b"certificate: CN=server"), 1, ended.out)
            ended = run("probe", url, "--ca", self.path("ca.pem"), "--tls-cert", self.path("client.pem"),
                        "--tls-key", self.path("client.key"))
            self.assert_status(ended, OK)
