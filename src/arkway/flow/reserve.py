"""How much of its limits a call may take: guessed before it runs, settled by what was metered.

The guess for a prompt is one token for every three octets of UTF-8: about right for Chinese, a third too much for
English. The guess for an answer is the limit that the caller sets on it, or else the model's own default one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from arkway.core.chat import ChatRequest, ImagePart, Message, Usage
from arkway.core.limit import Demand, Used
from arkway.core.model import Deployment
from arkway.core.transient import Transient
from arkway.flow.route import Clearance
from arkway.ports import Hold, Limiter

OCTETS_PER_TOKEN = 3
MESSAGE_TOKENS = 4
IMAGE_TOKENS = 1312
"""The vendor's most for one image."""

CostOf = Callable[[str, Usage, int], float]
"""What the use of a served model costs that is called at that moment (epoch milliseconds)."""


def free(_model: str, _usage: Usage, _at_ms: int) -> float:
    """Where there are no prices."""
    return 0.0


class Reservation(Transient):
    """What a call wants of its limits, and, once taken, how to tell them what it has used.

    ``cost_of`` None = none of the limits is on cost.
    """

    demand: Demand
    model: str
    cost_of: CostOf | None = None
    hold: Hold | None = None

    def settle(self, usage: Usage, *, counted: bool = True) -> None:
        """``counted``: it counts as a request, too. Once, and only after it was taken."""
        if self.hold is not None:
            cost = self.cost_of(self.model, usage, self.demand.now_ms) if self.cost_of else 0.0
            self.hold.settle(Used(usage.prompt_tokens + usage.completion_tokens, cost, 1 if counted else 0))


class Reserve:
    """Takes what calls need from their limits."""

    def __init__(self, limiter: Limiter, cost_of: CostOf = free) -> None:
        self._limiter, self._cost_of = limiter, cost_of

    def wanted(self, clearance: Clearance, now_ms: int, guess: Usage) -> Reservation:
        """What a call of this clearance wants, nothing taken yet."""
        cost_of = self._cost_of if clearance.costs else None
        cost = cost_of(clearance.model, guess, now_ms) if cost_of else 0.0
        demand = Demand(clearance.rules, now_ms, guess.prompt_tokens + guess.completion_tokens, cost)
        return Reservation(demand, clearance.model, cost_of)

    def take_nowait(self, wanted: Reservation) -> bool:
        """False where the limiter has to be waited for. Raises RateLimited, QuotaExhausted."""
        wanted.hold = self._limiter.hold_nowait(wanted.demand)
        return wanted.hold is not None

    async def take(self, wanted: Reservation) -> None:
        """Waits only for a limiter that has to. Raises RateLimited, QuotaExhausted."""
        if not self.take_nowait(wanted):
            wanted.hold = await self._limiter.hold(wanted.demand)


def chat(deployment: Deployment, request: ChatRequest) -> Usage:
    """The most that a chat call is likely to use; never more than the model's context for each answer."""
    card = deployment.card
    prompt = 0
    for message in request.messages:
        content = message.content
        if type(content) is str and not message.tool_calls:
            octets = len(content) if content.isascii() else len(content.encode(errors="surrogatepass"))
            prompt += MESSAGE_TOKENS - (-octets // OCTETS_PER_TOKEN)
        else:
            prompt += _message(message)
    if request.tools:
        prompt += sum(_text(str(tool.parameters)) for tool in request.tools)
    prompt = min(prompt, card.context_tokens)
    answer = min(request.max_tokens or card.default_output_tokens, max(1, card.context_tokens - prompt))
    return Usage(prompt, answer * request.n, provenance="estimated")


def texts(texts: Iterable[str]) -> Usage:
    """What reading these is likely to use."""
    return Usage(sum(map(_text, texts)), provenance="estimated")


def _message(message: Message) -> int:
    parts = message.content if isinstance(message.content, tuple) else ()
    images = sum(isinstance(part, ImagePart) for part in parts)
    called = sum(_text(call.arguments) for call in message.tool_calls)
    return MESSAGE_TOKENS + _text(message.text()) + called + IMAGE_TOKENS * images


def _text(text: str) -> int:
    octets = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return -(-octets // OCTETS_PER_TOKEN)
