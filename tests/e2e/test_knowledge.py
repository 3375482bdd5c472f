"""Knowledge on a real server and the command line, with the real embedding model; and servers that are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from arkway.knowledge.opening import knowledge_path
from tests.e2e.conftest import EMBEDDING_MODEL, Home, Served
from tests.tools.client import Connection
from tests.tools.waiting import until

WORDS = ("valve", "bearing", "gasket", "rotor", "shaft", "seal", "bolt", "flange", "coupling", "hose", "nozzle")
PATIENCE_S = 120.0


def part(number: int) -> bytes:
    lines = (
        f"## {word} {number}\n\nThe {word}{number} of the pump is checked every {number + 3} weeks.\n" for word in WORDS
    )
    return f"# Part {number}\n\n{chr(10).join(lines)}".encode()


@contextmanager
def operator(served: Served) -> Iterator[Connection]:
    """Calls of the Admin API as an operator."""
    secret = str(served.home.json("keys", "create", "--name", "operator", "--role", "operator")["secret"])
    with Connection(served.url, secret) as client:
        until(lambda: client.get("/admin/v1/status").status == 200)
        yield client


def told(client: Connection, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    reply = client.call(method, f"/admin/v1{path}", body)
    assert reply.status == status, reply.body
    return reply.json()


def upload(client: Connection, collection: str, name: str, body: bytes) -> Any:
    return told(client, "POST", f"/collections/{collection}/documents?file_name={name}", body, 201)


def over(client: Connection, collection: str) -> bool:
    jobs = told(client, "GET", f"/collections/{collection}/jobs?limit=1000")["items"]
    return all(job["state"] in ("done", "failed") for job in jobs)


def test_what_is_uploaded_is_taken_in_by_the_server_with_its_vectors(home: Home) -> None:
    with home.serving() as served, operator(served) as client:
        endpoint = served.endpoint(EMBEDDING_MODEL)
        body = {"name": "parts", "endpoint_id": endpoint}
        made = told(client, "POST", "/collections", body, 201)
        for number in range(4):
            upload(client, "parts", f"part-{number}.md", part(number))
        until(lambda: over(client, "parts"), patience_s=PATIENCE_S)
        jobs = told(client, "GET", "/collections/parts/jobs")["items"]
        assert {(job["state"], job["error"]) for job in jobs} == {("done", "")}
        now = told(client, "GET", f"/collections/{made['id']}")
        assert (now["documents"], now["dimensions"]) == (4, 512)
        assert now["embedding_model"].startswith(EMBEDDING_MODEL)
        found = told(client, "POST", "/collections/parts/search", {"query": "rotor2 pump checked"})["items"][0]
        assert found["chunk"]["text"] == "The rotor2 of the pump is checked every 5 weeks."
        assert told(client, "GET", f"/chunks/{found['chunk']['id']}") == found["chunk"]
        rows = told(client, "GET", f"/usage/calls?endpoint={endpoint}")["items"]
        assert {row["dialect"] for row in rows} == {"knowledge"}
        assert sum(row["prompt_tokens"] for row in rows) > 0


def test_the_command_line_works_beside_a_server(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(3):
        (folder / f"part-{number}.md").write_bytes(part(number))
    with home.serving() as served, operator(served) as client:
        home.json("kb", "create", "parts")
        done = home.json("kb", "sync", "parts", str(folder))
        assert [job["state"] for job in done["jobs"]] == ["done"] * 3
        handed_over = home.json("kb", "add", "parts", str(folder / "part-0.md"), "--source", "again.md", "--no-wait")
        assert [job["state"] for job in handed_over] == ["waiting"]
        until(lambda: over(client, "parts"), patience_s=PATIENCE_S)
        assert home.json("kb", "show", "parts")["documents"] == 4
        hits = home.json("kb", "search", "parts", "gasket1 checked", "--limit", "1")
        assert hits[0]["document"]["source"] == "parts/part-1.md"
        key = str(home.json("keys", "create", "--name", "viewer", "--role", "viewer")["secret"])
        asked = ("kb", "search", "parts", "gasket1 checked", "--limit", "1", "--url", served.url, "--api-key")
        until(lambda: home.run(*asked, key).returncode == 0)
        assert home.json(*asked, key) == hits
        refused = home.run(*asked, "ark-nobody")
        assert (refused.returncode, "401" in refused.stderr) == (1, True)
        assert home.json("kb", "reindex", "parts")["chunks"] == 4 * len(WORDS)
        (folder / "part-1.md").unlink()
        dry = home.json("kb", "sync", "parts", str(folder), "--dry-run")
        assert (dry["gone"], dry["unchanged"], dry["jobs"]) == (["parts/part-1.md"], 2, [])
        assert home.json("kb", "sync", "parts", str(folder))["gone"] == ["parts/part-1.md"]
        assert home.json("kb", "documents", "parts")["total"] == 3


def test_a_file_that_cannot_be_taken_says_why(home: Home, tmp_path: Path) -> None:
    home.json("kb", "create", "parts")
    (tmp_path / "broken.docx").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "program.exe").write_bytes(b"MZ")
    broken = home.run("kb", "add", "parts", str(tmp_path / "broken.docx"))
    assert broken.returncode == 1
    assert "damaged" in broken.stderr
    refused = home.run("kb", "add", "parts", str(tmp_path / "program.exe"))
    assert (refused.returncode, ".docx" in refused.stderr) == (1, True)
    nowhere = home.run("kb", "search", "nowhere", "anything")
    assert "the collection `nowhere` does not exist" in nowhere.stderr
    assert home.json("kb", "documents", "parts")["total"] == 0
    (tmp_path / "parts").mkdir()
    for name in (b"good.md", b"bad\xff.md"):
        with open(os.fsencode(tmp_path / "parts") + b"/" + name, "wb") as file:
            file.write(part(1))
    synced = home.run("kb", "sync", "parts", str(tmp_path / "parts"))
    assert (synced.returncode, "1 new" in synced.stdout, "cannot be printed" in synced.stderr) == (0, True, True)
    home.json("kb", "create", "others")
    (job, *_) = home.json("kb", "jobs", "parts")
    elsewhere = home.run("kb", "jobs", "others", "--cancel", str(job["id"]))
    assert (elsewhere.returncode, "of another collection" in elsewhere.stderr) == (1, True)


def test_an_index_of_another_version_says_so_and_is_made_anew(home: Home, tmp_path: Path) -> None:
    home.json("kb", "create", "parts")
    (tmp_path / "part.md").write_bytes(part(1))
    home.json("kb", "add", "parts", str(tmp_path / "part.md"))
    assert "reindex" not in home.run("kb", "show", "parts").stderr
    with closing(sqlite3.connect(knowledge_path(home.path))) as connection:
        connection.execute("UPDATE knowledge_collections SET analyzer = 'bigrams/0'")
        connection.commit()
    assert "`arkway kb reindex parts` mends it" in home.run("kb", "show", "parts").stderr
    assert home.json("kb", "reindex", "parts")["chunks"] == len(WORDS)
    assert "reindex" not in home.run("kb", "show", "parts").stderr


def test_a_server_that_is_killed_leaves_nothing_half_done_and_the_next_one_goes_on(home: Home) -> None:
    count = 30
    with home.serving() as served, operator(served) as client:
        told(client, "POST", "/collections", {"name": "parts"}, 201)
        for number in range(count):
            upload(client, "parts", f"part-{number}.md", part(number))
        until(lambda: told(client, "GET", "/collections/parts")["documents"] >= 3, patience_s=PATIENCE_S)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
    before = home.json("kb", "documents", "parts", "--limit", "1000")["documents"]
    assert 3 <= len(before) <= count
    assert {document["chunks"] for document in before} == {len(WORDS)}
    with home.serving() as served, operator(served) as client:
        until(lambda: over(client, "parts"), patience_s=PATIENCE_S * 2)
        jobs = told(client, "GET", "/collections/parts/jobs")["items"]
        assert {(job["state"], job["error"]) for job in jobs} == {("done", "")}
        documents = told(client, "GET", "/collections/parts/documents")["items"]
        assert {document["source"] for document in documents} == {f"part-{number}.md" for number in range(count)}
        for document in documents:
            chunks = told(client, "GET", f"/documents/{document['id']}/chunks")["items"]
            assert len(chunks) == document["chunks"] == len(WORDS)
