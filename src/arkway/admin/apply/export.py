"""What there is on a host, written as a platform file. No secret is in it: keys are there by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from arkway.admin.apply.entries import (
    SECTIONS,
    Account,
    Endpoint,
    Entry,
    Group,
    Limit,
    Project,
)
from arkway.admin.apply.plan import is_rate
from arkway.admin.apply.state import State
from arkway.admin.apply.terms import Ref, whole
from arkway.wire.toml import written

HEAD = "# What there is on this host, as `arkway export` wrote it. Keys are here by name; no file holds a secret.\n"


def exported(state: State) -> str:
    """The file; applied to the same host it changes nothing. What it cannot tell apart is in comments."""
    shared = [
        f"# Left out, since there is more than one: {ref}, with the ids {', '.join(ids)}\n"
        for ref, ids in sorted(state.ambiguous.items())
    ]
    entries = _folded(state.entries)
    blocks = [_block(entry) for name in SECTIONS for entry in _of(entries, SECTIONS[name])]
    return "\n".join([HEAD + "".join(shared), *blocks])


def _folded(entries: Mapping[Ref, Entry]) -> dict[Ref, Entry]:
    """Rates are written at their endpoints."""
    found = dict(entries)
    for ref, entry in entries.items():
        of = Ref("endpoint", ref.account, ref.project, entry.name if is_rate(entry) else "")
        if is_rate(entry) and isinstance(endpoint := found.get(of), Endpoint):
            found[of] = msgspec.structs.replace(endpoint, **{entry.limit: int(entry.amount)})
            del found[ref]
    return found


def _of(entries: Mapping[Ref, Entry], kind: type[Entry]) -> Iterator[Entry]:
    return (entry for _, entry in sorted(entries.items()) if type(entry) is kind)


def _block(entry: Entry) -> str:
    """One table: its keys in order, without those that have their default."""
    section = next(name for name, kind in SECTIONS.items() if type(entry) is kind)
    lines = [f"[[{section}]]"]
    for field in msgspec.structs.fields(entry):
        value = getattr(entry, field.name)
        if value != field.default and not _goes_without_saying(entry, field.name, value):
            lines.append(f"{field.name} = {written(whole(value) if isinstance(value, float) else value)}")
    return "\n".join(lines) + "\n"


def _goes_without_saying(entry: Entry, key: str, value: Any) -> bool:
    """Whether it is what the key means when it is left out, beside its default."""
    if key == "name" and isinstance(entry, Account | Project):
        return bool(value == entry.id)
    if key == "title" and isinstance(entry, Group):
        return bool(value == entry.model)
    return value == {} or (key == "project" and isinstance(entry, Limit) and entry.scope == "account")
