"""Chunks: never too long, nothing lost, under their headings, whole sentences, and the same ones after a change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.core.knowledge import Chunk
from arkway.knowledge.chunking import chunk
from arkway.knowledge.identity import chunk_ids, document_id
from arkway.knowledge.parsing import Parsed
from arkway.knowledge.sentences import ends_a_sentence, sentences

DOCUMENT = document_id("kb-1", "手册.md")
WORDS = (
    "系统",
    "安装",
    "配置",
    "网络",
    "服务",
    "用户",
    "文件",
    "命令",
    "管理",
    "the",
    "server",
    "answers",
    "when",
    "asked",
)
NOT_WORDS = re.compile(r"[\W_]+")


def parsed(markdown: str, title: str = "手册") -> Parsed:
    return Parsed(kind="md", title=title, markdown=markdown)


def cut(markdown: str, limit: int = 500) -> list[Chunk]:
    return chunk(parsed(markdown), DOCUMENT, limit)


def texts(markdown: str, limit: int = 500) -> list[str]:
    return [piece.text for piece in cut(markdown, limit)]


def prose(count: int, seed: int = 0) -> str:
    """Sentences of both languages, each unlike the others."""
    made = []
    for n in range(count):
        words = [WORDS[(seed + n * 7 + k * k) % len(WORDS)] for k in range(5 + n % 9)]
        made.append(
            f"第{seed + n}句" + "，".join(words) + "。" if n % 3 else f"Sentence {seed + n} is {' '.join(words)}. "
        )
    return "".join(made)


def test_headings_make_the_path_below_the_title() -> None:
    chunks = cut("# 手册\n\n总说。\n\n## 安装\n\n### Linux\n\n第一步。\n\n### 其他\n\n第二步。\n\n## 结尾\n\n完。")
    assert [(piece.path, piece.text) for piece in chunks] == [
        (("手册",), "总说。"),
        (("手册", "安装", "Linux"), "第一步。"),
        (("手册", "安装", "其他"), "第二步。"),
        (("手册", "结尾"), "完。"),
    ]
    assert [piece.ordinal for piece in chunks] == [0, 1, 2, 3]
    assert chunks[1].heading == "Linux"


def test_levels_that_are_left_out_and_titles_that_are_not_headings() -> None:
    chunks = cut("前言。\n\n### 深\n\n一。\n\n## 浅\n\n二。")
    assert [piece.path for piece in chunks] == [("手册",), ("手册", "深"), ("手册", "浅")]


def test_a_heading_with_nothing_below_it_is_not_lost() -> None:
    assert [(piece.path, piece.text) for piece in cut("## 甲\n\n## 乙\n\n文。\n\n## 丙")] == [
        (("手册", "甲"), "甲"),
        (("手册", "乙"), "文。"),
        (("手册", "丙"), "丙"),
    ]


def test_chunks_are_full_and_end_with_sentences() -> None:
    pieces = texts("\n\n".join(prose(12, 12 * n) for n in range(60)))
    ended = sum(map(ends_a_sentence, pieces))
    assert ended >= 0.95 * len(pieces)
    assert max(map(len, pieces)) <= 500
    assert sum(map(len, pieces)) / len(pieces) > 350


@pytest.mark.parametrize(
    "text, expected",
    [
        ("今天好。明天呢？“好！”他说。", ["今天好。", "明天呢？", "“好！”", "他说。"]),
        (
            "It is 3.14. See Fig. 2, e.g. the J. Doe one. End!",
            ["It is 3.14.", "See Fig. 2, e.g. the J. Doe one.", "End!"],
        ),
        ("Use a.b.c. Then stop... Or not? Yes.", ["Use a.b.c.", "Then stop...", "Or not?", "Yes."]),
        ("1. First item. 2. Second.", ["1. First item.", "2. Second."]),
        ("He said (quietly.) Next one", ["He said (quietly.)", "Next one"]),
        ("没有句号", ["没有句号"]),
        ("……好吧。", ["……", "好吧。"]),
        (" ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


def test_wrapped_lines_are_joined_and_intended_ones_kept() -> None:
    chinese = "这是一行在编辑器里被折断的很长很长的文字，它的下一\n行接着说完。"
    english = "The end of a line that was wrapped to fit\nits width."
    kept = "- 第一项\n- 第二项\n短行\n"
    assert texts(chinese + "\n" + kept + english) == [
        chinese.replace("\n", "") + "\n" + kept + english,
    ]
    long = english.replace("to fit", "so that it fits")
    assert texts(long) == [long.replace("\n", " ")]


def test_a_sentence_over_the_limit_is_cut_after_commas_then_between_words_then_anywhere() -> None:
    assert texts("，".join(["九个字的一个小分句"] * 9) + "。", 50) == [
        "九个字的一个小分句，" * 5, "，".join(["九个字的一个小分句"] * 4) + "。",
    ]  # fmt: skip
    assert texts("word " * 21, 50) == ["word " * 9 + "word", "word " * 9 + "word", "word"]
    assert texts("字" * 120, 50) == ["字" * 50, "字" * 50, "字" * 20]


def test_a_small_table_stays_with_its_prose() -> None:
    markdown = "价目如下：\n\n| 名 | 价 |\n| --- | --- |\n| 甲 | 1 |\n\n以上。"
    assert texts(markdown) == [markdown]


def test_a_long_table_is_split_between_rows_and_repeats_its_head() -> None:
    rows = [f"| 产品{n:03} | 这是第{n}个产品的说明文字 |" for n in range(40)]
    head = "| 名称 | 说明 |\n| --- | --- |"
    pieces = texts("\n".join([head, *rows]), 200)
    assert all(piece.startswith(head + "\n| 产品") and len(piece) <= 200 for piece in pieces)
    assert [row for piece in pieces for row in piece.split("\n")[2:]] == rows


def test_a_row_longer_than_a_chunk() -> None:
    pieces = texts("| a | b |\n|---|---|\n| 1 | 2 |\n| " + "很长。" * 40 + " | x |\n| 3 | 4 |", 60)
    assert pieces[0] == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert "".join(pieces).count("很长。") == 40
    assert pieces[-1].endswith("| a | b |\n|---|---|\n| 3 | 4 |")


def test_code_stays_whole_where_it_fits_and_is_fenced_everywhere() -> None:
    code = "```python\n# not a heading\n\nprint('。')\n```"
    assert texts(f"看：\n\n{code}\n\n完。") == [f"看：\n\n{code}\n\n完。"]
    lines = [f"line_{n} = {n}" for n in range(60)]
    pieces = texts("\n".join(["~~~py", *lines, "~~~"]), 100)
    assert all(piece.startswith("~~~py\n") and piece.endswith("\n~~~") and len(piece) <= 100 for piece in pieces)
    assert [line for piece in pieces for line in piece.split("\n")[1:-1]] == lines


def test_code_that_is_never_closed_and_lines_longer_than_a_chunk() -> None:
    pieces = texts("```\n" + "x" * 300, 100)
    assert "".join(piece.removeprefix("```\n").removesuffix("\n```") for piece in pieces) == "x" * 300


def test_marks_that_were_text_are_text_again() -> None:
    assert texts("\\# 不是标题\n\\| 也不是表") == ["# 不是标题\n| 也不是表"]


def test_limits_too_small_to_make_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="less than 50"):
        chunk(parsed("x"), DOCUMENT, 49)


def test_ids_follow_from_collection_source_path_and_text() -> None:
    assert document_id("kb-1", "a") == document_id("kb-1", "a")
    assert len({document_id("kb-1", "a"), document_id("kb-2", "a"), document_id("kb-1", "b")}) == 3
    assert document_id("kb-1a", "b") != document_id("kb-1", "ab")
    assert re.fullmatch(r"[0-9a-f]{32}", DOCUMENT)
    first, second, third, other = chunk_ids(DOCUMENT, [(("a",), "x"), (("a",), "x"), (("a",), "x"), (("a", "x"), "")])
    assert re.fullmatch(DOCUMENT + r"-[0-9a-f]{16}", first)
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert not other.startswith(first)


def test_what_is_inserted_changes_its_own_section_only() -> None:
    sections = [f"## 第{n}节\n\n{prose(30, 50 * n)}" for n in range(10)]
    before = cut("\n\n".join(sections))
    sections.insert(3, "## 新的一节\n\n新的文字。")
    sections[6] = sections[6].replace("\n\n", "\n\n改动。", 1)
    kept = {piece.id for piece in cut("\n\n".join(sections))}
    assert {piece.path[-1] for piece in before if piece.id not in kept} == {"第5节"}


def test_without_headings_an_insertion_is_forgotten_after_a_few_chunks() -> None:
    text = prose(3000)
    before = {piece.id for piece in cut(text)}
    after = [piece.id for piece in cut("一句新的话，放在最前面。" + text)]
    assert len(after) > 100
    assert sum(identity not in before for identity in after) <= 15


LINES = st.one_of(
    st.text('字词。，！a b.!?"”\n', max_size=80),
    st.text("#|-=`~*>: \\ax\n", max_size=40),
    st.sampled_from(
        ["# 标题", "## 二", "| a | b |", "|---|---|", "```", "~~~~", "- 项", "1. one", "", "===", "---", "\\# x"]
    ),
    st.text(max_size=60),
)


def words(parts: Sequence[str]) -> str:
    return NOT_WORDS.sub("", "".join(parts))


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(LINES, max_size=40), limit=st.integers(50, 160))
def test_nothing_is_too_long_and_nothing_is_lost(lines: list[str], limit: int) -> None:
    markdown = "\n".join(lines)
    chunks = cut(markdown, limit)
    assert all(0 < len(piece.text) <= limit and piece.text.strip() for piece in chunks)
    assert len({piece.id for piece in chunks}) == len(chunks)
    have = Counter(words([text for piece in chunks for text in (*piece.path, piece.text)]))
    assert not Counter(words(lines)) - have  # heads of tables are there more than once


@settings(max_examples=200, deadline=None)
@given(
    paragraphs=st.lists(st.text("一二三四五六七八九十。，！abc .", min_size=1, max_size=300), min_size=1, max_size=20),
    limit=st.integers(50, 300),
)
def test_prose_put_together_again_is_the_prose(paragraphs: list[str], limit: int) -> None:
    pieces = texts("\n\n".join(paragraphs), limit)
    assert "".join("".join(pieces).split()) == "".join("".join(paragraphs).split())
    assert all(len(piece) <= limit for piece in pieces)


@settings(max_examples=100, deadline=None)
@given(inserted=st.text("新内容。\n# ", max_size=200), where=st.integers(0, 9))
def test_sections_behind_an_insertion_keep_their_ids(inserted: str, where: int) -> None:
    sections = [f"# 第{n}节\n\n{prose(12, 20 * n)}" for n in range(10)]
    before = cut("\n\n".join(sections))
    sections.insert(where, f"# 插入\n\n{inserted}")
    after = {piece.id for piece in cut("\n\n".join(sections))}
    assert all(piece.id in after for piece in before)
