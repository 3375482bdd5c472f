"""The one road of every chat and classification: render and neutralise, count, admit, complete, read back.

`Engine` is one model: a supervised process, a gate over its slots, and what both need.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import msgspec

from arkway.backends.engine.admission import Gate, Grant
from arkway.backends.engine.answer import Answer, Counts, Plan
from arkway.backends.engine.child import ChildConfig
from arkway.backends.engine.classify import Question, Scorer, check_question, read_question
from arkway.backends.engine.client import Completion, Piece
from arkway.backends.engine.process import Process, Supervisor, fingerprint
from arkway.backends.engine.promise import Promise, Promises, acquired
from arkway.backends.engine.prompt import wire_message
from arkway.backends.engine.sampling import answer_limit, check_size, engine_sampling, logprob_count
from arkway.backends.engine.schema import check_schema
from arkway.backends.engine.seeing import images_of, seen_prompt
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.backends.engine.tools import (
    enforced_schema,
    messages_without_tool_template,
    shown_tools,
    wire_tools,
)
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Usage
from arkway.core.classification import ClassifyReply, ClassifyRequest
from arkway.core.embedding import Tokenized, TokenizeRequest
from arkway.core.errors import BackendFailed, InvalidField, UnsupportedInput
from arkway.core.events import Delta, Event, Finished, Progress, ToolDelta, UsageReport

OFFSETS_ON_LOOP_CHARS = 4096
Result = TypeVar("Result")


class Engine:
    """One served model. ``used_s`` is the monotonic time of its last use, ``footprint_bytes`` what it takes in memory:
    0 until room was made for it.
    """

    def __init__(self, model: EngineModel, settings: EngineSettings, config: Callable[[], ChildConfig]) -> None:
        self.model = model
        self.gate = Gate(settings.slots, settings.queue_limit, settings.queue_wait_s)
        self.supervisor = Supervisor(
            config,
            start_limit_s=settings.start_limit_s,
            hang_limit_s=settings.hang_limit_s,
            backoff_first_s=settings.backoff_first_s,
            backoff_limit_s=settings.backoff_limit_s,
            on_death=self.gate.line.forget_slots,
        )
        self.used_s = time.monotonic()
        self.users = 0
        self.footprint_bytes = 0
        self._unused = asyncio.Event()
        self._slots = settings.slots
        self._queue_wait_s = settings.queue_wait_s
        self._promises = Promises()
        self._preparations = asyncio.Semaphore(settings.slots)

    def adjust(self, queue_limit: int, queue_wait_s: float) -> None:
        """How many calls may wait, and for how long, from now on."""
        self.gate.adjust(queue_limit, queue_wait_s)
        self._queue_wait_s = queue_wait_s

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Around every use: an engine with users is not stopped for idleness."""
        self.users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self.users -= 1
            self.used_s = time.monotonic()
            if not self.users:
                self._unused.set()

    async def unused(self) -> None:
        """Waits until nobody uses it."""
        while self.users:
            await self._unused.wait()

    async def chat(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """See `arkway.ports.Backend`. The first event comes when the engine has accepted the prompt."""
        check_request(request, self._slots, sees=self.model.projector is not None)
        check_size(request, self.model.card)
        schema, schema_field = wanted_schema(request)
        with self.use():
            with self.gate.preparing(request.n):
                process, plans = await self._on_living(lambda process: self._plans(process, request, schema))
            if request.n == 1:
                stream = self._answer(process, plans[0], call, schema_field)
            else:
                stream = _merged([self._answer(process, plan, call, schema_field) for plan in plans])
            async with aclosing(stream) as events:
                async for event in events:
                    yield event

    async def classify(self, request: ClassifyRequest, call: Call) -> ClassifyReply:
        """See `arkway.ports.Classifier`: one slot for the whole call, as one answer of a chat has."""
        check_question(request, self.model.card)
        with self.use():
            with self.gate.preparing(1):
                process, question = await self._on_living(lambda process: self._question(process, request))
            return await self._scored(process, question, request.labels, call)

    async def tokenize(self, request: TokenizeRequest) -> tuple[Tokenized, ...]:
        """See `arkway.ports.Tokenizer`: control tokens are not recognised, no opening token is added."""
        with self.use():
            _, found = await self._on_living(lambda process: self._tokenized(process, request.texts))
            return found

    async def _on_living(self, work: Callable[[Process], Awaitable[Result]]) -> tuple[Process, Result]:
        """Work that changes nothing and is simply done again when the engine dies under it, once."""
        process = await self.supervisor.process()
        try:
            return process, await work(process)
        except BackendFailed:
            if not await self.supervisor.brought_down(process):
                raise
        process = await self.supervisor.process()
        return process, await work(process)

    @contextlib.asynccontextmanager
    async def _preparation(self) -> AsyncGenerator[None, None]:
        """Around work of the engine's tokenizer: a few at a time. Raises Overloaded after the wait limit."""
        await acquired(self._preparations, self._queue_wait_s)
        try:
            yield
        finally:
            self._preparations.release()

    async def _tokenized(self, process: Process, texts: tuple[str, ...]) -> tuple[Tokenized, ...]:
        async with self._preparation():
            return tuple([await _tokenized(process, text) for text in texts])

    async def _plans(self, process: Process, request: ChatRequest, schema: dict[str, Any] | None) -> list[Plan]:
        tools = shown_tools(request)
        native = process.traits.supports("tools") and process.traits.supports("tool_calls")
        messages = request.messages if native else messages_without_tool_template(request.messages, tools)
        images = await _images(request)
        wired = [wire_message(message, process.traits.media_marker) for message in messages]
        shown = wire_tools(tools if native else ())
        async with self._preparation():
            ids = [] if images else await process.reader.ids(wired, shown)
            seen = await seen_prompt(process, wired, shown, images) if images else None
        body: dict[str, Any] = {
            "prompt": seen.prompt if seen else ids,
            "n_predict": answer_limit(request, self.model.card, seen.text_tokens if seen else len(ids)),
            "n_probs": logprob_count(request),
        }
        if schema is not None:
            body["json_schema"] = schema
        return [
            Plan(
                ids=ids,
                body={**body, **engine_sampling(request.sampling, self.model.card, choice)},
                logprobs=request.logprobs,
                top_logprobs=request.top_logprobs,
                tool_names=frozenset(tool.name for tool in tools) if schema is None else frozenset(),
                enforced=request.tool_choice.mode in ("required", "named"),
                legacy_functions=request.legacy_functions,
            )
            for choice in range(request.n)
        ]

    async def _answer(self, process: Process, plan: Plan, call: Call, schema_field: str) -> AsyncGenerator[Event, None]:
        """One answer on one slot, with its own usage. Nothing here waits once the caller has left.

        A seed wants the same answer again, and a prompt that is partly found in the slot gives other last digits than
        one that is read whole, which is enough to change a token: so a seeded call reads its prompt whole.
        """
        with self._promises.promise(plan.body.get("json_schema"), schema_field) as promise:
            if promise.untried():
                with self.gate.preparing(1):
                    await promise.turn(self._queue_wait_s)
            async with aclosing(self._on_slot(process, plan, call, promise)) as events:
                async for event in events:
                    yield event

    async def _on_slot(self, process: Process, plan: Plan, call: Call, promise: Promise) -> AsyncGenerator[Event, None]:
        grant = await self.gate.enter((call.account, call.key_id))
        answer: Answer | None = None
        try:
            process = process if process.alive else await self.supervisor.process()
            body = {**plan.body, "cache_prompt": grant.same_account and "seed" not in plan.body and bool(plan.ids)}
            hold = partial(self.gate.line.hold, grant.slot, call.account)
            answer = Answer(process, msgspec.structs.replace(plan, body=body), grant.slot, hold)
            with self.supervisor.flight(fingerprint(plan.body)):
                try:
                    async with aclosing(promise.kept(process, answer.events())) as events:
                        async for event in events:
                            yield event
                except BackendFailed:
                    await self.supervisor.brought_down(process)
                    raise
            yield UsageReport(_usage([answer.counts]))
        finally:
            self._let_go(grant, answer.completion if answer is not None else None)

    async def _question(self, process: Process, request: ClassifyRequest) -> Question:
        async with self._preparation():
            return await read_question(process.client, process.reader, request, self.model.card)

    async def _scored(self, process: Process, question: Question, labels: tuple[str, ...], call: Call) -> ClassifyReply:
        """All questions of one call on one slot."""
        grant = await self.gate.enter((call.account, call.key_id))
        scorer: Scorer | None = None
        try:
            process = process if process.alive else await self.supervisor.process()
            hold = partial(self.gate.line.hold, grant.slot, call.account)
            scorer = Scorer(process.client, question, grant.slot, hold)
            with self.supervisor.flight(fingerprint(question.body)):
                try:
                    return await scorer.reply(labels)
                except BackendFailed:
                    await self.supervisor.brought_down(process)
                    raise
        finally:
            self._let_go(grant, scorer.completion if scorer is not None else None)

    def _let_go(self, grant: Grant, completion: Completion | None) -> None:
        """The slot is free once the engine has hung up: at once after a whole answer, soon after an abandoned one."""
        drain = completion.abandon() if completion is not None else None
        if drain is None:
            self.gate.leave(grant)
        else:
            drain.add_done_callback(lambda _: self.gate.leave(grant))


def check_request(request: ChatRequest, slots: int, *, sees: bool = False) -> None:
    """What this engine cannot do at all. Raises InvalidField or UnsupportedInput."""
    if not 1 <= request.n <= slots:
        raise InvalidField(f"`n` must be between 1 and {slots}", "n")
    for place, message in enumerate(request.messages):
        if message.has_image() and not sees:
            raise UnsupportedInput("this model reads text only", f"messages[{place}].content")


async def _images(request: ChatRequest) -> list[str]:
    """In a thread, because there may be megabytes of them."""
    if not any(message.has_image() for message in request.messages):
        return []
    return await asyncio.to_thread(images_of, request)


def wanted_schema(request: ChatRequest) -> tuple[dict[str, Any] | None, str]:
    """The schema the answer is held to, if any, and the field it came from."""
    schema = enforced_schema(request)
    if schema is not None:
        return schema, "tools"
    match request.response_format.kind:
        case "json_object":
            return {"type": "object"}, "response_format"
        case "json_schema":
            check_schema(request.response_format.schema, "response_format")
            return request.response_format.schema, "response_format"
        case _:
            return None, ""


def _usage(counts: list[Counts]) -> Usage:
    """The prompt counts once, however many answers were drawn from it."""
    return Usage(
        prompt_tokens=max((count.prompt for count in counts), default=0),
        completion_tokens=sum(count.completion for count in counts),
        cached_tokens=max((count.cached for count in counts), default=0),
    )


async def _merged(streams: list[AsyncGenerator[Event, None]]) -> AsyncGenerator[Event, None]:
    """Several answers at once, each event marked with its choice, token counts added up."""
    queue: asyncio.Queue[tuple[int, Event | BaseException | None]] = asyncio.Queue(maxsize=64)
    tasks = [asyncio.create_task(_pump(index, stream, queue)) for index, stream in enumerate(streams)]
    spent = [0] * len(streams)
    reports: list[Usage] = []
    try:
        open_streams = len(streams)
        while open_streams:
            index, event = await queue.get()
            if event is None:
                open_streams -= 1
            elif isinstance(event, BaseException):
                raise event
            elif isinstance(event, UsageReport):
                reports.append(event.usage)
            else:
                if (marked := _marked(event, index, spent)) is not None:
                    yield marked
        yield UsageReport(_summed(reports))
    finally:
        for task in tasks:
            task.cancel()


async def _pump(
    index: int, stream: AsyncGenerator[Event, None], queue: asyncio.Queue[tuple[int, Event | BaseException | None]]
) -> None:
    try:
        async with aclosing(stream) as events:
            async for event in events:
                await queue.put((index, event))
        await queue.put((index, None))
    except Exception as error:
        await queue.put((index, error))


def _marked(event: Event, index: int, spent: list[int]) -> Event | None:
    match event:
        case Progress():
            return event if index == 0 else None
        case Finished():
            return msgspec.structs.replace(event, index=index)
        case Delta() | ToolDelta():
            spent[index] = event.completion_tokens
            return msgspec.structs.replace(event, index=index, completion_tokens=sum(spent))
        case _:
            return event


def _summed(reports: list[Usage]) -> Usage:
    return _usage([Counts(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) for usage in reports])


async def _tokenized(process: Process, text: str) -> Tokenized:
    if not text:
        return Tokenized((), ())
    pieces = await process.client.pieces(text, special=False)
    if len(text) <= OFFSETS_ON_LOOP_CHARS:
        return tokenized(text, pieces)
    return await asyncio.to_thread(tokenized, text, pieces)


def tokenized(text: str, pieces: list[Piece]) -> Tokenized:
    """Ids and character ranges from tokens and their octets, which add up to the text.

    A vocabulary that puts a blank before every text has one octet more: the ranges are those of the text itself.
    Raises BackendFailed when the octets add up to something else.
    """
    starts = [0]
    for letter in text:
        starts.append(starts[-1] + len(letter.encode()))
    owner = [place for place, start in enumerate(starts[:-1]) for _ in range(starts[place + 1] - start)]
    total = len(owner)
    widths = [len(piece.octets) for piece in pieces]
    place = total - sum(widths)
    if place not in (0, -1):
        raise BackendFailed("the engine's tokens do not add up to the text")
    offsets = []
    for width in widths:
        first, last = max(place, 0), place + width - 1
        place += width
        begin = owner[first] if first < total else len(text)
        offsets.append((begin, owner[last] + 1 if first <= last < total else begin))
    return Tokenized(tuple(piece.id for piece in pieces), tuple(offsets))
