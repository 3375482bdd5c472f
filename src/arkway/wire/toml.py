"""TOML: in which line of a text a key stands, and how values are written. Reading it is `tomllib`'s."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from arkway.wire import json

Path = tuple[str | int, ...]
Value = str | int | float | bool | datetime | Sequence[str] | Mapping[str, str]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_ARRAY = re.compile(rf"^\s*\[\[\s*({_DOTTED})\s*\]\]")
_TABLE = re.compile(rf"^\s*\[\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONG = re.compile(r'"""|' + "'''")


def line_of(text: str, *path: str | int) -> int:
    """The line, from 1, of a key such as ``("server", "port")`` or ``("endpoints", 2, "name")``; 0 = not found.

    Of a value that is written inside another one, the line of the latter; of a table, its heading.
    """
    found, depth = 0, 0
    for number, place in _places(text):
        shared = min(len(place), len(path))
        if shared > depth and place[:shared] == path[:shared]:
            found, depth = number, shared
    return found


def written(value: Value) -> str:
    """A value as TOML has it: one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_text(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return f"[{', '.join(map(_text, value))}]"


def _places(text: str) -> Iterator[tuple[int, Path]]:
    """Every heading and every key of its own line, with the line."""
    here: Path = ()
    counts: dict[str, int] = {}
    inside = False
    for number, line in enumerate(text.split("\n"), 1):
        if not inside:
            if found := _ARRAY.match(line):
                name = ".".join(_parts(found[1]))
                here = (*_parts(found[1]), counts.setdefault(name, 0))
                counts[name] += 1
                yield number, here
            elif found := _TABLE.match(line):
                here = _parts(found[1])
                yield number, here
            elif found := _KEY.match(line):
                yield number, (*here, *_parts(found[1]))
        inside ^= len(_LONG.findall(line)) % 2 == 1


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, and TOML has DEL escaped as well."""
    return json.dumps(text).decode().replace("\x7f", "\\u007f")
