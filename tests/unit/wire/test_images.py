"""Images by what they begin with."""

from __future__ import annotations

import base64
import struct

import pytest

from arkway.core.errors import UnsupportedInput
from arkway.wire.images import data_url, is_inline, is_web, media_type_of, octets_of, pixels_of
from tests.tools.random_projector import gif, jpeg, large_png, png

WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
KINDS = {"image/png": png(2, 3), "image/jpeg": jpeg(), "image/gif": gif(), "image/webp": WEBP}


@pytest.mark.parametrize("media_type", KINDS)
def test_each_kind_there_and_back(media_type: str) -> None:
    octets = KINDS[media_type]
    assert media_type_of(octets) == media_type
    url = data_url(octets)
    assert url.startswith(f"data:{media_type};base64,")
    assert octets_of(url) == octets
    assert is_inline(url)
    assert not is_web(url)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x89PNG",
        b"\xff\xd8",
        b"GIF88a",
        b"RIFF\x10\0\0\0WAVE",
        b"<svg>",
        b" \x89PNG\r\n\x1a\n",
        b"BM" + bytes(60),
    ],
)
def test_what_is_no_image(octets: bytes) -> None:
    assert media_type_of(octets) == ""
    assert pixels_of(octets) == 0
    with pytest.raises(UnsupportedInput, match="is not a PNG"):
        data_url(octets)
    with pytest.raises(UnsupportedInput, match="does not hold") as refused:
        octets_of(f"data:image/png;base64,{base64.b64encode(octets).decode()}", "here")
    assert refused.value.field == "here"


@pytest.mark.parametrize("text", ["iVBORw0KGgo", "iVBO Rw0KGgo=", "*", "iVBORw0KGgo=x", "\u00e9"])
def test_broken_base64(text: str) -> None:
    with pytest.raises(UnsupportedInput, match="base64 is broken"):
        octets_of(f"data:image/png;base64,{text}")


@pytest.mark.parametrize(
    "url",
    [
        "http://a/b.png",
        "data:text/html;base64,aGk=",
        "data:image/svg+xml;base64,aGk=",
        "data:image/png,x",
        " data:image/png;base64,",
        "",
    ],
)
def test_other_urls(url: str) -> None:
    assert not is_inline(url)
    with pytest.raises(UnsupportedInput, match="send the image itself"):
        octets_of(url)


@pytest.mark.parametrize(
    ("octets", "pixels"),
    [
        (png(2, 3), 6),
        (large_png(3000, 2000), 6_000_000),
        (png(2, 3)[:24], 6),
        (png(2, 3)[:23], 0),
        (gif(), 1),
        (b"GIF89a" + struct.pack("<HH", 300, 200), 60_000),
        (b"GIF89a\1\0\1", 0),
        (jpeg(8), 64),
        (jpeg(16), 256),
        (b"\xff\xd8\xff\xff\xfe\0\4ab" + jpeg(24)[2:], 576),
        (jpeg(8)[:75], 0),
        (b"\xff\xd8\xff\xe0" + bytes(40), 0),
        (b"\xff\xd8\xff\xe0\xff\xff" + bytes(40), 0),
        (WEBP, 0),
    ],
)
def test_the_size_is_told_by_the_head(octets: bytes, pixels: int) -> None:
    assert pixels_of(octets) == pixels


@pytest.mark.parametrize(
    ("url", "fetched"), [("HTTPS://a/", True), ("http://a", True), ("https:/a", False), ("ftp://a", False)]
)
def test_which_urls_are_of_the_web(url: str, fetched: bool) -> None:
    assert is_web(url) is fetched
