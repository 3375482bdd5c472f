"""What waits for a moderator's verdicts, in the order in which it came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from arkway.backends.moderation.asking import ASKED_AT_ONCE, Judge, ModeratorSilent
from arkway.backends.moderation.filtering import OF_A_CHOICE, REASONING, TEXT, Key, emptied
from arkway.backends.moderation.settings import Mode
from arkway.backends.moderation.windows import Cutter, Window
from arkway.core.errors import ArkwayError
from arkway.core.events import Delta, Event, Finished, Progress, Quoted, ToolDelta
from arkway.core.transient import Transient

WHOLE_CHARS = 4000
SIGN_OF_LIFE_S = 5.0
TELL_TOKENS = 16
"""So many tokens that nobody can be shown yet are told of: they count, whatever becomes of the call."""

_replace = msgspec.structs.replace


class _Waiting(Transient):
    """An event, and what has to be allowed before it goes out."""

    event: Event
    windows: tuple[Window, ...] = ()


class Gate:
    """Lets events through as verdicts come. ``stop`` is called when nothing more is wanted of the backend.

    ``send`` gets events, ``end`` the end: None, or what went wrong. Belongs to one call and the event loop; `close`
    ends what is under way.
    """

    def __init__(
        self,
        judge: Judge,
        mode: Mode,
        question: str,
        choices: int,
        send: Callable[[Sequence[Event]], None],
        stop: Callable[[ArkwayError | None], None],
        told: Callable[[str], None],
    ) -> None:
        self._judge, self._mode, self._question, self._choices = judge, mode, question, choices
        self._send, self._stop, self._told = send, stop, told
        self._queue: deque[_Waiting] = deque()
        self._cutters: dict[Key, Cutter] = {}
        self._windows: dict[int, list[Window]] = {}  # of each choice, those without a verdict that allows them
        self._to_ask: deque[Window] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: set[int] = set()
        self._complete = self._over = False
        self._said: dict[int, int] = {}  # of each choice, the text that was last added to
        self._spent = self._told_spent = Delta("")  # the counts of the event that came last, and of what went out
        self._sent_s = asyncio.get_running_loop().time()

    def put(self, batch: Sequence[Event]) -> None:
        """More of the answer."""
        for event in batch:
            if not isinstance(event, OF_A_CHOICE):
                self._queue.append(_Waiting(event))
            elif event.index in self._ended:
                continue
            elif isinstance(event, Finished):
                self._finish(event)
            else:
                self._put(event)
        self._drain()

    def complete(self) -> None:
        """The backend has ended, as it should."""
        self._complete = True
        self._drain()

    def close(self) -> None:
        self._over = True
        for task in self._tasks:
            task.cancel()

    # What goes in

    def _put(self, event: Delta | Quoted | ToolDelta) -> None:
        if not isinstance(event, Quoted) and event.completion_tokens:
            self._spent = Delta("", event.index, "", (), event.completion_tokens, event.prompt_tokens)
        if isinstance(event, ToolDelta):
            self._put_part(event, event.position, event.arguments)
            return
        if isinstance(event, Quoted):
            self._put_part(event, TEXT, event.delta().text)
            return
        if event.reasoning and event.text:
            self._put_part(_replace(event, text="", logprobs=()), REASONING, event.reasoning)
            event = _replace(event, reasoning="")
        self._put_part(event, REASONING if event.reasoning else TEXT, event.reasoning or event.text)

    def _put_part(self, event: Delta | Quoted | ToolDelta, name: int, text: str) -> None:
        if text:
            self._turn(event.index, name)
        parts = self._cutter(event.index, name).cut(text)
        for window in dict.fromkeys(window for _, window in parts if window.closed):
            self._ask(window)
        if self._mode == "async" or not parts:
            self._queue.append(_Waiting(event))
        else:
            self._queue.append(_Waiting(event, tuple(window for _, window in parts)))

    def _turn(self, index: int, name: int) -> None:
        """Another text of the choice begins, perhaps the last was broken off within a sentence: nothing waits for its
        end."""
        before = self._said.get(index, name)
        self._said[index] = name
        if before != name and (window := self._cutters[index, before].close()) is not None:
            self._ask(window)

    def _finish(self, event: Finished) -> None:
        for (index, _), cutter in self._cutters.items():
            if index == event.index and (window := cutter.close()) is not None:
                self._ask(window)
        self._queue.append(_Waiting(event, tuple(self._windows.get(event.index, ()))))

    def _cutter(self, index: int, name: int) -> Cutter:
        found = self._cutters.get((index, name))
        if found is None:
            final = self._mode == "final"
            chars = WHOLE_CHARS if final else self._judge.settings.window_chars
            found = self._cutters[index, name] = Cutter(index, chars, not final)
        return found

    # Verdicts

    def _ask(self, window: Window) -> None:
        self._windows.setdefault(window.index, []).append(window)
        self._to_ask.append(window)
        self._ask_more()

    def _ask_more(self) -> None:
        while self._to_ask and len(self._tasks) < ASKED_AT_ONCE and not self._over:
            task = asyncio.get_running_loop().create_task(self._judged(self._to_ask.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._over:
            self._ask_more()
            self._drain()

    async def _judged(self, window: Window) -> None:
        verdict = await self._judge.verdict("output", window.before + window.text, self._question)
        if window.index in self._ended:
            return  # by another verdict
        if not verdict.allowed or verdict.by != "moderator":
            self._told("block" if verdict.by == "moderator" else f"fail_{verdict.by}")
        window.verdict = verdict
        if verdict.allowed:
            self._windows[window.index].remove(window)

    # What comes out

    def _drain(self) -> None:
        if self._over:
            return
        out: list[Event] = []
        refused = self._refused()
        while self._queue and refused is None:
            windows = self._queue[0].windows
            if not all(window.allowed for window in windows):
                refused = next((window for window in windows if window.refused), None)
                break
            event = self._queue.popleft().event
            if isinstance(event, Finished):
                self._ended.add(event.index)
            out.append(event)
        if refused is not None:
            self._block(refused, out)
        else:
            self._pass(out)

    def _refused(self) -> Window | None:
        """What is refused though it has gone out already."""
        if self._mode != "async":
            return None
        return next((each for found in self._windows.values() for each in found if each.refused), None)

    def _pass(self, out: list[Event]) -> None:
        now_s = asyncio.get_running_loop().time()
        if not out and self._queue:
            out = self._unshown(now_s)
        elif not self._queue:
            self._told_spent = self._spent
        if out:
            self._sent_s = now_s
            self._send(out)
        if self._complete and not self._queue and not self._over:
            self._over = True
            self._stop(None)

    def _unshown(self, now_s: float) -> list[Event]:
        """What can be told of a backend that works though nothing of it can be shown."""
        spent = self._spent
        if (
            spent.index not in self._ended
            and spent.completion_tokens >= self._told_spent.completion_tokens + TELL_TOKENS
        ):
            self._told_spent = spent
            return [spent]
        return [Progress(0, 0)] if now_s - self._sent_s > SIGN_OF_LIFE_S else []

    def _block(self, window: Window, out: list[Event]) -> None:
        """Ends the window's choice; the tokens that wait with it were spent."""
        index, verdict = window.index, window.verdict
        assert verdict is not None
        left: deque[_Waiting] = deque()
        for waiting in self._queue:
            event = waiting.event
            if not isinstance(event, OF_A_CHOICE) or event.index != index:
                left.append(waiting)
            elif not isinstance(event, Finished):
                out.append(emptied(event))
        self._queue = left
        self._windows.pop(index, None)
        self._ended.add(index)
        if verdict.by == "closed":
            self._send_if_any(out)
            self._end(ModeratorSilent())
            return
        self._send_if_any([*out, Finished("content_filter", index, verdict.hit)])
        if len(self._ended) >= self._choices:
            self._end(None)
        else:
            self._drain()

    def _send_if_any(self, out: list[Event]) -> None:
        if out:
            self._send(out)

    def _end(self, error: ArkwayError | None) -> None:
        self.close()
        self._stop(error)
