"""A data directory opened for serving: database, journal, keys, models and engines, tied together."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from arkway.admin.aliases import Aliases
from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys
from arkway.admin.prices import PriceBook
from arkway.app import Parts
from arkway.app.administration import admin_commands, models_shown, status_of
from arkway.app.bots import BotModels, with_bots
from arkway.app.control import control_plane
from arkway.app.images import images_fetched
from arkway.app.knowledge import Knowledge
from arkway.app.limits import cost_in
from arkway.app.moderation import Moderation
from arkway.app.plugins import Plugins
from arkway.app.upstreams import UPSTREAM, Upstreams
from arkway.app.workers import LONE, Seat
from arkway.backends.declared import DeclaredTokenizer
from arkway.backends.embedding import UseEmbedder
from arkway.backends.engine.cpus import usable_cpus
from arkway.backends.engine.footprint import memory_cap_bytes
from arkway.backends.engine.pool import EnginePool
from arkway.backends.engine.settings import MIB, EngineModel, EngineSettings
from arkway.backends.pictured import Pictured, PulledPictured
from arkway.config import Settings
from arkway.core.errors import ArkwayError, StoreUnavailable
from arkway.core.model import Endpoint, ModelCard
from arkway.core.roles import HOST_ACCOUNT
from arkway.files import private_directory
from arkway.http.admin import Commands
from arkway.models.catalogue import DEFAULT_CHAT
from arkway.models.store import InstalledModel, ModelStore
from arkway.ports import Backend, Embedder, Pushing
from arkway.sealing import load_or_create
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.belonging import pepper_of
from arkway.stores.directory import CachedDirectory
from arkway.stores.drain import Drain, drain_left
from arkway.stores.home import database_path, journal_path, journal_paths
from arkway.stores.journal import Journal
from arkway.stores.keyring import VARIABLE, open_ring
from arkway.stores.limits import Spending
from arkway.stores.prices import follow_prices
from arkway.stores.retention import Retention
from arkway.stores.rollups import Rollups
from arkway.stores.schema import DEFAULT_PROJECT
from arkway.stores.store import Store, open_store
from arkway.stores.tables import AliasTable, EndpointTable, KeyTable
from arkway.stores.usage import UsageTable
from arkway.telemetry.metrics import Reading
from arkway.telemetry.moderation import ModerationWatch
from arkway.telemetry.plugins import PluginWatch

log = logging.getLogger("arkway")

ENGINE = "engine"
EMBEDDING = "embedding"
MODELS_POLL_S = 2.0
CLOSE_S = 5.0


class Shelf:
    """The installed models, held in memory: the request path never reads the disk for them.

    ``changed`` is called whenever `find` may give another answer than before.
    """

    def __init__(self, store: ModelStore, changed: Callable[[], None]) -> None:
        self._store, self._changed = store, changed
        self.models: tuple[InstalledModel, ...] = ()
        self._cards: dict[tuple[str, str], tuple[ModelCard, str]] = {}
        self._keep(self.read())

    def read(self) -> tuple[InstalledModel, ...]:
        """What is installed now: a model may have come or gone, a default version may have moved. Reads the disk."""
        return self._store.installed()

    def show(self, models: tuple[InstalledModel, ...]) -> None:
        """These are found from now on."""
        self._keep(models)
        self._changed()

    def _keep(self, models: tuple[InstalledModel, ...]) -> None:
        cards: dict[tuple[str, str], tuple[ModelCard, str]] = {}
        for model in models:
            entry = (model.card, EMBEDDING if model.kind == "use" else ENGINE)
            cards[model.name, model.version] = entry
            if model.is_default:
                cards[model.name, ""] = entry
        self.models, self._cards = models, cards

    def find(self, name: str, version: str) -> tuple[ModelCard, str] | None:
        """The card of a model version ("" = the default one) and the key of its backend."""
        return self._cards.get((name, version))


def engine_models(models: Iterable[InstalledModel]) -> dict[str, EngineModel]:
    """What the engine can run, by served name."""
    return {m.card.served_name: EngineModel(m.path, m.card, m.projector) for m in models if m.kind == "gguf"}


def default_chat(models: Iterable[InstalledModel]) -> InstalledModel | None:
    """The chat model that retired names stand for: the catalogue's default one where it is installed."""
    chats = [model for model in models if model.kind == "gguf" and model.is_default]
    return min(chats, key=lambda model: model.name != DEFAULT_CHAT, default=None)


class Installation:
    """Opens a home in the constructor (raises Misconfigured, StoreUnavailable) and closes it in `shutdown`.

    ``new_endpoints`` and ``new_key`` (a secret) are what this start has made; on a later start both are empty.
    ``seat`` says which of the server's processes this is, where there are several.
    """

    def __init__(self, settings: Settings, seat: Seat = LONE) -> None:
        self._settings, self._seat = settings, seat
        self._images = images_fetched(settings)
        self._moderation_watch = ModerationWatch()
        self._moderation = self._next_moderation = Moderation(settings, self._moderation_watch, self._moderation_of)
        home = private_directory(settings.home)
        self.shelf = Shelf(ModelStore(home / "models"), self._models_changed)
        ring = self._ring = open_ring(home, master_key=os.environ.get(VARIABLE, ""), command=settings.secrets.command)
        self._store: Store = open_store(database_path(home), settings.database.url)
        now_s = int(time.time())
        try:
            spice = self._pepper = pepper_of(home, self._store)
            AccessKeyTable(self._store, ring).check_ring(now_s)
            self._journal = Journal(journal_path(home, seat.number), durability=settings.ledger.durability)
        except BaseException:
            self._store.close()
            raise
        self._drain = Drain(self._journal, UsageTable(self._store), self._store)
        if seat.number == 1:
            self._keep_sums()
        self._take_in_journals(home)
        self._directory = CachedDirectory(self._store, spice, ring)
        self._upstreams = Upstreams(self._store, ring, settings.stream.total_s, self._models_changed)
        self._bots, self._plugin_watch = BotModels(self._directory, self.find_model), PluginWatch()
        self._embedder = UseEmbedder(idle_stop_s=settings.engine.idle_stop_s)
        self._embedders: dict[str, Embedder] = {EMBEDDING: self._embedder, UPSTREAM: self._upstreams.texts}
        self._knowledge = Knowledge(
            settings,
            self._store,
            self._directory.endpoint,
            self.find_model,
            self._embedders,
            self._journal,
            works=seat.number == 1,
        )
        self._plugins = Plugins(settings, self._knowledge)
        self._book = PriceBook()
        self._cost_of = cost_in(settings.limits.currency, self._book)
        self._spending = self._spent_so_far()
        self._endpoints = Endpoints(EndpointTable(self._store))
        self._keys = Keys(KeyTable(self._store), spice.digest)
        self._aliases = Aliases(AliasTable(self._store))
        self._make_first(now_s)
        self._pool: EnginePool | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._answering: dict[str, Backend | Pushing] = {}

    def _make_first(self, now_s: int) -> None:
        """What has to be there for the first call: endpoints, aliases, a key."""
        with self._store.alone():
            self._with_endpoint = self._served_names()
            self.new_endpoints = self._endpoints.ensure(sorted(self._with_endpoint), now_s)
            self._aliased = self._ensure_aliases()
            had_keys = KeyTable(self._store).has_any(HOST_ACCOUNT, DEFAULT_PROJECT)
            self.new_key = "" if had_keys else self._keys.create("first", now_s)[1]

    def _spent_so_far(self) -> Spending:
        """Quotas go on where they were: what the last process left in its journal is in the sums."""
        follow_prices(self._store, self._book.replace)
        try:
            self._drain.flush_sync()
        except StoreUnavailable as error:
            log.warning("quotas begin without the calls that are still in the journal: %s", error)
        return Spending(self._store, self._cost_of, _now_ms)

    def _keep_sums(self) -> None:
        """Sums usage up, and deletes what is too old, on the store's own thread: by one process for all of them."""
        Rollups(self._store, _now_ms)
        Retention(self._store, self._settings.retention.usage_days, _now_ms, lambda: self._drain.lag == 0)

    def withdraw_new_key(self) -> None:
        """The new key could not be handed over: it is revoked."""
        for key in self._keys.list():
            self._keys.revoke(key.id, int(time.time()))
        self.new_key = ""

    def find_model(self, name: str, version: str) -> tuple[ModelCard, str] | None:
        """An installed model, else one that upstreams answer for, and the key of its backend. A bot is none."""
        return self.shelf.find(name, version) or self._upstreams.find(name, version)

    def _models_changed(self) -> None:
        """What was concluded of models before no longer holds, and whoever remembers it is told so."""
        self._directory.changed()

    def endpoints(self) -> tuple[Endpoint, ...]:
        return self._endpoints.list()

    def parts(self) -> Parts:
        """What the server is made of."""
        pool = self._pool = EnginePool(
            engine_models(self.shelf.models), _engine_settings(self._settings, self._seat.count)
        )
        sealing = load_or_create(self._settings.home) if self._settings.surface.message_encryption else None
        self._answering = with_bots(self._backends(pool), self._bots, self._plugins, self._journal, self._plugin_watch)
        self._moderation.warn(self._endpoints.list())
        return Parts(
            directory=self._directory,
            find_model=self._bots.find,
            ledger=self._journal,
            backends=self._moderation.over(self._answering),
            embedders=self._embedders,
            tokenizers={ENGINE: pool, EMBEDDING: self._embedder, UPSTREAM: self._tokens(pool)},
            classifiers={ENGINE: pool},
            control=control_plane(self._settings, self._store, self._pepper, self._directory, self.find_model, sealing),
            admin=self._admin() if self._settings.admin.enabled else None,
            sealing=sealing,
            startup=self._startup,
            shutdown=self._shutdown,
            gauges=self._gauges,
            tallies=(self._moderation_watch.tallies, self._plugin_watch.tallies),
            troubles=self._troubles,
            cost_of=self._cost_of,
            spent=self._spending.spent,
            refresh_spent=self._spending.refresh,
            warnings=self._warnings,
        )

    def _tokens(self, pool: EnginePool) -> DeclaredTokenizer:
        """Of the models that upstreams answer for."""
        lenders = {ENGINE: pool.lend, EMBEDDING: self._embedder.tokenize}
        return DeclaredTokenizer(self._upstreams.texts, self.shelf.find, lenders)

    def _backends(self, pool: EnginePool) -> dict[str, Backend | Pushing]:
        """Each behind what fetches images for it, where that is on."""
        groups = self._upstreams.groups
        if self._images is None:
            return {ENGINE: pool, UPSTREAM: groups}
        pictured = Pictured(groups, self._images, self._upstreams.to_be_fetched)
        return {ENGINE: PulledPictured(pool, self._images), UPSTREAM: pictured}

    def renewed(self, settings: Settings, parts: Parts) -> Parts:
        """The parts under changed settings. Reads the disk: not for the event loop."""
        sealing = load_or_create(settings.home) if settings.surface.message_encryption else None
        control = control_plane(settings, self._store, self._pepper, self._directory, self.find_model, sealing)
        moderation = self._next_moderation = Moderation(settings, self._moderation_watch, self._moderation_of)
        moderation.warn(self._endpoints.list())
        return replace(
            parts,
            backends=moderation.over(self._answering),
            control=control,
            sealing=sealing,
            admin=self._admin() if settings.admin.enabled else None,
        )

    def _moderation_of(self, endpoint: Endpoint) -> str:
        """A bot that has chosen none has the strategy of what stands behind it."""
        if endpoint.moderation or (bot := self._bots.bot(endpoint.id)) is None:
            return endpoint.moderation
        behind = self._directory.endpoint(bot.endpoint_id)
        return behind.moderation if behind is not None else ""

    def adjust(self, settings: Settings) -> None:
        """Takes in what engines can change while they run. For the event loop."""
        before, self._moderation = self._moderation, self._next_moderation
        if before is not self._moderation:
            self._tasks.append(asyncio.create_task(before.retire()))
        engine = settings.engine
        self._embedder.adjust(idle_stop_s=engine.idle_stop_s)
        if self._pool is not None:
            self._pool.adjust(
                queue_limit=engine.queue_limit, queue_wait_s=engine.queue_wait_s, idle_stop_s=engine.idle_stop_s
            )

    def _admin(self) -> Commands:
        return admin_commands(
            self._store,
            self._pepper,
            self._ring,
            self.find_model,
            lambda: (*models_shown(self.shelf.models), *self._upstreams.models()),
            lambda: status_of(self._troubles(), self._warnings(), self._gauges()),
            self._knowledge.has_collection,
            self._knowledge.holdings,
        )

    def close(self) -> None:
        """Closes journal and database, everything in the journal written."""
        try:
            self._journal.close(self._drain.close())
            self._write_used()
        finally:
            self._store.close()

    def _write_used(self) -> None:
        try:
            self._directory.write_used().result(CLOSE_S)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("when keys were last used could not be written: %s", error or "the database does not answer")

    def _take_in_journals(self, home: Path) -> None:
        """The journals of processes that this server has no more, as after a start with fewer of them."""
        if self._seat.number == 1:
            own = {journal_path(home, number) for number in range(1, self._seat.count + 1)}
            left = [path for path in journal_paths(home) if path not in own]
            drain_left(left, UsageTable(self._store), self._store)

    async def _startup(self) -> None:
        self._upstreams.begin()
        self._knowledge.begin()
        self._tasks.append(asyncio.create_task(self._watch_models()))
        if self._settings.engine.preload:
            self._tasks.append(asyncio.create_task(self._preload()))

    async def _shutdown(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._plugins.aclose()
        await self._knowledge.aclose()
        await self._moderation.retire()
        await self._upstreams.aclose()
        if self._pool is not None:
            await self._pool.aclose()
        await self._embedder.aclose()

    async def _preload(self) -> None:
        first = next((m for m in self.shelf.models if m.kind == "gguf" and m.is_default), None)
        if first is None or self._pool is None:
            return
        try:
            await self._pool.load(first.card.served_name)
        except ArkwayError as error:
            log.warning("the model %s does not start: %s", first.card.served_name, error.message)

    async def _watch_models(self) -> None:
        """Takes in what `arkway pull` and `arkway models` change while the server runs, within seconds."""
        while True:
            await asyncio.sleep(MODELS_POLL_S)
            try:
                models = await asyncio.to_thread(self.shelf.read)
                if models != self.shelf.models:
                    self._take_in(models)
                await self._ensure_endpoints()
                if not self._aliased:
                    self._aliased = await asyncio.to_thread(self._ensure_aliases)
            except (ArkwayError, OSError) as error:
                log.warning("the installed models could not be looked at, and will be again: %s", error)

    def _take_in(self, models: tuple[InstalledModel, ...]) -> None:
        """The engine learns first what came and last what went, so that no call finds a model that nothing runs."""
        runnable = engine_models(models)
        if self._pool is not None:
            for name, model in runnable.items():
                self._pool.add(name, model)
        self.shelf.show(models)
        if self._pool is not None:
            self._pool.keep(runnable.keys())

    async def _ensure_endpoints(self) -> None:
        """In a thread, which waits for the database's own: the event loop must not."""
        new = self._served_names() - self._with_endpoint
        if new:
            made = await asyncio.to_thread(self._make_endpoints, sorted(new))
            self._with_endpoint |= new
            for endpoint in made:
                log.info("the model %s is served and has the endpoint %s", endpoint.model_name, endpoint.id)

    def _make_endpoints(self, models: Sequence[str]) -> tuple[Endpoint, ...]:
        """Other processes of this server see the same models at the same time."""
        with self._store.alone():
            return self._endpoints.ensure(models, int(time.time()))

    def _served_names(self) -> set[str]:
        return {model.name for model in self.shelf.models} | self._upstreams.names()

    def _ensure_aliases(self) -> bool:
        """Retired models' names stand for the first chat model from the moment it is there; False until then."""
        model = default_chat(self.shelf.models)
        if model is None:
            return False
        made = self._aliases.ensure(model.name, model.version, int(time.time()))
        if made:
            log.info("%d names of retired models stand for %s; see `arkway aliases list`", len(made), model.name)
        return True

    def _gauges(self) -> Reading:
        engines = self._pool.status() if self._pool is not None else ()
        return {
            "ledger_lag_bytes": self._drain.lag,
            "ledger_open_attempts": self._drain.open_attempts,
            **self._upstreams.gauges(),
            "engine_ready": sum(engine.ready for engine in engines),
            "engine_queue": sum(engine.queue for engine in engines),
            "engine_in_flight": sum(engine.in_flight for engine in engines),
            "engine_restarts": sum(engine.restarts for engine in engines),
        }

    def _troubles(self) -> tuple[str, ...]:
        return (self._journal.trouble,) if self._journal.trouble else ()

    def _warnings(self) -> tuple[str, ...]:
        return (self._store.trouble,) if self._store.trouble else ()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _engine_settings(settings: Settings, processes: int = 1) -> EngineSettings:
    """Each process runs engines of its own, on its share of the machine."""
    engine = settings.engine
    if processes > 1:
        threads = max(1, (engine.threads or usable_cpus()) // processes)
        memory_bytes = memory_cap_bytes(engine.memory_mib * MIB) // processes
        shared = msgspec.structs.replace(engine, threads=threads, memory_mib=max(1, memory_bytes // MIB))
        return _engine_settings(msgspec.structs.replace(settings, engine=shared))
    return EngineSettings(
        slots=engine.slots,
        threads=engine.threads,
        memory_bytes=engine.memory_mib * MIB,
        idle_stop_s=engine.idle_stop_s,
        queue_limit=engine.queue_limit,
        queue_wait_s=engine.queue_wait_s,
    )


def first_key_path(settings: Settings) -> Path:
    """Where the first key is kept when there was no terminal to show it on."""
    return settings.home / "first-key"
