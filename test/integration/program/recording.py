"""`chorus connect --record` and `--replay`."""
import base64
import json
import os
import tempfile
import time

from contract import FAILED, OK, USAGE, Contract, Peer, Serve, finish, frame, run


def hear(sock, count):
    """So many bytes and no more, so that `finish` finds the close frame."""
    while count:
        data = sock.recv(count)
        if not data:
            return
        count -= len(data)


class Recording(Contract):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.file = os.path.join(self.folder.name, "talk.jsonl")

    def tearDown(self):
        self.folder.cleanup()

    def write(self, *lines):
        with open(self.file, "w") as file:
            file.write("\n".join(lines))

    def read(self):
        with open(self.file) as file:
            return [json.loads(line) for line in file]

    def test_there_and_back(self):
        with Serve() as server:
            ended = run("connect", server.url + "/echo", "--record", self.file, "--count", "2",
                        stdin="one\ntw\u00f6 \"2\"\n".encode())
            self.assert_status(ended, OK)
            talk = self.read()
            for way in ("out", "in"):
                self.assertEqual([line["text"] for line in talk if line["dir"] == way],
                                 ["one", "tw\u00f6 \"2\""])
            self.assertEqual([line["ms"] for line in talk], sorted(line["ms"] for line in talk))
            self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)

            again = run("connect", server.url + "/echo", "--replay", self.file, "--replay-speed", "1000",
                        "--count", "2", stdin=b"not read\n")
            self.assert_status(again, OK)
            self.assertEqual(again.out, ended.out)

    def test_a_file_that_was_there_becomes_its_owners(self):
        self.write("old")
        os.chmod(self.file, 0o644)
        with Serve() as server:
            self.assert_status(run("connect", server.url + "/echo", "--record", self.file, "--count", "1",
                                   stdin=b"new\n"), OK)
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        self.assertEqual([line["text"] for line in self.read()], ["new", "new"])
        # What is no file keeps its mode.
        pipe = self.file + ".pipe"
        os.mkfifo(pipe)
        os.chmod(pipe, 0o644)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with Serve() as server:
                self.assert_status(run("connect", server.url + "/echo", "--record", pipe, "--count", "1",
                                       stdin=b"new\n"), OK)
        finally:
            os.close(reader)
        self.assertEqual(os.stat(pipe).st_mode & 0o777, 0o644)

    def test_binary(self):
        bytes_ = bytes(range(256))
        for size in (0, 1, 2, 3, 254, 255, 256):
            with Serve() as server:
                self.write('{"dir":"out","ms":0,"base64":"%s"}' % base64.b64encode(
                    bytes_[:size]).decode())
                other = self.file + ".2"
                ended = run("connect", server.url + "/echo", "--replay", self.file, "--count", "1",
                            "--record", other)
                self.assert_status(ended, OK)
                self.assertEqual(ended.out, bytes_[:size].hex().encode() + b"\n")
                with open(other) as file:
                    lines = [json.loads(line) for line in file]
                self.assertEqual({line["dir"] for line in lines}, {"in", "out"})
                for line in lines:
                    self.assertEqual(base64.b64decode(line["base64"]), bytes_[:size])

    def test_times_are_kept(self):
        """At the earliest; how late, the machine's load decides."""
        arrived = []

        def script(sock):
            hear(sock, 2 * (6 + 1))
            arrived.append(time.monotonic())
            finish(sock)

        self.write('{"dir":"out","ms":0,"text":"a"}', '{"dir":"in","ms":100,"text":"reply"}',
                   '{"dir":"out","ms":800,"text":"b"}', '{"dir":"in","ms":1000,"text":"reply"}', "")
        begin = time.monotonic()
        with Peer(script) as peer:
            ended = run("connect", peer.url, "--replay", self.file, "--replay-speed", "2")
        self.assert_status(ended, OK)
        self.assertGreaterEqual(arrived[0] - begin, 0.4)
        self.assertGreaterEqual(time.monotonic() - begin, 0.5)

    def test_ends_like_input(self):
        def script(sock):
            hear(sock, 6 + 1)
            sock.sendall(frame(1, b"seen"))
            finish(sock)

        with Peer(script) as peer:
            self.write('{"dir":"out","ms":0,"text":"a"}')
            ended = run("connect", peer.url, "--replay", self.file, "--replay-speed", "0")
        self.assert_status(ended, OK)
        self.assertEqual(ended.out, b"seen\n")

    def test_what_is_wrong_is_named_with_its_line(self):
        good = '{"dir":"out","ms":5,"text":"a"}'
        for line, part in (("{", "no JSON"), ("[1]", "no object"),
                           ('{"dir":"up","ms":5,"text":"a"}', '"dir"'),
                           ('{"ms":5,"text":"a"}', '"dir"'),
                           ('{"dir":"out","text":"a"}', '"ms"'),
                           ('{"dir":"out","ms":-1,"text":"a"}', '"ms"'),
                           ('{"dir":"out","ms":1e99,"text":"a"}', '"ms"'),
                           ('{"dir":"out","ms":4,"text":"a"}', "goes back from 5 to 4"),
                           ('{"dir":"out","ms":5}', '"base64"'),
                           ('{"dir":"out","ms":5,"text":"a","base64":""}', '"base64"'),
                           ('{"dir":"out","ms":5,"text":1}', "a string"),
                           ('{"dir":"out","ms":5,"base64":"A"}', "in base64"),
                           ('{"dir":"out","ms":5,"base64":"AB=="}', "in base64"),
                           ('{"dir":"out","ms":5,"base64":"A=A="}', "in base64"),
                           ('{"dir":"out","ms":5,"tex":"a"}', "did you mean 'text'?")):
            with self.subTest(line=line):
                self.write(good, "", line, good)
                ended = run("connect", "ws://127.0.0.1:1/", "--replay", self.file)
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended, "--replay: ", self.file + ":3: ", part)

    def test_files_that_cannot_be_used(self):
        self.write("")
        for arguments, part in ((["--replay", self.file], "nothing to replay"),
                                (["--replay", self.folder.name], "no file"),
                                (["--replay", self.file + "x"], "No such file"),
                                (["--record", self.file + "/x"], "Not a directory"),
                                (["--replay", self.file, "--replay-speed", "0.0001"], "--replay-speed"),
                                (["--replay", self.file, "--replay-speed", "fast"], "--replay-speed"),
                                (["--replay-speed", "2"], "--replay"),
                                (["--replay", self.file, "--echo"], "--echo")):
            with self.subTest(arguments=arguments):
                ended = run("connect", "ws://127.0.0.1:1/", *arguments)
                self.assert_status(ended, USAGE)
                self.assert_sentence(ended, part)

    def test_too_large(self):
        with open(self.file, "w") as file:
            file.truncate((256 << 20) + 1)
        ended = run("connect", "ws://127.0.0.1:1/", "--replay", self.file)
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "larger than 256M")

    def test_limit_of_a_recording(self):
        with Serve() as server:
            ended = run("connect", server.url + "/echo", "--record", self.file, "--record-limit", "100",
                        "--count", "9", stdin=b"x" * 30 + b"\n" + b"y" * 30 + b"\n" + b"z" * 30 + b"\n")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "has reached 100", "--record-limit")
        self.assertEqual(len(self.read()), 1)
        self.assertLessEqual(os.stat(self.file).st_size, 100)
