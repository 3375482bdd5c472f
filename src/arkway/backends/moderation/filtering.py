"""The events of one answer, searched: text, thoughts and the arguments of tools, each a text of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from arkway.backends.moderation.folding import characters, escaped
from arkway.backends.moderation.scanning import Chain, Hit
from arkway.backends.moderation.strategy import Strategy
from arkway.core.chat import LogprobEntry
from arkway.core.events import Delta, Event, Finished, Quoted, ToolDelta
from arkway.core.transient import Transient

OF_A_CHOICE = (Quoted, Delta, ToolDelta, Finished)
TEXT, REASONING = -1, -2
"""Names of texts in a choice; a tool's arguments are named by its position."""

Key = tuple[int, int]
"""A choice's index, and the name of a text in it."""

_replace = msgspec.structs.replace


class _Scored(Transient):
    """Log-probabilities that wait for their text to go out."""

    entries: tuple[LogprobEntry, ...]
    end: int


class Filter:
    """What goes in as events of a backend comes out as events for the client.

    Every event that carries text comes out as one, be its text empty by now: it is a token that was spent. ``masks``
    tells whether anything was masked; ``found`` is called with the hit that ends a choice. ``scored``: there may be
    log-probabilities.
    """

    def __init__(self, strategy: Strategy, found: Callable[[Hit], None], *, scored: bool = False) -> None:
        self._strategy, self._found, self._scored = strategy, found, scored
        self._texts: dict[Key, Chain] = {}
        self._said: dict[int, int] = {}  # of each choice, the text that was last added to
        self._scores: dict[int, _Scores] = {}
        self.ended: set[int] = set()
        self.masks = False

    def passed(self, batch: Sequence[Event]) -> list[Event]:
        """What becomes of a batch."""
        out: list[Event] = []
        for event in batch:
            if not isinstance(event, OF_A_CHOICE):
                out.append(event)
            elif event.index in self.ended:
                continue
            elif isinstance(event, Quoted):
                self._quoted(event, out)
            elif isinstance(event, Delta):
                self._delta(event, out)
            elif isinstance(event, ToolDelta):
                self._tool(event, out)
            else:
                self._finish(event, out)
        return out

    def _quoted(self, event: Quoted, out: list[Event]) -> None:
        if self._scored:
            self._delta(event.delta(), out)
            return
        literal = event.literal
        text = event.delta().text if b"\\" in literal else literal[1:-1].decode()
        clean = self._search(TEXT, event.index, text, out)
        out.append(event if clean == text else Delta(clean, event.index))
        self._end_if_found((event.index, TEXT), out)

    def _delta(self, event: Delta, out: list[Event]) -> None:
        index, thought, text = event.index, event.reasoning, event.text
        if thought:
            thought = self._search(REASONING, index, thought, out)
            if self._texts[index, REASONING].found is not None:
                out.append(_replace(event, text="", reasoning=thought, logprobs=()))
                self._end_if_found((index, REASONING), out)
                return
        clean = self._search(TEXT, index, text, out) if text else ""
        entries = self._due(event, clean) if self._scored else ()
        if clean == text and thought == event.reasoning and entries == event.logprobs:
            out.append(event)
        else:
            out.append(_replace(event, text=clean, reasoning=thought, logprobs=entries))
        if text:
            self._end_if_found((index, TEXT), out)

    def _due(self, event: Delta, clean: str) -> tuple[LogprobEntry, ...]:
        scores = self._scores.setdefault(event.index, _Scores(self._strategy))
        scores.add(event.text, event.logprobs)
        return scores.due(event.text, clean)

    def _tool(self, event: ToolDelta, out: list[Event]) -> None:
        clean = self._search(event.position, event.index, event.arguments, out)
        if clean == event.arguments:
            out.append(event)
        elif clean or event.name or event.id:
            out.append(_replace(event, arguments=clean))
        else:
            out.append(Delta("", event.index, "", (), event.completion_tokens, event.prompt_tokens))
        self._end_if_found((event.index, event.position), out)

    def _finish(self, event: Finished, out: list[Event]) -> None:
        index = event.index
        for key, chain in list(self._texts.items()):
            if key[0] == index and chain.found is None:
                self._say(key, chain.feed("", final=True), out)
                if self._end_if_found(key, out):
                    return
        self.ended.add(index)
        out.append(event)

    def _search(self, name: int, index: int, text: str, out: list[Event]) -> str:
        """What of the text may go out. What another text of the choice held back goes out before it."""
        before = self._said.get(index, name)
        if before != name and text:
            key = (index, before)
            self._say(key, self._texts[key].release(), out)
        if text:
            self._said[index] = name
        chain = self._texts.get((index, name))
        if chain is None:
            chain = self._texts[index, name] = self._strategy.chain(escaped if name >= 0 else characters)
        clean = chain.feed(text)
        if not self.masks and "*" in clean and "*" not in text:
            self.masks = True
        return clean

    def _say(self, key: Key, text: str, out: list[Event]) -> None:
        """More of a text, without an event of the backend's."""
        if not text:
            return
        index, name = key
        if name >= 0:
            out.append(ToolDelta(name, text, index))
        elif name == REASONING:
            out.append(Delta("", index, text))
        else:
            scores = self._scores.get(index)
            out.append(Delta(text, index, "", scores.due("", text) if scores else ()))

    def _end_if_found(self, key: Key, out: list[Event]) -> bool:
        hit = self._texts[key].found
        if hit is None or key[0] in self.ended:
            return hit is not None
        self.ended.add(key[0])
        self._found(hit)
        out.append(Finished("content_filter", key[0], hit.type))
        return True


class _Scores:
    """The log-probabilities of one choice: none goes out before its text, and none whose text was masked."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._waiting: list[_Scored] = []
        self._text = ""  # what was said and has not gone out
        self._gone = 0

    def add(self, text: str, entries: tuple[LogprobEntry, ...]) -> None:
        self._waiting.append(_Scored(entries, self._gone + len(self._text) + len(text)))

    def due(self, said: str, clean: str) -> tuple[LogprobEntry, ...]:
        """Those of the text that goes out now."""
        self._text += said
        masked = not self._text.startswith(clean)
        self._text = self._text[len(clean) :]
        self._gone += len(clean)
        found: list[LogprobEntry] = []
        while self._waiting and self._waiting[0].end <= self._gone:
            scored = self._waiting.pop(0)
            found.extend(() if masked else (self._allowed(entry) for entry in scored.entries))
        return tuple(found)

    def _allowed(self, entry: LogprobEntry) -> LogprobEntry:
        """Without rivals that are forbidden by themselves."""
        top = tuple(rival for rival in entry.top if not self._strategy.mentions(rival.token))
        return entry if len(top) == len(entry.top) else _replace(entry, top=top)


def emptied(event: Any) -> Event | None:
    """The token that an event was, without what it says; None for an event that was none."""
    if isinstance(event, Quoted):
        return Delta("", event.index)
    if isinstance(event, Delta | ToolDelta):
        return Delta("", event.index, "", (), event.completion_tokens, event.prompt_tokens)
    return None
