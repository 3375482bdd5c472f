"""Accounts and projects: who there is on this host, and into what an account divides what it has."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import msgspec

from arkway.admin.audit import Acting
from arkway.core import ids
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import InvalidField
from arkway.core.roles import HOST_ACCOUNT

DEFAULT_PROJECT = "default"
NAME_MAX_CHARACTERS = 128

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class AccountInfo(msgspec.Struct, frozen=True):
    """One account; ``created_at`` epoch seconds."""

    id: str
    name: str
    status: Literal["active", "suspended"]
    created_at: int


class ProjectInfo(msgspec.Struct, frozen=True):
    """One project. ``id`` is what commands and API calls name it by, ``name`` what people call it."""

    account: str
    id: str
    name: str
    created_at: int


class AccountTable(Protocol):
    """Where accounts are kept."""

    def under(self, entry: Entry) -> Self: ...

    def insert(self, row: Mapping[str, Any], project: Mapping[str, Any]) -> bool: ...

    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    def set_status(self, account: str, status: str) -> bool: ...

    def rename(self, account: str, name: str) -> bool: ...


class ProjectTable(Protocol):
    """Where projects are kept."""

    def under(self, entry: Entry) -> Self: ...

    def insert(self, row: Mapping[str, Any]) -> bool: ...

    def rows(self, account: str) -> Sequence[Mapping[str, Any]]: ...

    def rename(self, account: str, project: str, name: str) -> bool: ...

    def delete(self, account: str, project: str) -> bool: ...


class Accounts:
    """The operator's commands on accounts."""

    def __init__(self, table: AccountTable, actor: Actor = SERVER) -> None:
        self._table, self._actor = table, actor

    def create(self, now_s: int, account: str = "", name: str = "") -> AccountInfo:
        """A new account with the project ``default``; without an id it gets one (``acc-…``). Raises InvalidField."""
        account = account or ids.account_id(secrets.token_bytes(16))
        info = AccountInfo(_plain(account, "account"), _named(name or account, "name"), "active", now_s)
        project = ProjectInfo(info.id, DEFAULT_PROJECT, DEFAULT_PROJECT, now_s)
        table = self._table.under(self._entry("accounts.create", info.id, name=info.name))
        if not table.insert(msgspec.structs.asdict(info), msgspec.structs.asdict(project)):
            raise InvalidField(f"there is an account `{info.id}` already; choose another id", "account")
        return info

    def list(self) -> tuple[AccountInfo, ...]:
        """Every account, oldest first."""
        return tuple(msgspec.convert(row, AccountInfo) for row in self._table.rows())

    def show(self, account: str) -> AccountInfo:
        """Raises InvalidField when there is no such account."""
        found = next((info for info in self.list() if info.id == account), None)
        if found is None:
            raise _no_account(account)
        return found

    def suspend(self, account: str) -> None:
        """Every credential of the account is refused like a revoked one, within two seconds. Raises InvalidField."""
        if account == HOST_ACCOUNT:
            raise InvalidField(f"the account `{HOST_ACCOUNT}` is the operator's own and cannot be suspended", "account")
        self._set_status(account, "suspended", "accounts.suspend")

    def resume(self, account: str) -> None:
        """Its credentials work again. Raises InvalidField when there is no such account."""
        self._set_status(account, "active", "accounts.resume")

    def rename(self, account: str, name: str) -> None:
        """What people call it. Raises InvalidField for an unusable name, and when there is no such account."""
        entry = self._entry("accounts.rename", account, name=_named(name, "name"))
        if not self._table.under(entry).rename(account, name):
            raise _no_account(account)

    def _set_status(self, account: str, status: str, action: str) -> None:
        if not self._table.under(self._entry(action, account)).set_status(account, status):
            raise _no_account(account)

    def _entry(self, action: str, account: str, **detail: Any) -> Entry:
        return Acting(account, "", self._actor).entry(action, account, **detail)


class Projects:
    """The commands on the projects of one account."""

    def __init__(self, table: ProjectTable, account: str = HOST_ACCOUNT, actor: Actor = SERVER) -> None:
        self._table, self._account, self._actor = table, account, actor

    def create(self, project: str, now_s: int, name: str = "") -> ProjectInfo:
        """A new project; id and name are unique within the account. Raises InvalidField."""
        info = ProjectInfo(self._account, _plain(project, "project"), _named(name or project, "name"), now_s)
        table = self._table.under(self._acting(info.id).entry("projects.create", info.id, name=info.name))
        if not table.insert(msgspec.structs.asdict(info)):
            raise InvalidField(f"the account has a project of the id `{info.id}` or the name already", "project")
        return info

    def list(self) -> tuple[ProjectInfo, ...]:
        """Every project of the account, oldest first."""
        return tuple(msgspec.convert(row, ProjectInfo) for row in self._table.rows(self._account))

    def show(self, project: str) -> ProjectInfo:
        """Raises InvalidField when the account has no such project, or when there is no such account."""
        found = next((info for info in self.list() if info.id == project), None)
        if found is None:
            raise self._no_project(project)
        return found

    def rename(self, project: str, name: str) -> None:
        """What people call it. Raises InvalidField for an unusable name, or another project's, and without such one."""
        self.show(project)
        table = self._table.under(self._acting(project).entry("projects.rename", project, name=_named(name, "name")))
        if not table.rename(self._account, project, name):
            raise InvalidField(f"the account has another project of the name `{name}` already", "name")

    def delete(self, project: str) -> None:
        """Raises InvalidField for one that is not there, that holds anything, and for every account's default one."""
        if project == DEFAULT_PROJECT:
            raise InvalidField("every account keeps its project `default`", "project")
        table = self._table.under(self._acting(project).entry("projects.delete", project))
        if not table.delete(self._account, project):
            raise self._no_project(project)

    def _acting(self, project: str) -> Acting:
        return Acting(self._account, project, self._actor)

    def _no_project(self, project: str) -> InvalidField:
        return InvalidField(
            f"there is no project `{project[:64]}` in an account `{self._account[:64]}`; "
            f"`arkway projects list --account {self._account[:64]}` shows all of them",
            "project",
        )


def _no_account(account: str) -> InvalidField:
    return InvalidField(f"there is no account `{account[:64]}`; `arkway accounts list` shows all of them", "account")


def _plain(text: str, field: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise InvalidField(
            f"the id of a {field} has 1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first",
            field,
        )
    return text


def _named(text: str, field: str) -> str:
    if len(text) > NAME_MAX_CHARACTERS or not text.isprintable():
        raise InvalidField(f"a name has 1 to {NAME_MAX_CHARACTERS} printable characters", field)
    return text
