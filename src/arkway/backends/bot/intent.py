"""Does this need a search? The model behind the bot is asked itself, in a call of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from arkway.backends.bot.counting import StageCount
from arkway.backends.bot.question import user_turns
from arkway.backends.bot.wording import Wording
from arkway.core.chat import ChatRequest, Message, ResponseFormat, ToolChoice
from arkway.core.errors import ArkwayError
from arkway.core.events import Delta, Event, Quoted

ANSWER_TOKENS = 4
TURNS = 3
TURN_MAX_CHARACTERS = 1000
DEADLINE_S = 30.0
"""A model that takes longer to say yes or no is not waited for: the answer comes without a search."""

_NO = ("不", "无需", "無需", "没", "no", "否")
_YES = ("需要", "需", "是", "yes", "need")
_AROUND = " \t\r\n\"'“”‘’。，,.!！：:*`"


def asking(request: ChatRequest, words: Wording) -> ChatRequest:
    """The same call, with another question: the caller's parameters go along as far as they concern a yes or no."""
    turns = [turn[:TURN_MAX_CHARACTERS] for turn in user_turns(request.messages) if turn][-TURNS:]
    said = "\n".join((words.turns, *turns))
    return replace(
        request,
        messages=(Message("system", words.intent), Message("user", said)),
        sampling=replace(request.sampling, temperature=0.0, stop=()),
        max_tokens=ANSWER_TOKENS,
        logprobs=False,
        top_logprobs=0,
        n=1,
        stream=False,
        wants_usage=False,
        wants_running_usage=False,
        tools=(),
        tool_choice=ToolChoice(),
        legacy_functions=False,
        response_format=ResponseFormat(),
    )


def is_needed(answer: str) -> bool:
    """Anything but a clear yes is a no."""
    said = answer.strip(_AROUND).casefold()
    return not said.startswith(_NO) and said.startswith(_YES)


class Asking:
    """Implements `arkway.ports.Sink`: collects a short answer. ``over`` is done at its end, whichever that is."""

    def __init__(self, count: StageCount, over: asyncio.Future[None]) -> None:
        self._count, self.over = count, over
        self._said: list[str] = []
        self.error: ArkwayError | None = None

    @property
    def text(self) -> str:
        return "".join(self._said)

    def events(self, batch: Sequence[Event]) -> None:
        for event in batch:
            self._count.add(event)
            if isinstance(event, Quoted):
                event = event.delta()
            if isinstance(event, Delta):
                self._said.append(event.text)

    def ended(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def failed(self, error: ArkwayError) -> None:
        self.error = error
        self.ended()
