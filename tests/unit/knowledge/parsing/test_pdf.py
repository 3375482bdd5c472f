"""PDF: lines into paragraphs, the outline into headings, and what is refused."""

from __future__ import annotations

import pytest

from arkway.knowledge.parsing import Heading, Limits, Unreadable, parse
from tests.unit.knowledge.parsing.files import pdf

LIMITS = Limits()
LONG = "这一行写得很长很长一直写到了纸张的右边缘才不得不折到下面"


def test_the_outline_becomes_headings_where_the_text_has_them() -> None:
    pages = [
        ["第一章 概述", LONG, "的一行去。", "1.1 安装", "Install it with the package manager and wait.", "3"],
        ["第二章的标题写得", "太长了", "正文。", "4"],
    ]
    outline = [(1, "第一章 概述", 0), (2, "安装", 0), (1, "第二章的标题写得太长了", 1), (2, "文中没有的标题", 1)]
    parsed = parse("a.pdf", pdf(pages, outline, info={"Title": "手册", "Author": "张三"}), LIMITS)
    assert parsed.markdown == (
        f"# 第一章 概述\n\n{LONG}的一行去。\n\n## 安装\n\nInstall it with the package manager and wait."
        "\n\n# 第二章的标题写得太长了\n\n## 文中没有的标题\n\n正文。"
    )
    assert parsed.outline == (
        Heading(1, "第一章 概述"),
        Heading(2, "安装"),
        Heading(1, "第二章的标题写得太长了"),
        Heading(2, "文中没有的标题"),
    )
    assert (parsed.title, parsed.meta) == ("手册", {"pages": "2", "author": "张三"})


def test_a_paragraph_goes_on_over_a_page_without_running_heads_and_numbers() -> None:
    lines = [[f"{n}上{LONG}", f"{n}下{LONG}"] for n in "一二三四五"]
    pages = [["运维手册", *page, f"第 {n} 页"] for n, page in enumerate(lines, 1)]
    assert parse("a.pdf", pdf(pages), LIMITS).markdown == "".join(line for page in lines for line in page)


def test_a_title_made_up_by_a_program_is_not_one() -> None:
    assert parse("报告.pdf", pdf([["文。"]], info={"Title": "Microsoft Word - 1.doc"}), LIMITS).title == "报告"


def test_text_that_looks_like_markdown_stays_text() -> None:
    assert parse("a.pdf", pdf([["# 1 is a number"]]), LIMITS).outline == ()


@pytest.mark.parametrize("count, taken", [(2, True), (3, True), (4, False)])
def test_the_limit_of_pages(count: int, taken: bool) -> None:
    body = pdf([["文。"]] * count)
    if taken:
        assert parse("a.pdf", body, Limits(pages=3)).meta["pages"] == str(count)
    else:
        with pytest.raises(Unreadable, match="has 4 pages, and 3 are the limit; split it") as raised:
            parse("a.pdf", body, Limits(pages=3))
        assert raised.value.reason == "too_much"


def test_more_pages_than_a_pdf_may_have_by_default() -> None:
    with pytest.raises(Unreadable, match="2001 pages, and 2000 are the limit"):
        parse("a.pdf", pdf([[]] * 2001), LIMITS)


def test_a_claim_of_a_billion_pages_costs_nothing() -> None:
    assert parse("a.pdf", pdf([["文。"]], claimed_pages=1_000_000_000), LIMITS).meta["pages"] == "1"


def test_a_sealed_pdf() -> None:
    with pytest.raises(Unreadable, match="the PDF is protected with a password; remove the password") as raised:
        parse("a.pdf", pdf([["文。"]], sealed=True), LIMITS)
    assert raised.value.reason == "encrypted"


def test_pages_without_text_are_told_from_broken_ones() -> None:
    with pytest.raises(
        Unreadable, match="holds no text, only pictures of pages; run it through text recognition"
    ) as raised:
        parse("a.pdf", pdf([[], []]), LIMITS)
    assert raised.value.reason == "empty"


def outcome(body: bytes) -> str:
    try:
        return parse("a.pdf", body, LIMITS).markdown
    except Unreadable as refused:
        return refused.reason


def test_a_pdf_cut_short_is_read_as_far_as_it_goes_or_refused() -> None:
    body = pdf([["第一页的文字。"], ["第二页的文字。"]])
    found = {outcome(body[:size]) for size in range(1, len(body), max(1, len(body) // 29))}
    assert found - {"broken", "empty"} <= {"第一页的文字。", "第一页的文字。第二页的文字。"}
    assert "broken" in found


def test_the_limit_of_text_is_kept_while_pages_are_read() -> None:
    with pytest.raises(Unreadable, match="more than 1000 bytes of text"):
        parse("a.pdf", pdf([[f"{n}{LONG}" for n in range(20)]]), Limits(text_bytes=1000))
