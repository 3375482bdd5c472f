"""The commands on upstreams and groups, over both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.admin.groups import Groups
from arkway.admin.upstreams import Upstreams
from arkway.core.audit import Actor
from arkway.stores.keyring import KeyRing
from arkway.stores.store import Store
from arkway.stores.upstreams import GroupTable, UpstreamTable

ANNA = Actor("cli:anna")


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


@pytest.fixture
def upstreams(store: Store, ring: KeyRing) -> Upstreams:
    return Upstreams(UpstreamTable(store, ring), ANNA)


@pytest.fixture
def groups(store: Store) -> Groups:
    return Groups(GroupTable(store), ANNA)
