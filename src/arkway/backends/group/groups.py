"""Every group of this server, found by the model that is deployed; other ones can take their place at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from arkway.backends.group.failover import Failover
from arkway.backends.group.group import Group
from arkway.backends.group.member import MemberReading
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import BackendUnavailable
from arkway.core.model import Deployment
from arkway.ports import Sink


class Groups:
    """Implements `arkway.ports.Pushing` over groups, by their models' names and versions.

    Used from one event loop; `begin` and `aclose` belong to whoever made it.
    """

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self._groups = _by_model(groups)
        self._begun = False
        self._closing: set[asyncio.Task[None]] = set()

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Failover:
        """As `arkway.ports.Pushing.start`. Raises BackendUnavailable where the model has no group."""
        card = deployment.card
        group = self._groups.get((card.name, card.version))
        if group is None:
            raise BackendUnavailable("the model behind this endpoint is not served here just now")
        return group.start(deployment, request, call, sink)

    def heeded(self, deployment: Deployment, request: ChatRequest) -> ChatRequest:
        card = deployment.card
        group = self._groups.get((card.name, card.version))
        return group.heeded(deployment, request) if group is not None else request

    def group(self, served_name: str) -> Group | None:
        return next((group for group in self._groups.values() if group.name == served_name), None)

    def replace(self, groups: Iterable[Group]) -> None:
        """Calls that come from now on meet these; those under way end where they began.

        A group that stays is to be the same object: it keeps what it knows of its members. In the event loop, once
        begun.
        """
        before, self._groups = self._groups, _by_model(groups)
        if not self._begun:
            return
        staying = set(self._groups.values())
        for gone in set(before.values()) - staying:
            task = asyncio.get_running_loop().create_task(gone.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for group in staying:
            group.begin()

    def begin(self) -> None:
        """Starts the probes; in the event loop."""
        self._begun = True
        for group in self._groups.values():
            group.begin()

    async def aclose(self) -> None:
        """Stops the probes. Calls under way go on."""
        self._begun = False
        await asyncio.gather(*(group.aclose() for group in self._groups.values()), *self._closing)

    def readings(self) -> tuple[MemberReading, ...]:
        """Every member of every group, for metrics; labels are bounded by the configuration."""
        return tuple(reading for group in self._groups.values() for reading in group.readings())


def _by_model(groups: Iterable[Group]) -> dict[tuple[str, str], Group]:
    return {(group.value.card.name, group.value.card.version): group for group in groups}
