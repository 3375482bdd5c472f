"""Classification: how likely the model finds each label as its whole answer.

The model is shown the text and the labels and asked for one of them. Each label is then scored as the continuation of
the assistant's turn: the log-probability of its tokens, one after another, and of the token that ends the turn, without
which a label would be favoured over any longer one that begins like it.

The engine is asked position by position, on one slot that keeps what it has read. A token is forced by a bias, and the
engine tells its log-probability before any bias, exactly and whatever its rank. Of a token that ends inside a character
the engine tells nothing by itself: it is looked for among the likeliest candidates, and else measured beside one of
them (`Scorer._beside`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import msgspec

from arkway.backends.engine.client import Candidate, Completion, EngineClient, Position
from arkway.backends.engine.prompt import PromptReader
from arkway.backends.engine.rescore import UNLIKELY
from arkway.backends.engine.sampling import GREEDY, TOKEN_MAX_BYTES
from arkway.core.chat import Usage
from arkway.core.classification import ClassifyReply, ClassifyRequest, LabelScore
from arkway.core.errors import BackendFailed, ContextTooLong, InvalidField
from arkway.core.model import ModelCard

LABEL_TOKENS_MAX = 32
POSITIONS_MAX = 512
"""Tokens scored in one call, the ends of the labels included; what labels have in common at their start counts once."""
ASKED = 512
"""Candidates told at a position where more than one token, or one that ends inside a character, is wanted."""
FORCE = 1000.0
LIFT = 100.0
"""Puts two tokens above all others. Small, so that single precision keeps five digits behind the point."""
LEAD = 20.0
"""How far the shown one of two lifted tokens leads: the other is drawn once in 10⁸ times at most."""

CHINESE = re.compile("[\u3400-\u9fff]")
ENGLISH_PROMPT = """\
Text:
{query}

Labels:
{labels}

Classify the text: answer with the one label that fits it, and nothing else."""
CHINESE_PROMPT = """\
文本：
{query}

标签：
{labels}

请对文本进行分类，只回答一个标签。"""


class Question(msgspec.Struct, frozen=True):
    """One call as the engine takes it: the prompt's ids, the ids of every label, and each token's octets.

    ``end`` is the token that ends the assistant's turn, ``letter`` one that is complete by itself.
    """

    ids: list[int]
    labels: tuple[tuple[int, ...], ...]
    octets: dict[int, bytes]
    end: int
    letter: int

    @property
    def body(self) -> dict[str, Any]:
        """What makes two calls the same work for the engine."""
        return {"prompt": self.ids, "labels": self.labels}


def check_question(request: ClassifyRequest, card: ModelCard) -> None:
    """What is too large whatever its tokens are. Raises InvalidField or ContextTooLong."""
    if len(request.labels) > POSITIONS_MAX:
        raise InvalidField(f"there are {len(request.labels)} labels; at most {POSITIONS_MAX} can be scored", "labels")
    fields = {"query": request.query, **{f"labels[{place}]": label for place, label in enumerate(request.labels)}}
    size = sum(_size(text, field) for field, text in fields.items())
    tokens = -(-size // TOKEN_MAX_BYTES)
    if tokens > card.context_tokens:
        raise _too_long(tokens, 1, card, f"query and labels hold {size} bytes, which is {tokens} tokens at the least")


def instruction(request: ClassifyRequest) -> str:
    """What the model is asked: in Chinese where the text or a label has a Chinese character, else in English."""
    template = CHINESE_PROMPT if any(map(CHINESE.search, (request.query, *request.labels))) else ENGLISH_PROMPT
    return template.format(labels="\n".join(f"- {label}" for label in request.labels), query=request.query)


async def read_question(
    client: EngineClient, reader: PromptReader, request: ClassifyRequest, card: ModelCard
) -> Question:
    """The call in the model's own tokens. Raises InvalidField and ContextTooLong before the engine has read a word."""
    ids = await reader.ids([{"role": "user", "content": instruction(request)}], [])
    *labels, letter = map(tuple, await client.ids_of_each([*request.labels, "a"], special=False))
    end = await reader.turn_end()
    _check_labels(request, labels, end)
    longest = max(map(len, labels)) + 1
    if len(ids) + longest > card.context_tokens:
        raise _too_long(len(ids), longest, card, f"the prompt around query and labels has {len(ids)} tokens")
    wanted = sorted({token for label in labels for token in label})
    pieces = await client.pieces(wanted, special=False)
    octets = {token: piece.octets for token, piece in zip(wanted, pieces, strict=True)}
    return Question(ids, tuple(labels), octets, end, letter[-1])


def branches(labels: Iterable[tuple[int, ...]], end: int) -> dict[tuple[int, ...], list[int]]:
    """Every beginning that has to be asked about, and the tokens wanted after it; depth first, each once."""
    found: dict[tuple[int, ...], dict[int, None]] = {}
    for path in sorted({(*label, end) for label in labels}):
        for depth, token in enumerate(path):
            found.setdefault(path[:depth], {})[token] = None
    return {beginning: list(tokens) for beginning, tokens in found.items()}


class Scorer:
    """Asks one question on one slot. ``completion`` is what the engine works on; ``begun`` is told of every answer.

    The prompt is read whole, not taken from an earlier call, so that the same call gives the same figures again.
    """

    def __init__(
        self, client: EngineClient, question: Question, slot: int, begun: Callable[[], None], asked: int = ASKED
    ) -> None:
        self._client = client
        self._question = question
        self._slot = slot
        self._begun = begun
        self._candidates = asked
        self._prompt_read = False
        self.completion: Completion | None = None

    async def reply(self, labels: tuple[str, ...]) -> ClassifyReply:
        """The labels' scores and the likeliest label. Raises BackendFailed when the engine breaks off."""
        question = self._question
        found: dict[tuple[int, ...], float] = {}
        for beginning, wanted in branches(question.labels, question.end).items():
            known = await self._likelihoods(beginning, wanted)
            found |= {(*beginning, token): max(UNLIKELY, known[token].logprob) for token in wanted}
        paths = [(*label, question.end) for label in question.labels]
        steps = [tuple(found[path[: depth + 1]] for depth in range(len(path))) for path in paths]
        totals = [math.fsum(step) for step in steps]
        scores = [
            LabelScore(text, tuple(self._text(token) for token in label), step[:-1])
            for text, label, step in zip(labels, question.labels, steps, strict=True)
        ]
        usage = Usage(len(question.ids), sum(map(len, question.labels)))
        return ClassifyReply(labels[totals.index(max(totals))], tuple(scores), usage)

    def _text(self, token: int) -> str:
        return self._question.octets[token].decode(errors="replace")

    async def _likelihoods(self, beginning: tuple[int, ...], wanted: list[int]) -> dict[int, Candidate]:
        """The wanted tokens after this beginning, and whatever else the engine told of."""
        shown = [token for token in wanted if not ends_inside_character(self._question.octets.get(token, b""))]
        forced = shown[0] if shown else self._question.letter
        known = await self._forced(beginning, forced, 1 if wanted == shown[:1] else self._candidates)
        for token in wanted:
            if token not in known and token in shown:
                known |= await self._forced(beginning, token, 1)
            if token not in known:
                known[token] = await self._beside(beginning, token, known)
        return known

    async def _forced(self, beginning: tuple[int, ...], token: int, candidates: int) -> dict[int, Candidate]:
        """The engine's log-probabilities of a token that is forced, and of the likeliest ones."""
        body = {"n_probs": candidates, "temperature": 0.0, **GREEDY, "logit_bias": [[token, FORCE]]}
        position = await self._asked(beginning, body)
        if position is None:
            return {}
        return {rival.id: rival for rival in (*position.top_logprobs, position)}

    async def _beside(self, beginning: tuple[int, ...], token: int, known: dict[int, Candidate]) -> Candidate:
        """A token the engine does not show, by its odds against one that it shows and whose log-probability is known.

        Both are lifted above all others, the shown one higher. What remains after the cut to two tokens are the odds of
        the one against the other, times the lead. A token that is not one of the two even so is as good as impossible.
        """
        rivals = [rival for rival in known.values() if rival.octets and not ends_inside_character(bytes(rival.octets))]
        shown = max(rivals, key=lambda rival: rival.logprob, default=None)
        if shown is None:
            raise BackendFailed("the engine did not tell its probabilities; send the request again")
        body = {
            "n_probs": 2, "post_sampling_probs": True, "samplers": ["top_k"], "top_k": 2, "temperature": 1.0, "seed": 0,
            "logit_bias": [[shown.id, LIFT + LEAD], [token, LIFT]],
        }  # fmt: skip
        position = await self._asked(beginning, body)
        odds = {rival.id: rival.prob for rival in position.top_probs} if position is not None else {}
        if not odds.get(shown.id):
            raise BackendFailed("the engine did not tell its probabilities; send the request again")
        if not odds.get(token):
            return Candidate(token, "", UNLIKELY)
        return Candidate(token, "", shown.logprob + math.log(odds[token] / odds[shown.id]) + LEAD)

    async def _asked(self, beginning: tuple[int, ...], fields: dict[str, Any]) -> Position | None:
        """One token after the prompt and this beginning; None when the engine shows nothing of it.

        Whoever breaks off in between leaves ``completion`` for the owner of the slot to abandon.
        """
        body: dict[str, Any] = {
            **fields,
            "prompt": [*self._question.ids, *beginning],
            "n_predict": 1,
            "id_slot": self._slot,
            "cache_prompt": self._prompt_read,
        }
        self.completion = self._client.complete(body)
        position = None
        async with aclosing(self.completion.frames()) as frames:
            async for frame in frames:
                self._begun()
                position = position or next(iter(frame.completion_probabilities), None)
        self.completion.abandon()
        self._prompt_read = True
        return position


def ends_inside_character(octets: bytes) -> bool:
    """Whether the last octets begin a UTF-8 character and do not finish it."""
    for back, octet in enumerate(reversed(octets[-3:]), 1):
        if octet >= 0xC0:
            return back < (2 if octet < 0xE0 else 3 if octet < 0xF0 else 4)
    return False


def _size(text: str, field: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidField(f"`{field}` holds half a surrogate pair, which is no character", field) from None


def _check_labels(request: ClassifyRequest, labels: list[tuple[int, ...]], end: int) -> None:
    for place, (text, label) in enumerate(zip(request.labels, labels, strict=True)):
        if not label:
            raise InvalidField(f"`labels[{place}]` is empty", f"labels[{place}]")
        if len(label) > LABEL_TOKENS_MAX:
            raise InvalidField(
                f"the label `{text[:40]}` has {len(label)} tokens; a label may have {LABEL_TOKENS_MAX}: shorten it",
                f"labels[{place}]",
            )
    positions = sum(map(len, branches(labels, end).values()))
    if positions > POSITIONS_MAX:
        raise InvalidField(
            f"scoring the labels takes {positions} positions, {POSITIONS_MAX} at most; send fewer or shorter labels",
            "labels",
        )


def _too_long(prompt_tokens: int, answer_tokens: int, card: ModelCard, reason: str) -> ContextTooLong:
    error = ContextTooLong(prompt_tokens, answer_tokens, card.context_tokens, "query")
    error.message = f"{reason}, but the model's context holds {card.context_tokens}, label included; shorten the query"
    error.args = (error.message,)
    return error
