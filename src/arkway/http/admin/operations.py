"""One operation, and one request for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from arkway.core.audit import Actor
from arkway.core.caller import Caller
from arkway.http.admin.commands import Commands
from arkway.http.admin.paging import Order, Page

PREFIX = "/admin/v1"
EVERYTHING = "*"
"""In the place of an account or a project: all of them."""


class Request(msgspec.Struct, frozen=True):
    """A request that is well-formed and allowed. ``name`` is what its path names, ``query`` and ``body`` are structs.

    ``account`` and ``project`` are the caller's to act on; ``EVERYTHING`` only where the operation is ``wide``.
    """

    caller: Caller
    actor: Actor
    now_s: int
    account: str
    project: str
    name: str
    query: Any
    body: Any
    page: Page


class Uploaded(msgspec.Struct, frozen=True):
    """A file that was sent as it is; ``file_name`` by the header ``X-File-Name``, empty without one."""

    file_name: str
    content: bytes


Run = Callable[[Commands, Request], Any]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. ``run`` waits for the store; it gives an ``answer``, or a list of them.

    ``permission`` is a line of `arkway.core.roles`. ``within``: what it acts in. ``wide``: also in all projects or
    accounts at once. ``order``: its list comes in pages. ``conflicts``: it may be refused for what is there already.
    ``upload_max_bytes`` above 0: its body is a file of at most that size, as an `Uploaded`, and no JSON.
    """

    id: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    permission: str
    run: Run
    answer: Any
    within: Literal["host", "account", "project"] = "project"
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    order: Order | None = None
    many: bool = False
    wide: bool = False
    conflicts: bool = False
    upload_max_bytes: int = 0
    status: Literal[200, 201] = 200

    @property
    def resource(self) -> str:
        return self.id.partition(".")[0]

    @property
    def full_path(self) -> str:
        return PREFIX + self.path
