"""Where calls go: weights, priorities, canaries, and what sticks to what."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from arkway.backends.group.chance import Entropy
from arkway.backends.group.sticking import PREFIX_CHARACTERS, key_of, point, score
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, ImagePart, Message, TextPart
from arkway.core.errors import BackendFailed, BackendUnavailable
from arkway.core.upstream import Member, Policy
from tests.tools.pushing import CALL, Dice, asks
from tests.unit.group.conftest import MakeScene, Scene

CALLS = 20_000
SESSION = Policy(stick_to="session")
PREFIX = Policy(stick_to="prefix")


def member(name: str, weight: int = 100, priority: int = 0) -> Member:
    return Member(upstream=name, model="m", weight=weight, priority=priority)


def sent(scene: Scene, calls: int = CALLS) -> Counter[str]:
    """Where so many calls of different sessions go that are all answered."""
    for number in range(calls):
        scene.call(asks(user=f"user-{number}"))
    return Counter({name: len(puppet.asked) for name, puppet in scene.puppets.items() if puppet.asked})


def whereto(scene: Scene, request: ChatRequest) -> str:
    running, _ = scene.call(request)
    running.cancel()
    return running.served


def close_to(count: int, expected: float) -> bool:
    """Within five standard deviations of a fair draw."""
    share = expected / CALLS
    return abs(count - expected) <= 5 * math.sqrt(CALLS * share * (1 - share))


@pytest.mark.parametrize("stick_to", ["nothing", "session"])
def test_calls_are_spread_by_weight(scene: MakeScene, stick_to: str) -> None:
    group = scene(member("a", 100), member("b", 300), member("c", 600), member("none", 0), stick_to=stick_to)
    counts = sent(group)
    assert set(counts) == {"a", "b", "c"}
    assert close_to(counts["a"], 0.1 * CALLS)
    assert close_to(counts["b"], 0.3 * CALLS)
    assert close_to(counts["c"], 0.6 * CALLS)


def test_the_lowest_priority_number_serves_and_the_next_when_none_of_it_can(scene: MakeScene) -> None:
    group = scene(member("far", priority=5), member("a"), member("b"), member("near", priority=1))
    assert set(sent(group, 200)) == {"a", "b"}
    group.member("a").healthy = False
    assert {whereto(group, asks()) for _ in range(50)} == {"b"}
    group.member("b").healthy = False
    assert {whereto(group, asks()) for _ in range(50)} == {"near"}
    group.member("near").healthy = False
    assert {whereto(group, asks()) for _ in range(50)} == {"far"}
    group.member("far").healthy = False
    with pytest.raises(BackendUnavailable):
        group.call()
    group.member("a").healthy = True
    assert whereto(group, asks()) == "a"


def test_a_retry_goes_to_the_same_priority_first(scene: MakeScene) -> None:
    group = scene(member("a"), member("b"), member("near", priority=1), attempts=3)
    running, _ = group.call()
    first = running.served
    group[first].last.fails(BackendFailed("x"))
    assert {first, running.served} == {"a", "b"}
    group[running.served].last.fails(BackendFailed("x"))
    assert running.served == "near"


@pytest.mark.parametrize("stick_to", ["nothing", "session"])
def test_canaries_get_their_shares(scene: MakeScene, stick_to: str) -> None:
    new = Member(upstream="new", model="m2", role="canary", share=5.0)
    newer = Member(upstream="newer", model="m3", role="canary", share=2.0)
    group = scene(member("a"), member("b"), new, newer, stick_to=stick_to)
    counts = sent(group)
    assert close_to(counts["new"], 0.05 * CALLS)
    assert close_to(counts["newer"], 0.02 * CALLS)
    assert close_to(counts["a"], 0.465 * CALLS)


def test_a_canary_that_cannot_or_fails_is_stood_in_for(scene: MakeScene) -> None:
    group = scene("a", Member(upstream="new", model="m2", role="canary", share=100.0))
    running, sink = group.call()
    assert running.served == "new"
    group["new"].last.fails(BackendFailed("x"))
    assert running.served == "a"
    group["a"].last.answers()
    assert sink.error is None
    group.member("new").healthy = False
    assert whereto(group, asks()) == "a"


def test_canaries_and_shadows_stand_in_for_nobody(scene: MakeScene) -> None:
    group = scene(
        "a",
        Member(upstream="new", model="m2", role="canary", share=0.0),
        Member(upstream="trial", model="m3", role="shadow", share=100.0),
    )
    group.member("a").healthy = False
    with pytest.raises(BackendUnavailable):
        group.call()
    assert (group["new"].asked, group["trial"].asked) == ([], [])


def test_a_session_stays_where_it_is_also_with_canaries(scene: MakeScene) -> None:
    group = scene("a", "b", "c", Member(upstream="new", model="m2", role="canary", share=20.0), stick_to="session")
    for number in range(200):
        places = {whereto(group, asks(f"turn {turn}", user=f"u{number}")) for turn in range(5)}
        assert len(places) == 1


def test_a_lost_member_moves_only_its_own_sessions_and_gets_them_back(scene: MakeScene) -> None:
    group = scene(member("a", 100), member("b", 200), member("c", 300), member("d", 400), stick_to="session")
    sessions = [asks(user=f"u{number}") for number in range(2000)]
    before = [whereto(group, session) for session in sessions]
    group.member("b").healthy = False
    without = [whereto(group, session) for session in sessions]
    assert "b" not in without
    assert all(then == now for then, now in zip(before, without, strict=True) if then != "b")
    moved = Counter(now for then, now in zip(before, without, strict=True) if then == "b")
    assert set(moved) == {"a", "c", "d"}
    group.member("b").healthy = True
    assert [whereto(group, session) for session in sessions] == before


def test_a_session_is_the_user_of_an_account_else_the_key() -> None:
    def key(request: ChatRequest, call: Call) -> bytes:
        return key_of(SESSION, request, call)

    assert key(asks("a", user="u"), CALL) == key(asks("b", user="u"), CALL)
    assert key(asks(user="u"), CALL) != key(asks(user="v"), CALL)
    assert key(asks(user="u"), CALL) != key(asks(user="u"), Call("r", "other", "p", "k"))
    assert key(asks(), Call("r1", "a", "p", "k1")) == key(asks("x"), Call("r2", "a", "p", "k1"))
    assert key(asks(), Call("r1", "a", "p", "k1")) != key(asks(), Call("r2", "a", "p", "k2"))


def test_a_prefix_is_the_beginning_of_the_conversation() -> None:
    def key(*messages: Message) -> bytes:
        return key_of(PREFIX, ChatRequest("m", messages), CALL)

    system = Message("system", "s" * PREFIX_CHARACTERS)
    assert key(system, Message("user", "a")) == key(system, Message("user", "b"))
    short = Message("system", "s" * (PREFIX_CHARACTERS - 1))
    assert key(short, Message("user", "ab")) == key(short, Message("user", "ac"))
    assert key(short, Message("user", "ab")) != key(short, Message("user", "bb"))
    assert key(Message("user", "ab")) != key(Message("user", "a"), Message("user", "b"))
    assert key(Message("user", "a")) != key(Message("system", "a"))
    parts = Message("user", (TextPart("a"), ImagePart("data:,"), TextPart("b")))
    assert key(parts) == key(Message("user", "ab"))
    assert key(Message("user", "\ud800")) != key(Message("user", "\ud801"))
    assert key(Message("assistant", None)) == key(Message("assistant", ""))


def test_a_place_is_the_same_in_every_process() -> None:
    assert f"{point(b'acc:user', b'local/qwen'):.12f}" == "0.714110805333"


def test_points_are_even_and_never_at_the_ends() -> None:
    dice = Dice(7)
    points = [point(str(dice()).encode(), b"name") for _ in range(CALLS)]
    assert all(0 < value < 1 for value in points)
    tenths = Counter(int(value * 10) for value in points)
    assert all(close_to(tenths[tenth], CALLS / 10) for tenth in range(10))
    assert all(score(b"k", str(number).encode(), 1) > 0 for number in range(100))


def test_the_systems_entropy_is_even_and_in_range() -> None:
    chance = Entropy()
    drawn = [chance() for _ in range(CALLS)]
    assert all(0 <= value < 1 for value in drawn)
    assert len(set(drawn)) == CALLS
    assert 0.48 < sum(drawn) / CALLS < 0.52  # ten standard deviations
