"""The server under examination, and what may be asked of it: raw calls, signed or with a key, answers as bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import aiohttp
import msgspec

from arkway.signing import KeyPair, signed_headers
from arkway.wire import json

Auth = Literal["signature", "bearer", "none"]

PYTHON = "volc-sdk-python/v1.0.229"
JAVA = "volc-sdk-java/v1.0.284"


class Failed(Exception):
    """The server did something else than the wire demands; the message says what."""


class Skipped(Exception):
    """The case cannot be tried; the message says what is missing."""


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer: header names in lower case, the body as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises Failed."""
        try:
            return json.load_object(self.body)
        except Exception:
            raise Failed(f"the body is no JSON object: {self.body[:120]!r}") from None


class Target(msgspec.Struct, frozen=True):
    """Where the server is and what the examiner holds of it. What is empty makes the cases that need it be skipped."""

    url: str
    endpoint: str = ""
    model: str = ""
    embedding_endpoint: str = ""
    embedding_model: str = ""
    bot: str = ""
    api_key: str = ""
    pair: KeyPair | None = None
    session_pair: KeyPair | None = None
    timeout_s: float = 120.0

    async def post(
        self,
        path: str,
        body: Mapping[str, Any] | bytes,
        *,
        auth: Auth,
        headers: Mapping[str, str] | None = None,
        agent: str = PYTHON,
        pair: KeyPair | None = None,
        x_date: str = "",
        leave_after_bytes: int = 0,
    ) -> Answer:
        """One call. ``x_date`` empty = now. ``leave_after_bytes`` > 0: the client leaves once it has seen so many."""
        data = body if isinstance(body, bytes) else json.dumps(body)
        url = self.url + path
        sent = {"Content-Type": "application/json", "User-Agent": agent, **(headers or {})}
        if auth == "signature":
            signing = {name: value for name, value in sent.items() if name != "User-Agent"}
            sent |= signed_headers(self._pair(pair), "POST", url, data, x_date or stamp(), signing)
        elif auth == "bearer":
            sent["Authorization"] = f"Bearer {self._key()}"
        return await self._sent(url, sent, data, leave_after_bytes)

    def needs(self, name: str) -> str:
        """The named attribute. Raises Skipped when the examiner does not have it."""
        value = getattr(self, name)
        if not value:
            raise Skipped(f"needs --{name.replace('_', '-')}")
        return str(value)

    async def _sent(self, url: str, headers: Mapping[str, str], data: bytes, leave_after_bytes: int) -> Answer:
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, data=data, headers=headers, allow_redirects=False) as response,
            ):
                pieces = bytearray()
                async for piece in response.content.iter_any():
                    pieces += piece
                    if 0 < leave_after_bytes <= len(pieces):
                        response.close()
                        break
                heads = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, heads, bytes(pieces))
        except aiohttp.ClientSSLError as error:
            raise Failed(f"no secure connection to {self.url}: {error}") from None
        except aiohttp.ClientConnectorError:
            raise Failed(f"no server answers at {self.url}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Failed(f"the answer broke off: {error!r}") from None

    def _pair(self, pair: KeyPair | None) -> KeyPair:
        chosen = pair or self.pair
        if chosen is None:
            raise Skipped("needs an access key pair (--ak, --sk)")
        return chosen

    def _key(self) -> str:
        return self.needs("api_key")


def stamp(offset_s: int = 0) -> str:
    """The clock as X-Date writes it, moved by ``offset_s``."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + offset_s))
