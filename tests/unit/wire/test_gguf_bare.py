"""A model that is nothing but a vocabulary: read out of a real file, written around zeros."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest

from arkway.core.errors import Misconfigured
from arkway.wire.gguf import GgufVocabulary, read_gguf, read_gguf_vocabulary
from arkway.wire.gguf_bare import write_bare_model
from tests.tools.random_gguf import SPECIALS, write_random_gguf

VOCABULARY = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type", "tokenizer.ggml.model")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gguf(tmp_path_factory.mktemp("models") / "whole.gguf", width=256, layers=4)


@pytest.fixture(scope="module")
def bare(model: Path) -> Path:
    path = model.with_name("bare.gguf")
    with path.open("wb") as file:
        write_bare_model(read_gguf_vocabulary(model), file)
    return path


def test_every_word_of_the_vocabulary_is_there_and_the_template_is_not(model: Path, bare: Path) -> None:
    before, after = gguf.GGUFReader(model), gguf.GGUFReader(bare)
    for name in VOCABULARY:
        one, other = before.get_field(name), after.get_field(name)
        assert one is not None
        assert other is not None
        assert one.contents() == other.contents()
    assert read_gguf_vocabulary(bare).tokens == read_gguf_vocabulary(model).tokens > 256 + len(SPECIALS)
    assert after.get_field("tokenizer.chat_template") is None


def test_its_weights_are_zeros_and_few(model: Path, bare: Path) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(bare).tensors}
    assert not any(tensor.data.any() for tensor in tensors.values())
    assert tuple(tensors["token_embd.weight"].shape) == (32, read_gguf_vocabulary(model).tokens)
    assert bare.stat().st_size < model.stat().st_size / 20


def test_it_is_a_whole_model_by_our_own_reader_too(bare: Path) -> None:
    header = read_gguf(bare)
    assert (header.architecture, header.name, header.data_bytes) == ("llama", "random", bare.stat().st_size)


def test_a_vocabulary_that_is_no_list_is_refused(tmp_path: Path) -> None:
    key = b"tokenizer.ggml.tokens"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, 7)
    path = tmp_path / "odd.gguf"
    with path.open("wb") as file:
        write_bare_model(GgufVocabulary(1, (entry,)), file)
    with pytest.raises(Misconfigured, match=r"odd\.gguf.*no list"):
        read_gguf_vocabulary(path)


def test_a_file_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wordless.gguf"
    with path.open("wb") as file:
        write_bare_model(GgufVocabulary(1, ()), file)
    with pytest.raises(Misconfigured, match=r"wordless\.gguf.*no vocabulary"):
        read_gguf_vocabulary(path)


@pytest.mark.parametrize("part", [3, 30, 500, 3000])
def test_a_file_that_is_cut_short_is_refused(model: Path, tmp_path: Path, part: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(model.read_bytes()[:part])
    with pytest.raises(Misconfigured, match=r"cut\.gguf"):
        read_gguf_vocabulary(path)
