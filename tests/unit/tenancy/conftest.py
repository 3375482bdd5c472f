from __future__ import annotations

import pytest

from arkway.admin.tenancy import Accounts, Projects
from arkway.core.audit import Actor
from arkway.stores.audit import AuditTable
from arkway.stores.store import Store
from arkway.stores.tenancy import AccountTable, ProjectTable

ANNA = Actor("cli:anna", "02-request")


@pytest.fixture
def accounts(store: Store) -> Accounts:
    return Accounts(AccountTable(store), ANNA)


@pytest.fixture
def projects(store: Store) -> Projects:
    return Projects(ProjectTable(store), "default", ANNA)


@pytest.fixture
def log(store: Store) -> AuditTable:
    return AuditTable(store)
