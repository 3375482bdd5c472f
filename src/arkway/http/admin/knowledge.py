"""Operations on collections of documents, what is in them, and what is on its way in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType, structs

from arkway.core.errors import MissingField
from arkway.core.knowledge import Chunk, Collection, Document, Hit, Job
from arkway.http.admin.commands import Commands
from arkway.http.admin.errors import Conflict, NotFound
from arkway.http.admin.operations import Operation, Request, Uploaded
from arkway.http.admin.paging import Order
from arkway.http.admin.shapes import Description, Removed, Taken
from arkway.knowledge.holdings import (
    FILE_NAME_MAX_CHARACTERS,
    NAME_MAX_CHARACTERS,
    QUERY_MAX_CHARACTERS,
    RESULTS_MAX,
    SOURCE_MAX_CHARACTERS,
    UPLOAD_MAX_BYTES,
    CollectionChange,
    CollectionExists,
    Holdings,
    NotThere,
)

JOBS_SHOWN = 10_000

BY_NAME = Order(lambda collection: (collection.name,))
BY_DOCUMENT = Order(lambda document: (document.name, document.id))
BY_PLACE = Order(lambda chunk: (chunk.ordinal, chunk.id))
NEWEST_JOBS = Order(lambda job: (job.created_at, job.id), newest_first=True)

_TEXT = r"^[^\x00]*$"
CollectionName = Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARACTERS, pattern=r"^[^\x00,=:/]*$")]
EmbeddingEndpoint = Annotated[
    str,
    Meta(max_length=128, pattern=_TEXT, description="An endpoint that makes vectors; empty = words alone."),
]


class CreateCollection(Taken, frozen=True, kw_only=True):
    """``kind`` pages: web pages, for the offline web search of bots."""

    name: CollectionName
    kind: Literal["documents", "pages"] = "documents"
    description: Description = ""
    endpoint_id: EmbeddingEndpoint = ""


class UpdateCollection(Taken, frozen=True, kw_only=True):
    """What is left out stays as it is; vectors of another endpoint are made anew."""

    description: Description | UnsetType = UNSET
    endpoint_id: EmbeddingEndpoint | UnsetType = UNSET


class UploadWanted(Taken, frozen=True, kw_only=True):
    """``source``: what you call the document, by default its file name; the same source again replaces it."""

    file_name: Annotated[
        str, Meta(max_length=FILE_NAME_MAX_CHARACTERS, description="Or by the header `X-File-Name`.")
    ] = ""
    source: Annotated[str, Meta(max_length=SOURCE_MAX_CHARACTERS)] = ""
    title: Annotated[str, Meta(max_length=200, description="In place of the one that the file gives.")] = ""
    url: Annotated[str, Meta(max_length=2048, description="Where a page is on the web.")] = ""


class SearchCollection(Taken, frozen=True, kw_only=True):
    """A question, as an asker would put it."""

    query: Annotated[str, Meta(min_length=1, max_length=QUERY_MAX_CHARACTERS, pattern=_TEXT)]
    limit: Annotated[int, Meta(ge=1, le=RESULTS_MAX)] = 10


class CollectionShown(Collection, frozen=True, kw_only=True):
    """A collection, and how many ``documents`` it has."""

    documents: int


class FoundChunk(msgspec.Struct, frozen=True):
    """A chunk that was found, and its document; ``score`` only orders the hits of one question."""

    score: float
    chunk: Chunk
    document: Document


class Reindexed(msgspec.Struct, frozen=True):
    """How many chunks were cut into words anew."""

    chunks: int


class _Translated:
    """What the holdings raise, as the Admin API answers it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotThere):
            raise NotFound(error.kind, error.asked) from None
        if isinstance(error, CollectionExists):
            raise Conflict(error.message) from None


def _library(commands: Commands, request: Request) -> Holdings:
    return commands.holdings(request.account, request.project, request.actor)


Do = Callable[[Holdings, Request], Any]


def _run(do: Do) -> Callable[[Commands, Request], Any]:
    def run(commands: Commands, request: Request) -> Any:
        with _Translated():
            return do(_library(commands, request), request)

    return run


def _shown(holdings: Holdings, collection: Collection) -> CollectionShown:
    return CollectionShown(**structs.asdict(collection), documents=holdings.documents(collection.id, 0, 1)[1])


def list_collections(holdings: Holdings, _: Request) -> Sequence[CollectionShown]:
    return [_shown(holdings, collection) for collection in holdings.list()]


def create_collection(holdings: Holdings, request: Request) -> CollectionShown:
    """Raises CollectionExists, InvalidField for an endpoint that the project does not have."""
    body: CreateCollection = request.body
    made = holdings.create(
        body.name, request.now_s, kind=body.kind, description=body.description, endpoint_id=body.endpoint_id
    )
    return _shown(holdings, made)


def show_collection(holdings: Holdings, request: Request) -> CollectionShown:
    return _shown(holdings, holdings.show(request.name))


def update_collection(holdings: Holdings, request: Request) -> CollectionShown:
    """Raises as `create_collection`, NotThere."""
    given = {name: value for name, value in structs.asdict(request.body).items() if value is not UNSET}
    if not given:
        return show_collection(holdings, request)
    return _shown(holdings, holdings.update(request.name, CollectionChange(**given), request.now_s))


def delete_collection(holdings: Holdings, request: Request) -> Removed:
    """Raises NotThere."""
    holdings.delete(request.name)
    return Removed(1)


def reindex_collection(holdings: Holdings, request: Request) -> Reindexed:
    return Reindexed(holdings.reindex(request.name, request.now_s))


def search_collection(holdings: Holdings, request: Request) -> Sequence[FoundChunk]:
    """Raises NotThere, InvalidField."""
    body: SearchCollection = request.body
    return [_found(hit) for hit in holdings.search([request.name], body.query, body.limit)]


def _found(hit: Hit) -> FoundChunk:
    return FoundChunk(hit.score, hit.chunk, hit.document)


def list_documents(holdings: Holdings, request: Request) -> Sequence[Document]:
    return [*holdings.every_document(request.name)]


def upload_document(holdings: Holdings, request: Request) -> Job:
    """Raises MissingField without a file name, InvalidField, UnsupportedInput for a file that is not taken."""
    query: UploadWanted = request.query
    sent: Uploaded = request.body
    file_name = query.file_name or sent.file_name
    holdings.show(request.name)
    if not file_name:
        raise MissingField("file_name")
    meta = {name: value for name in ("title", "url") if (value := getattr(query, name))}
    return holdings.upload(request.name, file_name, sent.content, request.now_s, source=query.source, meta=meta)


def show_document(holdings: Holdings, request: Request) -> Document:
    return holdings.document(request.name)


def delete_document(holdings: Holdings, request: Request) -> Removed:
    """Raises NotThere."""
    holdings.delete_document(request.name)
    return Removed(1)


def list_chunks(holdings: Holdings, request: Request) -> Sequence[Chunk]:
    return holdings.chunks(request.name)


def show_chunk(holdings: Holdings, request: Request) -> Chunk:
    return holdings.chunk(request.name)


def list_jobs(holdings: Holdings, request: Request) -> Sequence[Job]:
    return holdings.jobs(request.name, JOBS_SHOWN)


def show_job(holdings: Holdings, request: Request) -> Job:
    return holdings.job(request.name)


def cancel_job(holdings: Holdings, request: Request) -> Job:
    return holdings.cancel(request.name, request.now_s)


OPERATIONS = (
    Operation(
        id="collections.list",
        method="GET",
        path="/collections",
        summary="List collections of documents",
        permission="collections.read",
        run=_run(list_collections),
        answer=CollectionShown,
        order=BY_NAME,
    ),
    Operation(
        id="collections.create",
        method="POST",
        path="/collections",
        summary="Make a collection",
        permission="collections.create",
        run=_run(create_collection),
        answer=CollectionShown,
        body=CreateCollection,
        conflicts=True,
        status=201,
    ),
    Operation(
        id="collections.show",
        method="GET",
        path="/collections/{collection}",
        summary="Show a collection, by its name or id",
        permission="collections.read",
        run=_run(show_collection),
        answer=CollectionShown,
    ),
    Operation(
        id="collections.update",
        method="PATCH",
        path="/collections/{collection}",
        summary="Change a collection",
        permission="collections.update",
        run=_run(update_collection),
        answer=CollectionShown,
        body=UpdateCollection,
    ),
    Operation(
        id="collections.search",
        method="POST",
        path="/collections/{collection}/search",
        summary="Ask a question of a collection; the best chunks first",
        permission="collections.search",
        run=_run(search_collection),
        answer=FoundChunk,
        body=SearchCollection,
        many=True,
    ),
    Operation(
        id="collections.reindex",
        method="POST",
        path="/collections/{collection}/reindex",
        summary="Cut every chunk into words anew, and make vectors that are missing",
        permission="collections.reindex",
        run=_run(reindex_collection),
        answer=Reindexed,
    ),
    Operation(
        id="documents.list",
        method="GET",
        path="/collections/{collection}/documents",
        summary="List the documents of a collection",
        permission="documents.read",
        run=_run(list_documents),
        answer=Document,
        order=BY_DOCUMENT,
    ),
    Operation(
        id="documents.upload",
        method="POST",
        path="/collections/{collection}/documents",
        summary="Upload a file: a job takes it in",
        permission="documents.upload",
        run=_run(upload_document),
        answer=Job,
        query=UploadWanted,
        upload_max_bytes=UPLOAD_MAX_BYTES,
        status=201,
    ),
    Operation(
        id="documents.show",
        method="GET",
        path="/documents/{document}",
        summary="Show a document",
        permission="documents.read",
        run=_run(show_document),
        answer=Document,
    ),
    Operation(
        id="documents.chunks",
        method="GET",
        path="/documents/{document}/chunks",
        summary="List the chunks of a document, in order",
        permission="documents.read",
        run=_run(list_chunks),
        answer=Chunk,
        order=BY_PLACE,
    ),
    Operation(
        id="chunks.show",
        method="GET",
        path="/chunks/{chunk}",
        summary="Show a chunk, by the id that references have",
        permission="documents.read",
        run=_run(show_chunk),
        answer=Chunk,
    ),
    Operation(
        id="documents.delete",
        method="DELETE",
        path="/documents/{document}",
        summary="Delete a document",
        permission="documents.delete",
        run=_run(delete_document),
        answer=Removed,
    ),
    Operation(
        id="jobs.list",
        method="GET",
        path="/collections/{collection}/jobs",
        summary="List uploads into a collection, newest first",
        permission="jobs.read",
        run=_run(list_jobs),
        answer=Job,
        order=NEWEST_JOBS,
    ),
    Operation(
        id="jobs.show",
        method="GET",
        path="/jobs/{job}",
        summary="Show an upload: how far it is, or why it failed",
        permission="jobs.read",
        run=_run(show_job),
        answer=Job,
    ),
    Operation(
        id="jobs.cancel",
        method="POST",
        path="/jobs/{job}/cancel",
        summary="Call an upload off",
        permission="jobs.cancel",
        run=_run(cancel_job),
        answer=Job,
    ),
    Operation(
        id="collections.delete",
        method="DELETE",
        path="/collections/{collection}",
        summary="Delete a collection with everything in it",
        permission="collections.delete",
        run=_run(delete_collection),
        answer=Removed,
    ),
)
