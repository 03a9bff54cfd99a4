"""`chorus bench`."""
import json
import os
import pty
import signal
import socket
import subprocess

from contract import (FAILED, OK, PATIENCE, REFUSED, USAGE, Contract, Peer, Serve, drain, frame,
                      program, run)


class Bench(Contract):
    FIELDS = {"mode", "url", "own_server", "connections", "size", "in_flight", "threads", "compression",
              "seconds", "messages", "rate", "mb_per_s", "latency_us", "server",
              "client_cpu_us_per_message", "client_memory_per_connection", "unanswered", "errors"}

    def bench(self, *arguments):
        ended = run("bench", *arguments, "--json", "--warmup", "100ms", "--duration", "2s")
        self.assert_status(ended, OK)
        self.assertEqual(ended.out.count(b"\n"), 1)
        result = json.loads(ended.out)
        self.assertEqual(set(result), self.FIELDS)
        self.assertEqual(result["mode"], arguments[0])
        self.assertEqual(result["errors"], 0)
        self.assertEqual(result["unanswered"], 0)
        return result

    def check_load(self, result):
        self.assertGreater(result["messages"], 0)
        self.assertGreater(result["rate"], 0)
        latency = result["latency_us"]
        self.assertEqual(set(latency), {"p50", "p99", "p99_9", "max"})
        self.assertLessEqual(latency["p50"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["p99_9"])
        self.assertLessEqual(latency["p99_9"], latency["max"])

    def test_echo(self):
        result = self.bench("echo", "--connections", "10", "--in-flight", "4", "--size", "64")
        self.check_load(result)
        self.assertTrue(result["own_server"])
        self.assertGreater(result["server"]["cpu_us_per_message"], 0)
        self.assertIsNotNone(result["server"]["memory_per_connection"])

    def test_broadcast(self):
        result = self.bench("broadcast", "--connections", "20", "--in-flight", "4", "--threads", "2",
                            "--server-threads", "2")
        self.check_load(result)

    def test_idle(self):
        result = self.bench("idle", "--connections", "50")
        self.assertEqual(result["messages"], 0)
        self.assertIsNone(result["latency_us"])
        self.assertIsNone(result["server"]["cpu_us_per_message"])

    def test_small_messages_have_no_latency(self):
        for load in ("echo", "broadcast"):
            result = self.bench(load, "--connections", "2", "--size", "0")
            self.assertGreater(result["messages"], 0)
            self.assertIsNone(result["latency_us"])

    def test_compression_and_large_messages(self):
        self.check_load(self.bench("echo", "--connections", "2", "--compression", "on"))
        self.check_load(self.bench("echo", "--connections", "2", "--in-flight", "2", "--size", "2M"))

    def test_other_server(self):
        with Serve() as server:
            result = self.bench("echo", "--url", server.url, "--connections", "2")
            self.assertFalse(result["own_server"])
            self.assertIsNone(result["server"])
            result = self.bench("broadcast", "--url", server.url + "/broadcast", "--connections", "2",
                                "--server-pid", str(server.child.pid))
            self.assertGreater(result["server"]["cpu_us_per_message"], 0)

    def test_process_that_is_not_there(self):
        with Serve() as server:
            own = run("bench", "echo", "--server-pid", str(server.child.pid))
            self.assert_status(own, USAGE)
            self.assert_sentence(own, "bench", "--server-pid", "--url")
            url = server.url
            pid = str(server.child.pid)
        ended = run("bench", "echo", "--url", url, "--server-pid", pid)
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "bench", "--server-pid", pid)

    def test_nothing_to_measure(self):
        ended = run("bench", "echo", "--duration", "0")
        self.assert_status(ended, USAGE)
        self.assert_sentence(ended, "--duration")

    def test_server_that_stops_answering(self):
        """In mid-run, as a process does that was stopped; its sockets stay open."""
        in_flight, answered, size = 4, 6, 16

        def script(sock):
            data = b""
            for _ in range(answered):
                while len(data) < 6 + size:
                    data += sock.recv(65536)
                mask, payload, data = data[2:6], data[6:6 + size], data[6 + size:]
                sock.sendall(frame(2, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))))
            drain(sock)

        with Peer(script) as peer:
            ended = run("bench", "echo", "--url", peer.url, "--connections", "1", "--in-flight",
                        str(in_flight), "--size", str(size), "--warmup", "0", "--duration", "5s", "--json")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "bench", f"{in_flight} message(s) did not come back")
        self.assertEqual(json.loads(ended.out)["unanswered"], in_flight)

    def test_interrupted(self):
        """As by Ctrl-C, which signals the whole process group: what was measured is printed."""
        for load in ("echo", "broadcast"):
            master, slave = pty.openpty()
            child = subprocess.Popen([program(), "bench", load, "--connections", "2", "--warmup", "0", "--duration",
                                      "1h", "--json"], stdout=subprocess.PIPE, stderr=slave,
                                     start_new_session=True)
            os.close(slave)
            try:
                shown = b""
                while load.encode() + b": " not in shown:  # the live line of the measuring
                    shown += os.read(master, 4096)
                os.killpg(child.pid, signal.SIGINT)
                out, _ = child.communicate(timeout=PATIENCE)
            finally:
                child.kill()
                child.wait()
                child.stdout.close()
                os.close(master)
            self.assertEqual(child.returncode, OK, out)
            result = json.loads(out)
            self.assertGreater(result["messages"], 0)
            self.assertGreater(result["seconds"], 0)
            self.assertEqual((result["errors"], result["unanswered"]), (0, 0))

    def test_server_that_goes_away(self):
        with Peer(lambda sock: sock.recv(4096)) as peer:
            ended = run("bench", "echo", "--url", peer.url, "--connections", "1", "--duration", "1h")
        self.assert_status(ended, FAILED)
        self.assert_sentence(ended, "bench", "1 connection(s) failed", "log may say why")

    def test_table(self):
        ended = run("bench", "echo", "--connections", "2", "--warmup", "50ms", "--duration", "100ms")
        self.assert_status(ended, OK)
        for word in (b"rate", b"latency", b"p99.9", b"server CPU", b"server memory"):
            self.assertIn(word, ended.out)
        self.assertEqual(ended.err, "")

    def test_nobody_listens(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            ended = run("bench", "echo", "--url", "ws://127.0.0.1:%d" % closed.getsockname()[1])
        self.assert_status(ended, REFUSED)
        self.assert_sentence(ended, "bench", "0 of 100")
