"""The tables, in the words of both databases. ``number`` is a row's own, short and never given twice.

A chunk's words and vector are the business of the indices. What a job brought is in a table of its own: the list of
jobs is read without it.
"""

from __future__ import annotations

from typing import Final

TABLES: Final = (
    """
    CREATE TABLE knowledge_collections (
        number {number}, generation {whole} NOT NULL DEFAULT 0,
        id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
        description TEXT NOT NULL, endpoint_id TEXT NOT NULL, embedding_model TEXT NOT NULL,
        dimensions {whole} NOT NULL, vector_weight {real} NOT NULL, analyzer TEXT NOT NULL,
        created_at {whole} NOT NULL, updated_at {whole} NOT NULL,
        UNIQUE (account, project, name))
    """,
    """
    CREATE TABLE knowledge_documents (
        id TEXT PRIMARY KEY, collection_id TEXT NOT NULL REFERENCES knowledge_collections (id) ON DELETE CASCADE,
        source TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, title TEXT NOT NULL, content_hash TEXT NOT NULL,
        size_bytes {whole} NOT NULL, chunks {whole} NOT NULL, meta TEXT NOT NULL,
        created_at {whole} NOT NULL, updated_at {whole} NOT NULL)
    """,
    "CREATE INDEX knowledge_documents_by_name ON knowledge_documents (collection_id, name, id)",
    """
    CREATE TABLE knowledge_chunks (
        number {number}, collection {whole} NOT NULL,
        id TEXT NOT NULL UNIQUE, document_id TEXT NOT NULL REFERENCES knowledge_documents (id) ON DELETE CASCADE,
        ordinal {whole} NOT NULL, text TEXT NOT NULL, path TEXT NOT NULL)
    """,
    "CREATE INDEX knowledge_chunks_by_document ON knowledge_chunks (document_id, ordinal)",
    "CREATE INDEX knowledge_chunks_by_collection ON knowledge_chunks (collection)",
    """
    CREATE TABLE knowledge_vectors (
        number {number}, collection {whole} NOT NULL,
        chunk {whole} NOT NULL UNIQUE REFERENCES knowledge_chunks (number) ON DELETE CASCADE,
        vector {vector} NOT NULL)
    """,
    "CREATE INDEX knowledge_vectors_by_collection ON knowledge_vectors (collection, number, chunk)",
    """
    CREATE TABLE knowledge_jobs (
        number {number},
        id TEXT NOT NULL UNIQUE, collection_id TEXT NOT NULL REFERENCES knowledge_collections (id) ON DELETE CASCADE,
        source TEXT NOT NULL, file_name TEXT NOT NULL, size_bytes {whole} NOT NULL, meta TEXT NOT NULL,
        state TEXT NOT NULL, attempts {whole} NOT NULL, error TEXT NOT NULL, document_id TEXT NOT NULL,
        change TEXT NOT NULL, lease_until_s {whole} NOT NULL, created_at {whole} NOT NULL, updated_at {whole} NOT NULL)
    """,
    "CREATE INDEX knowledge_jobs_by_collection ON knowledge_jobs (collection_id, number)",
    "CREATE INDEX knowledge_jobs_to_do ON knowledge_jobs (number) WHERE state IN ('waiting', 'running')",
    """
    CREATE TABLE knowledge_job_bodies (
        job {whole} PRIMARY KEY REFERENCES knowledge_jobs (number) ON DELETE CASCADE, body {bytes} NOT NULL)
    """,
)


def tables(**types: str) -> list[str]:
    """The statements that make them, with the database's own names of ``number``, ``whole``, ``real``… types."""
    return [statement.format(**types) for statement in TABLES]
