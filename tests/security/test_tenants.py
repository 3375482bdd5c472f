"""Not yours and not there are one answer, on every route of the table: to the byte, and by the same steps.

The server's keys, endpoints and accounts are in a real database, seen through the cache that a real server has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import sqlalchemy as sa

from arkway.admin.access_keys import AccessKeys
from arkway.admin.bots import Bots
from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys
from arkway.admin.tenancy import Accounts, Projects
from arkway.app.control import control_plane
from arkway.config import load
from arkway.control.actions import ACTIONS, VERSION, ActionKind
from arkway.core.caller import Role
from arkway.core.errors import EndpointNotFound, EndpointStopped, Forbidden
from arkway.core.model import ModelCard
from arkway.core.roles import PERMISSIONS, ROLES
from arkway.http.surface import ROUTES, Route
from arkway.ports import Directory
from arkway.sealing import fresh
from arkway.signing import KeyPair
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.bots import BotTable
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import EndpointTable, KeyTable
from arkway.stores.tenancy import AccountTable, ProjectTable
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, running_server
from arkway.wire import json
from tests.tools import signed
from tests.tools.client import Connection, Reply
from tests.tools.wires import CLIENTS, OF_BOTS, V3, Wire

# Ids of one second look alike, and what looks like an endpoint of one's own gets a hint: others are of another century.
OURS_S, THEIRS_S = 1_719_792_000, 4_070_908_800
PLACES = (("default", "default"), ("default", "second"), ("acme", "default"), ("gone", "default"))
DEAD = ("revoked", "expired", "suspended")


# A second request with the head of the first one asks whether its key still stands, in the place of whose it is.
SAME_STEP = {"stands": "caller"}


class Watched:
    """A directory that remembers which of its methods were called, in order."""

    def __init__(self, directory: CachedDirectory, steps: list[str]) -> None:
        self._directory, self._steps = directory, steps

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self._directory, name)
        if not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            self._steps.append(SAME_STEP.get(name, name))
            return found(*arguments)

        return call


class World:
    """Three accounts with what they have: ids of endpoints and bots, secrets and pairs, by what is the matter."""

    def __init__(self, store: SqliteStore, home: Path) -> None:
        self._store, self._home = store, home
        self._now_s = int(time.time())
        self.endpoints: dict[str, str] = {}
        self.bots: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.pairs: dict[str, KeyPair] = {}
        accounts = Accounts(AccountTable(store))
        for account in ("acme", "gone"):
            accounts.create(OURS_S, account)
        Projects(ProjectTable(store)).create("second", OURS_S)
        self._make_endpoints()
        self._make_keys()
        self._make_pairs()
        accounts.suspend("gone")
        self.keys["unknown"] = "ark-" + "0" * 43
        self.pairs["unknown"] = KeyPair("AKLT" + "0" * 43, self.pairs["ours"].secret)

    def _make_endpoints(self) -> None:
        for name, place, now_s in (
            ("ours", PLACES[0], OURS_S),
            ("stopped", PLACES[0], OURS_S),
            ("deleted", PLACES[0], THEIRS_S),
            ("another project's", PLACES[1], THEIRS_S),
            ("another account's", PLACES[2], THEIRS_S),
            ("another account's, stopped", PLACES[2], THEIRS_S),
            ("another account's, deleted", PLACES[2], THEIRS_S),
            ("a suspended account's", PLACES[3], THEIRS_S),
        ):
            endpoints = Endpoints(EndpointTable(self._store), *place)
            endpoint_id = self.endpoints[name] = endpoints.create(name, CHAT_CARD.name, now_s).id
            bots = Bots(BotTable(self._store), lambda *_: False, *place)
            bot_id = self.bots[name] = bots.create(name, endpoint_id, now_s).id
            if name.endswith("stopped"):
                bots.stop(bot_id, now_s)
                endpoints.stop(endpoint_id, now_s)
            if name.endswith("deleted"):
                bots.delete(bot_id, now_s)
                endpoints.delete(endpoint_id, now_s)
        vectors = Endpoints(EndpointTable(self._store)).create("vectors", EMBEDDING_CARD.name, OURS_S)
        self.endpoints["vectors"] = vectors.id

    def _make_keys(self) -> None:
        digest = pepper(self._home).digest
        ours, gone = (Keys(KeyTable(self._store), digest, *place) for place in (PLACES[0], PLACES[3]))
        scope = (self.endpoints["vectors"],)
        self.keys = {
            "ours": ours.create("ours", OURS_S)[1],
            "scoped": ours.create("scoped", OURS_S, scope)[1],
            "viewer": ours.create("viewer", OURS_S, role="viewer")[1],
            "expired": ours.create("expired", OURS_S, expires_at=OURS_S + 1)[1],
            "suspended": gone.create("suspended", OURS_S)[1],
            "second": Keys(KeyTable(self._store), digest, *PLACES[1]).create("second", OURS_S)[1],
            "acme": Keys(KeyTable(self._store), digest, *PLACES[2]).create("acme", OURS_S)[1],
        }
        key, self.keys["revoked"] = ours.create("revoked", OURS_S)
        ours.revoke(key.id, self._now_s)

    def _make_pairs(self) -> None:
        def made(name: str, place: tuple[str, str], role: Role = "owner", **options: Any) -> str:
            pairs = AccessKeys(AccessKeyTable(self._store, KeyRing(self._home)), *place)
            new = pairs.create(name, OURS_S, role=role, **options)
            self.pairs[name] = KeyPair(new.info.id, new.secret)
            return new.info.id

        for role in ROLES:
            made(role, PLACES[0], role)
        made("ours", PLACES[0])
        made("scoped", PLACES[0], endpoints=(self.endpoints["vectors"],))
        made("expired", PLACES[0], expires_at=OURS_S + 1)
        made("suspended", PLACES[3])
        made("acme", PLACES[2])
        revoked = made("revoked", PLACES[0])
        AccessKeys(AccessKeyTable(self._store, KeyRing(self._home))).revoke(revoked, self._now_s)


class Scene(NamedTuple):
    """A running server, what is in it, and what it did."""

    world: World
    client: Connection
    steps: list[str]


def installed(name: str, version: str) -> tuple[ModelCard, str] | None:
    cards = {card.name: card for card in (CHAT_CARD, EMBEDDING_CARD)}
    if name.startswith("bot-"):
        return CHAT_CARD, "scripted"
    return (cards[name], "scripted") if name in cards and version in ("", "1") else None


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("home")
    steps: list[str] = []

    def note(_: Any, __: Any, statement: str, *rest: Any) -> None:
        steps.append(statement)

    settings = {"surface": {"message_encryption": True}}
    # Nobody else writes: a poll would only be a step that no request has taken.
    with SqliteStore(home / "arkway.db", poll_s=3600) as store:
        world = World(store, home)
        cached = CachedDirectory(store, pepper(home), KeyRing(home), used_every_polls=1 << 30)
        directory = cast(Directory, Watched(cached, steps))
        config = load(environ={}, overrides={"home": str(home), **settings})
        control = control_plane(config, store, pepper(home), directory, installed, fresh(int(time.time())))
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            with (
                running_server(settings=settings, directory=directory, control=control) as server,
                Connection(server.url) as client,
            ):
                yield Scene(world, client, steps)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)


class Ask(NamedTuple):
    """One way to ask a route for an endpoint."""

    label: str
    route: Route
    wire: Wire | None
    request: Callable[[str], tuple[str, Any, Mapping[str, str]]]

    def ids(self, world: World) -> dict[str, str]:
        """What there is to ask this route for."""
        return world.bots if self.wire in OF_BOTS else world.endpoints


BODIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "get_api_key": lambda asked: {"DurationSeconds": 60, "ResourceType": "endpoint", "ResourceIds": [asked]},
    "get": lambda asked: {"Id": asked},
    "start": lambda asked: {"Id": asked},
    "stop": lambda asked: {"Id": asked},
    "delete": lambda asked: {"Id": asked},
    "certificate": lambda asked: {"Id": asked},
    "update": lambda asked: {"Id": asked, "Name": "mine now"},
}
WITHOUT_ID = {"create", "list"}


def asks(route: Route) -> list[Ask]:
    """Every way to ask this route for an endpoint: each family of clients, each action."""
    if route.operation == "control":
        return [_action(route, kind) for kind in ACTIONS.values() if kind.operation not in WITHOUT_ID]
    if route.operation == "model":
        return [Ask(route.path, route, None, lambda asked: (route.path.replace("{}", asked), None, {}))]
    wires = [wire for wire in CLIENTS if wire.route == route.dialect and route.operation in wire.operations]
    streams = (False, True) if route.operation == "chat" else (False,)
    return [_data(route, wire, stream) for wire in wires for stream in streams]


def _action(route: Route, kind: ActionKind) -> Ask:
    path = f"{route.path}?Action={kind.name}&Version={VERSION}"
    return Ask(kind.name, route, None, lambda asked: (path, BODIES[kind.operation](asked), {}))


def _data(route: Route, wire: Wire, stream: bool) -> Ask:
    extra = {"stream": stream} if route.operation == "chat" else {}
    label = f"{wire.name}-{route.operation}{'-stream' if stream else ''}"
    return Ask(label, route, wire, lambda asked: wire.call(route.operation, asked, **extra))


CLOSED = [route for route in ROUTES if route.auth != "none"]
LISTS = [route for route in CLOSED if route.operation == "models"]
ASKS = [ask for route in CLOSED for ask in asks(route)]
SIGNED = [ask for ask in ASKS if ask.route.auth in ("any", "signature")]
BEARER = [ask for ask in ASKS if ask.route.auth in ("any", "bearer")]
THEIRS = (
    "deleted",
    "another project's",
    "another account's",
    "another account's, stopped",
    "another account's, deleted",
    "a suspended account's",
)


def label(value: object) -> str | None:
    return value.label if isinstance(value, Ask) else None


def called(scene: Scene, ask: Ask, asked: str, who: str, *, signing: bool) -> Reply:
    path, body, headers = ask.request(asked)
    if signing:
        service = "ark" if ask.route.auth == "signature" else "ml_maas"
        pair = scene.world.pairs[who]
        pair = KeyPair(pair.access_key_id, pair.secret, service=service)
        return signed.post(scene.client, path, body, pair=pair, extra=headers)
    return scene.client.call(ask.route.method, path, body, headers, scene.world.keys[who])


def answered(scene: Scene, ask: Ask, asked: str, who: str, *, signing: bool) -> tuple[Any, ...]:
    """The answer to the byte, but for what names the request and what it asked for, and the steps to it."""
    scene.steps.clear()
    reply = called(scene, ask, asked, who, signing=signing)
    hidden = {reply.headers["x-request-id"]: "<request>", asked: "<asked>"}
    if signing:
        hidden[scene.world.pairs[who].access_key_id] = "<access key>"
    headers = {name: _without(value, hidden) for name, value in reply.headers.items() if name != "date"}
    return reply.status, headers, _without(reply.body.decode(), hidden), tuple(scene.steps)


def _without(text: str, hidden: Mapping[str, str]) -> str:
    for value, name in hidden.items():
        text = text.replace(value, name)
    return text


def absent(endpoint_id: str) -> str:
    """An id of the same form that nobody has."""
    return endpoint_id[:-5] + ("zzzzz" if not endpoint_id.endswith("zzzzz") else "yyyyy")


def refused(ask: Ask, answer: tuple[Any, ...], status: int, code: str) -> None:
    """Asserts status and code; the wire's own numbers are in the tests of routing."""
    frame = answer[2].removeprefix("data:").partition("\n\n")[0]
    document = json.loads(frame.encode())
    error = document["ResponseMetadata"]["Error"] if ask.route.operation == "control" else document["error"]
    assert (answer[0], error.get("code") or error.get("Code")) == (status, code)


def test_every_route_is_asked() -> None:
    assert {ask.route.path for ask in ASKS} | {route.path for route in LISTS} == {route.path for route in CLOSED}
    assert {kind.operation for kind in ACTIONS.values()} == {*BODIES, *WITHOUT_ID}
    assert {ask.wire.name for ask in ASKS if ask.wire} == {wire.name for wire in CLIENTS}


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ask", BEARER, ids=label)
def test_anothers_endpoint_is_not_there_for_a_key(scene: Scene, ask: Ask, theirs: str) -> None:
    asked = ask.ids(scene.world)[theirs]
    for who in ("ours", "scoped"):
        found, missing = (answered(scene, ask, name, who, signing=False) for name in (asked, absent(asked)))
        assert found == missing
        assert found[0] in (400, 404)
        assert "did you mean" not in found[2]
        if ask.wire:
            refused(ask, found, *ask.wire.told[EndpointNotFound][:2])


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ask", SIGNED, ids=label)
def test_anothers_endpoint_is_not_there_for_a_signature(scene: Scene, ask: Ask, theirs: str) -> None:
    asked = ask.ids(scene.world)[theirs]
    control = ask.route.operation == "control"
    # An owner reaches every project of its account over the control plane, a developer its own.
    for who in ("developer",) if control and theirs == "another project's" else ("developer", "ours", "scoped"):
        found, missing = (answered(scene, ask, name, who, signing=True) for name in (asked, absent(asked)))
        assert found == missing
        assert found[0] in (400, 404)
        assert ask.wire is None or found[2].count("<asked>") == 1


def test_nobody_changes_what_is_theirs(scene: Scene) -> None:
    """After every action that anybody tried on it: what the others have works for them."""
    for theirs, who in (("another account's", "acme"), ("another project's", "second")):
        asked = scene.world.endpoints[theirs]
        actions = [ask for ask in SIGNED if ask.route.operation == "control"]
        assert {called(scene, ask, asked, "developer", signing=True).status for ask in actions} == {404}
        reply = scene.client.post(*V3.chat(asked=asked), key=scene.world.keys[who])
        assert reply.status == 200


@pytest.mark.parametrize("dead", DEAD)
@pytest.mark.parametrize("ask", BEARER, ids=label)
def test_a_dead_key_is_an_unknown_one(scene: Scene, ask: Ask, dead: str) -> None:
    for asked in (ask.ids(scene.world)["ours"], ask.ids(scene.world)["another account's"]):
        found, missing = (answered(scene, ask, asked, who, signing=False) for who in (dead, "unknown"))
        assert found == missing
        assert found[0] == 401


@pytest.mark.parametrize("dead", DEAD)
@pytest.mark.parametrize("ask", SIGNED, ids=label)
def test_a_dead_pair_is_an_unknown_one(scene: Scene, ask: Ask, dead: str) -> None:
    asked = ask.ids(scene.world)["ours"]
    found, missing = (answered(scene, ask, asked, who, signing=True) for who in (dead, "unknown"))
    assert found == missing
    assert found[0] == 401


@pytest.mark.parametrize("route", LISTS, ids=lambda route: route.path)
def test_lists_are_ones_own(scene: Scene, route: Route) -> None:
    world = scene.world
    for who, own in (
        ("ours", {"ours", "stopped", "vectors"}),
        ("viewer", {"ours", "stopped", "vectors"}),
        ("scoped", {"vectors"}),
        ("second", {"another project's"}),
        ("acme", {"another account's", "another account's, stopped"}),
    ):
        listed = {entry["id"] for entry in scene.client.get(route.path, key=world.keys[who]).json()["data"]}
        assert listed & set(world.endpoints.values()) == {world.endpoints[name] for name in own}
    unknown = scene.client.get(route.path, key=world.keys["unknown"])
    for dead in DEAD:
        assert scene.client.get(route.path, key=world.keys[dead]).status == unknown.status == 401


def test_the_control_planes_list_is_ones_own(scene: Scene) -> None:
    world, route = scene.world, next(route for route in CLOSED if route.operation == "control")
    ask = Ask("list", route, None, lambda asked: (f"/?Action=ListEndpoints&Version={VERSION}", {"PageSize": 100}, {}))
    for who, own in (
        ("developer", {"ours", "stopped", "vectors"}),
        ("scoped", {"vectors"}),
        ("acme", {"another account's", "another account's, stopped"}),
    ):
        reply = called(scene, ask, "", who, signing=True)
        listed = {entry["Id"] for entry in reply.json()["Result"]["Items"]}
        assert listed & set(world.endpoints.values()) == {world.endpoints[name] for name in own}


@pytest.mark.parametrize("action", ["CreateEndpoint", "ListEndpoints", "GetApiKey"])
def test_anothers_project_is_not_there(scene: Scene, action: str) -> None:
    route = next(route for route in CLOSED if route.operation == "control")
    bodies: dict[str, dict[str, Any]] = {
        "CreateEndpoint": {"Name": "x", "ModelReference": {"FoundationModel": {"Name": CHAT_CARD.name}}},
        "ListEndpoints": {},
        "GetApiKey": {"DurationSeconds": 60, "ResourceType": "presetendpoint", "ResourceIds": [CHAT_CARD.name]},
    }
    path = f"/?Action={action}&Version={VERSION}"
    ask = Ask(action, route, None, lambda asked: (path, {**bodies[action], "ProjectName": asked}, {}))
    # "second" is of our account, out of a developer's reach; to "acme" nobody of ours can tell that it is there.
    for who, theirs in (("developer", "second"), ("acme", "second")):
        found, missing = (answered(scene, ask, name, who, signing=True) for name in (theirs, "absent"))
        assert found[:1] + found[2:3] == missing[:1] + missing[2:3]
        assert found[0] in (400, 404)


@pytest.mark.parametrize("ask", [ask for ask in BEARER if ask.wire], ids=label)
def test_a_viewer_calls_no_model_and_learns_nothing(scene: Scene, ask: Ask) -> None:
    world = scene.world
    told = [answered(scene, ask, ask.ids(world)[name], "viewer", signing=False) for name in ("ours", *THEIRS)]
    assert all(answer == told[0] for answer in told)
    assert ask.wire is not None
    refused(ask, told[0], *ask.wire.told[Forbidden][:2])
    assert "needs the role inference, developer, owner or operator" in told[0][2]


@pytest.mark.parametrize("ask", [ask for ask in BEARER if ask.wire and "embeddings" not in ask.label], ids=label)
def test_a_scoped_key_and_a_stopped_endpoint_say_so(scene: Scene, ask: Ask) -> None:
    world = scene.world
    assert ask.wire is not None
    ids = ask.ids(world)
    refused(ask, answered(scene, ask, ids["ours"], "scoped", signing=False), *ask.wire.told[Forbidden][:2])
    stopped = answered(scene, ask, ids["stopped"], "ours", signing=False)
    refused(ask, stopped, *ask.wire.told[EndpointStopped][:2])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ACTIONS.values(), ids=lambda kind: kind.name)
def test_a_role_may_do_what_the_table_says(scene: Scene, kind: ActionKind, role: Role) -> None:
    """Asked for what is not there, so that nothing changes: who may ask is told that, who may not is told of roles."""
    route = next(route for route in CLOSED if route.operation == "control")
    path = f"/?Action={kind.name}&Version={VERSION}"
    elsewhere = {"ProjectName": "absent", "Name": "x", "ModelReference": {}}
    body = elsewhere if kind.operation in WITHOUT_ID else BODIES[kind.operation]("absent")
    ask = Ask(kind.name, route, None, lambda asked: (path, body, {}))
    answer = answered(scene, ask, "absent", role, signing=True)
    allowed = role in PERMISSIONS[kind.permission].roles
    assert (answer[0] == 403) is not allowed
    assert (f"this one has the role {role}" in answer[2]) is not allowed


@pytest.mark.parametrize("theirs", THEIRS)
def test_no_temporary_key_for_anothers_bot(scene: Scene, theirs: str) -> None:
    """By the same steps as for a bot that nobody has; neither is a bot an endpoint of any action."""
    route = next(route for route in CLOSED if route.operation == "control")
    path = f"/?Action=GetApiKey&Version={VERSION}"

    def wish(asked: str) -> tuple[str, Any, Mapping[str, str]]:
        return path, {"DurationSeconds": 60, "ResourceType": "bot", "ResourceIds": [asked]}, {}

    asked = scene.world.bots[theirs]
    for ask in (Ask("GetApiKey-bot", route, None, wish), *(ask for ask in SIGNED if ask.route.operation == "control")):
        # An owner reaches every project of its account over the control plane, a developer its own.
        for who in ("developer",) if theirs == "another project's" else ("developer", "ours", "scoped"):
            found, missing = (answered(scene, ask, name, who, signing=True) for name in (asked, absent(asked)))
            assert found == missing
            assert found[0] == 404
