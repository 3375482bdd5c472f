"""Ordinary heads of answers, read at a glance.

Nearly every answer begins with a head that leaves no room for two readings. Such a head is read here; whatever differs
from it in the least is left to the parser, which is stricter than fast.
"""

from __future__ import annotations

import re
from functools import lru_cache

START = b"HTTP/1.1 200 OK\r\n"
PLAIN_BYTES_MAX = 2048
FIELDS_MAX = 32

_is_field = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): ([!-~](?:[ -~]*[!-~])?)").fullmatch
_is_length = re.compile(r"[0-9]{1,15}").fullmatch

Head = tuple[int, int, dict[str, str]]
"""Where the body begins, how long it is (`CHUNKED` where the body says so itself), and the headers."""

CHUNKED = -1

# Whether the connection stays, and where the answer ends: these alone are taken, as they stand here.
_FRAMING = {
    "connection": ("keep-alive",),
    "content-encoding": (),
    "proxy-connection": (),
    "trailer": (),
    "transfer-encoding": ("chunked",),
    "upgrade": (),
}


def plain_head(data: bytes) -> Head | None:
    """The head that a read begins with, if all of it is there and it is an ordinary one.

    That is: 200 of HTTP/1.1, each header once, on one line of visible ASCII with one blank behind its colon, either a
    length or chunks, and nothing that ends the connection or encodes the body.
    """
    end = data.find(b"\r\n\r\n", 0, PLAIN_BYTES_MAX)
    if end < 0 or not data.startswith(START):
        return None
    lines = data[len(START) : end].split(b"\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        field = _field(line)
        if field is None:
            return None
        headers[field[0]] = field[1]
    length = headers.get("content-length")
    if len(headers) < len(lines) or len(lines) > FIELDS_MAX or (length is None) is ("transfer-encoding" not in headers):
        return None
    return end + 4, CHUNKED if length is None else int(length), headers


@lru_cache(256)
def _field(line: bytes) -> tuple[str, str] | None:
    """One header, its name in lower case; most lines of an answer have been in the one before."""
    found = _is_field(line)
    if found is None:
        return None
    name, value = found[1].decode().lower(), found[2].decode()
    if name == "content-length":
        return (name, value) if _is_length(value) else None
    return None if name in _FRAMING and value.lower() not in _FRAMING[name] else (name, value)
