"""The way of `chorus connect` to its server: what each failure says, proxies, redirects, protocols, keys."""
import base64
import os
import re
import socket
import subprocess
import tempfile
import threading
from unittest import mock

from contract import (FAILED, OK, PATIENCE, PROTOCOL, REFUSED, TIMEOUT, TLS, Contract, Peer, Serve,
                      close_frame, drain, run, settings)


class Listener:
    """Hands every connection to `script`, one after the other, until the test ends."""

    def __init__(self, script):
        self.script = script
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            with sock:
                try:
                    self.script(sock)
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(PATIENCE)


def head_of(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(4096)
        if not more:
            break
        data += more
    return data


def answering(status, extra=b"", body=b"", heads=None):
    """A server that gives the same answer to every request."""
    def script(sock):
        head = head_of(sock)
        if heads is not None:
            heads.append(head.decode())
        sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body))
        drain(sock)

    return Listener(script)


class Proxy(Listener):
    """Takes CONNECT to whatever name and leads to 127.0.0.1; `asked` has the requests."""

    def __init__(self):
        self.asked = []
        super().__init__(self.relay)

    def relay(self, sock):
        head = head_of(sock).decode()
        self.asked.append(head)
        port = int(re.match(r"CONNECT [^ ]*:(\d+) HTTP", head).group(1))
        with socket.create_connection(("127.0.0.1", port)) as far:
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=self.pump, args=(far, sock), daemon=True)
            back.start()
            self.pump(sock, far)
            back.join(PATIENCE)

    @staticmethod
    def pump(source, to):
        try:
            while data := source.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def environment(**variables):
    """No proxies but these."""
    names = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]
    clean = {name: value for name, value in os.environ.items() if name.lower() not in names}
    return mock.patch.dict(os.environ, {**clean, **variables}, clear=True)


class Reaching(Contract):
    def setUp(self):
        self.patch = environment()
        self.patch.start()
        self.addCleanup(self.patch.stop)

    def connect(self, url, *arguments, status=OK, parts=(), stdin=b""):
        ended = run("connect", url, *arguments, stdin=stdin)
        self.assert_status(ended, status)
        if status != OK:
            self.assert_sentence(ended, *parts)
        return ended

    def test_each_refusal_says_what_to_do(self):
        for answer, part in ((b"401 Unauthorized", "--header 'Authorization: Bearer ...'"),
                             (b"403 Forbidden", "check the credentials"),
                             (b"404 Not Found", "check the path"),
                             (b"426 Upgrade Required", "WebSocket version"),
                             (b"429 Too Many Requests", "wait before the next"),
                             (b"500 Broken", "try again later"), (b"503 Busy", "try again later")):
            with self.subTest(answer), answering(answer, body=b"in its own words") as server:
                self.connect(f"ws://127.0.0.1:{server.port}/", status=REFUSED,
                             parts=(answer.decode(), part, f"[upgrade 127.0.0.1:{server.port}]",
                                    "the server says: in its own words"))

    def test_each_stage_says_what_to_do(self):
        def speak_http(sock):
            sock.recv(1)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            drain(sock)

        with socket.socket() as closed, Listener(speak_http) as plain, \
                Listener(lambda sock: sock.recv(1)) as hasty:
            closed.bind(("127.0.0.1", 0))
            nobody = f"127.0.0.1:{closed.getsockname()[1]}"
            for url, status, parts in (
                    ("ws://no-such-host.invalid/", FAILED,
                     ("no-such-host.invalid", "check its spelling and the DNS", "[resolve]")),
                    (f"ws://{nobody}/", REFUSED, (nobody, "is the port right?", "[connect]")),
                    (f"wss://127.0.0.1:{plain.port}/", TLS, ("use ws:// or tcp://", "[tls]")),
                    (f"wss://127.0.0.1:{hasty.port}/", TLS, ("does it speak TLS", "[tls]")),
                    (f"ws://127.0.0.1:{hasty.port}/", FAILED, ("wss://", "[upgrade"))):
                with self.subTest(url):
                    self.connect(url, status=status, parts=parts)

    def test_secrets_of_the_url_stay_out_of_sentences(self):
        heads = []

        def silent(sock):
            heads.append(head_of(sock).decode())
            drain(sock)

        with Listener(silent) as server:
            address = f"me:secret@127.0.0.1:{server.port}/?token=hidden"
            for arguments in (["ws://" + address], [address, "--protocol", "ws"]):
                with self.subTest(arguments):
                    ended = self.connect(*arguments, "--timeout", "300ms", status=TIMEOUT,
                                         parts=(str(server.port),))
                    self.assertNotIn("secret", ended.err)
                    self.assertNotIn("hidden", ended.err)
        for head in heads:
            self.assertIn("Authorization: Basic " + base64.b64encode(b"me:secret").decode(), head)

    def test_what_the_request_says_of_its_sender(self):
        with Peer(lambda sock: (sock.sendall(close_frame(1000)), drain(sock))) as peer:
            self.connect(peer.url, "--user-agent", "tester/1", "--cookie", "a=1", "--cookie", "b=2")
            request = peer.request.decode()
        self.assertIn("\r\nUser-Agent: tester/1\r\n", request)
        self.assertIn("\r\nCookie: a=1; b=2\r\n", request)

    def test_redirects(self):
        with Serve() as server:
            target = b"Location: %s/echo\r\n" % server.url.encode()
            with answering(b"307 Elsewhere", target) as first:
                url = f"ws://127.0.0.1:{first.port}/"
                ended = self.connect(url, "--count", "1", stdin=b"there\n")
                self.assertEqual(ended.out, b"there\n")
                ended = self.connect(url, "--redirects", "0", status=REFUSED, parts=("307", "not followed"))
        heads = []
        with answering(b"307 Round", b"Location: /\r\n", heads=heads) as circle:
            self.connect(f"ws://127.0.0.1:{circle.port}/", "--redirects", "2", status=REFUSED,
                         parts=("more than 2 times", "--redirects"))
        self.assertEqual(len(heads), 3)


class Proxies(Contract):
    """The server is known to the proxy by a name that nobody else knows."""

    def setUp(self):
        self.server = Serve()
        self.proxy = Proxy()
        self.by = f"http://127.0.0.1:{self.proxy.port}"
        self.url = f"ws://server.invalid:{self.server.port}/echo"

    def tearDown(self):
        self.proxy.__exit__()
        self.server.stop()

    def talk(self, *arguments, status=OK, url=None, **variables):
        with environment(**variables):
            ended = run("connect", url or self.url, "--count", "1", *arguments, stdin=b"far\n")
        self.assert_status(ended, status)
        if status == OK:
            self.assertEqual(ended.out, b"far\n")
        return ended

    def test_option(self):
        for extra in ([], ["--reconnect"]):
            self.talk("--proxy", self.by.replace("//", "//me:secret@"), *extra)
        self.assertEqual(len(self.proxy.asked), 2)
        for head in self.proxy.asked:
            self.assertIn(f"CONNECT server.invalid:{self.server.port} ", head)
            self.assertIn("Proxy-Authorization: Basic " + base64.b64encode(b"me:secret").decode(), head)

    def test_environment(self):
        self.talk(http_proxy=self.by)
        self.talk(all_proxy=self.by)
        self.talk(http_proxy=self.by, no_proxy="example.org")
        self.assertEqual(len(self.proxy.asked), 3)
        for ways in ({"https_proxy": self.by}, {"http_proxy": self.by, "no_proxy": ".invalid"},
                     {"all_proxy": self.by, "no_proxy": "*"}):
            with self.subTest(ways):
                ended = self.talk(status=FAILED, **ways)
                self.assert_sentence(ended, "server.invalid", "[resolve]")
        ended = self.talk("--proxy", "none", status=FAILED, http_proxy=self.by)
        self.assert_sentence(ended, "[resolve]")
        self.talk("--proxy", self.by, no_proxy="*")  # the option has the last word
        self.assertEqual(len(self.proxy.asked), 4)

    def test_loopback_needs_none(self):
        self.talk(url=self.server.url + "/echo", all_proxy="http://127.0.0.1:1")

    def test_bench_uses_it(self):
        with environment(http_proxy=self.by):
            ended = run("bench", "idle", "--url", self.url.replace("//", "//me:secret@"), "--connections", "1",
                        "--duration", "50ms", "--warmup", "0")
        self.assert_status(ended, OK)
        self.assertEqual(len(self.proxy.asked), 1)
        self.assertNotIn(b"secret", ended.out)

    def test_refusals(self):
        with answering(b"407 Who are you") as proxy:
            ended = self.talk("--proxy", f"http://127.0.0.1:{proxy.port}", status=REFUSED)
            self.assert_sentence(ended, "407", "[proxy", "--proxy URL")
        with Listener(lambda sock: sock.sendall(b"220 mail ready\r\n\r\n")) as other:
            ended = self.talk("--proxy", f"http://127.0.0.1:{other.port}", status=PROTOCOL)
            self.assert_sentence(ended, "[proxy", "--proxy URL, or none")


class Protocols(Contract):
    def echo_bytes(self):
        def script(sock):
            while data := sock.recv(4096):
                sock.sendall(data)

        return Listener(script)

    def test_host_and_port_alone_are_framed_tcp(self):
        with self.echo_bytes() as server:
            for extra in ([], ["--reconnect"]):
                ended = run("connect", f"127.0.0.1:{server.port}", "--binary", "--count", "1", *extra,
                            stdin=b"framed\n")
                self.assert_status(ended, OK)
                self.assertEqual(ended.out, b"framed\n")

    def test_what_works_is_taken(self):
        with Serve() as server:
            for extra in ([], ["--race"], ["--reconnect"]):
                ended = run("connect", f"127.0.0.1:{server.port}/echo", "--protocol", "wss,ws", "--protocol", "tcp",
                            "--count", "1", *extra, stdin=b"x\n")
                self.assert_status(ended, OK)
                self.assertEqual(ended.out, b"x\n")

    def test_none_works(self):
        with Listener(lambda sock: (sock.recv(1), sock.sendall(b"220 mail ready\r\n\r\n"))) as server:
            for extra in ([], ["--race"]):
                ended = run("connect", f"127.0.0.1:{server.port}", "--protocol", "wss,ws", *extra)
                self.assert_status(ended, PROTOCOL)
                self.assert_sentence(ended, "none of the protocols", "wss: ", "; ws: ", "which protocol")

    def test_a_refusal_ends_the_search(self):
        with answering(b"404 Not Found") as server:
            ended = run("connect", f"127.0.0.1:{server.port}/nowhere", "--protocol", "ws,tcp")
            self.assert_status(ended, REFUSED)
            self.assert_sentence(ended, "404", "check the path")


class Trust(Contract):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        subprocess.run(["sh", settings.certificates, cls.folder.name], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def serve(self, name, *arguments):
        return Serve("--tls-cert", self.path(name + ".pem"), "--tls-key", self.path(name + ".key"), *arguments)

    def pin(self, name):
        key = subprocess.run(["openssl", "x509", "-in", self.path(name + ".pem"), "-pubkey", "-noout"],
                             check=True, capture_output=True).stdout
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=key, check=True,
                             capture_output=True).stdout
        digest = subprocess.run(["openssl", "dgst", "-sha256", "-binary"], input=der, check=True,
                                capture_output=True).stdout
        return "sha256//" + base64.b64encode(digest).decode()

    def test_each_certificate_says_what_to_do(self):
        for name, parts in (("expired", ("has expired", "renew it")),
                            ("other", ("is not for 127.0.0.1", "--server-name", "--insecure")),
                            ("stranger", ("an authority that is not known", "--ca FILE", "--insecure")),
                            ("stranger_ca", ("signed by itself", "--ca FILE", "--insecure"))):
            with self.subTest(name), self.serve(name) as server:
                ended = run("connect", server.url + "/echo", "--ca", self.path("ca.pem"))
                self.assert_status(ended, TLS)
                self.assert_sentence(ended, f"127.0.0.1:{server.port}", "[tls", *parts)

    def test_another_name(self):
        with self.serve("other") as server:
            ended = run("connect", server.url + "/echo", "--ca", self.path("ca.pem"), "--server-name",
                        "other.example", "--count", "1", stdin=b"x\n")
            self.assert_status(ended, OK)

    def test_pinned_keys(self):
        with self.serve("server") as server:
            url = server.url + "/echo"
            right, wrong = self.pin("server"), self.pin("other")
            trust = ["--ca", self.path("ca.pem")]
            for extra in ([*trust, "--pin", right], [*trust, "--pin", wrong, "--pin", right],
                          ["--insecure", "--pin", right], [*trust, "--reconnect", "--pin", right]):
                with self.subTest(extra):
                    ended = run("connect", url, *extra, "--count", "1", stdin=b"x\n")
                    self.assert_status(ended, OK)
            for extra in (trust, ["--insecure"], [*trust, "--reconnect"]):
                with self.subTest(extra):
                    ended = run("connect", url, *extra, "--pin", wrong)
                    self.assert_status(ended, TLS)
                    self.assert_sentence(ended, right, "--pin that one if", "[tls")
            ended = run("connect", url, "--pin", "sha256//short")
            self.assert_status(ended, TLS)
            self.assert_sentence(ended, "sha256//")

    def test_client_certificate(self):
        with self.serve("server", "--tls-client-ca", self.path("ca.pem"), "--tls-client-cert",
                        "require") as server:
            ended = run("connect", server.url + "/echo", "--ca", self.path("ca.pem"), "--tls-cert",
                        self.path("client.pem"), "--tls-key", self.path("client.key"), "--count", "1", stdin=b"x\n")
            self.assert_status(ended, OK)
