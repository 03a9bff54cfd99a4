"""JSON-RPC 2.0 against a peer of another implementation: python3-websockets and json, in both roles.

usage: python_rpc.py RPC_PEER
"""
import asyncio
import json
import subprocess
import sys

import websockets

from harness import PATIENCE, check, equal, tests


def request(method, params, id_):
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": id_}


async def receive(ws):
    return json.loads(await asyncio.wait_for(ws.recv(), PATIENCE))


class Served:
    """`rpc_peer serve`, to be used as `async with`: gives a connection to it."""

    def __init__(self, program):
        self.program = program

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            self.program, "serve", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        url = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode().strip()
        self.ws = await websockets.connect(url)
        return self.ws

    async def __aexit__(self, *_):
        await self.ws.close()
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), PATIENCE)


@tests.test("python asks")
async def asks(program):
    async with Served(program) as ws:
        await ws.send(json.dumps(request("subtract", [42, 23], "a")))
        equal(await receive(ws), {"jsonrpc": "2.0", "result": 19, "id": "a"}, "subtract")
        params = {"text": "\u00e4\U0001f600\n", "list": [1, 2.5, None, True, {"deep": []}]}
        await ws.send(json.dumps(request("echo", params, 1)))
        equal(await receive(ws), {"jsonrpc": "2.0", "result": params, "id": 1}, "echo")
        await ws.send(json.dumps(request("refuse", [], 2)))
        equal((await receive(ws))["error"], {"code": 42, "message": "not today", "data": ["data"]},
              "an error with data")
        await ws.send(json.dumps(request("throw", [], 3)))
        equal((await receive(ws))["error"], {"code": -32603, "message": "Internal error"}, "a throw")
        await ws.send(json.dumps(request("subtract", ["x", 1], 4)))
        error = (await receive(ws))["error"]
        equal(error["code"], -32602, "wrong params")
        check("/0" in error["data"], f"the member is not named in {error}")
        await ws.send("{")
        equal((await receive(ws))["error"]["code"], -32700, "no JSON")


@tests.test("answers overtake each other, and a batch waits for its last")
async def overtakes(program):
    async with Served(program) as ws:
        await ws.send(json.dumps([request("later", [100], "batch"), request("later", [0], 2)]))
        for number in range(20):
            await ws.send(json.dumps(request("later", [(number * 7) % 20], number + 100)))
        seen = {}
        for _ in range(21):
            answer = await receive(ws)
            if isinstance(answer, list):
                equal([one["id"] for one in answer], ["batch", 2], "the order of a batch")
            else:
                seen[answer["id"]] = answer["result"]
        equal(seen, {number + 100: (number * 7) % 20 for number in range(20)}, "answers")


@tests.test("python is asked while it asks")
async def asked_back(program):
    async with Served(program) as ws:
        await ws.send(json.dumps(request("ask_back", ["double", 10], 1)))
        batch = await receive(ws)
        equal(len(batch), 10, "requests in the batch")
        answers = [{"jsonrpc": "2.0", "result": 2 * one["params"][0], "id": one["id"]}
                   for one in batch]
        answers[3] = {"jsonrpc": "2.0", "error": {"code": 1, "message": "no"}, "id": batch[3]["id"]}
        await ws.send(json.dumps(answers[5:]))  # in two parts, the last first
        for one in reversed(answers[:5]):
            await ws.send(json.dumps(one))
        equal(await receive(ws), {"jsonrpc": "2.0", "result": 2 * (45 - 3), "id": 1}, "the sum")


@tests.test("python serves")
async def serves(program):
    noted = []

    async def answer(ws, one):
        method, params = one["method"], one.get("params", [])
        if method == "noted":
            noted.extend(params)
        if "id" not in one or method == "never":
            return None
        out = {"jsonrpc": "2.0", "id": one["id"]}
        if method == "subtract":
            out["result"] = params[0] - params[1]
        elif method == "refuse":
            out["error"] = {"code": 42, "message": "not today", "data": ["data"]}
        elif method == "noted_so_far":
            out["result"] = noted
        elif method == "ask_back":
            total = 0
            for number in range(params[0]):
                await ws.send(json.dumps(request("echo", [number], f"e{number}")))
                total += (await receive(ws))["result"][0]
            out["result"] = total
        else:
            out["error"] = {"code": -32601, "message": "Method not found"}
        return out

    async def connection(ws, *_):
        async for text in ws:
            document = json.loads(text)
            if isinstance(document, list):
                answers = [await answer(ws, one) for one in document]
                out = [one for one in answers if one]
            else:
                out = await answer(ws, document)
            if out:
                await ws.send(json.dumps(out))

    async with websockets.serve(connection, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(program, "connect", f"ws://127.0.0.1:{port}/",
                                                       stderr=subprocess.PIPE)
        _, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
        equal(process.returncode, 0, f"exit status; {errors.decode()}")


if __name__ == "__main__":
    sys.exit(tests.run(sys.argv[1]))
