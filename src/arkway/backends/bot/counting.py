"""What a bot's call uses: its model calls, each counted as it goes, and its actions."""

from __future__ import annotations

from collections.abc import Iterable

from arkway.backends.bot import size
from arkway.core.bot import ActionDetail, ActionUse, BotUsage, ModelUse, ToolDetail
from arkway.core.chat import ChatRequest, Provenance, Usage
from arkway.core.events import Delta, Event, Progress, Quoted, ToolDelta, UsageReport
from arkway.core.transient import Transient

PIECE_CHARACTERS, PIECE_OCTETS = 32, 96
"""A piece of text that is no longer is taken for one token."""
_COUNTED = (Delta, ToolDelta)
_PROVENANCES: tuple[Provenance, ...] = ("reported", "counted", "estimated")


class StageCount(Transient):
    """One model call; what its ``request`` takes is guessed where the model never says what it has read."""

    request: ChatRequest
    reported: Usage | None = None
    _prompt: int = 0
    _completion: int = 0
    _since: int = 0

    def add(self, event: Event) -> None:
        """Whatever it is."""
        if isinstance(event, Quoted):
            self.quoted(event)
        elif isinstance(event, _COUNTED):
            self.piece(event)
        elif isinstance(event, UsageReport):
            self.reported = event.usage
        elif isinstance(event, Progress):
            self.progress(event)

    def quoted(self, event: Quoted) -> None:
        octets = len(event.literal) - 2
        self._since += 1 if octets <= PIECE_OCTETS else octets // size.OCTETS_PER_TOKEN

    def piece(self, event: Delta | ToolDelta) -> None:
        self._prompt = max(self._prompt, event.prompt_tokens)
        if event.completion_tokens:
            self._completion, self._since = max(self._completion, event.completion_tokens), 0
        else:
            self._since += _pieces(event)

    def progress(self, event: Progress) -> None:
        self._prompt = max(self._prompt, event.total)

    def guess(self) -> int:
        """Tokens of the prompt."""
        return size.prompt(self.request)

    def usage(self) -> Usage:
        """As the model says, or else as counted along its answer, or guessed."""
        if self.reported is not None:
            return self.reported
        known = self._prompt and self._completion
        spent = self._completion + self._since
        return Usage(self._prompt or self.guess(), spent, provenance="counted" if known else "estimated")


class Account:
    """One call of a bot: ``name`` is the id of the endpoint whose model answers."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.stages: list[Usage] = []
        self._tools: dict[tuple[str, str], list[ToolDetail]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def action(self, source: str, action_name: str, count: int, detail: ToolDetail) -> None:
        """One use of a source; those of the same one are added up."""
        key = (source, action_name)
        self._tools.setdefault(key, []).append(detail)
        self._counts[key] = self._counts.get(key, 0) + count

    def total(self) -> Usage:
        """The sum of the model calls; of several provenances, the weakest."""
        return self.stages[0] if len(self.stages) == 1 else added(self.stages)

    def report(self) -> BotUsage:
        models = tuple([ModelUse(self._name, each.prompt_tokens, each.completion_tokens) for each in self.stages])
        if not self._tools:
            return BotUsage(models)
        return BotUsage(
            models,
            tuple([ActionUse(*key, count) for key, count in self._counts.items()]),
            tuple([ActionDetail(key[1], self._counts[key], tuple(tools)) for key, tools in self._tools.items()]),
        )


def _pieces(event: Delta | ToolDelta) -> int:
    """Tokens in a piece of which nobody has said how many: one, unless it is as long as several."""
    text = event.text + event.reasoning if isinstance(event, Delta) else event.arguments
    if len(text) <= PIECE_CHARACTERS:
        return 1
    return len(text.encode(errors="replace")) // size.OCTETS_PER_TOKEN


def added(usages: Iterable[Usage]) -> Usage:
    """Their sum, of the weakest provenance among them."""
    prompt = completion = cached = reasoning = weakest = 0
    for each in usages:
        prompt += each.prompt_tokens
        completion += each.completion_tokens
        cached += each.cached_tokens
        reasoning += each.reasoning_tokens
        weakest = max(weakest, _PROVENANCES.index(each.provenance))
    return Usage(prompt, completion, cached, reasoning, _PROVENANCES[weakest])
