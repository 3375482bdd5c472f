"""Whoever remembers what was found of a model forgets it as soon as something else is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from arkway.admin.bots import Bots
from arkway.admin.groups import Groups, card_of
from arkway.admin.upstreams import Upstreams as Commands
from arkway.app import Parts
from arkway.app.bots import BOT
from arkway.app.installation import ENGINE, Installation
from arkway.app.upstreams import UPSTREAM, Upstreams
from arkway.backends.engine.pool import EnginePool
from arkway.cli import group
from arkway.config import load
from arkway.core.errors import ArkwayError, BackendUnavailable
from arkway.core.model import ModelCard
from arkway.core.upstream import Credential, Group, Member, Upstream
from arkway.stores.bots import BotTable
from arkway.stores.home import database_path
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore
from arkway.stores.upstreams import GroupTable, UpstreamTable
from tests.tools.databases import made_in
from tests.tools.random_gguf import write_random_gguf
from tests.tools.waiting import soon

NOW_S = 1_750_000_000
NOWHERE = "http://127.0.0.1:9/v1"

Found = tuple[ModelCard, str] | None


class Remembering:
    """Finds each model once and then remembers it, until `arkway.ports.Directory.changes` is another number."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._number = -1
        self._found: dict[str, tuple[str, str]] = {}

    def served(self, name: str) -> tuple[str, str]:
        """The served name and the backend; what a caller is refused with in their place."""
        if self._number != self._parts.directory.changes:
            self._found, self._number = {}, self._parts.directory.changes
        if name not in self._found:
            self._found[name] = self.served_now(name)
        return self._found[name]

    def served_now(self, name: str) -> tuple[str, str]:
        try:
            found = self._parts.find_model(name, "")
        except ArkwayError as error:
            return type(error).__name__, ""
        return ("", "") if found is None else (f"{found[0].served_name} {found[0].context_tokens}", found[1])


def no_collection(*_: str) -> bool:
    """No bot here has any."""
    return False


def engines() -> list[int]:
    """The process ids of those of ours that still run."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if "arkway.backends.engine.child" in child.cmdline():
                found.append(child.pid)
    return found


class Host:
    """A server's data directory as its operator changes it, from outside the process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        made_in(home)

    def run(self, *arguments: str) -> None:
        done = CliRunner().invoke(group, ["--home", str(self.home), *arguments])
        assert done.exit_code == 0, done.output

    def pull(self, version: str, context_tokens: int = 512) -> None:
        file = write_random_gguf(self.home.parent / f"{version}.gguf", script=(version,), context=context_tokens)
        self.run("pull", f"file:{file}", "--name", "pair", "--version", version)

    @contextmanager
    def store(self) -> Iterator[SqliteStore]:
        with SqliteStore(database_path(self.home)) as store:
            yield store

    def set_group(self, name: str, context_tokens: int) -> None:
        with self.store() as store:
            card = card_of(name, "1", context_tokens=context_tokens)
            members = (Member(upstream="one", model="m"),)
            Groups(GroupTable(store)).set(Group(card=card, members=members, is_default=True), NOW_S)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "home")


@contextmanager
def opened(host: Host) -> Iterator[Installation]:
    installation = Installation(load(environ={}, overrides={"home": str(host.home), "engine": {"preload": False}}))
    try:
        yield installation
    finally:
        installation.close()


async def becomes(remembering: Remembering, name: str, wanted: tuple[str, str]) -> None:
    """The model is found so; and never is anything else remembered than what would be found at that moment."""

    def is_so() -> bool:
        served = remembering.served(name)
        assert served == remembering.served_now(name)
        return served == wanted

    await soon(is_so)


async def test_a_model_that_is_installed_moved_or_removed_is_not_what_was_remembered(host: Host) -> None:
    with opened(host) as installation:
        parts = installation.parts()
        remembering = Remembering(parts)
        await parts.startup()
        try:
            assert remembering.served("pair") == ("", "")
            await asyncio.to_thread(host.pull, "v1")
            await becomes(remembering, "pair", ("pair-v1 512", ENGINE))
            await asyncio.to_thread(host.pull, "v2")
            await asyncio.to_thread(host.run, "models", "default", "pair", "v2")
            await becomes(remembering, "pair", ("pair-v2 512", ENGINE))
            for version in ("v2", "v1"):
                await asyncio.to_thread(host.run, "models", "remove", f"pair:{version}")
            await becomes(remembering, "pair", ("", ""))
        finally:
            await parts.shutdown()


@pytest.mark.engine
async def test_a_loaded_model_that_is_removed_ends_and_comes_back_as_another_file(host: Host) -> None:
    """Whatever `engine.idle_stop_s` says."""
    await asyncio.to_thread(host.pull, "v1")
    with opened(host) as installation:
        parts = installation.parts()
        pool = parts.tokenizers[ENGINE]
        assert isinstance(pool, EnginePool)
        await parts.startup()
        try:
            await pool.load("pair-v1")
            assert parts.gauges()["engine_ready"] == 1
            await asyncio.to_thread(host.run, "models", "remove", "pair:v1")
            await soon(lambda: not engines())
            assert pool.status() == ()
            await asyncio.to_thread(host.pull, "v1", context_tokens=1024)
            await soon(pool.status)
            await pool.load("pair-v1")
            assert parts.gauges()["engine_ready"] == len(engines()) == 1
        finally:
            await parts.shutdown()


async def test_a_group_that_is_set_changed_or_removed_is_not_what_was_remembered(host: Host) -> None:
    with host.store() as store:
        commands = Commands(UpstreamTable(store, KeyRing(host.home)))
        commands.add(Upstream(name="one", base_url=NOWHERE), Credential(), NOW_S)
    host.set_group("far", 1000)
    with opened(host) as installation:
        parts = installation.parts()
        remembering = Remembering(parts)
        assert remembering.served("far") == ("far-1 1000", UPSTREAM)
        await parts.startup()
        try:
            await asyncio.to_thread(host.set_group, "far", 2000)
            await becomes(remembering, "far", ("far-1 2000", UPSTREAM))
            await asyncio.to_thread(host.run, "groups", "remove", "far:1")
            await becomes(remembering, "far", ("", ""))
        finally:
            await parts.shutdown()


async def test_a_bot_is_not_what_was_remembered_when_what_stands_behind_it_is_another(host: Host) -> None:
    with host.store() as store:
        Commands(UpstreamTable(store, KeyRing(host.home))).add(
            Upstream(name="one", base_url=NOWHERE), Credential(), NOW_S
        )
    host.set_group("far", 1000)
    with opened(host) as installation:
        parts = installation.parts()
        remembering = Remembering(parts)
        await parts.startup()
        endpoint = next(each for each in installation.endpoints() if each.model_name == "far")
        try:
            with host.store() as store:
                bot = await asyncio.to_thread(Bots(BotTable(store), no_collection).create, "helper", endpoint.id, NOW_S)
            await soon(lambda: remembering.served(bot.id) == ("far-1 1000", BOT))
            await asyncio.to_thread(host.set_group, "far", 2000)
            await soon(lambda: remembering.served(bot.id) == ("far-1 2000", BOT))
            await asyncio.to_thread(host.run, "groups", "remove", "far:1")
            await soon(lambda: remembering.served(bot.id) == (BackendUnavailable.__name__, ""))
            with host.store() as store:
                await asyncio.to_thread(Bots(BotTable(store), no_collection).delete, bot.id, NOW_S)
            await soon(lambda: remembering.served(bot.id) == ("", ""))
        finally:
            await parts.shutdown()


async def test_who_asked_is_told_when_the_change_is_there(tmp_path: Path) -> None:
    """By the store's thread before there is an event loop, in the loop's own step afterwards."""
    with SqliteStore(tmp_path / "arkway.db", poll_s=0.05) as store:
        ring = KeyRing(tmp_path)
        found: list[list[Found]] = [[]]
        look: Callable[[], Found] = lambda: None  # noqa: E731 (until there is anything to look at)
        serving = Upstreams(store, ring, changed=lambda: found[-1].append(look()))
        look = lambda: serving.find("m", "")  # noqa: E731

        async def told(change: Callable[[], object]) -> list[Found]:
            found.append([])
            await asyncio.to_thread(change)
            await soon(lambda: found[-1])
            return found[-1]

        Commands(UpstreamTable(store, ring)).add(Upstream(name="one", base_url=NOWHERE), Credential(), NOW_S)
        first = Group(card=card_of("m", "1"), members=(Member(upstream="one", model="m"),), is_default=True)
        assert await told(lambda: Groups(GroupTable(store)).set(first, NOW_S)) == [(first.card, UPSTREAM)]
        serving.begin()
        try:
            second = Group(card=card_of("m", "2"), members=first.members, is_default=True)
            assert (await told(lambda: Groups(GroupTable(store)).set(second, NOW_S)))[-1] == (second.card, UPSTREAM)
            await told(lambda: Groups(GroupTable(store)).remove("m", "1"))
            assert (await told(lambda: Groups(GroupTable(store)).remove("m", "2")))[-1] is None
        finally:
            await serving.aclose()
