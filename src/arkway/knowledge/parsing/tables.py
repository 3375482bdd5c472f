"""Spreadsheets and CSV as Markdown tables, the head first."""

from __future__ import annotations

import csv
import datetime
import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from arkway.knowledge.blocks import literal
from arkway.knowledge.parsing.archive import OLE_MAGIC, checked_archive, read_member
from arkway.knowledge.parsing.parsed import TITLE_LIMIT, Gathered, Limits, Parsed, broken, encrypted
from arkway.knowledge.parsing.text import clean, decoded

_WHAT: Final = "a spreadsheet (.xlsx, .xls or .ods)"
_SNIFFED_CHARS: Final = 8192
_SEALED_PACKAGE: Final = "EncryptedPackage".encode("utf-16-le")
_SECTOR_BYTES: Final = 512
_BOOK: Final = bytes.fromhex("09081000 00060500")  # how the stream of a workbook begins: BOF, BIFF8, globals (MS-XLS)
_RECORD: Final = struct.Struct("<HH")
_FILE_PASS: Final = 0x2F
_RECORDS_BEFORE: Final = 4
_SEPARATORS: Final = ",;\t|"


def parse_sheet(body: bytes, stem: str, limits: Limits) -> Parsed:
    """The visible sheets of a workbook, each under its name. Formulas count by their last result. Raises Unreadable."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

    if body.startswith(OLE_MAGIC):
        if _SEALED_PACKAGE in body or _is_sealed_book(body):
            raise encrypted("spreadsheet")
    else:
        archive = checked_archive(body, _WHAT, limits)
        if b"encryption-data" in read_member(archive, "META-INF/manifest.xml"):
            raise encrypted("spreadsheet")
    gathered = Gathered(limits)
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(body))
        for sheet in workbook.sheets_metadata:
            if sheet.typ == SheetTypeEnum.WorkSheet and sheet.visible == SheetVisibleEnum.Visible:
                _add_sheet(gathered, sheet.name, workbook.get_sheet_by_name(sheet.name).iter_rows())
    except PasswordError:
        raise encrypted("spreadsheet") from None
    except CalamineError as error:
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise encrypted("spreadsheet") from None
        raise broken(_WHAT, repr(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what Rust calls a defect; it is not an Exception
            raise
        raise broken(_WHAT, repr(error)) from None
    meta = {"sheets": str(len(workbook.sheet_names))}
    return Parsed(kind="sheet", title=stem, markdown=gathered.markdown(), meta=meta)


def parse_csv(body: bytes, stem: str, limits: Limits) -> Parsed:
    """Values separated by commas, semicolons, tabs or bars: whichever the first lines have the most of."""
    text, encoding = decoded(body, limits)
    csv.field_size_limit(max(limits.text_bytes, 1))
    separator = max(_SEPARATORS, key=text[:_SNIFFED_CHARS].count)
    gathered = Gathered(limits)
    try:
        _add_rows(gathered, csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise broken("a table of separated values (.csv)", repr(error)) from None
    return Parsed(kind="csv", title=stem, markdown=gathered.markdown(), meta={"encoding": encoding})


def table(rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first row is its head. "" for no rows."""
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join([*lines[:1], "|" + " --- |" * len(rows[0]), *lines[1:]]) if lines else ""


def _is_sealed_book(body: bytes) -> bool:
    """Whether an .xls is encrypted, which its reader does not tell from damaged: one of its first records says so."""
    for at in range(_SECTOR_BYTES, len(body), _SECTOR_BYTES):
        if body.startswith(_BOOK, at):
            for _ in range(_RECORDS_BEFORE):
                if at + _RECORD.size > len(body):
                    break
                kind, size = _RECORD.unpack_from(body, at)
                if kind == _FILE_PASS:
                    return True
                at += _RECORD.size + size
    return False


def _add_sheet(gathered: Gathered, name: str, rows: Iterable[Sequence[object]]) -> None:
    filled = _filled(rows)
    first = next(filled, None)
    if first is not None:
        gathered.add(f"## {' '.join(clean(name).split())[:TITLE_LIMIT]}")
        _add_rows(gathered, chain((first,), filled))


def _add_rows(gathered: Gathered, rows: Iterable[Sequence[object]]) -> None:
    """Rows of one cell before the first wider one are the table's captions, and stand before it as text."""
    captions: list[str] = []
    wide: list[list[object]] = []
    for row in _filled(rows):
        if not wide and sum(value not in (None, "") for value in row) == 1:
            captions.append(_cell(next(value for value in row if value not in (None, ""))))
        else:
            wide.append(row)
    for caption in captions:
        gathered.add(literal(caption))
    gathered.add(table(wide))


def _filled(rows: Iterable[Sequence[object]]) -> Iterator[list[object]]:
    """The rows that hold anything, without the empty cells at their ends."""
    for row in rows:
        kept = list(row)
        while kept and kept[-1] in (None, ""):
            kept.pop()
        if kept:
            yield kept


def _cell(value: object) -> str:
    """One value on one line, as people write it."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    return " ".join(clean("" if value is None else str(value)).split()).replace("|", "\\|")
