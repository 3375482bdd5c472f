"""Declared field tables: one per operation. It validates, finds what has no effect, and is the documentation.

JSON is decoded to plain objects first, and the table is then read over them, because typed structs would drop unknown
fields silently. Null equals absent everywhere: the Python Ark SDK sends every unset field as null (protocol §0, 10).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from arkway.core.errors import InvalidField, MissingField

Kind = Literal[
    "string", "integer", "number", "boolean", "array", "object", "string or array", "string or object", "any"
]
Effect = Literal["honoured", "ignored", "refused"]

INTEGER_MAX = 2**63 - 1
_QUOTED_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)

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
class Strict:
    """What the vendor's document allows where a field otherwise takes what its real callers send (protocol §11a).

    The range is inclusive, but for ``low`` itself where ``above_low``; ``choices`` empty = the field's own.
    """

    low: float | None = None
    high: float | None = None
    above_low: bool = False
    choices: tuple[str, ...] = ()

    def range_text(self) -> str:
        """The range in words."""
        if not self.above_low:
            return _range_text(self.low, self.high)
        return f"a number above {self.low:g}" + (f" and at most {self.high:g}" if self.high is not None else "")

    def holds(self, value: float) -> bool:
        """Whether the number is inside."""
        if self.low is not None and (value < self.low or (self.above_low and value == self.low)):
            return False
        return self.high is None or value <= self.high


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name on the wire, JSON type, inclusive range, limits, and what it does here.

    ``honoured`` fields are read; ``ignored`` ones are accepted without effect and reported as such; ``refused`` ones
    are an error wherever they appear, because accepting them would be unsafe. ``plain`` strings are names, which go
    into databases and C strings: no NUL.

    The rest is for clients that cannot say it otherwise. ``quoted``: an integer may come as a string of digits.
    ``zero_is_unset``: 0 equals absent. ``clamps``: what is above ``high`` counts as ``high`` and is reported.
    ``else_ignored``: a value of another type is ignored rather than refused. In strict mode the range is that of
    ``strict``, no zero is special and nothing is clamped.
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
    strict: Strict | None = None
    quoted: bool = False
    zero_is_unset: bool = False
    clamps: bool = False
    else_ignored: bool = False

    free: frozenset[type] = dataclasses.field(init=False, compare=False, repr=False)
    """Types any value of which is right, whatever the mode: nothing about it has to be looked at."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "free", self._free())

    def _free(self) -> frozenset[type]:
        bounds = (self.low, self.high, self.max_bytes, self.max_items, self.strict)
        bound = any(limit is not None for limit in bounds) or self.choices or self.plain
        special = self.effect != "honoured" or self.else_ignored or self.quoted or self.zero_is_unset or self.clamps
        if bound or special or self.kind not in ("string", "boolean"):
            return frozenset()
        return frozenset(_TYPES[self.kind])

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

    def check_strictly(self, value: Any, path: str) -> None:
        """As `check`, within what strict mode allows."""
        if self.strict is not None:
            self._check_type(value, path)
            self._check_strict_bounds(self.strict, value, path)
        self.check(value, path)

    def _check_strict_bounds(self, strict: Strict, value: Any, path: str) -> None:
        if isinstance(value, int | float) and not strict.holds(value):
            raise InvalidField(f"expected {strict.range_text()} in strict mode, got {value}", path)
        if strict.choices and value not in strict.choices:
            known = " or ".join(f"`{choice}`" for choice in strict.choices)
            raise InvalidField(f"expected {known} in strict mode, got `{value[:64]}`", path)

    def unquoted(self, value: Any) -> Any:
        """The integer that a string of digits means, where this field takes such strings; else the value itself."""
        if self.quoted and isinstance(value, str) and _QUOTED_INTEGER.fullmatch(value):
            return int(value)
        return value

    def fits(self, value: Any) -> bool:
        """Whether the value has the field's JSON type."""
        return isinstance(value, _TYPES[self.kind])

    def is_number(self, value: Any) -> bool:
        """Whether the value is a number of the field's JSON type."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.fits(value)

    def range_text(self) -> str:
        """The range in words, for messages and documentation; empty when there is none."""
        if self.low is None and self.high is None:
            return "a 64-bit number" if self.kind in ("integer", "number") else ""
        return _range_text(self.low, self.high)

    def behaviour(self, *, strict: bool) -> str:
        """What the field does in one of the two modes, in words."""
        if self.effect != "honoured":
            return self.effect
        if strict:
            return ", ".join(self._strict_words())
        return ", ".join(self._words())

    def _words(self) -> Iterator[str]:
        if self.required:
            yield "required"
        if self.low is not None or self.high is not None:
            yield self.range_text()
        if self.choices:
            yield " or ".join(self.choices)
        if self.quoted:
            yield "digits in a string too"
        if self.zero_is_unset:
            yield "0 is unset"
        if self.clamps:
            yield f"more counts as {self.high:g}"
        if self.else_ignored:
            yield "any other type is ignored"

    def _strict_words(self) -> Iterator[str]:
        if self.required:
            yield "required"
        low, high = self.low, self.high
        if self.strict is not None and (self.strict.low is not None or self.strict.high is not None):
            yield self.strict.range_text()
        elif low is not None or high is not None:
            yield self.range_text()
        choices = (self.strict.choices if self.strict is not None else ()) or self.choices
        if choices:
            yield " or ".join(choices)
        if self.quoted:
            yield "digits in a string too"
        if self.else_ignored:
            yield "any other type is ignored"


class Table(dict[str, Field]):
    """Fields by name. ``required``: the names of those that have to be there."""

    def __init__(self, fields: Iterable[Field]) -> None:
        super().__init__((field.name, field) for field in fields)
        self.required = tuple(field.name for field in self.values() if field.required)


def table(*fields: Field) -> Table:
    """A table from its fields; a later field of the same name replaces an earlier one."""
    return Table(fields)


class Reading(NamedTuple):
    """A body as read: its honoured values, and the wire paths of what had no effect or a nearer one."""

    values: dict[str, Any]
    ignored: tuple[str, ...]
    clamped: tuple[str, ...]


def read(fields: Table, body: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body's honoured values (nulls left out), and the names that were accepted without effect.

    Raises MissingField and InvalidField naming the wire path.
    """
    values, ignored, _ = read_in_mode(fields, body, prefix)
    return values, ignored


def read_in_mode(fields: Table, body: Mapping[str, Any], prefix: str = "", *, strict: bool = False) -> Reading:
    """As `read`, in one of the two modes, with what was clamped."""
    values: dict[str, Any] = {}
    ignored: list[str] = []
    clamped: list[str] = []
    for name, given in body.items():
        if given is None:
            continue
        field, path = fields.get(name), prefix + name
        if field is not None and type(given) in field.free:
            values[name] = given
            continue
        if field is None or field.effect == "ignored" or (field.else_ignored and not field.fits(given)):
            ignored.append(prefix + name[:64])
            continue
        if field.effect == "refused":
            raise InvalidField("this field is not taken here, for safety; leave it out", path)
        value = field.unquoted(given)
        if strict:
            field.check_strictly(value, path)
        elif field.zero_is_unset and field.is_number(value) and value == 0:
            continue
        elif field.clamps and field.high is not None and field.is_number(value) and value > field.high:
            value = type(value)(field.high)
            clamped.append(path)
        else:
            field.check(value, path)
        values[name] = value
    for name in fields.required:
        if name not in values:
            raise MissingField(prefix + name)
    return Reading(values, tuple(ignored), tuple(clamped))


def mode_rows(fields: Table, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """For documentation: name, type, and what the field does in compat and in strict mode."""
    for field in fields.values():
        yield prefix + field.name, field.kind, field.behaviour(strict=False), field.behaviour(strict=True)


def _range_text(low: float | None, high: float | None) -> str:
    if high is None:
        return f"at least {low:g}"
    if low is None:
        return f"at most {high:g}"
    return f"exactly {low:g}" if low == high else f"a number from {low:g} to {high:g}"


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
