"""Small real files of every format, made here byte by byte, sound and unsound ones."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
BOMB_XML: Final = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY lol{n} "{"&lol{};".format(n - 1 or "") * 10}">' for n in range(1, 10))
    + "]><w:document xmlns:w='x'>&lol9;</w:document>"
)


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A deflated archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def relations(targets: Sequence[tuple[str, str, str]]) -> str:
    """(id, kind, target) as a part's relationships."""
    rows = "".join(f'<Relationship Id="{i}" Type="{OFFICE}/{kind}" Target="{to}"/>' for i, kind, to in targets)
    return f'<?xml version="1.0"?><Relationships xmlns="{PACKAGE}/relationships">{rows}</Relationships>'


def core_properties(title: str, author: str) -> str:
    names = 'xmlns:cp="x" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    return (
        f"<cp:coreProperties {names}><dc:title>{title}</dc:title><dc:creator>{author}</dc:creator></cp:coreProperties>"
    )


# DOCX


def paragraph(text: str, style: str = "") -> str:
    """``style`` is the id of a style of ``docx``: ``Heading1`` …, ``1`` (标题 1, as Chinese editors have it)."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def docx_table(rows: Sequence[Sequence[str]]) -> str:
    cells = ("".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


def docx_members(body: str) -> dict[str, str | bytes]:
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in [("Heading1", "heading 1"), ("Heading2", "heading 2"), ("Title", "Title"), ("1", "标题 1")]
    )
    return {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
        "_rels/.rels": relations([("r1", "officeDocument", "word/document.xml")]),
        "word/_rels/document.xml.rels": relations([("r1", "styles", "styles.xml")]),
        "word/styles.xml": f"<w:styles {word}>{styles}</w:styles>",
        "word/document.xml": f'<?xml version="1.0"?><w:document {word}><w:body>{body}</w:body></w:document>',
        "docProps/core.xml": core_properties("属性里的标题", "王五"),
    }


def docx(body: str) -> bytes:
    return zipped(docx_members(body))


# PPTX


def shape(paragraphs: Sequence[str], role: str = "") -> str:
    place = f'<p:nvPr><p:ph type="{role}"/></p:nvPr>' if role else "<p:nvPr/>"
    texts = "".join(f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>" for text in paragraphs)
    return f"<p:sp><p:nvSpPr>{place}</p:nvSpPr><p:txBody>{texts}</p:txBody></p:sp>"


def slide_table(rows: Sequence[Sequence[str]]) -> str:
    def cell(text: str) -> str:
        return f"<a:tc><a:txBody><a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p></a:txBody></a:tc>"

    inner = "".join(f"<a:tr>{''.join(map(cell, row))}</a:tr>" for row in rows)
    return (
        f"<p:graphicFrame><a:graphic><a:graphicData><a:tbl>{inner}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )


def pptx(slides: Sequence[tuple[str, str]]) -> bytes:
    """(shapes, notes) of each slide; the members are numbered backwards, the order is that of the presentation."""
    names = (
        'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        f'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:r="{OFFICE}"'
    )
    shown = "".join(f'<p:sldId id="{256 + n}" r:id="r{n}"/>' for n in range(len(slides)))
    members: dict[str, str | bytes] = {
        "ppt/presentation.xml": f"<p:presentation {names}><p:sldIdLst>{shown}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(
            [(f"r{n}", "slide", f"slides/slide{len(slides) - n}.xml") for n in range(len(slides))]
        ),
        "docProps/core.xml": core_properties("季度汇报", "李四"),
    }
    for n, (shapes, notes) in enumerate(slides):
        number = len(slides) - n
        members[f"ppt/slides/slide{number}.xml"] = f"<p:sld {names}><p:spTree>{shapes}</p:spTree></p:sld>"
        members[f"ppt/notesSlides/notesSlide{number}.xml"] = f"<p:notes {names}>{notes}</p:notes>"
        members[f"ppt/slides/_rels/slide{number}.xml.rels"] = relations(
            [("r1", "notesSlide", f"../notesSlides/notesSlide{number}.xml")]
        )
    return zipped(members)


# Spreadsheets


def xlsx_members(sheets: Mapping[str, str], hidden: Sequence[str] = ()) -> dict[str, str | bytes]:
    """Sheets as the XML of their rows."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    states = {name: ' state="hidden"' if name in hidden else "" for name in sheets}
    listed = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"{states[name]}/>' for n, name in enumerate(sheets, 1)
    )
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
        "_rels/.rels": relations([("r1", "officeDocument", "xl/workbook.xml")]),
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{OFFICE}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": relations(
            [(f"r{n}", "worksheet", f"worksheets/sheet{n}.xml") for n in range(1, len(sheets) + 1)]
        ),
    }
    for n, rows in enumerate(sheets.values(), 1):
        members[f"xl/worksheets/sheet{n}.xml"] = f"<worksheet {main}><sheetData>{rows}</sheetData></worksheet>"
    return members


def xlsx_rows(rows: Sequence[Sequence[str | float | None]]) -> str:
    def cell(at: str, value: str | float | None) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return f'<c r="{at}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        return f'<c r="{at}"><v>{value}</v></c>'

    return "".join(
        f'<row r="{r}">{"".join(cell(f"{chr(64 + c)}{r}", value) for c, value in enumerate(row, 1))}</row>'
        for r, row in enumerate(rows, 1)
    )


def ods(rows: Sequence[Sequence[str]], *, sealed: bool = False) -> bytes:
    office = "urn:oasis:names:tc:opendocument:xmlns"
    inner = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{escape(text)}</text:p></table:table-cell>'
            for text in row
        )
        + "</table:table-row>"
        for row in rows
    )
    encryption = '<manifest:encryption-data manifest:checksum="x"/>' if sealed else ""
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{office}:manifest:1.0"><manifest:file-entry '
            f'manifest:full-path="content.xml">{encryption}</manifest:file-entry></manifest:manifest>',
            "content.xml": f'<office:document-content xmlns:office="{office}:office:1.0" '
            f'xmlns:table="{office}:table:1.0" xmlns:text="{office}:text:1.0"><office:body><office:spreadsheet>'
            f'<table:table table:name="表">{inner}</table:table></office:spreadsheet></office:body>'
            "</office:document-content>",
        }
    )


def _record(kind: int, content: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def xls(rows: Sequence[Sequence[str | float]], *, sealed: bool = False) -> bytes:
    """A workbook of one sheet in BIFF8, in a compound file."""
    name = "表一".encode("utf-16-le")
    stop, lock = _record(0x0A), _record(0x2F, struct.pack("<HHH", 1, 0x1234, 0x5678)) if sealed else b""
    head = _record(0x809, struct.pack("<HHHHII", 0x600, 0x5, 0, 0, 0, 0)) + lock
    place = len(head) + 4 + 8 + len(name) + len(stop)
    sheet = _record(0x809, struct.pack("<HHHHII", 0x600, 0x10, 0, 0, 0, 0))
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            if isinstance(value, str):
                text = value.encode("utf-16-le")
                sheet += _record(0x204, struct.pack("<HHHHB", r, c, 0, len(value), 1) + text)
            else:
                sheet += _record(0x203, struct.pack("<HHHd", r, c, 0, value))
    book = head + _record(0x85, struct.pack("<IHBB", place, 0, len(name) // 2, 1) + name) + stop + sheet + stop
    return compound("Workbook", book)


def compound(name: str, stream: bytes) -> bytes:
    """A compound file (MS-CFB) of one stream of 4,096 bytes or more, in sectors of 512."""
    stream = stream.ljust(max(4096, -(-len(stream) // 512) * 512), b"\0")
    sectors = len(stream) // 512
    end, free, fat_mark = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
    fat = [fat_mark, end, *range(3, sectors + 2), end]
    fat += [free] * (128 - len(fat))
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    header += struct.pack("<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, end, 0, end, 0)
    header += struct.pack("<109I", 0, *[free] * 108)

    def entry(title: str, kind: int, child: int, start: int, size: int) -> bytes:
        text = title.encode("utf-16-le")
        return (
            text.ljust(64, b"\0")
            + struct.pack("<HBBIII", len(text) + 2 if text else 0, kind, 1, free, free, child)
            + bytes(36)
            + struct.pack("<IQ", start, size)
        )

    folder = entry("Root Entry", 5, 1, end, 0) + entry(name, 2, free, 2, len(stream)) + entry("", 0, free, 0, 0) * 2
    return header + struct.pack("<128I", *fat) + folder + stream


# PDF


def pdf(
    pages: Sequence[Sequence[str]],
    outline: Sequence[tuple[int, str, int]] = (),
    *,
    info: Mapping[str, str] | None = None,
    sealed: bool = False,
    claimed_pages: int | None = None,
) -> bytes:
    """Lines of text per page; ``outline`` is (level from 1, title, page from 0). Chinese by a predefined CMap."""
    objects: list[bytes] = [b""] * 5
    objects[3] = b"<</Type/Font/Subtype/Type0/BaseFont/STSong/Encoding/UniGB-UCS2-H/DescendantFonts[5 0 R]>>"
    objects[4] = (
        b"<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong/DW 1000"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 2>>>>"
    )
    kids = []
    for lines in pages:
        shown = "".join(f"<{line.encode('utf-16-be').hex()}> Tj 0 -14 Td " for line in lines)
        content = zlib.compress(f"BT /F1 10 Tf 40 800 Td {shown}ET".encode())
        objects.append(b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(content), content))
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 4 0 R>>>>/Contents %d 0 R>>"
            % len(objects)
        )
        kids.append(len(objects))
    count = len(pages) if claimed_pages is None else claimed_pages
    objects[1] = b"<</Type/Pages/Count %d/Kids[%b]>>" % (count, b" ".join(b"%d 0 R" % kid for kid in kids))
    root = _outline(objects, outline, kids)
    objects[0] = b"<</Type/Catalog/Pages 2 0 R%b>>" % (b"/Outlines %d 0 R" % root if root else b"")
    trailer = b""
    if info:
        objects.append(b"<<%b>>" % b"".join(b"/%b%b" % (k.encode(), _text(v)) for k, v in info.items()))
        trailer += b"/Info %d 0 R" % len(objects)
    if sealed:
        objects.append(b"<</Filter/Standard/V 1/R 2/P -4/O<%b>/U<%b>>>" % (b"11" * 32, b"22" * 32))
        trailer += b"/Encrypt %d 0 R/ID[<%b><%b>]" % (len(objects), b"33" * 16, b"33" * 16)
    return _written(objects, trailer)


def _text(value: str) -> bytes:
    return b"<FEFF%b>" % value.encode("utf-16-be").hex().encode()


def _outline(objects: list[bytes], outline: Sequence[tuple[int, str, int]], kids: Sequence[int]) -> int:
    """The number of the outline's root; 0 for none."""
    if not outline:
        return 0
    root = len(objects) + 1
    number = {n: root + 1 + n for n in range(len(outline))}
    parents, last = [], {0: -1}
    for n, (level, _, _) in enumerate(outline):
        parents.append(last.get(level - 1, -1))
        last[level] = n
    objects.append(b"")
    for n, (_, title, page) in enumerate(outline):
        brothers = [m for m in number if parents[m] == parents[n]]
        children = [m for m in number if parents[m] == n]
        parent = number[parents[n]] if parents[n] >= 0 else root
        entry = b"/Title%b/Parent %d 0 R/Dest[%d 0 R/XYZ 0 800 0]" % (_text(title), parent, kids[page])
        at = brothers.index(n)
        if at + 1 < len(brothers):
            entry += b"/Next %d 0 R" % number[brothers[at + 1]]
        if children:
            entry += b"/First %d 0 R/Last %d 0 R/Count %d" % (number[children[0]], number[children[-1]], len(children))
        objects.append(b"<<%b>>" % entry)
    tops = [number[n] for n in number if parents[n] < 0]
    objects[root - 1] = b"<</Type/Outlines/First %d 0 R/Last %d 0 R/Count %d>>" % (tops[0], tops[-1], len(tops))
    return root


def _written(objects: Sequence[bytes], trailer: bytes) -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for n, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (n, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<</Size %d/Root 1 0 R%b>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(out)
