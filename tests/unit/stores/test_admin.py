"""The admin commands over the real tables."""

from __future__ import annotations

import re

import pytest

from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys, new_secret
from arkway.admin.usage import UsageReports
from arkway.core.chat import Usage
from arkway.core.errors import EndpointNotFound, InvalidField
from arkway.ports import Attempt, Settlement
from arkway.stores import schema
from arkway.stores.drain import usage_row
from arkway.stores.store import Store
from arkway.stores.tables import EndpointTable, KeyTable
from arkway.stores.usage import UsageTable

NOW_S = 1_750_000_000
DAY_MS = 86_400_000


@pytest.fixture
def keys(store: Store) -> Keys:
    return Keys(KeyTable(store), lambda secret: secret.encode()[:32])


@pytest.fixture
def endpoints(store: Store) -> Endpoints:
    return Endpoints(EndpointTable(store))


@pytest.fixture
def other_tenant(store: Store) -> tuple[str, str]:
    account = {"id": "other", "name": "other", "created_at": 1}
    store.run_sync(lambda connection: connection.execute(schema.accounts.insert().values(account)))
    project = {"account": "other", "id": "default", "name": "p", "created_at": 1}
    store.run_sync(lambda connection: connection.execute(schema.projects.insert().values(project)))
    return "other", "default"


def test_a_secret_has_256_random_bits() -> None:
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(re.fullmatch(r"ark-[A-Za-z0-9]{43}", secret) for secret in secrets)


def test_keys_are_listed_oldest_first_without_anything_secret(keys: Keys) -> None:
    made = [keys.create(f"key {number}", NOW_S + number, expires_at=NOW_S + 10)[0] for number in range(3)]
    assert list(keys.list()) == made
    assert [key.status(NOW_S) for key in made] == ["active"] * 3
    assert made[0].status(NOW_S + 10) == "expired"


def test_a_second_revocation_keeps_the_first_time(keys: Keys) -> None:
    key, secret = keys.create("one", NOW_S)
    assert key.last4 == secret[-4:]
    keys.revoke(key.id, NOW_S + 1)
    keys.revoke(key.id, NOW_S + 2)
    assert keys.list()[0].revoked_at == NOW_S + 1
    assert keys.list()[0].status(NOW_S) == "revoked"


@pytest.mark.parametrize("name", ["", "x" * 129, "line\nfeed", "\x1b[31m"])
def test_unusable_names_are_refused(keys: Keys, endpoints: Endpoints, name: str) -> None:
    with pytest.raises(InvalidField):
        keys.create(name, NOW_S)
    with pytest.raises(InvalidField):
        endpoints.create(name, "small", NOW_S)


def test_an_expiry_in_the_past_is_refused(keys: Keys) -> None:
    with pytest.raises(InvalidField) as caught:
        keys.create("one", NOW_S, expires_at=NOW_S)
    assert caught.value.field == "expires_at"


def test_each_installed_model_gets_one_endpoint_once(endpoints: Endpoints) -> None:
    first = endpoints.ensure(["small", "large", "small"], NOW_S)
    assert [endpoint.model_name for endpoint in first] == ["small", "large"]
    assert all(re.fullmatch(r"ep-20250615150640-[0-9a-z]{5}", endpoint.id) for endpoint in first)
    assert endpoints.ensure(["small", "large"], NOW_S) == ()
    assert [endpoint.model_name for endpoint in endpoints.ensure(["third", "small"], NOW_S + 1)] == ["third"]


def test_a_deleted_endpoint_does_not_come_back(endpoints: Endpoints) -> None:
    (endpoint,) = endpoints.ensure(["small"], NOW_S)
    endpoints.delete(endpoint.id, NOW_S)
    assert endpoints.ensure(["small"], NOW_S) == ()
    assert endpoints.list() == ()
    with pytest.raises(EndpointNotFound):
        endpoints.show(endpoint.id)
    for act in (endpoints.stop, endpoints.start, endpoints.delete):
        with pytest.raises(EndpointNotFound):
            act(endpoint.id, NOW_S)


def test_endpoints_stop_and_start(endpoints: Endpoints) -> None:
    endpoint = endpoints.create("mine", "small", NOW_S, "2")
    endpoints.stop(endpoint.id, NOW_S)
    assert endpoints.show(endpoint.id).status == "stopped"
    endpoints.start(endpoint.id, NOW_S)
    assert endpoints.show(endpoint.id) == endpoint
    assert endpoint.model_version == "2"


def test_nothing_of_another_tenant_is_seen_or_changed(store: Store, other_tenant: tuple[str, str]) -> None:
    theirs = Keys(KeyTable(store), lambda secret: secret.encode(), *other_tenant)
    their_endpoints = Endpoints(EndpointTable(store), *other_tenant)
    key, _ = theirs.create("theirs", NOW_S)
    endpoint = their_endpoints.create("theirs", "small", NOW_S)
    UsageTable(store).insert([_row(1, account="other")])
    mine, my_endpoints = Keys(KeyTable(store), lambda secret: secret.encode()), Endpoints(EndpointTable(store))
    assert mine.list() == ()
    assert my_endpoints.list() == ()
    assert UsageReports(UsageTable(store)).rows() == ()
    assert UsageReports(UsageTable(store)).totals("day") == ()
    with pytest.raises(InvalidField, match="there is no API key"):
        mine.revoke(key.id, NOW_S)
    with pytest.raises(EndpointNotFound):
        my_endpoints.stop(endpoint.id, NOW_S)
    assert theirs.list() == (key,)
    assert their_endpoints.list() == (endpoint,)
    assert len(UsageReports(UsageTable(store), *other_tenant).rows()) == 1


def _row(
    number: int, *, opened_ms: int = NOW_S * 1000, key: str = "k", model: str = "m", account: str = "default"
) -> dict[str, object]:
    attempt = Attempt(f"a{number}", f"r{number}", account, "default", key, "ep-1", model, "v3", "chat", opened_ms)
    return usage_row(attempt, Settlement("done", Usage(10, number, 2, 1), opened_ms + 500, 20, 500))


def test_rows_are_newest_first_within_the_time_and_the_limit(store: Store) -> None:
    UsageTable(store).insert([_row(number, opened_ms=number * 1000) for number in range(10)])
    reports = UsageReports(UsageTable(store))
    assert [row.attempt_id for row in reports.rows(limit=3)] == ["a9", "a8", "a7"]
    assert [row.attempt_id for row in reports.rows(2000, 5000)] == ["a4", "a3", "a2"]
    assert reports.rows(4000, 5000)[0].total_tokens == 14


def test_totals_add_up_in_every_grouping(store: Store) -> None:
    rows = [
        _row(number, opened_ms=NOW_S * 1000 + number % 3 * DAY_MS, key=f"k{number % 2}", model=f"m{number % 5}")
        for number in range(60)
    ]
    UsageTable(store).insert(rows)
    reports = UsageReports(UsageTable(store))
    assert [total.group for total in reports.totals("day")] == ["2025-06-15", "2025-06-16", "2025-06-17"]
    assert [total.group for total in reports.totals("key")] == ["k0", "k1"]
    assert [total.group for total in reports.totals("model")] == [f"m{number}" for number in range(5)]
    for by in ("day", "key", "endpoint", "model"):
        totals = reports.totals(by)
        assert sum(total.calls for total in totals) == 60
        assert sum(total.total_tokens for total in totals) == 600 + sum(range(60))
        assert sum(total.cached_tokens for total in totals) == 120
    assert sum(total.calls for total in reports.totals("day", since_ms=NOW_S * 1000 + DAY_MS)) == 40
