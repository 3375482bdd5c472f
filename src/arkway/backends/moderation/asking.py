"""A moderator of the operator's, asked over HTTP: OpenAI's ``/v1/moderations``, a guard model's chat, or a webhook."""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from arkway.backends.moderation.settings import HitType, ModeratorSettings, Stage
from arkway.core.errors import BackendUnavailable, Misconfigured

if TYPE_CHECKING:
    import aiohttp

ANSWER_MAX_BYTES = 64 * 1024
CONNECTIONS_MAX = 64
KEPT_S = 4.0
"""How long an idle connection is kept: less than common servers do."""
GUARD_TOKENS = 64
ASKED_AT_ONCE = 4
PIECES_MAX = 64

_SAFE = re.compile(r"(?:\A\W*|\bsafety\W+)(unsafe|safe|controversial)\b", re.IGNORECASE)
_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_VIOLENT = re.compile(r"violen|\bS1\b", re.IGNORECASE)

log = logging.getLogger("arkway.moderation")


class Verdict(msgspec.Struct, frozen=True):
    """Whether a text may stand, and what is wrong with it. ``by``: who says so, the moderator or what happens when it
    says nothing."""

    allowed: bool
    hit: HitType = "severe_violation"
    by: Literal["moderator", "open", "closed"] = "moderator"


ALLOWED = Verdict(True)


class ModeratorSilent(BackendUnavailable):
    """The moderator gave no verdict, and nothing goes out without one."""

    def __init__(self) -> None:
        super().__init__("the moderation of this model does not answer just now; try again later")


class _Unreadable(Exception):
    """The moderator's answer is not one."""


class Judge:
    """Asks one moderator. Its session belongs to the event loop that first asks, and to whoever calls `aclose`.

    The address is the operator's, so it may be anywhere; redirects are not followed.
    """

    def __init__(self, settings: ModeratorSettings, environ: Mapping[str, str], where: str) -> None:
        """Raises Misconfigured where the variable with the key does not exist, the address holds one, or a model is not
        named."""
        self.settings, self._where = settings, where
        place = settings.url.partition("://")[2].partition("/")[0]
        if not place:
            raise Misconfigured(f"{where}: the address `url` names no host")
        if "@" in place:
            raise Misconfigured(f"{where}: an address has no room for a key; `key_variable` names the variable with it")
        # What is announced by default comes compressed from some servers.
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if settings.key_variable:
            key = environ.get(settings.key_variable, "").strip()
            if not key:
                raise Misconfigured(f"{where}: the environment variable {settings.key_variable} holds no key")
            self._headers["authorization"] = f"Bearer {key}"
        if settings.shape == "chat" and not settings.model:
            raise Misconfigured(f"{where}: a moderator of the shape `chat` needs the name of its `model`")
        importlib.import_module(
            "aiohttp"
        )  # here nobody waits for it; where the first question is asked everybody would
        self._session: aiohttp.ClientSession | None = None
        self._asking, self._retired = 0, False

    async def verdict(self, stage: Stage, text: str, question: str = "") -> Verdict:
        """What the moderator says of the text, or what its silence means; never raises but when cancelled.

        ``question``: what the text answers, for guard models.
        """
        self._asking += 1
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                return self._read(await self._answer(self._asked(stage, text, question)))
        except (TimeoutError, _Unreadable, OSError, ValueError, RecursionError) as error:
            return self._silence(str(error) or type(error).__name__)
        except Exception:
            log.exception("internal error in moderation")
            return self._silence("an internal error")
        finally:
            self._asking -= 1
            await self._close_if_idle()

    async def verdict_on(self, stage: Stage, texts: Sequence[str]) -> Verdict:
        """As `verdict`, on all of them: the first that does not allow one. Nobody is asked about `PIECES_MAX` or more,
        which are more than any deadline has room for."""
        if len(texts) >= PIECES_MAX:
            return self._silence("the request is too long to be asked about")
        free = asyncio.Semaphore(ASKED_AT_ONCE)

        async def one(text: str) -> Verdict:
            async with free:
                return await self.verdict(stage, text)

        tasks = [asyncio.create_task(one(text)) for text in texts]
        found = ALLOWED
        try:
            for next_one in asyncio.as_completed(tasks):
                verdict = await next_one
                if not verdict.allowed:
                    return verdict
                found = verdict if verdict.by != "moderator" else found
            return found
        finally:
            for task in tasks:
                task.cancel()

    def _silence(self, why: str) -> Verdict:
        log.warning("%s gave no verdict: %s", self._where, why)
        return Verdict(self.settings.on_failure == "open", by=self.settings.on_failure)

    async def retire(self) -> None:
        """Nobody new will ask; calls under way still may, and the session is closed whenever none does."""
        self._retired = True
        await self._close_if_idle()

    async def _close_if_idle(self) -> None:
        if self._retired and not self._asking:
            await self.aclose()

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _answer(self, body: Any) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEPT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        data = msgspec.json.encode(body)
        try:
            try:
                found = await self._posted(self._session, data)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                found = await self._posted(self._session, data)  # an idle connection may just have been closed
        except aiohttp.ClientError as error:
            raise _Unreadable(str(error) or type(error).__name__) from None
        return msgspec.json.decode(found)

    async def _posted(self, session: aiohttp.ClientSession, data: bytes) -> bytes:
        url, headers = self.settings.url, self._headers
        async with session.post(url, data=data, headers=headers, allow_redirects=False) as response:
            found = await _bounded(response)
            if response.status != 200:
                raise _Unreadable(f"HTTP {response.status}")
            return found

    def _asked(self, stage: Stage, text: str, question: str) -> dict[str, Any]:
        settings = self.settings
        if settings.shape == "webhook":
            return {"text": text, "stage": stage}
        if settings.shape == "openai":
            return {"input": text, **({"model": settings.model} if settings.model else {})}
        messages = [{"role": "user", "content": text if stage == "input" else question or "…"}]
        if stage == "output":
            messages.append({"role": "assistant", "content": text})
        return {"model": settings.model, "messages": messages, "temperature": 0, "max_tokens": GUARD_TOKENS}

    def _read(self, answer: Any) -> Verdict:
        """Raises _Unreadable."""
        try:
            if self.settings.shape == "webhook":
                return _of_webhook(answer)
            return _of_openai(answer["results"]) if self.settings.shape == "openai" else _of_guard(answer["choices"])
        except (KeyError, IndexError, TypeError, AttributeError):
            raise _Unreadable("its answer is not of the shape that was named") from None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for chunk in response.content.iter_chunked(16 * 1024):
        found += chunk
        if len(found) > ANSWER_MAX_BYTES:
            raise _Unreadable(f"its answer has more than {ANSWER_MAX_BYTES} bytes")
    return bytes(found)


def _of_webhook(answer: Any) -> Verdict:
    allowed, hit = answer["allowed"], answer.get("hit")
    if not isinstance(allowed, bool):
        raise TypeError
    return ALLOWED if allowed else Verdict(False, "violence" if hit == "violence" else "severe_violation")


def _of_openai(results: Sequence[Any]) -> Verdict:
    flagged = [result for result in results if _is_true(result["flagged"])]
    if not results:
        raise IndexError
    if not flagged:
        return ALLOWED
    names = [name for result in flagged for name, on in (result.get("categories") or {}).items() if on is True]
    return Verdict(False, "violence" if any(_VIOLENT.search(name) for name in names) else "severe_violation")


def _is_true(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _of_guard(choices: Sequence[Any]) -> Verdict:
    """What Llama Guard, Qwen3Guard and their like say: a word first, then categories. Controversial is not unsafe."""
    said = _THOUGHT.sub("", choices[0]["message"]["content"])
    word = _SAFE.search(said)
    if word is None:
        raise _Unreadable("it says neither safe nor unsafe")
    if word[1].lower() != "unsafe":
        return ALLOWED
    return Verdict(False, "violence" if _VIOLENT.search(said) else "severe_violation")
