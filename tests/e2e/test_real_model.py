"""Real weights through the whole house: chat, stream, tokenization and bias, embeddings, ledger."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.conftest import CHAT_MODEL, EMBEDDING_MODEL, Served
from tests.sdk.environments import CLIENTS, interpreter
from tests.tools.client import Connection
from tests.tools.waiting import until

pytestmark = pytest.mark.weights

PROGRAMS = Path(__file__).resolve().parents[1] / "sdk" / "programs"
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]


def chat(served: Served, secret: str, **fields: Any) -> dict[str, Any]:
    body = {"model": served.endpoint(CHAT_MODEL), "messages": QUESTION, "temperature": 0, "max_tokens": 24, **fields}
    with Connection(served.url, secret, timeout_s=120) as connection:
        reply = connection.call("POST", "/api/v3/chat/completions", body)
    assert reply.status == 200, reply.body
    answer: dict[str, Any] = reply.json()
    return answer


def token_ids(served: Served, secret: str, text: str) -> dict[str, Any]:
    with Connection(served.url, secret, timeout_s=120) as connection:
        reply = connection.call("POST", "/api/v3/tokenization", {"model": served.endpoint(CHAT_MODEL), "text": [text]})
    assert reply.status == 200, reply.body
    entry: dict[str, Any] = reply.json()["data"][0]
    return entry


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_a_real_answer_with_real_counts(served: Served, secret: str) -> None:
    answer = chat(served, secret)
    assert "Paris" in text_of(answer)
    usage = answer["usage"]
    assert usage["prompt_tokens"] > 10
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    rows = served.home.json("usage", "--since", "1h")
    row = next(row for row in (rows["rows"] if isinstance(rows, dict) else rows) if row["request_id"] == answer["id"])
    assert (row["prompt_tokens"], row["completion_tokens"], row["outcome"], row["provenance"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
        "done",
        "reported",
    )


def test_tokenization_offsets_cut_the_text_into_its_tokens(served: Served, secret: str) -> None:
    text = "Grüße, 世界 🎉 done"
    entry = token_ids(served, secret, text)
    offsets = entry["offset_mapping"]
    assert entry["total_tokens"] == len(entry["token_ids"]) == len(offsets)
    assert offsets[0][0] == 0
    assert offsets[-1][1] == len(text)
    covered = {position for begin, end in offsets for position in range(begin, end)}
    assert covered == set(range(len(text)))


def test_the_ids_of_tokenization_ban_and_force_tokens(served: Served, secret: str) -> None:
    first = chat(served, secret, max_tokens=1, logprobs=True)["choices"][0]["logprobs"]["content"][0]["token"]
    banned = token_ids(served, secret, first)["token_ids"][0]
    without = chat(served, secret, max_tokens=1, logit_bias={str(banned): -100})
    assert text_of(without) != first
    forced = token_ids(served, secret, " banana")["token_ids"][0]
    only = chat(served, secret, max_tokens=3, logit_bias={str(forced): 100})
    assert text_of(only).strip().startswith("banana")


def test_a_schema_is_obeyed(served: Served, secret: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "London"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    answer = msgspec.json.decode(text_of(chat(served, secret, response_format=form)))
    assert answer["city"] in ("Paris", "London")


def test_a_required_tool_is_called(served: Served, secret: str) -> None:
    parameters = {"type": "object", "properties": {"city": {"enum": ["Paris", "London"]}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    answer = chat(served, secret, tools=[tool], tool_choice="required", max_tokens=64)
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert call["function"]["name"] == "get_weather"
    assert msgspec.json.decode(call["function"]["arguments"])["city"] in ("Paris", "London")


def test_the_prompt_is_measured_before_it_is_read(served: Served, secret: str) -> None:
    body = {
        "model": served.endpoint(CHAT_MODEL),
        "messages": [{"role": "user", "content": "word " * 20_000}],
    }
    with Connection(served.url, secret, timeout_s=120) as connection:
        reply = connection.call("POST", "/api/v3/chat/completions", body)
    assert reply.status == 400
    assert reply.error()["param"] == "messages"


def test_embeddings_know_what_is_alike(served: Served, secret: str) -> None:
    texts = ["花椰菜是一种常见的蔬菜。", "西兰花是一种蔬菜。", "The stock market fell sharply today."]
    with Connection(served.url, secret, timeout_s=120) as connection:
        reply = connection.call(
            "POST", "/api/v3/embeddings", {"model": served.endpoint(EMBEDDING_MODEL), "input": texts}
        )
    assert reply.status == 200, reply.body
    vectors = [entry["embedding"] for entry in reply.json()["data"]]
    assert {len(vector) for vector in vectors} == {512}
    alike, apart = _cosine(vectors[0], vectors[1]), _cosine(vectors[0], vectors[2])
    assert alike > apart + 0.2


def engine_in_flight(served: Served, secret: str) -> float:
    with Connection(served.url, secret) as connection:
        exposition = connection.get("/metrics").body.decode()
    return float(
        next(line for line in exposition.splitlines() if line.startswith("arkway_engine_in_flight")).split()[1]
    )


@pytest.mark.parametrize("after_frames", [0, 1, 5])
def test_a_client_that_leaves_frees_the_engine(served: Served, secret: str, after_frames: int) -> None:
    long_prompt = "Tell me a very long story. " * 120
    body = {
        "model": served.endpoint(CHAT_MODEL),
        "messages": [{"role": "user", "content": long_prompt if after_frames == 0 else "Count to one thousand."}],
        "stream": True,
        "max_tokens": 1000,
        "temperature": 0,
    }
    with Connection(served.url, secret, timeout_s=120) as connection:
        connection.send("POST", "/api/v3/chat/completions", body)
        if after_frames:
            connection.head()
            frames = connection.chunks()
            for _ in range(after_frames):
                next(frames)
        else:
            time.sleep(0.5)
        assert engine_in_flight(served, secret) == 1
    until(lambda: not engine_in_flight(served, secret))
    last = served.home.json("usage", "--limit", "1")[0]
    # The engine has not gone on to the end for a client that has left.
    assert (last["outcome"], last["completion_tokens"] < 1000) == ("client_abort", True)


def test_log_probabilities_cover_an_emoji_answer_token_by_token(served: Served, secret: str) -> None:
    emoji = "🎉🦊"
    entry = token_ids(served, secret, emoji)
    schema = {"enum": [emoji]}
    form = {"type": "json_schema", "json_schema": {"name": "emoji", "schema": schema}}
    answer = chat(served, secret, response_format=form, logprobs=True, top_logprobs=2, max_tokens=32)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert emoji in text_of(answer)
    assert bytes(octet for each in entries for octet in each["bytes"]).decode() == text_of(answer)
    assert len(entries) >= len(entry["token_ids"])
    # The end of the answer is a token too, and has no text.
    assert len(entries) in (answer["usage"]["completion_tokens"], answer["usage"]["completion_tokens"] - 1)


@pytest.mark.sdk
@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_gets_a_real_answer(served: Served, secret: str, client: str) -> None:
    environ = {
        **os.environ,
        "ARK_BASE_URL": f"{served.url}/v1" if client == "openai" else f"{served.url}/api/v3",
        "ARK_API_KEY": secret,
        "ARK_CHAT_MODEL": served.endpoint(CHAT_MODEL),
        "ARK_EMBEDDING_MODEL": served.endpoint(EMBEDDING_MODEL),
        "ARK_MAX_TOKENS": "16",
    }
    done = subprocess.run(
        [str(interpreter(client)), str(PROGRAMS / "sample.py"), client],
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = msgspec.json.decode(done.stdout)
    assert said["standard"]["content"]
    assert said["streaming"]["pieces"] > 1
    assert said["embeddings"]


def test_curl_gets_a_real_stream(served: Served, secret: str) -> None:
    body = {"model": served.endpoint(CHAT_MODEL), "messages": QUESTION, "stream": True, "max_tokens": 8}
    done = subprocess.run(
        [
            "curl",
            "-sSN",
            f"{served.url}/api/v3/chat/completions",
            "-H",
            f"Authorization: Bearer {secret}",
            "-H",
            "Content-Type: application/json",
            "-d",
            msgspec.json.encode(body).decode(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.endswith(b"data: [DONE]\n\n")
    assert done.stdout.count(b"data: {") >= 2


def _cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
