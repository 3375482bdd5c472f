"""What a connection reads, on its way to the parser: counted, in slices, and checked for what the parser leaves out."""

from __future__ import annotations

import httptools

from arkway.core.errors import BadRequest
from arkway.http.edge import Refusal
from arkway.http.edge_connection import BODY, DEAF, HEAD, IDLE, Connection
from arkway.http.edge_head import CHUNKED
from arkway.http.edge_refusals import head_too_large, understood

CHUNK_FRAMING_BYTES = 32
SLICE_BYTES = 1024
HEAD_END = b"\r\n\r\n"
UNKNOWN = -(1 << 62)


class Reading(Connection):
    """The half of a connection that feeds the parser."""

    __slots__ = ()

    def _fail(self, refusal: Refusal) -> None:
        """What comes in cannot be read any further."""
        raise NotImplementedError

    def _keep_head(self, data: bytes) -> None:
        """These data were the head of one request, which the hot handler has taken, and nothing but content."""
        raise NotImplementedError

    def _feed_head(self, data: bytes) -> None:
        """Never more than a head may have, so that the parser does not gather what is refused anyway."""
        room = self.edge.limits.head_bytes - self._head_bytes
        if len(data) > room:
            self._feed_head(data[:room])
            if self._phase == HEAD and self._head_bytes >= self.edge.limits.head_bytes:
                self._fail(head_too_large(self.edge.limits))
            else:
                self.data_received(data[room:])
            return
        if len(data) > SLICE_BYTES and b"chunked" in data[: (end := data.find(HEAD_END) + len(HEAD_END))]:
            self._feed_counted(data[:end])
            self.data_received(data[end:])
        else:
            self._feed_counted(data)

    def _feed_counted(self, data: bytes) -> None:
        before, between = self._requests, self._phase != HEAD
        self._feed(data)
        if self._requests == before + between:
            if between and self.again is not None:
                self._keep_head(data)
            if self._phase == HEAD:
                self._head_bytes += len(data)
            elif self._phase == BODY and self._flags & CHUNKED:
                head = sum(len(name) + len(value) + 4 for name, value in self._headers) + len(self._url)
                self._weigh_framing(self._head_bytes + len(data) - head - self._body_bytes, self._chunks)

    def _feed_body(self, data: bytes) -> None:
        if not self._flags & CHUNKED:
            self._feed(data)
            return
        # In slices, to tell framing from content about that exactly.
        for start in range(0, len(data), SLICE_BYTES):
            piece = data[start : start + SLICE_BYTES]
            if self._phase != BODY:
                self.data_received(data[start:])
                return
            chunks, body_bytes, requests = self._chunks, self._body_bytes, self._requests
            self._feed(piece)
            # Of a slice in which another request begins, nobody can tell what is whose.
            if self._phase == BODY and self._flags & CHUNKED and self._requests == requests:
                self._weigh_framing(len(piece) - (self._body_bytes - body_bytes), self._chunks - chunks)

    def _weigh_framing(self, framing_bytes: int, chunks: int) -> None:
        """What is neither content nor the least that chunks need: extensions and trailers."""
        self._carried += framing_bytes
        most = self.edge.limits.extension_bytes
        if self._carried > most + CHUNK_FRAMING_BYTES * (chunks + 1):
            self._fail(Refusal(400, BadRequest(f"chunk extensions and trailers have at most {most} bytes")))
        elif chunks:
            self._carried = 0

    def _feed(self, data: bytes) -> None:
        phase, begun, rest = self._phase, self._requests, b""
        self._data, self._fresh = data, phase <= IDLE
        self._content_at, self._body_before = 0 if phase == BODY else UNKNOWN, self._body_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Not taken up: the request is an ordinary one, and so is what follows it.
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            if self._phase == DEAF or (self._last and self._phase != BODY and self._refusal is None):
                self._dropped = True  # more, after what was to be the last request
            else:
                self._fail(self._refusal or understood(error))
        self._data = b""
        if self._phase == HEAD:
            self._line += data[max(self._start, 0) :] if self._requests != begun else data
        if rest:
            self.data_received(rest)

    def _refused(self, refusal: Refusal) -> Refusal:
        """Keeps it until the parser has given up."""
        self._refusal = refusal
        return refusal

    # The request line, of whose spaces the parser says nothing; nor does it say where in the data a request begins.

    def _begin_line(self) -> None:
        """A request begins: at the beginning of the data, or where the one before it ends."""
        fresh, self._fresh = self._fresh, False
        if fresh:
            self._start = 0
        elif self._flags & CHUNKED:
            self._start = UNKNOWN
        else:
            self._start = self._content_at + self._body_bytes - self._body_before
        self._line = bytearray()

    def _check_line(self, method: bytes, version: str) -> None:
        """One space each between method, target and version (RFC 9112 §3): anything else is read this way or that.

        Of a request that came behind a chunked one in one read it is not known where it begins. Raises Refusal.
        """
        earlier, start = len(self._line), self._start
        octets = bytes(self._line) + self._data if earlier else self._data
        line = b"%b %b HTTP/%b\r\n" % (method, self._url, version.encode())
        if start >= 0:
            start = 0 if earlier else start
            while octets[start : start + 1] in (b"\r", b"\n"):
                start += 1
        if not (octets.startswith(line, start) if start >= 0 else line in octets):
            raise Refusal(400, BadRequest("the request line has to be `METHOD target HTTP/1.1`, with single spaces"))
        self._content_at = UNKNOWN if start < 0 else octets.find(HEAD_END, start) + len(HEAD_END) - earlier
        self._body_before = 0
        if earlier:
            self._line = bytearray()
