"""Embeddings and tokens of a group's models: the same choice, breakers and budget as for chat, one call at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from arkway.backends.group.group import Group
from arkway.backends.group.groups import Groups
from arkway.backends.group.member import GroupMember
from arkway.core.caller import Call
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError, BackendUnavailable, CallerError, QuotaExhausted
from arkway.core.model import Deployment
from arkway.core.upstream import Member

T = TypeVar("T")

Embed = Callable[[Member, EmbedRequest, Call], Awaitable[EmbedReply]]
Tokenize = Callable[[Member, TokenizeRequest, Call], Awaitable[tuple[Tokenized, ...]]]


class Texts:
    """Implements `arkway.ports.Embedder` and `Tokenizer` over groups; ``embed`` and ``tokenize`` ask one member."""

    def __init__(self, groups: Groups, embed: Embed, tokenize: Tokenize) -> None:
        self._groups, self._embed, self._tokenize = groups, embed, tokenize

    async def embed(self, deployment: Deployment, request: EmbedRequest, call: Call) -> EmbedReply:
        """Raises errors of the tree."""
        return await _asked(self._group(deployment), lambda member: self._embed(member, request, call))

    async def tokenize(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        """Raises errors of the tree."""
        return await _asked(self._group(deployment), lambda member: self._tokenize(member, request, call))

    def _group(self, deployment: Deployment) -> Group:
        group = self._groups.group(deployment.card.served_name)
        if group is None:
            raise BackendUnavailable("the model behind this endpoint is not served here just now")
        return group


async def _asked(group: Group, ask: Callable[[Member], Awaitable[T]]) -> T:
    """One member after the other, until one answers or the call may go nowhere any more."""
    asked: list[GroupMember] = []
    error: ArkwayError | None = None
    while (member := group.way(b"", asked, group.clock_s())) is not None:
        trying = member.enter(retry=bool(asked))
        asked.append(member)
        try:
            result = await ask(member.value)
        except CallerError as refused:
            member.failed(refused, trying, group.clock_s())
            raise
        except ArkwayError as failure:
            member.failed(failure, trying, group.clock_s())
            error = failure
        except BaseException:
            member.abandoned(trying)
            raise
        else:
            if trying:
                member.proved(group.clock_s())
            member.succeeded(group.clock_s())
            return result
    if error is None or isinstance(error, QuotaExhausted):
        # The upstream's account is out of quota, not the caller.
        raise group.stuck(group.clock_s())
    raise error
