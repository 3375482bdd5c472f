"""``kill -9`` at random moments under load, again and again on one data directory.

``ARKWAY_CRASH_ROUNDS`` sets how often (8; ``make crash`` takes 200).
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from arkway.stores.drain import Drain
from arkway.stores.home import database_path, journal_path
from arkway.stores.journal import Journal
from arkway.stores.segment import segment_numbers
from arkway.stores.store import open_store
from arkway.stores.tables import Row
from arkway.stores.usage import UsageTable
from tests.tools.waiting import until

if TYPE_CHECKING:
    from tests.crash.conftest import Verdict, Witness

ROUNDS = int(os.environ.get("ARKWAY_CRASH_ROUNDS", "8"))
STREAMS = 16
# Calls that a worker brings to their end at least, unless it is killed while it starts.
SETTLED = 12
WORKER = Path(__file__).with_name("worker.py")


def hear_all(witness: Witness, lines: IO[str]) -> None:
    for line in lines:
        witness.hear(line)


def killed_round(home: Path, url: str, witness: Witness) -> bool:
    """Start a worker, let it settle some calls and go on for a random time, kill it, hear the rest.

    A few die while they still recover. True for one that has come so far that it was heard.
    """
    command = [sys.executable, str(WORKER), str(home), str(STREAMS)]
    with subprocess.Popen(command, env=environment(url), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        early = secrets.randbelow(6) == 0
        first = "" if early else worker.stdout.readline()
        assert early or first, "the worker did not come up"
        if first:
            witness.hear(first)
        listener = threading.Thread(target=hear_all, args=(witness, worker.stdout))
        listener.start()
        if not early:
            ended = witness.ended
            until(lambda: witness.ended >= ended + SETTLED)
        time.sleep(secrets.randbelow(300) / 1000)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        listener.join()
    return not early


def environment(url: str) -> dict[str, str]:
    """A worker's, with the database it uses; empty = SQLite in its home."""
    return {**os.environ, "ARKWAY__DATABASE__URL": url}


def recovered_rows(home: Path, url: str = "") -> list[Row]:
    """Restart, drain, stop; every row of the usage table."""
    with open_store(database_path(home), url) as store:
        journal = Journal(journal_path(home))
        drain = Drain(journal, UsageTable(store), store)
        drain.flush_sync(30)
        rows = list(UsageTable(store).rows("default", "default", 0, 1 << 60, 1 << 30))
        journal.close(drain.close())
        assert segment_numbers(journal_path(home)) == []
        return rows


def judged(home: Path, url: str, witness: Witness) -> Verdict:
    verdict = witness.judge(recovered_rows(home, url))
    assert verdict.faults() == {}
    return verdict


def test_nothing_is_lost_and_nothing_is_billed_twice(
    tmp_path: Path,
    database_url: str,
    new_witness: Callable[[], Witness],
    record_property: Callable[[str, object], None],
) -> None:
    home, witness = tmp_path / "home", new_witness()
    verdict, late = witness.judge([]), 0
    for number in range(1, ROUNDS + 1):
        late += killed_round(home, database_url, witness)
        if number % 4 == 0 or number == ROUNDS:
            verdict = judged(home, database_url, witness)
    summary = (
        f"{ROUNDS} kills, {verdict.complete} complete, {verdict.interrupted} interrupted, "
        f"most under-billed {verdict.most_under_billed} tokens"
    )
    record_property("crash", summary)
    print(summary)
    assert verdict.complete >= SETTLED * late
    assert verdict.interrupted > late


def test_the_witness_notices_every_kind_of_fault(new_witness: Callable[[], Witness]) -> None:
    witness = new_witness()
    for line in (
        "begun a", "made a 5 40", "done a done 5 40", "begun b", "made b 5 40", "begun c", "made c 5 40",
        "begun d", "made d 5 40", "begun e", "done e done 1 1", "begun f", "made f 5 40", "done f done 5 40",
    ):  # fmt: skip
        witness.hear(line + "\n")
    witness.hear("done b done 5 40")

    def row(name: str, outcome: str, prompt: int, completion: int) -> Row:
        return {
            "attempt_id": name,
            "request_id": f"r-{name}",
            "outcome": outcome,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
        }

    verdict = witness.judge(
        [
            row("a", "done", 5, 39),
            row("b", "interrupted", 5, 41),
            row("c", "interrupted", 5, 23),
            row("d", "interrupted", 5, 24),
            row("f", "done", 5, 40),
            row("f", "done", 5, 40),
            row("x", "done", 1, 1),
        ]
    )
    assert verdict.faults() == {
        "lost": ["e"],
        "wrong": ["a"],
        "unknown": ["x"],
        "duplicate": ["f", "r-f"],
        "over_billed": ["b"],
        "under_billed": ["c"],
    }
    assert (verdict.complete, verdict.interrupted) == (2, 3)


@pytest.mark.parametrize("moment_ms", [0, 150, 300])
def test_a_kill_while_starting_leaves_a_data_directory_that_starts(tmp_path: Path, moment_ms: int) -> None:
    for _ in range(2):
        command = [sys.executable, str(WORKER), str(tmp_path / "home"), "1"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as worker:
            time.sleep(moment_ms / 1000)
            worker.send_signal(signal.SIGKILL)
    recovered_rows(tmp_path / "home")
