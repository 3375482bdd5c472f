"""How much of its limits a call may take: guessed before it runs, settled by what was metered.

The guess for a prompt is one token for every three octets of UTF-8: about right for Chinese, a third too much for
English. The guess for an answer is the limit that the caller sets on it, or else the model's own default one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from arkway.core.caller import Caller
from arkway.core.chat import ChatRequest, ImagePart, Message, Usage
from arkway.core.limit import Demand, Used
from arkway.core.model import Deployment
from arkway.ports import Directory, Hold, Limiter

OCTETS_PER_TOKEN = 3
MESSAGE_TOKENS = 4
IMAGE_TOKENS = 1312
"""The vendor's most for one image."""

CostOf = Callable[[str, Usage, int], float]
"""What the use of a served model costs that is called at that moment (epoch milliseconds)."""


def free(_model: str, _usage: Usage, _at_ms: int) -> float:
    """Where there are no prices."""
    return 0.0


class Reservation:
    """A hold, and how to tell it what the call has used."""

    __slots__ = ("_at_ms", "_cost_of", "_hold", "_model")

    def __init__(self, hold: Hold, model: str, at_ms: int, cost_of: CostOf | None) -> None:
        self._hold, self._model, self._at_ms, self._cost_of = hold, model, at_ms, cost_of

    def settle(self, usage: Usage, *, counted: bool = True) -> None:
        """``counted``: it counts as a request, too."""
        cost = self._cost_of(self._model, usage, self._at_ms) if self._cost_of else 0.0
        self._hold.settle(Used(usage.total_tokens, cost, 1 if counted else 0))


class Wanted:
    """What a call wants of its limits."""

    __slots__ = ("cost_of", "demand", "model")

    def __init__(self, demand: Demand, model: str, cost_of: CostOf | None) -> None:
        self.demand, self.model, self.cost_of = demand, model, cost_of

    def reservation(self, hold: Hold) -> Reservation:
        return Reservation(hold, self.model, self.demand.now_ms, self.cost_of)


class Reserve:
    """Takes what calls need from their limits."""

    def __init__(self, directory: Directory, limiter: Limiter, cost_of: CostOf = free) -> None:
        self._directory, self._limiter, self._cost_of = directory, limiter, cost_of

    def wanted(self, caller: Caller, deployment: Deployment, now_ms: int, guess: Usage) -> Wanted | None:
        """None where there is no limit."""
        rules = self._directory.limits(caller.account, caller.project, caller.key_id, deployment.endpoint.id)
        if not rules:
            return None
        model = deployment.card.served_name
        cost_of = self._cost_of if any(rule.kind == "cost" for rule in rules) else None
        cost = cost_of(model, guess, now_ms) if cost_of else 0.0
        return Wanted(Demand(rules, now_ms, guess.total_tokens, cost), model, cost_of)

    def take_nowait(self, wanted: Wanted) -> Reservation | None:
        """None where the limiter has to be waited for. Raises RateLimited, QuotaExhausted."""
        hold = self._limiter.hold_nowait(wanted.demand)
        return wanted.reservation(hold) if hold is not None else None

    async def take(self, wanted: Wanted) -> Reservation:
        """Waits only for a limiter that has to. Raises RateLimited, QuotaExhausted."""
        return self.take_nowait(wanted) or wanted.reservation(await self._limiter.hold(wanted.demand))


def chat(deployment: Deployment, request: ChatRequest) -> Usage:
    """The most that a chat call is likely to use; never more than the model's context for each answer."""
    card = deployment.card
    prompt = sum(map(_message, request.messages))
    if request.tools:
        prompt += sum(_text(str(tool.parameters)) for tool in request.tools)
    prompt = min(prompt, card.context_tokens)
    answer = min(request.max_tokens or card.default_output_tokens, max(1, card.context_tokens - prompt))
    return Usage(prompt, answer * request.n, provenance="estimated")


def texts(texts: Iterable[str]) -> Usage:
    """What reading these is likely to use."""
    return Usage(sum(map(_text, texts)), provenance="estimated")


def _message(message: Message) -> int:
    content = message.content
    if type(content) is str and not message.tool_calls:
        return MESSAGE_TOKENS + _text(content)
    parts = message.content if isinstance(message.content, tuple) else ()
    images = sum(isinstance(part, ImagePart) for part in parts)
    called = sum(_text(call.arguments) for call in message.tool_calls)
    return MESSAGE_TOKENS + _text(message.text()) + called + IMAGE_TOKENS * images


def _text(text: str) -> int:
    octets = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return -(-octets // OCTETS_PER_TOKEN)
