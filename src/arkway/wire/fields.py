"""Declared field tables: one per operation. It validates, finds what has no effect, and is the documentation.

JSON is decoded to plain objects first, and the table is then read over them, because typed structs would drop unknown
fields silently. Null equals absent everywhere: the Python Ark SDK sends every unset field as null (protocol §0, 10).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from arkway.core.errors import InvalidField, MissingField

Kind = Literal[
    "string", "integer", "number", "boolean", "array", "object", "string or array", "string or object", "any"
]
Effect = Literal["honoured", "ignored", "refused"]

INTEGER_MAX = 2**63 - 1

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "string or array": (str, list),
    "string or object": (str, dict),
    "any": (object,),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name on the wire, JSON type, inclusive range, limits, and what it does here.

    ``honoured`` fields are read; ``ignored`` ones are accepted without effect and reported as such; ``refused`` ones
    are an error wherever they appear, because accepting them would be unsafe. ``plain`` strings are names, which go
    into databases and C strings: no NUL.
    """

    name: str
    kind: Kind
    doc: str
    required: bool = False
    low: float | None = None
    high: float | None = None
    max_bytes: int | None = None
    max_items: int | None = None
    choices: tuple[str, ...] = ()
    plain: bool = False
    default: str = ""
    effect: Effect = "honoured"

    def check(self, value: Any, path: str) -> None:
        """Raises InvalidField when the value is not of this field's type, range or size."""
        self._check_type(value, path)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(value, path)
        if isinstance(value, str):
            self._check_text(value, path)
        if self.max_items is not None and isinstance(value, list | dict) and len(value) > self.max_items:
            raise InvalidField(f"at most {self.max_items} entries are taken, got {len(value)}", path)

    def _check_type(self, value: Any, path: str) -> None:
        wanted = _TYPES[self.kind]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted and object not in wanted):
            raise InvalidField(f"expected {_article(self.kind)}, got {json_type(value)}", path)

    def _check_range(self, value: float, path: str) -> None:
        low = self.low if self.low is not None else -INTEGER_MAX
        high = self.high if self.high is not None else INTEGER_MAX
        if not math.isfinite(value) or not low <= value <= high:
            raise InvalidField(f"expected {self.range_text()}, got {value}", path)

    def _check_text(self, value: str, path: str) -> None:
        if self.plain and "\0" in value:
            raise InvalidField("a name cannot hold the character NUL", path)
        if self.choices and value not in self.choices:
            known = " or ".join(f"`{choice}`" for choice in self.choices)
            raise InvalidField(f"expected {known}, got `{value[:64]}`", path)
        if self.max_bytes is not None and len(value) * 4 > self.max_bytes and len(value.encode()) > self.max_bytes:
            raise InvalidField(f"at most {self.max_bytes} bytes are taken, got {len(value.encode())}", path)

    def range_text(self) -> str:
        """The range in words, for messages and documentation; empty when there is none."""
        if self.low is None and self.high is None:
            return "a 64-bit number" if self.kind in ("integer", "number") else ""
        if self.high is None:
            return f"at least {self.low:g}"
        if self.low is None:
            return f"at most {self.high:g}"
        return f"exactly {self.low:g}" if self.low == self.high else f"a number from {self.low:g} to {self.high:g}"


Table = Mapping[str, Field]


def table(*fields: Field) -> Table:
    """A table from its fields; a later field of the same name replaces an earlier one."""
    return {field.name: field for field in fields}


def read(fields: Table, body: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body's honoured values (nulls left out), and the names that were accepted without effect.

    Raises MissingField and InvalidField naming the wire path.
    """
    values: dict[str, Any] = {}
    ignored: list[str] = []
    for name, value in body.items():
        field = fields.get(name)
        if value is None:
            continue
        if field is None or field.effect == "ignored":
            ignored.append(prefix + name[:64])
            continue
        if field.effect == "refused":
            raise InvalidField("this field is not taken here, for safety; leave it out", prefix + name)
        field.check(value, prefix + name)
        values[name] = value
    for field in fields.values():
        if field.required and field.name not in values:
            raise MissingField(prefix + field.name)
    return values, tuple(ignored)


def json_type(value: Any) -> str:
    """The JSON name of a value's type, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number that is not a 64-bit integer"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"
