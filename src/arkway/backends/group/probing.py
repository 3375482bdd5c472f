"""Asks members for a token now and then: one that gives none is passed over until it does.

A model that does not chat is not asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from arkway.backends.group.member import GroupMember
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Message
from arkway.core.errors import ArkwayError, BackendFailed, BackendTimeout, CallerError, Overloaded, RateLimited
from arkway.core.events import Event, Progress
from arkway.core.model import Deployment, Endpoint, ModelCard
from arkway.ports import Pushing

log = logging.getLogger("arkway.group")

TOKEN_MAX_S = 30.0
"""How long a member may take for a probe's one token."""

PROBE = Call("probe")


class Probing:
    """The probes of one group: all members at once, ``every_s`` seconds after the last ones ended."""

    def __init__(
        self,
        card: ModelCard,
        members: Sequence[GroupMember],
        every_s: float,
        clock_s: Callable[[], float],
        token_max_s: float = TOKEN_MAX_S,
    ) -> None:
        self._deployment = deployment_of(card)
        self._members = members
        self._every_s = every_s
        self._clock_s = clock_s
        self._token_max_s = token_max_s
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """From now on, in the running event loop; never where ``every_s`` is 0."""
        chats = "chat" in self._deployment.card.capabilities
        if chats and self._every_s > 0 and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def once(self) -> None:
        """One round."""
        await asyncio.gather(*map(self._probe, self._members))

    async def _go_on(self) -> None:
        while True:
            await self.once()
            await asyncio.sleep(self._every_s)

    async def _probe(self, member: GroupMember) -> None:
        try:
            await generate_token(member.pushing, self._deployment, self._token_max_s)
        except (CallerError, RateLimited, Overloaded):
            member.healthy = True  # it does not take this request, or has too much to do, but it answers
        except ArkwayError:
            member.healthy = False
        except Exception:
            log.exception("internal error in a probe")
            member.healthy = False
        else:
            member.healthy = True
            member.breaker.answered(self._clock_s())


async def generate_token(pushing: Pushing, deployment: Deployment, token_max_s: float = TOKEN_MAX_S) -> None:
    """Has the backend generate one token. Raises BackendTimeout, and what it fails with."""
    request = ChatRequest(
        asked=deployment.card.served_name, messages=(Message("user", "1"),), max_tokens=1, stream=True
    )
    sink = _FirstToken(asyncio.get_running_loop().create_future())
    running = pushing.start(deployment, request, PROBE, sink)
    try:
        async with asyncio.timeout(token_max_s):
            await sink.token
    except TimeoutError:
        raise BackendTimeout("the model did not answer in time") from None
    finally:
        running.cancel()


def deployment_of(card: ModelCard) -> Deployment:
    """A deployment of the model that is nobody's."""
    endpoint = Endpoint("", card.name, card.name, card.version, "running", "", "", 0)
    return Deployment(endpoint, card, "upstream")


class _FirstToken:
    def __init__(self, token: asyncio.Future[None]) -> None:
        self.token = token

    def events(self, batch: Sequence[Event]) -> None:
        if not self.token.done() and any(not isinstance(event, Progress) for event in batch):
            self.token.set_result(None)

    def ended(self) -> None:
        self.failed(BackendFailed("the model gave no answer"))

    def failed(self, error: ArkwayError) -> None:
        if not self.token.done():
            self.token.set_exception(error)
