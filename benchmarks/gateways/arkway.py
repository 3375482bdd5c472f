"""Arkway in front of the same upstream, set up by its own commands, with everything on that a request meets.

A key with limits of every kind, the journal with ``group`` durability and its drain into SQLite, metrics, request ids.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from arkway.signing import KeyPair, signed_headers
from benchmarks.gateways.gateway import FRAMES, QUESTION, Command, Gateway, Place, Wire, post
from benchmarks.processes import ARKWAY, ROOT, environment

V3_PATH = "/api/v3/chat/completions"
V3_BOTS_PATH = "/api/v3/bots/chat/completions"
BOT_PROMPT = "你是一位植物学家,回答简短而准确。"
LIMITS = ("--rpm", "1e9", "--tpm", "1e12", "--concurrency", "1e6", "--tokens-per-day", "1e15")


class Arkway(Gateway):
    """`arkway serve` over a fresh data directory with one upstream and one group."""

    name, language, note = "arkway", "Python", "keys, limits, journal, usage, metrics and request ids on"
    proves: ClassVar[bool] = True
    path: ClassVar[str] = V3_PATH

    def install(self) -> str:
        import arkway

        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        return f"{arkway.__version__} ({commit.stdout.strip() or 'no commit'})"

    def command(self, place: Place) -> Command:
        self.prepare(place)
        return self.serve(place)

    def serve(self, place: Place) -> Command:
        """``arkway serve`` over the place's data directory; a stop cuts what is under way after a second."""
        words = (*ARKWAY, "--home", str(home(place)), "serve", "--json", "--no-pull", "--port", str(place.port))
        return Command(words, {"ARKWAY__SERVER__DRAIN_S": "1"})

    def prepare(self, place: Place) -> None:
        """The upstream with its group and endpoint, a key and an access key, and their limits."""
        url = f"http://127.0.0.1:{place.upstream_port}/v1"
        served = run(place, "upstreams", "add", "mock", url, "--serve", "mock", "--context-tokens", "65536")
        self.endpoint = str(served["serving"][0]["endpoints"][0])
        bot = run(place, "bots", "create", "--name", "benchmark", "--endpoint", self.endpoint, "--prompt", BOT_PROMPT)
        self.bot = str(bot["id"])
        key = run(place, "keys", "create", "--name", "benchmark")
        pair = run(place, "aksk", "create", "--name", "benchmark", "--role", "inference")
        self.key = str(key["secret"])
        self.pair = KeyPair(str(pair["id"]), str(pair["secret"]))
        for subject in (str(key["id"]), self.pair.access_key_id):
            run(place, "limits", "set", "--key", subject, *LIMITS)

    def wires(self, place: Place) -> list[Wire]:
        """v3 first; then the older generations, by key and signed; then a bot that looks nothing up, on two wires.

        A signature is good for 15 minutes.
        """
        v2_path = f"/api/v2/endpoint/{self.endpoint}/chat"
        older: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("v1", "/api/v1/chat", {"model": {"name": "mock"}}),
            ("v2", v2_path, {}),
        )
        generations = [
            self._older(place.port, f"{name} {'signed' if signed else 'key'}", path, model, signed=signed)
            for name, path, model in older
            for signed in (False, True)
        ]
        bots = [
            self._older(place.port, "v2 bot", f"/api/v2/bots/{self.bot}/chat", {}, signed=False),
            self._v3(place.port, "v3 bot", V3_BOTS_PATH, self.bot),
        ]
        return [self._v3(place.port, "chat", V3_PATH, self.endpoint), *generations, *bots]

    def _v3(self, port: int, name: str, path: str, model: str) -> Wire:
        body = {"model": model, "messages": QUESTION, "temperature": 0.7}
        right, wrong = ({"Authorization": f"Bearer {each}"} for each in (self.key, "wrong"))
        stream = post(port, path, {**body, "stream": True, "max_tokens": FRAMES}, right)
        return Wire(name, post(port, path, body, right), stream, post(port, path, body, wrong))

    def _older(self, port: int, name: str, path: str, model: dict[str, Any], *, signed: bool) -> Wire:
        parameters = {"temperature": 0.7}
        bodies = (
            {**model, "messages": QUESTION, "parameters": parameters},
            {**model, "messages": QUESTION, "parameters": {**parameters, "max_new_tokens": FRAMES}, "stream": True},
        )
        question, stream = (self._proven(port, path, msgspec.json.encode(body), signed=signed) for body in bodies)
        return Wire(name, question, stream, frames_differ=not signed)

    def _proven(self, port: int, path: str, payload: bytes, *, signed: bool) -> bytes:
        if not signed:
            return post(port, path, payload, {"Authorization": f"Bearer {self.key}"})
        x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return post(
            port, path, payload, signed_headers(self.pair, "POST", f"http://127.0.0.1:{port}{path}", payload, x_date)
        )


def home(place: Place) -> Path:
    """The data directory of that place."""
    return place.folder / "home"


def run(place: Place, *words: str) -> Any:
    """A command of Arkway's on the place's data directory; its JSON. Raises RuntimeError."""
    command = [*ARKWAY, "--home", str(home(place)), *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`arkway {' '.join(words)}` failed: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return msgspec.json.decode(done.stdout)
