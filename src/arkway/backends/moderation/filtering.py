"""The events of one answer, searched: text, thoughts and arguments of tools, each a text of its own; and sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from arkway.backends.moderation.folding import characters, escaped
from arkway.backends.moderation.scanning import Chain, Hit
from arkway.backends.moderation.scores import Scores
from arkway.backends.moderation.sources import cited, reported
from arkway.backends.moderation.strategy import Strategy
from arkway.core.chat import LogprobEntry
from arkway.core.events import Beside, BotReport, Cited, Delta, Event, Finished, Quoted, ToolDelta

OF_A_CHOICE = (Quoted, Delta, ToolDelta, Finished)
TEXT, REASONING = -1, -2
"""Names of texts in a choice; a tool's arguments are named by its position."""

Key = tuple[int, int]
"""A choice's index, and the name of a text in it."""

_replace = msgspec.structs.replace


class Filter:
    """What goes in as events of a backend comes out as events for the client.

    Every event that carries text comes out as one, be its text empty by now: it is a token that was spent. ``found`` is
    called with the hit that ends a choice. ``scored``: there may be log-probabilities. ``json``: the answer is JSON, in
    which an escape is the character that it stands for.
    """

    def __init__(
        self, strategy: Strategy, found: Callable[[Hit], None], *, scored: bool = False, json: bool = False
    ) -> None:
        self._strategy, self._found, self._scored = strategy, found, scored
        self._text_units = escaped if json else characters
        self._texts: dict[Key, Chain] = {}
        self._said: dict[int, int] = {}  # of each choice, the text that was last added to
        self._scores: dict[Key, Scores] = {}
        self._sources_changed = False
        self.ended: set[int] = set()

    @property
    def masks(self) -> bool:
        """Whether anything was masked, or left out of the sources."""
        return self._sources_changed or any(chain.masks for chain in self._texts.values())

    def passed(self, batch: Sequence[Event]) -> list[Event]:
        """What becomes of a batch."""
        out: list[Event] = []
        for event in batch:
            if not isinstance(event, OF_A_CHOICE):
                out.append(self._beside(event))
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

    def _beside(self, event: Beside) -> Event:
        if isinstance(event, Cited):
            found: Event = cited(self._strategy, event)
        elif isinstance(event, BotReport):
            found = reported(self._strategy, event)
        else:
            return event
        self._sources_changed = self._sources_changed or found is not event
        return found

    def _quoted(self, event: Quoted, out: list[Event]) -> None:
        if self._scored:
            self._delta(event.delta(), out)
            return
        key, literal = (event.index, TEXT), event.literal
        if not self._turn(event, key, out):
            return
        text = event.delta().text if b"\\" in literal else literal[1:-1].decode()
        clean = self._chain(key).feed(text)
        out.append(event if clean == text else Delta(clean, event.index))
        self._end_if_found(key, out)

    def _delta(self, event: Delta, out: list[Event]) -> None:
        text, thought = event.text, event.reasoning
        if thought:
            key = (event.index, REASONING)
            if not self._turn(event, key, out):
                return
            thought = self._thought(key, thought, last=bool(text))
            if self._texts[key].found is not None:
                out.append(_replace(event, text="", reasoning=thought, logprobs=()))
                self._end_if_found(key, out)
                return
        key = (event.index, TEXT)
        if text and not self._turn(event, key, out):
            return
        clean = self._chain(key).feed(text) if text else ""
        entries = self._due(event, thought, clean) if self._scored else ()
        if clean == text and thought == event.reasoning and entries == event.logprobs:
            out.append(event)
        else:
            out.append(_replace(event, text=clean, reasoning=thought, logprobs=entries))
        if text:
            self._end_if_found(key, out)

    def _thought(self, key: Key, thought: str, *, last: bool) -> str:
        """``last``: text comes with the thought, and what is held back of this one has to go out before that."""
        chain = self._chain(key)
        clean = chain.feed(thought)
        return clean + chain.release() if last and chain.found is None else clean

    def _due(self, event: Delta, thought: str, clean: str) -> tuple[LogprobEntry, ...]:
        """The log-probabilities that go out with an event: those of the text or the thought that does."""
        index = event.index
        if event.reasoning and not event.text:
            scores, said, clean = self._scores_of((index, REASONING)), event.reasoning, thought
            hidden = False
        else:
            scores, said = self._scores_of((index, TEXT)), event.text
            hidden = not thought.endswith(event.reasoning)
        scores.add(said, event.logprobs, hidden=hidden)
        return scores.due(said, clean, spotless=self._spotless(index))

    def _scores_of(self, key: Key) -> Scores:
        found = self._scores.get(key)
        if found is None:
            found = self._scores[key] = Scores(self._strategy.mentions)
        return found

    def _spotless(self, index: int) -> bool:
        return not any(chain.masks for key, chain in self._texts.items() if key[0] == index)

    def _tool(self, event: ToolDelta, out: list[Event]) -> None:
        key = (event.index, event.position)
        if event.arguments and not self._turn(event, key, out):
            return
        clean = self._chain(key).feed(event.arguments)
        if clean == event.arguments:
            out.append(event)
        elif clean or event.name or event.id:
            out.append(_replace(event, arguments=clean))
        else:
            out.append(Delta("", event.index, "", (), event.completion_tokens, event.prompt_tokens))
        self._end_if_found(key, out)

    def _finish(self, event: Finished, out: list[Event]) -> None:
        index = event.index
        for key, chain in list(self._texts.items()):
            if key[0] == index:
                self._say(key, chain.feed("", final=True), out)
                if self._end_if_found(key, out):
                    return
        spotless = self._spotless(index)
        rests = (self._scores[key].rest(spotless=spotless) for key in list(self._scores) if key[0] == index)
        out.extend(Delta("", index, "", entries) for entries in rests if entries)
        self.ended.add(index)
        out.append(event)

    def _turn(self, event: Delta | Quoted | ToolDelta, key: Key, out: list[Event]) -> bool:
        """This text is the one that is added to now: what another one of its choice held back goes out before it.

        False where the choice ends with that. Then of the event nothing is left but its token.
        """
        index, name = key
        before = self._said.get(index, name)
        self._said[index] = name
        if before == name:
            return True
        last = (index, before)
        self._say(last, self._texts[last].release(), out)
        if self._texts[last].found is None:
            return True
        out.append(emptied(event))
        self._end_if_found(last, out)
        return False

    def _chain(self, key: Key) -> Chain:
        found = self._texts.get(key)
        if found is None:
            units = escaped if key[1] >= 0 else self._text_units if key[1] == TEXT else characters
            found = self._texts[key] = self._strategy.chain(units)
        return found

    def _say(self, key: Key, text: str, out: list[Event]) -> None:
        """More of a text, without an event of the backend's."""
        if not text:
            return
        index, name = key
        if name >= 0:
            out.append(ToolDelta(name, text, index))
            return
        scores = self._scores.get(key)
        entries = scores.due("", text, spotless=self._spotless(index)) if scores is not None else ()
        out.append(Delta("", index, text, entries) if name == REASONING else Delta(text, index, "", entries))

    def _end_if_found(self, key: Key, out: list[Event]) -> bool:
        hit = self._texts[key].found
        if hit is None or key[0] in self.ended:
            return hit is not None
        self.ended.add(key[0])
        self._found(hit)
        out.append(Finished("content_filter", key[0], hit.type))
        return True


def emptied(event: Delta | Quoted | ToolDelta) -> Event:
    """The token that an event was, without what it says."""
    if isinstance(event, Quoted):
        return Delta("", event.index)
    return Delta("", event.index, "", (), event.completion_tokens, event.prompt_tokens)
