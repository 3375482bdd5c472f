"""The upstreams and groups of the database as backends of this process, in step with it.

What changed is replaced, everything else stays the same object, with its connections and what it knows. What is gone
is closed when its calls have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from arkway.admin.groups import default_of
from arkway.backends.group import Group, Groups
from arkway.backends.group.shadow import COPY_MAX_S, Copying
from arkway.backends.group.texts import Texts
from arkway.backends.upstream.upstream import UpstreamServer
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError, BackendUnavailable
from arkway.core.model import Deployment, ModelCard
from arkway.core.upstream import Credential, Member, Upstream
from arkway.core.upstream import Group as GroupValue
from arkway.http.admin.shapes import Model, model_shown
from arkway.ports import Pushing, Running, Sink
from arkway.stores.keyring import KeyRing
from arkway.stores.store import Store
from arkway.stores.upstreams import Known, follow_upstreams
from arkway.telemetry.metrics import Reading
from arkway.wire.images import is_web

UPSTREAM = "upstream"
LOOK_S = 0.25

log = logging.getLogger("arkway.upstreams")


def unheard() -> None:
    """Where nobody asks for changes."""


class _Running(msgspec.Struct, frozen=True):
    """A server, and what it was made of."""

    upstream: Upstream
    credential: Credential
    server: UpstreamServer


class _Serving(msgspec.Struct, frozen=True):
    """A group, and the servers that it was made with."""

    group: Group
    servers: tuple[UpstreamServer | None, ...]


class Absent:
    """Implements `arkway.ports.Pushing` for a member whose upstream cannot be used."""

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        """Raises BackendUnavailable."""
        raise BackendUnavailable("a server behind this model cannot be used just now; its operator has to mend that")


class Upstreams:
    """Holds servers and groups. `begin` and `aclose` are for the event loop; `find` and `models` for anywhere.

    ``groups`` serves chat, ``texts`` embeddings and tokens.
    """

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        copy_max_s: float = COPY_MAX_S,
        changed: Callable[[], None] = unheard,
    ) -> None:
        """``copy_max_s``: how long a shadow's copy may take; as long as a call. ``changed`` is called whenever `find`
        may give another answer than before, at once, on whichever thread.
        """
        self._changed = changed
        self._copying = Copying(time.monotonic, copy_max_s=copy_max_s)
        self.groups = Groups()
        self.texts = Texts(self.groups, self._embed, self._tokenize)
        self._known = Known()
        self._cards: Mapping[tuple[str, str], ModelCard] = {}
        self._servers: dict[str, _Running] = {}
        self._serving: dict[str, _Serving] = {}
        self._past: list[_Serving] = []  # groups that are gone, while calls of theirs are under way
        self._closing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        follow_upstreams(store, ring, self._told)

    # What is there

    def find(self, name: str, version: str) -> tuple[ModelCard, str] | None:
        """The card of a group's model ("" = its default version), and the key of its backend."""
        card = self._cards.get((name, version))
        return None if card is None else (card, UPSTREAM)

    def names(self) -> frozenset[str]:
        """Every model that a group answers for."""
        return frozenset(name for name, _ in self._cards)

    def models(self) -> tuple[Model, ...]:
        """As the Admin API shows models."""
        groups = self._known.groups
        cards = _cards(groups)
        return tuple(
            model_shown(group.card, is_default=cards[group.card.name, ""] == group.card, source=UPSTREAM)
            for group in groups
        )

    def to_be_fetched(self, deployment: Deployment, url: str) -> bool:
        """Is it an image that a member of the group would have to fetch? Ark fetches from where it is, over TLS."""
        if not is_web(url):
            return False
        group = self.groups.group(deployment.card.served_name)
        return not url.lower().startswith("https:") or group is None or not self._all_ark(group.value)

    def _all_ark(self, value: GroupValue) -> bool:
        members = (self._servers.get(member.upstream) for member in value.members)
        return all(running is not None and running.upstream.kind == "ark" for running in members)

    def gauges(self) -> Reading:
        """Connections, and members by how they are, over all upstreams."""
        stats = [running.server.client.stats() for running in self._servers.values()]
        members = self.groups.readings()
        conditions = [member.condition for member in members]
        return {
            "upstream_connections_open": sum(each.open for each in stats),
            "upstream_connections_idle": sum(each.idle for each in stats),
            "upstream_waiting": sum(each.waiting for each in stats),
            "upstream_members": len(members),
            "upstream_members_well": conditions.count("well"),
            "upstream_members_broken": conditions.count("broken"),
            "upstream_members_trying": conditions.count("trying"),
            "upstream_members_unhealthy": conditions.count("unhealthy"),
            "upstream_members_waiting": conditions.count("waiting"),
            "upstream_calls": sum(member.calls for member in members),
            "upstream_failures": sum(member.failures for member in members),
            "upstream_retries": sum(member.retries for member in members),
        }

    # In step with the database

    def begin(self) -> None:
        """From now on on this event loop."""
        self._loop = asyncio.get_running_loop()
        self._take_in()
        self.groups.begin()

    async def aclose(self) -> None:
        """Ends every connection; calls under way fail."""
        self._loop = None
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self.groups.aclose()
        await asyncio.gather(*(running.server.aclose() for running in self._servers.values()))

    def _told(self, known: Known) -> None:
        """On a thread of the store's. Before the loop runs nothing serves, and the cards are all that is asked for."""
        self._known = known
        loop = self._loop
        if loop is None:
            self._show(known)
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._take_in)

    def _take_in(self) -> None:
        """In one step of the loop, so that no call finds a model that nothing serves."""
        if self._loop is None:
            return
        known = self._known
        servers, serving = self._servers, self._serving
        self._servers = dict(self._new_servers(known))
        self._serving = {group.card.served_name: self._served(group) for group in known.groups}
        self.groups.replace(each.group for each in self._serving.values())
        self._show(known)
        here = {id(each) for each in self._serving.values()}
        past = [each for each in (*self._past, *serving.values()) if id(each) not in here]
        self._past = [each for each in past if each.group.running]
        staying = {id(running.server) for running in self._servers.values()}
        for gone in (running.server for running in servers.values() if id(running.server) not in staying):
            users = [each.group for each in self._past if any(server is gone for server in each.servers)]
            task = self._loop.create_task(_close_when_idle(gone, users))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _show(self, known: Known) -> None:
        self._cards = _cards(known.groups)
        self._changed()

    def _new_servers(self, known: Known) -> Iterator[tuple[str, _Running]]:
        for upstream, credential in known.upstreams:
            there = self._servers.get(upstream.name)
            if there is not None and (there.upstream, there.credential) == (upstream, credential):
                yield upstream.name, there
                continue
            try:
                yield upstream.name, _Running(upstream, credential, UpstreamServer(upstream, credential))
            except ArkwayError as error:
                log.warning("the upstream %s cannot be used: %s", upstream.name, error.message)

    def _served(self, value: GroupValue) -> _Serving:
        """The group that is there where nothing about it has changed; else one that knows of its members what that one
        did, but for those whose server is another one now."""
        running = (self._servers.get(member.upstream) for member in value.members)
        servers = tuple(None if each is None else each.server for each in running)
        there = self._serving.get(value.card.served_name)
        if there is not None and there.group.value == value and _same(there.servers, servers):
            return there
        before = None if there is None else there.group
        return _Serving(Group(value, self._pushing, copying=self._copying, before=before), servers)

    def _pushing(self, member: Member) -> Pushing:
        running = self._servers.get(member.upstream)
        return Absent() if running is None else running.server.model(member.model)

    # One member

    async def _embed(self, member: Member, request: EmbedRequest, call: Call) -> EmbedReply:
        return await self._server(member).embed(member.model, request, call)

    async def _tokenize(self, member: Member, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        return await self._server(member).tokenize(member.model, request, call)

    def _server(self, member: Member) -> UpstreamServer:
        running = self._servers.get(member.upstream)
        if running is None:
            raise BackendUnavailable("a server behind this model cannot be used just now")
        return running.server


def _same(one: tuple[UpstreamServer | None, ...], other: tuple[UpstreamServer | None, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _cards(groups: tuple[GroupValue, ...]) -> dict[tuple[str, str], ModelCard]:
    cards = {(group.card.name, group.card.version): group.card for group in groups}
    for name in {group.card.name for group in groups}:
        default = default_of(group for group in groups if group.card.name == name)
        assert default is not None
        cards[name, ""] = default.card
    return cards


async def _close_when_idle(server: UpstreamServer, users: Sequence[Group]) -> None:
    """Calls of the groups that used it end first. Cancelled, it closes at once."""
    try:
        while any(group.running for group in users):  # noqa: ASYNC110 (groups count, and tell nobody)
            await asyncio.sleep(LOOK_S)
    finally:
        await server.aclose()
