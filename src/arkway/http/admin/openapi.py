"""The OpenAPI 3.1 document, made from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from inspect import cleandoc
from typing import Any

import msgspec

from arkway import __version__
from arkway.core.roles import PERMISSIONS
from arkway.http.admin.errors import CODES, Failure
from arkway.http.admin.operations import EVERYTHING, Operation
from arkway.http.admin.shapes import PageWanted, Within, WithinAccount
from arkway.http.admin.table import OPERATIONS

JSON = "application/json"
BINARY = "application/octet-stream"
REF = "#/components/schemas/{name}"
REASONS = {
    400: "A field is wrong or missing; `field` says which.",
    401: "Who calls is not proven.",
    403: "The key's role does not allow it.",
    404: "It does not exist, or the caller has no access to it: one and the same answer.",
    405: "The path does not take this method; the header `Allow` says which it takes.",
    408: "The request did not arrive in time.",
    409: "What is there already does not allow it.",
    413: "The body is too large.",
    415: "The body is not JSON, or is compressed.",
    414: "The request line is too large.",
    431: "The headers are too large.",
    500: "A defect; the request id finds it in the server's log.",
    503: "The database, or what guards secrets, does not answer just now.",
}
EVERYWHERE = (400, 401, 403, 404, 408, 414, 431, 500, 503)
DESCRIPTION = f"""Accounts, projects, keys, endpoints, limits, prices and usage of an Arkway server.

Lists come in pages: `limit` items, and a `next_cursor` for the next page. An operator acts on any account by `account`
and `project`; everybody else on their own. `{EVERYTHING}` stands for all of them where that is said."""


@cache
def document() -> bytes:
    """The whole document as JSON."""
    return msgspec.json.encode(build())


def build() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Arkway Admin API", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"signature": []}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.resource for operation in OPERATIONS)],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "responses": {f"Status{status}": _failure(status) for status in REASONS},
            "securitySchemes": _schemes(),
        },
    }


def _schemes() -> dict[str, Any]:
    signature = "Volc Signature V4 of an access key pair, service `ark`: `HMAC-SHA256 Credential=…`"
    return {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key with a role above inference."},
        "signature": {"type": "apiKey", "in": "header", "name": "Authorization", "description": signature},
    }


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.full_path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> dict[str, Any]:
    permission = PERMISSIONS[operation.permission]
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.resource],
        "description": f"Needs the role {' or '.join(permission.roles)}.",
        "x-arkway-roles": list(permission.roles),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(operation.body)}}}
    if operation.upload_max_bytes:
        schema = {"type": "string", "format": "binary", "description": f"At most {operation.upload_max_bytes} bytes."}
        described["requestBody"] = {"required": True, "content": {BINARY: {"schema": schema}}}
    return described


def _path_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", operation.path):
        schema = {"type": "string", "minLength": 1, "pattern": r"^[^/]+$"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def queries(operation: Operation) -> tuple[type[msgspec.Struct], ...]:
    """The structs that its query is read into."""
    place: dict[str, tuple[type[msgspec.Struct], ...]] = {
        "project": (Within,),
        "account": (WithinAccount,),
        "host": (),
    }
    own = (operation.query,) if operation.query is not None else ()
    return (*place[operation.within], *own, *((PageWanted,) if operation.order else ()))


def _query_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for shape in queries(operation):
        (_,), found = msgspec.json.schema_components((shape,), ref_template=REF)
        schema = found[shape.__name__]
        for name, kind in schema["properties"].items():
            described: dict[str, Any] = {"name": name, "in": "query", "schema": kind}
            if name in schema.get("required", ()):
                described["required"] = True
            yield described


def _responses(operation: Operation) -> dict[str, Any]:
    success = {"description": operation.summary, "content": {JSON: {"schema": _answer(operation)}}}
    statuses = {*EVERYWHERE, *((413, 415) if operation.method not in ("GET", "DELETE") else ())}
    statuses |= {409} if operation.conflicts else set()
    failures = {str(status): {"$ref": f"#/components/responses/Status{status}"} for status in sorted(statuses)}
    return {str(operation.status): success, **failures}


def _failure(status: int) -> dict[str, Any]:
    return {"description": REASONS[status], "content": {JSON: {"schema": _ref(Failure)}}}


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.id == "openapi.show":
        return {"type": "object"}
    item = _ref(operation.answer)
    if not (operation.order or operation.many):
        return item
    return {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {"type": "array", "items": item},
            "next_cursor": {"type": ["string", "null"], "description": "null = this is the last page."},
        },
        "additionalProperties": False,
    }


def _ref(kind: Any) -> dict[str, Any]:
    return {"$ref": REF.format(name=kind.__name__)}


def _schemas() -> dict[str, Any]:
    taken = [operation.body for operation in OPERATIONS if operation.body is not None]
    given = [operation.answer for operation in OPERATIONS if isinstance(operation.answer, type(msgspec.Struct))]
    _, requests = msgspec.json.schema_components(taken, ref_template=REF)
    _, answers = msgspec.json.schema_components((*given, Failure), ref_template=REF)
    whole = {name: _whole(schema) for name, schema in answers.items()}
    return {name: _plain(schema) for name, schema in {**requests, **whole}.items()}


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Its description in Markdown, as OpenAPI has it."""
    return {**schema, "description": cleandoc(schema.get("description", "")).replace("``", "`")}


def _whole(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An answer has all of its fields, whatever a struct's defaults say, and no others."""
    properties = {
        name: {k: v for k, v in kind.items() if k != "default"} for name, kind in schema["properties"].items()
    }
    return {**schema, "properties": properties, "required": list(properties), "additionalProperties": False}


def statuses() -> dict[int, list[str]]:
    """Every status of an error that is told of, with its codes."""
    found: dict[int, list[str]] = {}
    for code in sorted(CODES.values(), key=lambda code: (code.status, code.code)):
        if code.status in REASONS and code.code not in found.setdefault(code.status, []):
            found[code.status].append(code.code)
    return found
