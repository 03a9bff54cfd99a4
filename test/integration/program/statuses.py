"""Exit statuses and sentences of `chorus connect`, TLS included."""
import os
import socket
import struct
import subprocess
import tempfile

from contract import (FAILED, OK, OPEN, PROTOCOL, REFUSED, TIMEOUT, TLS, Contract, Peer, Serve,
                      close_frame, drain, frame, run, settings)


class Statuses(Contract):
    def closed_with(self, data):
        with Peer(lambda sock: (sock.sendall(data), drain(sock))) as peer:
            return run("connect", peer.url, stdin=OPEN)

    def test_normal_closes(self):
        for data in (close_frame(1000), close_frame(1001, b"bye"), frame(8)):
            with self.subTest(data):
                self.assert_status(self.closed_with(data), OK)

    def test_error_codes(self):
        for code in (1002, 1008, 1011, 1013, 4321):
            with self.subTest(code):
                ended = self.closed_with(close_frame(code, b"the reason"))
                self.assert_status(ended, PROTOCOL)
                self.assert_sentence(ended, str(code), "(the reason); ")

    def test_broken_protocol(self):
        for data in (b"\xf1\x00", b"\x83\x00", frame(1, b"\xff"), close_frame(999)):
            with self.subTest(data):
                ended = self.closed_with(data)
                self.assert_status(ended, PROTOCOL)
                self.assert_sentence(ended, "; the fault is the peer's")

    def test_too_large(self):
        with Serve() as server:
            ended = run("connect", server.url + "/echo", "--count", "1", "--max-message", "1k",
                        stdin=b"x" * 2000 + b"\n")
        self.assert_status(ended, PROTOCOL)
        self.assert_sentence(ended, "; --max-message", "1k")

    def test_lost(self):
        def vanish(sock):
            sock.sendall(frame(1, b"last words"))

        with Peer(vanish) as peer:
            ended = run("connect", peer.url, stdin=OPEN)
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "; --reconnect")
        self.assertEqual(ended.out, b"last words\n")

    def test_lost_in_the_upgrade(self):
        def reset(sock):
            sock.recv(4096)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with Peer(reset, raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "broke during the upgrade", "--reconnect")

    def test_no_answer_to_the_upgrade(self):
        with Peer(lambda sock: sock.recv(4096), raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "without answering the upgrade; ", "wss://")
        self.assertEqual(ended.err.count(";"), 1, ended.err)  # the advice is given once

    def test_nobody_listens(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            ended = run("connect", f"ws://127.0.0.1:{port}/")
        self.assert_status(ended, REFUSED)
        self.assert_sentence(ended, str(port), "is the server running, is the port right?")
        self.assertEqual(ended.err.count(";"), 1, ended.err)  # the advice is given once

    def test_refused_upgrade(self):
        def refuse(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot you!\n")
            drain(sock)

        for extra in ([], ["--reconnect"]):  # 403 is for good
            with self.subTest(extra), Peer(refuse, raw=True) as peer:
                ended = run("connect", peer.url, *extra)
                self.assert_status(ended, REFUSED)
                self.assertIn("403", ended.err)
                self.assertIn("not you!", ended.err)

    def test_credentials_are_asked_for_as_an_option(self):
        def refuse(sock):
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            drain(sock)

        with Peer(refuse, raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, REFUSED)
        self.assert_sentence(ended, "401", "--header 'Authorization: Bearer ...'")
        self.assertNotIn("{", ended.err)

    def test_no_websocket(self):
        def nonsense(sock):
            sock.sendall(b"220 mail.example ready\r\n\r\n")
            drain(sock)

        with Peer(nonsense, raw=True) as peer:
            ended = run("connect", peer.url)
        self.assert_status(ended, PROTOCOL)
        self.assert_sentence(ended)

    def test_timeout_while_connecting(self):
        for extra in ([], ["--reconnect"]):
            with self.subTest(extra), Peer(drain, raw=True) as peer:
                ended = run("connect", peer.url, "--timeout", "300ms", *extra)
                self.assert_status(ended, TIMEOUT)
                self.assert_sentence(ended, "--timeout")

    def test_timeout_without_a_server(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = "ws://127.0.0.1:%d/" % closed.getsockname()[1]
            ended = run("connect", url, "--reconnect", "--timeout", "300ms")
        self.assert_status(ended, TIMEOUT)
        self.assert_sentence(ended, "--timeout")

    def test_timeout_between_messages(self):
        with Serve() as server:
            ended = run("connect", server.url + "/echo", "--count", "2", "--timeout", "5s",
                        stdin=b"only one\n")
            self.assert_status(ended, TIMEOUT)
            self.assert_sentence(ended, "5s", "--timeout")
            self.assertEqual(ended.out, b"only one\n")

    def test_dead_peer(self):
        with Peer(drain) as peer:  # reads, but never answers a ping
            ended = run("connect", peer.url, "--count", "1", "--ping-interval", "100ms", "--pong-wait",
                        "300ms")
        self.assert_status(ended, TIMEOUT)
        self.assert_sentence(ended)

    def test_unknown_host(self):
        ended = run("connect", "ws://no-such-host.invalid/")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "no-such-host.invalid")


class Secure(Contract):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        subprocess.run(["sh", settings.certificates, cls.folder.name], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def serve(self, name):
        return Serve("--tls-cert", self.path(name + ".pem"), "--tls-key", self.path(name + ".key"))

    def test_trusted(self):
        with self.serve("server") as server:
            self.assertRegex(server.ready, r"^listening on wss://127\.0\.0\.1:[1-9][0-9]*\n$")
            ended = run("connect", server.url + "/echo", "--ca", self.path("ca.pem"), "--count", "1",
                        stdin=b"secret\n")
            self.assert_status(ended, OK)
            self.assertEqual(ended.out, b"secret\n")

    def test_not_trusted(self):
        for name in ("stranger", "other", "expired"):
            with self.subTest(name), self.serve(name) as server:
                url = server.url + "/echo"
                for extra in ([], ["--reconnect"]):
                    ended = run("connect", url, "--ca", self.path("ca.pem"), *extra)
                    self.assert_status(ended, TLS)
                    self.assertTrue(ended.err.strip())
                ended = run("connect", url, "--insecure", "--count", "1", stdin=b"x\n")
                self.assert_status(ended, OK)

    def test_sentence_names_the_remedy(self):
        with self.serve("server") as server:
            ended = run("connect", server.url + "/echo")
            self.assert_status(ended, TLS)
            self.assert_sentence(ended, "--ca", "--insecure")
            self.assertNotIn("ca_file", ended.err)
        with self.serve("other") as server:
            ended = run("connect", server.url + "/echo", "--ca", self.path("ca.pem"))
            self.assert_status(ended, TLS)
            self.assert_sentence(ended, "name that the certificate holds", "--insecure")
            self.assertNotIn("server_name", ended.err)

    def test_not_tls(self):
        with Serve() as server:
            ended = run("connect", server.url.replace("ws:", "wss:") + "/echo")
            self.assert_status(ended, TLS)
            self.assert_sentence(ended)

    def test_unusable_ca(self):
        ended = run("connect", "wss://127.0.0.1:1/", "--ca", "/nonexistent.pem")
        self.assert_status(ended, TLS)
        self.assert_sentence(ended, "nonexistent")
