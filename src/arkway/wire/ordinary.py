"""Types for bodies about which nothing has to be looked up, made from the field tables.

The tables remain the one truth (`arkway.wire.fields`). What one typed decode takes here is what the tables take, value
by value; whatever else a body may hold, right or wrong, it does not take, and the tables have their say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from arkway.wire import fields as tables
from arkway.wire import json
from arkway.wire.fields import Field, Table

Body = TypeVar("Body", bound=msgspec.Struct)

ORDINARY_BYTES = json.VALUES_MAX
"""A longer body may hold more values than are taken, as repeated keys; types cannot count those."""

NUL = b"\\u0000"
"""How a NUL comes in JSON, and the only way. Names cannot hold it; types could only tell by a regular expression."""

_UTF8_MAX = 4
_EXACT = 2**53


def body_type(base: type[Body], fields: Table, own: Mapping[str, Any], *, strict: bool = False) -> type[Body]:
    """``base`` as the body that these fields describe. Its attributes are the fields that its reader heeds.

    ``own`` are the types of those that are no plain value. What ``base`` or the table requires has to be there. A field
    that ``base`` has no attribute for, or the table no entry, can only be null, which equals absent; any other name is
    refused. A body longer than `ORDINARY_BYTES` or with `NUL` in it must not be read by the type.
    """
    heeded = msgspec.structs.fields(base)
    types = dict.fromkeys(fields) | {field.name: _of(fields.get(field.name), strict=strict) for field in heeded}
    types |= {name: kind for name, kind in own.items() if name in fields}
    required = {*fields.required, *(field.name for field in heeded if field.required)}
    defined = [(name, kind) if name in required else (name, _or_null(kind), None) for name, kind in types.items()]
    made: type[Body] = msgspec.defstruct(  # type: ignore[assignment]  # a subclass of the base, as the bases say
        base.__name__, defined, bases=(base,), module=__name__, kw_only=True, forbid_unknown_fields=True, gc=False
    )
    return made


def _or_null(kind: Any) -> Any:
    return None if kind is None else kind | None


def text_of(max_bytes: int) -> Any:
    """Texts of at most so many bytes, however many each character takes."""
    return Annotated[str, Meta(max_length=max_bytes // _UTF8_MAX)]


def list_of(entry: Any, field: Field, *, least: int = 0) -> Any:
    """Lists of as many entries as the field takes."""
    return Annotated[list[entry], Meta(min_length=least, max_length=field.max_items)]


def _of(field: Field | None, *, strict: bool) -> Any:
    """The type of values that are right and mean themselves; None where there is no such type."""
    if field is None or field.effect != "honoured" or field.else_ignored:
        return None
    match field.kind:
        case "boolean":
            return bool
        case "integer":
            return _integer(*_range(field, strict=strict))
        case "number":
            return _integer(*_range(field, strict=strict)) | _fraction(*_range(field, strict=strict))
        case "string":
            return _string(field, strict=strict)
    return None


def _string(field: Field, *, strict: bool) -> Any:
    choices = (field.strict.choices if strict and field.strict else ()) or field.choices
    if choices:
        return Literal[choices]
    return str if field.max_bytes is None else text_of(field.max_bytes)


def _range(field: Field, *, strict: bool) -> tuple[float, float, bool]:
    """The lowest and the highest value, and whether the lowest is one too low."""
    low, high = field.low, field.high
    above = field.zero_is_unset and not strict and (low is None or low <= 0)
    low = 0 if above else low
    if strict and field.strict is not None:
        if field.strict.low is not None and (low is None or field.strict.low >= low):
            low, above = field.strict.low, field.strict.above_low
        high = min((limit for limit in (high, field.strict.high) if limit is not None), default=None)
    unbounded = tables.INTEGER_MAX if field.kind == "integer" else _EXACT
    return -unbounded if low is None else low, unbounded if high is None else high, above


def _integer(low: float, high: float, above: bool) -> Any:
    least = math.floor(low) + 1 if above else math.ceil(low)
    return Annotated[int, Meta(ge=least, le=math.floor(high))]


def _fraction(low: float, high: float, above: bool) -> Any:
    if above:
        return Annotated[float, Meta(gt=float(low), le=float(high))]
    return Annotated[float, Meta(ge=float(low), le=float(high))]
