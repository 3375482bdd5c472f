"""Images as octets and as ``data:`` URLs: what an image is told by how it begins, not by what it is called."""

from __future__ import annotations

import base64
import binascii
import re
import struct

from arkway.core.errors import UnsupportedInput

TAKEN = "a PNG, JPEG, WebP or GIF"

_is_inline = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,", re.IGNORECASE).match
_is_web = re.compile(r"https?://", re.IGNORECASE).match


def is_inline(url: str) -> bool:
    """Is it the image itself, of a kind that is taken?"""
    return _is_inline(url) is not None


def is_web(url: str) -> bool:
    """Does it name an image that somebody would have to fetch?"""
    return _is_web(url) is not None


def media_type_of(octets: bytes) -> str:
    """The kind of image by its signature; empty for what is none that is taken."""
    if octets.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if octets.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if octets.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if octets[:4] == b"RIFF" and octets[8:12] == b"WEBP":
        return "image/webp"
    return ""


def data_url(octets: bytes) -> str:
    """The image as a ``data:`` URL. Raises UnsupportedInput for what is no image that is taken."""
    media_type = media_type_of(octets)
    if not media_type:
        raise UnsupportedInput(f"what lies at the URL is not {TAKEN}")
    return f"data:{media_type};base64,{base64.b64encode(octets).decode('ascii')}"


def octets_of(url: str, field: str = "") -> bytes:
    """The image in a ``data:`` URL. Raises UnsupportedInput for another kind of URL, broken base64, or no image."""
    begin = _is_inline(url)
    if begin is None:
        raise UnsupportedInput(f"send the image itself, as a data: URL of {TAKEN}", field)
    try:
        octets = binascii.a2b_base64(url[begin.end() :], strict_mode=True)
    except (binascii.Error, ValueError):
        raise UnsupportedInput("the image's base64 is broken", field) from None
    if not media_type_of(octets):
        raise UnsupportedInput(f"the data: URL does not hold {TAKEN}", field)
    return octets


def pixels_of(octets: bytes) -> int:
    """Width times height as the image's head tells, without unpacking anything; 0 where it does not tell.

    Sources: PNG §11.2.1 (IHDR), GIF89a §18 (logical screen), ITU-T T.81 B.2.2 (frame header).
    """
    match media_type_of(octets):
        case "image/png":
            told = octets[12:16] == b"IHDR" and len(octets) > 23
            width, height = struct.unpack(">II", octets[16:24]) if told else (0, 0)
        case "image/gif":
            width, height = struct.unpack("<HH", octets[6:10]) if len(octets) > 9 else (0, 0)
        case "image/jpeg":
            width, height = _jpeg_size(octets)
        case _:
            width, height = 0, 0
    return int(width * height)


def _jpeg_size(octets: bytes) -> tuple[int, int]:
    """From the first frame header (SOF0 to SOF15, but for DHT, JPG and DAC, which lie among their numbers)."""
    place = 2
    while place + 9 <= len(octets) and octets[place] == 0xFF:
        marker = octets[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", octets[place + 5 : place + 9])
            return width, height
        place += 2 if marker == 0x01 or 0xD0 <= marker <= 0xD8 else 2 + int.from_bytes(octets[place + 2 : place + 4])
    return 0, 0
