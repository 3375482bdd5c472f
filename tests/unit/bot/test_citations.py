"""Citations of an answer: numbers without a source never get out, however the text is cut up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.backends.bot.citations import HELD_MAX, LIST_MAX, CitationFilter, Cites
from arkway.core.chat import LogprobEntry, TokenLogprob
from arkway.core.events import Delta, Quoted

PIECES = st.sampled_from(
    [
        "[",
        "]",
        "0",
        "1",
        "2",
        "9",
        "12",
        "[1]",
        "[9]",
        "[2",
        "字",
        " a",
        ".",
        "123456",
        "【",
        "】",
        "［9］",
        ",",
        "、 ",
        "[1, 9",
    ]
)
CODE = st.sampled_from(["`", "```", "\n", "a[0]", "``"])
TEXTS = st.lists(PIECES, max_size=25).map("".join)
MIXED = st.lists(PIECES | CODE, max_size=25).map("".join)
KNOWN = st.integers(0, 12)
NUMBER = re.compile(r"[\[](\d{1,5})\]|【(\d{1,5})】|［(\d{1,5})］", re.ASCII)


def cut(text: str, places: Sequence[int]) -> list[str]:
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(marks)]


def passed(pieces: Sequence[str], known: int, *, quoted: bool = False) -> tuple[str, set[int]]:
    cites = Cites(known, set())
    checked = CitationFilter(cites)
    out: list[Delta | Quoted | None] = []
    for piece in pieces:
        if quoted:
            out.append(checked.quoted(Quoted(msgspec.json.encode(piece))))
        else:
            out.append(checked.delta(Delta(piece)))
    out.append(checked.rest(0))
    said = [each.delta() if isinstance(each, Quoted) else each for each in out if each is not None]
    return "".join(each.text for each in said), cites.used


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("so[1].", "so[1]."),
        ("so[9].", "so."),
        ("so[0].", "so."),
        ("so[1][9][2]", "so[1][2]"),
        ("so [12", "so [12"),
        ("[", "["),
        ("[]", "[]"),
        ("[a]", "[a]"),
        ("[-1]", "[-1]"),
        ("[١]", "[١]"),
        ("[[9]8]", "[8"),
        ("[[9]1]", "[1]"),
        ("[[1]]", "[[1]]"),
        ("[1[9]2]", "[12"),
        ("[99999]", ""),
        ("[20240607]", "[20240607]"),
        ("use `a[0]` or `a[9]`[9]", "use `a[0]` or `a[9]`"),
        ("```\na[0]\n```\n[9]", "```\na[0]\n```\n"),
        ("a ` b[9]\nc[9]", "a ` b[9]\nc"),
        ("``a ` [9]`` [9]", "``a ` [9]`` "),
        ("so【1】[2].", "so【1】[2]."),
        ("so【9】.", "so."),
        ("so［3］。", "so。"),
        ("so[２][９]", "so[２]"),
        ("so[1,2]", "so[1,2]"),
        ("so[1, 9].", "so[1]."),
        ("so[9, 1].", "so[1]."),
        ("so【9，2、8;1】", "so【2;1】"),
        ("so[1,2,9,9,9,9,9,9,9,9,9,9,9]", "so[1,2]"),
        ("x in [0, 1]", "x in [0, 1]"),
        ("x in [3, 9]", "x in [3, 9]"),
        ("[1, a]", "[1, a]"),
        ("[1, ]", "[1, ]"),
        ("[1,,2]", "[1,,2]"),
        ("[1,", "[1,"),
        ("[1 2]", "[1 2]"),
        ("[9】", "[9】"),
        ("[1[9],8]", "[1,8"),
        ("use `a[1, 9]`", "use `a[1, 9]`"),
    ],
)
def test_what_is_left_of_a_text(text: str, left: str) -> None:
    assert passed([text], 2)[0] == left
    assert passed(list(text), 2)[0] == left


@given(TEXTS, KNOWN)
def test_every_number_that_is_left_has_a_source(text: str, known: int) -> None:
    left, used = passed([text], known)
    found = {int("".join(number)) for number in NUMBER.findall(left)}
    assert all(1 <= number <= known for number in found)
    assert found <= used <= set(range(1, known + 1))


@given(MIXED, KNOWN, st.lists(st.integers(0, 200), max_size=30), st.booleans())
def test_how_a_text_is_cut_makes_no_difference(text: str, known: int, places: list[int], quoted: bool) -> None:
    assert passed(cut(text, places), known, quoted=quoted) == passed([text], known)


@given(MIXED, st.integers(99_999, 10**6))
def test_nothing_else_is_touched(text: str, known: int) -> None:
    """Where every number has a source, but for 0."""
    text = re.sub(r"0", "5", text)
    assert passed([text], known)[0] == text


@given(MIXED)
def test_few_characters_wait(text: str) -> None:
    """Where nothing is removed, what is not out yet waits."""
    text = text.replace("0", "5")
    checked = CitationFilter(Cites(99_999, set()))
    gone = 0
    for place, character in enumerate(text, 1):
        gone += len(checked.delta(Delta(character)).text)
        assert 0 <= place - gone <= (LIST_MAX if set(text[:place]) & set(",、") else HELD_MAX)
    rest = checked.rest(0)
    assert gone + (len(rest.text) if rest else 0) == len(text)


def test_several_in_one_bracket_are_used() -> None:
    assert passed(["so[1, 2, 9]【4】"], 5) == ("so[1, 2]【4】", {1, 2, 4})
    assert passed(["x in [1, 9]"], 0) == ("x in [1, 9]", set()), "where nothing was found it is something else"


def test_text_without_brackets_passes_as_the_very_object() -> None:
    checked = CitationFilter(Cites(0, set()))
    for event in (Quoted('"字"'.encode()), Quoted(b'"a\\n\\"]"')):
        assert checked.quoted(event) is event
    delta = Delta("plain", completion_tokens=3)
    assert checked.delta(delta) is delta
    fine = Delta("so[a].", completion_tokens=3)
    assert checked.delta(fine) is fine


def test_counts_of_what_is_held_back_are_told_at_once() -> None:
    checked = CitationFilter(Cites(0, set()))
    assert checked.delta(Delta("[", completion_tokens=3, prompt_tokens=9)) == Delta(
        "", completion_tokens=3, prompt_tokens=9
    )
    assert checked.delta(Delta("", reasoning="hm", completion_tokens=4)) == Delta(
        "", reasoning="hm", completion_tokens=4
    )
    assert checked.delta(Delta("9] so", completion_tokens=6)) == Delta(" so", completion_tokens=6)


def entry(token: str) -> LogprobEntry:
    return LogprobEntry(TokenLogprob(token, -0.5, token.encode()))


@given(st.lists(PIECES | st.just(""), max_size=15), KNOWN, st.booleans())
def test_log_probabilities_stay_with_their_text(tokens: list[str], known: int, whole: bool) -> None:
    """Those of a token of which nothing is left are gone; how the answer was cut makes no difference."""
    cites = Cites(known, set())
    checked = CitationFilter(cites)
    entries = tuple(map(entry, tokens))
    pieces = (
        [Delta("".join(tokens), logprobs=entries)] if whole else [Delta(e.chosen.token, logprobs=(e,)) for e in entries]
    )
    out = [checked.delta(piece) for piece in pieces]
    rest = checked.rest(0)
    out += [rest] if rest else []
    text = "".join(each.text for each in out)
    left = [e.chosen.token for each in out for e in each.logprobs]
    assert text == passed(["".join(tokens)], known)[0]
    if text == "".join(tokens):
        assert left == tokens
    assert len("".join(left)) >= len(text)
    others = iter(tokens)
    assert all(token in others for token in left), "in their order, none of them twice"


def test_the_log_probabilities_of_a_removed_citation_are_gone() -> None:
    checked = CitationFilter(Cites(1, set()))
    tokens = ["so", "[", "9", "]", ".", "[", "1", "]"]
    out = [checked.delta(Delta(token, logprobs=(entry(token),))) for token in tokens]
    assert [e.chosen.token for each in out for e in each.logprobs] == ["so", ".", "[", "1", "]"]
    assert "".join(each.text for each in out) == "so.[1]"


def test_log_probabilities_of_what_stays_of_several_stay() -> None:
    tokens = ["so", "[", "9", ",", " ", "1", "", ", ", "8", "]", "."]
    checked = CitationFilter(Cites(1, set()))
    out = [checked.delta(Delta(token, logprobs=(entry(token),))) for token in tokens]
    assert "".join(each.text for each in out) == "so[1]."
    assert [e.chosen.token for each in out for e in each.logprobs] == ["so", "[", "1", "", "]", "."]
