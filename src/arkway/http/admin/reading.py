"""From a query and a body to structs, with errors that say which field, and which one was perhaps meant."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec

from arkway.core.errors import BadRequest, InvalidField, MissingField
from arkway.http.admin.errors import UnsupportedMediaType
from arkway.wire import json

Shape = TypeVar("Shape", bound=msgspec.Struct)

FIELDS_MAX = 200
SHOWN_CHARACTERS = 256
_PLACE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"^Object (?:contains unknown|missing required) field `(.*)`$", re.DOTALL)


class Query:
    """A query string's fields, each to be taken by one of the structs that an operation has."""

    def __init__(self, text: str, shapes: Iterable[type[msgspec.Struct]]) -> None:
        """Raises BadRequest, InvalidField."""
        self._given: dict[str, list[str]] = {}
        for name, value in _pairs(text):
            self._given.setdefault(name, []).append(value)
        known = [name for shape in shapes for name in shape.__struct_encode_fields__]
        for name in self._given:
            if name not in known:
                raise _unknown(name, known, "the query has")

    def take(self, shape: type[Shape]) -> Shape:
        """The fields of one struct. Raises MissingField, InvalidField."""
        many = _many(shape)
        values: dict[str, Any] = {}
        for name in shape.__struct_encode_fields__:
            given = self._given.get(name)
            if given is None:
                continue
            if name not in many and len(given) > 1:
                raise InvalidField(f"`{name}` is given {len(given)} times; give it once", name)
            values[name] = given if name in many else given[0]
        return _converted(values, shape, strict=False)


def read_body(body: bytes, content_type: str, shape: type[Shape]) -> Shape:
    """A JSON body. Raises UnsupportedMediaType, BadRequest, MissingField, InvalidField."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType
    return _converted(json.load_object(body), shape, strict=True)


def file_name(header: str) -> str:
    """The name of an uploaded file, percent-encoded as UTF-8 where it is not ASCII. Raises InvalidField."""
    try:
        name = unquote(header, errors="strict")
    except UnicodeDecodeError:
        name = "\0"
    if not name.isprintable():
        raise InvalidField("`X-File-Name` has to be a name, percent-encoded as UTF-8", "file_name")
    return name


def check_no_body(body: bytes) -> None:
    """Raises BadRequest: an action takes no fields."""
    if body.strip() not in (b"", b"{}"):
        raise BadRequest("this operation takes no fields; send no body")


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError:
        raise BadRequest(f"the query is not of at most {FIELDS_MAX} fields in UTF-8") from None
    for name, value in pairs:
        if not value.isprintable():
            raise InvalidField("a query has printable characters only", name[:64])
    return pairs


def _converted(values: Mapping[str, Any], shape: type[Shape], *, strict: bool) -> Shape:
    try:
        return msgspec.convert(values, shape, strict=strict)
    except msgspec.ValidationError as error:
        raise _explained(str(error), shape) from None


def _explained(problem: str, shape: type[msgspec.Struct]) -> BadRequest:
    """The mistake as one of ours; msgspec says it as ``Expected … - at `$.tags[0].key` ``."""
    found = _PLACE.match(problem)
    said, place = (found[1], found[2] or "") if found else (problem, "")
    field = _FIELD.match(said)
    if field is None:
        choices = choices_of(shape, place) if "enum value" in said else ()
        words = f"has to be one of {', '.join(choices)}" if choices else said[:1].lower() + said[1:SHOWN_CHARACTERS]
        return InvalidField(f"`{place}`: {words}" if place else words, place)
    path = f"{place}.{field[1]}" if place else field[1]
    return MissingField(path) if "missing" in said else _unknown(path, names_of(shape), "there is")


def _unknown(path: str, known: Sequence[str], begin: str) -> InvalidField:
    leaf = path.rpartition(".")[2][:64]
    near = difflib.get_close_matches(leaf, known, n=1, cutoff=0.5)
    hint = f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(known)}" if known else ""
    return InvalidField(f"{begin} no field `{leaf}`{hint}", path[:128])


@cache
def names_of(shape: type[msgspec.Struct]) -> tuple[str, ...]:
    """Every field's name, those of structs within too."""
    found: list[str] = []
    for schema in msgspec.json.schema(shape).get("$defs", {}).values():
        found += schema.get("properties", {})
    return tuple(dict.fromkeys(found))


@cache
def choices_of(shape: type[msgspec.Struct], path: str) -> tuple[str, ...]:
    """The values that a field may have, by its path (``by[1]``); none where it is not that kind of field."""
    leaf = re.sub(r"\[.*\]$", "", path).rpartition(".")[2]
    for schema in msgspec.json.schema(shape).get("$defs", {}).values():
        kind = schema.get("properties", {}).get(leaf, {})
        if found := kind.get("enum") or kind.get("items", {}).get("enum"):
            return tuple(found)
    return ()


@cache
def _many(shape: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that may be given more than once."""
    hints = typing.get_type_hints(shape)
    return frozenset(name for name, kind in hints.items() if typing.get_origin(kind) is tuple)
