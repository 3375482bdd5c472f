"""Plain text, Markdown, HTML and separated values: encodings, titles, and what is left out."""

from __future__ import annotations

import pytest

from arkway.knowledge.blocks import blocks
from arkway.knowledge.parsing import Heading, Limits, Unreadable, kind_of, parse

LIMITS = Limits()
PROSE = "方舟平台提供模型服务。用户可以创建推理接入点。"


@pytest.mark.parametrize(
    "encoding, named",
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("gb18030", "gb18030"), ("gbk", "gb18030"), ("utf-16", "utf-16")],
)
def test_text_in_every_encoding_that_is_taken(encoding: str, named: str) -> None:
    parsed = parse("说明.txt", PROSE.encode(encoding), LIMITS)
    assert (parsed.markdown, parsed.title, parsed.kind) == (PROSE, "说明", "txt")
    assert parsed.meta == {"encoding": named}


@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff broken", b"caf\xe9"])
def test_what_is_no_text_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(Unreadable, match="not text in UTF-8 or GB18030; save it as UTF-8") as raised:
        parse("a.txt", body, LIMITS)
    assert (raised.value.reason, raised.value.field) == ("broken", "file")


@pytest.mark.parametrize(
    "body, said",
    [
        (PROSE.encode()[:-1], "in UTF-8 that is damaged at byte 67 of 68"),
        (PROSE.encode() + b"\xff" + PROSE.encode(), "in UTF-8 that is damaged at byte 70 of 139"),
        (b"\x7fELF\x00\x00\x01text", "not text but something else"),
        (b"\xff\xfea", "in UTF-16-LE that is damaged at byte 3 of 3"),
    ],
)
def test_damaged_text_is_not_taken_for_another_encoding(body: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=said) as raised:
        parse("a.txt", body, LIMITS)
    assert raised.value.reason == "broken"


def test_marks_in_plain_text_mean_nothing() -> None:
    text = "# 不是标题\n| a | b |\n|---|---|\n```\n\\# x\n==="
    parsed = parse("a.txt", text.encode(), LIMITS)
    assert [(block.kind, block.text) for block in blocks(parsed.markdown)] == [("prose", text)]
    assert parsed.outline == ()


def test_line_ends_and_invisible_characters_are_made_plain() -> None:
    assert parse("a.txt", "一\r\n二\r三\x07\u200b\ufeff".encode(), LIMITS).markdown == "一\n二\n三"


def test_markdown_with_front_matter() -> None:
    body = "---\ntitle: '使用手册'\nauthor: 张三\ntags:\n  - x\n---\n\n## 安装\n\n第一步。\n".encode()
    parsed = parse("docs/guide.md", body, LIMITS)
    assert parsed.title == "使用手册"
    assert parsed.meta == {"encoding": "utf-8", "title": "使用手册", "author": "张三"}
    assert parsed.markdown.strip() == "## 安装\n\n第一步。"
    assert parsed.outline == (Heading(2, "安装"),)


@pytest.mark.parametrize(
    "text, title",
    [
        ("# 总览\n\n文字。\n\n## 细节\n\n文字。", "总览"),
        ("# 一\n\n文字。\n\n# 二\n\n文字。", "guide"),
        ("## 二级\n\n文字。\n\n# 一级\n\n文字。", "guide"),
        ("标题\n====\n\n文字。", "标题"),
        ("文字。", "guide"),
    ],
)
def test_the_title_is_the_heading_that_heads_all_else_the_name(text: str, title: str) -> None:
    assert parse("guide.md", text.encode(), LIMITS).title == title


def test_html_keeps_structure_and_drops_the_rest() -> None:
    body = """<html><head><title>产品 - 站点</title><style>x{}</style></head><body><nav>首页</nav>
    <h1>产品</h1><p>一段<b>文字</b>，有<a href="http://x/">链接</a>。<img src="x" alt="图"></p><script>alert(1)</script>
    <ul><li>甲<ul><li>乙</li></ul></li></ul><h2>表</h2>
    <table><tr><th>名</th><th>价</th></tr><tr><td>甲</td><td>1</td></tr></table><pre>code  x</pre></body></html>"""
    parsed = parse("p.html", body.encode("gb18030"), LIMITS)
    assert parsed.title == "产品"
    assert parsed.outline == (Heading(1, "产品"), Heading(2, "表"))
    assert parsed.markdown == (
        "# 产品\n\n一段文字，有链接。\n\n- 甲\n  - 乙\n\n"
        "## 表\n\n| 名 | 价 |\n| --- | --- |\n| 甲 | 1 |\n\n```\ncode  x\n```"
    )


def test_html_whose_elements_are_not_closed() -> None:
    body = b"<p>one<p>two<table><tr><td>a<td>b<tr><td>1<td>2</table><ul><li>x<li>y</ul>"
    markdown = parse("p.htm", body, LIMITS).markdown
    assert markdown == "one\n\ntwo\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n- x\n- y"


def test_html_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(Unreadable, match="nested too deeply") as raised:
        parse("p.html", b"<div>" * 100_000 + b"x", LIMITS)
    assert raised.value.reason == "bomb"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separated_values(separator: str) -> None:
    rows = [["名称", "说明"], ["甲", '"两\n行"'], ["乙", "a|b"], ["", ""]]
    body = "\r\n".join(separator.join(row) for row in rows).encode("gb18030")
    parsed = parse("价目.csv", body, LIMITS)
    assert parsed.markdown == "| 名称 | 说明 |\n| --- | --- |\n| 甲 | 两 行 |\n| 乙 | a\\|b |"
    assert (parsed.kind, parsed.title, parsed.meta) == ("csv", "价目", {"encoding": "gb18030"})


@pytest.mark.parametrize("size, taken", [(999, True), (1000, True), (1001, False)])
def test_the_limit_of_text(size: int, taken: bool) -> None:
    limits = Limits(text_bytes=1000)
    if taken:
        assert len(parse("a.txt", b"x" * size, limits).markdown) == size
    else:
        with pytest.raises(Unreadable, match="more than 1000 bytes of text; split it"):
            parse("a.txt", b"x" * size, limits)


@pytest.mark.parametrize("size, taken", [(999, True), (1000, True), (1001, False)])
def test_the_limit_of_an_upload(size: int, taken: bool) -> None:
    limits = Limits(upload_bytes=1000)
    if taken:
        parse("a.txt", b"x" * size, limits)
    else:
        with pytest.raises(Unreadable, match="the file has 1001 bytes, and 1000 bytes is the limit") as raised:
            parse("a.txt", b"x" * size, limits)
        assert raised.value.reason == "too_large"


@pytest.mark.parametrize(
    "name, body", [("a.txt", b""), ("a.txt", b" \n\t"), ("a.md", b"# \n\n---\n"), ("a.html", b"<p>")]
)
def test_files_without_text_are_empty(name: str, body: bytes) -> None:
    with pytest.raises(Unreadable) as raised:
        parse(name, body, LIMITS)
    assert raised.value.reason == "empty"


@pytest.mark.parametrize(
    "name, said",
    [
        ("a.zip", "archives are not taken; unpack it"),
        ("a.tar.gz", "archives are not taken; unpack it"),
        ("a.DOC", "files of type .doc are not taken; save it as .docx"),
        ("a.exe", "files of type .exe are not taken; these are: .md"),
        ("README", "the file's name has no extension; these are: .md"),
        ("", "the file's name has no extension"),
    ],
)
def test_unknown_types_say_what_to_do(name: str, said: str) -> None:
    with pytest.raises(Unreadable, match="^" + said) as raised:
        kind_of(name)
    assert raised.value.reason == "unknown"


@pytest.mark.parametrize("name", ["../../etc/passwd.txt", "C:\\x\\passwd.txt", "/passwd.txt", "x/\x00passwd.TXT"])
def test_names_are_data(name: str) -> None:
    assert parse(name, b"text", LIMITS).title == "passwd"
