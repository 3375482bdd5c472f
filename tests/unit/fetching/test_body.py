"""Bodies within their size, packed and unpacked."""

from __future__ import annotations

import gzip
import zlib

import pytest

from arkway.core.errors import UnsupportedInput
from arkway.fetching.body import Body

TEXT = b"hello, web " * 100


def read(body: Body, data: bytes, step: int) -> bytes:
    for start in range(0, len(data), step):
        body.add(data[start : start + step])
    return body.whole()


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("encoding", "data"),
    [("", TEXT), ("identity", TEXT), ("gzip", gzip.compress(TEXT)), (" GZIP", gzip.compress(TEXT)),
     ("x-gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT)), ("gzip", b"")],
)  # fmt: skip
def test_what_comes_is_what_was_sent(encoding: str, data: bytes, step: int) -> None:
    assert read(Body(len(TEXT), encoding), data, step) == (TEXT if data else b"")


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_the_limit_is_for_what_it_unpacks_to(encoding: str) -> None:
    data = gzip.compress(TEXT) if encoding else TEXT
    assert read(Body(len(TEXT), encoding), data, 512) == TEXT
    with pytest.raises(UnsupportedInput, match=f"{len(TEXT) - 1} bytes"):
        read(Body(len(TEXT) - 1, encoding), data, 512)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(100 << 20))
    body = Body(1 << 20, "gzip")
    with pytest.raises(UnsupportedInput, match="larger than the limit"):
        read(body, bomb, 65_536)
    assert len(body._whole) == (1 << 20) + 1


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("gzip", TEXT), ("gzip", gzip.compress(TEXT)[:-1]), ("gzip", gzip.compress(TEXT) + b"more"),
     ("deflate", b"\x00\x01")],
)  # fmt: skip
def test_what_is_not_packed_as_it_says(encoding: str, data: bytes) -> None:
    with pytest.raises(UnsupportedInput, match="not compressed as"):
        read(Body(1 << 20, encoding), data, 100)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedInput, match="Content-Encoding"):
        Body(10, encoding)
