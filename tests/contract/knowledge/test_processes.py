"""Several processes and threads at one store, and a process that dies in the middle of an upload."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arkway.ports.lookup import KnowledgeStore
from tests.contract.knowledge.conftest import OpenKnowledge
from tests.tools.shelf import collection, document, shelved, texts
from tests.tools.waiting import PATIENCE_S, until

BOOK = collection()

PUTS = """
import sys
from pathlib import Path
from tests.contract.knowledge.conftest import opened
from tests.tools.shelf import collection, chunks, document

home, url, who = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = opened(home, url)
for number in range(int(sys.argv[4])):
    written = document(collection(), f"{who}-{number}.md")
    pieces = chunks(written, *(f"apples {who} number {number} part {part}" for part in range(5)))
    store.put(written, pieces, {piece.id: [1.0, float(number)] for piece in pieces})
    print(number, flush=True)
store.close()
"""


def put_by_a_process(home: Path, url: str, who: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PUTS, str(home), url, who, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_put_documents_at_once(tmp_path: Path, knowledge_url: str, new_knowledge: OpenKnowledge) -> None:
    store = new_knowledge()
    store.create(BOOK)
    processes = [put_by_a_process(tmp_path, knowledge_url, who, 15) for who in ("one", "two")]
    for process in processes:
        process.communicate(timeout=2 * PATIENCE_S)
    assert [process.returncode for process in processes] == [0, 0]
    assert store.documents(BOOK.id)[1] == 30
    assert len(store.words([BOOK.id], "apples", 1000)) == 150
    assert len(store.near(BOOK.id, [1.0, 1.0], 1000)) == 150


def test_readers_go_on_while_another_thread_writes(knowledge: KnowledgeStore) -> None:
    knowledge.create(BOOK)
    shelved(knowledge, BOOK, "0.md", "apples 0")
    over = threading.Event()

    def read() -> int:
        looks = 0
        while not over.is_set() or not looks:
            found = knowledge.words([BOOK.id], "apples", 100)
            assert len({hit.chunk.id for hit in found}) == len(found) >= 1
            assert knowledge.coverage([BOOK.id], "apples") > 0
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for number in range(1, 15):
                shelved(knowledge, BOOK, f"{number}.md", f"apples {number}")
                knowledge.remove(document(BOOK, f"{number - 1}.md").id)
        finally:
            over.set()
        assert all(reader.result(PATIENCE_S) for reader in readers)
    assert texts(knowledge.words([BOOK.id], "apples", 100)) == ["apples 14"]


def test_uploads_of_one_document_at_once_leave_one_of_them(new_knowledge: OpenKnowledge) -> None:
    stores = [new_knowledge(), new_knowledge()]
    stores[0].create(BOOK)
    together = threading.Barrier(4)

    def put(number: int) -> None:
        from tests.tools.shelf import chunks

        written = document(BOOK, "a.md")
        together.wait()
        for turn in range(5):
            stores[number % 2].put(written, chunks(written, "apples", f"pears {number} {turn}"), {})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
    stored = {chunk.text for chunk in stores[0].chunks(document(BOOK, "a.md").id)}
    assert len(stored) == 2
    assert "apples" in stored
    assert set(texts(stores[1].words([BOOK.id], "apples pears", 100))) == stored


def test_a_process_that_is_killed_leaves_every_document_whole_or_none_of_it(
    tmp_path: Path, knowledge_url: str, new_knowledge: OpenKnowledge
) -> None:
    store = new_knowledge()
    store.create(BOOK)
    put = 0
    for who in ("one", "two", "three"):
        process = put_by_a_process(tmp_path, knowledge_url, who, 10_000)
        assert process.stdout is not None
        for _ in range(8):
            assert process.stdout.readline()
            put += 1
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
    until(lambda: _is_whole(store))
    assert store.documents(BOOK.id)[1] >= put
    shelved(store, BOOK, "after.md", "quinces")
    assert texts(store.words([BOOK.id], "quinces", 5)) == ["quinces"]


def _is_whole(store: KnowledgeStore) -> bool:
    """PostgreSQL may finish a transaction shortly after its client has died; what is there is whole at any moment."""
    documents, count = store.documents(BOOK.id, 0, 1_000_000)
    for one in documents:
        pieces = store.chunks(one.id)
        assert len(pieces) == one.chunks == 5
    words, vectors = store.words([BOOK.id], "apples", 1_000_000), store.near(BOOK.id, [1.0, 1.0], 1_000_000)
    return len(words) == len(vectors) == 5 * count
