"""Bytes in, canonical request, events, bytes out: every documented field, stream shape and error, per dialect."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from arkway.core import errors as e
from arkway.core.chat import ChatRequest, ReplyTag, Usage
from arkway.core.classification import ClassifyReply, LabelScore
from arkway.core.embedding import EmbedReply, Tokenized
from arkway.core.events import Fold, UsageReport
from arkway.core.model import Deployment
from arkway.core.raw import ErrorReply, RawRequest, Tap
from arkway.dialects.bots import BotsV2
from arkway.dialects.bots import fields as bots_fields
from arkway.dialects.control import ControlForm
from arkway.dialects.openai import OpenAI
from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v1 import fields as v1_fields
from arkway.dialects.v2 import MaasV2
from arkway.dialects.v2 import fields as v2_fields
from arkway.dialects.v3 import ArkV3, ArkV3Bots
from arkway.dialects.v3 import fields as v3_fields
from arkway.ports import Certifying, Classifying, Dialect, Listing, Refusing, Tokenizing
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, endpoint
from arkway.wire import json
from arkway.wire.bots import ASIDE
from arkway.wire.fields import Table
from tests.wire.scripts import ERRORS, SCRIPTS, ReversingSealing, Step

FOLDER = Path(__file__).parent
RULE = "---\n"
TABLES: dict[str, dict[str, Table]] = {
    "v1": {
        "chat": v1_fields.CHAT,
        "embed": v1_fields.EMBED,
        "tokenize": v1_fields.TOKENIZE,
        "classify": v1_fields.CLASSIFY,
    },
    "v2": {
        "chat": v2_fields.CHAT,
        "embed": v2_fields.EMBED,
        "tokenize": v2_fields.TOKENIZE,
        "classify": v2_fields.CLASSIFY,
    },
    "bots": {"chat": bots_fields.CHAT},
    "v3-bots": {"chat": v3_fields.BOT_CHAT},
    "v3": {"chat": v3_fields.CHAT, "embed": v3_fields.EMBED, "tokenize": v3_fields.TOKENIZE},
    "openai": {"chat": openai_fields.CHAT, "embed": openai_fields.EMBED},
}
# What stands inside a field of a chat: an object of its own, or a list of them.
INNER_TABLES: dict[str, dict[str, Table]] = {
    "v1": {"model": v1_fields.MODEL, "parameters": v1_fields.PARAMETERS, "messages": v1_fields.MESSAGE},
    "v2": {"parameters": v2_fields.PARAMETERS, "messages": v2_fields.MESSAGE},
    "bots": {"parameters": bots_fields.PARAMETERS, "messages": bots_fields.MESSAGE, "extra": ASIDE},
    "v3-bots": {"metadata": ASIDE},
}
TAG = ReplyTag("<id>", 1719792000, "scripted-chat-1")
DEPLOYMENTS = (
    Deployment(endpoint("ep-1", CHAT_CARD.name), CHAT_CARD, "scripted"),
    Deployment(endpoint("ep-2", EMBEDDING_CARD.name, status="stopped"), EMBEDDING_CARD, "scripted"),
)


async def _no_body(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


def raw(path: str = "/", headers: Mapping[str, str] = {}, query: str = "") -> RawRequest:
    return RawRequest("POST", path, query, headers, TAG.id, TAG.created * 1000, _no_body)


RAW = raw("/api/v2/endpoint/ep-1/operation")
BOTS = raw("/api/v2/bots/bot-1/chat")
JAVA = raw(headers={"user-agent": "volc-sdk-java/v1.0.284"})
# By folder: a dialect as it comes, and as the operator or the client has it.
DIALECTS: dict[str, Dialect] = {
    "v3": ArkV3(),
    "openai": OpenAI(),
    "v1": MaasV1(),
    "v1-strict": MaasV1(strict=True),
    "v1-java": MaasV1().suited(JAVA),
    "v1-sealed": MaasV1(sealing=ReversingSealing()),
    "v2": MaasV2(),
    "v2-strict": MaasV2(strict=True),
    "v2-java": MaasV2().suited(JAVA),
    "v2-sealed": MaasV2(sealing=ReversingSealing()),
    "bots": BotsV2(),
    "bots-strict": BotsV2(strict=True),
    "v3-bots": ArkV3Bots(),
}
CONTROL = ControlForm().suited(raw(query="Action=GetEndpoint&Version=2024-01-01"))
WHOLE = ("v3", "openai", "v1", "v1-java", "v2", "v2-java", "bots", "v3-bots", "control")
"""The folders that have a file for every error."""


def test_golden(golden: Path, regenerate: bool) -> None:
    above, _, expected = golden.read_text(encoding="utf-8").partition(RULE)
    first, _, body = above.partition("\n")
    operation, _, script = first.partition(" ")
    if golden.parent.name == "control":
        found = "".join(error(CONTROL, script))
    else:
        found = "".join(run(DIALECTS[golden.parent.name], operation, script, body.rstrip("\n").encode()))
    if regenerate:
        golden.write_text(above + RULE + found, encoding="utf-8")
    else:
        assert found == expected


def run(dialect: Dialect, operation: str, script: str, body: bytes) -> Iterator[str]:
    """What comes of one golden file's upper half."""
    try:
        match operation:
            case "chat":
                yield from chat(dialect, body, SCRIPTS[script])
            case "embed":
                yield from embed(dialect, body)
            case "tokenize":
                yield from tokenize(dialect, body)
            case "classify":
                yield from classify(dialect, body)
            case "cert":
                yield from cert(dialect, body)
            case "models":
                yield cast(Listing, dialect).encode_models(DEPLOYMENTS, script).decode() + "\n"
            case "error":
                yield from error(dialect, script)
                yield "\n" + dialect.stream(ChatRequest("ep-1", ()), TAG).fail(failure_of(script)).decode()
            case other:
                raise AssertionError(f"there is no operation {other}")
    except e.ArkwayError as failure:
        streams = dialect.deaf_to_status and dialect.wants_stream(body)
        yield refusal(dialect.encode_error(failure, TAG.id, stream=streams))


def chat(dialect: Dialect, body: bytes, script: tuple[Step, ...]) -> Iterator[str]:
    request = dialect.decode_chat(BOTS if dialect.name == "bots" else RAW, body)
    yield canonical(request)
    if request.stream:
        yield stream(dialect, request, script).decode()
        return
    fold, usage = Fold(), Usage()
    for step in script:
        if isinstance(step, e.ArkwayError):
            raise step
        if isinstance(step, UsageReport):
            usage = step.usage
        if step != "heartbeat":
            fold.add(step)
    yield dialect.encode_chat(fold.reply(usage, logprobs=request.logprobs), request, TAG).decode() + "\n"


def stream(dialect: Dialect, request: ChatRequest, script: tuple[Step, ...]) -> bytes:
    encoder, usage, pieces = dialect.stream(request, TAG), Usage(), list[bytes]()
    for step in script:
        if isinstance(step, e.ArkwayError):
            return b"".join([*pieces, encoder.fail(step)])
        if isinstance(step, UsageReport):
            usage = step.usage
        pieces.append(encoder.heartbeat() if step == "heartbeat" else encoder.feed(step))
    return b"".join([*pieces, encoder.close(usage)])


def embed(dialect: Dialect, body: bytes) -> Iterator[str]:
    request = dialect.decode_embed(RAW, body)
    yield canonical(request)
    vectors = tuple(struct.pack("<3f", 0.5, -0.25, index) for index in range(len(request.texts)))
    yield dialect.encode_embed(EmbedReply(vectors, Usage(5)), request, TAG).decode() + "\n"


def tokenize(dialect: Dialect, body: bytes) -> Iterator[str]:
    tokenizing = cast(Tokenizing, dialect)
    request = tokenizing.decode_tokenize(RAW, body)
    yield canonical(request)
    reply = tuple(Tokenized((11, 12), ((0, 1), (1, len(text)))) for text in request.texts)
    yield tokenizing.encode_tokenize(reply, request, TAG).decode() + "\n"


def classify(dialect: Dialect, body: bytes) -> Iterator[str]:
    classifying = cast(Classifying, dialect)
    request = classifying.decode_classify(RAW, body)
    yield canonical(request)
    impossible = LabelScore(
        request.labels[0], tuple(request.labels[0]), tuple(float("-inf") for _ in request.labels[0])
    )
    scores = (impossible, *(LabelScore(label, (label,), (-0.25,)) for label in request.labels[1:]))
    reply = ClassifyReply(request.labels[-1], scores, Usage(7, 2))
    yield classifying.encode_classify(reply, request, TAG).decode() + "\n"


def cert(dialect: Dialect, body: bytes) -> Iterator[str]:
    certifying = cast(Certifying, dialect)
    request = certifying.decode_cert(RAW, body)
    yield canonical(request)
    yield certifying.encode_cert(DEPLOYMENTS[0], request, TAG).decode() + "\n"


def error(dialect: Refusing, name: str) -> Iterator[str]:
    """The HTTP answer, and the one to a client deaf to statuses."""
    failure = failure_of(name)
    yield refusal(dialect.encode_error(failure, TAG.id))
    if dialect.deaf_to_status:
        yield refusal(dialect.encode_error(failure, TAG.id, stream=True))


def failure_of(name: str) -> e.ArkwayError:
    return next(entry for entry in ERRORS if type(entry).__name__ == name)


def refusal(reply: ErrorReply) -> str:
    headers = "".join(f"{name}: {value}\n" for name, value in reply.headers)
    return f"{reply.status}\n{headers}{reply.body.decode()}\n"


def canonical(request: msgspec.Struct) -> str:
    """What was understood: every attribute that is not at its default, and an empty line."""
    return "".join(f"{name} = {value}\n" for name, value in _told(request)) + "\n"


def _told(value: msgspec.Struct) -> Iterator[tuple[str, str]]:
    for name, held in _changed(value):
        yield name, json.dumps(_plain(held)).decode()


def _changed(value: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(value):
        factory = field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        held = getattr(value, field.name)
        if held != default:
            yield field.name, held


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: _plain(held) for name, held in _changed(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("dialect", WHOLE)
def test_every_error_has_a_golden_file(dialect: str) -> None:
    leaves = {leaf.__name__ for leaf in e.leaves()}
    files = {file.stem.removeprefix("error-") for file in (FOLDER / dialect).glob("error-*.txt")}
    assert files == leaves
    assert {type(entry).__name__ for entry in ERRORS} == leaves


@pytest.mark.parametrize("dialect", TABLES)
def test_every_field_has_a_golden_file_that_sends_it(dialect: str) -> None:
    for operation, fields in TABLES[dialect].items():
        for name in fields:
            file = FOLDER / dialect / f"{operation}-field-{name}.txt"
            above = file.read_text(encoding="utf-8").partition(RULE)[0]
            assert name in json.load_object(above.partition("\n")[2].encode()), file.name


@pytest.mark.parametrize("dialect", INNER_TABLES)
def test_every_inner_field_has_a_golden_file_that_sends_it(dialect: str) -> None:
    for outer, fields in INNER_TABLES[dialect].items():
        for name in fields:
            file = FOLDER / dialect / f"chat-field-{outer}.{name}.txt"
            above = file.read_text(encoding="utf-8").partition(RULE)[0]
            holder = json.load_object(above.partition("\n")[2].encode())[outer]
            assert any(name in entry for entry in (holder if isinstance(holder, list) else [holder])), file.name


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_stream_ever_says_it_ended_well_after_an_error(dialect: str) -> None:
    request = ChatRequest("ep-1", (), stream=True, wants_usage=True)
    for name in ("breaks", "breaks after its end"):
        said = stream(DIALECTS[dialect], request, SCRIPTS[name])
        assert b'finish_reason":"' not in said
        assert said.endswith((b"}}\n\ndata: [DONE]\n\n", b"}}\n\ndata:[DONE]\n\n"))
