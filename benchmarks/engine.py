"""Tokens per second through Arkway, as a share of what the same engine gives when it is called directly.

Two engine processes with the same configuration are loaded: one behind ``arkway serve``, one called by the benchmark on
its Unix socket with the very token ids and sampling that Arkway sends. Both are measured in turns, so that what the
machine does to one it does to the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import uvloop

from arkway.backends.engine.child import READY_LINE, ChildConfig
from arkway.backends.engine.pool import child_config
from arkway.backends.engine.process import SOCKET_NAME, child_environment
from arkway.backends.engine.sampling import engine_sampling
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.core.chat import Sampling
from arkway.core.model import ModelCard
from arkway.models.catalogue import DEFAULT_CHAT
from arkway.models.store import InstalledModel, ModelStore
from benchmarks.gateway import PATH
from benchmarks.load import Reply, Target
from benchmarks.processes import Server, scratch, serving
from benchmarks.report import Options, Report, Table, Unmeasured

STREAMS = (1, 2, 4, 8)
QUEUE_WAIT_S = "1200"
ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>")
"""How models of the well-known families end; banned, so that every answer has the wanted length."""
COUNTING = "Count from 1 to 1000, one number per line."
READING = "The quick brown fox jumps over the lazy dog while seven wizards brew a bitter potion in the old tower. "


class Plan(msgspec.Struct, frozen=True):
    """How much is asked for: rounds of each side, tokens of an answer, repetitions of the sentence of 21 words."""

    rounds: int
    answer_tokens: int
    sentences: int
    streams: tuple[int, ...]


FULL = Plan(rounds=3, answer_tokens=64, sentences=8, streams=STREAMS)
QUICK = Plan(rounds=1, answer_tokens=24, sentences=6, streams=(1, 4))


class Called(msgspec.Struct, frozen=True):
    """One finished answer: token counts, and its moments in nanoseconds of the monotonic clock."""

    prompt_tokens: int
    answer_tokens: int
    started_ns: int
    first_ns: int
    last_ns: int


class Way(Protocol):
    """One of the two ways to the engine."""

    async def prepare(self, text: str) -> None:
        """Whatever is not to be measured."""

    async def call(self, text: str, answer_tokens: int) -> Called: ...


class ThroughArkway:
    """Streams over HTTP from ``arkway serve``."""

    def __init__(self, target: Target, endpoint: str, banned: list[int]) -> None:
        self._target, self._endpoint = target, endpoint
        self._bias = {str(token): -100 for token in banned}

    async def prepare(self, text: str) -> None:
        pass

    async def call(self, text: str, answer_tokens: int) -> Called:
        body = {
            "model": self._endpoint,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "logit_bias": self._bias,
            "max_tokens": answer_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        reply = await Reply(self._target).ask(self._target.post(PATH, body))
        *_, last, _done, _rest = reply.body.split(b"\n\n")
        usage = msgspec.json.decode(last.partition(b":")[2])["usage"]
        return _called(reply, usage["prompt_tokens"], usage["completion_tokens"])


class Directly:
    """Streams over the Unix socket from an engine of our own; prompts become token ids beforehand."""

    def __init__(self, target: Target, card: ModelCard, banned: list[int]) -> None:
        self._target = target
        self._sampling = engine_sampling(Sampling(temperature=0.0, logit_bias=dict.fromkeys(banned, -100.0)), card)
        self._ids: dict[str, list[int]] = {}

    async def prepare(self, text: str) -> None:
        prompt = await asked(self._target, "/apply-template", {"messages": [{"role": "user", "content": text}]})
        self._ids[text] = await token_ids(self._target, prompt["prompt"])

    async def call(self, text: str, answer_tokens: int) -> Called:
        body = {
            **self._sampling,
            "prompt": self._ids.pop(text),
            "n_predict": answer_tokens,
            "cache_prompt": True,
            "stream": True,
        }
        reply = await Reply(self._target).ask(self._target.post("/completion", body))
        last = msgspec.json.decode(reply.body.strip().rpartition(b"data:")[2])
        return _called(reply, last["tokens_evaluated"], last["tokens_predicted"])


async def asked(target: Target, path: str, body: dict[str, Any]) -> Any:
    """One of the engine's own calls."""
    return msgspec.json.decode((await Reply(target).ask(target.post(path, body))).body)


async def token_ids(target: Target, text: str) -> list[int]:
    """The text as the engine would read it, control tokens recognised, opening token added."""
    body = {"content": text, "add_special": True, "parse_special": True}
    return list((await asked(target, "/tokenize", body))["tokens"])


async def end_tokens(target: Target) -> list[int]:
    """The ids of the tokens that would end an answer of this model."""
    opening = await token_ids(target, "")
    found = [(await token_ids(target, text))[len(opening) :] for text in ENDS]
    return [ids[0] for ids in found if len(ids) == 1]


def measure(options: Options) -> Report:
    """Every number of streams, decoding and reading, in turns. Raises Unmeasured without a model."""
    model = chosen(options.home)
    plan = QUICK if options.quick else FULL
    settings = {"ARKWAY__ENGINE__PRELOAD": "false", "ARKWAY__ENGINE__QUEUE_WAIT_S": QUEUE_WAIT_S}
    with scratch(models_of=options.home) as home, serving(home, settings) as server, engine(model) as target:
        banned = uvloop.run(end_tokens(target))
        ways: dict[str, Way] = {
            "arkway": ThroughArkway(*_address(server, model.name), banned),
            "direct": Directly(target, model.card, banned),
        }
        results = uvloop.run(_measured(ways, plan))
    figures = {"model": f"{model.name}:{model.version}", **msgspec.to_builtins(plan), "results": results}
    return Report(figures, [_table(model, results, name) for name in ("decode", "prefill")])


def chosen(home: Path) -> InstalledModel:
    """The default chat model, else any other that is installed. Raises Unmeasured."""
    store = ModelStore(home / "models")
    others = (model for model in store.installed() if model.kind == "gguf" and model.is_default)
    model = store.find(DEFAULT_CHAT) or next(others, None)
    if model is None:
        raise Unmeasured(f"no chat model is installed in {home}; `arkway pull` installs one, --home names another home")
    return model


@contextlib.contextmanager
def engine(model: InstalledModel) -> Generator[Target]:
    """An engine process as the pool starts it, but with a socket and a key that we know."""
    with tempfile.TemporaryDirectory(prefix="ark") as folder:
        config = msgspec.structs.replace(
            child_config(EngineModel(model.path, model.card), EngineSettings()),
            socket_path=str(Path(folder) / SOCKET_NAME),
            api_key=secrets.token_urlsafe(24),
        )
        with _child(config):
            yield Target("engine", 0, config.api_key, config.socket_path)


@contextlib.contextmanager
def _child(config: ChildConfig) -> Generator[None]:
    command = [sys.executable, "-I", "-m", "arkway.backends.engine.child"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=child_environment()
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(msgspec.json.encode(config) + b"\n")
        child.stdin.flush()
        if child.stdout.readline() != READY_LINE:
            raise RuntimeError(f"the engine does not load {config.model_path}")
        yield
    finally:
        child.stdin.close()
        child.wait(20)
        child.stdout.close()


async def _measured(ways: dict[str, Way], plan: Plan) -> list[dict[str, Any]]:
    print("engine: loading", file=sys.stderr)
    await _round(ways, ["warm " + COUNTING], 4)
    results = []
    for streams in plan.streams:
        decode = await _rounds(ways, plan, streams, COUNTING, plan.answer_tokens, decode_rate)
        prefill = await _rounds(ways, plan, streams, READING * plan.sentences, 1, prefill_rate)
        results.append({"streams": streams, "decode": decode, "prefill": prefill})
    return results


async def _rounds(
    ways: dict[str, Way],
    plan: Plan,
    streams: int,
    text: str,
    answer_tokens: int,
    rate: Callable[[list[Called]], float],
) -> dict[str, Any]:
    """Tokens per second of both ways in every round, their medians, and the ratio of these."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    first_ms: dict[str, list[float]] = {name: [] for name in ways}
    prompt_tokens = 0
    for turn in range(plan.rounds):
        print(f"engine: {streams} streams, {rate.__name__}, {turn + 1} of {plan.rounds}", file=sys.stderr)
        texts = [f"{secrets.token_hex(3)} {text}" for _ in range(streams)]
        calls = await _round(ways, texts, answer_tokens, backwards=turn % 2 == 1)
        for name, answers in calls.items():
            rates[name].append(rate(answers))
            first_ms[name] += [(answer.first_ns - answer.started_ns) / 1e6 for answer in answers]
        prompt_tokens = calls["direct"][0].prompt_tokens
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        **{f"{name}_tokens_per_s": value for name, value in medians.items()},
        "ratio": medians["arkway"] / medians["direct"],
        **{f"{name}_first_token_ms": statistics.median(values) for name, values in first_ms.items()},
        "prompt_tokens": prompt_tokens,
        "rounds": rates,
    }


async def _round(
    ways: dict[str, Way], texts: list[str], answer_tokens: int, *, backwards: bool = False
) -> dict[str, list[Called]]:
    """The same prompts by each way, all at once. Raises RuntimeError when they were not the same work."""
    calls: dict[str, list[Called]] = {}
    for name, way in reversed(ways.items()) if backwards else ways.items():
        for text in texts:
            await way.prepare(text)
        calls[name] = list(await asyncio.gather(*(way.call(text, answer_tokens) for text in texts)))
    prompts = {name: [answer.prompt_tokens for answer in answers] for name, answers in calls.items()}
    if prompts["arkway"] != prompts["direct"]:
        raise RuntimeError(f"the two ways did not read the same prompts: {prompts}")
    short = min(answer.answer_tokens for answers in calls.values() for answer in answers)
    if short < answer_tokens:
        raise RuntimeError(f"the model stopped after {short} of {answer_tokens} tokens; measure with another model")
    return calls


def decode_rate(calls: list[Called]) -> float:
    """Tokens per second of all streams together, from the first token of any to the last of all."""
    tokens = sum(call.answer_tokens for call in calls) - 1
    return tokens / (max(call.last_ns for call in calls) - min(call.first_ns for call in calls)) * 1e9


def prefill_rate(calls: list[Called]) -> float:
    """Prompt tokens per second of all streams together, from the first request to the last first token."""
    tokens = sum(call.prompt_tokens for call in calls)
    return tokens / (max(call.first_ns for call in calls) - min(call.started_ns for call in calls)) * 1e9


def _called(reply: Reply, prompt_tokens: int, answer_tokens: int) -> Called:
    first_ns = reply.first_text_ns or reply.ended_ns
    return Called(prompt_tokens, answer_tokens, reply.started_ns, first_ns, reply.last_text_ns or reply.ended_ns)


def _address(server: Server, model: str) -> tuple[Target, str]:
    """Where the server is, with its first key, and the endpoint of the model."""
    key = Path(server.said["key_file"]).read_text().strip()
    endpoint = next(entry["id"] for entry in server.said["endpoints"] if entry["model"] == model)
    return Target(*server.address, key=key), endpoint


def _table(model: InstalledModel, results: list[dict[str, Any]], phase: str) -> Table:
    columns = ("arkway_tokens_per_s", "direct_tokens_per_s", "ratio", "arkway_first_token_ms", "direct_first_token_ms")
    titles = ("streams", "Arkway t/s", "direct t/s", "ratio", "Arkway first token ms", "direct first token ms")
    rows: list[tuple[str | float | None, ...]] = [
        (str(result["streams"]), *(result[phase][column] for column in columns)) for result in results
    ]
    tokens = results[0][phase]["prompt_tokens"]
    return Table(f"{model.name}:{model.version}, {phase}, prompts of {tokens} tokens", titles, rows)
