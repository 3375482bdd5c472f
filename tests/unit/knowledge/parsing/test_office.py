"""Word, presentations and spreadsheets: sound ones, and those that are made to do harm."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from arkway.knowledge.parsing import Heading, Limits, Unreadable, parse
from tests.unit.knowledge.parsing.files import (
    BOMB_XML,
    compound,
    docx,
    docx_members,
    docx_table,
    ods,
    paragraph,
    pptx,
    shape,
    slide_table,
    xls,
    xlsx_members,
    xlsx_rows,
    zipped,
)

LIMITS = Limits()
SHEET = {"产品": xlsx_rows([["名", "价"], ["甲", 3.0]])}


def test_word_with_headings_of_both_languages_and_a_table() -> None:
    body = docx(
        paragraph("第一段。")
        + paragraph("安装", "1")
        + docx_table([["名", "值"], ["甲", "1"]])
        + paragraph("Details", "Heading2")
        + paragraph("The end.")
    )
    parsed = parse("手册.docx", body, LIMITS)
    assert parsed.markdown == ("第一段。\n\n# 安装\n\n| 名 | 值 |\n| --- | --- |\n| 甲 | 1 |\n\n## Details\n\nThe end.")
    assert (parsed.title, parsed.meta) == ("安装", {"author": "王五"})
    assert parsed.outline == (Heading(1, "安装"), Heading(2, "Details"))


def test_a_word_title_is_the_title_and_not_one_heading_of_many() -> None:
    body = docx(paragraph("总手册", "Title") + paragraph("一", "1") + paragraph("文。") + paragraph("二", "1"))
    parsed = parse("a.docx", body, LIMITS)
    assert parsed.title == "总手册"
    assert parsed.markdown.startswith("# 总手册\n\n# 一\n\n文。")


def test_word_without_headings_has_the_title_of_its_properties_unless_a_program_made_it_up() -> None:
    members = docx_members(paragraph("文。"))
    assert parse("a.docx", zipped(members), LIMITS).title == "属性里的标题"
    properties = str(members["docProps/core.xml"]).replace("属性里的标题", "Microsoft Word - 新建.doc")
    assert parse("a.docx", zipped({**members, "docProps/core.xml": properties}), LIMITS).title == "a"


def test_slides_in_the_order_of_the_show_with_tables_and_notes() -> None:
    first = shape(["首页"], "ctrTitle") + shape(["要点一", "# 要点二"], "body") + shape(["7"], "sldNum")
    parsed = parse(
        "a.pptx", pptx([(first, shape(["别忘了演示。"], "body")), (slide_table([["a", "b"], ["1", "2"]]), "")]), LIMITS
    )
    assert parsed.markdown == (
        "## 首页\n\n要点一\n\\# 要点二\n\n别忘了演示。\n\n## Slide 2\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    )
    assert (parsed.title, parsed.meta) == ("季度汇报", {"slides": "2", "author": "李四"})


@pytest.mark.parametrize("count, taken", [(2, True), (3, True), (4, False)])
def test_the_limit_of_slides(count: int, taken: bool) -> None:
    body = pptx([(shape(["x"]), "")] * count)
    if taken:
        assert parse("a.pptx", body, Limits(pages=3)).meta["slides"] == str(count)
    else:
        with pytest.raises(Unreadable, match="has 4 slides, and 3 are the limit"):
            parse("a.pptx", body, Limits(pages=3))


def test_a_workbook_with_captions_gaps_and_a_hidden_sheet() -> None:
    rows = xlsx_rows([["价格表", None], ["名", "价"], ["甲|乙", 3.0], [None, None], ["丙", 2.5]])
    sheets = {"产品": rows, "单列": xlsx_rows([["x"], ["y"]]), "藏": xlsx_rows([["secret"]]), "空": ""}
    parsed = parse("a.xlsx", zipped(xlsx_members(sheets, hidden=["藏"])), LIMITS)
    assert parsed.markdown == (
        "## 产品\n\n价格表\n\n| 名 | 价 |\n| --- | --- |\n| 甲\\|乙 | 3 |\n| 丙 | 2.5 |\n\n## 单列\n\nx\n\ny"
    )
    assert (parsed.kind, parsed.title, parsed.meta) == ("sheet", "a", {"sheets": "4"})


@pytest.mark.parametrize(
    "name, body, sheet",
    [("a.xls", xls([["名", "价"], ["甲", 3.5]]), "表一"), ("a.ods", ods([["名", "价"], ["甲", "3.5"]]), "表")],
)
def test_other_workbooks(name: str, body: bytes, sheet: str) -> None:
    markdown = parse(name, body, LIMITS).markdown
    assert markdown == f"## {sheet}\n\n| 名 | 价 |\n| --- | --- |\n| 甲 | 3.5 |"


@pytest.mark.parametrize(
    "name, body",
    [
        ("a.docx", compound("EncryptedPackage", b"sealed")),
        ("a.pptx", compound("EncryptedPackage", b"sealed")),
        ("a.xlsx", compound("EncryptedPackage", b"sealed")),
        ("a.xls", xls([["a"]], sealed=True)),
        ("a.ods", ods([["a"]], sealed=True)),
    ],
)
def test_sealed_files_ask_for_the_password_to_be_removed(name: str, body: bytes) -> None:
    with pytest.raises(Unreadable, match="password") as raised:
        parse(name, body, LIMITS)
    assert raised.value.reason == "encrypted"


def test_an_encrypted_member() -> None:
    body = bytearray(docx(paragraph("x")))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = body.index(mark)
        body[place + at] |= 1
    with pytest.raises(Unreadable, match="remove the password"):
        parse("a.docx", bytes(body), LIMITS)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.xls", "a.ods"])
@pytest.mark.parametrize("body", [b"not at all", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a", zipped({"x": "y"})])
def test_what_only_has_the_name_is_broken(name: str, body: bytes) -> None:
    with pytest.raises(Unreadable) as raised:
        parse(name, body, LIMITS)
    assert raised.value.reason == "broken"
    assert "save it again" in raised.value.message


@pytest.mark.parametrize("name, body", [
    ("a.docx", docx(paragraph("x" * 3000))), ("a.xls", xls([["x" * 200] * 20])), ("a.ods", ods([["x"]])),
    ("a.xlsx", zipped(xlsx_members(SHEET))), ("a.pptx", pptx([(shape(["x"]), "")])),
])  # fmt: skip
def test_files_cut_short_are_broken(name: str, body: bytes) -> None:
    for size in range(8, len(body) - 1, max(1, len(body) // 23)):
        with pytest.raises(Unreadable):
            parse(name, body[:size], LIMITS)


@pytest.mark.parametrize("name", ["a.docx", "a.xlsx", "a.ods", "a.pptx"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_declares_entities_is_refused_wherever_it_is(name: str, encoding: str) -> None:
    body = zipped({**docx_members(""), "customXml/notes.bin": BOMB_XML.encode(encoding)})
    with pytest.raises(Unreadable, match="declares XML entities") as raised:
        parse(name, body, LIMITS)
    assert raised.value.reason == "bomb"


@pytest.mark.parametrize("count, taken", [(9, True), (10, True), (11, False)])
def test_the_limit_of_members(count: int, taken: bool) -> None:
    members = docx_members(paragraph("x"))
    body = zipped(members | {f"more/{n}": b"x" for n in range(count - len(members))})
    if taken:
        assert parse("a.docx", body, Limits(members=10)).markdown == "x"
    else:
        with pytest.raises(Unreadable, match="holds 11 parts, and 10 are the limit"):
            parse("a.docx", body, Limits(members=10))


@pytest.mark.parametrize("spare, taken", [(1, True), (0, True), (-1, False)])
def test_the_limit_of_what_an_archive_unpacks_to(spare: int, taken: bool) -> None:
    body = docx(paragraph("x" * 5000))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    limits = Limits(unpacked_bytes=unpacked + spare)
    if taken:
        assert parse("a.docx", body, limits).markdown == "x" * 5000
    else:
        with pytest.raises(Unreadable, match="unpacks to more than"):
            parse("a.docx", body, limits)


@pytest.mark.parametrize("spare, taken", [(1, True), (0, True), (-1, False)])
def test_the_limit_of_the_ratio(spare: int, taken: bool) -> None:
    body = docx(paragraph("x" * 200_000))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        main = archive.getinfo("word/document.xml")
        ratio = -(-main.file_size // main.compress_size)
    limits = Limits(ratio=ratio + spare, ratio_from_bytes=100_000)
    if taken:
        parse("a.docx", body, limits)
    else:
        with pytest.raises(Unreadable, match=f"more than {ratio - 1} times its size"):
            parse("a.docx", body, limits)


def test_a_bomb_of_zeros_is_refused_by_its_ratio() -> None:
    body = zipped({**docx_members(paragraph("x")), "word/media/a.bin": bytes(50 * 1024 * 1024)})
    with pytest.raises(Unreadable, match="more than 100 times its size") as raised:
        parse("a.docx", body, LIMITS)
    assert raised.value.reason == "bomb"


def test_a_member_that_unpacks_to_more_than_it_claims_is_refused() -> None:
    name = b"xl/worksheets/sheet1.xml"
    body = bytearray(zipped(xlsx_members({"a": xlsx_rows([["x" * 5000]])})))
    for mark, at, head in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        place = body.index(name, body.index(mark)) - head if head == 30 else body.rindex(name) - head
        struct.pack_into("<I", body, place + at, 100)
    with pytest.raises(Unreadable, match="unpacks to more than it claims"):
        parse("a.xlsx", bytes(body), LIMITS)


def test_archives_within_archives_stay_closed() -> None:
    inner = zipped({"x.txt": "secret words"})
    for _ in range(20):
        inner = zipped({"nested.zip": inner})
    body = zipped({**docx_members(paragraph("外面。")), "word/embeddings/inner.zip": inner})
    assert parse("a.docx", body, LIMITS).markdown == "外面。"


def test_members_named_like_paths_are_not_written_anywhere() -> None:
    body = zipped({**docx_members(paragraph("x")), "../../../../tmp/arkway-escaped.txt": b"y", "/etc/arkway": b"z"})
    assert parse("a.docx", body, LIMITS).markdown == "x"


def test_more_text_than_allowed_in_a_workbook() -> None:
    body = zipped(xlsx_members({"a": xlsx_rows([["x" * 900, "y"], ["z" * 900, "y"]])}))
    with pytest.raises(Unreadable, match="more than 1000 bytes of text"):
        parse("a.xlsx", body, Limits(text_bytes=1000))
