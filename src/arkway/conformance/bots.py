"""Bots on the two routes that are theirs: Bot API V2 and v3's (protocol §§6, 7.3).

What a bot says is its own affair, and so is whether it looks anything up; what it names as a source has a form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from arkway.conformance.cases import QUESTION, Surface, case
from arkway.conformance.checks import counts, expect, frames, legacy_error, success, v3_error
from arkway.conformance.target import Answer, Target

FRAME = b"data:"
NOBODY = "bot-20240101000000-nobdy"
PAGE, DOCUMENT = ("url", "title"), ("collection_name", "doc_id", "chunk_id")
ASIDE = {"user_info": '{"city": "北京", "district": "海淀区"}', "emit_intention_signal_extra": "true"}


class OfBots(ABC):
    """What differs between the two: where a choice of a stream has its text, what is for the bot, where it stands what
    the bot used, and the finish reason of an answer that was cut."""

    surface: Surface
    said: str
    aside: str
    used: str
    cut: str

    async def ask(self, target: Target, bot: str = "", **fields: Any) -> Answer:
        """A call of the bot, or of what stands in its place; None takes a field away."""
        asked = bot or target.needs("bot")
        options = {name: fields.pop(name) for name in ("auth", "leave_after_bytes") if name in fields}
        body = {"messages": [QUESTION], **self.body(asked), **fields}
        sent = {name: value for name, value in body.items() if value is not None}
        return await target.post(self.path(asked), sent, **{"auth": "bearer", **options})

    @abstractmethod
    def path(self, asked: str) -> str:
        """Where a bot is asked."""

    @abstractmethod
    def body(self, asked: str) -> dict[str, Any]:
        """What a body has beside the messages."""

    @abstractmethod
    def references(self, body: dict[str, Any]) -> Any:
        """The sources that an answer or a frame names; None where it names none at all."""

    @abstractmethod
    def check_used(self, body: dict[str, Any]) -> None:
        """Of a whole answer."""

    @abstractmethod
    def refused(self, answer: Answer, status: int, code: str) -> None:
        """The error form."""

    @abstractmethod
    def nobody(self, answer: Answer) -> None:
        """What a bot gets that does not exist."""

    def check_sources(self, body: dict[str, Any]) -> None:
        """A list of pages and documents, each with what tells where it is."""
        found = self.references(body)
        expect(found is None or isinstance(found, list), f"references is {found!r}, no list")
        for entry in found or ():
            kinds = [all(isinstance(entry.get(name), str) for name in kind) for kind in (PAGE, DOCUMENT)]
            expect(any(kinds), f"a source is neither a page nor a document: it has {', '.join(entry)}")


class BotApiV2(OfBots):
    """The bot in the path, MaaS shape, what was used in ``usage``."""

    surface: Surface = "bots"
    said, aside, used, cut = "message", "extra", "usage", "max_length"

    def path(self, asked: str) -> str:
        return f"/api/v2/bots/{asked}/chat"

    def body(self, asked: str) -> dict[str, Any]:
        return {"parameters": {"max_new_tokens": 16}}

    def references(self, body: dict[str, Any]) -> Any:
        return body["choices"][0]["message"].get("references")

    def check_used(self, body: dict[str, Any]) -> None:
        _models(body.get("usage"))

    def check_sources(self, body: dict[str, Any]) -> None:
        super().check_sources(body)
        for place, entry in enumerate(self.references(body) or ()):
            expect(type(entry.get("idx")) is int, f"source {place} has no idx")
            same = entry.get("publish_time") == entry.get("pulish_time")
            expect(same, "a source has its time not under both spellings: publish_time, pulish_time")

    def refused(self, answer: Answer, status: int, code: str) -> None:
        numbers = {"MissingAuthenticationHeader": 1709804, "MissingParameter": 1709807}
        legacy_error(answer, numbers.get(code, 1709808), code, status)

    def nobody(self, answer: Answer) -> None:
        self.refused(answer, 400, "InvalidBot")


class ArkBots(OfBots):
    """The bot as the model, OpenAI-like shape, what was used in ``bot_usage`` beside the counts of a chat."""

    surface: Surface = "v3-bots"
    said, aside, used, cut = "delta", "metadata", "bot_usage", "length"

    def path(self, asked: str) -> str:
        return "/api/v3/bots/chat/completions"

    def body(self, asked: str) -> dict[str, Any]:
        return {"model": asked, "max_tokens": 16}

    def references(self, body: dict[str, Any]) -> Any:
        return body.get("references")

    def check_used(self, body: dict[str, Any]) -> None:
        counts(body.get("usage"))
        _models(body.get("bot_usage"))
        numbers = [use for use in body["bot_usage"]["action_usage"] if type(use.get("prompt_tokens", "")) is not str]
        expect(not numbers, "an action's prompt_tokens is no string: the Go SDK refuses the whole answer")

    def refused(self, answer: Answer, status: int, code: str) -> None:
        v3_error(answer, status, code)

    def nobody(self, answer: Answer) -> None:
        self.refused(answer, 404, "InvalidEndpointOrModel.NotFound")


def _models(usage: Any) -> None:
    """What the models behind the bot used, each with its counts, and a list of what actions did."""
    expect(isinstance(usage, dict), f"what the bot used is {usage!r}, not an object")
    expect(bool(usage["model_usage"]), "model_usage is empty")
    for use in usage["model_usage"]:
        expect(isinstance(use.get("name"), str), "an entry of model_usage has no name")
        counts(use)
    expect(isinstance(usage["action_usage"], list), "action_usage is no list")


def both(name: str, source: str) -> Callable[[Callable[[OfBots, Target], Awaitable[None]]], None]:
    """One case for either route."""

    def registered(run: Callable[[OfBots, Target], Awaitable[None]]) -> None:
        for api in (BotApiV2(), ArkBots()):
            case(api.surface, name, source)(lambda target, which=api: run(which, target))  # type: ignore[misc]

    return registered


@both("chat", "§6.2, §7.3")
async def _chat(api: OfBots, target: Target) -> None:
    body = success(await api.ask(target))
    (choice,) = body["choices"]
    expect(isinstance(choice["message"]["content"], str), "message.content is no string")
    expect(choice["finish_reason"] in ("stop", api.cut), f"finish_reason {choice['finish_reason']!r}")
    api.check_sources(body)
    api.check_used(body)


@both("stream", "§6.2, §7.4")
async def _stream(api: OfBots, target: Target) -> None:
    found = await _frames(api, target)
    choices = [choice for frame in found for choice in frame["choices"]]
    expect(bool("".join(choice[api.said].get("content") or "" for choice in choices)), "the stream says nothing")
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    expect(len(reasons) == 1 and reasons[0] in ("stop", api.cut), f"finish reasons: {reasons}")
    expect(bool(choices[-1].get("finish_reason")), "the finish reason is not at the end")


@both("sources: on the first frame with content, and the last", "§6.2")
async def _sources(api: OfBots, target: Target) -> None:
    found = [frame for frame in await _frames(api, target) if frame["choices"]]
    said = [place for place, frame in enumerate(found) if frame["choices"][0][api.said].get("content")]
    naming = {place for place, frame in enumerate(found) if api.references(frame) is not None}
    expect(naming <= {*said[:1], len(found) - 1}, f"the frames {sorted(naming)} of {len(found)} name sources")
    for place in naming:
        api.check_sources(found[place])


@both("what was used: on the last frame", "§6.2, §7.3")
async def _used(api: OfBots, target: Target) -> None:
    found = await _frames(api, target)
    expect(all(frame.get(api.used) is None for frame in found[:-1]), f"{api.used} before the last frame")
    _models(found[-1].get(api.used))


@both("what is for the bot is taken in any form", "§11 rows 19, 20")
async def _aside(api: OfBots, target: Target) -> None:
    forms: tuple[Any, ...] = (
        ASIDE,
        {"user_info": {"city": "北京"}},
        {"user_info": "{", "emit_intention_signal_extra": True},
    )
    for form in forms:
        success(await api.ask(target, **{api.aside: form}))


@both("a sign that something is looked up has no text", "§6.2")
async def _intention(api: OfBots, target: Target) -> None:
    found = await _frames(api, target, **{api.aside: ASIDE})
    told = [frame for frame in found if (frame.get(api.aside) or {}).get("intention")]
    texts = [choice[api.said].get("content") for frame in told for choice in frame["choices"]]
    expect(not any(texts), f"frames that tell of a search say {texts}")
    expect(found[: len(told)] == told, "a search is told of after the answer has begun")


@both("unknown bot", "§6.2, §9.2")
async def _unknown(api: OfBots, target: Target) -> None:
    for stream in (False, True):
        api.nobody(await api.ask(target, NOBODY, stream=stream))


@both("an endpoint is no bot", "§6.2, §7.5")
async def _endpoint(api: OfBots, target: Target) -> None:
    api.nobody(await api.ask(target, target.needs("endpoint")))


@both("no messages", "§9")
async def _missing(api: OfBots, target: Target) -> None:
    api.refused(await api.ask(target, messages=None), 400, "MissingParameter")


@both("parameter out of range, stream: plain JSON", "§5.4, §7.5")
async def _range(api: OfBots, target: Target) -> None:
    wrong = {"temperature": -1}
    body = {"parameters": wrong} if api.surface == "bots" else wrong
    api.refused(await api.ask(target, stream=True, **body), 400, "InvalidParameter")


@both("client leaves in the middle", "§12")
async def _leaves(api: OfBots, target: Target) -> None:
    await api.ask(target, stream=True, leave_after_bytes=1)
    success(await api.ask(target))


@case("bots", "no credentials: 1709804", "§9.3")
async def _no_credentials(target: Target) -> None:
    api = BotApiV2()
    api.refused(await api.ask(target, NOBODY, auth="none"), 401, "MissingAuthenticationHeader")


@case("v3-bots", "no credentials: AuthenticationError", "§9.2")
async def _no_key(target: Target) -> None:
    api = ArkBots()
    api.refused(await api.ask(target, NOBODY, auth="none"), 401, "AuthenticationError")


@case("bots", "signature", "§3")
async def _signed(target: Target) -> None:
    success(await BotApiV2().ask(target, auth="signature"))


@case("v3-bots", "stream with usage", "§7.4")
async def _with_usage(target: Target) -> None:
    found = await _frames(ArkBots(), target, stream_options={"include_usage": True})
    expect(found[-1]["choices"] == [], "the last chunk has choices")
    counts(found[-1]["usage"])
    _models(found[-1].get("bot_usage"))


@case("v3-bots", "bot_id beside the model (Go)", "§7.2")
async def _bot_id(target: Target) -> None:
    success(await ArkBots().ask(target, bot_id=target.needs("bot")))


@case("v3-bots", "a bot as the model of a chat", "§7.2")
async def _as_model(target: Target) -> None:
    body = {"model": target.needs("bot"), "messages": [QUESTION], "max_tokens": 16, "stream": True}
    found = frames(await target.post("/api/v3/chat/completions", body, auth="bearer"), b"data: ")
    expect(
        any(choice["delta"].get("content") for each in found for choice in each["choices"]), "the stream says nothing"
    )


async def _frames(api: OfBots, target: Target, **fields: Any) -> list[Any]:
    return frames(await api.ask(target, stream=True, **fields), FRAME)
