"""Heads that a client sends again: told by their octets, and not read a second time.

On a kept connection a client sends the same head with every request, but for the length of the body and what it makes
up for each one. Those few values are cut out; the octets around them have to be the very same. Whatever is not told
so is read like any other request, so that nothing here decides what a head means.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from arkway.http.edge_exchange import HotExchange
    from arkway.http.protocol import EdgeProtocol

VALUE_MAX_BYTES = 1024
MISSES_MAX = 8
"""So many other heads in a row, and the connection looks for repeated ones no more."""

_LENGTH = re.compile(rb"[1-9][0-9]{0,11}")
_PLAIN = re.compile(rb"[!-~](?:[ -~]*[!-~])?")


class Again(Protocol):
    """What a hot handler leaves for requests whose head says the same as that of the one it was asked about.

    ``fields`` as they were; the values of ``varying`` ones may be others, and so may the content's length, up to
    ``body_max_bytes``.
    """

    fields: tuple[tuple[bytes, bytes], ...]
    varying: frozenset[bytes]
    body_max_bytes: int

    def change(self, values: dict[int, bytes]) -> None:
        """The next request has these values, by their places in ``fields``; all the others stay."""

    def begin(self, protocol: EdgeProtocol) -> HotExchange | None:
        """Who answers one more such request; does not answer at once, never raises. None = read it like any other."""


class Repeated:
    """The head of a connection's last request: ``length`` octets of content follow the first ``end``."""

    __slots__ = ("_again", "_first", "_gaps", "_head", "end", "length")

    def __init__(self, head: bytes, again: Again) -> None:
        self._head, self.end, self._again = head, len(head), again
        self.length = next(int(value) for name, value in again.fields if name == b"content-length")
        self._first = b""
        self._gaps: list[tuple[int, re.Pattern[bytes], bytes]] = []

    def begin(self, protocol: EdgeProtocol, data: bytes) -> HotExchange | None:
        """Who answers, where the data begin with such a head again and hold nothing beyond the content."""
        if not data.startswith(self._head) and not self._differs_by_values(protocol, data):
            return None
        return self._again.begin(protocol) if len(data) <= self.end + self.length else None

    def _differs_by_values(self, protocol: EdgeProtocol, data: bytes) -> bool:
        """Takes the other values in, if these are all that is different."""
        if not self._first:
            self._cut()
        if not data.startswith(self._first):
            return False
        at, length, values = len(self._first), 0, {}
        for place, form, following in self._gaps:
            end = data.find(b"\r\n", at, at + VALUE_MAX_BYTES)
            value = data[at:end]
            if end < 0 or not form.fullmatch(value) or not data.startswith(following, end):
                return False
            values[place] = value
            length = int(value) if form is _LENGTH else length
            at = end + len(following)
        if not 0 < length <= self._again.body_max_bytes or at > protocol.edge.limits.header_bytes:
            return False
        self._head, self.end, self.length = data[:at], at, length
        self._again.change(values)
        return True

    def _cut(self) -> None:
        """Into the octets before the first value that may be another, and those after each."""
        head, lower = self._head, self._head.lower()
        found: list[tuple[int, int, int, re.Pattern[bytes]]] = []
        for place, (name, value) in enumerate(self._again.fields):
            form = _LENGTH if name == b"content-length" else _PLAIN if name in self._again.varying else None
            if form is not None:
                start = head.find(value, lower.index(b"\r\n%b:" % name) + len(name) + 3)
                found.append((start, start + len(value), place, form))
        found.sort()
        self._first = head[: found[0][0]]
        nexts = [start for start, *_ in found[1:]] + [len(head)]
        self._gaps = [
            (place, form, head[end:following]) for (_, end, place, form), following in zip(found, nexts, strict=True)
        ]
