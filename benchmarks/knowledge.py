"""How well and how fast knowledge is found: by words in real manuals, by exact vectors, and whether to look at all.

A known-item query is made of three words of a chunk, neither very rare nor very common ones, put into a question; it is
a hit when that chunk is among those found. Vectors are random: their closest are of no interest, how long it takes is.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from arkway.core.knowledge import Chunk, Collection, Document
from arkway.knowledge.chunking import CHUNK_LIMIT
from arkway.knowledge.parsing import chunks_in_child
from arkway.knowledge.sqlite_store import open_sqlite
from arkway.knowledge.words import analyzer, words
from arkway.ports.lookup import KnowledgeStore
from benchmarks.knowledge_corpus import MANUALS, PAGES, Language, Source, Written, book, corpus, language
from benchmarks.knowledge_programmer import ABOUT_PAGES, SMALL_TALK
from benchmarks.knowledge_questions import CHIT_CHAT, IN_DOMAIN
from benchmarks.report import Options, Report, Table, quantile

CHUNKS: Final = 10_000
ALL_CHUNKS: Final = 1_000_000
"""Of manual pages, for the gate: its questions are about all of them; the first 10,000 chunks are of two sections."""
QUERIES: Final = 400
TOP: Final = 10
SELDOM: Final = 3
OFTEN_SHARE: Final = 0.02
DIMENSIONS: Final = (384, 1024)
PDF_ROUNDS: Final = 5
GATE: Final = 0.6
TEMPLATES: Final[dict[Language, tuple[str, ...]]] = {
    "zh": ("请问{0}和{1}的{2}是怎么回事？", "如何用{0}来处理{1}中的{2}", "{0} {1} {2}"),
    "en": ("how do I use {0} with {1} and {2}?", "what does {0} have to do with the {1} of {2}", "{0} {1} {2}"),
}


class Query(msgspec.Struct, frozen=True):
    text: str
    chunk_id: str


def measure(options: Options) -> Report:
    """Fetches Debian packages with manuals the first time. Raises Unmeasured where it cannot."""
    scale = 10 if options.quick else 1
    figures: dict[str, Any] = {"analyzer": analyzer()}
    with tempfile.TemporaryDirectory(prefix="arkway-bench-") as folder:
        store = open_sqlite(Path(folder) / "knowledge.db")
        try:
            manuals = _indexed(store, "manuals", MANUALS, CHUNKS // scale)
            pages = _indexed(store, "pages", PAGES, CHUNKS // scale)
            figures["index"] = {name: figure for name, (_, figure) in {"manuals": manuals, "pages": pages}.items()}
            figures["words"] = {
                "Chinese, Debian's manuals": _by_words(store, "manuals", manuals[0], "zh", QUERIES // scale),
                "English, the same collection": _by_words(store, "manuals", manuals[0], "en", QUERIES // scale),
                "English, manual pages": _by_words(store, "pages", pages[0], "en", QUERIES // scale),
            }
            figures["pdf"] = _pdf(1 if options.quick else PDF_ROUNDS)
            figures["vectors"] = {
                f"{size} dimensions": _by_vectors(store, size, CHUNKS // scale, QUERIES // scale) for size in DIMENSIONS
            }
            _indexed(store, "all pages", PAGES, CHUNKS if options.quick else ALL_CHUNKS)
            figures["gate"] = {
                "Debian's manuals": _gate(store, "manuals", IN_DOMAIN, CHIT_CHAT),
                "English, manual pages": _gate(store, "all pages", ABOUT_PAGES, SMALL_TALK),
            }
        finally:
            store.close()
    return Report(figures, _tables(figures))


def _indexed(store: KnowledgeStore, name: str, source: Source, limit: int) -> tuple[list[Written], dict[str, float]]:
    written = corpus(source, name, limit)
    store.create(Collection(id=name, account="bench", project="bench", name=name))
    started_s = time.perf_counter()
    for one in written:
        store.put(one.document, one.chunks, {})
    taken_s = time.perf_counter() - started_s
    return written, {"documents": len(written), "chunks": sum(len(one.chunks) for one in written), "seconds": taken_s}


def _pdf(rounds: int) -> dict[str, float]:
    """From the file to its chunks, the child process that reads it included; the median."""
    body, taken_s, pages, chunks = book(), [], 0, 0
    for _ in range(rounds):
        started_s = time.perf_counter()
        parsed, found = chunks_in_child("book.pdf", body, "0" * 32, chunk_limit=CHUNK_LIMIT)
        taken_s.append(time.perf_counter() - started_s)
        pages, chunks = int(parsed.meta["pages"]), len(found)
    seconds = statistics.median(taken_s)
    return {"pages": pages, "chunks": chunks, "seconds": seconds, "pages_per_s": pages / seconds}


def _by_words(
    store: KnowledgeStore, collection: str, written: Sequence[Written], wanted: Language, count: int
) -> dict[str, float]:
    queries = list(_queries([chunk for one in written for chunk in one.chunks], wanted, count))
    ranks: list[int | None] = []
    taken_ms: list[float] = []
    for query in queries:
        started_s = time.perf_counter()
        hits = store.words([collection], query.text, TOP)
        taken_ms.append(1000 * (time.perf_counter() - started_s))
        places = [place for place, hit in enumerate(hits) if hit.chunk.id == query.chunk_id]
        ranks.append(places[0] if places else None)
    return {
        "queries": len(queries),
        "hit_1": sum(rank == 0 for rank in ranks) / len(ranks),
        "hit_10": sum(rank is not None for rank in ranks) / len(ranks),
        "p50_ms": quantile(taken_ms, 0.50),
        "p99_ms": quantile(taken_ms, 0.99),
    }


def _queries(chunks: Sequence[Chunk], wanted: Language, count: int) -> Iterator[Query]:
    """In an order that is always the same and looks like chance."""
    cut = {chunk.id: words(chunk.text) for chunk in chunks if language(chunk) == wanted}
    having = Counter(word for found in cut.values() for word in set(found))
    often = max(SELDOM, int(OFTEN_SHARE * len(cut)))
    made = 0
    for chunk_id in sorted(cut, key=_chance):
        usable = {word for word in cut[chunk_id] if len(word) > 1 and SELDOM <= having[word] <= often}
        chosen = sorted((word for word in usable if not word.isdigit()), key=lambda word: _chance(chunk_id + word))[:3]
        if len(chosen) == 3:
            yield Query(TEMPLATES[wanted][made % 3].format(*chosen), chunk_id)
            made += 1
        if made == count:
            return


def _chance(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def _by_vectors(store: KnowledgeStore, size: int, count: int, queries: int) -> dict[str, float]:
    import numpy as np

    random = np.random.default_rng(size)
    name = f"vectors-{size}"
    store.create(Collection(id=name, account="bench", project="bench", name=name))
    document = Document(id=f"{name}-all", collection_id=name, source="all", name="all", type="txt")
    chunks = [Chunk(id=f"{name}-{n}", document_id=document.id, ordinal=n, text=str(n)) for n in range(count)]
    vectors = random.standard_normal((count, size)).tolist()
    store.put(document, chunks, dict(zip([chunk.id for chunk in chunks], vectors, strict=True)))
    questions = random.standard_normal((queries + 1, size)).tolist()
    taken_ms: list[float] = []
    for question in questions:
        started_s = time.perf_counter()
        store.near(name, question, TOP)
        taken_ms.append(1000 * (time.perf_counter() - started_s))
    first_ms, *others_ms = taken_ms
    return {"first_ms": first_ms, "p50_ms": quantile(others_ms, 0.50), "p99_ms": quantile(others_ms, 0.99)}


def _gate(store: KnowledgeStore, collection: str, inside: Sequence[str], outside: Sequence[str]) -> dict[str, float]:
    """The area under the curve: how often a question about the documents is covered better than one that is not.

    The threshold was found with the first corpus and its questions; the second one's had no part in it.
    """
    taken_ms: list[float] = []

    def covered(question: str) -> float:
        started_s = time.perf_counter()
        share = store.coverage([collection], question)
        taken_ms.append(1000 * (time.perf_counter() - started_s))
        return share

    answered, others = list(map(covered, inside)), list(map(covered, outside))
    better = sum((one > other) + 0.5 * (one == other) for one in answered for other in others)
    return {
        "inside": len(answered),
        "outside": len(others),
        "auc": better / (len(answered) * len(others)),
        "recall": sum(share >= GATE for share in answered) / len(answered),
        "false_trigger": sum(share >= GATE for share in others) / len(others),
        "p50_ms": quantile(taken_ms, 0.50),
    }


def _tables(figures: dict[str, Any]) -> list[Table]:
    index = [
        (name, *(row[key] for key in ("documents", "chunks", "seconds"))) for name, row in figures["index"].items()
    ]
    by_words = [
        (name, *(row[key] for key in ("queries", "hit_1", "hit_10", "p50_ms", "p99_ms")))
        for name, row in figures["words"].items()
    ]
    by_vectors = [
        (name, *(row[key] for key in ("first_ms", "p50_ms", "p99_ms"))) for name, row in figures["vectors"].items()
    ]
    gate: list[tuple[str | float | None, ...]] = [
        (name, row["inside"], row["outside"], f"{row['auc']:.3f}", row["recall"], row["false_trigger"], row["p50_ms"])
        for name, row in figures["gate"].items()
    ]
    return [
        Table(f"Indexing in SQLite ({figures['analyzer']})", ("", "documents", "chunks", "s"), index),
        Table(
            "A PDF in Chinese becomes chunks, process included",
            ("pages", "chunks", "s", "pages/s"),
            [tuple(figures["pdf"].values())],
        ),
        Table("Known items by words", ("", "queries", "hit@1", "hit@10", "p50 ms", "p99 ms"), by_words),
        Table("Exact vectors, random ones", ("", "first ms", "p50 ms", "p99 ms"), by_vectors),
        Table(
            "To look or not: coverage of questions and of chit-chat",
            ("", "questions", "chats", "AUC", f"recall at {GATE}", "false trigger", "p50 ms"),
            gate,
        ),
    ]
