"""``make demo-bot``: documents become a collection, a bot looks things up in it, and says where its answers are from.

Starts a server on a free loopback port with the embedded default model, makes collection and bot by the command line,
asks three questions over Bot API V2 by plain HTTP, prints answers, sources and usage, removes what it made, and stops.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

HERE = Path(__file__).resolve().parent
ARKWAY = [sys.executable, "-m", "arkway"]
CHAT_MODEL = "qwen2.5-coder-0.5b-instruct"
COLLECTION = "demo-library"
QUESTIONS = (
    "What is the fee for a late book?",
    "图书馆总馆周六的开放时间是什么？",
    "Hello! Who are you?",
)
READY_S = 60.0
ANSWER_S = 300.0


def main() -> None:
    """The whole demonstration; exits with 1 and a sentence when a step fails."""
    say("1. the default chat model (downloaded once, verified by its hash)")
    run("pull", CHAT_MODEL)
    say("2. the documents, as a collection")
    remove_left_overs()
    command("kb", "create", COLLECTION, "--description", "examples/library-bot")
    try:
        run("kb", "sync", COLLECTION, str(HERE / "documents"))
        with serving() as server:
            demonstrate(server)
    finally:
        remove_left_overs()
    say("The server has stopped; collection, bot and key are gone. examples/library-bot/README.md makes them by hand.")


def demonstrate(server: dict[str, Any]) -> None:
    """A bot, a key that is for it alone, and the questions."""
    endpoint = next(entry["id"] for entry in server["endpoints"] if entry["model"] == CHAT_MODEL)
    prompt = ("--prompt-file", str(HERE / "prompt.txt"))
    action = ("--action", f"knowledge:{COLLECTION},limit=3")
    bot = command("bots", "create", "--name", COLLECTION, "--endpoint", endpoint, *prompt, *action)
    key = command("keys", "create", "--name", COLLECTION, "--endpoint", bot["id"], "--expires", "1h")
    try:
        say(f"3. three questions: POST {server['url']}/api/v2/bots/{bot['id']}/chat")
        for question in QUESTIONS:
            show(question, asked(server["url"], bot["id"], key["secret"], question))
    finally:
        command("keys", "revoke", key["id"])


def asked(url: str, bot_id: str, secret: str, question: str) -> dict[str, Any]:
    """The answer as JSON. The server learns of a new bot within two seconds: until then there is none."""
    body = {
        "messages": [{"role": "user", "content": question}],
        "parameters": {"temperature": 0.01, "max_new_tokens": 150},
    }
    give_up_s = time.monotonic() + READY_S
    while True:
        status, answer = posted(url, f"/api/v2/bots/{bot_id}/chat", secret, body)
        if status == 200:
            return answer
        if status not in (400, 401, 403, 404) or time.monotonic() > give_up_s:
            raise SystemExit(f"the server answered with the status {status}: {answer}")
        time.sleep(0.5)


def posted(url: str, path: str, secret: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    try:
        connection.request("POST", path, msgspec.json.encode(body), headers)
        reply = connection.getresponse()
        return reply.status, cast(dict[str, Any], msgspec.json.decode(reply.read()))
    finally:
        connection.close()


def show(question: str, answer: dict[str, Any]) -> None:
    """The question, the answer, what it is from, and what it took."""
    message = answer["choices"][0]["message"]
    print(f"\n   Q  {question}")
    print("\n".join(f"   A  {line}" for line in message["content"].strip().splitlines()))
    references = message.get("references") or []
    for number, source in enumerate(references, 1):
        path = source["doc_title"].partition("\n")[0]
        name = f"{source['doc_name']}.{source['doc_type']}"
        print(f"  [{number}] {path}   ({source['collection_name']}: {name}, chunk {source['chunk_id'][-16:]})")
    if not references:
        print("      no sources: nothing had to be looked up")
    print(f"      {used(answer['usage'])}")


def used(usage: dict[str, Any]) -> str:
    """What the model and the actions have used, in one line."""
    models = (
        f"{use['name']}: {use['prompt_tokens']} + {use['completion_tokens']} tokens" for use in usage["model_usage"]
    )
    actions = (f"{use['name']}: {use['count']} search" for use in usage["action_usage"])
    return "; ".join((*models, *actions))


def remove_left_overs() -> None:
    """What this, or an earlier run that was broken off, has made."""
    for bot in each(command("bots", "list")):
        if bot["name"] == COLLECTION:
            command("bots", "delete", bot["id"])
    for collection in each(command("kb", "list")):
        if collection["name"] == COLLECTION:
            command("kb", "delete", collection["id"])


def each(listed: Any) -> Iterable[dict[str, Any]]:
    return cast(list[dict[str, Any]], listed)


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
        process.wait(60)


def command(*words: str) -> Any:
    """What an arkway command says with --json."""
    done = subprocess.run([*ARKWAY, *words, "--json"], check=False, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"this failed: arkway {' '.join(words)}: {os.fsdecode(done.stderr).strip()}")
    return msgspec.json.decode(done.stdout)


def run(*words: str) -> None:
    sys.stdout.flush()
    if subprocess.run([*ARKWAY, *words], check=False).returncode != 0:
        raise SystemExit(f"this failed: arkway {' '.join(words)}")


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    main()
