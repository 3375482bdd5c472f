"""Moves bytes: one file over HTTP, resumed where it broke.

A file under way is ``<name>.partial``; it keeps what has arrived, for the next attempt and the next process. Whether
the content is right is not decided here but in `arkway.models.pull`.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec

from arkway.models.files import drop, size_of

CHUNK_BYTES = 1 << 20
# An attempt that moved the mark by less than this counts as one without progress.
PROGRESS_BYTES = 1 << 16
ATTEMPTS_WITHOUT_PROGRESS = 4
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})

Tell = Callable[[int], None]


class SourceFailed(Exception):
    """One source did not deliver; the message says why. Another may."""


class Offer(msgspec.Struct, frozen=True):
    """One address of one file. ``size_bytes`` 0 and ``sha256`` empty = not stated; ``token`` = a bearer token."""

    url: str
    size_bytes: int = 0
    sha256: str = ""
    token: str = ""


class _Interrupted(Exception):
    """The transfer broke in a way that trying again may mend."""


def failure_text(error: BaseException) -> str:
    """A library's error as words without addresses, since those may hold credentials."""
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted (set SSL_CERT_FILE to your CA bundle)"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection ({error.os_error.strerror or 'host not found'})"
    if isinstance(error, aiohttp.InvalidURL):
        return "the address is malformed"
    return type(error).__name__


async def inquire(session: aiohttp.ClientSession, offer: Offer) -> Offer:
    """Asks for the first byte: the offer with its size and hash filled in, or SourceFailed."""
    if offer.url.startswith("file:"):
        path = local_path(offer)
        if not path.is_file():
            raise SourceFailed(f"there is no file `{path}`")
        return msgspec.structs.replace(offer, size_bytes=path.stat().st_size)
    try:
        async with session.get(offer.url, headers=_headers(offer, 0, 0)) as response:
            if response.status not in (200, 206):
                raise SourceFailed(_status_text(response))
            return msgspec.structs.replace(
                offer,
                size_bytes=_total_bytes(response) or offer.size_bytes,
                sha256=offer.sha256 or _linked_hash(response),
            )
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise SourceFailed(failure_text(error)) from error


async def fetch(session: aiohttp.ClientSession, offer: Offer, partial: Path, tell: Tell, *, pause_s: float) -> None:
    """Makes ``partial`` complete, taking up what is there; tries again while it gets on. Raises SourceFailed."""
    best, idle = size_of(partial), 0
    while True:
        try:
            await _attempt(session, offer, partial, tell)
            return
        except (aiohttp.ClientSSLError, aiohttp.InvalidURL) as error:
            raise SourceFailed(failure_text(error)) from error
        except (_Interrupted, aiohttp.ClientError, TimeoutError) as error:
            here = size_of(partial)
            idle = 0 if here >= best + PROGRESS_BYTES else idle + 1
            best = max(best, here)
            if idle >= ATTEMPTS_WITHOUT_PROGRESS:
                reason = str(error) if isinstance(error, _Interrupted) else failure_text(error)
                raise SourceFailed(f"the download broke {idle} times without getting on: {reason}") from error
            await asyncio.sleep(pause_s * 2**idle)


async def _attempt(session: aiohttp.ClientSession, offer: Offer, partial: Path, tell: Tell) -> None:
    have = size_of(partial)
    if offer.size_bytes and have == offer.size_bytes:
        return
    if offer.size_bytes and have > offer.size_bytes:
        drop(partial)
        have = 0
    if offer.url.startswith("file:"):
        await asyncio.to_thread(_copy, local_path(offer), partial)
        return
    async with session.get(offer.url, headers=_headers(offer, have)) as response:
        begin = _begin(response, have, partial)
        total = _total_bytes(response)
        if offer.size_bytes and total and total != offer.size_bytes:
            raise SourceFailed(f"it offers {total} bytes, and the file has {offer.size_bytes}")
        await _receive(response, partial, begin, offer.size_bytes or total, tell)


def _begin(response: aiohttp.ClientResponse, have: int, partial: Path) -> int:
    """From which byte on the body counts."""
    if response.status == 200:
        return 0
    if response.status == 206:
        stated = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if stated and int(stated[1]) == have:
            return have
    if response.status in (206, 416):
        drop(partial)
        raise _Interrupted("the server does not resume correctly")
    if response.status in RETRYABLE:
        raise _Interrupted(_status_text(response))
    raise SourceFailed(_status_text(response))


async def _receive(response: aiohttp.ClientResponse, partial: Path, begin: int, expected: int, tell: Tell) -> None:
    have = begin
    with opened_at(partial, begin) as file:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            have += len(chunk)
            if expected and have > expected:
                raise SourceFailed(f"it sends more than the {expected} bytes of the file")
            file.write(chunk)
            tell(have)
    if expected and have != expected:
        raise _Interrupted(f"it ended after {have} of {expected} bytes")


def opened_at(path: Path, offset: int) -> BinaryIO:
    """The file, made where there is none, cut to ``offset`` octets and ready to be written from there."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(offset)
    file.seek(offset)
    return file


def _headers(offer: Offer, begin: int, end: int | None = None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if offer.token:
        headers["Authorization"] = f"Bearer {offer.token}"
    if begin or end is not None:
        headers["Range"] = f"bytes={begin}-{'' if end is None else end}"
    return headers


def _total_bytes(response: aiohttp.ClientResponse) -> int:
    """The whole file's size as the answer states it; 0 = not stated."""
    if response.status == 206:
        stated = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
        return int(stated[1]) if stated else 0
    return response.content_length or 0


def _linked_hash(response: aiohttp.ClientResponse) -> str:
    """The content's sha256 where a hub states it (``X-Linked-Etag`` of the hub itself, before it redirects)."""
    for answer in (*response.history, response):
        stated = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64})"?', answer.headers.get("X-Linked-Etag", ""))
        if stated:
            return stated[1]
    return ""


def _status_text(response: aiohttp.ClientResponse) -> str:
    meaning = {401: " (it wants a token: set HF_TOKEN)", 403: " (access refused)", 404: " (no such file)"}
    return f"{response.host} answered HTTP {response.status}{meaning.get(response.status, '')}"


def local_path(offer: Offer) -> Path:
    """The path of a ``file:`` address."""
    return Path(unquote(urlsplit(offer.url).path))


def _copy(origin: Path, target: Path) -> None:
    try:
        origin.open("rb").close()
    except OSError as error:
        raise SourceFailed(f"`{origin}` cannot be read: {error.strerror}") from error
    shutil.copyfile(origin, target)
