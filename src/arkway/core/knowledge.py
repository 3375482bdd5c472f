"""Collections of documents that bots look things up in, as values."""

from __future__ import annotations

from typing import Literal

import msgspec

JobState = Literal["waiting", "running", "done", "failed"]


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """A set of documents of one project. ``name`` is unique within the project and is what callers see.

    ``kind``: ``pages`` are web pages kept for the offline web search, with the addresses they had. ``endpoint_id``: the
    embedding endpoint whose vectors are kept beside the words, "" = words alone; ``embedding_model`` and ``dimensions``
    are those of the vectors that are there. ``vector_weight`` is what vectors count for beside words, 0 to 1; 0 until
    the embedding model has passed the self-test. ``analyzer``: name and version of what cuts text into words here.
    """

    id: str
    account: str
    project: str
    name: str
    kind: Literal["documents", "pages"] = "documents"
    description: str = ""
    endpoint_id: str = ""
    embedding_model: str = ""
    dimensions: int = 0
    vector_weight: float = 0.0
    analyzer: str = ""
    created_at: int = 0
    updated_at: int = 0


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One document of a collection.

    ``id`` is 32 hexadecimal digits that follow from the collection and ``source``, what the uploader calls the document
    (a path, a URL): another upload of the same source replaces it. ``name`` is the file's without its extension,
    ``type`` the extension in lower case, or ``url``. ``meta`` of a page: ``url``, ``site_name``, ``publish_time``,
    ``summary``, ``logo_url``, ``mobile_url``, ``cover_url``, ``cover_width``, ``cover_height``.
    """

    id: str
    collection_id: str
    source: str
    name: str
    type: str
    title: str = ""
    content_hash: str = ""
    size_bytes: int = 0
    chunks: int = 0
    meta: dict[str, str] = {}
    created_at: int = 0
    updated_at: int = 0


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a document. ``id`` follows from the document and the piece itself, and stays while it is unchanged.

    ``path``: the headings above it, outermost first; ``heading`` is the nearest.
    """

    id: str
    document_id: str
    ordinal: int
    text: str
    path: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        return self.path[-1] if self.path else ""


class Hit(msgspec.Struct, frozen=True):
    """A chunk that was found; ``score`` only orders the hits of one question."""

    chunk: Chunk
    document: Document
    collection: Collection
    score: float


class Change(msgspec.Struct, frozen=True):
    """What an upload did to the chunks of its document."""

    added: int
    kept: int
    removed: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that is, or was, being taken in. ``error``: why it failed, for its owner.

    ``lease_until_s``: while it runs, when another worker may take it over (epoch seconds).
    """

    id: str
    collection_id: str
    source: str
    file_name: str
    size_bytes: int
    meta: dict[str, str] = {}
    state: JobState = "waiting"
    attempts: int = 0
    error: str = ""
    document_id: str = ""
    change: Change | None = None
    lease_until_s: int = 0
    created_at: int = 0
    updated_at: int = 0
