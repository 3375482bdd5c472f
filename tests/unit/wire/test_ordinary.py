"""What one typed decode takes of chat bodies is what the field tables make of them, to the type of every number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.core.chat import ChatRequest
from arkway.core.errors import BadRequest
from arkway.core.raw import RawRequest, Tap
from arkway.dialects.bots import BotsV2
from arkway.dialects.bots import fields as bots_fields
from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v1 import dialect as v1
from arkway.dialects.v2 import MaasV2
from arkway.dialects.v2 import dialect as v2
from arkway.dialects.v3 import fields as v3_fields
from arkway.wire import json
from arkway.wire.fields import Field, Table
from arkway.wire.maas_shape import ordinary as maas
from arkway.wire.maas_shape.codec import Form
from arkway.wire.maas_shape.request import CRYPTO_HEADER
from arkway.wire.openai_shape import ordinary as openai
from arkway.wire.openai_shape.bots import bot_request
from arkway.wire.openai_shape.request import MESSAGE, STREAM_OPTIONS, chat_request
from arkway.wire.ordinary import ORDINARY_BYTES
from tests.security.corpus import documents
from tests.tools.wires import Place, with_value

PATH = "/api/v2/endpoint/ep-1/chat"
HOLE = "@HOLE@"
TURNS = [{"role": "system", "content": "你"}, {"role": "user", "content": "hi\n"}, {"role": "assistant", "content": ""}]
SAMPLED = {
    "temperature": 0.7, "top_p": 1, "frequency_penalty": -0.5, "presence_penalty": 2, "stop": ["a", ""],
}  # fmt: skip


async def _no_body(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


BOTS_RAW = RawRequest("POST", "/api/v2/bots/bot-1/chat", "", {}, "id", 0, _no_body)
RAW = RawRequest("POST", PATH, "", {}, "id", 0, _no_body)
# An empty header says nothing, but that it is there leaves the body to the tables.
BY_TABLE = RawRequest("POST", PATH, "", {CRYPTO_HEADER: ""}, "id", 0, _no_body)


class Chats(NamedTuple):
    """The chats of one dialect in one mode: both ways to read them, and a body with every field that is heeded."""

    ordinary: Callable[[bytes], ChatRequest | None]
    by_table: Callable[[bytes], ChatRequest]
    body: dict[str, Any]
    tables: dict[Place, Table]


def _openai_chats(fields: Table, **more: Any) -> Chats:
    body = {
        "model": "ep-1", "messages": TURNS, **SAMPLED, "max_tokens": 5, "seed": -7, "logprobs": True, "user": "u",
        "top_logprobs": 3, "n": 1, "stream": True, "stream_options": {"include_usage": True}, **more,
    }  # fmt: skip
    tables: dict[Place, Table] = {(): fields, ("messages", 1): MESSAGE, ("stream_options",): STREAM_OPTIONS}
    return Chats(
        openai.OrdinaryChats(fields).read, lambda data: chat_request(fields, json.load_object(data)), body, tables
    )


def _maas_chats(form: Form, dialect: MaasV1 | MaasV2, *, strict: bool, **more: Any) -> Chats:
    chats = maas.OrdinaryChats(form.tables.chat, form.rules, form.asked, strict=strict)
    parameters = {
        **SAMPLED, "max_new_tokens": 5, "top_k": 9, "do_sample": True, "repetition_penalty": 1.5, "logprobs": 2,
    }  # fmt: skip
    body = {"messages": TURNS[:2], "parameters": parameters, "stream": False, **more}
    tables = {(): form.tables.chat, ("messages", 1): form.rules.message, ("parameters",): form.rules.parameters}
    return Chats(partial(chats.read, RAW), partial(dialect.decode_chat, BY_TABLE), body, tables)


def _bots_chats(*, strict: bool) -> Chats:
    fields = bots_fields.CHAT, bots_fields.RULES
    chats = maas.OrdinaryChats(*fields, lambda raw, _: bots_fields.asked(raw.path), strict=strict)
    parameters = {
        **SAMPLED, "max_new_tokens": 5, "top_k": 9, "do_sample": True, "repetition_penalty": 1.5, "logprobs": 2,
    }  # fmt: skip
    tables: dict[Place, Table] = {
        (): bots_fields.CHAT, ("messages", 1): bots_fields.MESSAGE, ("parameters",): bots_fields.PARAMETERS,
    }  # fmt: skip
    body = {"messages": TURNS, "parameters": parameters, "stream": True, "user": "u"}
    read = BotsV2(strict=strict).read_chat
    return Chats(partial(chats.read, BOTS_RAW), partial(read, BOTS_RAW), body, tables)


def _v3_bots_chats() -> Chats:
    found = _openai_chats(v3_fields.BOT_CHAT, model="bot-1", top_k=0, repetition_penalty=1)
    return found._replace(by_table=lambda data: bot_request(v3_fields.BOT_CHAT, json.load_object(data)))


CHATS = {
    "v3": _openai_chats(v3_fields.CHAT, top_k=0, repetition_penalty=1),
    "openai": _openai_chats(openai_fields.CHAT),
    "v1": _maas_chats(v1.FORM, MaasV1(), strict=False, model={"name": "m"}, req_id="r"),
    "v1-strict": _maas_chats(v1.FORM, MaasV1(strict=True), strict=True, model={"name": "m"}, req_id="r"),
    "v2": _maas_chats(v2.FORM, MaasV2(), strict=False, user="u"),
    "v2-strict": _maas_chats(v2.FORM, MaasV2(strict=True), strict=True, user="u"),
    "bots": _bots_chats(strict=False),
    "bots-strict": _bots_chats(strict=True),
    "v3-bots": _v3_bots_chats(),
}
EVERY = pytest.mark.parametrize("chats", CHATS.values(), ids=CHATS)


def places(chats: Chats) -> list[Place]:
    """Everywhere in the body where a value stands or may stand."""
    fields = [(*place, name) for place, table in chats.tables.items() for name in table]
    return [*fields, ("unknown",), ("messages", 1), ("messages", 1, "unknown"), ("model", "endpoint_id")]


def bare(chats: Chats) -> dict[str, Any]:
    """The body with what is required, and nothing else."""
    return {name: chats.body[name] for name in ("model", "messages") if name in chats.body}


def holed(chats: Chats, place: Place, *, companions: bool = True) -> bytes:
    try:
        return json.dumps(with_value(chats.body if companions else bare(chats), place, HOLE))
    except TypeError:
        return json.dumps(HOLE)  # the body has no such place


def filled(hole: bytes, text: bytes) -> bytes:
    return hole.replace(f'"{HOLE}"'.encode(), text)


def agree(chats: Chats, body: bytes) -> bool:
    """Whether it is ordinary; if so, both readings are the same."""
    found = chats.ordinary(body)
    if found is None:
        return False
    wanted = chats.by_table(body)
    assert found == wanted
    assert repr(found) == repr(wanted)
    return True


# These mean something only with another one.
NEEDED = {"model", "messages", "stream", "logprobs"}


@EVERY
def test_a_body_with_every_heeded_field_is_ordinary(chats: Chats) -> None:
    assert agree(chats, json.dumps(chats.body))
    for name in chats.body.keys() - NEEDED:
        assert agree(chats, json.dumps({key: value for key, value in chats.body.items() if key != name}))


@EVERY
def test_every_field_may_be_null_as_sdks_send_them(chats: Chats) -> None:
    nulls: dict[str, Any] = dict.fromkeys(chats.tables[()])
    assert agree(chats, json.dumps(nulls | bare(chats)))


DOCUMENTS = documents()
SMALL = {name: text for name, text in DOCUMENTS.items() if len(text) < 1000}


@EVERY
def test_the_corpus_in_every_place_is_left_to_the_tables_or_means_the_same(chats: Chats) -> None:
    taken = 0
    for place in places(chats):
        hole = holed(chats, place)
        for document in SMALL.values():
            taken += agree(chats, filled(hole, document))
    assert taken > 200


@EVERY
def test_the_corpus_as_a_whole_body_is_not_ordinary(chats: Chats) -> None:
    for document in DOCUMENTS.values():
        assert chats.ordinary(document) is None


@EVERY
def test_the_large_ones_of_the_corpus(chats: Chats) -> None:
    for place in (("messages", 1, "content"), ("stop",), ("parameters",), ("unknown",)):
        hole = holed(chats, place)
        for name in DOCUMENTS.keys() - SMALL.keys():
            agree(chats, filled(hole, DOCUMENTS[name]))


def numeric(chats: Chats) -> Iterator[tuple[Place, Field]]:
    for place, table in chats.tables.items():
        for field in table.values():
            if field.kind in ("integer", "number") and field.effect == "honoured":
                yield (*place, field.name), field


def near(bound: float, field: Field) -> set[str]:
    """Numbers at and beside a bound, as JSON texts."""
    whole = int(bound)
    texts = {str(whole - 1), str(whole), str(whole + 1)}
    return texts if field.kind == "integer" else texts | {str(bound + off) for off in (-0.001, 0.0, 0.001)}


def as_it_is(chats: Chats, body: bytes, text: str) -> bool:
    """Whether the tables take the number as it is: neither refused nor unset, nor nearer to what is possible."""
    try:
        return not chats.by_table(body).clamped and float(text) != 0
    except BadRequest:
        return False


@EVERY
def test_ranges_are_those_of_the_tables(chats: Chats) -> None:
    seen = 0
    for place, field in numeric(chats):
        hole = holed(chats, place, companions=place[-1] not in ("max_completion_tokens", "max_tokens"))
        bounds = (field.low, field.high, *((field.strict.low, field.strict.high) if field.strict else ()))
        for text in {text for bound in bounds if bound is not None for text in near(bound, field)}:
            body = filled(hole, text.encode())
            ordinary = agree(chats, body)
            assert ordinary or not as_it_is(chats, body, text), (place, text)
            seen += ordinary
    assert seen > 20


@EVERY
def test_a_field_that_is_not_heeded_is_left_to_the_tables(chats: Chats) -> None:
    """Such as one that is new in a table, and not yet in the type."""
    heeded = {*openai._Chat.__struct_fields__, *maas._Chat.__struct_fields__, *maas._Parameters.__struct_fields__}
    left = [name for name in chats.tables[()] if name not in heeded]
    assert len(left) >= 4
    for name in left:
        values: list[Any] = [True, 1, "x", [], {}]
        for value in values:
            assert chats.ordinary(json.dumps({**chats.body, name: value})) is None


@EVERY
def test_repeated_names_are_read_as_the_tables_read_them(chats: Chats) -> None:
    text = json.dumps(chats.body)
    assert agree(
        chats, text.replace(b'"role"', b'"content":"other","role"').replace(b'"stream"', b'"stream":null,"stream"')
    )
    assert agree(chats, text[:-1] + b',"user":null' * 10_000 + b"}")
    over = text[:-1] + b',"user":null' * 200_001 + b"}"
    assert len(over) > ORDINARY_BYTES
    assert chats.ordinary(over) is None


@EVERY
def test_a_name_with_nul_is_not_ordinary(chats: Chats) -> None:
    text = json.dumps(chats.body)
    for name in (b'"ep-1"', b'"u"', b'"r"', b'"m"'):
        if name in text:
            assert chats.ordinary(text.replace(name, b'"a\\u0000"')) is None


@EVERY
def test_texts_are_no_longer_than_the_tables_take_them(chats: Chats) -> None:
    names = [
        place
        for place in [("model",), ("user",), ("req_id",), ("stop",), ("parameters", "stop")]
        if place[0] in chats.body
    ]
    for place in names:
        for text in ("a" * 64, "a" * 257, "字" * 64, "字" * 86, "😀" * 64, "😀" * 65):
            agree(chats, filled(holed(chats, place), json.dumps(text)))
            agree(chats, filled(holed(chats, place), json.dumps(["b", text])))


@EVERY
def test_roles_in_every_order(chats: Chats) -> None:
    taken = 0
    for count in range(5):
        for roles in product(("system", "user", "assistant", "function", "tool", "developer", "x"), repeat=count):
            turns = [{"role": role, "content": "a"} for role in roles]
            taken += agree(chats, json.dumps({**bare(chats), "messages": turns}))
    assert taken > 5


VALUES = st.one_of(
    st.one_of(st.integers(-3, 3), st.integers(-(2**64), 2**65)).map(lambda number: str(number).encode()),
    st.one_of(
        st.none(), st.booleans(), st.floats(-3, 3), st.floats(), st.text(max_size=70), st.just([]), st.just({}),
        st.lists(st.text(max_size=3), max_size=5), st.just("a" * 260),
    ).map(json.dumps),
)  # fmt: skip


@EVERY
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_body(chats: Chats, data: st.DataObject) -> None:
    body, values = chats.body, []
    for place in data.draw(st.lists(st.sampled_from(places(chats)), min_size=1, max_size=4)):
        try:
            body = with_value(body, place, HOLE)
        except (TypeError, AttributeError):
            continue  # no such place any more
        values.append(data.draw(VALUES))
    text = json.dumps(body)
    for value in values:
        text = text.replace(f'"{HOLE}"'.encode(), value, 1)
    agree(chats, text)


@EVERY
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_bytes_are_changed(chats: Chats, data: st.DataObject) -> None:
    text = bytearray(json.dumps(chats.body))
    for _ in range(data.draw(st.integers(1, 3))):
        at, width = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
        text[at : at + width] = data.draw(st.sampled_from(BYTES) | st.binary(max_size=3))
    agree(chats, bytes(text))


BYTES = (
    b"", b" ", b"\t", b"\x0b", b",", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"\xed\xa0\x80", b"\xff",
    b"-", b"0", b"1", b".", b".0", b"e0", b"e9", b"true", b"null", b"NaN", b"[", b"]", b"{", b"}", b":",
    b"\xef\xbb\xbf",
    b'"n":1,', b'"stream":true,', b'"max_tokens":1,', b'"role":"user",', b'"messages":[],', b'"top_k":0,', b"\x00",
)  # fmt: skip
