"""`chorus serve`: where it listens, certificates, and how it goes."""
import os
import pathlib
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time

from contract import (FAILED, OK, PATIENCE, USAGE, Contract, Serve, close_frame, program, run,
                      settings)

UPGRADE = (b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")


def head(stream):
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line)
    return lines


def upgraded(port):
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.sendall(UPGRADE)
    stream = sock.makefile("rb")
    assert b" 101 " in head(stream)[0]
    return sock, stream


def closed_with(stream):
    """Code and reason of the close frame that is next."""
    first, size = stream.read(2)
    assert first == 0x88, first
    payload = stream.read(size)
    return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


def comes_true(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Listening(Contract):
    def test_several_addresses_in_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/s"
            with Serve("--listen", "[::1]:0", "--listen", "unix:" + path, "--unix-mode", "600") as server:
                urls = server.url.split(" ")
                self.assertEqual(len(urls), 3, server.ready)
                self.assertRegex(urls[1], r"^ws://\[::1\]:[1-9]")
                self.assertEqual(urls[2], "ws+unix://" + path)
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                for url in (urls[0] + "/echo", urls[1] + "/echo", f"ws+unix://{path}:/echo"):
                    ended = run("connect", url, "--count", "1", stdin=b"hi\n")
                    self.assert_status(ended, OK)
            self.assertFalse(os.path.exists(path))

    def activated(self, sockets, names):
        """Serves on sockets handed over as systemd does it: from descriptor 3 on."""
        script = ('export LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s; exec "$0" serve --listen '
                  'inherited' % (len(sockets), names))

        def arrange():
            # Above their places first, so that none is overwritten.
            high = [os.dup2(s.fileno(), 40 + i) for i, s in enumerate(sockets)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
        return subprocess.Popen(["sh", "-c", script, program()], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, close_fds=False, preexec_fn=arrange)

    def test_socket_activation(self):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            ports = [s.getsockname()[1] for s in (one, two)]
            child = self.activated((one, two), "web:admin")
            try:
                ready = child.stdout.readline().decode()
                self.assertEqual(ready, "listening on ws://127.0.0.1:%d ws://127.0.0.1:%d\n" % tuple(ports))
                for port in ports:
                    upgraded(port)[0].close()
                child.send_signal(signal.SIGTERM)
                self.assertEqual(child.wait(PATIENCE), OK)
            finally:
                child.kill()
                child.communicate()

    def test_a_wrong_descriptor_is_refused(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.bind(("127.0.0.1", 0))
            child = self.activated((datagram,), "")
            _, err = child.communicate(timeout=PATIENCE)
            self.assertEqual(child.returncode, FAILED)
            self.assertIn("no stream socket", err.decode())

    def test_nothing_inherited(self):
        ended = run("serve", "--listen", "inherited")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "LISTEN_FDS")

    def test_children_would_inherit_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            with Serve("--threads", "2", "--listen", "unix:" + folder + "/s", "--handover",
                       folder + "/h") as server:
                sock, stream = upgraded(server.port)
                about = pathlib.Path("/proc/%d/fdinfo" % server.child.pid)
                flags = {int(one.name): int(line.split()[1], 8) for one in about.iterdir()
                         for line in one.read_text().splitlines() if line.startswith("flags:")}
                self.assertGreater(len(flags), 8)
                self.assertEqual([fd for fd in flags if fd > 2 and not flags[fd] & os.O_CLOEXEC], [])
                stream.close()
                sock.close()

    def test_a_mode_that_is_none(self):
        self.assert_status(run("serve", "--unix-mode", "9"), USAGE)


class Leaving(Contract):
    def test_drains_at_sigterm(self):
        with tempfile.TemporaryFile() as log:
            server = Serve("--drain-rate", "1", "--retry-after", "1500ms", stderr=log)
            peers = [upgraded(server.port) for _ in range(2)]
            server.child.send_signal(signal.SIGTERM)
            self.assertEqual(closed_with(peers[0][1]), (1012, "retry-after=1.5"))
            # The other's turn is a second later: meanwhile pages are answered, upgrades are not.
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as page:
                page.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = head(page.makefile("rb"))[0]
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as late:
                late.sendall(UPGRADE)
                refusal = head(late.makefile("rb"))
            self.assertIn(b" 200 ", answer)
            self.assertIn(b" 503 ", refusal[0])
            self.assertIn(b"Retry-After: 2\r\n", refusal)
            peers[0][0].sendall(b"\x88\x82\0\0\0\0" + struct.pack("!H", 1012))
            self.assertEqual(closed_with(peers[1][1]), (1012, "retry-after=1.5"))
            peers[1][0].sendall(b"\x88\x82\0\0\0\0" + struct.pack("!H", 1012))
            self.assertEqual(server.stop(signal.SIGCONT), OK)
            log.seek(0)
            self.assertIn(b"drained: 2 session(s), 2 closed, 0 left, 0 aborted; 1 upgrade(s) refused",
                          log.read())
            for sock, stream in peers:
                stream.close()
                sock.close()

    def test_a_second_sigterm_stops_at_once(self):
        server = Serve("--drain-window", "1h")
        peers = [upgraded(server.port) for _ in range(3)]
        server.child.send_signal(signal.SIGTERM)
        self.assertEqual(closed_with(peers[0][1])[0], 1012)
        self.assertEqual(server.stop(), OK)
        self.assertEqual(closed_with(peers[1][1])[0], 1001)
        for sock, stream in peers:
            stream.close()
            sock.close()

    def test_sigint_does_not_drain(self):
        server = Serve("--drain-window", "1h")
        sock, stream = upgraded(server.port)
        server.child.send_signal(signal.SIGINT)
        self.assertEqual(closed_with(stream), (1001, ""))
        sock.sendall(b"\x88\x82\0\0\0\0" + struct.pack("!H", 1001))
        self.assertEqual(server.stop(signal.SIGCONT), OK)
        stream.close()
        sock.close()


class Certificates(Contract):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        subprocess.run(["sh", settings.certificates, cls.folder.name], check=True, timeout=PATIENCE)
        cls.pem = lambda _, name: str(pathlib.Path(cls.folder.name) / name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def serve(self, *more):
        for kind in ("pem", "key"):
            shutil.copy(self.pem("server." + kind), self.pem("live." + kind))
        return Serve("--tls-cert", self.pem("live.pem"), "--tls-key", self.pem("live.key"), *more,
                     stderr=subprocess.DEVNULL)

    def dial(self, server, protocols=(), session=None, context=None):
        if context is None:
            context = ssl.create_default_context(cafile=self.pem("ca.pem"))
            context.load_verify_locations(self.pem("stranger_ca.pem"))
            if protocols:
                context.set_alpn_protocols(protocols)
        raw = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        try:
            return context.wrap_socket(raw, server_hostname="localhost", session=session)
        except ssl.SSLError:
            raw.close()
            raise

    def common_name(self, server):
        with self.dial(server) as sock:
            return dict(pair[0] for pair in sock.getpeercert()["subject"])["commonName"]

    def test_sighup_reloads(self):
        with self.serve("--threads", "2") as server:
            with self.dial(server) as before:
                self.assertEqual(self.common_name(server), "server")
                before.sendall(UPGRADE)
                stream = before.makefile("rb")
                self.assertIn(b" 101 ", head(stream)[0])
                for kind in ("pem", "key"):
                    shutil.copy(self.pem("stranger." + kind), self.pem("live." + kind))
                server.child.send_signal(signal.SIGHUP)
                self.assertTrue(comes_true(lambda: self.common_name(server) == "stranger"))
                before.sendall(b"\x81\x82\0\0\0\0hi")
                self.assertEqual(stream.read(4), b"\x81\x02hi")
                stream.close()
            pathlib.Path(self.pem("live.pem")).write_text("nonsense")
            server.child.send_signal(signal.SIGHUP)
            for _ in range(4):
                self.assertEqual(self.common_name(server), "stranger")

    def test_application_protocols(self):
        with self.serve() as server:
            with self.dial(server, ["h2", "http/1.1"]) as sock:
                self.assertEqual(sock.selected_alpn_protocol(), "http/1.1")
            with self.dial(server) as sock:
                self.assertIsNone(sock.selected_alpn_protocol())
            with self.assertRaisesRegex(ssl.SSLError, "(?i)no.application.protocol"):
                self.dial(server, ["h2"]).close()
            shown = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-alpn", "h2"],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
            self.assertIn(b"no application protocol", shown.stderr)

    def test_sessions_are_resumed(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version), self.serve("--threads", "2") as server:
                context = ssl.create_default_context(cafile=self.pem("ca.pem"))
                context.minimum_version = context.maximum_version = version
                session = None
                for reused in (False, True, True):
                    with self.dial(server, session=session, context=context) as sock:
                        self.assertEqual(sock.session_reused, reused)
                        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                        sock.recv(4096)  # and the ticket before it
                        session = sock.session
                    server.child.send_signal(signal.SIGHUP)
