"""What of a chunk goes into the word index, and what it costs to have it ready."""

from __future__ import annotations

import tracemalloc

from msgspec import structs

from arkway.knowledge.indexing import Cutting, label
from arkway.knowledge.words import words
from tests.tools.shelf import chunks, collection, document

BOOK = collection()
SENTENCE = "系统启动时网络服务会读取配置文件并检查防火墙规则是否与当前接口一致。"


def test_a_chunk_has_the_words_of_its_headings_and_of_its_document_once() -> None:
    written = document(BOOK, "a.md", title="Orchard")
    [piece] = chunks(written, "prune in spring", path=("Trees",))
    cutting = Cutting()
    assert cutting.words(piece, label(written)) == ["orchard", "trees", "prune", "spring"]
    below = structs.replace(piece, id="other", path=("Orchard", "Trees"))
    assert cutting.words(below, label(written)) == ["orchard", "trees", "prune", "spring"]
    assert label(structs.replace(written, title="")) == "a"


def test_the_words_of_a_large_document_take_little_more_memory_than_its_text() -> None:
    written = document(BOOK, "a.md", title="T")
    pieces = chunks(written, *(f"{number}{SENTENCE * 14}" for number in range(200)))
    words(SENTENCE)  # whatever is loaded once
    tracemalloc.start()
    try:
        cutting = Cutting()
        cutting.prepare(pieces, label(written))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 10 * sum(len(piece.text) for piece in pieces)
    assert cutting.words(pieces[7], label(written))[0] == "7"
