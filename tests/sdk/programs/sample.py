"""The sample of the Ark v3 guide (2024-07-03: standard, streaming, embeddings), against any server.

``python sample.py <client>`` with ``ARK_BASE_URL``, ``ARK_API_KEY``, ``ARK_CHAT_MODEL`` and ``ARK_EMBEDDING_MODEL``
in the environment; ``ARK_MAX_TOKENS`` where the answers should be short. Writes one JSON document.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

QUESTION = [
    {"role": "system", "content": "你是豆包，是由字节跳动开发的 AI 人工智能助手"},
    {"role": "user", "content": "常见的十字花科植物有哪些？"},
]
TEXTS = ["花椰菜又称菜花、花菜，是一种常见的蔬菜。"]


def connect(name: str, base_url: str, api_key: str) -> Any:
    """The client object of one SDK."""
    if name == "openai":
        from openai import OpenAI

        return OpenAI(base_url=base_url, api_key=api_key)
    if name == "arkruntime":
        from arkruntime import Ark

        return Ark.volc(base_url=base_url, api_key=api_key)
    from volcenginesdkarkruntime import Ark

    return Ark(base_url=base_url, api_key=api_key)


def standard(client: Any, model: str, options: dict[str, Any]) -> dict[str, Any]:
    completion = client.chat.completions.create(model=model, messages=QUESTION, **options)
    choice = completion.choices[0]
    return {
        "content": choice.message.content,
        "finish_reason": choice.finish_reason,
        "model": completion.model,
        "usage": completion.usage.model_dump(),
    }


def streaming(client: Any, model: str, options: dict[str, Any]) -> dict[str, Any]:
    started_s = time.monotonic()
    first_s = None
    pieces: list[str] = []
    reason = None
    for chunk in client.chat.completions.create(model=model, messages=QUESTION, stream=True, **options):
        if not chunk.choices:
            continue
        if chunk.choices[0].delta.content:
            first_s = first_s or time.monotonic() - started_s
            pieces.append(chunk.choices[0].delta.content)
        reason = chunk.choices[0].finish_reason or reason
    return {"content": "".join(pieces), "pieces": len(pieces), "finish_reason": reason, "first_piece_s": first_s}


def embeddings(client: Any, model: str) -> dict[str, Any]:
    reply = client.embeddings.create(model=model, input=TEXTS, encoding_format="float")
    return {"vectors": [entry.embedding for entry in reply.data], "usage": reply.usage.model_dump()}


def main() -> None:
    client = connect(sys.argv[1], os.environ["ARK_BASE_URL"], os.environ["ARK_API_KEY"])
    model = os.environ["ARK_CHAT_MODEL"]
    limit = os.environ.get("ARK_MAX_TOKENS")
    options = {"max_tokens": int(limit)} if limit else {}
    document = {
        "standard": standard(client, model, options),
        "streaming": streaming(client, model, options),
        "embeddings": embeddings(client, os.environ["ARK_EMBEDDING_MODEL"]),
    }
    # The client's environment holds the client alone: there is no stricter JSON here.
    print(json.dumps(document, ensure_ascii=False))  # noqa: TID251


if __name__ == "__main__":
    main()
