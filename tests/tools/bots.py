"""Doubles for bots: plugins and models that follow a script, and a bot between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from arkway.backends.bot import Bots, PluginCall
from arkway.core.bot import ActionKind, Asker, Bot, BotAction, BotUsage, Findings, Quest, Snippet
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Message, Role, Usage
from arkway.core.errors import ArkwayError
from arkway.core.events import (
    BotReport,
    Cited,
    Delta,
    Event,
    Finished,
    Intention,
    Quoted,
    ToolDelta,
    UsageReport,
)
from arkway.core.model import Deployment, Endpoint, ModelCard
from arkway.core.reference import Reference
from arkway.ports import Running, Sink
from arkway.ports.lookup import Plugin
from arkway.testing import CHAT_CARD, MemoryLedger
from tests.tools.pushing import CALL, Kept
from tests.tools.waiting import PATIENCE_S, soon

BOT_ID = "bot-20240601000000-abcde"
INNER_ID = "ep-20240601000000-inner"
NOON_MS = 1_744_079_400_000
"""2025-04-08 10:30:00 in Beijing, a Tuesday."""

Step = Event | ArkwayError
Answer = Sequence[Step] | ArkwayError
"""What is said, and perhaps how it fails; or what the call is refused with at once."""
Find = Callable[[Quest], Awaitable[Findings]]


def page(number: int, text: str = "", **fields: Any) -> Snippet:
    """A page, of its own URL."""
    known = {"url": f"https://pages.test/{number}", "title": f"Page {number}", "site_name": "pages", **fields}
    return Snippet(text or f"what page {number} says", Reference(**known))


def chunk(number: int, text: str = "") -> Snippet:
    """A piece of a document."""
    where: dict[str, Any] = {"collection_name": "docs", "doc_id": "d" * 32, "doc_name": "handbook", "doc_type": "md"}
    return Snippet(text or f"what chunk {number} says", Reference(chunk_id=f"d-{number}", **where))


class ScriptedPlugin:
    """Implements `arkway.ports.lookup.Plugin`; ``asked`` are the quests it was to find something for.

    ``finds`` is what it finds, raises or does; ``wants`` what it says of whether that would help.
    """

    def __init__(
        self,
        finds: Findings | Exception | Find = Findings(),  # noqa: B008
        *,
        wants: bool | Exception = True,
        source: str = "search_engine",
        action_name: str = "WebBrowsingPlus",
    ) -> None:
        self.source, self.action_name = source, action_name
        self.asked: list[Quest] = []
        self.weighed: list[Quest] = []
        self._finds, self._wants = finds, wants

    async def wanted(self, quest: Quest) -> bool:
        self.weighed.append(quest)
        await asyncio.sleep(0)
        if isinstance(self._wants, Exception):
            raise self._wants
        return self._wants

    async def find(self, quest: Quest) -> Findings:
        self.asked.append(quest)
        await asyncio.sleep(0)
        if isinstance(self._finds, Exception):
            raise self._finds
        return self._finds if isinstance(self._finds, Findings) else await self._finds(quest)


class Model:
    """Implements `arkway.ports.Pushing`: one answer of the script for each call, event by event or in one batch."""

    def __init__(self, *answers: Answer, batch: bool = False) -> None:
        self.requests: list[ChatRequest] = []
        self.deployments: list[Deployment] = []
        self.calls: list[Call] = []
        self._answers = list(answers)
        self._batch = batch

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        self.requests.append(request)
        self.deployments.append(deployment)
        self.calls.append(call)
        answer = self._answers.pop(0)
        if isinstance(answer, ArkwayError):
            raise answer
        return Speaking(answer, sink, batch=self._batch)

    def heeded(self, deployment: Deployment, request: ChatRequest) -> ChatRequest:
        self.deployments.append(deployment)
        return replace(request, ignored=("user",))


class Speaking:
    """A call at a `Model`. A batch comes with each turn of the event loop, unless it is paused."""

    def __init__(self, answer: Sequence[Step], sink: Sink, *, batch: bool) -> None:
        events = [step for step in answer if not isinstance(step, ArkwayError)]
        self._error = next((step for step in answer if isinstance(step, ArkwayError)), None)
        self._batches: list[Sequence[Event]] = [events] if batch else [(event,) for event in events]
        self._sink: Sink | None = sink
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._go)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._go)

    def cancel(self) -> None:
        self._sink = None

    def _go(self) -> None:
        if self._paused or self._sink is None:
            return
        if self._batches:
            self._sink.events(self._batches.pop(0))
            self._loop.call_soon(self._go)
        else:
            sink, self._sink = self._sink, None
            if self._error is not None:
                sink.failed(self._error)
            else:
                sink.ended()


def answers(*pieces: str, quoted: bool = False, prompt_tokens: int = 100) -> tuple[Event, ...]:
    """A whole answer in these pieces, one token each."""
    said: Iterable[Event] = (
        Quoted(f'"{piece}"'.encode()) if quoted else Delta(piece, completion_tokens=count, prompt_tokens=prompt_tokens)
        for count, piece in enumerate(pieces, 1)
    )
    return (*said, Finished("stop"), UsageReport(Usage(prompt_tokens, len(pieces))))


def calls(*wanted: tuple[str, str], prompt_tokens: int = 50) -> tuple[Event, ...]:
    """An answer that calls functions: names and arguments."""
    said = [ToolDelta(place, arguments, id=f"id-{place}", name=name) for place, (name, arguments) in enumerate(wanted)]
    return (*said, Finished("tool_calls"), UsageReport(Usage(prompt_tokens, 5)))


def asks(*turns: str, system: str = "", **fields: Any) -> ChatRequest:
    """A request with these turns, the user's and the assistant's in turn, the last one the user's."""
    roles: tuple[Role, Role] = ("user", "assistant") if len(turns) % 2 else ("assistant", "user")
    said = [Message(roles[place % 2], turn) for place, turn in enumerate(turns)]
    before = [Message("system", system)] if system else []
    return ChatRequest(BOT_ID, (*before, *said), stream=True, **fields)


class Scene:
    """A bot with its parts, all of them scripted. Every web search, weather and knowledge plugin is of ``plugins``."""

    def __init__(
        self,
        model: Any,
        plugins: Mapping[ActionKind, Plugin] | None = None,
        *,
        card: ModelCard = CHAT_CARD,
        deadline_s: float = PATIENCE_S,
        limit: int = 5,
        **bot: Any,
    ) -> None:
        self.model, self.plugins = model, plugins or {}
        self.ledger = MemoryLedger()
        self.seen: list[PluginCall] = []
        actions = tuple(BotAction(kind=kind, deadline_s=deadline_s, limit=limit) for kind in self.plugins)
        place = {"account": "acc", "project": "proj", "endpoint_id": INNER_ID}
        self.bot = Bot(**{"id": BOT_ID, "name": "b", **place, "actions": actions, "prompt": "Be a bot.", **bot})
        self.inner = Deployment(_endpoint(INNER_ID), card, "upstream")
        self.deployment = Deployment(_endpoint(BOT_ID), card, "bot")
        self.bots = Bots(
            {BOT_ID: self.bot}.get,
            lambda _: (self.inner, self.model),
            lambda: self.plugins,
            self.ledger,
            lambda: NOON_MS,
            self.seen.append,
        )

    def start(self, request: ChatRequest) -> tuple[Running, Kept]:
        sink = Kept()
        return self.bots.start(self.deployment, request, CALL, sink), sink

    async def told(self, request: ChatRequest) -> Told:
        """The whole answer. Fails where it does not come."""
        _, sink = self.start(request)
        return Told(await ended(sink), sink.error)


async def ended(sink: Kept) -> list[Event]:
    """Everything that it was told, once that is all."""
    await soon(lambda: sink.over)
    return sink.got


class Told:
    """An answer as its caller gets it."""

    def __init__(self, events: Sequence[Event], error: ArkwayError | None) -> None:
        self.events, self.error = events, error
        said = [event.delta() if isinstance(event, Quoted) else event for event in events]
        self.text = "".join(event.text for event in said if isinstance(event, Delta))
        self.kinds = [type(event) for event in said if not isinstance(event, Delta) or event.text]
        self.cited = [event.references for event in events if isinstance(event, Cited)]
        self.intentions = [event.text for event in events if isinstance(event, Intention)]

    @property
    def references(self) -> tuple[Reference, ...]:
        """As a caller has them who got the last word."""
        return self.cited[-1] if self.cited else ()

    @property
    def usage(self) -> Usage:
        (found,) = [event.usage for event in self.events if isinstance(event, UsageReport)]
        return found

    @property
    def report(self) -> BotUsage:
        (found,) = [event.usage for event in self.events if isinstance(event, BotReport)]
        return found


BEIJING = Asker("北京", "海淀区")


def _endpoint(endpoint_id: str) -> Endpoint:
    return Endpoint(endpoint_id, "m", "m", "1", "running", "acc", "proj", 0)
