"""The strategies of moderation that the section ``[moderation]`` names, around the backends of this process."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping

from arkway.backends.moderation.moderated import Moderated
from arkway.backends.moderation.strategy import Strategy, load_strategy
from arkway.config import Settings
from arkway.core.errors import Misconfigured
from arkway.core.model import Deployment, Endpoint
from arkway.flow.pumped import pushing
from arkway.ports import Backend, Pushing
from arkway.telemetry.moderation import ModerationWatch

log = logging.getLogger("arkway.moderation")

ChosenBy = Callable[[Endpoint], str]


def chosen(endpoint: Endpoint) -> str:
    """The strategy that an endpoint's owner chose."""
    return endpoint.moderation


class Moderation:
    """The strategies of one set of settings; new settings make a new one.

    Reads files and compiles: not for the event loop. Raises Misconfigured. ``chosen_by`` gives the name that counts for
    an endpoint: a bot without one of its own has that of what stands behind it. A name that no strategy has means the
    default one, as no name does: owners may have chosen what only the vendor has.
    """

    def __init__(self, settings: Settings, watch: ModerationWatch, chosen_by: ChosenBy = chosen) -> None:
        section = settings.moderation
        if section.default and section.default not in section.strategies:
            raise Misconfigured(f"`moderation.default` names the strategy `{section.default}`, which does not exist")
        self._strategies = {
            name: load_strategy(name, values, settings.home, os.environ) for name, values in section.strategies.items()
        }
        self._default = self._strategies.get(section.default)
        self._watch, self._chosen_by = watch, chosen_by

    def strategy_of(self, deployment: Deployment) -> Strategy | None:
        return self._strategies.get(self._chosen_by(deployment.endpoint), self._default)

    def over(self, backends: Mapping[str, Backend | Pushing]) -> dict[str, Backend | Pushing]:
        """The backends behind moderation; themselves where there is no strategy."""
        if not self._strategies:
            return dict(backends)
        return {
            name: Moderated(pushing(backend), self.strategy_of, self._watch.acted) for name, backend in backends.items()
        }

    def warn(self, endpoints: Iterable[Endpoint]) -> None:
        """Says in the log which names that endpoints have chosen mean nothing here."""
        for name in sorted({endpoint.moderation for endpoint in endpoints} - {"", *self._strategies}):
            log.warning(
                "endpoints have chosen the moderation `%s`, which is no strategy of this server: %s",
                name,
                "the default one counts" if self._default is not None else "they have none",
            )

    async def retire(self) -> None:
        """No new call begins with these strategies."""
        await asyncio.gather(*(strategy.retire() for strategy in self._strategies.values()))
