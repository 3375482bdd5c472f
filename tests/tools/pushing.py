"""Doubles of the push seam: a backend whose answers the test gives by hand, a sink that keeps what it is told, a clock
that stands still, and chance that comes out the same each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Message
from arkway.core.errors import ArkwayError
from arkway.core.events import Delta, Event, Finished
from arkway.core.model import Deployment, Endpoint
from arkway.ports import Sink
from arkway.testing import CHAT_CARD

DEPLOYMENT = Deployment(Endpoint("ep-1", "m", "m", "1", "running", "a", "p", 0), CHAT_CARD, "upstream")
CALL = Call("req-1", "acc", "proj", "key-1")
WORD = (Delta("字", completion_tokens=1, prompt_tokens=1),)
END = (Finished("stop"),)


def asks(text: str = "问", user: str = "", system: str = "") -> ChatRequest:
    before = (Message("system", system),) if system else ()
    return ChatRequest("m", (*before, Message("user", text)), user=user, stream=True)


class Clock:
    """Seconds, moved by hand, and what is to be done at some of them."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self.alarms: list[Alarm] = []

    def __call__(self) -> float:
        return self.now_s

    def pass_(self, seconds: float) -> None:
        self.now_s += seconds
        for alarm in [alarm for alarm in self.alarms if alarm.due_s <= self.now_s]:
            alarm.cancel()
            alarm.done()

    def later(self, seconds: float, done: Callable[[], None]) -> Alarm:
        """As an event loop's ``call_later``."""
        self.alarms.append(Alarm(self, self.now_s + seconds, done))
        return self.alarms[-1]


class Alarm:
    """Something that is done at ``due_s`` of a clock, unless it is called off."""

    def __init__(self, clock: Clock, due_s: float, done: Callable[[], None]) -> None:
        self._clock = clock
        self.due_s, self.done = due_s, done

    def cancel(self) -> None:
        if self in self._clock.alarms:
            self._clock.alarms.remove(self)


class Dice:
    """Numbers in [0, 1), even and the same in every run (SplitMix64)."""

    def __init__(self, seed: int = 1) -> None:
        self._state = seed

    def __call__(self) -> float:
        self._state = (self._state + 0x9E3779B97F4A7C15) % 2**64
        mixed = self._state
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        return ((mixed ^ (mixed >> 31)) >> 11) * 2.0**-53


class Asked:
    """One call at a `Puppet`: the test says what becomes of it. Says no more than the seam allows; ``told`` is what it
    was told as `arkway.ports.Running`."""

    def __init__(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> None:
        self.deployment, self.request, self.call = deployment, request, call
        self._sink = sink
        self.told: list[str] = []
        self.cancelled = self.over = False

    def says(self, batch: Sequence[Event] = WORD) -> None:
        assert not self.over, "it has ended"
        if not self.cancelled:
            self._sink.events(batch)

    def ends(self) -> None:
        self.over = True
        if not self.cancelled:
            self._sink.ended()

    def fails(self, error: ArkwayError) -> None:
        self.over = True
        if not self.cancelled:
            self._sink.failed(error)

    def answers(self) -> None:
        self.says((*WORD, *END))
        self.ends()

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def cancel(self) -> None:
        self.told.append("cancel")
        self.cancelled = True


class Puppet:
    """Implements `arkway.ports.Pushing`. ``refuses``: what its ``start`` raises; ``acts``: what it does of itself."""

    def __init__(self, acts: Callable[[Asked], None] | None = None) -> None:
        self.asked: list[Asked] = []
        self.refuses: Exception | None = None
        self._acts = acts

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Asked:
        asked = Asked(deployment, request, call, sink)
        self.asked.append(asked)
        if self.refuses is not None:
            asked.over = True
            raise self.refuses
        return asked

    def act(self) -> bool:
        """Does what it does of itself to each call that is not over; whether there was one."""
        waiting = [asked for asked in self.asked if not asked.over and not asked.cancelled]
        for asked in waiting:
            assert self._acts is not None
            self._acts(asked)
        return bool(waiting)


class Kept:
    """Implements `arkway.ports.Sink`; fails where it is told of more than one end, or of anything after it."""

    def __init__(self) -> None:
        self.got: list[Event] = []
        self.error: ArkwayError | None = None
        self.ends = 0

    @property
    def over(self) -> bool:
        return self.ends > 0

    def events(self, batch: Sequence[Event]) -> None:
        assert not self.over, "events after the end"
        assert batch
        self.got.extend(batch)

    def ended(self) -> None:
        self.ends += 1
        assert self.ends == 1

    def failed(self, error: ArkwayError) -> None:
        self.error = error
        self.ended()
