from __future__ import annotations

import random  # noqa: TID251 - the same damage in every run
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from arkway.core.errors import Misconfigured
from arkway.models.cards import card_from_header, checked_name, name_from_filename
from arkway.wire.gguf import GgufShape, read_gguf, read_gguf_shape


def write(path: Path, *, architecture: str = "llama", template: bool = True, pooling: bool = False) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(100_000)
    writer.add_embedding_length(16)
    if template:
        writer.add_chat_template("{{ messages }}")
    if pooling:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tensor("token_embd.weight", np.zeros((4, 16), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_whole_file_is_read(gguf_file: Path) -> None:
    header = read_gguf(gguf_file)
    assert (header.architecture, header.name, header.licence) == ("llama", "Tiny Model", "mit")
    assert (header.languages, header.quantisation) == (("en", "zh"), "q8_0")
    assert (header.context_tokens, header.embedding_length, header.tensors) == (512, 16, 2)
    assert (header.has_chat_template, header.embeds) == (True, False)
    assert gguf_file.stat().st_size - 32 < header.data_bytes <= gguf_file.stat().st_size


def test_the_shape_is_read_without_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_embedding_length(64)
    writer.add_token_list([f"token{number}" for number in range(1000)])
    writer.add_tensor("token_embd.weight", np.zeros((4, 16), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = GgufShape(heads_kv=(2, 2), key_length=16, value_length=16)
    assert read_gguf(path).shape == expected
    assert expected.kv_bytes_per_token == 2 * 4 * 32
    path.write_bytes(path.read_bytes()[:600])
    assert read_gguf_shape(path) == expected
    with pytest.raises(Misconfigured):
        read_gguf(path)


def test_a_shape_behind_the_vocabulary_is_found(tmp_path: Path) -> None:
    path = tmp_path / "late.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b"])
    writer.add_block_count(3)
    writer.add_head_count([2, 2, 2])
    writer.add_embedding_length(8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert read_gguf_shape(path) == GgufShape(heads_kv=(2, 2, 2), key_length=4, value_length=4)


def test_an_unknown_shape_costs_nothing(gguf_file: Path) -> None:
    assert read_gguf(gguf_file).shape.kv_bytes_per_token == read_gguf_shape(gguf_file).kv_bytes_per_token == 0


def test_every_truncation_is_refused(gguf_file: Path, tmp_path: Path) -> None:
    whole = gguf_file.read_bytes()
    needed = read_gguf(gguf_file).data_bytes
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, 600, 3), *range(600, needed, 113), needed - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(Misconfigured, match=r"`cut.gguf` is not a usable GGUF model"):
            read_gguf(cut)


def test_no_damage_leads_to_another_error(gguf_file: Path, tmp_path: Path) -> None:
    whole = bytearray(gguf_file.read_bytes())
    dice = random.Random(11)
    broken, refused = tmp_path / "broken.gguf", 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(min(len(damaged) - 8, 6000))
            damaged[at : at + 8] = dice.choice((b"\xff" * 8, dice.randbytes(8), struct.pack("<Q", 1 << 40), bytes(8)))
        broken.write_bytes(damaged)
        try:
            read_gguf(broken)
        except Misconfigured:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "cut short"),
        (b"PK\x03\x04" * 10, "letters GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "version is 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "architecture"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "cut short"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63) + bytes(40), "long"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"a", 77) + bytes(40), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 9, 1) + bytes(40), "list of unknown type 9"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 8, 1 << 50) + bytes(40), "cut short"),
    ],
)
def test_each_kind_of_breakage_has_its_reason(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=words):
        read_gguf(path)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_gguf(tmp_path)


def test_cards_follow_the_file(tmp_path: Path) -> None:
    chat = card_from_header(read_gguf(write(tmp_path / "a.gguf")), "a", "1")
    assert (chat.context_tokens, "chat" in chat.capabilities) == (8192, True)
    limit = chat.parameter("max_tokens")
    assert limit is not None
    assert (limit.low, limit.high, limit.default) == (1, 8192, 4096)
    base = card_from_header(read_gguf(write(tmp_path / "b.gguf", template=False)), "b", "1")
    assert "base model" in base.remarks
    embedder = card_from_header(read_gguf(write(tmp_path / "c.gguf", architecture="bert", pooling=True)), "c", "1")
    assert (embedder.capabilities, embedder.dimensions) == (("embeddings", "tokenization"), 16)


def test_names_are_safe_as_file_names() -> None:
    assert name_from_filename("Qwen3-0.6B-Q8_0.gguf") == "qwen3-0.6b-q8_0"
    assert name_from_filename("../My Model (2).GGUF") == "my-model-2"
    for name in ("", "..", "-x", "a/b", "A", "名", "a" * 97):
        with pytest.raises(Misconfigured, match="choose one with --name"):
            checked_name(name)
    with pytest.raises(Misconfigured):
        name_from_filename("模型.gguf")
