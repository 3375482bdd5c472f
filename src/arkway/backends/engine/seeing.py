"""Images in a prompt of the embedded engine: checked here, unpacked in the child alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from arkway.backends.engine.process import Process
from arkway.core.chat import ChatRequest, ImagePart
from arkway.core.errors import InvalidField, UnsupportedInput
from arkway.wire.images import media_type_of, octets_of, pixels_of

IMAGES_MAX = 16
PIXELS_MAX = 36_000_000
"""Of all images of a request together: each takes three octets of the child's memory until the prompt is read."""
READ = ("image/png", "image/jpeg", "image/gif")


class SeenPrompt(NamedTuple):
    """What the engine takes as a prompt, and how many tokens its text has: those of images only the engine counts."""

    prompt: dict[str, Any]
    text_tokens: int


def images_of(request: ChatRequest) -> list[str]:
    """Every image of the request in base64, in order. Raises UnsupportedInput or InvalidField with its place."""
    found: list[str] = []
    room = PIXELS_MAX
    for place, url in _images(request):
        room -= _pixels(octets_of(url, place), place)
        if room < 0:
            raise UnsupportedInput(f"the images of a request may have {PIXELS_MAX} pixels together; send less", place)
        found.append(url.partition(",")[2])
    if len(found) > IMAGES_MAX:
        raise InvalidField(f"at most {IMAGES_MAX} images are taken, got {len(found)}", "messages")
    if found and request.logprobs:
        field = f"{request.parameter_prefix}logprobs"
        raise InvalidField("log-probabilities are not given for answers to images", field)
    return found


def _images(request: ChatRequest) -> Iterator[tuple[str, str]]:
    """Every image's place on the wire, and its URL."""
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.content if isinstance(message.content, tuple) else ()):
            if isinstance(part, ImagePart):
                yield f"messages[{i}].content[{j}].image_url.url", part.url


def _pixels(octets: bytes, place: str) -> int:
    if media_type_of(octets) not in READ:
        raise UnsupportedInput("this model reads PNG, JPEG and GIF images; send it as one of these", place)
    pixels = pixels_of(octets)
    if not pixels:
        raise UnsupportedInput("the image is broken: its head does not tell how large it is", place)
    return pixels


async def seen_prompt(
    process: Process, messages: list[dict[str, Any]], tools: list[dict[str, Any]], images: list[str]
) -> SeenPrompt:
    """The prompt of messages in which the engine's marker stands for each image. Raises InvalidField."""
    marker = process.traits.media_marker
    text = await process.reader.text(messages, tools)
    # The engine's own assertion: the last thing it reads has to be text.
    if text.count(marker) != len(images) or not text.rpartition(marker)[2].strip():
        raise InvalidField(
            "the model's chat template takes no images where these are; put them into user messages", "messages"
        )
    ids = await process.client.ids(text.replace(marker, ""), special=True, start=True)
    return SeenPrompt({"prompt_string": text, "multimodal_data": images}, len(ids))
