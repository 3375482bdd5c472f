"""Aliases over the real table, and through a directory that is told of changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.admin.aliases import Aliases
from arkway.admin.retired import PINNED, ROLLING, retired_names
from arkway.core.errors import InvalidField
from arkway.ports import Alias
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import pepper
from arkway.stores.store import Store
from arkway.stores.tables import AliasTable

NOW_S = 1_750_000_000


@pytest.fixture
def aliases(store: Store) -> Aliases:
    return Aliases(AliasTable(store))


@pytest.fixture
def directory(tmp_path: Path, store: Store) -> CachedDirectory:
    return CachedDirectory(store, pepper(tmp_path))


def test_retired_names_are_pinned_but_for_the_rolling_one(aliases: Aliases, directory: CachedDirectory) -> None:
    assert set(aliases.ensure("small", "1", NOW_S)) == {*ROLLING, *PINNED}
    assert directory.alias("skylark-chat") == Alias("skylark-chat", "small", "")
    assert directory.alias("moonshot-v1-8k") == Alias("moonshot-v1-8k", "small", "1")
    assert set(directory.aliases()) == set(retired_names("small", "1"))


def test_names_are_found_in_upper_and_lower_case(aliases: Aliases, directory: CachedDirectory) -> None:
    aliases.ensure("small", "1", NOW_S)
    for written in ("Skylark2-pro-character-4k", "Moonshot-v1-8k", "SKYLARK-CHAT"):
        assert directory.alias(written) is not None
    aliases.set("My-Model", "small", NOW_S)
    assert directory.alias("mY-mODEL") == Alias("my-model", "small", "")
    for unknown in ("", "skylark", "skylark-chat ", "\ud800"):
        assert directory.alias(unknown) is None


def test_they_are_made_once_and_what_the_operator_did_stays(aliases: Aliases, directory: CachedDirectory) -> None:
    aliases.set("Skylark-Pro", "large", NOW_S, "7")
    assert "skylark-pro" not in aliases.ensure("small", "1", NOW_S)
    aliases.remove("chatglm2-PRO", NOW_S)
    assert aliases.ensure("other", "2", NOW_S + 1) == ()
    assert directory.alias("skylark-pro") == Alias("skylark-pro", "large", "7")
    assert directory.alias("chatglm2-pro") is None
    assert "chatglm2-pro" not in {alias.name for alias in aliases.list()}


def test_a_removed_name_can_be_set_again_and_removed_only_once(aliases: Aliases, directory: CachedDirectory) -> None:
    aliases.set("mine", "small", NOW_S)
    aliases.remove("mine", NOW_S)
    with pytest.raises(InvalidField, match="there is no alias `mine`"):
        aliases.remove("mine", NOW_S)
    aliases.set("mine", "large", NOW_S + 1)
    assert directory.alias("mine") == Alias("mine", "large", "")
    assert [(alias.name, alias.created_at) for alias in aliases.list()] == [("mine", NOW_S + 1)]


@pytest.mark.parametrize("name", ["", "x" * 129, "two words", "line\nfeed", "\x1b[31m"])
def test_unusable_names_are_refused(aliases: Aliases, name: str) -> None:
    with pytest.raises(InvalidField):
        aliases.set(name, "small", NOW_S)
    assert aliases.list() == ()
