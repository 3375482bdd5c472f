"""Runs in a client's own environment and uses its SDK as a caller would, on demand.

``python driver.py <client>`` reads one JSON object per line, ``{"operation", "base_url", "api_key", "model",
"arguments"}``, makes the call and writes what the SDK surfaced as one JSON line: ``{"result": …}``, or
``{"error": {class, message, code, param, type, request_id, status}, "chunks": [those that came before it]}``.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

# client -> module, blocking class, asynchronous class
SDKS = {
    "ark": ("volcenginesdkarkruntime", "Ark", "AsyncArk"),
    "ark-2024": ("volcenginesdkarkruntime", "Ark", "AsyncArk"),
    "arkruntime": ("arkruntime", "Ark", "AsyncArk"),
    "openai": ("openai", "OpenAI", "AsyncOpenAI"),
}

Ask = dict[str, Any]


class Broken(Exception):
    """A stream raised after some chunks."""

    def __init__(self, chunks: list[Any], cause: Exception) -> None:
        super().__init__(str(cause))
        self.chunks = chunks
        self.cause = cause


def chat(client: Any, ask: Ask) -> Any:
    return client.chat.completions.create(model=ask["model"], **ask["arguments"]).model_dump()


def stream(client: Any, ask: Ask) -> Any:
    return _drained(client.chat.completions, ask)


def bot_chat(client: Any, ask: Ask) -> Any:
    return client.bot_chat.completions.create(model=ask["model"], **ask["arguments"]).model_dump()


def bot_stream(client: Any, ask: Ask) -> Any:
    return _drained(client.bot_chat.completions, ask)


def _drained(completions: Any, ask: Ask) -> list[Any]:
    chunks: list[Any] = []
    try:
        for chunk in completions.create(model=ask["model"], stream=True, **ask["arguments"]):
            chunks.append(chunk.model_dump())  # noqa: PERF401 - what came before a break has to stay
    except Exception as error:
        raise Broken(chunks, error) from error
    return chunks


def abort(client: Any, ask: Ask) -> Any:
    """Leaves a stream after three chunks."""
    answer = client.chat.completions.create(model=ask["model"], stream=True, **ask["arguments"])
    chunks = [next(answer).model_dump() for _ in range(3)]
    answer.response.close()
    return chunks


def raw(client: Any, ask: Ask) -> Any:
    """A chat call with its HTTP headers, as sent and as answered."""
    reply = client.chat.completions.with_raw_response.create(model=ask["model"], **ask["arguments"])
    sent = {name.lower(): value for name, value in reply.http_request.headers.items()}
    answered = {name.lower(): value for name, value in reply.headers.items()}
    body = reply.http_request.content.decode()
    return {"sent": sent, "body": body, "answered": answered, "reply": reply.parse().model_dump()}


def embeddings(client: Any, ask: Ask) -> Any:
    return client.embeddings.create(model=ask["model"], **ask["arguments"]).model_dump()


def tokenization(client: Any, ask: Ask) -> Any:
    return client.tokenization.create(model=ask["model"], **ask["arguments"]).model_dump()


def models(client: Any, ask: Ask) -> Any:
    return [entry.model_dump() for entry in client.models.list()]


def model(client: Any, ask: Ask) -> Any:
    return client.models.retrieve(ask["model"]).model_dump()


async def async_chat(client: Any, ask: Ask) -> Any:
    return (await client.chat.completions.create(model=ask["model"], **ask["arguments"])).model_dump()


async def async_stream(client: Any, ask: Ask) -> Any:
    chunks: list[Any] = []
    try:
        async for chunk in await client.chat.completions.create(model=ask["model"], stream=True, **ask["arguments"]):
            chunks.append(chunk.model_dump())  # noqa: PERF401 - what came before a break has to stay
    except Exception as error:
        raise Broken(chunks, error) from error
    return chunks


async def async_bot_chat(client: Any, ask: Ask) -> Any:
    return (await client.bot_chat.completions.create(model=ask["model"], **ask["arguments"])).model_dump()


async def async_bot_stream(client: Any, ask: Ask) -> Any:
    answer = await client.bot_chat.completions.create(model=ask["model"], stream=True, **ask["arguments"])
    return [chunk.model_dump() async for chunk in answer]


async def async_abort(client: Any, ask: Ask) -> Any:
    """A stream whose task is cancelled in the middle."""
    seen: list[Any] = []

    async def consume() -> None:
        async for chunk in await client.chat.completions.create(model=ask["model"], stream=True, **ask["arguments"]):
            seen.append(chunk.model_dump())  # noqa: PERF401 - likewise

    try:
        await asyncio.wait_for(consume(), ask["patience_s"])
    except TimeoutError:
        return seen
    raise AssertionError("the stream ended by itself")


BLOCKING: dict[str, Callable[[Any, Ask], Any]] = {
    function.__name__: function
    for function in (chat, stream, bot_chat, bot_stream, abort, raw, embeddings, tokenization, models, model)
}
ASYNCHRONOUS: dict[str, Callable[[Any, Ask], Any]] = {
    function.__name__: function
    for function in (async_chat, async_stream, async_bot_chat, async_bot_stream, async_abort)
}


def answer(name: str, ask: Ask) -> dict[str, Any]:
    """Makes one call; gives back what the SDK surfaced."""
    module_name, blocking, asynchronous = SDKS[name]
    module = importlib.import_module(module_name)
    operation = ask["operation"]
    connection = {"base_url": ask["base_url"], "api_key": ask["api_key"]}
    try:
        if operation in BLOCKING:
            return {"result": BLOCKING[operation](getattr(module, blocking)(**connection), ask)}
        return {"result": asyncio.run(_run(getattr(module, asynchronous), connection, ask))}
    except Broken as broken:
        return {"error": _surfaced(broken.cause), "chunks": broken.chunks}
    except Exception as error:
        return {"error": _surfaced(error), "chunks": []}


async def _run(make: Any, connection: dict[str, str], ask: Ask) -> Any:
    return await ASYNCHRONOUS[ask["operation"]](make(**connection), ask)


def _surfaced(error: Exception) -> dict[str, Any]:
    fields = {name: getattr(error, name, None) for name in ("code", "param", "type", "request_id")}
    return {
        "class": type(error).__name__,
        "message": str(error),
        "status": getattr(error, "status_code", None),
        **fields,
    }


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # what an SDK prints is not an answer
    for line in sys.stdin:
        # The client's environment holds the client alone: there is no stricter JSON here.
        reply = answer(sys.argv[1], json.loads(line))  # noqa: TID251
        print(json.dumps(reply, ensure_ascii=False), file=answers, flush=True)  # noqa: TID251


if __name__ == "__main__":
    main()
