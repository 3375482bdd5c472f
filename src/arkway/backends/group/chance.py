"""Chance, drawn in large pieces: a system call for each call's choice would be most of what choosing costs."""

from __future__ import annotations

import os
import struct

_DRAW = 512
_UNPACK = struct.Struct(f"<{_DRAW}Q").unpack
_STEP = 2.0**-53


class Entropy:
    """Gives numbers in [0, 1), evenly, from the system's entropy."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: list[float] = []

    def __call__(self) -> float:
        if not self._left:
            self._left = [(number >> 11) * _STEP for number in _UNPACK(os.urandom(8 * _DRAW))]
        return self._left.pop()
