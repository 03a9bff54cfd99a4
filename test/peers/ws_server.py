#!/usr/bin/python3
"""What ws_server.cjs does, in the same words, with Debian's python3-websockets.

    ws_server.py --port N
"""
import argparse
import asyncio
import http
import json
import logging
import socket
import struct
import time
import urllib.parse

import websockets

seen = set()   # what was asked for
acted = set()  # and upgraded


def tell(**what):
    print(json.dumps({**what, "at": time.monotonic() * 1000}), flush=True)


def reset(ws, _query):
    ws.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                     struct.pack("ii", 1, 0))
    ws.transport.abort()


def end(ws, _query):
    ws.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)


async def close(ws, query):
    tell(closing=True)
    await ws.close(int(query["code"][0]), query.get("reason", [""])[0])


def deaf(ws, _query):
    ws.transport.pause_reading()


MISBEHAVE = {"/drop": reset, "/end": end, "/close": close, "/deaf": deaf}


async def arrive(path, _headers):
    where = urllib.parse.urlsplit(path)
    first = path not in seen
    seen.add(path)
    tell(arrived=where.path)
    if where.path == "/busy" and first:
        tell(left=503)
        after = urllib.parse.parse_qs(where.query)["after"][0]
        return http.HTTPStatus.SERVICE_UNAVAILABLE, [("Retry-After", after)], b""
    return None


async def serve(ws, path):
    where = urllib.parse.urlsplit(path)
    act = None if path in acted else MISBEHAVE.get(where.path)
    acted.add(path)
    try:
        async for message in ws:
            if act is None:
                await ws.send(message)
                continue
            done = act(ws, urllib.parse.parse_qs(where.query))
            if done is not None:
                await done
    except websockets.ConnectionClosed:
        pass
    tell(left=ws.close_code)


async def main(port):
    async with websockets.serve(serve, "127.0.0.1", port, process_request=arrive,
                                ping_interval=None, max_size=1 << 23):
        tell(listening=True)
        await asyncio.Future()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    asyncio.run(main(parser.parse_args().port))
