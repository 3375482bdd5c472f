"""The backends of one process keep in step with the database: what changed is replaced, the rest stays the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from arkway.admin.groups import Groups, card_of
from arkway.admin.upstreams import UpstreamChange
from arkway.admin.upstreams import Upstreams as Commands
from arkway.app.upstreams import UPSTREAM, Upstreams
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Message, Usage
from arkway.core.embedding import EmbedRequest
from arkway.core.errors import ArkwayError, BackendUnavailable
from arkway.core.events import Fold
from arkway.core.model import Deployment, ModelCard
from arkway.core.upstream import Credential, Group, Member, Policy, Upstream
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore
from arkway.stores.upstreams import GroupTable, UpstreamTable
from arkway.testing import EMBEDDING_CARD, RunningServer, endpoint, running_server, says
from tests.tools.pulled import pulled
from tests.tools.pushing import Kept

NOW_S = 1_750_000_000
WITHIN_S = 30.0
CALL = Call("02-request", "default", "default", "key-1")
NOWHERE = "http://127.0.0.1:9/v1"
POLICY = Policy()


class Place:
    """A database, the commands on it, and a process that serves from it."""

    def __init__(self, store: SqliteStore, ring: KeyRing) -> None:
        self.commands = Commands(UpstreamTable(store, ring))
        self.groups = Groups(GroupTable(store))
        self.serving = Upstreams(store, ring)

    async def add(self, name: str, server: RunningServer | None = None) -> None:
        url = f"{server.url}/api/v3" if server else NOWHERE
        credential = Credential(server.api_key) if server else Credential()
        await asyncio.to_thread(self.commands.add, Upstream(name=name, base_url=url), credential, NOW_S)

    async def set(self, name: str, *members: Member, version: str = "1", dimensions: int = 0) -> None:
        card = card_of(name, version, dimensions=dimensions)
        is_default = await asyncio.to_thread(self.groups.stays_default, name, version)
        await asyncio.to_thread(self.groups.set, Group(card=card, members=members, is_default=is_default), NOW_S)

    def deployed(self, name: str, version: str = "") -> Deployment:
        found = self.serving.find(name, version)
        assert found is not None
        return Deployment(endpoint("ep-1", name), *found)

    async def said(self, name: str) -> str:
        fold = Fold()
        request = ChatRequest("ep-1", (Message("user", "hi"),))
        async for event in pulled(self.serving.groups, self.deployed(name), request, CALL):
            fold.add(event)
        return "".join(choice.text for choice in fold.reply(Usage()).choices)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "arkway.db", poll_s=0.05) as opened:
        yield opened


@asynccontextmanager
async def begun(store: SqliteStore, home: Path) -> AsyncIterator[Place]:
    place = Place(store, KeyRing(home))
    place.serving.begin()
    try:
        yield place
    finally:
        await place.serving.aclose()


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_is_set_is_found_and_serves(store: SqliteStore, tmp_path: Path) -> None:
    with running_server(says("one")) as server:
        async with begun(store, tmp_path) as place:
            assert place.serving.find("m", "") is None
            await place.add("one", server)
            await place.set("m", Member(upstream="one", model=server.endpoint_id))
            await soon(lambda: place.serving.find("m", "1") is not None)
            card, backend = place.serving.find("m", "") or (None, "")
            assert isinstance(card, ModelCard)
            assert (card.served_name, backend) == ("m-1", UPSTREAM)
            assert await place.said("m") == "one"
            (model,) = place.serving.models()
            assert (model.name, model.version, model.is_default, model.source) == ("m", "1", True, "upstream")
            gauges = place.serving.gauges()
            assert (gauges["upstream_members"], gauges["upstream_members_well"], gauges["upstream_calls"]) == (1, 1, 1)
            assert gauges["upstream_connections_open"] == 1


async def test_what_did_not_change_stays_the_same_object(store: SqliteStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as place:
        await place.add("one")
        await place.add("two")
        await place.set("a", Member(upstream="one", model="m"))
        await place.set("b", Member(upstream="two", model="m"))
        await soon(lambda: place.serving.names() == {"a", "b"})
        groups = place.serving.groups
        a, b = groups.group("a-1"), groups.group("b-1")
        await asyncio.to_thread(place.commands.update, "two", UpstreamChange(idle_s=9.0), NOW_S)
        await soon(lambda: groups.group("b-1") is not b)
        assert groups.group("a-1") is a
        await place.set("a", Member(upstream="one", model="m", weight=3))
        await soon(lambda: groups.group("a-1") is not a)
        await asyncio.to_thread(place.groups.remove, "a")
        await soon(lambda: groups.group("a-1") is None)
        assert place.serving.find("a", "") is None


async def test_what_is_known_of_a_member_outlives_a_change_of_its_group(store: SqliteStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as place:
        await place.add("one")
        await place.add("two")
        await place.set("a", Member(upstream="one", model="m"))
        await soon(lambda: place.serving.names() == {"a"})
        groups = place.serving.groups
        before = groups.group("a-1")
        assert before is not None
        for _ in range(POLICY.breaker_calls):
            with pytest.raises(ArkwayError):
                await place.said("a")
        (known,) = before.readings()
        assert (known.condition, known.failures) == ("broken", POLICY.breaker_calls)
        await place.set("a", Member(upstream="one", model="m", weight=3), Member(upstream="two", model="m"))
        await soon(lambda: groups.group("a-1") is not before)
        assert [(each.condition, each.failures) for each in groups.readings()] == [
            ("broken", POLICY.breaker_calls),
            ("well", 0),
        ]
        await asyncio.to_thread(place.commands.update, "one", UpstreamChange(idle_s=9.0), NOW_S)
        await soon(lambda: [each.condition for each in groups.readings()] == ["well", "well"])


async def test_the_default_version_is_what_a_bare_name_means(store: SqliteStore, tmp_path: Path) -> None:
    async with begun(store, tmp_path) as place:
        await place.add("one")
        for version in ("1", "2"):
            await place.set("m", Member(upstream="one", model=version), version=version)
        await soon(lambda: place.serving.find("m", "2") is not None)
        assert place.deployed("m").card.version == "1"
        assert [model.is_default for model in place.serving.models()] == [True, False]
        await asyncio.to_thread(place.groups.remove, "m", "1")
        await soon(lambda: place.serving.find("m", "1") is None)
        assert place.deployed("m").card.version == "2"


async def test_a_server_that_is_replaced_ends_its_calls_first(store: SqliteStore, tmp_path: Path) -> None:
    with running_server(says("the", " old", " one")) as old, running_server(says("the new one")) as new:
        async with begun(store, tmp_path) as place:
            await place.add("one", old)
            await place.set("m", Member(upstream="one", model=old.endpoint_id))
            await soon(lambda: place.serving.find("m", "") is not None)
            group = place.serving.groups.group("m-1")
            assert group is not None
            request = ChatRequest("ep-1", (Message("user", "hi"),), stream=True)
            events = pulled(place.serving.groups, place.deployed("m"), request, CALL)
            first = await anext(events)
            change = UpstreamChange(base_url=f"{new.url}/api/v3", credential=Credential(new.api_key))
            await asyncio.to_thread(place.commands.update, "one", change, NOW_S)
            await soon(lambda: place.serving.groups.group("m-1") is not group)
            assert await place.said("m") == "the new one"
            fold = Fold()
            fold.add(first)
            async for event in events:
                fold.add(event)
            assert [choice.text for choice in fold.reply(Usage()).choices] == ["the old one"]
            assert group.running == 0


async def test_embeddings_go_to_the_next_member_when_one_is_away(store: SqliteStore, tmp_path: Path) -> None:
    size = EMBEDDING_CARD.dimensions
    with running_server() as server:
        async with begun(store, tmp_path) as place:
            await place.add("away")
            await place.add("there", server)
            model = server.embedding_endpoint_id
            both = Member(upstream="away", model="m"), Member(upstream="there", model=model, priority=1)
            await place.set("vectors", *both, dimensions=size)
            await place.set("lost", both[0], dimensions=size)
            await soon(lambda: place.serving.names() == {"vectors", "lost"})
            request = EmbedRequest("ep-1", ("one", "two"))
            reply = await place.serving.texts.embed(place.deployed("vectors"), request, CALL)
            assert [len(vector) for vector in reply.vectors] == [4 * size] * 2
            with pytest.raises(ArkwayError):
                await place.serving.texts.embed(place.deployed("lost"), request, CALL)
            readings = {(each.group, each.upstream): each for each in place.serving.groups.readings()}
            assert readings["vectors-1", "away"].failures == 1
            assert (readings["vectors-1", "there"].calls, readings["vectors-1", "there"].failures) == (1, 0)
            assert all(each.running == 0 for each in readings.values())


async def test_a_member_whose_secret_does_not_decrypt_answers_nobody_until_it_is_given_again(
    store: SqliteStore, tmp_path: Path
) -> None:
    with running_server(says("still here")) as server:
        setting_up = Place(store, KeyRing(tmp_path / "elsewhere"))
        await setting_up.add("locked", server)
        model = server.endpoint_id
        await setting_up.set("m", Member(upstream="locked", model=model))
        async with begun(store, tmp_path) as place:
            with pytest.raises(BackendUnavailable):
                await place.said("m")
            # Given again, under the ring that this process has.
            group = place.serving.groups.group("m-1")
            change = UpstreamChange(credential=Credential(server.api_key))
            await asyncio.to_thread(place.commands.update, "locked", change, NOW_S)
            await soon(lambda: place.serving.groups.group("m-1") is not group)
            assert await place.said("m") == "still here"


async def test_calls_of_a_group_that_was_removed_keep_its_server(store: SqliteStore, tmp_path: Path) -> None:
    with running_server(says("the", " old", " one")) as server:
        async with begun(store, tmp_path) as place:
            await place.add("one", server)
            await place.set("m", Member(upstream="one", model=server.endpoint_id))
            await soon(lambda: place.serving.find("m", "") is not None)
            group = place.serving.groups.group("m-1")
            assert group is not None
            sink = Kept()
            request = ChatRequest("ep-1", (Message("user", "hi"),), stream=True)
            running = group.start(place.deployed("m"), request, CALL, sink)
            running.pause()
            await asyncio.to_thread(place.groups.remove, "m")
            await soon(lambda: place.serving.find("m", "") is None)
            # In a step of its own: what served before no longer has the group.
            await asyncio.to_thread(place.commands.remove, "one")
            await soon(lambda: place.serving.gauges()["upstream_connections_open"] == 0)
            running.resume()
            await soon(lambda: sink.over)
            assert sink.error is None
            assert group.running == 0
