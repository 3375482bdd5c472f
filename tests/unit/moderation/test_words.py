"""Forbidden words: what is found, what is held back, and that it does not matter how a text was cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.backends.moderation.folding import CACHED_MAX, escaped
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.words import WordList, WordScanner, read_words
from arkway.core.errors import Misconfigured

BLOCK, MASK = Hit(True), Hit(False)
LISTS = (
    WordList(
        {"坏人": BLOCK, "法轮功": MASK, "ab": MASK, "abc": BLOCK, "xab": MASK, "café": BLOCK, "バカ": MASK, "각": MASK}
    ),
    WordList(
        {"坏人": MASK, "a b": MASK, "cafe": BLOCK, "...": MASK, "aab": MASK, "aba": BLOCK}, ignore_separators=True
    ),
)
LETTERS = "坏人法轮功abcxfeＡé \u0301\u200b\ufe0fバカハ\u3099ﾊﾞ\u1100\u1161\u11a8가가…."


def run(scanner: WordScanner, pieces: list[str]) -> tuple[str, Hit | None]:
    """All that goes out, and the verdict."""
    out = ""
    for piece in pieces:
        out += scanner.feed(piece)
        if scanner.found is not None:
            return out, scanner.found
    return out + scanner.feed("", final=True), scanner.found


def whole(words: WordList, text: str) -> tuple[str, Hit | None]:
    scanner = words.scanner()
    return scanner.feed(text, final=True), scanner.found


@st.composite
def cut_texts(draw: st.DrawFn, letters: str) -> list[str]:
    return draw(st.lists(st.text(alphabet=letters, max_size=5), max_size=8))


@pytest.mark.parametrize("words", LISTS, ids=["plain", "separators"])
@given(pieces=cut_texts(LETTERS))
@settings(max_examples=600, deadline=None)
def test_it_does_not_matter_how_a_text_is_cut(words: WordList, pieces: list[str]) -> None:
    text = "".join(pieces)
    assert run(words.scanner(), pieces) == run(words.scanner(), list(text)) == whole(words, text)


@pytest.mark.parametrize("words", LISTS, ids=["plain", "separators"])
@given(pieces=cut_texts(LETTERS))
@settings(max_examples=300, deadline=None)
def test_nothing_forbidden_is_in_what_goes_out_and_masks_keep_the_length(words: WordList, pieces: list[str]) -> None:
    text = "".join(pieces)
    out, found = run(words.scanner(), pieces)
    assert whole(words, out) == (out, None) or "*" in out
    assert all(char in ("*", text[place]) for place, char in enumerate(out))
    if found is None:
        assert len(out) == len(text)


@given(st.lists(st.text(alphabet='ab\\u0061"n', max_size=4), max_size=8))
@settings(max_examples=400, deadline=None)
def test_the_arguments_of_a_tool_are_read_as_json(pieces: list[str]) -> None:
    words = WordList({"aab": MASK, "bab": BLOCK})
    text = "".join(pieces)
    assert run(words.scanner(escaped), pieces) == run(words.scanner(escaped), [text])


@pytest.mark.parametrize(
    ("words", "text", "out"),
    [
        ({"坏人": MASK}, "好人坏人。", "好人**。"),
        ({"bad": MASK}, "a BＡD day", "a *** day"),
        ({"坏人": MASK}, "坏\u200b\u200b人", "****"),
        ({"café": MASK}, "cafe\u0301!", "*****!"),
        ({"cafe": MASK}, "c\u0336a\u0336f\u0336e!", "*******!"),
        ({"バカ": MASK}, "ﾊﾞｶ", "***"),
        ({"가각": MASK}, "가\u1100\u1161\u11a8", "****"),
        ({"가": MASK}, "각", "각"),
        ({"か": MASK}, "が", "が"),
        ({"ab": MASK, "bc": MASK}, "abc", "***"),
        ({"坏人": BLOCK}, "一个坏人来了", "一个"),
        ({"xab": MASK, "abc": BLOCK}, "xabc", "*"),
    ],
)
def test_what_is_found(words: dict[str, Hit], text: str, out: str) -> None:
    assert run(WordList(words).scanner(), list(text))[0] == out


def test_separators_hide_a_word_only_where_they_count() -> None:
    assert whole(WordList({"法轮功": MASK}), "法 轮.功") == ("法 轮.功", None)
    assert whole(WordList({"法轮功": MASK}, ignore_separators=True), "法 轮.功") == ("*****", None)


def test_an_escape_hides_no_word_and_is_masked_whole() -> None:
    words = WordList({"坏人": MASK})
    text = '{"q":"\\u574f\\u4eba"}'
    assert run(words.scanner(escaped), list(text))[0] == '{"q":"************"}'


def test_what_is_held_back_is_what_may_become_a_word_and_no_more() -> None:
    scanner = WordList({"法轮功": BLOCK}).scanner()
    assert scanner.feed("看法") == "看"
    assert scanner.feed("轮") == ""
    assert scanner.feed("胎") == "法轮胎"
    assert scanner.feed("法") == ""
    assert scanner.release() == "法"
    assert scanner.feed("轮功") == ""
    assert scanner.found == BLOCK


def test_of_two_words_that_are_the_same_the_one_that_blocks_counts() -> None:
    assert whole(WordList({"AB": MASK, "ab": BLOCK, "Ａb": MASK}), "ab")[1] == BLOCK


def test_a_flood_of_what_nobody_sees_ends_a_word() -> None:
    words = WordList({"ab": BLOCK})
    assert run(words.scanner(), ["a", *["\u200b"] * 32, "b"])[1] == BLOCK
    out, found = run(words.scanner(), ["a", *["\u200b"] * 500, "b"])
    assert found is None
    assert len(out) == 502


def test_what_is_remembered_of_characters_has_a_bound_and_what_comes_after_it_is_found() -> None:
    words = WordList({"坏人": MASK, "café": MASK})
    flood = "".join(chr(code) for code in range(0x10000, 0x10000 + CACHED_MAX + 5000))
    assert len(whole(words, flood)[0]) == len(flood)
    assert len(words.folding.table) <= CACHED_MAX
    assert len(words.folding._ones) <= CACHED_MAX
    assert whole(words, "\U0010fffd坏\U000e0001人\U0010fffdcafe\u0301")[0] == "\U0010fffd***\U0010fffd*****"


def test_a_file_of_words_names_actions_and_types(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("\ufeff# 说明\n坏人\n\n手机\tmask\n杀人\tblock\tviolence\n", encoding="utf-8")
    assert read_words([file], BLOCK) == {
        "坏人": Hit(True),
        "手机": Hit(False),
        "杀人": Hit(True, "violence"),
    }


@pytest.mark.parametrize("line", ["词\tkill", "词\tblock\tbad", "词\tmask\tviolence\t1", "x" * 65])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "words.txt"
    file.write_text(f"好\n{line}\n", encoding="utf-8")
    with pytest.raises(Misconfigured, match=r"words\.txt, line 2"):
        read_words([file], BLOCK)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot read"):
        read_words([tmp_path / "none.txt"], BLOCK)
    (tmp_path / "gbk.txt").write_bytes("坏人".encode("gb18030"))
    with pytest.raises(Misconfigured, match="UTF-8"):
        read_words([tmp_path / "gbk.txt"], BLOCK)
