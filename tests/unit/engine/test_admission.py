from __future__ import annotations

import asyncio

import pytest

from arkway.backends.engine.admission import Gate, Grant, Line
from arkway.core.errors import Overloaded

A, B = ("account-a", "k1"), ("account-b", "k1")


def test_callers_take_turns() -> None:
    line = Line(slots=1, limit=64)
    for number in range(50):
        line.join(A, f"a{number}")
    line.join(B, "b0")
    served = []
    for _ in range(4):
        turn = line.next()
        assert turn is not None
        served.append(turn[0])
        line.release(turn[1].slot)
    assert "b0" in served[:2]
    assert served[-1] == "a2"


def test_two_keys_of_one_account_are_two_callers() -> None:
    line = Line(slots=1, limit=64)
    line.join(A, "first")
    line.join(A, "second")
    line.join(("account-a", "k2"), "other key")
    order = []
    while (turn := line.next()) is not None:
        order.append(turn[0])
        line.release(turn[1].slot)
    assert order == ["first", "other key", "second"]


def test_a_slot_of_the_same_account_is_preferred() -> None:
    line = Line(slots=3, limit=64)

    def turn(key: tuple[str, str]) -> Grant:
        line.join(key, "ticket")
        found = line.next()
        assert found is not None
        line.hold(found[1].slot, key[0])
        return found[1]

    first = turn(A)
    other = turn(B)
    assert not first.same_account
    assert first.slot != other.slot
    line.release(first.slot)
    line.release(other.slot)
    assert turn(A) == Grant(first.slot, True)
    assert turn(B) == Grant(other.slot, True)
    assert not turn(B).same_account


def test_another_accounts_slot_is_never_marked_as_own() -> None:
    line = Line(slots=1, limit=64)
    line.join(A, "a")
    line.join(B, "b")
    first = line.next()
    assert first is not None
    assert line.next() is None
    line.hold(first[1].slot, A[0])
    line.release(first[1].slot)
    second = line.next()
    assert second is not None
    assert second[1] == Grant(first[1].slot, False)


def test_a_turn_that_sent_nothing_leaves_the_slot_to_nobody() -> None:
    """The engine still holds A's prefix when B, who was granted the slot, left before the engine read a prompt."""
    line = Line(slots=1, limit=64)

    def turn(key: tuple[str, str]) -> Grant:
        line.join(key, "ticket")
        found = line.next()
        assert found is not None
        return found[1]

    line.hold(turn(A).slot, A[0])
    line.release(0)
    assert turn(B) == Grant(0, False)
    line.release(0)
    assert turn(B) == Grant(0, False)
    line.hold(0, B[0])
    line.release(0)
    assert turn(B) == Grant(0, True)
    line.release(0)
    assert turn(A) == Grant(0, False)


def test_restart_forgets_who_used_what() -> None:
    line = Line(slots=1, limit=64)
    for same in (False, False):
        line.join(A, "a")
        turn = line.next()
        assert turn is not None
        assert turn[1].same_account is same
        line.hold(turn[1].slot, A[0])
        line.release(turn[1].slot)
        line.forget_slots()


def test_the_line_is_bounded() -> None:
    line = Line(slots=1, limit=2)
    line.prepare(3)
    with pytest.raises(Overloaded):
        line.prepare(1)
    line.prepared(3)
    line.prepare(1)


async def test_waiting_too_long_is_refused_and_leaves_the_line() -> None:
    gate = Gate(slots=1, limit=4, wait_limit_s=0.05)
    held = await gate.enter(A)
    with pytest.raises(Overloaded):
        await gate.enter(B)
    assert gate.line.waiting == 0
    gate.leave(held)
    assert (await gate.enter(B)).slot == held.slot


async def test_a_caller_that_leaves_is_out_of_the_line_at_once() -> None:
    gate = Gate(slots=1, limit=4, wait_limit_s=5)
    held = await gate.enter(A)
    waiting = asyncio.create_task(gate.enter(B))
    await asyncio.sleep(0)
    assert gate.line.waiting == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert gate.line.waiting == 0
    gate.leave(held)
    assert gate.line.busy == 0


async def test_a_turn_given_to_one_who_leaves_in_the_same_instant_is_passed_on() -> None:
    gate = Gate(slots=1, limit=4, wait_limit_s=5)
    held = await gate.enter(A)
    leaving = asyncio.create_task(gate.enter(B))
    staying = asyncio.create_task(gate.enter(A))
    await asyncio.sleep(0)
    gate.leave(held)
    leaving.cancel()
    assert (await staying).slot == held.slot
    assert gate.line.busy == 1
