"""The pieces of a request that every shape reads in the same way: texts, stops, biases, parts, tools and their calls.

All raise InvalidField or MissingField naming the wire path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from arkway.core.chat import ImagePart, Part, TextPart, Tool, ToolCall
from arkway.core.errors import BadRequest, InvalidField, UnsupportedInput
from arkway.wire import json
from arkway.wire.fields import Field, json_type, read, table
from arkway.wire.limits import (
    EMBED_INPUT_MAX_BYTES,
    EMBED_TOTAL_MAX_BYTES,
    NAME_MAX_BYTES,
    PARTS_MAX,
    STOP_MAX_BYTES,
    TOKEN_ID_MAX,
    TOOL_MAX_BYTES,
)

ReadImage = Callable[[Any, str], ImagePart]

_TOOL = table(
    Field("type", "string", "`function`", choices=("function",), default="function"),
    Field("function", "object", "the function", True),
)

_TOOL_CALL = table(
    Field("id", "string", "which call this is", max_bytes=NAME_MAX_BYTES),
    Field("type", "string", "`function`", choices=("function",), default="function"),
    Field("function", "object", "what is called", True),
)

_CALLED = table(
    Field("name", "string", "the function's name", True, max_bytes=NAME_MAX_BYTES),
    Field("arguments", "string", "JSON text, as the model wrote it"),
)

_FUNCTION = table(
    Field("name", "string", "the function's name", True, max_bytes=NAME_MAX_BYTES, plain=True),
    Field("description", "string", "what it does", max_bytes=TOOL_MAX_BYTES),
    Field("parameters", "object", "its arguments as a JSON Schema"),
)


def texts(value: str | list[Any], field: str) -> tuple[str, ...]:
    """One text or a list of texts, none empty, each and all together of bounded size."""
    if isinstance(value, list) and not value:
        raise InvalidField("expected at least one text", field)
    entries = [(field, value)] if isinstance(value, str) else [(f"{field}[{i}]", item) for i, item in enumerate(value)]
    if sum(_text_bytes(text, path) for path, text in entries) > EMBED_TOTAL_MAX_BYTES:
        raise InvalidField(f"at most {EMBED_TOTAL_MAX_BYTES} bytes are taken in one call", field)
    return tuple(cast(str, text) for _, text in entries)


def _text_bytes(text: Any, path: str) -> int:
    if not isinstance(text, str):
        raise InvalidField(f"expected a string, got {json_type(text)}", path)
    if not text:
        raise InvalidField("expected a text that is not empty", path)
    size = len(text.encode())
    if size > EMBED_INPUT_MAX_BYTES:
        raise InvalidField(f"at most {EMBED_INPUT_MAX_BYTES} bytes are taken", path)
    return size


def stops(value: str | list[Any], field: str = "stop") -> tuple[str, ...]:
    """The strings that end an answer: one or a list; empty ones end nothing."""
    entries = [value] if isinstance(value, str) else value
    for index, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise InvalidField(f"expected a string, got {json_type(entry)}", f"{field}[{index}]")
        if len(entry.encode()) > STOP_MAX_BYTES:
            raise InvalidField(f"at most {STOP_MAX_BYTES} bytes are taken", f"{field}[{index}]")
    return tuple(entry for entry in entries if entry)


def logit_biases(value: dict[str, Any], field: str = "logit_bias") -> dict[int, float]:
    """Token id → bias."""
    biases: dict[int, float] = {}
    for key, bias in value.items():
        path = f"{field}.{key[:32]}"
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= TOKEN_ID_MAX):
            raise InvalidField("expected a token id as the key; tokenization gives them", path)
        if isinstance(bias, bool) or not isinstance(bias, int | float):
            raise InvalidField(f"expected a number, got {json_type(bias)}", path)
        if not -100 <= bias <= 100:
            raise InvalidField(f"expected a number from -100 to 100, got {bias}", path)
        biases[int(key)] = float(bias)
    return biases


def parts(entries: list[Any], path: str, image: ReadImage) -> tuple[Part, ...]:
    """A message's parts; ``image`` reads what stands under ``image_url``."""
    if len(entries) > PARTS_MAX:
        raise InvalidField(f"at most {PARTS_MAX} parts are taken, got {len(entries)}", path)
    return tuple(_part(entry, f"{path}[{index}]", image) for index, entry in enumerate(entries))


def _part(entry: Any, path: str, image: ReadImage) -> Part:
    match an_object(entry, path).get("type"):
        case "text":
            if not isinstance(entry.get("text"), str):
                raise InvalidField("expected a string", f"{path}.text")
            return TextPart(entry["text"])
        case "image_url":
            return image(entry.get("image_url"), f"{path}.image_url")
        case "video_url" | "input_audio" | "file" as kind:
            raise UnsupportedInput(f"the model does not take `{kind}` parts", f"{path}.type")
        case other:
            raise InvalidField(f"expected `text` or `image_url`, got {shown(other)}", f"{path}.type")


def image_by_url(value: Any, path: str) -> ImagePart:
    """An image by its URL, which may stand alone."""
    image = {"url": value} if isinstance(value, str) else value
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise InvalidField("expected an object with a `url`", path)
    detail = image.get("detail")
    return ImagePart(image["url"], detail if isinstance(detail, str) else "auto")


def tool_calls(values: Mapping[str, Any], path: str) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message, in the newer or the older form."""
    if "function_call" in values:
        return (_called("", values["function_call"], f"{path}.function_call"),)
    entries = values.get("tool_calls", [])
    return tuple(_tool_call(entry, f"{path}.tool_calls[{index}]") for index, entry in enumerate(entries))


def _tool_call(entry: Any, path: str) -> ToolCall:
    values, _ = read(_TOOL_CALL, an_object(entry, path), f"{path}.")
    return _called(values.get("id", ""), values["function"], f"{path}.function")


def _called(call_id: str, function: dict[str, Any], path: str) -> ToolCall:
    values, _ = read(_CALLED, function, f"{path}.")
    arguments = values.get("arguments", "")
    try:
        json.refuse_bombs(arguments.encode())
    except BadRequest as error:
        raise InvalidField(error.message, f"{path}.arguments") from None
    return ToolCall(call_id, values["name"], arguments)


def tools(entries: list[Any]) -> tuple[Tool, ...]:
    """The functions of ``tools``."""
    found = []
    for index, entry in enumerate(entries):
        path = f"tools[{index}]"
        values, _ = read(_TOOL, an_object(entry, path), f"{path}.")
        found.append(_function(values["function"], f"{path}.function"))
    return tuple(found)


def an_object(entry: Any, path: str) -> dict[str, Any]:
    """The entry, which has to be an object."""
    if not isinstance(entry, dict):
        raise InvalidField(f"expected an object, got {json_type(entry)}", path)
    return entry


def functions(entries: list[Any]) -> tuple[Tool, ...]:
    """The functions of ``functions``, the older form."""
    paths = [f"functions[{index}]" for index in range(len(entries))]
    return tuple(_function(an_object(entry, path), path) for entry, path in zip(entries, paths, strict=True))


def _function(entry: dict[str, Any], path: str) -> Tool:
    values, _ = read(_FUNCTION, entry, f"{path}.")
    if len(json.dumps(entry)) > TOOL_MAX_BYTES:
        raise InvalidField(f"at most {TOOL_MAX_BYTES} bytes are taken for one function", path)
    return Tool(values["name"], values.get("description", ""), values.get("parameters", {}))


def shown(value: Any) -> str:
    """A value for a message: a string cut short, else its type."""
    return f"`{value[:64]}`" if isinstance(value, str) else json_type(value)
