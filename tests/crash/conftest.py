"""The witness: hears what a server's clients heard, and compares it with what the ledger says after the crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

UNDER_BILLED_MAX_TOKENS = 16


@dataclass
class Heard:
    """What is known of one attempt from outside: tokens the engine has made, and the end, if one was seen."""

    prompt: int = 0
    completion: int = 0
    end: tuple[str, int, int] | None = None


@dataclass
class Verdict:
    """Names of attempts by what is wrong with them, and how many were judged."""

    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    over_billed: list[str] = field(default_factory=list)
    under_billed: list[str] = field(default_factory=list)
    complete: int = 0
    interrupted: int = 0
    most_under_billed: int = 0

    def faults(self) -> dict[str, list[str]]:
        kinds = ("lost", "wrong", "unknown", "duplicate", "over_billed", "under_billed")
        return {kind: names for kind in kinds if (names := getattr(self, kind))}


class Witness:
    """Takes lines of the form described in ``worker.py``; judges rows of the usage table."""

    def __init__(self) -> None:
        self.heard: dict[str, Heard] = {}
        self.ended = 0

    def hear(self, line: str) -> None:
        """A line cut off by the kill (no line feed) is not heard: nobody has seen it."""
        if not line.endswith("\n"):
            return
        word, name, *rest = line.split()
        call = self.heard.setdefault(name, Heard())
        if word == "made":
            call.prompt, call.completion = int(rest[0]), int(rest[1])
        elif word == "done":
            call.end = (rest[0], int(rest[1]), int(rest[2]))
            self.ended += 1

    def judge(self, rows: Iterable[Mapping[str, Any]]) -> Verdict:
        """Compare with every row there is, after the journal has been recovered and drained."""
        found = list(rows)
        verdict = Verdict()
        for column in ("attempt_id", "request_id"):
            verdict.duplicate += [name for name, times in Counter(row[column] for row in found).items() if times > 1]
        by_name = {row["attempt_id"]: row for row in found}
        # A call that died between its reserve and its first token was never heard of, and must have cost nothing.
        verdict.unknown = [name for name, row in by_name.items() if name not in self.heard and _costs(row)]
        for name, call in self.heard.items():
            self._judge_one(name, call, by_name.get(name), verdict)
        return verdict

    def _judge_one(self, name: str, call: Heard, row: Mapping[str, Any] | None, verdict: Verdict) -> None:
        if row is None:
            if call.completion or call.end:
                verdict.lost.append(name)
            return
        billed = (row["outcome"], row["prompt_tokens"], row["completion_tokens"])
        if call.end is not None:
            verdict.complete += 1
            if billed != call.end:
                verdict.wrong.append(name)
            return
        verdict.interrupted += 1
        if billed[1] > call.prompt or billed[2] > call.completion:
            verdict.over_billed.append(name)
        under = call.completion - billed[2]
        verdict.most_under_billed = max(verdict.most_under_billed, under)
        if under > UNDER_BILLED_MAX_TOKENS or (billed[2] and billed[1] != call.prompt):
            verdict.under_billed.append(name)


def _costs(row: Mapping[str, Any]) -> bool:
    return bool(row["prompt_tokens"] or row["completion_tokens"] or row["outcome"] != "interrupted")


@pytest.fixture
def new_witness() -> Callable[[], Witness]:
    return Witness
