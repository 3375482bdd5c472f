"""What the scripted backend says in the golden files, by name, and one error of every class."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal

from arkway.core import errors as e
from arkway.core.bot import ActionDetail, ActionUse, BotUsage, ModelUse, ToolDetail
from arkway.core.chat import LogprobEntry, TokenLogprob, Usage
from arkway.core.events import (
    BotReport,
    Cited,
    Delta,
    Event,
    Finished,
    Intention,
    Progress,
    Quoted,
    ToolDelta,
    UsageReport,
)
from arkway.core.reference import Cover, Reference


class Reversing:
    """Implements `arkway.ports.Channel`: base64 of the text backwards, so that golden files can be read."""

    def open(self, text: str) -> str:
        if not text.isascii() or len(text) % 4:
            raise e.InvalidField("this is not base64")
        return base64.b64decode(text).decode()[::-1]

    def seal(self, text: str) -> str:
        return base64.b64encode(text[::-1].encode()).decode()


class ReversingSealing:
    """Implements `arkway.ports.Sealing`."""

    certificate = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"

    def channel(self, crypto_token: str) -> Reversing:
        if crypto_token != "token":
            raise e.InvalidField("this is not a token", "crypto_token")
        return Reversing()


Step = Event | e.ArkwayError | Literal["heartbeat"]

USAGE = UsageReport(Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=3))


def _entry(token: str, octets: bytes, *rivals: str) -> LogprobEntry:
    top = (TokenLogprob(token, -0.25, octets), *(TokenLogprob(rival, -2.5, rival.encode()) for rival in rivals))
    return LogprobEntry(top[0], top)


PAGE = Reference(
    idx=0,
    url="https://weather.example/beijing",
    logo_url="https://weather.example/logo.png",
    site_name="墨迹天气",
    title="北京天气",
    summary="晴，18 度",
    publish_time="2025年04月08日 10:30:00(CST) 星期二",
    cover=Cover("https://weather.example/cover.png", 30, 20),
    extra={"aqi": "42", "city": "北京", "condition": "晴"},
    freshness_info="today",
)
DOCUMENT = Reference(
    idx=1,
    collection_name="guides",
    doc_id="14e45e289c817cbd0845a66bb5e27ae3",
    doc_name="guide.md",
    doc_type="md",
    doc_title="指南/天气\n天气",
    chunk_id="14e45e28-0",
    chunk_title="天气",
    summary="看天气的方法",
    project="default",
)
FOUND = {"results": [{"title": "北京天气", "url": "https://weather.example/beijing"}]}
BOT_USAGE = BotUsage(
    (ModelUse("ep-1", 7, 2), ModelUse("ep-intent", 5, 1)),
    (ActionUse("search_engine", "WebBrowsingPlus", 1, 3, 4), ActionUse("knowledge_base", "Knowledge", 2)),
    (
        ActionDetail(
            "search_engine",
            1,
            (
                ToolDetail(
                    "search",
                    {"query": "北京天气"},
                    {"data": {"data": FOUND, "status_code": 200}},
                    1719792000100,
                    1719792000250,
                ),
            ),
        ),
        ActionDetail(
            "knowledge_base",
            2,
            (ToolDetail("retrieve", {}, {"data": {"data": {"results": []}, "status_code": 200}}, 1, 2),),
        ),
    ),
)
BOT_END: tuple[Event, ...] = (Finished("stop"), BotReport(BOT_USAGE), UsageReport(Usage(12, 3)))


SCRIPTS: Mapping[str, tuple[Step, ...]] = {
    "plain": (
        Progress(7, 7),
        Delta("你", completion_tokens=1, prompt_tokens=7),
        Delta("好", completion_tokens=2, prompt_tokens=7),
        Finished("stop"),
        USAGE,
    ),
    "length": (Delta("你", completion_tokens=1, prompt_tokens=7), Finished("length"), USAGE),
    "content_filter": (Delta("你", completion_tokens=1, prompt_tokens=7), Finished("content_filter"), USAGE),
    "silence": (Progress(7, 7), Finished("stop"), UsageReport(Usage(7, 0))),
    "reasoning": (
        Delta("", reasoning="想", completion_tokens=1, prompt_tokens=7),
        Delta("好", completion_tokens=2, prompt_tokens=7),
        Finished("stop"),
        UsageReport(Usage(7, 2, reasoning_tokens=1)),
    ),
    # An emoji cut over two tokens: the text comes once it is whole, each entry with its own bytes.
    "logprobs": (
        Delta("", logprobs=(_entry("\ufffd", b"\xf0\x9f", "a"),), completion_tokens=1, prompt_tokens=7),
        Delta("😀", logprobs=(_entry("\ufffd", b"\x98\x80"),), completion_tokens=2, prompt_tokens=7),
        Delta(
            "!",
            logprobs=(LogprobEntry(TokenLogprob("!", float("-inf"), b"!")),),
            completion_tokens=3,
            prompt_tokens=7,
        ),
        Finished("stop"),
        UsageReport(Usage(7, 3)),
    ),
    "tools": (
        ToolDelta(0, "", id="call_1", name="get_weather", completion_tokens=1, prompt_tokens=7),
        ToolDelta(0, '{"city":', completion_tokens=2, prompt_tokens=7),
        ToolDelta(0, '"北京"}', completion_tokens=3, prompt_tokens=7),
        ToolDelta(1, "{}", id="call_2", name="get_time", completion_tokens=4, prompt_tokens=7),
        Finished("tool_calls"),
        UsageReport(Usage(7, 4)),
    ),
    "two": (
        Delta("b", index=1, completion_tokens=1, prompt_tokens=7),
        Delta("a", index=0, completion_tokens=2, prompt_tokens=7),
        Finished("length", index=1),
        Delta("A", index=0, completion_tokens=3, prompt_tokens=7),
        Finished("stop", index=0),
        UsageReport(Usage(7, 3)),
    ),
    "heartbeat": (
        Delta("你", completion_tokens=1, prompt_tokens=7),
        "heartbeat",
        Delta("好", completion_tokens=2, prompt_tokens=7),
        Finished("stop"),
        USAGE,
    ),
    "heartbeat first": ("heartbeat", Delta("好", completion_tokens=1, prompt_tokens=7), Finished("stop"), USAGE),
    "breaks": (Delta("你", completion_tokens=1, prompt_tokens=7), e.BackendFailed("the engine stopped working")),
    "breaks after its end": (
        Delta("你", completion_tokens=1, prompt_tokens=7),
        Finished("stop"),
        e.BackendTimeout("the model did not answer in time"),
    ),
    "bot": (
        Cited((PAGE, DOCUMENT)),
        Progress(7, 7),
        Delta("", completion_tokens=1, prompt_tokens=7),
        Delta("晴[1]", completion_tokens=2, prompt_tokens=7),
        Delta("。", completion_tokens=3, prompt_tokens=7),
        *BOT_END,
    ),
    "bot looks up": (
        Intention("正在搜索"),
        "heartbeat",
        Cited((PAGE,)),
        Quoted(b'""'),
        Quoted('"晴[1]"'.encode()),
        Quoted('"。"'.encode()),
        *BOT_END,
    ),
    "bot cites": (Cited((PAGE, DOCUMENT)), Delta("看[2]"), Delta("。"), Cited((DOCUMENT,)), *BOT_END),
    "bot cites nothing": (Cited((PAGE,)), Delta("晴"), Cited(()), *BOT_END),
    "bot without sources": (Delta("你好", completion_tokens=1, prompt_tokens=7), *BOT_END),
    "bot says nothing": (Cited((PAGE,)), *BOT_END),
    "bot thinks": (Cited((PAGE,)), Delta("", reasoning="想"), Delta("晴"), *BOT_END),
    "bot is cut": (Cited((PAGE,)), Delta("晴"), Finished("length"), *BOT_END[1:]),
    "bot is moderated": (Delta("晴"), Finished("content_filter", hit="violence"), *BOT_END[1:]),
    "bot breaks": (Cited((PAGE,)), Delta("晴"), e.BackendFailed("the engine stopped working")),
    "bot with logprobs": (
        Cited((PAGE,)),
        Delta("", logprobs=(_entry("\ufffd", b"\xf0\x9f", "a"),), completion_tokens=1, prompt_tokens=7),
        Delta("😀", logprobs=(_entry("\ufffd", b"\x98\x80"),), completion_tokens=2, prompt_tokens=7),
        *BOT_END,
    ),
    "surrogate": (Delta("a\ud83d", completion_tokens=1, prompt_tokens=7), Finished("stop"), USAGE),
    "hostile": (
        Delta("data: [DONE]\n\n\r\n\x00\u2028</script>\ue000", completion_tokens=1, prompt_tokens=7),
        Finished("stop"),
        USAGE,
    ),
}

ERRORS: tuple[e.ArkwayError, ...] = (
    e.BadRequest("the body must be a JSON object"),
    e.MissingField("messages"),
    e.InvalidField("expected a number from 0 to 2, got 3", "temperature"),
    e.UnsupportedInput("`scripted-chat-1` takes text only, not images", "messages[0].content"),
    e.ContextTooLong(9000, 100, 8192),
    e.NoCredentials(),
    e.MalformedCredentials("the header `Authorization` cannot be read"),
    e.UnknownCredentials(),
    e.SignatureMismatch("the signature is not the one of this request"),
    e.SignatureExpired("the request was signed 1000 seconds ago; 900 are allowed"),
    e.Forbidden("this API key is not allowed to use the endpoint `ep-1`"),
    e.EndpointNotFound("ep-2", near=("ep-1",)),
    e.EndpointStopped("ep-1"),
    e.UnsupportedModel("ep-1", "embeddings"),
    e.RouteNotFound("/nowhere"),
    e.MethodNotAllowed("PUT", "/somewhere", ("GET", "POST")),
    e.TooLarge(1024),
    e.HeadTooLarge("the headers are larger than 32768 bytes"),
    e.UnsupportedEncoding("gzip"),
    e.RequestTimeout("the request body did not arrive within 120 seconds"),
    e.InputBlocked("messages[2]"),
    e.OutputBlocked(),
    e.Quarantined("this request has stopped the engine twice and is refused until the server restarts"),
    e.RateLimited("requests per minute (RPM) limit of the associated endpoint has been reached", 2.4),
    e.TokenRateLimited("tokens per minute (TPM) limit of the associated endpoint has been reached", 2.4),
    e.QuotaExhausted("the account's quota is spent"),
    e.Overloaded("64 calls are waiting already"),
    e.BackendUnavailable("the model `m` behind `ep-1` is not installed"),
    e.BackendFailed("the model's answer broke off before its end"),
    e.BackendTimeout("the model did not answer in time"),
    e.StoreUnavailable("the ledger does not take writes"),
    e.Misconfigured("the model's file is missing; the operator installs it with `arkway pull m`"),
    e.InternalError(),
)
