"""Texts that take turns: thoughts, content, arguments of tools, and log-probabilities beside them. None says what
another one may not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.backends.moderation.moderated import Moderated
from arkway.backends.moderation.patterns import operator_pattern
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.moderation.words import WordList
from arkway.core.chat import ChatRequest, Choice, LogprobEntry, ResponseFormat, TokenLogprob, Usage
from arkway.core.events import Delta, Event, Finished, Fold, Quoted, ToolDelta
from tests.tools.pushing import CALL, DEPLOYMENT, Kept, Puppet, asks

BLOCK, MASK = Hit(True), Hit(False)
MOBILE = "13800138000"
HIDDEN = Strategy(WordList({"法轮": MASK, "法轮功": MASK}), personal_patterns(("mobile", "email"), MASK))
STOPPED = Strategy(WordList({"坏人": BLOCK, "00 now": BLOCK}), personal_patterns(("mobile",), BLOCK))


class Scene:
    """One answer through moderation."""

    def __init__(self, strategy: Strategy, request: ChatRequest | None = None) -> None:
        self.backend, self.sink = Puppet(), Kept()
        self.counted: list[tuple[str, str]] = []
        counted = self.counted
        moderated = Moderated(self.backend, lambda _: strategy, lambda *action: counted.append(action))
        moderated.start(DEPLOYMENT, request or asks(), CALL, self.sink)

    def says(self, *events: Event) -> None:
        for event in events:
            if not self.sink.over:
                self.backend.last.says((event,))

    def ends(self, *events: Event) -> None:
        self.says(*events, Finished("stop"))
        if not self.sink.over:
            self.backend.last.ends()

    def choice(self) -> Choice:
        fold = Fold()
        fold.add_all(self.sink.got)
        (choice,) = fold.reply(Usage(), logprobs=True).choices
        return choice


def thought(text: str) -> Delta:
    return Delta("", reasoning=text)


def entry(token: str) -> LogprobEntry:
    return LogprobEntry(TokenLogprob(token, -1.0, token.encode()))


def scored(text: str, *tokens: str, reasoning: str = "") -> Delta:
    return Delta(text, 0, reasoning, tuple(map(entry, tokens or (text,))))


def told(scene: Scene) -> str:
    return "".join(score.chosen.token for score in scene.choice().logprobs or ())


SCORES = msgspec.structs.replace(asks(), logprobs=True, top_logprobs=1)


def test_what_is_whole_when_another_text_begins_is_masked() -> None:
    scene = Scene(HIDDEN)
    scene.ends(
        thought(f"打{MOBILE}"), Delta("写给a@b.com"), ToolDelta(0, f'"{MOBILE}', id="c", name="f"), thought("好")
    )
    choice = scene.choice()
    assert choice.reasoning == f"打{'*' * 11}好"
    assert choice.text == "写给*******"
    assert choice.tool_calls[0].arguments == f'"{"*" * 11}'
    assert scene.counted[-1] == ("output", "mask")


def test_what_is_whole_at_the_very_end_counts_as_masked() -> None:
    scene = Scene(HIDDEN)
    scene.ends(Delta(f"打{MOBILE}"))
    assert scene.choice().text == f"打{'*' * 11}"
    assert scene.counted[-1] == ("output", "mask")


def test_what_is_whole_when_another_text_begins_ends_the_answer() -> None:
    scene = Scene(STOPPED)
    scene.says(thought(f"打{MOBILE}"), Delta("好"))
    assert scene.sink.over
    assert scene.sink.got[-1] == Finished("content_filter", 0, "severe_violation")
    assert (scene.choice().reasoning, scene.choice().text) == ("打", "")
    assert scene.backend.last.cancelled
    assert scene.counted[-1] == ("output", "block")


def test_a_word_that_a_longer_letter_may_yet_change_is_masked_when_another_text_begins() -> None:
    scene = Scene(Strategy(WordList({"가": MASK, "각": MASK})))
    scene.ends(thought("가"), Delta("好"))
    assert (scene.choice().reasoning, scene.choice().text) == ("*", "好")


def test_thoughts_that_come_with_the_text_stay_in_their_order() -> None:
    scene = Scene(HIDDEN)
    scene.ends(Delta("好", reasoning="想法"))
    assert (scene.choice().reasoning, scene.choice().text) == ("想法", "好")


def test_thoughts_that_come_with_the_text_are_searched_to_their_end() -> None:
    scene = Scene(STOPPED)
    scene.ends(Delta("好", reasoning=f"打{MOBILE}"))
    assert (scene.choice().reasoning, scene.choice().text) == ("打", "")
    assert scene.choice().finish_reason == "content_filter"


@pytest.mark.parametrize("action", [MASK, BLOCK], ids=["mask", "block"])
@given(
    st.lists(
        st.tuples(st.sampled_from(("text", "thought", "tool", "both")), st.text(alphabet="坏人法138 0", max_size=4)),
        max_size=8,
    )
)
@settings(max_examples=400, deadline=None)
def test_nothing_forbidden_is_in_any_text_however_they_take_turns(action: Hit, turns: list[tuple[str, str]]) -> None:
    patterns = (operator_pattern(r"1[38]{2,}", action, width=4, alphabet="138", where="t"),)
    scene = Scene(Strategy(WordList({"坏人": action, "8 0": action}), patterns))
    for kind, text in turns:
        forms: dict[str, Event] = {
            "text": Delta(text),
            "thought": thought(text),
            "tool": ToolDelta(0, text, id="c", name="f"),
            "both": Delta(text, reasoning=text),
        }
        scene.says(forms[kind])
        seen = scene.choice() if any(not isinstance(event, Finished) for event in scene.sink.got) else None
        for said in (seen.text, seen.reasoning, *(c.arguments for c in seen.tool_calls)) if seen else ():
            assert "坏人" not in said
            assert "8 0" not in said
    scene.ends()
    if action is MASK and (given_text := [text for kind, text in turns if kind in ("text", "both")]):
        assert len(scene.choice().text) == len("".join(given_text))


def test_scores_that_come_many_at_a_time_are_left_out_with_what_was_masked_of_their_text() -> None:
    scene = Scene(HIDDEN, SCORES)
    scene.ends(scored("说法轮功的法", "说", "法轮", "功", "的", "法"), scored("国"))
    assert scene.choice().text == "说***的法国"
    assert told(scene) == "国"


@given(st.lists(st.text(alphabet="法轮功好138", min_size=1, max_size=4), max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_scores_are_told_of_just_what_is_not_masked(pieces: list[str], thoughts: bool) -> None:
    patterns = (operator_pattern(r"1[38]{2,}", MASK, width=4, alphabet="138", where="t"),)
    scene = Scene(Strategy(WordList({"法轮": MASK, "法轮功": MASK}), patterns), SCORES)
    for piece in pieces:
        scene.says(scored("", piece, reasoning=piece) if thoughts else scored(piece))
    scene.ends()
    choice = scene.choice()
    said = choice.reasoning if thoughts else choice.text
    places = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
    shown = [piece for place, piece in zip(places, pieces, strict=True) if said[place : place + len(piece)] == piece]
    assert [score.chosen.token for score in choice.logprobs or ()] == shown


def test_scores_of_thoughts_wait_for_the_thoughts_and_are_left_out_with_them() -> None:
    scene = Scene(HIDDEN, SCORES)
    scene.says(scored("", "法", reasoning="法"))
    assert scene.choice().logprobs == ()
    scene.ends(scored("", "轮", reasoning="轮"), scored("", "好", reasoning="好"), scored("的"))
    assert scene.choice().reasoning == "**好"
    assert told(scene) == "好的"


def test_scores_without_a_text_wait_for_what_they_are_part_of() -> None:
    halves = [LogprobEntry(TokenLogprob("\ufffd", -1.0, octets)) for octets in ("坏".encode()[:2], "坏".encode()[2:])]
    scene = Scene(STOPPED, SCORES)
    scene.says(scored("好"), Delta("", logprobs=(halves[0],)), Delta("坏", logprobs=(halves[1],)), scored("人"))
    assert scene.sink.over
    assert scene.choice().logprobs == (entry("好"),)
    scene = Scene(STOPPED, SCORES)
    scene.ends(
        Delta("", logprobs=(halves[0],)),
        Delta("坏", logprobs=(halves[1],)),
        scored("蛋"),
        Delta("", 0, "", (entry(""),)),
    )
    assert scene.choice().logprobs == (*halves, entry("蛋"), entry(""))


def test_scores_of_arguments_are_left_out_where_something_was_masked() -> None:
    scene = Scene(HIDDEN, SCORES)
    scene.ends(scored("", MOBILE[:6]), ToolDelta(0, MOBILE[:6], id="c", name="f"), ToolDelta(0, MOBILE[6:]))
    assert scene.choice().tool_calls[0].arguments == "*" * 11
    assert told(scene) == ""


ESCAPED = "\\u5f20\\u4e09\\u0031\\u0032"
OWN = Strategy(None, (operator_pattern(r"张三\d", BLOCK, width=4, alphabet="", where="t"),))
OWN_MASKED = Strategy(None, (operator_pattern(r"张三\d", MASK, width=4, alphabet="", where="t"),))


def test_an_escape_in_arguments_hides_nothing_from_patterns() -> None:
    for pieces in ([ESCAPED], list(ESCAPED)):
        scene = Scene(OWN)
        scene.says(
            ToolDelta(0, '{"a":"', id="c", name="f"), *(ToolDelta(0, piece) for piece in pieces), ToolDelta(0, '"}----')
        )
        assert scene.sink.over
        assert scene.choice().tool_calls[0].arguments == '{"a":"'


@given(
    st.lists(st.sampled_from(["张", "三", "\\u5f20", "\\u4e09", "\\u0031", "1", "\\", "u", "\\n", "x"]), max_size=8),
    st.data(),
)
@settings(max_examples=400, deadline=None)
def test_patterns_in_arguments_are_found_however_these_are_cut(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    pieces = [text[low:high] for low, high in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def said(each: list[str]) -> str:
        scene = Scene(OWN_MASKED)
        scene.ends(ToolDelta(0, "", id="c", name="f"), *(ToolDelta(0, piece) for piece in each))
        return scene.choice().tool_calls[0].arguments

    assert said(pieces) == said([text]) == said(list(text))


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_an_escape_hides_nothing_where_the_answer_is_json(kind: str) -> None:
    format_ = msgspec.convert({"kind": kind}, ResponseFormat)
    scene = Scene(STOPPED, msgspec.structs.replace(asks(), response_format=format_))
    scene.says(Delta('{"a":"\\u574f'), Delta('\\u4eba"}'))
    assert scene.sink.over
    assert scene.choice().text == '{"a":"'
    plain = Scene(STOPPED)
    plain.ends(Delta("\\u574f"), Delta("\\u4eba"))
    assert plain.choice().text == "\\u574f\\u4eba"


def test_what_is_masked_hides_nothing_that_ends_an_answer() -> None:
    digits = operator_pattern(r"code \d{4}", BLOCK, width=9, alphabet="", where="t")
    scene = Scene(Strategy(WordList({"code": MASK}), (digits,)))
    scene.ends(Delta("a code 1234 b"))
    assert scene.choice().finish_reason == "content_filter"
    assert scene.choice().text == "a "


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("john.13800138000@qq.com", "*" * 23),
        ("ark-13800138000-abcdefgh", "*" * 24),
        ("１３８００１３８０００", "*" * 11),
        ("ａ＠ｂ．ｃｏｍ", "*" * 7),
    ],
)
def test_personal_things_within_each_other_are_masked_whole(text: str, masked: str) -> None:
    patterns = personal_patterns(("mobile", "email", "api_key"), MASK)
    scene = Scene(Strategy(WordList({"qq": MASK}), patterns))
    scene.ends(Delta(f"打 {text} 吧"))
    assert scene.choice().text == f"打 {masked} 吧"


def test_quoted_text_takes_turns_too() -> None:
    scene = Scene(STOPPED)
    scene.says(thought(MOBILE), Quoted('"好"'.encode()))
    assert scene.sink.over
    assert scene.choice().reasoning == ""
