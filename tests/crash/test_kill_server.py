"""``kill -9`` of a whole server while clients stream from it: what they saw complete is billed, exactly, once."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from arkway.testing import ENDPOINT_ID
from tests.crash.test_kill import ROUNDS, environment, hear_all, judged
from tests.tools.client import Connection, Reply, frames
from tests.tools.waiting import until

if TYPE_CHECKING:
    from tests.crash.conftest import Witness

WORKER = Path(__file__).with_name("http_worker.py")
CLIENTS = 8


def ask_until_it_dies(url: str, witness: Witness) -> None:
    """One client: a streamed call after another. It bears witness to every answer whose end it saw."""
    body = {
        "model": ENDPOINT_ID,
        "messages": [{"role": "user", "content": "go on"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    try:
        with Connection(url) as connection:
            while True:
                reply: Reply = connection.post("/api/v3/chat/completions", body)
                *_, last, end = frames(reply.body)
                assert end == "[DONE]"
                usage = last["usage"]
                name = reply.headers["x-request-id"]
                witness.hear(f"done {name} done {usage['prompt_tokens']} {usage['completion_tokens']}\n")
    except (OSError, ValueError):
        return  # the server is dead: what came of this answer is no end


def killed_round(home: Path, url: str, witness: Witness) -> None:
    command = [sys.executable, str(WORKER), str(home)]
    with subprocess.Popen(command, env=environment(url), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url.startswith("http://"), "the server did not come up"
        threads = [threading.Thread(target=hear_all, args=(witness, server.stdout))]
        threads += [threading.Thread(target=ask_until_it_dies, args=(url, witness)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        ended = witness.ended
        until(lambda: witness.ended >= ended + 2 * CLIENTS)
        time.sleep(secrets.randbelow(300) / 1000)
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        for thread in threads:
            thread.join()


def test_what_clients_saw_complete_is_billed_once_and_exactly(
    tmp_path: Path,
    database_url: str,
    new_witness: Callable[[], Witness],
    record_property: Callable[[str, object], None],
) -> None:
    home, witness = tmp_path / "home", new_witness()
    verdict = witness.judge([])
    for number in range(1, ROUNDS + 1):
        killed_round(home, database_url, witness)
        if number % 5 == 0 or number == ROUNDS:
            verdict = judged(home, database_url, witness)
    summary = f"{ROUNDS} kills, {verdict.complete} complete, {verdict.interrupted} interrupted"
    record_property("crash over HTTP", summary)
    assert verdict.complete >= 2 * CLIENTS * ROUNDS
    assert verdict.interrupted > ROUNDS
