"""Vectors, tokens and lists of models as upstream servers send them."""

from __future__ import annotations

import base64
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core.errors import BackendFailed
from arkway.wire import json
from arkway.wire.openai_shape.cold import ark_tokens, embed_reply, models, server_tokens


def vectors(*entries: tuple[int, object]) -> bytes:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in entries]
    return json.dumps({"object": "list", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}})


def test_vectors_written_either_way_come_in_order() -> None:
    octets = struct.pack("<2f", 0.25, -1.5)
    reply = embed_reply(vectors((1, base64.b64encode(octets).decode()), (0, [0.5, 2])), 2)
    assert reply.vectors == (struct.pack("<2f", 0.5, 2), octets)
    assert (reply.usage.prompt_tokens, reply.usage.provenance) == (5, "reported")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", vectors(), vectors((0, [1.0])), vectors((0, [1.0]), (0, [2.0])), vectors((0, [1.0]), (2, [2.0])),
        vectors((0, [1.0]), (1, [])), vectors((0, [1.0]), (1, [1.0, 2.0])), vectors((0, "AAA="), (1, "AAA=")),
        vectors((0, "*"), (1, "*")), vectors((0, [1e300]), (1, [1.0])), vectors((0, ["x"]), (1, [1.0])),
    ],
)  # fmt: skip
def test_vectors_that_are_not_one_for_each_text(body: bytes) -> None:
    with pytest.raises(BackendFailed):
        embed_reply(body, 2)


def test_without_usage_the_cost_is_a_guess() -> None:
    assert embed_reply(b'{"data":[{"embedding":[1.0],"index":0}]}', 1).usage.provenance == "estimated"


def test_tokens_of_ark() -> None:
    one = {"token_ids": [1, 2], "offset_mapping": [[0, 1], [1, 3]]}
    other = {"index": 1, "token_ids": [3], "offset_mapping": [[0, 1]]}
    first, second = ark_tokens(json.dumps({"data": [other, one]}), 2)
    assert (first.ids, first.offsets, second.ids) == ((1, 2), ((0, 1), (1, 3)), (3,))
    for bad in (b'{"data":[]}', b'{"data":[{"token_ids":[1],"offset_mapping":[]}]}', b"x"):
        with pytest.raises(BackendFailed):
            ark_tokens(bad, 1)


TEXT = "a 你😀"
EMOJI = "😀".encode()


@pytest.mark.parametrize(
    "body",
    [
        {"tokens": [{"id": 1, "piece": "a"}, {"id": 2, "piece": " 你"}, {"id": 3, "piece": [*EMOJI[:2]]},
                    {"id": 4, "piece": [*EMOJI[2:]]}]},
        {"tokens": [1, 2, 3, 4], "token_strs": ["a", "Ġä½ł", "ðŁ", "ĺĢ"], "count": 4, "max_model_len": 9},
    ],
)  # fmt: skip
def test_tokens_of_other_servers(body: dict[str, object]) -> None:
    found = server_tokens(json.dumps(body), TEXT)
    assert found is not None
    assert (found.ids, found.offsets) == ((1, 2, 3, 4), ((0, 1), (1, 3), (3, 4), (3, 4)))


def test_tokens_of_octets_in_words() -> None:
    found = server_tokens(json.dumps({"tokens": [1, 2, 3], "token_strs": ["a", "<0xC3>", "<0xA9>"]}), "aé")
    assert found is not None
    assert found.offsets == ((0, 1), (1, 2), (1, 2))


def test_a_vocabulary_that_puts_a_space_before_the_text() -> None:
    found = server_tokens(json.dumps({"tokens": [1, 2, 3], "token_strs": ["▁a", "▁b", "<0xC3>"]}), "a bÃ")
    assert found is None
    found = server_tokens(json.dumps({"tokens": [1, 2], "token_strs": ["▁a", "▁b"]}), "a b")
    assert found is not None
    assert found.offsets == ((0, 1), (1, 3))


def test_ids_alone_say_nothing() -> None:
    assert server_tokens(b'{"tokens":[1,2]}', "ab") is None
    with pytest.raises(BackendFailed):
        server_tokens(b"[]", "ab")


@given(st.text(min_size=1), st.data())
def test_ranges_cover_the_text(text: str, data: st.DataObject) -> None:
    octets = text.encode()
    cuts = sorted({0, len(octets), *data.draw(st.lists(st.integers(0, len(octets))))})
    pieces = [octets[start:end] for start, end in pairwise(cuts)]
    body = json.dumps({"tokens": [{"id": number, "piece": [*piece]} for number, piece in enumerate(pieces)]})
    found = server_tokens(body, text)
    assert found is not None
    assert {place for begin, end in found.offsets for place in range(begin, end)} == {*range(len(text))}


def test_a_list_of_models() -> None:
    assert models(b'{"data":[{"id":"a","object":"model"},{"id":"b"}]}') == ("a", "b")
    with pytest.raises(BackendFailed):
        models(b'{"data":{}}')
