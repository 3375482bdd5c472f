"""Aliases: other names for models, which callers of every project may use. They are the operator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import msgspec

from arkway.admin.audit import Acting
from arkway.admin.retired import retired_names
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import InvalidField
from arkway.core.roles import HOST_ACCOUNT
from arkway.ports import Alias

NAME_MAX_CHARACTERS = 128


class AliasInfo(msgspec.Struct, frozen=True):
    """One alias. ``model_version`` empty = the model's default version; ``created_at`` epoch seconds."""

    name: str
    model_name: str
    model_version: str
    created_at: int


class AliasTable(Protocol):
    """Where aliases are kept."""

    def under(self, entry: Entry) -> Self: ...

    def add(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[str]: ...

    def put(self, row: Mapping[str, Any]) -> None: ...

    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    def remove(self, name: str, now_s: int) -> bool: ...


class Aliases:
    """The commands on aliases. A name is kept in lower case and found in any."""

    def __init__(self, table: AliasTable, actor: Actor = SERVER) -> None:
        self._table = table
        self._acting = Acting(HOST_ACCOUNT, "", actor)

    def ensure(self, model_name: str, model_version: str, now_s: int) -> tuple[str, ...]:
        """The names of retired models become aliases of this one; returns those that are new.

        A name that was set to something else, or removed, stays as it is.
        """
        wanted = [_info(alias, now_s) for alias in retired_names(model_name, model_version)]
        entry = self._acting.entry("aliases.set", "retired names", model=model_name, version=model_version)
        return tuple(self._table.under(entry).add([msgspec.structs.asdict(info) for info in wanted]))

    def set(self, name: str, model_name: str, now_s: int, model_version: str = "") -> AliasInfo:
        """Lets a name stand for a model; ``model_version`` empty follows its default version. Raises InvalidField."""
        if not name or len(name) > NAME_MAX_CHARACTERS or not name.isprintable() or " " in name:
            raise InvalidField(
                f"an alias has 1 to {NAME_MAX_CHARACTERS} printable characters and no space among them", "name"
            )
        info = _info(Alias(name.casefold(), model_name, model_version), now_s)
        entry = self._acting.entry("aliases.set", info.name, model=model_name, version=model_version)
        self._table.under(entry).put(msgspec.structs.asdict(info))
        return info

    def list(self) -> tuple[AliasInfo, ...]:
        """Every alias, by name."""
        return tuple(msgspec.convert(row, AliasInfo) for row in self._table.rows())

    def remove(self, name: str, now_s: int) -> None:
        """For good: a default one does not come back. Raises InvalidField when there is no such alias."""
        entry = self._acting.entry("aliases.remove", name.casefold())
        if not self._table.under(entry).remove(name.casefold(), now_s):
            raise InvalidField(f"there is no alias `{name[:128]}`; `arkway aliases list` shows all of them", "name")


def _info(alias: Alias, now_s: int) -> AliasInfo:
    return AliasInfo(alias.name, alias.model_name, alias.model_version, now_s)
