"""Collections, documents and chunks: what goes in comes out, of the right account, and whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pytest
from msgspec import structs

from arkway.core.errors import InvalidField
from arkway.core.knowledge import Change, Chunk
from arkway.knowledge.words import analyzer
from arkway.ports.lookup import KnowledgeStore
from tests.contract.knowledge.conftest import OpenKnowledge
from tests.tools.shelf import chunks, collection, document, shelved, texts

BOOK = collection()


# Collections


def test_a_collection_comes_back_as_it_was_made_with_the_analyzer_of_today(knowledge: KnowledgeStore) -> None:
    made = collection(kind="pages", description="手册 \U0001f600", endpoint_id="ep-1", vector_weight=0.25)
    assert knowledge.create(made)
    assert knowledge.collection("acme", "default", "handbook") == structs.replace(made, analyzer=analyzer())


def test_a_name_is_taken_once_in_each_project(knowledge: KnowledgeStore) -> None:
    assert knowledge.create(BOOK)
    assert not knowledge.create(structs.replace(BOOK, id="kb-other"))
    assert not knowledge.create(structs.replace(BOOK, name="other"))
    assert knowledge.create(collection(project="second"))
    assert knowledge.create(collection(account="rival"))
    assert [one.id for one in knowledge.collections("acme")] == ["kb-acme-default-handbook", "kb-acme-second-handbook"]


def test_collections_are_listed_by_name_and_only_the_accounts_own(knowledge: KnowledgeStore) -> None:
    for one in (collection("b"), collection("a"), collection("c", project="second"), collection("d", account="rival")):
        knowledge.create(one)
    assert [one.name for one in knowledge.collections("acme")] == ["a", "b", "c"]
    assert [one.name for one in knowledge.collections("acme", "default")] == ["a", "b"]
    assert [one.name for one in knowledge.collections("rival")] == ["d"]
    assert knowledge.collections("nobody") == []
    assert knowledge.collection("rival", "default", "a") is None
    assert knowledge.collection("acme", "second", "a") is None


def test_a_change_leaves_the_id_the_name_and_the_project(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    wanted = structs.replace(
        BOOK, name="x", account="x", project="x", description="new", vector_weight=0.5, updated_at=9
    )
    assert knowledge.change(wanted)
    changed = structs.replace(BOOK, description="new", vector_weight=0.5, updated_at=9, analyzer=analyzer())
    assert knowledge.collections("acme") == [changed]
    assert not knowledge.change(collection("missing"))


def test_a_dropped_collection_takes_everything_with_it_and_leaves_the_others(knowledge: KnowledgeStore) -> None:
    other = collection("other")
    knowledge.create(BOOK)
    knowledge.create(other)
    [gone] = shelved(knowledge, BOOK, "a.md", "apples and pears")
    [stays] = shelved(knowledge, other, "a.md", "apples and plums")
    knowledge.add_vectors(BOOK.id, {gone.id: [1.0, 0.0]})
    assert knowledge.drop(BOOK.id)
    assert not knowledge.drop(BOOK.id)
    assert knowledge.chunk(gone.id) is None
    assert knowledge.document(gone.document_id) is None
    assert knowledge.documents(BOOK.id) == ([], 0)
    assert knowledge.near(BOOK.id, [1.0, 0.0], 5) == []
    assert knowledge.words([BOOK.id], "apples", 5) == []
    assert [hit.chunk for hit in knowledge.words([BOOK.id, other.id], "apples", 5)] == [stays]


def test_a_collection_made_again_begins_empty(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    shelved(knowledge, BOOK, "a.md", "apples")
    knowledge.drop(BOOK.id)
    assert knowledge.create(BOOK)
    assert knowledge.words([BOOK.id], "apples", 5) == []
    shelved(knowledge, BOOK, "a.md", "apples")
    assert texts(knowledge.words([BOOK.id], "apples", 5)) == ["apples"]


# Documents


def test_documents_are_listed_by_name_a_page_at_a_time(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    for name in ("c", "a", "e", "b", "d"):
        shelved(knowledge, BOOK, f"{name}.md", f"about {name}")
    page, count = knowledge.documents(BOOK.id, 1, 3)
    assert ([one.name for one in page], count) == (["b", "c", "d"], 5)
    assert knowledge.documents(BOOK.id, 9) == ([], 5)


def test_a_document_and_its_chunks_come_back_as_they_were_put(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    written = document(BOOK, "安装.md", title="安装 / \u00e9 \U0001f600")
    pieces = chunks(written, "第一步", 'it\'s 100% "quoted" \\ ? # $1', path=("文档首页", "a'b\"c"))
    assert knowledge.put(written, pieces, {}) == Change(2, 0, 0)
    assert knowledge.document(written.id) == structs.replace(written, chunks=2)
    assert knowledge.chunks(written.id) == pieces
    assert knowledge.chunk(pieces[1].id) == pieces[1]
    assert knowledge.document("0" * 32) is None
    assert knowledge.chunk("missing") is None


def test_what_a_database_cannot_hold_is_replaced(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    written = document(BOOK, "a.md")
    piece = structs.replace(chunks(written, "x")[0], text="nul \0 half \ud83d end")
    knowledge.put(written, [piece], {})
    assert knowledge.chunks(written.id)[0].text == "nul \ufffd half \ufffd end"
    assert len(knowledge.words([BOOK.id], "half", 5)) == 1


def test_another_upload_of_a_document_leaves_unchanged_chunks_alone(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    first = document(BOOK, "a.md")
    one, two, three = chunks(first, "apples", "pears", "plums")
    knowledge.put(first, [one, two, three], {one.id: [1.0, 0.0], two.id: [0.0, 1.0]})
    again = document(BOOK, "a.md", updated_at=7)
    new = chunks(again, "cherries", "plums", "apples")
    assert knowledge.put(again, new, {}) == Change(added=1, kept=2, removed=1)
    assert knowledge.chunks(again.id) == new
    assert knowledge.document(again.id) == structs.replace(again, chunks=3, created_at=1)
    assert texts(knowledge.words([BOOK.id], "pears", 5)) == []
    assert texts(knowledge.words([BOOK.id], "cherries", 5)) == ["cherries"]
    assert texts(knowledge.near(BOOK.id, [1.0, 0.0], 5)) == ["apples"]
    assert texts_without_vectors(knowledge) == {"cherries", "plums"}


def test_a_new_title_is_found_and_the_old_one_is_not(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    shelved(knowledge, BOOK, "a.md", "apples", "pears", title="Orchard")
    renamed = document(BOOK, "a.md", title="Garden")
    assert knowledge.put(renamed, chunks(renamed, "apples", "pears"), {}) == Change(0, 2, 0)
    assert knowledge.words([BOOK.id], "orchard", 5) == []
    assert len(knowledge.words([BOOK.id], "garden", 5)) == 2


def test_the_same_source_in_two_collections_is_two_documents(knowledge: KnowledgeStore) -> None:
    other = collection("other")
    for one in (BOOK, other):
        knowledge.create(one)
        shelved(knowledge, one, "a.md", "apples")
    assert knowledge.remove(document(BOOK, "a.md").id)
    assert knowledge.document(document(other, "a.md").id) is not None
    assert texts(knowledge.words([other.id], "apples", 5)) == ["apples"]


def test_a_removed_document_is_not_found_any_more(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    [piece] = shelved(knowledge, BOOK, "a.md", "apples")
    knowledge.add_vectors(BOOK.id, {piece.id: [1.0, 0.0]})
    assert knowledge.remove(piece.document_id)
    assert not knowledge.remove(piece.document_id)
    assert knowledge.chunks(piece.document_id) == []
    assert knowledge.words([BOOK.id], "apples", 5) == []
    assert knowledge.near(BOOK.id, [1.0, 0.0], 5) == []
    assert knowledge.documents(BOOK.id) == ([], 0)


def test_an_empty_document_is_a_document(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    empty = document(BOOK, "a.md")
    assert knowledge.put(empty, [], {}) == Change(0, 0, 0)
    assert knowledge.documents(BOOK.id) == ([empty], 1)


# Whole or not at all


@pytest.mark.parametrize(
    "vectors",
    [
        {"new": [1.0, 2.0, 3.0]},
        {"new": [1.0, math.nan]},
        {"new": [math.inf, 1.0]},
        {"new": []},
    ],
)
def test_an_upload_with_a_wrong_vector_changes_nothing(
    knowledge: KnowledgeStore, vectors: Mapping[str, Sequence[float]]
) -> None:
    knowledge.create(BOOK)
    before = document(BOOK, "a.md")
    old = chunks(before, "apples", "pears")
    knowledge.put(before, old, {old[0].id: [1.0, 0.0]})
    after = document(BOOK, "a.md", title="New", updated_at=9)
    new = chunks(after, "plums")
    with pytest.raises(InvalidField, match="vector"):
        knowledge.put(after, new, {new[0].id: vectors["new"]})
    assert knowledge.document(before.id) == structs.replace(before, chunks=2)
    assert knowledge.chunks(before.id) == old
    assert texts(knowledge.words([BOOK.id], "apples pears plums", 5)) in (["apples", "pears"], ["pears", "apples"])
    assert texts(knowledge.near(BOOK.id, [1.0, 0.0], 5)) == ["apples"]


class Failing(Sequence[Chunk]):
    """Chunks that are all there when they are counted, and fail when the transaction that puts them in has begun."""

    def __init__(self, pieces: list[Chunk], good_looks: int) -> None:
        self._pieces, self._good_looks = pieces, good_looks

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, at: int | slice) -> Chunk:  # type: ignore[override]
        raise NotImplementedError

    def __iter__(self) -> Iterator[Chunk]:
        self._good_looks -= 1
        if self._good_looks < 0:
            raise OSError("the disk with the chunks has gone away")
        return iter(self._pieces)


@pytest.mark.parametrize("good_looks", [0, 1, 2])
def test_an_error_in_the_middle_of_an_upload_changes_nothing(knowledge: KnowledgeStore, good_looks: int) -> None:
    knowledge.create(BOOK)
    old = shelved(knowledge, BOOK, "a.md", "apples", "pears")
    after = document(BOOK, "a.md", title="New")
    with pytest.raises(Exception, match="gone away"):
        knowledge.put(after, Failing(chunks(after, "plums"), good_looks), {})
    assert knowledge.chunks(after.id) == old
    assert len(knowledge.words([BOOK.id], "apples", 5)) == 1
    assert knowledge.words([BOOK.id], "plums new", 5) == []


def test_an_upload_into_a_collection_that_is_gone_is_refused(knowledge: KnowledgeStore) -> None:
    gone = document(BOOK, "a.md")
    with pytest.raises(InvalidField, match="does not exist"):
        knowledge.put(gone, chunks(gone, "apples"), {})
    with pytest.raises(InvalidField, match="does not exist"):
        knowledge.add_vectors(BOOK.id, {"x": [1.0]})
    with pytest.raises(InvalidField, match="does not exist"):
        knowledge.reindex(BOOK.id)
    assert knowledge.document(gone.id) is None


def test_what_one_store_writes_another_finds(new_knowledge: OpenKnowledge) -> None:
    one, other = new_knowledge(), new_knowledge()
    one.create(BOOK)
    [piece] = shelved(one, BOOK, "a.md", "apples")
    assert texts(other.words([BOOK.id], "apples", 5)) == ["apples"]
    other.add_vectors(BOOK.id, {piece.id: [1.0, 0.0]})
    assert texts(one.near(BOOK.id, [1.0, 0.0], 5)) == ["apples"]
    one.remove(piece.document_id)
    assert other.near(BOOK.id, [1.0, 0.0], 5) == []
    assert other.words([BOOK.id], "apples", 5) == []


def texts_without_vectors(knowledge: KnowledgeStore) -> set[str]:
    return {chunk.text for chunk in knowledge.without_vectors(BOOK.id, 10)}
