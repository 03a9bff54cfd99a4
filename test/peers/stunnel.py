#!/usr/bin/python3
"""Debian's stunnel with good and bad certificates before `chorus serve`: what the program and the library
make of each.

    stunnel.py --program PATH/chorus --client PATH/peer_client [--only NAME]
"""
import argparse
import asyncio
import os
import sys
import tempfile

from daemons import Daemon, PeerClient, Port, find, holds
from harness import LARGE, MIB, Failure, Setting, Tests, equal, make_certificates

tests = Tests()

# One service for each, with a certificate of that name unless it says another.
CERTIFICATES = ("server", "other", "expired", "early", "self", "stranger", "purpose", "weak")
OTHERS = {
    "old": ("server", "sslVersionMin = TLSv1.1\nsslVersionMax = TLSv1.1\n"
                      "ciphers = ALL:@SECLEVEL=0\n"),
    "asking": ("server", "CAfile = {ca}\nverifyChain = yes\nrequireCert = yes\n"),
    "asking-12": ("server", "CAfile = {ca}\nverifyChain = yes\nrequireCert = yes\n"
                            "sslVersionMax = TLSv1.2\n"),
}


class Stunnel(Daemon):
    def __init__(self, setting, upstream, services=None):
        self.folder = tempfile.TemporaryDirectory()
        self.services = services or {name: Port() for name in (*CERTIFICATES, *OTHERS)}
        lines = ["foreground = yes", "pid =", "syslog = no", "debug = warning"]
        for name, port in self.services.items():
            certificate, more = OTHERS.get(name, (name, ""))
            lines += [f"[{name}]", f"accept = 127.0.0.1:{port}", f"connect = 127.0.0.1:{upstream}",
                      f"cert = {setting.pem(certificate + '.pem')}",
                      f"key = {setting.pem(certificate + '.key')}", "securityLevel = 0",
                      "TIMEOUTclose = 0", more.format(ca=setting.pem("ca.pem"))]
        configuration = os.path.join(self.folder.name, "stunnel.conf")
        with open(configuration, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        super().__init__([find("stunnel4"), configuration], self.services.values())

    def url(self, name, host="127.0.0.1"):
        return f"wss://{host}:{self.services[name]}/echo"


class Behind:
    """`chorus serve` with stunnel before it, to be used as `async with`: gives the stunnel."""

    def __init__(self, setting):
        self.setting = setting
        self.server = setting.serve(*LARGE)

    async def __aenter__(self):
        await self.server.__aenter__()
        try:
            upstream = (await self.server.url()).rsplit(":", 1)[1]
            self.stunnel = Stunnel(self.setting, upstream)
            return await self.stunnel.start()
        except BaseException:
            await self.server.__aexit__()
            raise

    async def __aexit__(self, *_):
        await self.stunnel.__aexit__()
        await self.server.__aexit__()


def connect(setting, url, *options):
    return setting.connect(url, "--count", 1, *LARGE, *options)


async def opens(setting, url, options=(), told=()):
    """Through it, by the program and by the library."""
    async with connect(setting, url, *options) as program:
        await program.write(b"through\n")
        equal(await program.line(), "through\n", "echo")
        await program.expect_exit(0)
    async with PeerClient(setting.client, "once", url, *told) as once:
        await once.expect("open")
        await once.expect("closed")
        await once.expect_exit(0)


async def refuses(setting, url, error, parts, options=(), told=(), alert="", remedy="none",
                  advice=""):
    """Named by both: the library by its error and remedy, the program in words and by its status."""
    async with PeerClient(setting.client, "once", url, *told) as once:
        seen = await once.expect("failed", error=error, stage="tls", alert=alert, remedy=remedy)
        holds(seen["what"], *parts)
        await once.expect_exit(0)
    async with connect(setting, url, *options) as program:
        await program.expect_exit(4)
        holds(program.error_text(), *parts, advice)


def trusting(setting, name="ca.pem"):
    return {"options": ("--ca", setting.pem(name)), "told": ("ca", setting.pem(name))}


@tests.each("stunnel/good-by-{}", [("address", "127.0.0.1"), ("name", "localhost")])
async def good(setting, host):
    async with Behind(setting) as stunnel:
        url = stunnel.url("server", host)
        await opens(setting, url, **trusting(setting))
        lines = ["", "x" * 70000, "y" * MIB]
        async with setting.connect(url, "--ca", setting.pem("ca.pem"), "--count", len(lines),
                                   *LARGE) as program:
            writing = asyncio.ensure_future(program.write("".join(f"{one}\n" for one in lines).encode()))
            for line in lines:
                equal(await program.line(), line + "\n", "echo")
            await writing
            await program.expect_exit(0)


@tests.each("stunnel/{}", [
    ("expired", "expired", "tls_expired", ("has expired",), "renew_certificate",
     "clock"),
    ("not-yet-valid", "early", "tls_expired", ("is not valid yet",),
     "renew_certificate", "clock"),
    ("wrong-host", "other", "tls_wrong_host", ("is not for 127.0.0.1",), "use_certificate_name",
     "a name that the certificate holds"),
    ("unknown-issuer", "stranger", "tls_unknown_issuer", ("authority that is not known",),
     "trust_authority", "--ca FILE trusts it"),
    ("self-signed", "self", "tls_unknown_issuer", ("signed by itself",), "trust_authority",
     "--ca FILE trusts it"),
    ("wrong-purpose", "purpose", "tls_bad_certificate", ("can't be trusted", "purpose"),
     "check_certificate", ""),
    ("weak-key", "weak", "tls_bad_certificate", ("can't be trusted", "too weak"),
     "check_certificate", "")])
async def bad(setting, name, error, parts, remedy, advice):
    async with Behind(setting) as stunnel:
        await refuses(setting, stunnel.url(name), error, parts, remedy=remedy, advice=advice,
                      **trusting(setting))


@tests.test("stunnel/no-authority-given")
async def no_authority(setting):
    async with Behind(setting) as stunnel:
        await refuses(setting, stunnel.url("server"), "tls_unknown_issuer",
                      ("authority that is not known",), remedy="trust_authority",
                      advice="--ca FILE trusts it")


@tests.each("stunnel/trusted-{}", [("self-signed", "self", "self.pem"),
                                    ("stranger", "stranger", "stranger_ca.pem")])
async def trusted(setting, name, authority):
    async with Behind(setting) as stunnel:
        await opens(setting, stunnel.url(name), **trusting(setting, authority))
        # And then the usual one no more.
        await refuses(setting, stunnel.url("server"), "tls_unknown_issuer",
                      ("authority that is not known",), remedy="trust_authority",
                      **trusting(setting, authority))


@tests.test("stunnel/insecure-in-so-many-words")
async def insecure(setting):
    async with Behind(setting) as stunnel:
        for name in ("expired", "early", "other", "stranger", "self", "purpose"):
            await opens(setting, stunnel.url(name), ("--insecure",), ("insecure", "yes"))
        for words in (("--insec",), ("-k",), ("--no-verify",), ("--verify", "off")):
            async with connect(setting, stunnel.url("self"), *words) as program:
                await program.expect_exit(2)


@tests.test("stunnel/tls-1.1-only")
async def old(setting):
    async with Behind(setting) as stunnel:
        await refuses(setting, stunnel.url("old"), "tls_failed", ("protocol version",),
                      alert="protocol version", **trusting(setting), advice="1.2")


@tests.each("stunnel/client-certificate-{}", [("tls-1.3", "asking"), ("tls-1.2", "asking-12")])
async def client_certificate(setting, name):
    """Under TLS 1.3 the server says so only when this side is through with its handshake."""
    async with Behind(setting) as stunnel:
        url, ca = stunnel.url(name), trusting(setting)

        def with_certificate(who):
            pem, key = setting.pem(f"{who}.pem"), setting.pem(f"{who}.key")
            return {"options": (*ca["options"], "--tls-cert", pem, "--tls-key", key),
                    "told": (*ca["told"], "cert", pem, "key", key)}

        await opens(setting, url, **with_certificate("client"))
        missing = "certificate required" if name == "asking" else "handshake failure"
        await refuses(setting, url, "tls_failed", (missing,), alert=missing,
                      remedy="give_certificate" if name == "asking" else "none", **ca)
        await refuses(setting, url, "tls_failed", ("unknown CA",), alert="unknown CA",
                      remedy="replace_certificate", **with_certificate("stranger"))
        async with PeerClient(setting.client, "stay", url, *with_certificate("stranger")["told"],
                              "initial", 1, "cap", 50) as stays:
            seen = await stays.until("attempt")
            equal(seen["fatal"], True, "a client that comes back, which ends")


@tests.test("stunnel/client-certificate-framed")
async def framed(setting):
    """Where there is no upgrade the connection is open before the server says no."""
    async with Behind(setting) as stunnel:
        url = stunnel.url("asking").replace("wss:", "tls:").removesuffix("/echo")
        async with setting.connect(url, "--ca", setting.pem("ca.pem")) as program:
            await program.expect_exit(1)
            holds(program.error_text(), "certificate required", "--tls-cert and --tls-key")


@tests.test("stunnel/plain-port")
async def plain(setting):
    async with setting.serve() as server:
        url = (await server.url()).replace("ws:", "wss:") + "/echo"
        await refuses(setting, url, "tls_not_tls", ("does not speak TLS",), remedy="use_plain_scheme",
                      **trusting(setting))


@tests.test("stunnel/gone-and-back")
async def back(setting):
    """A client that comes back takes the certificate as it is then: bad ones end it."""
    async with setting.serve() as server:
        upstream = (await server.url()).rsplit(":", 1)[1]
        stunnel = Stunnel(setting, upstream)
        async with stunnel:
            async with PeerClient(setting.client, "stay", stunnel.url("server"), "ca",
                                  setting.pem("ca.pem"), "initial", 1, "cap", 50) as stays:
                await stays.expect("open")
                await stays.echoed("before")
                await stunnel.kill()
                await stays.until("lost")
                await stays.until("attempt")
                await stunnel.start()
                await stays.until("open")
                await stays.echoed("after")
                await stunnel.kill()
                async with Stunnel(setting, upstream, {"expired": stunnel.services["server"]}):
                    while not (seen := await stays.until("attempt"))["fatal"]:
                        pass
                    equal(seen["error"], "tls_expired", "why it ends")
                    await stays.expect("ended")


class StunnelSetting(Setting):
    def __init__(self, options, certificates):
        super().__init__(os.path.abspath(options.program), certificates)
        self.client = os.path.abspath(options.client)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("program", "client"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    try:
        find("stunnel4")
    except Failure as missing:
        print(f"FAILED: {missing}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(folder)
        return tests.run(StunnelSetting(options, folder), options.only)


if __name__ == "__main__":
    sys.exit(main())
