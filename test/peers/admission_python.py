#!/usr/bin/python3
"""Debian's python3-websockets, and raw bytes, against the example `tokens`: who is let in, and what the
others are told.

    admission_python.py --program PATH/chorus_tokens [--only NAME]
"""
import argparse
import asyncio
import logging
import os
import sys

import websockets

from harness import Program, check, equal, tests

TOKEN = "open-sesame"


def serve(setting):
    return Program(setting, "--serve")


async def connect(url, **options):
    return await websockets.connect(url, **options)


async def refused(url, status, **options):
    try:
        ws = await connect(url, **options)
    except websockets.InvalidStatusCode as answer:
        equal(answer.status_code, status, "status")
        return answer.headers
    await ws.close()
    raise AssertionError("was upgraded")


async def closed(ws, code):
    try:
        while True:
            await ws.recv()
    except websockets.ConnectionClosed:
        equal(ws.close_code, code, "close code")
        return ws.close_reason


def authorization(token):
    return {"extra_headers": {"Authorization": f"Bearer {token}"}}


@tests.test("header")
async def _(setting):
    async with serve(setting) as program:
        url = await program.url() + "/header"
        ws = await connect(url, **authorization(TOKEN))
        equal(await ws.recv(), "hello ali", "greeting")
        await ws.send("back")
        equal(await ws.recv(), "back", "echo")
        await ws.close()
        headers = await refused(url, 401, **authorization("mellon"))
        equal(headers["WWW-Authenticate"], "Bearer", "challenge")
        await refused(url, 401)


@tests.test("query")
async def _(setting):
    async with serve(setting) as program:
        url = await program.url() + "/query"
        ws = await connect(f"{url}?token={TOKEN}")
        equal(await ws.recv(), "hello ali", "greeting")
        await ws.close()
        reason = await closed(await connect(f"{url}?token=mellon"), 1008)
        check("sign in again" in reason, f"reason {reason!r}")


@tests.test("first-message")
async def _(setting):
    async with serve(setting) as program:
        url = await program.url() + "/message"
        ws = await connect(url)
        await ws.send(TOKEN)
        equal(await ws.recv(), "hello ali", "greeting")
        await ws.close()
        for first in ("mellon", None):  # None: says nothing
            ws = await connect(url)
            if first:
                await ws.send(first)
            equal(await closed(ws, 1008), "send your token first", "reason")


@tests.test("origins")
async def _(setting):
    async with serve(setting) as program:
        url = await program.url() + "/message"
        for origin in ("https://evil.test", "null", "https://example.org.evil.test"):
            await refused(url, 403, origin=origin)
        for origin in ("https://app.example.org", "http" + url[2:-len("/message")]):
            await (await connect(url, origin=origin)).close()


@tests.test("per-user")
async def _(setting):
    async with serve(setting) as program:
        url = f"{await program.url()}/query?token={TOKEN}"
        first, second = await connect(url), await connect(url)
        headers = await refused(url, 429)
        check(int(headers["Retry-After"]) > 0, "Retry-After")
        equal(await second.recv(), "hello ali", "the others are untouched")
        await first.close()
        await (await connect(url)).close()


@tests.test("rate")
async def _(setting):
    async with serve(setting) as program:
        url = f"{await program.url()}/query?token={TOKEN}"
        fast, slow = await connect(url), await connect(url)
        for number in range(2000):
            try:
                await fast.send(str(number))
            except websockets.ConnectionClosed:
                break
        reason = await closed(fast, 1008)
        check("less often" in reason, f"reason {reason!r}")
        await slow.send("one")
        equal(await slow.recv(), "hello ali", "greeting")
        equal(await slow.recv(), "one", "the others are untouched")
        await slow.close()


@tests.test("raw")
async def _(setting):
    async with serve(setting) as program:
        url = await program.url()
        host, port = url[len("ws://"):].split(":")
        head = ("GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n")

        async def ask(target, more=""):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(head.format(target, more).encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            return answer.decode()

        answer = await ask("/header", "Authorization: Bearer mellon\r\n")
        check(answer.startswith("HTTP/1.1 401 "), answer)
        check("mellon" not in answer, "the token comes back")
        answer = await ask("/header", "Authorization: Bearer\r\n")
        check(answer.startswith("HTTP/1.1 401 "), answer)
        answer = await ask(f"/query?token={TOKEN[:-1]}%65")
        check(answer.startswith("HTTP/1.1 101 "), answer)
        # Who has gone when the hook has its answer is nobody's session.
        for _ in range(20):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(head.format(f"/query?token={TOKEN}", "").encode())
            await writer.drain()
            writer.transport.abort()
        while not (await ask(f"/query?token={TOKEN}")).startswith("HTTP/1.1 101 "):
            pass  # the last of them may still hold a place


@tests.test("prints-no-token")
async def _(setting):
    program = Program(setting)
    async with program:
        text = (await asyncio.wait_for(program.process.stdout.read(), 20)).decode()
        await program.expect_exit(0)
        text += program.error_text()
    check("token=***" in text and "Bearer ***" in text, text)
    for secret in (TOKEN, "mellon", "open-says-me"):
        check(secret not in text, f"{secret} is printed: {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return tests.run(os.path.abspath(options.program), options.only)


if __name__ == "__main__":
    sys.exit(main())
