"""One call of a bot: what it has to look up first, then the model behind it, whose answer passes through.

::

    begin ──(nothing to look up)──────────────────────────────► speak ──► events … ended
       ├──(always, auto, llm)──► prepare, in a task ──────────►   │
       └──(tools)────────────────────────────────────────────►   │ ◄──► serve, in a task, while functions are called

Only ``prepare`` and ``serve`` are coroutines. Whoever ends the call lets go of everything that it holds: calls that
hold each other would be left to the collector.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgspec.structs import replace

from arkway.backends.bot import functions, intent, size, wording
from arkway.backends.bot.citations import CitationFilter, Cites
from arkway.backends.bot.counting import Account, StageCount
from arkway.backends.bot.errands import Desk, Errand, Errands
from arkway.backends.bot.found import detail
from arkway.backends.bot.prompt import introduced, ordered
from arkway.backends.bot.question import is_chinese, query_of
from arkway.backends.bot.sources import Sources
from arkway.backends.bot.speech import PIECES, Speech
from arkway.backends.wrapping import Passing, expire
from arkway.core.bot import Bot, BotAction, Quest
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Message, ToolCall, ToolChoice
from arkway.core.errors import ArkwayError, BackendFailed, ContextTooLong, InternalError
from arkway.core.events import BotReport, Cited, Event, Intention, Progress, UsageReport
from arkway.core.model import Deployment
from arkway.ports import Pushing, Running, Sink

log = logging.getLogger("arkway.bot")


class BotCall(Passing):
    """Implements `arkway.ports.Running` for the caller, and `arkway.ports.Sink` for the model behind the bot."""

    __slots__ = (
        "_account",
        "_base",
        "_begun",
        "_bot",
        "_call",
        "_cites",
        "_count",
        "_desk",
        "_errands",
        "_filters",
        "_functions",
        "_inner",
        "_kept",
        "_over",
        "_pushing",
        "_query",
        "_request",
        "_rounds",
        "_searching",
        "_sink",
        "_sources",
        "_speech",
        "_task",
        "_told",
        "_turns",
        "_words",
    )

    _speech: Speech
    _count: StageCount

    def __init__(
        self, desk: Desk, bot: Bot, inner: tuple[Deployment, Pushing], request: ChatRequest, call: Call, sink: Sink
    ) -> None:
        super().__init__()
        self._desk, self._bot, self._request, self._call = desk, bot, request, call
        self._inner, self._pushing = inner
        self._sink: Sink | None = sink
        self._base = replace(request, messages=ordered(bot.prompt, request.messages))
        self._query, self._words = "", wording.EN
        self._account = Account(self._inner.endpoint.id)
        self._cites = Cites(0, set()) if request.response_format.kind == "text" else None
        self._filters: dict[int, CitationFilter] = {}
        self._sources = Sources(0)
        self._turns: tuple[Message, ...] = ()
        self._functions: dict[str, BotAction] = {}
        self._rounds = self._told = 0
        self._errands: Errands | None = None
        self._task: asyncio.Task[None] | None = None
        self._kept: list[Event] = []
        self._begun = self._over = self._searching = False

    def begin(self) -> None:
        """Raises what the model behind the bot refuses at once, where nothing has to be looked up first."""
        bot = self._bot
        if bot.actions and bot.intent != "never":
            self._query = query_of(self._request.messages)
        looks = bool(self._query)
        if looks:
            self._words = wording.ZH if is_chinese(self._query) else wording.EN
            self._errands = Errands(self._desk, self._call, bot.id, self._request.user)
            self._sources = Sources(size.room(self._inner.card, self._base, bot.context_share))
        if looks and bot.intent == "tools" and self._may_call():
            self._functions = functions.named(bot.actions)
        elif looks:
            self._go(self._prepare)
            return
        try:
            self._speak()
        except BaseException:
            self._close()
            raise

    # The caller's side

    def cancel(self) -> None:
        running = self._left()
        if running is not None:
            running.cancel()

    def expire(self) -> None:
        """As `cancel`, when the caller has waited for too long."""
        running = self._left()
        if running is not None:
            expire(running)

    # The side of the model behind the bot

    def events(self, batch: Sequence[Event]) -> None:
        if self._over:
            return
        speech = self._speech
        out = speech.take(batch)
        self._begun = self._begun or (speech.begun and any(isinstance(event, PIECES) for event in out))
        if self._begun and self._sources.found:
            self._cite(out)
        if self._kept:
            out, self._kept = self._kept + out, []
        if speech.ends and self._request.n == 1:
            # What came with the end of the text goes out with the end of the call, which is there any moment.
            self._kept = out
        elif out:
            self._push(out)

    def ended(self) -> None:
        if self._over:
            return
        self._running = None
        self._account.stages.append(self._count.usage())
        calls = self._speech.calls() if self._functions and self._rounds <= functions.ROUNDS_MAX else []
        if calls:
            self._let_go()
            # Nothing of this answer may have got out yet, and a client that leaves meanwhile pays for it.
            self._push_read(self._account.total().prompt_tokens)
            self._go(partial(self._serve, calls, self._speech.said()))
        elif self._speech.ends:
            self._finish()
        else:
            self.failed(BackendFailed("the model's answer broke off before its end"))

    def failed(self, error: ArkwayError) -> None:
        if self._over:
            return
        self._let_go()
        sources = self._sources
        if isinstance(error, ContextTooLong) and sources.found and sources.shown and not self._speech.begun:
            # Our guess at what fits was wrong. What was found must not cost the caller the answer.
            log.warning("what was found does not fit", extra={"request_id": self._call.request_id, "bot": self._bot.id})
            self._running = None
            self._without_sources()
        else:
            self._fail(error)

    # Preparing

    async def _prepare(self) -> None:
        """Looks up what is wanted, and begins the answer."""
        bot, asks = self._bot, self._bot.intent
        if asks != "llm" or await self._intended():
            certain = asks in ("always", "llm")
            await self._look([self._errand(action, self._query, certain=certain) for action in bot.actions])
        self._speak()

    async def _serve(self, calls: Sequence[ToolCall], said: str) -> None:
        """Carries out the functions that the model has called, and lets it go on."""
        asked = [self._functions.get(call.name) for call in calls]
        errands = [
            self._errand(action, functions.query_in(call.arguments, self._query), certain=True) if action else None
            for action, call in zip(asked, calls, strict=True)
        ]
        numbers = iter(await self._look([errand for errand in errands if errand is not None]))
        turns = [Message("assistant", said or None, tool_calls=tuple(map(functions.readable, calls)))]
        for call, errand in zip(calls, errands, strict=True):
            answer = self._words.unknown if errand is None else self._answered(errand, next(numbers))
            turns.append(Message("tool", answer, tool_call_id=call.id))
        self._turns = (*self._turns, *turns)
        self._speak()

    async def _intended(self) -> bool:
        """Whether the model says that something has to be looked up. One that fails at it, or is late, has not."""
        request = intent.asking(self._base, self._words)
        count = StageCount(request)
        loop = asyncio.get_running_loop()
        answer = intent.Asking(count, loop.create_future())
        try:
            running = self._running = self._pushing.start(self._inner, request, self._call, answer)
        except ArkwayError as error:
            self._tell("did not take", type(error).__name__)
            return False
        await asyncio.wait((answer.over,), timeout=intent.DEADLINE_S)
        self._running = None
        if not answer.over.done():
            running.cancel()
            self._tell("was late with", "")
        elif answer.error is not None:
            self._tell("failed at", type(answer.error).__name__)
        used = count.usage()
        if answer.text or count.reported is not None:
            self._account.stages.append(used)
        self._push_read(used.prompt_tokens)
        return answer.error is None and answer.over.done() and intent.is_needed(answer.text)

    async def _look(self, errands: Sequence[Errand]) -> list[list[int]]:
        """Takes these actions; the numbers of the new sources, action by action."""
        if self._errands is None:
            return [[] for _ in errands]
        await self._errands.run(errands, self._begins)
        shown = self._bot.citation != "none"
        for errand in errands:
            if errand.findings is not None and errand.plugin is not None:
                times_ms = (errand.began_ms, errand.ended_ms)
                plugin, found = errand.plugin, errand.findings
                entry = detail(plugin.source, errand.quest, found, times_ms, shown=shown)
                self._account.action(plugin.source, plugin.action_name, found.count, entry)
        finds = [
            errand.findings.snippets[: errand.quest.action.limit] if errand.findings is not None else ()
            for errand in errands
        ]
        numbers = self._sources.add(finds)
        if self._cites is not None and shown and self._sources.shown:
            self._cites.known = len(self._sources.found)
        return numbers

    def _begins(self) -> None:
        """A search has begun: said once, to who wants to hear of it."""
        if not self._searching and self._request.wants_intention:
            self._push([Intention(wording.SEARCHING)])
        self._searching = True

    # Answering

    def _speak(self) -> None:
        """Begins the answer, or goes on with it. Raises what the model refuses at once."""
        if self._over:
            return
        self._rounds += 1
        request = self._composed()
        self._count = StageCount(request)
        heavy = bool(self._sources.found or self._turns)
        before, ours = self._account.total(), bool(self._functions)
        self._speech = Speech(self._cites, self._filters, self._count, before, own_calls=ours, heavy=heavy)
        self.began(self._pushing.start(self._inner, request, self._call, self))

    def _composed(self) -> ChatRequest:
        messages, found = self._base.messages, self._sources.found
        if found and self._sources.shown:
            citing = self._cites is not None and self._bot.citation != "none"
            now_ms = self._desk.clock_ms()
            block = wording.block(self._words, found, self._request.asker, now_ms, citing=citing)
            messages = introduced(messages, block)
        if messages is self._base.messages and not self._turns:
            request = self._base
        else:
            request = replace(self._base, messages=(*messages, *self._turns))
        if self._functions and self._rounds <= functions.ROUNDS_MAX:
            request = replace(request, tools=functions.tools(self._functions, self._words), tool_choice=ToolChoice())
        return request

    def _without_sources(self) -> None:
        cites = self._cites
        self._sources.hide(max(self._told, *cites.used) if cites is not None and cites.used else self._told)
        if cites is not None:
            cites.known = 0
        try:
            self._speak()
        except ArkwayError as error:
            self._fail(error)

    def _cite(self, out: list[Event]) -> None:
        """Puts the sources that the caller has not heard of before what comes next."""
        found = self._sources.found
        if self._bot.citation == "all" and len(found) > self._told:
            self._told = len(found)
            out.insert(0, Cited(self._sources.references()))

    def _finish(self) -> None:
        """The end: what was held of the answer, and what all of it has used."""
        out, self._kept = self._kept, []
        if self._sources.found:
            self._cite(out)
        if self._bot.citation == "cited" and self._cites is not None and self._cites.used:
            references = self._sources.references()
            out.append(Cited(tuple([references[number - 1] for number in sorted(self._cites.used)])))
        out += self._speech.ends
        out += (UsageReport(self._account.total()), BotReport(self._account.report()))
        self._push(out)
        sink = self._sink
        if not self._over and sink is not None:
            self._close()
            sink.ended()

    # What both have in common

    def _may_call(self) -> bool:
        """Whether the model can call functions, and they are not the caller's own."""
        request = self._request
        return "tools" in self._inner.card.capabilities and not request.tools and request.n == 1

    def _errand(self, action: BotAction, query: str, *, certain: bool) -> Errand:
        bot, request = self._bot, self._request
        quest = Quest(
            account=bot.account,
            project=bot.project,
            query=query,
            action=action,
            asker=request.asker,
            lexicon=bot.lexicon,
            request_id=self._call.request_id,
        )
        return Errand(quest, certain)

    def _answered(self, errand: Errand, numbers: Sequence[int]) -> str:
        """What the model is told of a function that it has called; what was found stands elsewhere."""
        if errand.findings is None:
            return self._words.failed
        if not numbers:
            return self._words.nothing
        return self._words.found.format(numbers=" ".join(f"[{number}]" for number in numbers))

    def _go(self, work: Callable[[], Awaitable[None]]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._worked(work))

    async def _worked(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except ArkwayError as error:
            self.failed(error)
        except asyncio.CancelledError:
            self._fail(BackendFailed("the call was broken off while something was looked up for it"))
            raise
        except Exception:
            log.exception("internal error in a bot", extra={"request_id": self._call.request_id})
            self._fail(InternalError())

    def _push_read(self, tokens: int) -> None:
        """What has been read so far, which counts whatever becomes of the next model call."""
        if tokens:
            self._push([Progress(tokens, tokens)])

    def _let_go(self) -> None:
        kept, self._kept = self._kept, []
        if kept:
            self._push(kept)

    def _push(self, batch: Sequence[Event]) -> None:
        if self._sink is not None:
            self._sink.events(batch)

    def _fail(self, error: ArkwayError) -> None:
        sink = self._sink
        running = self._left(keep_task=True)
        if running is not None:
            running.cancel()
        if sink is not None:
            sink.failed(error)

    def _left(self, *, keep_task: bool = False) -> Running | None:
        """Stops the looking up; what runs at the model is for who called to stop."""
        running, task, errands = self._running, self._task, self._errands
        self._close()
        if errands is not None:
            errands.cancel()
        if task is not None and not keep_task:
            task.cancel()
        return running

    def _close(self) -> None:
        self._over = True
        self._sink = self._running = self._task = self._errands = None

    def _tell(self, what: str, error: str) -> None:
        facts = {"request_id": self._call.request_id, "bot": self._bot.id, "error": error}
        log.warning("the model behind a bot %s the question whether to search", what, extra=facts)
