"""A raw HTTP/1.1 client on a blocking socket: it shows bytes as they came, which real clients hide."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from arkway.testing import API_KEY
from arkway.wire import json

PATIENCE_S = 60.0


class Reply(msgspec.Struct, frozen=True):
    """One answer: header names in lower case; the body joined, without its chunked framing."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """The error object; its four keys are there in every dialect."""
        error: dict[str, Any] = self.json()["error"]
        assert set(error) == {"code", "message", "param", "type"}
        return error


class Connection:
    """One connection, kept alive over calls; a new one after an answer that says it is the last."""

    def __init__(self, url: str, key: str = API_KEY, timeout_s: float = PATIENCE_S) -> None:
        place = urlsplit(url)
        self.host = place.netloc
        self.key = key
        self._place = (place.hostname or "", place.port or 80)
        self._timeout_s = timeout_s
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(self._place, self._timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")
        self._ended = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, key: str | None = None
    ) -> Reply:
        """Sends one request and reads the whole answer. ``body``: bytes as they are, anything else as JSON."""
        self.send(method, path, body, headers, key)
        return self.reply(method)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None, key: str | None = None) -> Reply:
        return self.call("POST", path, body, headers, key)

    def get(self, path: str, headers: Mapping[str, str] | None = None, key: str | None = None) -> Reply:
        return self.call("GET", path, None, headers, key)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, key: str | None = None
    ) -> None:
        """Sends one request. ``key=""`` sends no credentials."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
        fields = {"Host": self.host}
        secret = self.key if key is None else key
        if secret:
            fields["Authorization"] = f"Bearer {secret}"
        if body is not None:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self.send_raw(method, path, fields | dict(headers or {}), data)

    def send_raw(self, method: str, path: str, fields: Mapping[str, str], data: bytes = b"") -> None:
        if self._ended:  # the server said that the last answer was the connection's last
            self.close()
            self._connect()
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode("latin-1") + data)

    def head(self) -> tuple[int, dict[str, str]]:
        """Reads a status line and headers."""
        line = self._file.readline()
        if not line:
            raise ConnectionResetError("the server closed the connection")
        headers: dict[str, str] = {}
        while (field := self._file.readline().strip()) != b"":
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        self._ended = headers.get("connection", "").lower() == "close"
        return int(line.split()[1]), headers

    def reply(self, method: str = "GET") -> Reply:
        """Reads one whole answer."""
        status, headers = self.head()
        if method == "HEAD":
            return Reply(status, headers, b"")
        if "content-length" in headers:
            return Reply(status, headers, self._file.read(int(headers["content-length"])))
        return Reply(status, headers, b"".join(self.chunks()))

    def chunks(self) -> Iterator[bytes]:
        """The pieces of a chunked body, as they come. Raises ConnectionResetError where it breaks off."""
        while True:
            size = self._file.readline()
            if not size.endswith(b"\n"):
                raise ConnectionResetError("the body broke off")
            piece = self._file.read(int(size, 16))
            self._file.readline()
            if not piece:
                return
            yield piece


def frames(body: bytes) -> list[Any]:
    """The payloads of a whole stream, decoded; ``[DONE]`` as it is. Asserts the framing, to the byte."""
    assert body.endswith(b"\n\n")
    blocks = body[:-2].split(b"\n\n")
    assert all(block.startswith(b"data: ") and b"\n" not in block for block in blocks)
    payloads = [block[6:] for block in blocks]
    return [payload.decode() if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


def text(body: bytes, index: int = 0) -> str:
    """What choice ``index`` of a whole stream says."""
    return "".join(
        choice["delta"].get("content") or ""
        for frame in frames(body)
        if isinstance(frame, dict)
        for choice in frame.get("choices", [])
        if choice["index"] == index
    )


def finish_reasons(body: bytes) -> list[str]:
    """Every finish reason of a whole stream, in order."""
    return [
        choice["finish_reason"]
        for frame in frames(body)
        if isinstance(frame, dict)
        for choice in frame.get("choices", [])
        if choice.get("finish_reason")
    ]
