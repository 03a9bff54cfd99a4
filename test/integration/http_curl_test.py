"""Plain HTTP as curl and Python's http.client speak it: files, ranges, conditions, bodies, the admin mount.

    http_curl_test.py --program PATH [unittest arguments]
"""
import argparse
import email.utils
import hashlib
import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

PATIENCE = 60  # seconds; only what hangs meets it
TOKEN = "a-token-of-the-test"
settings = argparse.Namespace()


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.top = pathlib.Path(cls.scratch.name)
        root = cls.top / "root"
        (root / "sub").mkdir(parents=True)
        cls.large = random.Random(7).randbytes(3_000_000)
        (root / "large.bin").write_bytes(cls.large)
        (root / "page.html").write_text("<p>page")
        (root / "sub" / "index.html").write_text("<p>sub")
        (cls.top / "secret").write_text("secret")
        (root / "out").symlink_to(cls.top / "secret")
        cls.program = subprocess.Popen([settings.program, root, TOKEN], stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.end)
        cls.port = int(cls.program.stdout.readline())
        cls.base = f"http://127.0.0.1:{cls.port}"

    @classmethod
    def end(cls):
        cls.program.terminate()
        status = cls.program.wait(PATIENCE)
        cls.program.stdout.close()
        if status != 0:
            raise AssertionError(f"the program ended with {status}")

    def curl(self, *arguments, write="%{http_code}"):
        """The body, and what --write-out says."""
        with tempfile.NamedTemporaryFile() as body:
            done = subprocess.run(
                ["curl", "-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE),
                 "--output", body.name, "--write-out", write, *arguments],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            return pathlib.Path(body.name).read_bytes(), done.stdout

    def headers(self, *arguments):
        text, _ = self.curl("--head", *arguments)
        fields = text.decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (f.partition(": ") for f in fields) if name}

    def test_whole(self):
        body, status = self.curl(f"{self.base}/files/large.bin")
        self.assertEqual((status, hashlib.sha256(body).digest()),
                         ("200", hashlib.sha256(self.large).digest()))

    def test_head(self):
        fields = self.headers(f"{self.base}/files/large.bin")
        self.assertEqual(fields["content-length"], str(len(self.large)))
        self.assertEqual(fields["content-type"], "application/octet-stream")
        self.assertIsNotNone(email.utils.parsedate_to_datetime(fields["last-modified"]))
        self.assertIsNotNone(email.utils.parsedate_to_datetime(fields["date"]))

    def test_ranges(self):
        for asked, expected in (("0-0", self.large[:1]), ("1000-99999", self.large[1000:100_000]),
                                ("2999990-", self.large[2999990:]), ("-5", self.large[-5:])):
            body, status = self.curl("--range", asked, f"{self.base}/files/large.bin")
            self.assertEqual((status, body), ("206", expected), asked)
        _, status = self.curl("--range", "3000000-", f"{self.base}/files/large.bin")
        self.assertEqual(status, "416")
        body, status = self.curl("--range", "0-1,5-6", f"{self.base}/files/large.bin")
        self.assertEqual((status, len(body)), ("200", len(self.large)))

    def test_a_download_goes_on(self):
        half = self.top / "half.bin"
        half.write_bytes(self.large[:1_234_567])
        done = subprocess.run(["curl", "-q", "--silent", "--noproxy", "*", "--max-time", str(PATIENCE),
                               "--continue-at", "-", "--output", half, f"{self.base}/files/large.bin"],
                              check=False)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(half.read_bytes() == self.large)

    def test_conditions(self):
        etag = self.top / "etag"
        url = f"{self.base}/files/page.html"
        _, status = self.curl("--etag-save", etag, url)
        self.assertEqual(status, "200")
        body, status = self.curl("--etag-compare", etag, url)
        self.assertEqual((status, body), ("304", b""))
        copy = self.top / "copy.html"
        copy.write_text("x")
        modified = (self.top / "root" / "page.html").stat().st_mtime
        os.utime(copy, (modified, modified))
        _, status = self.curl("--time-cond", str(copy), url)
        self.assertEqual(status, "304")
        os.utime(copy, (modified - 10, modified - 10))
        _, status = self.curl("--time-cond", str(copy), url)
        self.assertEqual(status, "200")

    def test_nothing_outside(self):
        for path in ("/files/../secret", "/files/%2e%2e/secret", "/files/..%2fsecret", "/files/out",
                     "/files/sub/../../secret", "/files//etc/passwd"):
            body, status = self.curl("--path-as-is", self.base + path)
            self.assertEqual(status, "404", path)
            self.assertNotIn(b"secret\n", body)

    def test_directories(self):
        body, status = self.curl("--location", f"{self.base}/files/sub", write="%{http_code} %{num_redirects}")
        self.assertEqual((status, body), ("200 1", b"<p>sub"))
        body, status = self.curl(self.base, write="%{http_code} %{content_type}")
        self.assertEqual(status, "200 text/html; charset=utf-8")

    def test_one_connection(self):
        config = "".join(f'url = "{self.base}/files/page.html"\noutput = "/dev/null"\n' for _ in range(20))
        done = subprocess.run(["curl", "-q", "--silent", "--noproxy", "*", "--max-time", str(PATIENCE),
                               "--write-out", "%{num_connects} %{http_code}\n", "--config", "-"],
                              input=config, stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.stdout.splitlines(), ["1 200"] + ["0 200"] * 19)

    def test_bodies(self):
        upload = self.top / "upload.bin"
        upload.write_bytes(self.large)
        for arguments in (["--data-binary", f"@{upload}"],  # curl expects 100 Continue for these
                          ["--data-binary", f"@{upload}", "--header", "Transfer-Encoding: chunked"],
                          ["--upload-file", str(upload), "--header", "Expect: 100-continue"]):
            body, status = self.curl(*arguments, f"{self.base}/repeat")
            self.assertEqual(status, "200", arguments)
            self.assertTrue(body == self.large, arguments)
        upload.write_bytes(self.large + self.large)
        _, status = self.curl("--data-binary", f"@{upload}", "--header", "Expect: 100-continue",
                              f"{self.base}/repeat")
        self.assertEqual(status, "413")

    def test_old_http(self):
        body, status = self.curl("--http1.0", f"{self.base}/files/page.html", write="%{http_code}")
        self.assertEqual((status, body), ("200", b"<p>page"))

    def test_methods(self):
        fields = self.headers("--request", "OPTIONS", f"{self.base}/repeat")
        self.assertEqual(fields["allow"], "POST, PUT, OPTIONS")
        _, status = self.curl("--request", "DELETE", f"{self.base}/repeat")
        self.assertEqual(status, "405")
        _, status = self.curl(f"{self.base}/echo")
        self.assertEqual(status, "426")
        _, status = self.curl(f"{self.base}/nowhere")
        self.assertEqual(status, "404")

    def test_http_client(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        for body in (b"", b"x", b"y" * 100_000, iter([b"in ", b"chunks"])):
            expected = b"in chunks" if not isinstance(body, bytes) else body
            connection.request("POST", "/repeat", body)
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.read()), (200, expected))
        first = connection.sock
        connection.request("HEAD", "/files/large.bin")
        self.assertEqual(connection.getresponse().read(), b"")
        connection.request("GET", "/files/page.html")
        self.assertEqual(connection.getresponse().read(), b"<p>page")
        self.assertIs(connection.sock, first)
        connection.close()

    def test_admin(self):
        bearer = ["--header", f"Authorization: Bearer {TOKEN}"]
        _, status = self.curl(f"{self.base}/admin/rooms")
        self.assertEqual(status, "401")
        body, status = self.curl(*bearer, f"{self.base}/admin/rooms")
        self.assertEqual((status, json.loads(body)), ("200", {"total": 0, "rooms": []}))
        body, status = self.curl(*bearer, f"{self.base}/admin/connections", write="%{http_code} %{content_type}")
        self.assertEqual(status, "200 application/json")
        self.assertEqual(json.loads(body), {"total": 0, "connections": []})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--program", required=True)
    _, rest = parser.parse_known_args(namespace=settings)
    unittest.main(argv=[sys.argv[0], *rest])
