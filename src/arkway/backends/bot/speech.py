"""What the model behind a bot says, on its way to the caller: one model call's events, made into the bot's.

Citations are checked, counts are set on top of the model calls before, the ends of choices and the usage are held until
the whole call is over, and calls of the bot's own functions stay here.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from arkway.backends.bot.citations import CitationFilter, Cites
from arkway.backends.bot.counting import StageCount
from arkway.core.chat import ToolCall, Usage
from arkway.core.events import Delta, Event, Finished, Progress, Quoted, ToolDelta, UsageReport

PIECES = (Delta, Quoted, ToolDelta)
"""What an answer consists of, to the caller."""
CALLS_MAX = 8
"""Functions that a model may call in one round; of more no notice is taken."""
ARGUMENTS_MAX_CHARACTERS = 8192


class Speech:
    """One model call that speaks to the caller.

    ``cites`` None = the answer is data, and brackets in it are its own. ``before`` is what the model calls before have
    used. ``own_calls``: whatever function is called is the bot's. ``heavy``: the prompt is not
    the one that the caller sent; where the model does not count along, its first event is made to say what it has read.
    ``filters`` are those of the choices, for all model calls: to the caller their texts are one. ``begun``: it has said
    something.
    """

    def __init__(
        self,
        cites: Cites | None,
        filters: dict[int, CitationFilter],
        count: StageCount,
        before: Usage,
        *,
        own_calls: bool,
        heavy: bool,
    ) -> None:
        self._cites, self._filters = cites, filters
        self._count = count
        self._before = before
        self._shifted = before.total_tokens > 0
        self._own_calls = own_calls
        self._heavy = heavy or self._shifted
        self._calls: dict[int, list[str]] = {}
        self._said: list[Delta | Quoted] = []
        self.begun = False
        self.ends: list[Finished] = []

    def take(self, batch: Sequence[Event]) -> list[Event]:
        """What of this goes on to the caller now."""
        out: list[Event] = []
        count = self._count
        for event in batch:
            if isinstance(event, Quoted):
                self.begun = True
                count.quoted(event)
                out.append(self._quoted(event))
            elif isinstance(event, Delta):
                self.begun = True
                count.piece(event)
                out.append(self._delta(event))
            elif isinstance(event, Finished):
                self._finished(event, out)
            elif isinstance(event, UsageReport):
                count.reported = event.usage
            elif isinstance(event, ToolDelta):
                self.begun = True
                count.piece(event)
                self._called(event, out)
            elif isinstance(event, Progress):
                count.progress(event)
                read = self._before.prompt_tokens
                out.append(Progress(event.done + read, event.total + read) if read else event)
            # What else there is, is a bot's, and no bot's word is ours but our own.
        return out

    def calls(self) -> list[ToolCall]:
        """The bot's own functions that are called, in order."""
        found = [ToolCall(*self._calls[place]) for place in sorted(self._calls)]
        return [replace(call, id=call.id or f"call_{place}") for place, call in enumerate(found)]

    def said(self) -> str:
        """Its text as the caller has it; kept only where the bot's functions may be called."""
        return "".join([(each.delta() if isinstance(each, Quoted) else each).text for each in self._said])

    def _quoted(self, event: Quoted) -> Event:
        if self._heavy:
            return self._delta(event.delta())
        kept = event if self._cites is None else self._filter(self._cites, event.index).quoted(event)
        if self._own_calls:
            self._said.append(kept)
        return kept

    def _delta(self, event: Delta) -> Delta:
        if self._heavy or self._shifted:
            spent = self._spent(event)
            event = event if spent is None else replace(event, prompt_tokens=spent[0], completion_tokens=spent[1])
        kept = event if self._cites is None else self._filter(self._cites, event.index).delta(event)
        if self._own_calls:
            self._said.append(kept)
        return kept

    def _spent(self, event: Delta | ToolDelta) -> tuple[int, int] | None:
        """Tokens of the whole call so far; None where the event does not say any and need not."""
        heavy, self._heavy = self._heavy, False
        before = self._before
        read, written = event.prompt_tokens, event.completion_tokens
        if heavy and not written:
            return before.prompt_tokens + (read or self._count.guess()), before.completion_tokens + 1
        if not self._shifted:
            return None
        return (read and before.prompt_tokens + read), (written and before.completion_tokens + written)

    def _called(self, event: ToolDelta, out: list[Event]) -> None:
        if not self._own_calls:
            if self._heavy or self._shifted:
                spent = self._spent(event)
                event = event if spent is None else replace(event, prompt_tokens=spent[0], completion_tokens=spent[1])
            out.append(event)
        elif event.position in self._calls or len(self._calls) < CALLS_MAX:
            call = self._calls.setdefault(event.position, ["", "", ""])
            call[0] = call[0] or event.id
            call[1] = call[1] or event.name
            call[2] += event.arguments[: ARGUMENTS_MAX_CHARACTERS - len(call[2])]

    def _finished(self, event: Finished, out: list[Event]) -> None:
        checked = self._filters.get(event.index)
        if checked is not None and (rest := checked.rest(event.index)) is not None:
            out.append(rest)
            self._said.append(rest)
        if self._own_calls and event.reason in ("tool_calls", "function_call"):
            event = replace(event, reason="stop")
        self.ends.append(event)

    def _filter(self, cites: Cites, index: int) -> CitationFilter:
        found = self._filters.get(index)
        if found is None:
            found = self._filters[index] = CitationFilter(cites)
        return found
