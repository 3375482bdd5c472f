"""What every call makes is told apart, and shown, by identity: a line that names it says nothing of what it holds."""

from __future__ import annotations

import msgspec

from arkway.core.transient import Transient


class Holding(Transient):
    prompt: str
    found: list[str] = msgspec.field(default_factory=list)


class More(Holding):
    key: str = ""


def test_what_it_holds_is_not_shown() -> None:
    for held in (Holding("PROMPT", ["PROMPT"]), More("PROMPT", key="SECRET")):
        for text in (repr(held), str(held), f"{held}", repr([held]), repr(held.__repr__)):
            assert "PROMPT" not in text
            assert "SECRET" not in text
            assert type(held).__name__ in text


def test_two_that_hold_the_same_are_two() -> None:
    one, other = More("a"), More("a")
    assert one != other
    assert len({one, other}) == 2
    assert one.found is not other.found
