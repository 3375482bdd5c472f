"""Bots, as one backend over the backends of the models behind them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from arkway.backends.bot.call import BotCall
from arkway.backends.bot.errands import Desk, PluginCall, PluginObserver
from arkway.core.bot import ActionKind, Bot
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, EndpointNotFound
from arkway.core.model import Deployment
from arkway.ports import Ledger, Pushing, Sink
from arkway.ports.lookup import Plugin

Find = Callable[[str], Bot | None]
Inner = Callable[[Bot], tuple[Deployment, Pushing]]


def now_ms() -> int:
    """The wall's clock."""
    return time.time_ns() // 1_000_000


def nobody(_: PluginCall) -> None:
    """An observer that does not care."""


class Bots:
    """Implements `arkway.ports.Pushing` and `Heeding`: the endpoint's id is the bot's.

    ``find`` gives the bot; ``inner`` its own endpoint and the backend of the model there, and raises errors of the tree
    where there is none; ``plugins`` what there is to look things up with, just now. ``ledger`` gets an entry for each
    action. ``clock_ms`` is the wall's, epoch milliseconds. ``observer`` hears of every plugin that was asked.
    """

    def __init__(
        self,
        find: Find,
        inner: Inner,
        plugins: Callable[[], Mapping[ActionKind, Plugin]],
        ledger: Ledger,
        clock_ms: Callable[[], int] = now_ms,
        observer: PluginObserver = nobody,
    ) -> None:
        self._find, self._inner = find, inner
        self._desk = Desk(plugins, ledger, clock_ms, observer, set())

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> BotCall:
        """As `arkway.ports.Pushing.start`. Raises EndpointNotFound for a bot that is gone, and what ``inner`` raises.

        What the model behind the bot refuses at once raises as well, unless something is looked up first.
        """
        bot = self._find(deployment.endpoint.id)
        if bot is None:
            raise EndpointNotFound(request.asked)
        running = BotCall(self._desk, bot, self._inner(bot), request, call, sink)
        running.begin()
        return running

    def heeded(self, deployment: Deployment, request: ChatRequest) -> ChatRequest:
        """As `arkway.ports.Heeding.heeded`: what the backend behind the bot heeds. Errors are `start`'s to raise."""
        bot = self._find(deployment.endpoint.id)
        if bot is None:
            return request
        try:
            inner, pushing = self._inner(bot)
        except ArkwayError:
            return request
        heeded = getattr(pushing, "heeded", None)
        return request if heeded is None else heeded(inner, request)
