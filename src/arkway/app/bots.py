"""Bots tied together: what stands behind each, and what they look things up with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from arkway.backends.bot import Bots, PluginCall
from arkway.core.bot import ActionKind, Bot
from arkway.core.errors import BackendUnavailable, EndpointNotFound, EndpointStopped
from arkway.core.model import Deployment, Endpoint, ModelCard
from arkway.flow.pumped import pushing
from arkway.flow.route import FindModel
from arkway.ports import Backend, Ledger, Pushing
from arkway.ports.lookup import Plugin
from arkway.telemetry.plugins import PluginWatch

BOT = "bot"
"""The key of the backend that answers for bots."""


class BotDirectory(Protocol):
    """A directory that knows bots; ``changes`` as in `arkway.ports.Directory`."""

    changes: int

    def bot(self, bot_id: str) -> Bot | None:
        """The bot of this id."""

    def endpoint(self, endpoint_id: str) -> Endpoint | None: ...


class BotModels:
    """What stands behind each bot: its endpoint's model, as it is at the moment of the call."""

    def __init__(self, directory: BotDirectory, find_model: FindModel) -> None:
        """``find_model`` finds installed models, and no bots."""
        self._directory, self._find_model = directory, find_model
        self._changes = -1
        self._deployments: dict[str, Deployment] = {}

    def find(self, name: str, version: str) -> tuple[ModelCard, str] | None:
        """As ``find_model`` does, with bots: a bot's id is a model, and its card that of the model behind it.

        Raises what a call of the bot's own endpoint would be refused with: EndpointNotFound, EndpointStopped,
        BackendUnavailable.
        """
        bot = self._directory.bot(name)
        if bot is None:
            return self._find_model(name, version)
        return self.deployment(bot).card, BOT

    def bot(self, bot_id: str) -> Bot | None:
        return self._directory.bot(bot_id)

    def deployment(self, bot: Bot) -> Deployment:
        """The bot's own endpoint, and what serves it. Raises as `find`."""
        if self._changes != self._directory.changes:
            self._deployments, self._changes = {}, self._directory.changes
        found = self._deployments.get(bot.id)
        if found is None:
            found = self._deployments[bot.id] = self._found(bot)
        return found

    def _found(self, bot: Bot) -> Deployment:
        endpoint = self._directory.endpoint(bot.endpoint_id)
        here = endpoint is not None and (endpoint.account, endpoint.project) == (bot.account, bot.project)
        if endpoint is None or not here or self._directory.bot(endpoint.id) is not None:
            raise EndpointNotFound(bot.endpoint_id)
        if endpoint.status == "stopped":
            raise EndpointStopped(endpoint.id)
        found = self._find_model(endpoint.model_name, endpoint.model_version)
        if found is None:
            raise BackendUnavailable(_not_installed(endpoint))
        return Deployment(endpoint, *found)


def with_bots(
    backends: Mapping[str, Backend | Pushing],
    models: BotModels,
    plugins: Callable[[], Mapping[ActionKind, Plugin]],
    ledger: Ledger,
    watch: PluginWatch,
) -> dict[str, Backend | Pushing]:
    """These backends, and the one that answers for bots, over them."""
    behind = {name: pushing(backend) for name, backend in backends.items()}

    def inner(bot: Bot) -> tuple[Deployment, Pushing]:
        deployment = models.deployment(bot)
        return deployment, behind[deployment.backend]

    def told(call: PluginCall) -> None:
        watch.ended(call.kind, call.result, call.duration_s)

    return {**backends, BOT: Bots(models.bot, inner, plugins, ledger, observer=told)}


def _not_installed(endpoint: Endpoint) -> str:
    model = f"{endpoint.model_name} {endpoint.model_version}".strip()
    pull = f"{endpoint.model_name}:{endpoint.model_version}" if endpoint.model_version else endpoint.model_name
    return (
        f"the model `{model}` behind `{endpoint.id}` is not installed; the operator installs it with "
        f"`arkway pull {pull}`"
    )
