"""JSON, strictly: what other parsers let through (NaN, BOM, lone surrogates, bombs) is refused here, once.

orjson rejects NaN, infinities, invalid UTF-8, BOMs, UTF-16 and lone surrogates by itself; nesting and the number of
values are bounded here, before they cost anything.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from arkway.core.errors import BadRequest

DEPTH_MAX = 64
VALUES_MAX = 200_000

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def loads(data: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises BadRequest saying what is wrong and where."""
    refuse_bombs(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"the body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None


def load_object(data: bytes) -> dict[str, Any]:
    """As `loads`, for a body that has to be a JSON object."""
    value = loads(data) if data else None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    return value


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON. Lone surrogates, which UTF-8 cannot carry, become U+FFFD."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_mended(value))


def escaped(text: bytes) -> bytes:
    """JSON in UTF-8 as JSON in ASCII: every other character, which can only stand in a string, as its escapes."""
    if text.isascii():
        return text
    return _NOT_ASCII.sub(_escapes, text.decode()).encode()


def _escapes(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def refuse_bombs(data: bytes) -> None:
    """Raises BadRequest for JSON text nested deeper than 64 levels or holding more than 200,000 values."""
    openings = data.count(b"[") + data.count(b"{")
    if openings <= DEPTH_MAX and data.count(b",") <= VALUES_MAX:
        return
    bare = _without_strings(data)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > VALUES_MAX:
        raise BadRequest(f"the JSON text holds more than {VALUES_MAX} values")
    if _depth(bare.translate(None, _NOT_BRACKETS)) > DEPTH_MAX:
        raise BadRequest(f"the JSON text is nested deeper than {DEPTH_MAX} levels")


def _without_strings(data: bytes) -> bytes:
    """What stands outside the strings, in time linear in the data whatever it holds (no regular expression).

    Once escapes are gone every quote opens or closes a string. A backslash outside a string may put this view out of
    step, but the parser refuses the text at that very backslash.
    """
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    if plain.count(b'"') > 4 * VALUES_MAX:
        raise BadRequest(f"the JSON text holds more than {VALUES_MAX} values")
    return b"".join(plain.split(b'"')[::2])


def _depth(brackets: bytes) -> int:
    depth = deepest = 0
    for byte in brackets:
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > DEPTH_MAX:
            break
    return deepest


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(item) for item in value]
    return value
