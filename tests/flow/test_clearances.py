"""What is remembered of a caller's way to an endpoint: forgotten with the first change that the directory hears of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys
from arkway.admin.limits import Limits
from arkway.core.caller import Caller
from arkway.core.chat import ChatRequest, Message, Sampling
from arkway.core.errors import EndpointNotFound, EndpointStopped, Forbidden, InvalidField, RateLimited, UnsupportedModel
from arkway.core.model import EndpointChange, ModelCard, ParameterRange
from arkway.core.raw import RawRequest, Tap
from arkway.flow.reserve import Reserve
from arkway.flow.road import Asked, Origin, Road
from arkway.flow.route import Router
from arkway.limits.memory import MemoryLimiter
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import pepper
from arkway.stores.limits import LimitTable
from arkway.stores.store import Store
from arkway.stores.tables import EndpointTable, KeyTable
from arkway.testing import MemoryLedger, ScriptedBackend
from arkway.testing.doubles import CHAT_CARD

NOW_S = 1_793_500_000
OTHER_CARD = replace(CHAT_CARD, name="other-chat")
HERE = Caller("default", "default", "key-1")


class Models:
    """What is installed, by version; ``changed`` hears of it. ``meanwhile`` happens while somebody looks."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.meanwhile: Callable[[], None] | None = None
        self.cards = {"": CHAT_CARD, "1": CHAT_CARD}
        self.backend = "scripted"

    def become(self, cards: dict[str, ModelCard], backend: str = "scripted") -> None:
        self.cards, self.backend = cards, backend
        self._changed()

    def find(self, name: str, version: str) -> tuple[ModelCard, str] | None:
        """A new pair every time, as of a model that upstreams answer for."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if name == OTHER_CARD.name:
            return OTHER_CARD, self.backend
        card = self.cards.get(version) if name == CHAT_CARD.name else None
        return None if card is None else (card, self.backend)


class World:
    """A database, the directory that follows it, and a road over both."""

    def __init__(self, store: Store, home: Path) -> None:
        digest = pepper(home)
        self.directory = CachedDirectory(store, digest)
        self.keys = Keys(KeyTable(store), digest.digest)
        self.endpoints = Endpoints(EndpointTable(store))
        self.limits = Limits(LimitTable(store))
        (made,) = self.endpoints.ensure([CHAT_CARD.name], NOW_S)
        self.endpoint_id = made.id
        self.models = Models(self.directory.changed)
        self.router = Router(self.directory, self.models.find)
        backend = ScriptedBackend()
        self.road = Road(
            self.router,
            MemoryLedger(),
            {"scripted": backend, "moved": backend},
            {},
            {},
            {},
            Reserve(MemoryLimiter()),
        )

    def asks(
        self, caller: Caller, *, names: bool = False, asked: str = "", request: ChatRequest | None = None
    ) -> Asked:
        chat = request or ChatRequest(asked or self.endpoint_id, (Message("user", "hello"),))
        raw = RawRequest("POST", "/", "", {}, "02", NOW_S * 1000, _no_body)
        return self.road.ask_chat(Origin(raw, caller, "v3", "chat", names), chat)

    def calls(self, secret: str) -> Asked:
        """As whoever has this key, which has to be good."""
        caller = self.directory.caller(secret, NOW_S)
        assert caller is not None
        return self.asks(caller)


async def _no_body(_limit_bytes: int, _tap: Tap | None) -> bytes:
    return b""


@pytest.fixture
def world(store: Store, tmp_path: Path) -> World:
    return World(store, tmp_path)


def test_the_way_is_remembered_by_caller_and_endpoint(world: World) -> None:
    first = world.asks(HERE).clearance
    assert world.asks(replace(HERE)).clearance is first
    assert world.asks(replace(HERE, key_id="key-2")).clearance is not first


def test_a_stopped_endpoint_is_stopped_for_the_next_call(world: World) -> None:
    world.asks(HERE)
    world.endpoints.stop(world.endpoint_id, NOW_S)
    with pytest.raises(EndpointStopped):
        world.asks(HERE)
    world.endpoints.start(world.endpoint_id, NOW_S)
    assert world.asks(HERE).clearance.deployment.endpoint.status == "running"


def test_what_is_found_while_it_changes_is_not_remembered(world: World) -> None:
    world.models.meanwhile = lambda: world.endpoints.stop(world.endpoint_id, NOW_S)
    assert world.asks(HERE).clearance.deployment.endpoint.status == "running"
    with pytest.raises(EndpointStopped):
        world.asks(HERE)


def test_a_deleted_endpoint_is_gone_for_the_next_call(world: World) -> None:
    world.asks(HERE)
    world.endpoints.delete(world.endpoint_id, NOW_S)
    with pytest.raises(EndpointNotFound):
        world.asks(HERE)


def test_another_projects_key_finds_nothing_of_what_is_remembered(world: World) -> None:
    world.asks(HERE)
    for foreign in (replace(HERE, project="research"), replace(HERE, account="acme")):
        with pytest.raises(EndpointNotFound):
            world.asks(foreign)


def test_a_revoked_key_is_nobodys_at_the_next_call(world: World) -> None:
    key, secret = world.keys.create("one", NOW_S)
    world.calls(secret)
    world.keys.revoke(key.id, NOW_S)
    assert world.directory.caller(secret, NOW_S) is None


def test_another_role_is_in_force_at_the_next_call(world: World) -> None:
    key, secret = world.keys.create("one", NOW_S)
    world.calls(secret)
    world.keys.update(key.id, role="viewer")
    with pytest.raises(Forbidden, match="role"):
        world.calls(secret)
    world.keys.update(key.id, role="developer")
    world.calls(secret)


def test_a_key_that_is_limited_to_other_endpoints_is_so_at_the_next_call(world: World) -> None:
    key, secret = world.keys.create("one", NOW_S)
    world.calls(secret)
    world.keys.update(key.id, endpoints=("ep-20240701000000-other",))
    with pytest.raises(Forbidden, match="not allowed"):
        world.calls(secret)


def test_the_same_key_under_another_grant_is_another_caller(world: World) -> None:
    """As temporary keys of one access key are: the same key id, other endpoints."""
    world.asks(HERE)
    with pytest.raises(Forbidden, match="not allowed"):
        world.asks(replace(HERE, endpoints=("ep-20240701000000-other",)))


async def test_a_limit_is_in_force_at_the_next_call_and_so_is_its_end(world: World) -> None:
    assert world.asks(HERE).wanted is None
    world.limits.set("endpoint", world.endpoint_id, {"rpm": 1}, NOW_S)
    assert world.road.open_chat_nowait(world.asks(HERE)) is not None
    with pytest.raises(RateLimited):
        world.road.open_chat_nowait(world.asks(HERE))
    world.limits.set("endpoint", world.endpoint_id, {"rpm": 100, "tpm": 5}, NOW_S)
    assert [rule.amount for rule in world.asks(HERE).clearance.rules] == [100, 5]
    world.limits.remove("endpoint", world.endpoint_id)
    assert world.asks(HERE).wanted is None


def test_a_changed_endpoint_serves_its_other_model_at_the_next_call(world: World) -> None:
    world.asks(HERE)
    world.endpoints.update(world.endpoint_id, EndpointChange(model_name=OTHER_CARD.name), NOW_S)
    assert world.asks(HERE).clearance.model == "other-chat-1"


def test_a_default_version_that_moves_is_served_at_the_next_call(world: World) -> None:
    assert world.asks(HERE).clearance.model == "scripted-chat-1"
    cards = {**world.models.cards, "": replace(CHAT_CARD, version="2"), "2": CHAT_CARD}
    world.models.become(cards)
    found = world.asks(HERE)
    assert (found.clearance.model, found.clearance.deployment.card.version) == ("scripted-chat-2", "2")
    world.models.become(cards, "moved")
    assert world.asks(HERE).clearance.deployment.backend == "moved"


def test_a_model_that_can_less_takes_less_at_the_next_call(world: World) -> None:
    hot = ChatRequest(world.endpoint_id, (Message("user", "hello"),), Sampling(temperature=1.5))
    world.asks(HERE, request=hot)
    world.models.become({"": replace(CHAT_CARD, parameters=(ParameterRange("temperature", 0, 1, 1),))})
    with pytest.raises(InvalidField, match="0 to 1"):
        world.asks(HERE, request=hot)
    world.models.become({"": replace(CHAT_CARD, capabilities=("embeddings",))})
    with pytest.raises(UnsupportedModel):
        world.asks(HERE)


def test_a_name_means_what_it_means_at_that_moment(world: World) -> None:
    """It may change with any endpoint and any model."""
    asked = world.asks(HERE, names=True, asked=CHAT_CARD.name)
    assert asked.clearance.deployment.endpoint.id == world.endpoint_id
    world.endpoints.stop(world.endpoint_id, NOW_S)
    (second,) = world.endpoints.ensure([OTHER_CARD.name], NOW_S)
    world.endpoints.update(second.id, EndpointChange(model_name=CHAT_CARD.name), NOW_S)
    assert world.asks(HERE, names=True, asked=CHAT_CARD.name).clearance.deployment.endpoint.id == second.id
    world.models.become({"": replace(CHAT_CARD, version="2"), "2": CHAT_CARD})
    assert world.asks(HERE, names=True, asked=CHAT_CARD.name).clearance.model == "scripted-chat-2"


def test_what_a_name_means_is_remembered_with_its_version(world: World) -> None:
    def asks(version: str) -> str:
        request = ChatRequest(CHAT_CARD.name, (Message("user", "hello"),), asked_version=version)
        return world.asks(HERE, names=True, request=request).clearance.deployment.card.version

    world.models.become({"": CHAT_CARD, "1": CHAT_CARD, "2": replace(CHAT_CARD, version="2")})
    assert [asks(version) for version in ("2", "", "1", "2", "")] == ["2", "1", "1", "2", "1"]


def test_a_name_is_none_where_names_are_not_taken(world: World) -> None:
    world.asks(HERE, names=True, asked=CHAT_CARD.name)
    with pytest.raises(EndpointNotFound):
        world.asks(HERE, asked=CHAT_CARD.name)


def test_an_id_means_the_same_where_names_are_taken(world: World) -> None:
    assert world.asks(HERE, names=True).clearance.deployment == world.asks(HERE).clearance.deployment


async def test_what_a_call_holds_is_free_when_it_is_settled(world: World) -> None:
    world.limits.set("endpoint", world.endpoint_id, {"concurrency": 1}, NOW_S)
    first = world.road.open_chat_nowait(world.asks(HERE))
    assert first is not None
    with pytest.raises(RateLimited):
        world.road.open_chat_nowait(world.asks(HERE))
    first.meter.settle("client_abort")
    assert world.road.open_chat_nowait(world.asks(HERE)) is not None
