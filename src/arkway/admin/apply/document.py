"""A platform file, read: every mistake in it told at once, each with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from arkway.admin.apply.entries import (
    SECTIONS,
    Entry,
)
from arkway.admin.apply.terms import Ref
from arkway.core.errors import InvalidField, Misconfigured
from arkway.wire.toml import line_of

VALUE_SHOWN = 64
PROBLEMS_SHOWN = 20

_AT = re.compile(r"`\$\.([a-z_]+)")
_MISSING = re.compile(r"required field `([a-z_]+)`")


class Platform(msgspec.Struct, frozen=True):
    """What a file names. ``lines`` has the line of each thing, ``source`` is the file's name."""

    entries: Mapping[Ref, Entry]
    source: str = ""
    lines: Mapping[Ref, int] = {}

    def place(self, ref: Ref) -> str:
        """Where the thing stands, for messages."""
        return _place(self.source, self.lines.get(ref, 0))


class _Problem(Exception):
    """One mistake: in which key ("" = the whole entry), and what is wrong with it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key, self.message = key, message


def read(text: str, source: str) -> Platform:
    """Raises Misconfigured with every mistake, one a line: file, line, key, and what it has to be."""
    try:
        tree = tomllib.loads(text)
    except ValueError as error:
        raise Misconfigured(f"{source} is not valid TOML: {error}") from None
    return _Reading(text, source).read(tree)


def refuse(problems: list[str]) -> None:
    """Raises Misconfigured when there are any."""
    if len(problems) > PROBLEMS_SHOWN:
        problems = [*problems[:PROBLEMS_SHOWN], f"and {len(problems) - PROBLEMS_SHOWN} more"]
    if problems:
        raise Misconfigured("\n".join(problems))


class _Reading:
    def __init__(self, text: str, source: str) -> None:
        self._text, self._source = text, source
        self._problems: list[str] = []
        self._entries: dict[Ref, Entry] = {}
        self._lines: dict[Ref, int] = {}

    def read(self, tree: Mapping[str, Any]) -> Platform:
        for name in tree:
            if name not in SECTIONS:
                self._say((name,), f"there is no table `{name}`{_near(name, list(SECTIONS))}")
        for name, kind in SECTIONS.items():
            self._section(name, kind, tree.get(name, []))
        refuse(self._problems)
        return Platform(self._entries, self._source, self._lines)

    def _section(self, name: str, kind: type[Entry], rows: Any) -> None:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self._say((name,), f"`{name}` is a list of tables: write [[{name}]] above each of them")
            return
        for number, row in enumerate(rows):
            try:
                self._take(name, number, _entry(kind, row))
            except _Problem as problem:
                where = f"{name}.{problem.key}" if problem.key else f"[[{name}]]"
                self._say((name, number, problem.key), f"`{where}`: {problem.message}")

    def _take(self, name: str, number: int, entry: Entry) -> None:
        line = line_of(self._text, name, number)
        if entry.ref in self._entries:
            before = _place(self._source, self._lines[entry.ref])
            raise _Problem("", f"the {entry.ref} is there already, at {before}")
        self._entries[entry.ref], self._lines[entry.ref] = entry, line

    def _say(self, path: tuple[str | int, ...], message: str) -> None:
        self._problems.append(f"{_place(self._source, line_of(self._text, *path))}: {message}")


def _entry(kind: type[Entry], row: dict[str, Any]) -> Entry:
    """Raises _Problem."""
    fields = typing.get_type_hints(kind, include_extras=True)
    for key in row:
        if key not in fields:
            raise _Problem(key, f"there is no such key{_near(key, list(fields))}")
    try:
        entry = msgspec.convert(row, kind)
        entry.check()
    except msgspec.ValidationError as error:
        raise _explained(str(error), row, fields) from None
    except InvalidField as error:
        raise _Problem(error.field, error.message) from None
    return entry


def _explained(said: str, row: Mapping[str, Any], fields: Mapping[str, Any]) -> _Problem:
    if missing := _MISSING.search(said):
        return _Problem("", f"the key `{missing[1]}` is missing; it is {_meant(fields[missing[1]])}")
    found = _AT.search(said)
    if found is None or found[1] not in fields:
        return _Problem("", said)
    value = str(row[found[1]])[:VALUE_SHOWN]
    return _Problem(found[1], f"has to be {_meant(fields[found[1]])}, not {value!r}")


def _meant(kind: Any) -> str:
    """What a key takes, in words."""
    for each in (kind, *typing.get_args(kind)):
        for meta in getattr(each, "__metadata__", ()):
            if meta.description:
                return str(meta.description)
    raise AssertionError(f"{kind} says nothing about itself")


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(known)}"


def _place(source: str, line: int) -> str:
    return f"{source}, line {line}" if line else source
