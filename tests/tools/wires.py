"""The wire of every dialect: how a call is put, and how what comes back is read. What all dialects promise is tested
through it, once.

::

    reply = client.post(*wire.chat("问", stream=True))
    assert wire.text(reply.body) == "问"
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from arkway import testing
from arkway.core import errors as e
from arkway.core.raw import RawRequest, Tap
from arkway.dialects.bots import BotsV2
from arkway.dialects.bots import fields as bots_fields
from arkway.dialects.openai import OpenAI
from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v1 import fields as v1_fields
from arkway.dialects.v2 import MaasV2
from arkway.dialects.v2 import fields as v2_fields
from arkway.dialects.v3 import ArkV3, ArkV3Bots
from arkway.dialects.v3 import fields as v3_fields
from arkway.ports import Dialect
from arkway.testing import EMBEDDING_ENDPOINT_ID, ENDPOINT_ID
from arkway.wire import json
from arkway.wire.fields import Table
from tests.tools import client as spaced
from tests.tools.client import Reply
from tests.tools.told import BOTS_TOLD, MAAS_TOLD, OPENAI_TOLD, V3_TOLD, Told

BOT_ID = testing.BOT_ID
JAVA = "volc-sdk-java/v1.0.284"
NODE = "volc-sdk-nodejs/v1.0.2"
JSON_TYPE = "application/json; charset=utf-8"
STREAM_TYPE = "text/event-stream; charset=utf-8"

Place = tuple[str | int, ...]
"""Where a value stands in a body: the keys and indexes that lead there."""


class Call(NamedTuple):
    """One request of a caller, as `Connection.post` takes it."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]


class Wire(ABC):
    """One dialect as one family of clients sees it. ``name`` tells both, ``route`` is the dialect's own name.

    ``deaf``: these clients take no notice of a stream's HTTP status. ``home`` is what calls ask for where nothing else
    is said. ``tables`` are the field tables of each operation, by the place of the object that they describe.
    """

    name: str
    route: str
    dialect: Dialect
    deaf = False
    home = ENDPOINT_ID
    headers: dict[str, str]
    tables: Mapping[str, Mapping[Place, Table]]
    told: Mapping[type[e.ArkwayError], Told]
    end: bytes

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(self.tables)

    @abstractmethod
    def call(self, operation: str, asked: str = "", **values: Any) -> Call:
        """The smallest right call of an operation; ``values`` are more fields of its body."""

    @abstractmethod
    def chat(
        self,
        content: Any = "问",
        *,
        asked: str | None = None,
        stream: bool = False,
        usage: bool = False,
        values: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Call:
        """A chat, by default with ``home``. ``parameters`` say how to answer, ``values`` are more fields; ``usage``: a
        stream is to tell it."""

    @abstractmethod
    def text_place(self, operation: str) -> Place:
        """Where the operation's text stands."""

    @abstractmethod
    def choices(self, frame: Any) -> list[dict[str, Any]]:
        """The choices of a whole answer or of a frame."""

    @abstractmethod
    def said(self, choice: Mapping[str, Any]) -> str:
        """What a choice of a frame says."""

    @abstractmethod
    def frames(self, body: bytes) -> list[Any]:
        """The payloads of a whole stream, decoded; ``[DONE]`` as it is. Asserts the framing, to the byte."""

    @abstractmethod
    def beats(self, frame: bytes) -> bool:
        """Whether the frame is a sign of life: right to the byte, and without a word."""

    @abstractmethod
    def error(self, reply: Reply, *, stream: bool = False) -> dict[str, Any]:
        """The error object of an answer, its form asserted; ``stream``: the caller had asked for one."""

    @abstractmethod
    def failure(self, frame: Any) -> dict[str, Any]:
        """The error object of a stream's frame."""

    @abstractmethod
    def blamed(self, error: Mapping[str, Any]) -> set[str]:
        """The field that an error blames; the shape without a place for it names it in the message, among others."""

    def error_of(self, error: e.ArkwayError, reply: Reply) -> dict[str, Any]:
        """The error object that the dialect by itself makes of this error for this reply."""
        body = self.dialect.encode_error(error, reply.headers["x-request-id"]).body
        found: dict[str, Any] = json.loads(body)["error"]
        return found

    def text_of(self, reply: Reply) -> str:
        """What a whole answer says."""
        text: str = self.choices(reply.json())[0]["message"]["content"]
        return text

    def text(self, body: bytes, index: int = 0) -> str:
        """What choice ``index`` of a whole stream says."""
        return "".join(self.said(choice) for choice in self._streamed(body) if choice["index"] == index)

    def finish_reasons(self, body: bytes) -> list[str]:
        """Every finish reason of a whole stream, in order."""
        return [choice["finish_reason"] for choice in self._streamed(body) if choice.get("finish_reason")]

    def usage(self, body: bytes) -> dict[str, Any]:
        """The usage that a whole stream tells at its end."""
        told = [frame["usage"] for frame in self.frames(body) if isinstance(frame, dict) and frame.get("usage")]
        assert len(told) == 1
        found: dict[str, Any] = told[0]
        return found

    def counts(self, usage: Mapping[str, Any]) -> tuple[int, int, int]:
        """What a usage tells: prompt, completion, total."""
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        assert all(type(usage[name]) is int for name in names)
        prompt, completion, total = (usage[name] for name in names)
        return prompt, completion, total

    def blames(self, error: Mapping[str, Any], names: Iterable[str]) -> bool:
        """Whether the error blames one of the fields, or an entry inside it."""
        blamed = self.blamed(error)
        return any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in names for path in blamed)

    def _streamed(self, body: bytes) -> Iterable[dict[str, Any]]:
        for frame in self.frames(body):
            if isinstance(frame, dict):
                yield from self.choices(frame)

    def __repr__(self) -> str:
        return self.name


class ArkWire(Wire):
    """v3 and OpenAI: ``delta``, errors of four keys, one space after ``data:``."""

    end = b"data: [DONE]\n\n"

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        root: str,
        tables: Mapping[str, Table],
        told: Mapping[type[e.ArkwayError], Told],
    ) -> None:
        self.name = self.route = name
        self.dialect = dialect
        self.headers = {}
        self.tables = {operation: {(): table} for operation, table in tables.items()}
        self.told = told
        self._root = root

    def call(self, operation: str, asked: str = "", **values: Any) -> Call:
        if operation == "chat":
            return self.chat(asked=asked or self.home, values=values)
        asked = asked or (EMBEDDING_ENDPOINT_ID if operation == "embeddings" else ENDPOINT_ID)
        text = "input" if operation == "embeddings" else "text"
        return Call(f"{self._root}/{operation}", {"model": asked, text: "问", **values}, {})

    def chat(
        self,
        content: Any = "问",
        *,
        asked: str | None = None,
        stream: bool = False,
        usage: bool = False,
        values: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Call:
        chosen = self.home if asked is None else asked
        body = {"model": chosen, "messages": [{"role": "user", "content": content}], "stream": stream}
        options = {"stream_options": {"include_usage": True}} if usage and stream else {}
        return Call(f"{self._root}/chat/completions", {**body, **options, **parameters, **(values or {})}, {})

    def text_place(self, operation: str) -> Place:
        places: dict[str, Place] = {"chat": ("messages", 0, "content"), "embeddings": ("input",)}
        return places.get(operation, ("text",))

    def choices(self, frame: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = frame.get("choices", [])
        return found

    def said(self, choice: Mapping[str, Any]) -> str:
        return choice["delta"].get("content") or ""

    def frames(self, body: bytes) -> list[Any]:
        return spaced.frames(body)

    def beats(self, frame: bytes) -> bool:
        return frame.startswith(b'data: {"choices":[{"delta":{"content":""') and self.text(frame) == ""

    def error(self, reply: Reply, *, stream: bool = False) -> dict[str, Any]:
        assert reply.headers["content-type"] == JSON_TYPE
        error = reply.error()
        assert list(reply.json()) == ["error"]
        if self.told is V3_TOLD:
            assert error["message"].endswith(f"Request id: {reply.headers['x-request-id']}")
        return error

    def failure(self, frame: Any) -> dict[str, Any]:
        assert list(frame) == ["error"]
        error: dict[str, Any] = frame["error"]
        assert set(error) == {"code", "message", "param", "type"}
        return error

    def blamed(self, error: Mapping[str, Any]) -> set[str]:
        return {error["param"]} - {"", None}


class ArkBotsWire(ArkWire):
    """The bots' own route of v3: bots alone, and no space after ``data:``."""

    home = BOT_ID
    end = b"data:[DONE]\n\n"

    def call(self, operation: str, asked: str = "", **values: Any) -> Call:
        return self.chat(asked=asked or self.home, values=values)

    def frames(self, body: bytes) -> list[Any]:
        return tight(body)

    def beats(self, frame: bytes) -> bool:
        return frame.startswith(b'data:{"choices":[{"delta":{"content":""') and self.text(frame) == ""


class MaasWire(Wire):
    """v1 and v2: ``message`` in every frame, errors of three keys, no space after ``data:``, comments as heartbeats.

    ``agent`` is the client's User-Agent; the answers of v2 to the Java client hold no ``req_id``.
    """

    end = b"data:[DONE]\n\n"

    def __init__(
        self, name: str, dialect: Dialect, tables: Mapping[str, Mapping[Place, Table]], agent: str = ""
    ) -> None:
        self.route = name
        self.name = f"{name}-{agent.split('/')[0].removeprefix('volc-sdk-')}" if agent else name
        self.headers = {"User-Agent": agent} if agent else {}
        self.dialect = dialect.suited(_request(self.headers))
        self.deaf = bool(agent)
        self.tables = tables
        self.told = MAAS_TOLD
        self._ids = agent != JAVA or name == "v1"
        self._ascii = agent == NODE

    def call(self, operation: str, asked: str = "", **values: Any) -> Call:
        if operation == "chat":
            return self.chat(asked=asked or self.home, values=values)
        texts: dict[str, dict[str, Any]] = {
            "embeddings": {"input": ["问"]},
            "tokenization": {"text": "问"},
            "classification": {"query": "问", "labels": ["一", "二"]},
        }
        asked = asked or (EMBEDDING_ENDPOINT_ID if operation == "embeddings" else ENDPOINT_ID)
        return self._call(operation, asked, {**texts.get(operation, {}), **values})

    def chat(
        self,
        content: Any = "问",
        *,
        asked: str | None = None,
        stream: bool = False,
        usage: bool = False,
        values: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Call:
        body = {"messages": [{"role": "user", "content": content}], "stream": stream, "parameters": parameters}
        return self._call("chat", self.home if asked is None else asked, {**body, **(values or {})})

    def _call(self, operation: str, asked: str, body: dict[str, Any]) -> Call:
        if self.route == "v2":
            return Call(f"/api/v2/endpoint/{quote(asked, safe='')}/{operation}", body, self.headers)
        model = {"endpoint_id" if asked.startswith("ep-") else "name": asked}
        return Call(f"/api/v1/{operation}", {"model": model, **body}, self.headers)

    def text_place(self, operation: str) -> Place:
        places: dict[str, Place] = {
            "chat": ("messages", 0, "content"),
            "embeddings": ("input",),
            "tokenization": ("text",),
            "classification": ("query",),
        }
        return places.get(operation, ("unknown",))

    def choices(self, frame: Any) -> list[dict[str, Any]]:
        assert not ("choice" in frame and "choices" in frame)
        if self.route == "v1":
            return [frame["choice"]] if "choice" in frame else []
        found: list[dict[str, Any]] = frame.get("choices", [])
        return found

    def said(self, choice: Mapping[str, Any]) -> str:
        text: str = choice["message"]["content"]
        return text

    def frames(self, body: bytes) -> list[Any]:
        assert body.endswith(b"\n\n")
        assert body.isascii() or not self._ascii
        return tight(b"".join(block + b"\n\n" for block in body[:-2].split(b"\n\n") if block != b": ping"))

    def beats(self, frame: bytes) -> bool:
        return frame == b": ping\n\n"

    def error(self, reply: Reply, *, stream: bool = False) -> dict[str, Any]:
        framed = self.deaf and stream
        assert reply.headers["content-type"] == (STREAM_TYPE if framed else JSON_TYPE)
        if not framed:
            frame = reply.json()
        else:
            (frame,) = self.frames(reply.body)
        error = self.failure(frame)
        assert frame.get("req_id", reply.headers["x-request-id"])
        assert error["message"].endswith(f"Request ID: {reply.headers['x-request-id']}")
        return error

    def failure(self, frame: Any) -> dict[str, Any]:
        assert list(frame) == (["req_id", "error"] if self._ids else ["error"])
        error: dict[str, Any] = frame["error"]
        assert set(error) == {"code", "code_n", "message"}
        assert type(error["code_n"]) is int
        assert 1709800 < error["code_n"] < 1710000
        return error

    def blamed(self, error: Mapping[str, Any]) -> set[str]:
        if error["code"] == "EndpointIsInvalid":
            return {"model"}
        reason = error["message"].rpartition(" Request ID: ")[0]
        return set(re.findall(r"`([^`]*)`", reason))


class BotsWire(MaasWire):
    """Bot API V2."""

    home = BOT_ID

    def __init__(self) -> None:
        tables: dict[Place, Table] = {
            (): bots_fields.CHAT,
            ("parameters",): bots_fields.PARAMETERS,
            ("messages", 0): bots_fields.MESSAGE,
        }
        super().__init__("bots", BotsV2(), {"chat": tables})
        self.told = BOTS_TOLD

    def call(self, operation: str, asked: str = "", **values: Any) -> Call:
        return self.chat(asked=asked or self.home, values=values)

    def counts(self, usage: Mapping[str, Any]) -> tuple[int, int, int]:
        (used,) = usage["model_usage"]
        return super().counts(used)

    def _call(self, operation: str, asked: str, body: dict[str, Any]) -> Call:
        return Call(f"/api/v2/bots/{quote(asked, safe='')}/{operation}", body, self.headers)

    def blamed(self, error: Mapping[str, Any]) -> set[str]:
        return {"bot_id"} if error["code"] == "InvalidBot" else super().blamed(error)


def tight(body: bytes) -> list[Any]:
    """The payloads of a stream without a space after ``data:``, decoded; ``[DONE]`` as it is."""
    assert body.endswith(b"\n\n")
    blocks = body[:-2].split(b"\n\n")
    assert all(block.startswith(b"data:") and b"\n" not in block and block[5:6] != b" " for block in blocks)
    payloads = [block[5:] for block in blocks]
    return [payload.decode() if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


async def _nothing(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


def _request(headers: Mapping[str, str]) -> RawRequest:
    named = {name.lower(): value for name, value in headers.items()}
    return RawRequest("POST", "/", "", named, "", 0, _nothing)


_V1_MODEL: dict[Place, Table] = {("model",): v1_fields.MODEL}
_V1_TABLES: dict[str, dict[Place, Table]] = {
    "chat": {
        (): v1_fields.CHAT,
        ("parameters",): v1_fields.PARAMETERS,
        ("messages", 0): v1_fields.MESSAGE,
        **_V1_MODEL,
    },
    "embeddings": {(): v1_fields.EMBED, **_V1_MODEL},
    "tokenization": {(): v1_fields.TOKENIZE, **_V1_MODEL},
    "classification": {(): v1_fields.CLASSIFY, **_V1_MODEL},
    "cert": {(): v1_fields.CERT, **_V1_MODEL},
}
_V2_TABLES: dict[str, dict[Place, Table]] = {
    "chat": {(): v2_fields.CHAT, ("parameters",): v2_fields.PARAMETERS, ("messages", 0): v2_fields.MESSAGE},
    "embeddings": {(): v2_fields.EMBED},
    "tokenization": {(): v2_fields.TOKENIZE},
    "classification": {(): v2_fields.CLASSIFY},
    "cert": {(): v2_fields.CERT},
}

V3 = ArkWire(
    "v3",
    ArkV3(),
    "/api/v3",
    {"chat": v3_fields.CHAT, "embeddings": v3_fields.EMBED, "tokenization": v3_fields.TOKENIZE},
    V3_TOLD,
)
OPENAI = ArkWire(
    "openai", OpenAI(), "/v1", {"chat": openai_fields.CHAT, "embeddings": openai_fields.EMBED}, OPENAI_TOLD
)
V1, V1_JAVA, V1_NODE = (MaasWire("v1", MaasV1(), _V1_TABLES, agent) for agent in ("", JAVA, NODE))
V2, V2_JAVA, V2_NODE = (MaasWire("v2", MaasV2(), _V2_TABLES, agent) for agent in ("", JAVA, NODE))

BOTS = BotsWire()
V3_BOTS = ArkBotsWire("v3-bots", ArkV3Bots(), "/api/v3/bots", {"chat": v3_fields.BOT_CHAT}, V3_TOLD)

OF_MODELS: tuple[Wire, ...] = (V3, OPENAI, V1, V2)
"""The dialects whose endpoints are models."""
OF_BOTS: tuple[Wire, ...] = (BOTS, V3_BOTS)
"""The dialects whose endpoints are bots."""
WIRES: tuple[Wire, ...] = (*OF_MODELS, *OF_BOTS)
"""Every dialect, as most clients see it."""
LEGACY = (V1, V2)
MODAL = (*LEGACY, BOTS)
"""The dialects that know a strict mode (`surface.legacy_mode`)."""
DEAF = (V1_JAVA, V1_NODE, V2_JAVA, V2_NODE)
CLIENTS: tuple[Wire, ...] = (*WIRES, *DEAF)
"""Every dialect as every family of clients sees it."""
OPERATIONS = tuple((wire, operation) for wire in WIRES for operation in wire.operations)


def with_value(body: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy of the body, changed at one place; objects that are missing on the way are made."""
    changed = copy.deepcopy(body)
    inner: Any = changed
    for part in place[:-1]:
        inner = inner.setdefault(part, {}) if isinstance(inner, dict) else inner[part]
    inner[place[-1]] = value
    return changed


def wire_path(place: Place) -> str:
    """The place as error messages write it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
