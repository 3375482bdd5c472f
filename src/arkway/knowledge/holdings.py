"""The collections of one project: made, filled, looked into and deleted. Whatever is another project's is not there.

Nothing here runs on an event loop: every method waits for the store.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import structs

from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import CallerError, InvalidField, TooLarge
from arkway.core.knowledge import Chunk, Collection, Document, Hit, Job
from arkway.knowledge.identity import document_id
from arkway.knowledge.parsing import Limits, kind_of
from arkway.knowledge.parsing.kinds import check_size
from arkway.ports.lookup import KnowledgeStore

NAME_MAX_CHARACTERS: Final = 128
DESCRIPTION_MAX_CHARACTERS: Final = 1024
SOURCE_MAX_CHARACTERS: Final = 1024
FILE_NAME_MAX_CHARACTERS: Final = 255
META_MAX_BYTES: Final = 16_384
QUERY_MAX_CHARACTERS: Final = 1000
RESULTS_MAX: Final = 50
UPLOAD_MAX_BYTES: Final = Limits().upload_bytes
CANCELLED: Final = "it was called off"

TASK: Final = "task"
VECTORS: Final = "vectors"
"""A job without a body whose `Job.meta` has this task makes the vectors that are missing in its collection."""

_PAGE: Final = 1000
_ID: Final = re.compile(r"kb-[0-9a-f]{16}")

Kind = Literal["documents", "pages"]
Asking = Callable[[Sequence[Collection], str, int], list[Hit]]
"""Finds in collections, best first: `arkway.knowledge.searching` for a thread to call."""

CheckEndpoint = Callable[[str, str, str], None]
"""Raises InvalidField unless the project (account, project) has this endpoint and it makes vectors."""


class NotThere(CallerError):
    """Nothing of that name for this caller: unknown and somebody else's get one and the same answer."""

    def __init__(self, kind: str, asked: str) -> None:
        super().__init__(f"the {kind} `{asked[:128]}` does not exist or you do not have access to it")
        self.kind, self.asked = kind, asked


class CollectionExists(InvalidField):
    """The project has one of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the project has a collection `{name[:128]}` already; choose another name", "name")


class CollectionChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to become of a collection; None stays as it is. ``endpoint_id`` "" = words alone."""

    description: str | None = None
    endpoint_id: str | None = None


class Backing(msgspec.Struct, frozen=True):
    """What the libraries of all projects stand on.

    ``record`` puts a change on record before it is made, and raises if it cannot. ``submitted`` hears of new jobs.
    """

    store: Callable[[], KnowledgeStore]
    asking: Asking
    check_endpoint: CheckEndpoint
    record: Callable[[Entry], None]
    submitted: Callable[[], None] = lambda: None


class Holdings:
    """The commands on the collections of one project; the audit log names ``actor`` for each change.

    A collection is named by its name or its id. Methods raise StoreUnavailable.
    """

    def __init__(
        self, backing: Backing, account: str = "default", project: str = "default", actor: Actor = SERVER
    ) -> None:
        self._backing, self._account, self._project, self._actor = backing, account, project, actor

    @property
    def _store(self) -> KnowledgeStore:
        return self._backing.store()

    # Collections

    def create(
        self, name: str, now_s: int, *, kind: Kind = "documents", description: str = "", endpoint_id: str = ""
    ) -> Collection:
        """An empty collection. Raises InvalidField, CollectionExists."""
        _check_name(name)
        _check_description(description)
        self._check_endpoint(endpoint_id)
        collection = Collection(
            id=f"kb-{secrets.token_hex(8)}",
            account=self._account,
            project=self._project,
            name=name,
            kind=kind,
            description=description,
            endpoint_id=endpoint_id,
            created_at=now_s,
            updated_at=now_s,
        )
        if self._store.collection(self._account, self._project, name) is not None:
            raise CollectionExists(name)
        self._record("collections.create", collection.id, name=name, kind=kind, endpoint_id=endpoint_id)
        if not self._store.create(collection):
            raise CollectionExists(name)
        return self.show(collection.id)

    def list(self) -> list[Collection]:
        """By name."""
        return self._store.collections(self._account, self._project)

    def show(self, name: str) -> Collection:
        """Raises NotThere."""
        if not name.isprintable():  # a name that no database could look for
            raise NotThere("collection", "")
        named = self._store.collection(self._account, self._project, name)
        found = named or next((each for each in self.list() if each.id == name), None)
        if found is None:
            raise NotThere("collection", name)
        return found

    def update(self, name: str, change: CollectionChange, now_s: int) -> Collection:
        """Another endpoint's vectors are made by a job; those of the one before are deleted. Raises as `create`."""
        before = self.show(name)
        if change.description is not None:
            _check_description(change.description)
        given = {key: value for key in change.__struct_fields__ if (value := getattr(change, key)) is not None}
        after = structs.replace(before, **given, updated_at=now_s)
        other = after.endpoint_id != before.endpoint_id
        if other:
            self._check_endpoint(after.endpoint_id)
            # The vectors of an unknown model are none: the store deletes those that are there.
            after = structs.replace(after, embedding_model="", dimensions=0, vector_weight=0.0)
        self._record("collections.update", before.id, **given)
        if not self._store.change(after):
            raise NotThere("collection", name)
        if other and after.endpoint_id:
            self._submit_vectors(after, now_s)
        return self.show(after.id)

    def delete(self, name: str) -> Collection:
        """With everything in it; uploads under way are called off by that. Raises NotThere."""
        found = self.show(name)
        self._record("collections.delete", found.id, name=found.name)
        if not self._store.drop(found.id):
            raise NotThere("collection", name)
        return found

    def reindex(self, name: str, now_s: int) -> int:
        """Cuts every chunk into words anew, which needs no files; how many. A job looks after the vectors.

        Raises NotThere.
        """
        found = self.show(name)
        self._record("collections.reindex", found.id)
        count = self._store.reindex(found.id)
        if found.endpoint_id:
            self._submit_vectors(found, now_s)
        return count

    def search(self, names: Sequence[str], query: str, limit: int = 10) -> Sequence[Hit]:
        """Best first. Raises NotThere, InvalidField."""
        if not query.strip() or len(query) > QUERY_MAX_CHARACTERS:
            raise InvalidField(f"a question has 1 to {QUERY_MAX_CHARACTERS} characters", "query")
        if not 1 <= limit <= RESULTS_MAX:
            raise InvalidField(f"`limit` is from 1 to {RESULTS_MAX}", "limit")
        return self._backing.asking([self.show(name) for name in names], query, limit)

    # Documents

    def upload(
        self,
        name: str,
        file_name: str,
        body: bytes,
        now_s: int,
        *,
        source: str = "",
        meta: Mapping[str, str] | None = None,
    ) -> Job:
        """A job that will take the file in; ``source`` is what you call the document, by default its file name.

        Raises NotThere, TooLarge, InvalidField, Unreadable for a type of file that is not taken.
        """
        found = self.show(name)
        source = source or file_name
        _check_upload(source, file_name, body, meta or {})
        job = Job(
            id=f"job-{secrets.token_hex(8)}",
            collection_id=found.id,
            source=source,
            file_name=file_name,
            size_bytes=len(body),
            meta=dict(meta or {}),
            document_id=document_id(found.id, source),
            created_at=now_s,
            updated_at=now_s,
        )
        self._record("documents.upload", job.document_id, collection=found.id, source=source, size_bytes=len(body))
        self._submit(job, body)
        return job

    def documents(self, name: str, offset: int = 0, limit: int = 100) -> tuple[Sequence[Document], int]:
        """A page of them by name, and how many there are. Raises NotThere."""
        return self._store.documents(self.show(name).id, offset, limit)

    def every_document(self, name: str) -> Iterator[Document]:
        """All of them by name. Raises NotThere."""
        found, offset = self.show(name), 0
        while page := self._store.documents(found.id, offset, _PAGE)[0]:
            yield from page
            offset += len(page)

    def document(self, asked: str) -> Document:
        """Raises NotThere."""
        found = self._store.document(asked)
        if found is None or found.collection_id not in self._own():
            raise NotThere("document", asked)
        return found

    def chunks(self, asked: str) -> Sequence[Chunk]:
        """Of a document, in order. Raises NotThere."""
        return self._store.chunks(self.document(asked).id)

    def chunk(self, asked: str) -> Chunk:
        """Raises NotThere."""
        found = self._store.chunk(asked)
        document = self._store.document(found.document_id) if found else None
        if found is None or document is None or document.collection_id not in self._own():
            raise NotThere("chunk", asked)
        return found

    def delete_document(self, asked: str) -> Document:
        """Raises NotThere."""
        found = self.document(asked)
        self._record("documents.delete", found.id, collection=found.collection_id, source=found.source)
        if not self._store.remove(found.id):
            raise NotThere("document", asked)
        return found

    # Jobs

    def jobs(self, name: str, limit: int = 100) -> Sequence[Job]:
        """Newest first. Raises NotThere."""
        return self._store.jobs(self.show(name).id, limit)

    def job(self, asked: str) -> Job:
        """Raises NotThere."""
        found = self._store.job(asked)
        if found is None or found.collection_id not in self._own():
            raise NotThere("job", asked)
        return found

    def cancel(self, asked: str, now_s: int) -> Job:
        """Calls an upload off; one that is over stays as it ended. Raises NotThere."""
        found = self.job(asked)
        self._record("jobs.cancel", found.id, collection=found.collection_id, source=found.source)
        self._store.cancel(found.id, CANCELLED, now_s)
        return self.job(asked)

    def _own(self) -> frozenset[str]:
        return frozenset(collection.id for collection in self.list())

    def _check_endpoint(self, endpoint_id: str) -> None:
        if endpoint_id:
            self._backing.check_endpoint(self._account, self._project, endpoint_id)

    def _submit_vectors(self, collection: Collection, now_s: int) -> None:
        self._submit(vectors_job(collection.id, now_s), b"")

    def _submit(self, job: Job, body: bytes) -> None:
        self._store.submit(job, body)
        self._backing.submitted()

    def _record(self, action: str, target: str, **detail: Any) -> None:
        told = {name: value for name, value in detail.items() if value != ""}
        self._backing.record(Entry(self._account, self._project, self._actor, action, target, told))


def vectors_job(collection_id: str, now_s: int) -> Job:
    """A job that makes the vectors that are missing."""
    return Job(
        id=f"job-{secrets.token_hex(8)}",
        collection_id=collection_id,
        source="",
        file_name="",
        size_bytes=0,
        meta={TASK: VECTORS},
        created_at=now_s,
        updated_at=now_s,
    )


def is_vectors_job(job: Job) -> bool:
    return not job.source and job.meta.get(TASK) == VECTORS


def _check_name(name: str) -> None:
    wrong = not name.isprintable() or name != name.strip() or set(name) & set(",=:/")
    if not name or len(name) > NAME_MAX_CHARACTERS or wrong:
        raise InvalidField(
            f"a collection's name has 1 to {NAME_MAX_CHARACTERS} printable characters, none of them , = : or /", "name"
        )
    if _ID.fullmatch(name):
        raise InvalidField("a name that looks like a collection's id could be taken for one; choose another", "name")


def _check_description(description: str) -> None:
    if len(description) > DESCRIPTION_MAX_CHARACTERS or "\0" in description:
        raise InvalidField(
            f"a description has at most {DESCRIPTION_MAX_CHARACTERS} characters, and none of them is NUL",
            "description",
        )


def _check_upload(source: str, file_name: str, body: bytes, meta: Mapping[str, str]) -> None:
    if not file_name.strip() or len(file_name) > FILE_NAME_MAX_CHARACTERS or not file_name.isprintable():
        raise InvalidField(
            f"a file's name has 1 to {FILE_NAME_MAX_CHARACTERS} printable characters; its extension says what it is",
            "file_name",
        )
    if len(source) > SOURCE_MAX_CHARACTERS or not source.strip() or not source.isprintable():
        raise InvalidField(f"a document's source has 1 to {SOURCE_MAX_CHARACTERS} printable characters", "source")
    if sum(len(name.encode()) + len(value.encode()) for name, value in meta.items()) > META_MAX_BYTES:
        raise InvalidField(f"what is said of a document has at most {META_MAX_BYTES} bytes", "meta")
    kind_of(file_name)
    if len(body) > UPLOAD_MAX_BYTES:
        raise TooLarge(UPLOAD_MAX_BYTES)
    check_size(len(body), Limits())
