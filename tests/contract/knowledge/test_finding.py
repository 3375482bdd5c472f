"""What is found by words and by vectors, in which order, and whether it is worth a look."""

from __future__ import annotations

import pytest
from msgspec import structs

from arkway.core.errors import InvalidField
from arkway.knowledge.words import analyzer
from arkway.ports.lookup import KnowledgeStore
from tests.contract.knowledge.conftest import OpenKnowledge
from tests.tools.shelf import chunks, collection, document, shelved, texts

BOOK = collection()


# Words


def test_chinese_and_english_are_found_by_their_words(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    shelved(knowledge, BOOK, "a.md", "如何安装 Debian 系统", "网络配置与防火墙", "The Kernel's modules", "内核编译")
    assert texts(knowledge.words([BOOK.id], "怎么配置网络？", 5)) == ["网络配置与防火墙"]
    assert texts(knowledge.words([BOOK.id], "KERNEL ｍｏｄｕｌｅｓ", 5)) == ["The Kernel's modules"]
    assert texts(knowledge.words([BOOK.id], "debian", 5)) == ["如何安装 Debian 系统"]
    assert knowledge.words([BOOK.id], "数据库", 5) == []


def test_a_hit_has_its_document_and_its_collection(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    [piece] = shelved(knowledge, BOOK, "a.md", "apples")
    [hit] = knowledge.words([BOOK.id], "apples", 5)
    assert (hit.chunk, hit.document) == (piece, structs.replace(document(BOOK, "a.md"), chunks=1))
    assert hit.collection == structs.replace(BOOK, analyzer=analyzer())
    assert hit.score > 0


def test_what_has_more_of_the_rare_words_comes_first(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    filler = [f"common text number {number}" for number in range(20)]
    shelved(knowledge, BOOK, "a.md", *filler, "common quince", "common quince medlar", "common medlar text")
    found = texts(knowledge.words([BOOK.id], "common quince medlar", 30))
    assert found[0] == "common quince medlar"
    assert set(found[1:3]) == {"common quince", "common medlar text"}
    assert len(found) == 23
    assert len(knowledge.words([BOOK.id], "common quince medlar", 2)) == 2
    assert knowledge.words([BOOK.id], "common", 0) == []


def test_the_headings_and_the_title_are_found_too(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    written = document(BOOK, "a.md", title="Orchard")
    knowledge.put(written, chunks(written, "prune in spring", path=("Trees", "Apples")), {})
    for question in ("orchard", "trees", "apples", "spring"):
        assert texts(knowledge.words([BOOK.id], question, 5)) == ["prune in spring"]


@pytest.mark.parametrize(
    "question",
    [
        "", "   ", "的 了 是", "how do you", "?!，。", '"', "' OR 1=1 --", "a AND NOT (", "NEAR(x, 5)", "words:", "*",
        "^x", "col : \"x\" + y", "\0", "\ud83d", "%s ? $1 \\", "x" * 100_000, "🙂",
    ],
)  # fmt: skip
def test_no_question_is_an_error(knowledge: KnowledgeStore, question: str) -> None:
    knowledge.create(BOOK)
    shelved(knowledge, BOOK, "a.md", "apples")
    assert knowledge.words([BOOK.id], question, 5) == []
    assert knowledge.coverage([BOOK.id], question) == 0.0


def test_words_that_mean_something_to_a_query_language_are_words(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    shelved(knowledge, BOOK, "a.md", "near miss", "rowid rank", "null tsquery", "café é हिन्दी カタカナ 1e5 x1")
    assert texts(knowledge.words([BOOK.id], "NEAR", 5)) == ["near miss"]
    assert texts(knowledge.words([BOOK.id], "rank:rowid", 5)) == ["rowid rank"]
    assert texts(knowledge.words([BOOK.id], "null", 5)) == ["null tsquery"]
    for question in ("CAFÉ", "हिन्दी", "タカ", "1e5", "x1"):
        assert len(knowledge.words([BOOK.id], question, 5)) == 1


def test_of_a_long_question_the_rare_words_are_looked_up(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    common = " ".join(f"common{number}" for number in range(40))
    shelved(knowledge, BOOK, "a.md", common, common + " more", common + " quince")
    question = f"{common} {' '.join(f'missing{number}' for number in range(40))} quince"
    assert texts(knowledge.words([BOOK.id], question, 1)) == [common + " quince"]


def test_only_the_collections_asked_are_searched(knowledge: KnowledgeStore) -> None:
    others = [collection("second"), collection(account="rival")]
    for one in (BOOK, *others):
        knowledge.create(one)
        shelved(knowledge, one, "a.md", f"apples of {one.id}")
    assert [hit.collection.id for hit in knowledge.words([BOOK.id], "apples", 9)] == [BOOK.id]
    assert {hit.collection.id for hit in knowledge.words([BOOK.id, others[0].id], "apples", 9)} == {
        BOOK.id,
        others[0].id,
    }
    assert knowledge.words([], "apples", 9) == []
    assert knowledge.words(["kb-missing"], "apples", 9) == []
    assert len(knowledge.words([BOOK.id, BOOK.id, "kb-missing"], "apples", 9)) == 1


def test_hits_of_a_small_collection_stand_beside_those_of_a_large_one(knowledge: KnowledgeStore) -> None:
    small = collection("small")
    knowledge.create(BOOK)
    knowledge.create(small)
    shelved(knowledge, BOOK, "a.md", *(f"apples number {number}" for number in range(30)), "pears")
    shelved(knowledge, small, "b.md", "pears and quinces", "quinces")
    found = knowledge.words([BOOK.id, small.id], "quinces apples pears", 5)
    assert found[0].chunk.text == "pears and quinces"
    assert {hit.chunk.text for hit in found[1:3]} == {"quinces", "pears"}
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


# Coverage


def test_coverage_is_the_share_of_what_the_question_is_about(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    shelved(
        knowledge, BOOK, "a.md", "安装 Debian 系统", "配置网络和防火墙", *(f"章节 {number}" for number in range(20))
    )
    assert knowledge.coverage([BOOK.id], "怎么配置网络的防火墙？") == pytest.approx(1.0)
    assert knowledge.coverage([BOOK.id], "今天晚饭吃火锅") == 0.0
    half = knowledge.coverage([BOOK.id], "配置网络和打印机")
    assert 0.2 < half < 0.9
    assert knowledge.coverage([BOOK.id], "配置网络和打印机墨盒纸张") < half
    assert knowledge.coverage([], "配置网络") == 0.0
    assert knowledge.coverage(["kb-missing"], "配置网络") == 0.0


def test_coverage_of_several_collections_is_that_of_their_best_hits_together(knowledge: KnowledgeStore) -> None:
    other = collection("other")
    knowledge.create(BOOK)
    knowledge.create(other)
    shelved(knowledge, BOOK, "a.md", "apples", "filler")
    shelved(knowledge, other, "a.md", "apples with quinces", "filler")
    assert knowledge.coverage([other.id, BOOK.id], "apples quinces") == pytest.approx(1.0)
    assert knowledge.coverage([BOOK.id], "apples quinces") < 0.6


# Vectors


def test_the_closest_come_first_whatever_their_length(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    written = document(BOOK, "a.md")
    east, north, between, nowhere, _ = pieces = chunks(written, "east", "north", "between", "nowhere", "without")
    vectors = {east.id: [5.0, 0.0], north.id: [0.0, 0.1], between.id: [1e-3, 1e-3], nowhere.id: [0.0, 0.0]}
    knowledge.put(written, pieces, vectors)
    found = knowledge.near(BOOK.id, [2.0, 0.2], 10)
    assert texts(found) == ["east", "between", "north", "nowhere"]
    assert found[0].score == pytest.approx(0.99504, abs=1e-4)
    assert found[3].score == pytest.approx(0.0, abs=1e-6)
    assert texts(knowledge.near(BOOK.id, [0.0, 1.0], 1)) == ["north"]
    assert knowledge.near(BOOK.id, [0.0, 1.0], 0) == []


def test_chunks_get_their_vectors_later_and_lose_them_with_the_model(knowledge: KnowledgeStore) -> None:
    knowledge.create(structs.replace(BOOK, embedding_model="first"))
    pieces = shelved(knowledge, BOOK, "a.md", "a", "b", "c")
    assert knowledge.near(BOOK.id, [1.0, 0.0], 5) == []
    assert [chunk.text for chunk in knowledge.without_vectors(BOOK.id, 2)] == ["a", "b"]
    knowledge.add_vectors(
        BOOK.id, {pieces[0].id: [1.0, 0.0], pieces[2].id: [0.0, 1.0], "removed meanwhile": [1.0, 1.0]}
    )
    assert [chunk.text for chunk in knowledge.without_vectors(BOOK.id, 9)] == ["b"]
    [now] = knowledge.collections("acme")
    assert now.dimensions == 2
    knowledge.change(structs.replace(now, description="changed"))
    assert texts(knowledge.near(BOOK.id, [1.0, 0.0], 1)) == ["a"]
    knowledge.change(structs.replace(now, embedding_model="second", dimensions=0))
    assert len(knowledge.without_vectors(BOOK.id, 9)) == 3
    knowledge.add_vectors(BOOK.id, {pieces[1].id: [1.0, 0.0, 0.0]})
    assert texts(knowledge.near(BOOK.id, [1.0, 0.0, 0.0], 5)) == ["b"]


def test_vectors_of_who_knows_which_model_do_not_become_a_models(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    [piece] = shelved(knowledge, BOOK, "a.md", "a")
    knowledge.add_vectors(BOOK.id, {piece.id: [1.0, 0.0]})
    [now] = knowledge.collections("acme")
    knowledge.change(structs.replace(now, embedding_model="model", dimensions=0))
    assert knowledge.without_vectors(BOOK.id, 9) == [piece]
    assert knowledge.near(BOOK.id, [1.0, 0.0], 5) == []


def test_a_vector_takes_the_place_of_the_one_before(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    one, other = shelved(knowledge, BOOK, "a.md", "one", "other")
    knowledge.add_vectors(BOOK.id, {one.id: [1.0, 0.0], other.id: [0.0, 1.0]})
    assert texts(knowledge.near(BOOK.id, [1.0, 0.0], 1)) == ["one"]
    knowledge.add_vectors(BOOK.id, {one.id: [-1.0, 0.0]})
    found = knowledge.near(BOOK.id, [1.0, 0.0], 5)
    assert texts(found) == ["other", "one"]
    assert found[1].score == pytest.approx(-1.0, abs=1e-6)


def test_vectors_of_other_dimensions_are_refused(knowledge: KnowledgeStore) -> None:
    knowledge.create(collection(dimensions=2))
    [piece] = shelved(knowledge, BOOK, "a.md", "apples")
    with pytest.raises(InvalidField, match="2 dimensions and not of 3"):
        knowledge.add_vectors(BOOK.id, {piece.id: [1.0, 0.0, 0.0]})
    with pytest.raises(InvalidField, match="2 dimensions and not of 3"):
        knowledge.near(BOOK.id, [1.0, 0.0, 0.0], 5)
    assert len(knowledge.without_vectors(BOOK.id, 9)) == 1


def test_vectors_of_a_collection_are_nobody_elses(knowledge: KnowledgeStore) -> None:
    other = collection(account="rival")
    for one in (BOOK, other):
        knowledge.create(one)
        [piece] = shelved(knowledge, one, "a.md", f"apples of {one.account}")
        knowledge.add_vectors(one.id, {piece.id: [1.0, 0.0]})
    assert texts(knowledge.near(BOOK.id, [1.0, 0.0], 5)) == ["apples of acme"]
    [foreign] = knowledge.chunks(document(other, "a.md").id)
    knowledge.add_vectors(BOOK.id, {foreign.id: [0.0, 1.0]})
    assert texts(knowledge.near(other.id, [1.0, 0.0], 5)) == ["apples of rival"]
    assert knowledge.near(other.id, [1.0, 0.0], 5)[0].score == pytest.approx(1.0)


def test_many_changes_by_two_stores_leave_both_with_the_same_vectors(new_knowledge: OpenKnowledge) -> None:
    stores = [new_knowledge(), new_knowledge()]
    stores[0].create(BOOK)
    for number in range(12):
        writer = stores[number % 2]
        [piece] = shelved(writer, BOOK, f"{number}.md", f"text {number}")
        writer.add_vectors(BOOK.id, {piece.id: [1.0, float(number)]})
        if number % 3 == 2:
            stores[(number + 1) % 2].remove(document(BOOK, f"{number - 1}.md").id)
        found = [texts(store.near(BOOK.id, [1.0, 0.0], 20)) for store in stores]
        left = [n for n in range(number + 1) if not (n % 3 == 1 and n < number)]
        assert found[0] == found[1] == [f"text {n}" for n in left]


# The index


def test_indexing_anew_finds_the_same(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    pieces = shelved(knowledge, BOOK, "a.md", "apples", "pears")
    shelved(knowledge, BOOK, "b.md", "plums", title="Stone fruit")
    knowledge.add_vectors(BOOK.id, {pieces[0].id: [1.0, 0.0]})
    before = [knowledge.words([BOOK.id], question, 5) for question in ("apples pears", "stone")]
    assert knowledge.reindex(BOOK.id) == 3
    assert [knowledge.words([BOOK.id], question, 5) for question in ("apples pears", "stone")] == before
    assert texts(knowledge.near(BOOK.id, [1.0, 0.0], 5)) == ["apples"]
    assert [one.analyzer for one in knowledge.collections("acme")] == [analyzer()]
