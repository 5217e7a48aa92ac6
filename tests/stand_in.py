"""A server with the words of vLLM 0.32 and a bigram for a model, on a loopback port; it can be told to misbehave."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import uvicorn
from safetensors.torch import load_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

SIZE = 20  # of the vocabulary
LONGEST = 200


class StandIn:
    """``how``: "", or a fault: "500", "hang", "garbage", "short", "nan", "abort", "refuse", "busy",
    "raw" (log-probs that ignore the temperature), "bfloat16" (rounds its weights); ``model``: what it serves."""

    def __init__(self) -> None:
        self.how, self.model, self.version = "", "policy", "default"
        self.table = torch.zeros(SIZE, SIZE)
        self.log: list[str] = []  # paths, in the order of the calls
        self.cancelled = self.asked = 0
        self.seconds = 0.0  # that an answer takes
        self.url = ""
        generate = Route("/inference/v1/generate", self.generate, methods=["POST"])
        self.app = Starlette(routes=[generate, Route("/{path:path}", self.other, methods=["GET", "POST"])])

    async def generate(self, request: Request) -> Response:
        self.asked += 1
        body = await request.json()
        asked = body["sampling_params"]
        if self.how == "hang":
            self.cancelled += await gone(request)
            return PlainTextResponse("")
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.how == "500":
            return JSONResponse({"error": {"message": "out of memory"}}, 500)
        if self.how == "garbage":
            return PlainTextResponse("<html>")
        if self.how == "refuse":
            return JSONResponse({"error": {"message": "no such token"}}, 400)
        return JSONResponse(self.answer(body["token_ids"], asked))

    def answer(self, ids: list[int], asked: dict[str, Any]) -> dict[str, Any]:
        g = torch.Generator().manual_seed(asked["seed"] % 2**31)
        tokens, entries, finish = list[int](), [], "length"
        while len(tokens) < asked["max_tokens"] and finish == "length":
            heat = 1.0 if self.how == "raw" else asked["temperature"] or 1.0
            table = self.table.bfloat16().float() if self.how == "bfloat16" else self.table
            logp = (table[[*ids, *tokens][-1]] / heat).log_softmax(-1)
            token = int(torch.multinomial(logp.exp(), 1, generator=g) if asked["temperature"] else logp.argmax())
            tokens.append(token)
            entries.append({"token_id": token, "logprob": -9999.0 if self.how == "nan" else float(logp[token])})
            finish = "stop" if token in asked["stop_token_ids"] else "length"
        span = {"version": self.version, "start": 0, "end": len(tokens)}
        choice = {
            "index": 0,
            "finish_reason": "abort" if self.how == "abort" else finish,
            "token_ids": tokens[1:] if self.how == "short" else tokens,
            "weight_versions": [span],
            "logprobs": {"content": entries},
        }
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": len(tokens)}}

    async def other(self, request: Request) -> Response:
        """What is asked around generation."""
        path, body = request.url.path, await request.body()
        self.log.append(path)
        said = json.loads(body) if body else {}
        if path == "/v1/models":
            return JSONResponse({"data": [{"id": self.model, "max_model_len": LONGEST}]})
        if self.how == "busy":
            return JSONResponse({"error": {"message": "not now"}}, 503)
        if path == "/weight_info":
            return JSONResponse({"weight_version": self.version})
        if path == "/update_weights":
            try:
                self.table = load_file(said["update_info"]["path"])["table"]
            except (KeyError, OSError) as error:
                return JSONResponse({"error": {"message": str(error)}}, 500)
        if path in ("/finish_weight_update", "/update_weight_version"):
            self.version = said.get("weight_version") or said.get("new_version") or self.version
        return JSONResponse({"success": True})


async def gone(request: Request) -> bool:
    """Once the client has closed the connection."""
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    return True


@contextmanager
def serving(*servers: StandIn) -> Iterator[list[str]]:
    """Their urls."""
    running = []
    for server in servers:
        place = socket.socket()
        place.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{place.getsockname()[1]}"
        config = uvicorn.Config(server.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        one = uvicorn.Server(config)
        thread = threading.Thread(target=one.run, kwargs={"sockets": [place]})
        thread.start()
        running.append((one, thread, place))
    try:
        yield [server.url for server in servers]
    finally:
        for one, _, _ in running:
            one.should_exit = True
        for _, thread, place in running:
            thread.join()
            place.close()
