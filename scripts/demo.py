"""``make demo``: from nothing to an answer, with the unmodified official Ark SDK against the embedded model.

Pulls the default chat model, starts a server on a free loopback port, runs the vendor's own sample (standard,
streaming, embeddings) in the SDK's own environment, prints the answers and what the ledger has on record, and stops.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

ROOT = Path(__file__).resolve().parent.parent
ARKWAY = [sys.executable, "-m", "arkway"]
SDK_PYTHON = ROOT / ".venvs" / "ark" / "bin" / "python"
SAMPLE = ROOT / "scripts" / "sample_ark.py"
CHAT_MODEL = "qwen2.5-coder-0.5b-instruct"
EMBEDDING_MODEL = "use-multilingual"


def main() -> None:
    """The whole demonstration; exits with 1 and a sentence when a step fails."""
    begun_s = time.monotonic()
    say("1. the default chat model (downloaded once, verified by its hash)")
    run(*ARKWAY, "pull", CHAT_MODEL)
    pulled_s = time.monotonic()
    say("2. the server")
    with serving() as server:
        key = command("keys", "create", "--name", "demo", "--expires", "1h")
        try:
            show(server, key["secret"], begun_s, pulled_s)
        finally:
            command("keys", "revoke", key["id"])
    say("The server has stopped. `make serve` leaves one running; `arkway chat` talks to it.")


def show(server: dict[str, Any], secret: str, begun_s: float, pulled_s: float) -> None:
    """Asks, and shows what came back."""
    endpoints = {entry["model"]: entry["id"] for entry in server["endpoints"]}
    chat, embedding = endpoints[CHAT_MODEL], endpoints[EMBEDDING_MODEL]
    base_url = f"{server['url']}/api/v3"
    print(f"   {base_url}   chat {chat}   embeddings {embedding}")
    say("3. the vendor's sample, with the official SDK (volcengine-ark-runtime), unmodified")
    environ = {**os.environ, "ARK_API_KEY": secret}
    run(str(SDK_PYTHON), str(SAMPLE), base_url, chat, embedding, env=environ)
    say("4. what the ledger has on record")
    run(*ARKWAY, "usage", "--since", "1h", "--by", "model")
    total_s = time.monotonic() - begun_s
    print(f"\n   {total_s:.0f} s in all, {pulled_s - begun_s:.0f} s of them for the model")
    say("5. to go on with (start a server with `make serve`, make a key with `arkway keys create`)")
    print(SNIPPETS.format(chat=chat))


SNIPPETS = """
   curl http://127.0.0.1:8080/api/v3/chat/completions \\
     -H "Authorization: Bearer $ARK_API_KEY" -H "Content-Type: application/json" \\
     -d '{{"model": "{chat}", "messages": [{{"role": "user", "content": "你好"}}], "stream": true}}'

   from volcenginesdkarkruntime import Ark            # pip install volcengine-ark-runtime
   client = Ark(base_url="http://127.0.0.1:8080/api/v3", api_key=key)
   client.chat.completions.create(model="{chat}", messages=[{{"role": "user", "content": "你好"}}])

   from openai import OpenAI                          # pip install openai
   client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key=key)
   client.chat.completions.create(model="qwen2.5-coder-0.5b-instruct", messages=[...])
"""


@contextmanager
def serving() -> Generator[dict[str, Any]]:
    """A server on a free port: what it says of itself when it is ready."""
    process = subprocess.Popen([*ARKWAY, "serve", "--port", "0", "--no-pull", "--json"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start; `arkway doctor` says what is missing")
        yield cast(dict[str, Any], msgspec.json.decode(line))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def command(*words: str) -> dict[str, Any]:
    """What an arkway command says with --json."""
    done = subprocess.run([*ARKWAY, *words, "--json"], check=True, capture_output=True)
    return cast(dict[str, Any], msgspec.json.decode(done.stdout))


def run(*words: str, env: dict[str, str] | None = None) -> None:
    sys.stdout.flush()
    if subprocess.run(words, env=env, check=False).returncode != 0:
        raise SystemExit(f"this failed: {' '.join(words)}")


def say(text: str) -> None:
    print(f"\n== {text}")


if __name__ == "__main__":
    main()
