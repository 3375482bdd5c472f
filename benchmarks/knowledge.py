"""How well and how fast knowledge is found: by words in real manuals, by exact vectors, and whether to look at all.

A known-item query is made of three words of a chunk, neither very rare nor very common ones, put into a question; it is
a hit when that chunk is among those found. Vectors are random: their closest are of no interest, how long it takes is.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from arkway.core.knowledge import Chunk, Collection, Document
from arkway.knowledge.sqlite_store import open_sqlite
from arkway.knowledge.words import analyzer, words
from arkway.ports.lookup import KnowledgeStore
from benchmarks.knowledge_corpus import MANUALS, PAGES, Language, Source, Written, corpus, language
from benchmarks.knowledge_questions import CHIT_CHAT, IN_DOMAIN
from benchmarks.report import Options, Report, Table, quantile

CHUNKS: Final = 10_000
QUERIES: Final = 400
TOP: Final = 10
SELDOM: Final = 3
OFTEN_SHARE: Final = 0.02
DIMENSIONS: Final = (384, 1024)
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
            figures["vectors"] = {
                f"{size} dimensions": _by_vectors(store, size, CHUNKS // scale, QUERIES // scale) for size in DIMENSIONS
            }
            figures["gate"] = _gate(store)
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


def _gate(store: KnowledgeStore) -> dict[str, float]:
    """The area under the curve: how often a question about the manuals is covered better than one that is not."""
    taken_ms: list[float] = []

    def covered(question: str) -> float:
        started_s = time.perf_counter()
        share = store.coverage(["manuals"], question)
        taken_ms.append(1000 * (time.perf_counter() - started_s))
        return share

    inside, outside = list(map(covered, IN_DOMAIN)), list(map(covered, CHIT_CHAT))
    better = sum((one > other) + 0.5 * (one == other) for one in inside for other in outside)
    return {
        "auc": better / (len(inside) * len(outside)),
        "recall": sum(share >= GATE for share in inside) / len(inside),
        "false_trigger": sum(share >= GATE for share in outside) / len(outside),
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
    gate = figures["gate"]
    return [
        Table(f"Indexing in SQLite ({figures['analyzer']})", ("", "documents", "chunks", "s"), index),
        Table("Known items by words", ("", "queries", "hit@1", "hit@10", "p50 ms", "p99 ms"), by_words),
        Table("Exact vectors, random ones", ("", "first ms", "p50 ms", "p99 ms"), by_vectors),
        Table(
            f"To look or not: coverage, {len(IN_DOMAIN)} questions and {len(CHIT_CHAT)} of chit-chat",
            ("AUC", f"recall at {GATE}", "false trigger", "p50 ms"),
            [(f"{gate['auc']:.3f}", gate["recall"], gate["false_trigger"], gate["p50_ms"])],
        ),
    ]
