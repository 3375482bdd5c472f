"""A body read piece by piece and decoded, within a size: that of what came and that of what it unpacks to."""

from __future__ import annotations

import zlib
from typing import Protocol

from arkway.core.errors import UnsupportedInput

ENCODINGS = "gzip, deflate"
"""What is said to be taken, beside bodies as they are."""


class Body:
    """Collects pieces. Every method raises UnsupportedInput with the reason."""

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes = max_bytes
        self._came = 0
        self._whole = bytearray()
        self._decoder = _decoder(encoding)

    def add(self, piece: bytes) -> None:
        self._came += len(piece)
        if self._came > self._max_bytes:
            raise too_large(self._max_bytes)
        if self._decoder is None:
            self._whole += piece
        else:
            self._unpack(self._decoder, piece)

    def whole(self) -> bytes:
        """All of it, at the end."""
        if self._decoder is not None and self._came and not self._decoder.eof:
            raise _broken()
        return bytes(self._whole)

    def _unpack(self, decoder: _Decoder, piece: bytes) -> None:
        """One octet more than is allowed is all that is ever unpacked."""
        room = self._max_bytes + 1 - len(self._whole)
        try:
            self._whole += decoder.decompress(piece, room)
        except zlib.error:
            raise _broken() from None
        if len(self._whole) > self._max_bytes:
            raise too_large(self._max_bytes)
        if decoder.unused_data:
            raise _broken()


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def too_large(max_bytes: int) -> UnsupportedInput:
    return UnsupportedInput(f"the document at the URL is larger than the limit of {max_bytes} bytes")


def _decoder(encoding: str) -> _Decoder | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        case "deflate":
            return zlib.decompressobj()
        case _:
            raise UnsupportedInput("the server of the URL sends a Content-Encoding that it was not asked for")


def _broken() -> UnsupportedInput:
    return UnsupportedInput("the document at the URL is not compressed as its server says")
