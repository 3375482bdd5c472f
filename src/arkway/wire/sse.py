"""Server-sent events, both ways.

Two framings exist (protocol §0 rule 1): v3 and OpenAI write ``data: {…}`` with exactly one space, the older
generations ``data:{…}`` with none. Frames are always separated by one empty line and never carry ``event:`` or ``id:``.
"""

from __future__ import annotations

from arkway.core.errors import BackendFailed

SPACED_DONE = b"data: [DONE]\n\n"
TIGHT_DONE = b"data:[DONE]\n\n"
PING = b": ping\n\n"
"""A comment: safe for the clients of the tight framing, and for no others (protocol §0 rule 3)."""
LINE_MAX_BYTES = 1 << 20


def spaced(payload: bytes) -> bytes:
    """One frame in the v3 framing."""
    return b"data: " + payload + b"\n\n"


def tight(payload: bytes) -> bytes:
    """One frame in the framing of MaaS v1, v2 and Bot API V2: no space."""
    return b"data:" + payload + b"\n\n"


class Reader:
    """Takes a stream's bytes in any pieces and gives back the payloads of its ``data`` lines.

    Takes every shape seen in the field: with or without the space, LF or CRLF, comments, other field names, a line cut
    anywhere. Raises BackendFailed for a line longer than 1 MiB.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that ``data`` completes, ``[DONE]`` among them."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_MAX_BYTES:
            raise BackendFailed("the backend sent a line longer than 1 MiB")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
