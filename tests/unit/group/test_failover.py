"""What becomes of one call: who is asked next, what its caller is told, what its members are remembered for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    ContextTooLong,
    Forbidden,
    InternalError,
    InvalidField,
    Misconfigured,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TokenRateLimited,
)
from arkway.core.events import Progress
from arkway.core.upstream import Member
from tests.tools.pushing import END, WORD, Puppet
from tests.unit.group.conftest import MakeScene, Scene

PASSED_ON: tuple[ArkwayError, ...] = (
    BackendUnavailable("refused"),
    BackendFailed("broke"),
    BackendTimeout("silent"),
    Misconfigured("key"),
    Overloaded("full", 3.0),
    RateLimited("rpm", 7.0),
    TokenRateLimited("tpm", 7.0),
    QuotaExhausted("empty"),
)
MISTAKES: tuple[ArkwayError, ...] = (InvalidField("n", "is 9"), ContextTooLong(9, 9, 8), Forbidden("no"))


def in_order(scene: MakeScene, **policy: object) -> Scene:
    """Two members, the first of which is always asked first."""
    return scene(Member(upstream="a", model="m"), Member(upstream="b", model="m", priority=1), **policy)


def named(error: ArkwayError) -> str:
    return type(error).__name__


def test_an_answer_passes_as_it_came(scene: MakeScene) -> None:
    group = in_order(scene)
    running, sink = group.call()
    asked = group["a"].last
    assert running.served == "a"
    asked.says(WORD)
    asked.says(WORD)
    asked.says(END)
    assert not sink.over
    asked.ends()
    assert sink.got == [*WORD, *WORD, *END]
    assert (sink.ends, sink.error) == (1, None)
    assert group.counts("a") == (1, 0, 0)
    assert group.group.running == 0


@pytest.mark.parametrize("error", PASSED_ON, ids=named)
def test_before_the_first_event_the_next_one_is_asked(scene: MakeScene, error: ArkwayError) -> None:
    group = in_order(scene)
    running, sink = group.call()
    group["a"].last.fails(error)
    assert not sink.over
    assert running.served == "b"
    assert group["b"].last.request is group["a"].last.request
    group["b"].last.answers()
    assert (sink.got, sink.error) == ([*WORD, *END], None)
    assert group.counts("b") == (1, 0, 1)


@pytest.mark.parametrize("error", PASSED_ON, ids=named)
def test_what_refuses_at_once_is_passed_over_at_once(scene: MakeScene, error: ArkwayError) -> None:
    group = in_order(scene)
    group["a"].refuses = error
    running, sink = group.call()
    assert running.served == "b"
    group["b"].last.answers()
    assert sink.error is None
    assert group.group.running == 0


@pytest.mark.parametrize("error", PASSED_ON, ids=named)
def test_after_the_first_event_a_failure_is_the_calls(scene: MakeScene, error: ArkwayError) -> None:
    group = in_order(scene)
    _, sink = group.call()
    group["a"].last.says((Progress(1, 7),))
    group["a"].last.fails(error)
    assert sink.error is error
    assert group["b"].asked == []


@pytest.mark.parametrize("error", MISTAKES, ids=named)
@pytest.mark.parametrize("begun", [False, True])
def test_a_callers_mistake_is_told_and_nobodys_fault(scene: MakeScene, error: ArkwayError, begun: bool) -> None:
    group = in_order(scene, breaker_calls=1)
    for _ in range(30):
        _, sink = group.call()
        if begun:
            group["a"].last.says()
        group["a"].last.fails(error)
        assert sink.error is error
    assert group["b"].asked == []
    assert group.counts("a") == (30, 0, 0)
    assert group.state("a") == "well"


def test_a_mistake_that_is_found_at_once_is_raised(scene: MakeScene) -> None:
    group = in_order(scene)
    group["a"].refuses = MISTAKES[0]
    with pytest.raises(InvalidField):
        group.call()
    assert group["b"].asked == []
    assert group.group.running == 0


def test_a_mistake_that_only_the_second_one_finds_is_told(scene: MakeScene) -> None:
    group = in_order(scene)
    _, sink = group.call()
    group["b"].refuses = MISTAKES[0]
    group["a"].last.fails(BackendFailed("x"))
    assert sink.error is MISTAKES[0]


def test_a_defect_of_a_backend_is_an_internal_error_and_another_ones_turn(scene: MakeScene) -> None:
    group = in_order(scene)
    group["a"].refuses = ZeroDivisionError()
    running, sink = group.call()
    assert running.served == "b"
    group["b"].last.answers()
    assert sink.error is None
    group["b"].refuses = ValueError("SECRET")
    with pytest.raises(InternalError):
        group.call()
    assert group.group.running == 0


def test_an_answer_without_any_event_is_a_failure_and_asked_again(scene: MakeScene) -> None:
    group = in_order(scene)
    _, sink = group.call()
    group["a"].last.ends()
    assert not sink.over
    group["b"].last.ends()
    assert isinstance(sink.error, BackendFailed)
    assert (group.counts("a"), group.counts("b")) == ((1, 1, 0), (1, 1, 1))


@pytest.mark.parametrize("attempts", [0, 1, 2, 3, 4, 9])
def test_so_many_are_asked_each_once_and_the_last_failure_is_told(scene: MakeScene, attempts: int) -> None:
    names = "abcd"
    group = scene(*names, attempts=attempts)
    running, sink = group.call()
    failures = []
    while not sink.over:
        failures.append(BackendFailed(running.served))
        group[running.served].last.fails(failures[-1])
    assert len(failures) == len({error.message for error in failures}) == max(1, min(attempts, 4))
    assert sink.error is failures[-1]


def test_a_wish_to_be_left_alone_is_granted_until_then(scene: MakeScene) -> None:
    group = in_order(scene)
    group.call()
    group["a"].last.fails(RateLimited("x", 7.0))
    assert group.state("a") == "waiting"
    group.clock.pass_(6.9)
    assert group.call()[0].served == "b"
    group.clock.pass_(0.2)
    assert group.call()[0].served == "a"
    assert group.counts("a") == (2, 0, 0)


def test_nobody_is_left_alone_for_longer_than_a_minute(scene: MakeScene) -> None:
    group = in_order(scene)
    group.call()
    group["a"].last.fails(Overloaded("x", 86_400.0))
    group.clock.pass_(60.1)
    assert group.call()[0].served == "a"


@pytest.mark.parametrize(
    "make", [lambda s: RateLimited("x", s), lambda s: TokenRateLimited("x", s), lambda s: Overloaded("x", s)]
)
def test_when_all_want_to_be_left_alone_the_caller_is_told_until_when(
    scene: MakeScene, make: Callable[[float], RateLimited | Overloaded]
) -> None:
    group = in_order(scene)
    _, sink = group.call()
    group["a"].last.fails(make(20.0))
    group["b"].last.fails(make(3600.0))
    assert type(sink.error) is type(make(1))
    assert sink.error.retry_after_s == 60.0
    group.clock.pass_(5.0)
    with pytest.raises(type(make(1))) as told:
        group.call()
    assert told.value.retry_after_s == pytest.approx(15.0)
    assert len(group["a"].asked) == len(group["b"].asked) == 1


def test_a_refusal_is_told_rather_than_the_failure_after_it(scene: MakeScene) -> None:
    group = in_order(scene)
    _, sink = group.call()
    group["a"].last.fails(RateLimited("x", 9.0))
    group["b"].last.fails(BackendUnavailable("x"))
    assert isinstance(sink.error, RateLimited)
    assert sink.error.retry_after_s == 9.0


def test_an_upstreams_empty_account_is_not_the_callers(scene: MakeScene) -> None:
    group = scene("a")
    _, sink = group.call()
    group["a"].last.fails(QuotaExhausted("the account 2100000 owes money"))
    assert isinstance(sink.error, BackendUnavailable)
    assert "2100000" not in sink.error.message
    assert group.counts("a") == (1, 1, 0)


def test_all_broken_fails_at_once_until_one_call_may_try(scene: MakeScene) -> None:
    group = scene("a", breaker_calls=2, breaker_open_s=5.0)
    for _ in range(2):
        group.call()
        group["a"].last.fails(BackendFailed("x"))
    assert group.state("a") == "broken"
    with pytest.raises(BackendUnavailable):
        group.call()
    group.clock.pass_(5.0)
    _, sink = group.call()
    assert group.state("a") == "trying"
    with pytest.raises(BackendUnavailable):
        group.call()
    group["a"].last.says()
    assert group.state("a") == "well"
    group.call()
    group["a"].asked[-2].says(END)
    group["a"].asked[-2].ends()
    assert sink.error is None


def test_a_trying_call_that_fails_is_retried_elsewhere_and_shuts_the_member_out_again(scene: MakeScene) -> None:
    group = in_order(scene, breaker_calls=2)
    for _ in range(2):
        group.call()
        group["a"].last.fails(BackendFailed("x"))
    group.clock.pass_(5.0)
    running, sink = group.call()
    assert running.served == "a"
    group["a"].last.fails(BackendTimeout("x"))
    assert running.served == "b"
    assert group.state("a") == "broken"
    group["b"].last.answers()
    assert sink.error is None
    assert group.call()[0].served == "b"


@pytest.mark.parametrize("how", ["cancel", "mistake", "refusal"])
def test_a_trying_call_that_says_nothing_leaves_the_next_one_to_try(scene: MakeScene, how: str) -> None:
    group = in_order(scene, breaker_calls=2)
    for _ in range(2):
        group.call()
        group["a"].last.fails(BackendFailed("x"))
    group.clock.pass_(5.0)
    running, _ = group.call()
    assert (running.served, group.call()[0].served) == ("a", "b")
    if how == "cancel":
        running.cancel()
    else:
        group["a"].last.fails(MISTAKES[0] if how == "mistake" else Overloaded("x", 2.0))
        group.clock.pass_(2.1)
    assert group.call()[0].served == "a"


def test_a_break_in_the_middle_counts_against_the_member(scene: MakeScene) -> None:
    group = in_order(scene, breaker_calls=3)
    for _ in range(3):
        group.call()
        group["a"].last.says()
        group["a"].last.fails(BackendFailed("x"))
    assert group.state("a") == "broken"
    assert group.counts("a") == (3, 3, 0)


def test_a_call_cancelled_before_its_first_event_counts_for_nothing(scene: MakeScene) -> None:
    group = in_order(scene, breaker_calls=1)
    running, sink = group.call()
    running.cancel()
    running.cancel()
    assert group["a"].last.cancelled
    group["a"].last.answers()
    assert (sink.got, sink.ends) == ([], 0)
    recent = group.member("a").breaker.recent
    assert (recent.good, recent.bad) == (0, 0)
    assert group.group.running == 0


def test_a_call_cancelled_in_the_middle_was_a_good_one(scene: MakeScene) -> None:
    group = in_order(scene)
    running, sink = group.call()
    group["a"].last.says()
    running.cancel()
    assert group["a"].last.cancelled
    assert sink.ends == 0
    recent = group.member("a").breaker.recent
    assert (recent.good, recent.bad) == (1, 0)
    assert group.group.running == 0


def test_what_runs_is_paused_resumed_and_cancelled_wherever_it_is(scene: MakeScene) -> None:
    group = in_order(scene)
    running, _ = group.call()
    running.pause()
    assert group["a"].last.told == ["pause"]
    group["a"].last.fails(BackendFailed("x"))
    assert group["b"].last.told == ["pause"]
    running.resume()
    assert group["b"].last.told == ["pause", "resume"]
    running.cancel()
    running.pause()
    running.resume()
    assert group["b"].last.told == ["pause", "resume", "cancel"]
    assert group["a"].last.told == ["pause"]


def test_from_the_first_event_on_nothing_is_in_the_way(scene: MakeScene) -> None:
    group = in_order(scene)
    running, sink = group.call()
    before = running.events
    group["a"].last.says()
    assert running.events == sink.events
    before(WORD)  # a member that looked it up once is served as well
    assert sink.got == [*WORD, *WORD]


@pytest.mark.parametrize("begun", [False, True])
def test_a_member_that_keeps_a_call_for_too_long_has_failed(scene: MakeScene, begun: bool) -> None:
    group = in_order(scene, breaker_calls=1)
    running, sink = group.call()
    asked = group["a"].last
    if begun:
        asked.says(WORD)
    running.expire()
    running.expire()
    running.cancel()
    assert asked.told == ["cancel"]
    assert not sink.over
    assert group.counts("a") == (1, 1, 0)
    assert (group.state("a"), group.group.running) == ("broken", 0)


def test_a_trying_call_that_is_kept_for_too_long_leaves_the_breaker_open(scene: MakeScene) -> None:
    group = in_order(scene, breaker_calls=1, breaker_open_s=5.0)
    group.call()
    group["a"].last.fails(BackendFailed("x"))
    group.clock.pass_(5.0)
    running, _ = group.call()
    assert group.state("a") == "trying"
    running.expire()
    assert group.state("a") == "broken"


def changed(scene: Scene, **policy: object) -> Scene:
    """The group in whose place another one has come, with one member more."""
    before = scene.group
    value = replace(before.value, members=(*before.value.members, Member(upstream="new", model="m", priority=2)))
    scene.puppets["new"] = Puppet()
    scene.group = scene.made(replace(value, policy=replace(value.policy, **policy)), before)
    assert scene.group is not before
    return scene


def test_a_group_that_is_changed_remembers_its_members(scene: MakeScene) -> None:
    group = in_order(scene, breaker_calls=2, breaker_open_s=5.0)
    for _ in range(2):
        group.call()
        group["a"].last.fails(BackendFailed("x"))
    group.call()
    group["b"].last.fails(Overloaded("x", 9.0))
    assert (group.state("a"), group.state("b")) == ("broken", "waiting")
    counts = group.counts("a")
    changed(group, attempts=3)
    assert (group.state("a"), group.state("b"), group.state("new")) == ("broken", "waiting", "well")
    assert group.counts("a") == counts
    assert group.call()[0].served == "new"
    group.clock.pass_(5.0)
    assert group.call()[0].served == "a"


def test_a_call_under_way_is_told_to_the_breaker_of_the_new_group_and_counted_in_the_old_one(scene: MakeScene) -> None:
    group = in_order(scene, breaker_calls=1, breaker_open_s=5.0)
    group.call()
    group["a"].last.fails(BackendFailed("x"))
    group.clock.pass_(5.0)
    running, sink = group.call()
    old = group.group
    changed(group, breaker_open_s=1.0)
    assert (running.served, group.state("a"), old.running, group.group.running) == ("a", "trying", 2, 0)
    group["a"].last.answers()
    assert sink.error is None
    assert (group.state("a"), old.running) == ("well", 1)


def test_a_member_with_another_server_behind_it_begins_anew(scene: MakeScene) -> None:
    group = in_order(scene, breaker_calls=1)
    group.call()
    group["a"].last.fails(BackendFailed("x"))
    group.puppets["a"] = Puppet()
    changed(group)
    assert (group.state("a"), group.counts("a")) == ("well", (0, 0, 0))
