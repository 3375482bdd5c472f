"""JSON Schema as the OpenAPI document uses it: enough to hold an answer against its description, and no more.

A keyword that is not known here is an error, so that nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
SILENT = {"title", "description", "default", "format"}


def check(value: Any, schema: Mapping[str, Any], components: Mapping[str, Any], path: str = "$") -> None:
    """Asserts that the value is as the schema says; ``components`` are the schemas that it refers to."""
    if reference := schema.get("$ref"):
        check(value, components[reference.rpartition("/")[2]], components, path)
        return
    for keyword, wanted in schema.items():
        if keyword not in SILENT:
            KEYWORDS[keyword](value, wanted, schema, components, path)


def _type(value: Any, wanted: Any, *_: Any) -> None:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    allowed = tuple(kind for name in kinds for kind in TYPES[name])
    assert isinstance(value, allowed), (value, wanted, _[-1])
    assert not isinstance(value, bool) or "boolean" in kinds, (value, wanted, _[-1])


def _any_of(value: Any, wanted: Any, _: Any, components: Mapping[str, Any], path: str) -> None:
    failures = 0
    for schema in wanted:
        try:
            check(value, schema, components, path)
        except AssertionError:
            failures += 1
    assert failures < len(wanted), (value, wanted, path)


def _properties(value: Any, wanted: Any, _: Any, components: Mapping[str, Any], path: str) -> None:
    for name, schema in wanted.items():
        if name in value:
            check(value[name], schema, components, f"{path}.{name}")


def _additional(value: Any, wanted: Any, schema: Any, components: Mapping[str, Any], path: str) -> None:
    for name in set(value) - set(schema.get("properties", {})):
        assert wanted is not False, (name, path)
        check(value[name], {} if wanted is True else wanted, components, f"{path}.{name}")


def _items(value: Any, wanted: Any, _: Any, components: Mapping[str, Any], path: str) -> None:
    for place, item in enumerate(value):
        check(item, wanted, components, f"{path}[{place}]")


def _required(value: Any, wanted: Any, *rest: Any) -> None:
    assert set(wanted) <= set(value), (set(wanted) - set(value), rest[-1])


def _enum(value: Any, wanted: Any, *rest: Any) -> None:
    assert value in wanted, (value, wanted, rest[-1])


def _pattern(value: Any, wanted: Any, *rest: Any) -> None:
    assert re.search(wanted, value), (value, wanted, rest[-1])


KEYWORDS: Mapping[str, Callable[..., None]] = {
    "type": _type,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "required": _required,
    "enum": _enum,
    "pattern": _pattern,
}
