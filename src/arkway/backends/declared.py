"""The tokenizer that a model's card names: for models whose own servers have no tokenization."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from arkway.core.caller import Call
from arkway.core.embedding import Tokenized, TokenizeRequest
from arkway.core.errors import BackendUnavailable, UnsupportedModel
from arkway.core.model import Deployment, ModelCard
from arkway.ports import Tokenizer

ASK_AGAIN_S = 60.0
"""For so long a server that has no tokenization is not asked for it again."""

Find = Callable[[str, str], tuple[ModelCard, str] | None]
Lend = Callable[[Deployment, TokenizeRequest, Call], Awaitable[tuple[Tokenized, ...]]]

log = logging.getLogger("arkway.tokenizer")


class DeclaredTokenizer:
    """Implements `arkway.ports.Tokenizer`: ``own``, and where that has none, the model that the card names.

    ``find`` finds installed models and the key of what runs each, ``lenders`` cut texts as these do, by that key.
    ``clock_s`` is monotonic.
    """

    def __init__(
        self, own: Tokenizer, find: Find, lenders: Mapping[str, Lend], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._own, self._find, self._lenders, self._clock_s = own, find, lenders, clock_s
        self._without: dict[str, float] = {}

    async def tokenize(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        """As ``own``; BackendUnavailable where the named model is not installed."""
        card = deployment.card
        if not card.tokenizer:
            return await self._own.tokenize(deployment, request, call)
        if self._without.get(card.served_name, 0.0) <= self._clock_s():
            try:
                return await self._own.tokenize(deployment, request, call)
            except UnsupportedModel:
                self._without[card.served_name] = self._clock_s() + ASK_AGAIN_S
        lender, lend = self._lender(card)
        return await lend(msgspec.structs.replace(deployment, card=lender), request, call)

    def _lender(self, card: ModelCard) -> tuple[ModelCard, Lend]:
        name, _, version = card.tokenizer.partition(":")
        found = self._find(name, version)
        lend = self._lenders.get(found[1]) if found is not None else None
        if found is None or lend is None:
            log.warning("`%s` is to have the tokenizer of `%s`, which is not installed", card.name, card.tokenizer)
            raise BackendUnavailable(
                f"`{card.served_name}` has the tokenizer of `{card.tokenizer}`, which is not installed here; the "
                f"operator installs it with `arkway pull {card.tokenizer}`"
            )
        return found[0], lend
