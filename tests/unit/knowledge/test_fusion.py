"""Two lists of hits as one, how much of a question is covered, and the test that an embedding model has to pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from arkway.core.knowledge import Chunk, Collection, Document, Hit
from arkway.knowledge.coverage import bm25, coverage, rarest, rarity, weights
from arkway.knowledge.fusion import SelfTest, fused, self_test
from arkway.knowledge.sql import Counted
from arkway.knowledge.sqlite_store import open_sqlite
from arkway.ports.lookup import KnowledgeStore
from tests.tools.shelf import chunks, collection, document, shelved

BOOK = collection()
ANIMALS = (
    "ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay",
    "kiwi", "lynx", "mole", "newt", "owl", "pig", "quail", "ram", "seal", "toad",
)  # fmt: skip
PLACES = (
    "attic", "barn", "cave", "dune", "east", "field", "grove", "hill", "inn", "jetty",
    "keep", "lake", "mill", "nest", "oasis", "pond", "quay", "reef",
)  # fmt: skip


def hit(name: str, score: float = 1.0) -> Hit:
    chunk = Chunk(id=name, document_id="d", ordinal=0, text=name)
    owner = Document(id="d", collection_id="c", source="s", name="d", type="md")
    return Hit(chunk, owner, Collection(id="c", account="a", project="p", name="c"), score)


def names(hits: Sequence[Hit]) -> list[str]:
    return [one.chunk.id for one in hits]


# Fusion


def test_what_both_lists_have_comes_first() -> None:
    both = fused([(1.0, [hit("a"), hit("b"), hit("c")]), (1.0, [hit("d"), hit("c")])], 10)
    assert names(both) == ["c", "a", "d", "b"]
    assert both[0].score == pytest.approx(1 / 63 + 1 / 62)
    assert names(fused([(1.0, [hit("a"), hit("b")]), (1.0, [hit("b")])], 1)) == ["b"]


def test_a_light_list_counts_for_less_and_one_without_weight_for_nothing() -> None:
    by_words, by_vectors = [hit("a"), hit("b")], [hit("x"), hit("b")]
    assert names(fused([(1.0, by_words), (0.5, by_vectors)], 10)) == ["b", "a", "x"]
    assert names(fused([(1.0, by_words), (0.001, by_vectors)], 10)) == ["a", "b", "x"]
    assert names(fused([(1.0, by_words), (0.0, by_vectors)], 10)) == ["a", "b"]
    assert fused([], 10) == []


# Coverage


def test_rare_words_weigh_more_and_none_weighs_less_than_nothing() -> None:
    assert rarity(100, 0) > rarity(100, 1) > rarity(100, 50) > rarity(100, 100) > 0


def test_coverage_is_between_nothing_and_everything() -> None:
    question = weights(["common", "rare", "missing"], Counted(50, {"common": 40, "rare": 2}))
    everything = coverage(question, 50, [{"common": 1, "rare": 1, "missing": 1}])
    together = coverage(question, 50, [{"common": 1, "rare": 1}, {"missing": 1}])
    rare, common = coverage(question, 50, [{"rare": 1}]), coverage(question, 50, [{"common": 3}])
    assert everything == pytest.approx(1.0)
    assert everything > together > rare > common > 0
    assert coverage(question, 50, [{"other": 1}]) == coverage(question, 50, []) == coverage({}, 50, [{"x": 1}]) == 0


def test_one_common_word_of_a_large_collection_proves_less_than_a_rare_one() -> None:
    def alone(total: int, having: int) -> float:
        return coverage(weights(["word"], Counted(total, {"word": having})), total, [{"word": 1}])

    assert alone(10_000, 5000) < 0.6 < alone(10_000, 20) < 1
    assert alone(5, 5) == pytest.approx(1.0)


def test_the_rarest_words_of_a_question_in_their_order() -> None:
    assert rarest(["a", "b", "c", "d"], {"a": 9, "b": 1, "d": 5}, 2) == ["b", "d"]


def test_bm25_prefers_rare_words_short_texts_and_repetition() -> None:
    question = {"rare": 5.0, "common": 0.5}
    rare, common, twice, long = bm25(
        question, [{"rare": 1, "x": 9}, {"common": 1, "x": 9}, {"rare": 2, "x": 8}, {"rare": 1, "x": 99}]
    )
    assert twice > rare > long > common > 0
    assert bm25(question, []) == []


# The test of an embedding model


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KnowledgeStore]:
    opened = open_sqlite(tmp_path / "knowledge.db")
    opened.create(BOOK)
    yield opened
    opened.close()


def by_words_of_the_list(text: str) -> list[float]:
    """A model that knows what the text is about: a number for each word of the lists."""
    found = text.lower().split()
    return [float(found.count(word)) for word in (*ANIMALS, *PLACES)]


def by_length(text: str) -> list[float]:
    """A model that knows nothing of what the text is about."""
    return [1.0, len(text) % 7 / 100]


def filled(store: KnowledgeStore, model: object) -> None:
    assert callable(model)
    for animal in ANIMALS:
        written = document(BOOK, f"{animal}.md")
        pieces = chunks(written, *(f"The {animal} of the {place} and the {place} {animal} number" for place in PLACES))
        store.put(written, pieces, {piece.id: model(piece.text) for piece in pieces})


async def test_a_model_that_finds_what_words_find_passes(store: KnowledgeStore) -> None:
    filled(store, by_words_of_the_list)

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [by_words_of_the_list(text) for text in texts]

    found = await self_test(store, BOOK, embed)
    assert found.samples == 50
    assert found.by_words == 1.0
    assert found.passed


async def test_a_model_that_finds_little_does_not_pass(store: KnowledgeStore) -> None:
    filled(store, by_length)

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [by_length(text) for text in texts]

    found = await self_test(store, BOOK, embed)
    assert found.by_vectors < 0.5 < found.by_words
    assert not found.passed


async def test_nothing_to_test_is_not_passed(store: KnowledgeStore) -> None:
    async def embed(texts: Sequence[str]) -> list[list[float]]:
        raise AssertionError("nothing to embed")

    assert await self_test(store, BOOK, embed) == SelfTest(0, 0.0, 0.0)
    shelved(store, BOOK, "short.md", "tiny")
    assert not (await self_test(store, BOOK, embed)).passed


async def test_every_part_of_a_single_document_is_sampled(store: KnowledgeStore) -> None:
    shelved(store, BOOK, "a.md", *(f"{animal} {place} part {animal}{place}" for animal in ANIMALS for place in PLACES))
    asked: list[str] = []

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[1.0] for _ in texts]

    found = await self_test(store, BOOK, embed, 20)
    assert found.samples == len(asked) == 20
    assert found.by_vectors == 0.0
    assert {word for question in asked for word in question.split()} >= set(ANIMALS[1:-1])


@pytest.mark.parametrize(("by_vectors", "passed"), [(0.86, True), (0.84, False)])
def test_a_little_less_than_words_is_enough(by_vectors: float, passed: bool) -> None:
    assert SelfTest(50, 0.90, by_vectors).passed is passed
