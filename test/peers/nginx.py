#!/usr/bin/python3
"""Debian's nginx between a client of ours and servers: `chorus serve`, python3-websockets and npm's `ws`.

    nginx.py --program PATH/chorus --client PATH/peer_client --node NODE --node-modules PATH [--only NAME]
"""
import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile

from daemons import Daemon, PeerClient, Port, find, holds
from harness import HERE, LARGE, MIB, Failure, Setting, Tests, check, equal, make_certificates
from python_server import Peer

tests = Tests()  # not those of the files beside this one

CONFIGURATION = """
daemon off;
worker_processes 1;
worker_shutdown_timeout 100ms;
pid {folder}/nginx.pid;
error_log stderr;
{user}
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  proxy_http_version 1.1;
  proxy_set_header Host $host:$server_port;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  server {{ listen 127.0.0.1:{plain}; include {folder}/locations; }}
  server {{
    listen 127.0.0.1:{tls} ssl http2;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    include {folder}/locations;
    location = /to-plain {{ return 301 http://127.0.0.1:{plain}/echo; }}
  }}
}}
"""

LOCATIONS = """
location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
location = /page {{ default_type text/plain; return 200 "a page\\n"; }}
location = /forbidden {{ deny all; }}
location = /absent {{ return 404; }}
location = /guarded {{
  auth_basic "the guarded"; auth_basic_user_file {folder}/users;
  proxy_pass http://127.0.0.1:{upstream}/echo;
}}
location = /stripped {{
  proxy_set_header Upgrade ""; proxy_set_header Connection "";
  proxy_pass http://127.0.0.1:{upstream}/echo;
}}
location = /http10 {{ proxy_http_version 1.0; proxy_pass http://127.0.0.1:{upstream}/echo; }}
location = /impatient {{ proxy_read_timeout 5s; proxy_pass http://127.0.0.1:{upstream}/echo; }}
location = /dead {{ proxy_pass http://127.0.0.1:{dead}; }}
location = /mute {{ proxy_read_timeout 300ms; proxy_pass http://127.0.0.1:{mute}; }}
location = /elsewhere {{ return 302 /echo; }}
location = /to-tls {{ return 308 https://127.0.0.1:{tls}/echo; }}
location = /circle {{ return 307 /circle; }}
"""


class Nginx(Daemon):
    def __init__(self, setting, upstream):
        self.plain, self.tls, self.dead = Port(), Port(), Port()
        self.mute = Port()
        self.mute.socket.listen(16)  # and nobody ever takes a connection there
        self.folder = tempfile.TemporaryDirectory()
        folder = self.folder.name
        names = {"folder": folder, "upstream": upstream, "plain": self.plain, "tls": self.tls,
                 "dead": self.dead, "mute": self.mute,
                 # Workers that are somebody else could not enter the folder.
                 "user": "user root root;" if os.geteuid() == 0 else ""}
        for name, text in (("nginx.conf", CONFIGURATION), ("locations", LOCATIONS),
                           ("users", "me:{{PLAIN}}secret\n")):
            with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                file.write(text.format(**names))
        for name in ("server.pem", "server.key"):
            os.symlink(setting.pem(name), os.path.join(folder, name))
        super().__init__([find("nginx"), "-e", "stderr", "-p", folder, "-c",
                          os.path.join(folder, "nginx.conf")], [self.plain, self.tls])

    def url(self, path, scheme="ws", login=""):
        return f"{scheme}://{login}127.0.0.1:{self.tls if scheme == 'wss' else self.plain}{path}"


class Behind:
    """`chorus serve` with nginx before it, to be used as `async with`."""

    def __init__(self, setting, *arguments):
        self.port = Port()
        self.setting = setting
        self.arguments = ("--listen", f"127.0.0.1:{self.port}", *arguments)

    async def serve(self):
        self.server = await self.setting.serve(*self.arguments).__aenter__()
        await self.server.line()

    async def __aenter__(self):
        await self.serve()
        self.nginx = Nginx(self.setting, self.port)
        try:
            await self.nginx.start()
        except BaseException:
            await self.server.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        await self.nginx.__aexit__()
        await self.server.__aexit__()

    def url(self, *arguments):
        return self.nginx.url(*arguments)


def client(setting, how, url, *options):
    return PeerClient(setting.client, how, url, "ca", setting.pem("ca.pem"), "initial", 1, "cap", 50,
                      *options)


async def refused(setting, url, status, remedy, *parts, fatal=True):
    """The library names it, and the program says it in a sentence with exit status 3."""
    async with client(setting, "once", url) as once:
        seen = await once.expect("failed", error="upgrade_refused", stage="upgrade", status=status,
                                 remedy=remedy, fatal=fatal)
        holds(seen["what"] + "; " + seen["hint"], *parts)
        await once.expect_exit(0)
    async with setting.connect(url, "--ca", setting.pem("ca.pem")) as program:
        await program.expect_exit(3)
        holds(program.error_text(), str(status))


# The messages.

@tests.each("nginx/echo-{}", [("ws", "ws"), ("wss", "wss")])
async def echo(setting, scheme):
    async with Behind(setting, *LARGE) as behind:
        lines = ["hello", "", "\u00e9\u20ac\U0001f600", "x" * 70000, "y" * MIB, "z" * (3 * MIB)]
        async with setting.connect(behind.url("/echo", scheme), "--ca", setting.pem("ca.pem"),
                                   "--count", len(lines), *LARGE) as program:
            writing = asyncio.ensure_future(program.write("".join(f"{one}\n" for one in lines).encode()))
            for line in lines:
                equal(await program.line(), line + "\n", "echo")
            await writing
            await program.expect_exit(0)


@tests.each("nginx/peer-{}", [("ws", "ws"), ("wss", "wss")])
async def peer_echo(setting, scheme):
    """Through nginx from python3-websockets: fragments, compression, pings and a subprotocol."""
    async def script(ws):
        equal(ws.subprotocol, "two.example", "subprotocol")
        check(ws.extensions, "compression was not agreed")
        for sent in (["one ", "two"], "again and again " * 1000, os.urandom(MIB)):
            await ws.send(sent)
            equal(await ws.recv(), "".join(sent) if isinstance(sent, list) else sent, "echo")
        await (await ws.ping())
        await ws.close(1000, "done")

    async with Peer(script, subprotocols=["two.example"], compression="deflate") as peer:
        async with Nginx(setting, peer.port) as nginx:
            async with setting.connect(
                    nginx.url("/", scheme), "--echo", "--ca", setting.pem("ca.pem"),
                    "--compression", "on", "--subprotocol", "one.example", "--subprotocol",
                    "two.example", *LARGE) as program:
                await peer.result()
                await program.expect_exit(0)


@tests.each("nginx/closed-with-{}", [(code, code, reason) for code, reason in (
    (1000, "done"), (1008, "not here"), (1012, "later"), (4999, "x" * 123))])
async def closed(setting, code, reason):
    async def script(ws):
        await ws.close(code, reason)
        return ws.close_code

    async with Peer(script) as peer, Nginx(setting, peer.port) as nginx:
        async with setting.connect(nginx.url("/", "wss"), "--echo", "--ca",
                                   setting.pem("ca.pem")) as program:
            equal(await peer.result(), code, "answer to the close")
            await program.expect_exit(0 if code == 1000 else 6)
            if code != 1000:
                holds(program.error_text(), f"{code} ({reason})")


@tests.test("nginx/closes-itself")
async def closes(setting):
    async def script(ws):
        async for _ in ws:
            pass
        return ws.close_code

    async with Peer(script) as peer, Nginx(setting, peer.port) as nginx:
        async with setting.connect(nginx.url("/")) as program:
            program.end_input()
            equal(await peer.result(), 1000, "close code")
            await program.expect_exit(0)


@tests.test("nginx/node")
async def node(setting):
    port = Port()
    async with setting.node_server(port), Nginx(setting, port) as nginx:
        async with client(setting, "stay", nginx.url("/echo", "wss")) as stays:
            await stays.expect("open")
            for text in ("hello", "x" * 150):
                await stays.echoed(text)
            await stays.end()


# What it says instead of upgrading.

@tests.each("nginx/refuses-{}", [
    ("page-200", "/page", 200, "check_path", "plain HTTP", True),
    ("guarded-401", "/guarded", 401, "give_credentials", "credentials", True),
    ("forbidden-403", "/forbidden", 403, "check_permission", "does not allow", True),
    ("absent-404", "/absent", 404, "check_path", "nothing at this path", False),
    ("upstream-404", "/nothing/here", 404, "check_path", "nothing at this path", False),
    ("stripped-426", "/stripped", 426, "change_version", "426", True),
    ("http10-505", "/http10", 505, "change_version", "as HTTP/1.1", False),
    ("dead-502", "/dead", 502, "try_later", "proxy before it", False),
    ("mute-504", "/mute", 504, "try_later", "proxy before it", False),
    ("circle", "/circle", 307, "follow_redirect", "circle", True)])
async def refuses(setting, path, status, remedy, part, fatal):
    async with Behind(setting) as behind:
        await refused(setting, behind.url(path), status, remedy, part, fatal=fatal)


@tests.test("nginx/login")
async def login(setting):
    async with Behind(setting) as behind:
        for url, opens in ((behind.url("/guarded", "wss", "me:secret@"), True),
                           (behind.url("/guarded", "wss", "me:guess@"), False)):
            async with client(setting, "once", url) as once:
                if opens:
                    await once.expect("open")
                    await once.expect("closed")
                else:
                    seen = await once.expect("failed", status=401)
                    check("guess" not in str(seen), f"the password is told: {seen}")


@tests.each("nginx/redirect-{}", [
    ("here", "/elsewhere", "ws", "ws"), ("here-tls", "/elsewhere", "wss", "wss"),
    ("to-tls", "/to-tls", "ws", "wss")])
async def redirects(setting, path, scheme, to):
    async with Behind(setting) as behind:
        async with client(setting, "stay", behind.url(path, scheme)) as stays:
            port = behind.nginx.tls if to == "wss" else behind.nginx.plain
            await stays.expect("open", address=f"127.0.0.1:{port}")
            await stays.echoed("there")
            await stays.end()


@tests.test("nginx/redirect-out-of-tls")
async def redirect_down(setting):
    async with Behind(setting) as behind:
        await refused(setting, behind.url("/to-plain", "wss"), 301, "follow_redirect",
                      "from wss:// to ws://", "never followed")


# What it does to connections.

@tests.test("nginx/idle")
async def idle(setting):
    """nginx ends what is silent for five seconds; a heartbeat is no silence. The one with a heartbeat is
    there before the other comes, and still there when that has gone twice."""
    async with Behind(setting) as behind:
        url = behind.url("/impatient")
        async with client(setting, "stay", url, "ping", 200, "pong", 15000) as beating:
            await beating.expect("open")
            async with client(setting, "stay", url, "ping", 0, "pong", 0) as silent:
                await silent.expect("open")
                for _ in range(2):
                    await silent.expect("lost", error="lost")
                    await silent.expect("open")
                await silent.end()
            await beating.echoed("still here")
            seen = await beating.stats()
            equal((seen["attempts"], seen["connects"]), (1, 1), "attempts and connections")
            check(seen["round_trip_us"] > 0, "no pong was counted")
            await beating.end()


@tests.test("nginx/reload")
async def reload(setting):
    """The old worker cuts its connections off: the client comes back to the new one."""
    async with Behind(setting) as behind:
        async with client(setting, "stay", behind.url("/echo", "wss")) as stays:
            await stays.expect("open")
            for round_ in range(3):
                await stays.echoed(f"before {round_}")
                behind.nginx.process.send_signal(signal.SIGHUP)
                await stays.until("lost")
                await stays.until("open")
            await stays.echoed("after all")
            await stays.end()


@tests.each("nginx/gone-{}", [("stopped", "stop"), ("killed", "kill")])
async def gone(setting, how):
    """What is sent while it is away waits, and arrives in order once it is back."""
    async with Behind(setting) as behind:
        async with client(setting, "stay", behind.url("/echo")) as stays:
            await stays.expect("open")
            await stays.echoed("before")
            if how == "stop":
                await behind.nginx.stop(signal.SIGQUIT)
            else:
                await behind.nginx.kill()
            await stays.until("lost")
            await stays.finds_nobody()
            texts = [f"waits {number}" for number in range(20)]
            for text in texts:
                await stays.say(f"send {text}")
            await behind.nginx.start()
            await stays.until("open")
            equal([(await stays.until("message"))["text"] for _ in texts], texts, "messages")
            await stays.end()


@tests.test("nginx/upstream-away")
async def upstream_away(setting):
    async with Behind(setting) as behind:
        async with client(setting, "stay", behind.url("/echo", "wss")) as stays:
            await stays.expect("open")
            await stays.echoed("before")
            await behind.server.__aexit__()
            await stays.until("lost")
            missed = await stays.until("attempt")
            equal((missed["error"], missed["status"], missed["remedy"], missed["fatal"]),
                  ("upgrade_refused", 502, "try_later", False), "an attempt meanwhile")
            await stays.say("send waited")
            await behind.serve()
            equal((await stays.until("message"))["text"], "waited", "message")
            await stays.end()


@tests.test("nginx/upstream-drains")
async def upstream_drains(setting):
    """The close with its reason comes through, the client goes by it, and is there with the next server."""
    async with Behind(setting, "--retry-after", "300ms", "--drain-window", "10ms") as behind:
        async with client(setting, "stay", behind.url("/echo", "wss")) as stays:
            await stays.expect("open")
            await stays.echoed("before")
            behind.server.process.terminate()
            left = await stays.expect("lost", error="closed", close_code=1012, remedy="try_later")
            holds(left["said"], "retry-after=")
            await behind.server.expect_exit(0)
            await behind.server.__aexit__()
            await behind.serve()
            await stays.until("open")
            await stays.echoed("after")
            await stays.end()


class NginxSetting(Setting):
    def __init__(self, options, certificates):
        super().__init__(os.path.abspath(options.program), certificates)
        self.client = os.path.abspath(options.client)
        self.node, self.node_modules = options.node, options.node_modules

    def node_server(self, port):
        return Daemon([self.node, os.path.join(HERE, "ws_server.cjs"), "--node-modules",
                       self.node_modules, "--port", port], [port])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("program", "client", "node", "node-modules"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        find("nginx")
    except Failure as missing:
        print(f"FAILED: {missing}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(folder)
        return tests.run(NginxSetting(options, folder), options.only)


if __name__ == "__main__":
    sys.exit(main())
