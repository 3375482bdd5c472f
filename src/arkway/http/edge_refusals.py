"""Refusals below a request: what the parser complains about, and how the answer looks on the wire."""

from __future__ import annotations

import logging
from http import HTTPStatus

import httptools

from arkway.core.errors import BackendUnavailable, BadRequest, HeadTooLarge, InternalError, Overloaded
from arkway.core.raw import ErrorReply
from arkway.http.edge import EdgeLimits, Refusal

log = logging.getLogger("arkway")

STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
SNIFFED_BYTES = 1024


def last_answer(status: int, head_lines: bytes, reply: ErrorReply, *, with_body: bool) -> bytes:
    """A connection's last answer, whole."""
    lines = [*reply.headers, ("content-length", str(len(reply.body))), ("connection", "close")]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
    return b"".join((STATUS_LINES[status], head_lines, head, b"\r\n", reply.body if with_body else b""))


def understood(error: httptools.HttpParserError) -> Refusal:
    """What the parser complains about, as an answer."""
    if error.__context__ is not None and not isinstance(error.__context__, Refusal):
        log.error("internal error", exc_info=error.__context__)
        return Refusal(500, InternalError())
    said = str(error)
    if "HTTP version" in said:
        return Refusal(505, BadRequest("the request's HTTP version is not spoken here; use HTTP/1.1"))
    if "Transfer-Encoding" in said and "Content-Length" not in said:
        return Refusal(501, BadRequest("`Transfer-Encoding` can be `chunked` and nothing else"))
    return Refusal(400, BadRequest("the request is not valid HTTP/1.1"))


def head_too_large(limits: EdgeLimits) -> Refusal:
    """The headers, before they could be parsed."""
    return Refusal(431, HeadTooLarge(f"the headers are larger than {limits.header_bytes} bytes"))


def crowded() -> Refusal:
    """One connection too many."""
    return Refusal(503, Overloaded("the server has as many connections as it takes; try again in a moment"))


def full() -> Refusal:
    """One body too many."""
    message = "the server holds as many request bodies as it takes; send this again in a moment"
    return Refusal(503, BackendUnavailable(message))


def target_in(data: bytes) -> bytes:
    """The target of a request line, when that is what it is."""
    words = data[:SNIFFED_BYTES].split(b" ", 2)
    return words[1] if len(words) == 3 and words[1].startswith(b"/") else b""
