"""The control plane over a real database, seen by a second process's directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.admin.access_keys import AccessKeys, NewAccessKey
from arkway.admin.bots import Bots
from arkway.admin.endpoints import Endpoints
from arkway.admin.limits import Limits
from arkway.admin.tenancy import Projects
from arkway.app.control import control_plane
from arkway.cli import group
from arkway.config import load
from arkway.control import ControlPlane
from arkway.core.caller import Caller
from arkway.core.errors import ArkwayError, EndpointNotFound, Forbidden, InvalidField, RateLimited, StoreUnavailable
from arkway.core.limit import Demand, Rates
from arkway.limits.memory import MemoryLimiter
from arkway.ports import Action
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.audit import AuditTable
from arkway.stores.bots import BotTable
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import database_path, pepper
from arkway.stores.keyring import KeyRing, open_ring
from arkway.stores.limits import LimitTable
from arkway.stores.rates import RateTable
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import EndpointTable
from arkway.stores.tenancy import ProjectTable
from arkway.testing import CHAT_CARD
from tests.tools.databases import made
from tests.tools.waiting import until

NOW_S = int(time.time())
OWNER = Caller("default", "default", "AKLTowner", role="owner")
REFERENCE = {"FoundationModel": {"Name": CHAT_CARD.name}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(made(database_path(tmp_path)), poll_s=0.05) as opened:
        yield opened


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return open_ring(tmp_path, master_key="", command="")


@pytest.fixture
def plane(tmp_path: Path, store: SqliteStore, ring: KeyRing) -> ControlPlane:
    settings = load(environ={}, overrides={"home": str(tmp_path)})
    directory = CachedDirectory(store, pepper(tmp_path), ring)
    installed = {CHAT_CARD.name: (CHAT_CARD, "scripted")}
    return control_plane(settings, store, pepper(tmp_path), directory, lambda name, version: installed.get(name), None)


@pytest.fixture
def pair(store: SqliteStore, ring: KeyRing) -> NewAccessKey:
    return AccessKeys(AccessKeyTable(store, ring)).create("owner", NOW_S)


async def done(plane: ControlPlane, name: str, caller: Caller = OWNER, **fields: Any) -> Any:
    action = Action(name, "2024-01-01", orjson.dumps(fields), caller, "request-1", NOW_S * 1000)
    return (await plane.perform(action)).result


async def test_an_endpoint_its_rates_and_their_record(plane: ControlPlane, store: SqliteStore) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    created = await done(plane, "CreateEndpoint", Name="x", ModelReference=REFERENCE, RateLimit={"Rpm": 7}, Tags=tags)
    endpoint_id = created["Id"]
    await done(plane, "UpdateEndpoint", Id=endpoint_id, RateLimit={"Tpm": 9}, Description="d")
    await done(plane, "StopEndpoint", Id=endpoint_id)

    shown = await done(plane, "GetEndpoint", Id=endpoint_id)
    assert (shown["Status"], shown["Description"], shown["Tags"]) == ("Stopped", "d", tags)
    assert shown["RateLimit"] == {"Rpm": 7, "Tpm": 9}
    assert RateTable(store, "default", "default").all() == {endpoint_id: Rates(7, 9)}
    assert RateTable(store, "default", "other").all() == {}
    rows = AuditTable(store).rows("default")
    assert {(row["actor"], row["target"], row["request_id"]) for row in rows} == {
        ("AKLTowner", endpoint_id, "request-1")
    }
    told = [row["action"] for row in reversed(rows)]
    assert sorted(told) == sorted(
        ["limits.set", "endpoints.create", "limits.set", "endpoints.update", "endpoints.stop"]
    )
    assert told[-1] == "endpoints.stop"


async def test_no_limit_leaves_no_row(plane: ControlPlane, store: SqliteStore) -> None:
    made = await done(plane, "CreateEndpoint", Name="x", ModelReference=REFERENCE, RateLimit={"Rpm": 7})
    await done(plane, "UpdateEndpoint", Id=made["Id"], RateLimit={"Rpm": 0})
    assert RateTable(store, "default", "default").all() == {}


def refuse_writes(store: SqliteStore, table: str, verb: str) -> None:
    """The database itself takes no such change of the table any more."""
    trigger = f"CREATE TRIGGER refuse BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END"
    store.run_sync(lambda connection: connection.exec_driver_sql(trigger) and None)


@pytest.mark.parametrize("table", ["endpoints", "limits"])
async def test_an_endpoint_is_not_made_without_its_rates_nor_they_without_it(
    plane: ControlPlane, store: SqliteStore, table: str
) -> None:
    refuse_writes(store, table, "INSERT")
    with pytest.raises(StoreUnavailable):
        await done(plane, "CreateEndpoint", Name="x", ModelReference=REFERENCE, RateLimit={"Rpm": 7})
    assert (await done(plane, "ListEndpoints"))["TotalCount"] == 0
    assert RateTable(store, "default", "default").all() == {}
    assert AuditTable(store).rows("default") == []


@pytest.mark.parametrize(("table", "verb"), [("endpoints", "UPDATE"), ("limits", "INSERT")])
async def test_an_endpoint_and_its_rates_change_together_or_not_at_all(
    plane: ControlPlane, store: SqliteStore, table: str, verb: str
) -> None:
    made = await done(plane, "CreateEndpoint", Name="x", ModelReference=REFERENCE, RateLimit={"Rpm": 7})
    rows = AuditTable(store).rows("default")
    refuse_writes(store, table, verb)
    with pytest.raises(StoreUnavailable):
        await done(plane, "UpdateEndpoint", Id=made["Id"], Name="y", RateLimit={"Rpm": 8})
    shown = await done(plane, "GetEndpoint", Id=made["Id"])
    assert (shown["Name"], shown["RateLimit"]) == ("x", {"Rpm": 7, "Tpm": 0})
    assert AuditTable(store).rows("default") == rows


async def test_a_developer_does_not_lift_a_limit(plane: ControlPlane) -> None:
    developer = Caller("default", "default", "AKLTdeveloper", role="developer")
    made = await done(plane, "CreateEndpoint", developer, Name="x", ModelReference=REFERENCE, RateLimit={"Rpm": 7})
    await done(plane, "UpdateEndpoint", developer, Id=made["Id"], RateLimit={"Rpm": 7}, Name="y")
    with pytest.raises(Forbidden, match="set limits"):
        await done(plane, "UpdateEndpoint", developer, Id=made["Id"], RateLimit={"Rpm": 8})
    assert (await done(plane, "GetEndpoint", Id=made["Id"]))["RateLimit"] == {"Rpm": 7, "Tpm": 0}


async def test_projects_of_ones_own_account(plane: ControlPlane, store: SqliteStore) -> None:
    Projects(ProjectTable(store)).create("research", NOW_S)
    made = await done(plane, "CreateEndpoint", Name="x", ModelReference=REFERENCE, ProjectName="research")

    assert (await done(plane, "ListEndpoints"))["TotalCount"] == 0
    (item,) = (await done(plane, "ListEndpoints", ProjectName="research"))["Items"]
    assert (item["Id"], item["ProjectName"]) == (made["Id"], "research")
    assert (await done(plane, "GetEndpoint", Id=made["Id"]))["ProjectName"] == "research"
    developer = Caller("default", "default", "AKLTdeveloper", role="developer")
    with pytest.raises(EndpointNotFound):
        await done(plane, "GetEndpoint", developer, Id=made["Id"])
    with pytest.raises(EndpointNotFound):
        await done(plane, "CreateEndpoint", developer, Name="x", ModelReference=REFERENCE, ProjectName="research")
    with pytest.raises(EndpointNotFound):
        await done(plane, "CreateEndpoint", Name="x", ModelReference=REFERENCE, ProjectName="nowhere")


async def test_a_key_for_another_project(
    plane: ControlPlane, store: SqliteStore, tmp_path: Path, ring: KeyRing, pair: NewAccessKey
) -> None:
    Projects(ProjectTable(store)).create("research", NOW_S)
    caller = Caller("default", "default", pair.info.id, role="owner")
    made = await done(plane, "CreateEndpoint", caller, Name="x", ModelReference=REFERENCE, ProjectName="research")
    wish = {"DurationSeconds": 60, "ResourceType": "endpoint", "ResourceIds": [made["Id"]]}
    given = await done(plane, "GetApiKey", caller, **wish)
    directory = CachedDirectory(store, pepper(tmp_path), ring)
    found = directory.caller(given["ApiKey"], NOW_S)
    assert found == Caller("default", "research", pair.info.id, (made["Id"],))

    Limits(LimitTable(store)).set("key", pair.info.id, {"rpm": 1}, NOW_S)
    own = directory.limits("default", "default", pair.info.id, "ep-20240701000000-own")
    theirs = directory.limits(found.account, found.project, found.key_id, made["Id"])
    assert [rule.kind for rule in own] == ["rpm"]
    assert theirs == own
    limiter = MemoryLimiter()
    assert limiter.hold_nowait(Demand(own, NOW_S * 1000)) is not None
    with pytest.raises(RateLimited):
        limiter.hold_nowait(Demand(theirs, NOW_S * 1000))


async def test_another_process_takes_a_key_at_once_and_drops_it_with_its_pair(
    plane: ControlPlane, store: SqliteStore, tmp_path: Path, ring: KeyRing, pair: NewAccessKey
) -> None:
    (endpoint,) = Endpoints(EndpointTable(store)).ensure([CHAT_CARD.name], NOW_S)
    with SqliteStore(database_path(tmp_path), poll_s=0.05) as other:
        directory = CachedDirectory(other, pepper(tmp_path), open_ring(tmp_path, master_key="", command=""))
        caller = Caller("default", "default", pair.info.id, role="owner")
        wish = {"DurationSeconds": 60, "ResourceType": "endpoint", "ResourceIds": [endpoint.id]}
        key = (await done(plane, "GetApiKey", caller, **wish))["ApiKey"]
        assert directory.caller(key, NOW_S) == Caller("default", "default", pair.info.id, (endpoint.id,))
        assert directory.caller(key, NOW_S + 60) is None

        AccessKeys(AccessKeyTable(store, ring)).revoke(pair.info.id, NOW_S)
        until(lambda: directory.caller(key, NOW_S) is None)


async def test_the_database_holds_nothing_of_a_key(
    plane: ControlPlane, store: SqliteStore, tmp_path: Path, pair: NewAccessKey
) -> None:
    caller = Caller("default", "default", pair.info.id, role="owner")
    endpoint = Endpoints(EndpointTable(store)).create("chat", CHAT_CARD.name, NOW_S)
    bot = Bots(BotTable(store), lambda *_: False).create("helper", endpoint.id, NOW_S)
    wish = {"DurationSeconds": 60, "ResourceType": "bot", "ResourceIds": [bot.id]}
    key = (await done(plane, "GetApiKey", caller, **wish))["ApiKey"]
    store.checkpoint_sync()
    proof = key.partition(".")[2]
    for file in tmp_path.iterdir():
        if file.is_file():
            assert proof.encode() not in file.read_bytes()


@pytest.mark.parametrize("tags", [[{"Key": "a" * 129}], [{"Key": "a\nb"}], [{"Key": "", "Value": "x"}]])
async def test_tags_have_a_form(plane: ControlPlane, tags: list[Any]) -> None:
    with pytest.raises(InvalidField):
        await done(plane, "CreateEndpoint", Name="x", ModelReference=REFERENCE, Tags=tags)


async def test_an_operator_has_no_more_of_other_accounts_here_than_it_is_given(plane: ControlPlane) -> None:
    stranger = Caller("other", "default", "AKLTother", role="operator")
    with pytest.raises(ArkwayError):
        await done(plane, "ListEndpoints", stranger)


# The command line, beside it

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, store: SqliteStore) -> Run:
    return lambda *arguments: CliRunner().invoke(group, ["--home", str(tmp_path), "endpoints", *arguments])


def test_endpoints_are_changed_and_deleted(run: Run, store: SqliteStore) -> None:
    (endpoint,) = Endpoints(EndpointTable(store)).ensure([CHAT_CARD.name], NOW_S)

    changed = run("update", endpoint.id, "--name", "orders", "--tag", "team=a", "--tag", "old", "--json")
    assert changed.exit_code == 0, changed.output
    shown = orjson.loads(changed.stdout)
    assert shown["name"] == "orders"
    assert shown["tags"] == [{"key": "team", "value": "a"}, {"key": "old", "value": ""}]
    assert "team=a, old" in run("show", endpoint.id).output
    assert run("update", endpoint.id).exit_code == 2
    assert "not installed" in run("update", endpoint.id, "--model", "nothing").output
    assert "not installed" in run("create", "new", "--model", "nothing:1").output

    assert run("delete", endpoint.id).output == f"deleted {endpoint.id}\n"
    assert run("show", endpoint.id).exit_code == 1
    actions = [row["action"] for row in AuditTable(store).rows("default")]
    assert actions == ["endpoints.delete", "endpoints.update", "endpoints.create"]
