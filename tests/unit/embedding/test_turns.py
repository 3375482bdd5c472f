"""Turns, cuts and frames: the parts that need no child."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from arkway.backends.embedding.frames import (
    LENGTH,
    Embed,
    Tokens,
    Vectors,
    answer_from_bytes,
    framed,
    packed,
    question_from_bytes,
    unpacked,
)
from arkway.backends.embedding.rota import Job, Rota
from arkway.backends.embedding.windows import windows
from arkway.core.embedding import Tokenized


def turns(rota: Rota, count: int) -> list[int]:
    """The ids of the next turns, each job being put back as if it had more to do."""
    taken = []
    for _ in range(count):
        job = rota.take()
        assert job is not None
        taken.append(job.id)
        rota.add(job)
    return taken


def test_callers_take_turns_however_many_jobs_they_have() -> None:
    rota = Rota()
    for job_id in range(1, 51):
        rota.add(Job(job_id, "greedy", iter(())))
    assert turns(rota, 2) == [1, 2]
    rota.add(Job(100, "modest", iter(())))
    assert turns(rota, 6) == [3, 100, 4, 100, 5, 100]


def test_jobs_of_one_caller_take_turns_too() -> None:
    rota = Rota()
    for job_id, caller in ((1, "a"), (2, "a"), (3, "b")):
        rota.add(Job(job_id, caller, iter(())))
    assert turns(rota, 8) == [1, 3, 2, 3, 1, 3, 2, 3]


def test_nobody_waits() -> None:
    rota = Rota()
    rota.add(Job(1, "a", iter(())))
    assert rota.take() is not None
    assert rota.take() is None


@pytest.mark.parametrize(
    "pieces, cuts",
    [
        (["▁a"] * 10, [10]),
        (["▁a", ".", "▁b", "▁c", ".", "▁d", "▁e", "▁f", "▁g", "▁h", "▁i", "▁j"], [5, 12]),
        (["今天", "好", "。", "明天", "好", "!", "后天", "也", "好", "吗", "?", "好"], [6, 12]),
        (["▁3", ".", "14", "▁is", "▁pi", "▁and", "more", "more", "more", "more", "more"], [5, 11]),
        (["x"] * 25, [10, 20, 25]),
    ],
)
def test_windows_end_where_sentences_do(pieces: Sequence[str], cuts: list[int]) -> None:
    assert windows(pieces, 10) == list(zip([0, *cuts[:-1]], cuts, strict=True))


def test_frames_come_back_as_they_were() -> None:
    question = Embed(7, "key-1", ("你好\0", "😀"))
    octets = framed(question)
    assert LENGTH.unpack(octets[:4])[0] == len(octets) - 4
    assert question_from_bytes(octets[4:]) == question
    for answer in (Vectors(7, bytes(range(256)), 3), Tokens(7, (packed(Tokenized((1, 2), ((0, 1), (1, 2)))),))):
        assert answer_from_bytes(framed(answer)[4:]) == answer


@pytest.mark.parametrize("count", [0, 1, 20_000])
def test_tokens_come_back_as_they_were(count: int) -> None:
    tokens = Tokenized(tuple(range(count)), tuple((at, at + 2) for at in range(count)))
    assert unpacked(packed(tokens)) == tokens
