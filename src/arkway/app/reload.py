"""Changed settings, taken in while the server runs.

Settings are never changed in place: a new tree is read, checked and prepared beside the old one, then takes its place
in one step on the event loop. What goes wrong before that step leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import uvicorn

from arkway.app import Parts, Wiring, change_limits
from arkway.app.installation import Installation
from arkway.app.listeners import Https, tls_context
from arkway.config import Edge, Settings, known_keys
from arkway.core.errors import ArkwayError
from arkway.telemetry.log import level_of, set_level

log = logging.getLogger("arkway.reload")

LIVE = frozenset(
    (
        "server.log_level",
        "server.access_log",
        "server.drain_s",
        *(f"edge.{name}" for name in Edge.__struct_fields__),
        "tls.certificate",
        "tls.key",
        "surface.v2_model_names",
        "surface.v3_model_names",
        "surface.openai_model_names",
        "surface.legacy_mode",
        "surface.message_encryption",
        "signing.regions",
        "signing.max_skew_s",
        "signing.public_hosts",
        "stream.heartbeat_s",
        "stream.first_event_s",
        "stream.next_event_s",
        "stream.total_s",
        "engine.queue_limit",
        "engine.queue_wait_s",
        "engine.idle_stop_s",
        "control.api_key_max_s",
        "admin.enabled",
        "moderation.default",
        "moderation.strategies",
    )
)
"""Settings that change while the server runs. All others are what it was started with."""

Take = Callable[[], None]


def changed(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys whose values are different, dotted."""
    return tuple(key for key in known_keys() if _value(old, key) != _value(new, key))


def merged(old: Settings, new: Settings) -> Settings:
    """The old settings with what can change taken from the new ones."""
    sections: dict[str, Any] = {}
    for key in changed(old, new):
        if key in LIVE:
            section, _, name = key.partition(".")
            before = sections.get(section, getattr(old, section))
            sections[section] = msgspec.structs.replace(before, **{name: _value(new, key)})
    return msgspec.structs.replace(old, **sections)


class Reloader:
    """Reads the settings again whenever `ask` is called, and lets them be taken in.

    ``read`` gives the settings now in force outside. ``prepare`` does everything that can fail, in a thread, and gives
    back the step that takes them in, on the event loop. Both raise errors of the tree.
    """

    def __init__(self, settings: Settings, read: Callable[[], Settings]) -> None:
        self.settings = settings
        self._read = read
        self._prepare: Callable[[Settings], Take] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        self._trouble = ""

    def ask(self) -> None:
        """For a signal handler, at any time: before `start` it is remembered, several at a time are one."""
        self._asked = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin)

    def start(self, prepare: Callable[[Settings], Take]) -> None:
        """From now on, on this event loop."""
        self._prepare, self._loop = prepare, asyncio.get_running_loop()
        self._begin()

    def notes(self) -> tuple[str, ...]:
        """That the settings read last are wrong, for readiness, which anybody can see: not what is in them."""
        return ("changed settings were not taken in, the old ones stay: see the log",) if self._trouble else ()

    def _begin(self) -> None:
        if self._asked and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._asked:
            self._asked = False
            try:
                await self._reload()
            except ArkwayError as error:
                self._trouble = f"changed settings were not taken in, the old ones stay: {error.message}"
                log.error("%s", self._trouble)
            except Exception:
                self._trouble = "changed settings were not taken in, the old ones stay: see the log"
                log.exception("changed settings were not taken in, the old ones stay")

    async def _reload(self) -> None:
        wanted = await asyncio.to_thread(self._read)
        assert self._prepare is not None
        found = changed(self.settings, wanted)
        settings = merged(self.settings, wanted)
        take = await asyncio.to_thread(self._prepare, settings)
        take()
        self.settings, self._trouble = settings, ""
        _tell(found)


def preparing(
    installation: Installation, wiring: Wiring, parts: Parts, config: uvicorn.Config, https: Https | None
) -> Callable[[Settings], Take]:
    """How a running server takes in settings; certificates are read again even where no setting has changed."""

    def prepare(settings: Settings) -> Take:
        renewed = installation.renewed(settings, parts)
        context = tls_context(settings) if https is not None else None

        def take() -> None:
            wiring.rewire(settings, renewed)
            installation.adjust(settings)
            change_limits(settings, wiring.app, config)
            config.timeout_graceful_shutdown = round(settings.server.drain_s)
            if https is not None and context is not None:
                https.show(context)
            set_level(level_of(settings.server.log_level, access_log=settings.server.access_log))

        return take

    return prepare


def _tell(found: tuple[str, ...]) -> None:
    """Names alone: a value may hold a password."""
    live = ", ".join(key for key in found if key in LIVE)
    log.info("settings were read again; %s", f"changed: {live}" if live else "none that can change has changed")
    if waiting := ", ".join(key for key in found if key not in LIVE):
        log.warning("these settings have changed and take effect when the server starts again: %s", waiting)


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value
