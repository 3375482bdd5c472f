"""What holds for every answer of a bot's, however it is cut up and whatever was found."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.core.bot import Citation, Findings, Intent
from arkway.core.chat import Usage
from arkway.core.events import Cited, Delta, Event, Finished, Fold, Intention, Quoted, UsageReport
from tests.tools.bots import Model, Scene, ScriptedPlugin, Told, asks, page

PIECES = st.sampled_from(["[", "]", "1", "2", "3", "[1]", "[2]", "[3]", "[9]", "so ", "字", "。"])
TEXTS = st.lists(PIECES, max_size=20).map("".join)
PLACES = st.lists(st.integers(0, 100), max_size=20)
INTENTS: st.SearchStrategy[Intent] = st.sampled_from(("always", "never", "auto"))
CITATIONS: st.SearchStrategy[Citation] = st.sampled_from(("all", "cited", "none"))
NUMBER = re.compile(r"\[(\d+)\]")


def spoken(text: str, places: Sequence[int], *, quoted: bool) -> tuple[Event, ...]:
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    pieces = [text[a:b] for a, b in pairwise(marks)]
    said = [Quoted(msgspec.json.encode(piece)) if quoted else Delta(piece) for piece in pieces]
    return (*said, Finished("stop"), UsageReport(Usage(10, len(pieces))))


@settings(max_examples=150, deadline=None)
@given(TEXTS, PLACES, st.booleans(), st.integers(0, 4), INTENTS, CITATIONS, st.booleans(), st.booleans())
def test_every_answer(
    text: str,
    places: list[int],
    quoted: bool,
    count: int,
    intent: Intent,
    citation: Citation,
    wants: bool,
    wants_intention: bool,
) -> None:
    found = Findings(tuple(page(number) for number in range(count)))

    async def told(answer: Sequence[Event], *, batch: bool = False) -> tuple[Told, ScriptedPlugin]:
        plugin = ScriptedPlugin(found, wants=wants)
        scene = Scene(Model(answer, batch=batch), {"web_search": plugin}, intent=intent, citation=citation)
        return await scene.told(asks("What is new today?", wants_intention=wants_intention)), plugin

    async def both() -> tuple[tuple[Told, ScriptedPlugin], tuple[Told, ScriptedPlugin]]:
        return await told(spoken(text, places, quoted=quoted)), await told(spoken(text, (), quoted=False), batch=True)

    (stream, plugin), (whole, _) = asyncio.run(both())
    assert stream.text == whole.text
    assert stream.cited == whole.cited
    known = {reference.idx + 1 for reference in stream.references}
    cited = {int(number) for number in NUMBER.findall(stream.text)}
    assert cited <= known
    assert bool(stream.intentions) is (wants_intention and bool(plugin.asked))
    assert sum(isinstance(event, Intention) for event in stream.events) <= 1
    if citation == "cited":
        assert cited == known
    if citation == "none":
        assert not stream.cited
    if citation == "all":
        assert len(known) == (count if plugin.asked else 0)
    _in_order(stream)
    _folds(stream)


def _in_order(told: Told) -> None:
    """The intention is first, the end last, and the sources come before the text unless it has to be known first."""
    kinds = [type(event) for event in told.events]
    if Intention in kinds:
        assert kinds[0] is Intention
    assert [kind.__name__ for kind in kinds[-3:]] == ["Finished", "UsageReport", "BotReport"]
    if Cited in kinds and kinds.index(Cited) > 1:
        assert kinds.index(Cited) == len(kinds) - 4


def _folds(told: Told) -> None:
    fold = Fold()
    fold.add_all(told.events)
    reply = fold.reply(told.usage)
    assert reply.choices[0].text == told.text
    assert reply.references == told.references
    assert reply.bot_usage == told.report
