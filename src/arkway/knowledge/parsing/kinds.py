"""Which parser reads which file, and what every parsed document has in common."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

import msgspec

from arkway.knowledge.blocks import Block, blocks
from arkway.knowledge.parsing.parsed import TITLE_LIMIT, Heading, Kind, Limits, Parsed, Unreadable, broken, shown_mib
from arkway.knowledge.parsing.text import clean

Parser = Callable[[bytes, str, Limits], Parsed]

KINDS: Final[dict[str, Kind]] = {
    "md": "md", "markdown": "md", "txt": "txt", "text": "txt", "html": "html", "htm": "html", "pdf": "pdf",
    "docx": "docx", "pptx": "pptx", "xlsx": "sheet", "xlsm": "sheet", "xls": "sheet", "ods": "sheet",
    "csv": "csv", "tsv": "csv",
}  # fmt: skip
_PARSERS: Final[dict[Kind, str]] = {
    "md": "text:parse_markdown", "txt": "text:parse_text", "html": "web:parse_html", "pdf": "pdf:parse_pdf",
    "docx": "word:parse_docx", "pptx": "slides:parse_pptx", "sheet": "tables:parse_sheet", "csv": "tables:parse_csv",
}  # fmt: skip
_NEWER: Final = {"doc": "docx", "ppt": "pptx", "wps": "docx", "odt": "docx", "rtf": "docx", "odp": "pptx", "et": "xlsx"}
_PACKED: Final = ("zip", "gz", "tgz", "tar", "7z", "rar", "bz2", "xz")
_WHATS: Final[dict[Kind, str]] = {
    "md": "Markdown", "txt": "plain text", "html": "a web page", "pdf": "a PDF", "docx": "a Word document (.docx)",
    "pptx": "a presentation (.pptx)", "sheet": "a spreadsheet (.xlsx, .xls or .ods)", "csv": "separated values (.csv)",
}  # fmt: skip


def stem_and_extension(file_name: str) -> tuple[str, str]:
    """What a file is called without folders and extension, and the extension in lower case. Never used as a path."""
    base = posixpath.basename(" ".join(clean(file_name).replace("\\", "/").split()).rstrip("/"))
    stem, extension = posixpath.splitext(base)
    return stem[:TITLE_LIMIT] or "document", extension.removeprefix(".").lower()


def kind_of(file_name: str) -> Kind:
    """The kind of file by its name. Raises Unreadable with what to do instead."""
    extension = stem_and_extension(file_name)[1]
    if extension in KINDS:
        return KINDS[extension]
    known = ", ".join(f".{name}" for name in KINDS)
    if extension in _PACKED:
        raise Unreadable("unknown", "archives are not taken; unpack it and upload the files one by one")
    if extension in _NEWER:
        raise Unreadable("unknown", f"files of type .{extension} are not taken; save it as .{_NEWER[extension]}")
    said = f"files of type .{extension[:16]} are not taken" if extension else "the file's name has no extension"
    raise Unreadable("unknown", f"{said}; these are: {known}")


def check_size(size_bytes: int, limits: Limits) -> None:
    """Raises Unreadable for a file that holds nothing, or too much."""
    if not size_bytes:
        raise Unreadable("empty", "the file is empty")
    if size_bytes > limits.upload_bytes:
        limit = shown_mib(limits.upload_bytes)
        raise Unreadable("too_large", f"the file has {shown_mib(size_bytes)}, and {limit} is the limit; split it")


def parse(file_name: str, body: bytes, limits: Limits) -> Parsed:
    """The file as Markdown, here and now, with whatever it costs: files of strangers go through ``parse_in_child``.

    Raises Unreadable; MemoryError under a limit of memory; ModuleNotFoundError without the extra ``knowledge``.
    """
    kind = kind_of(file_name)
    check_size(len(body), limits)
    module, _, name = _PARSERS[kind].partition(":")
    parser = cast(Parser, getattr(import_module(f"arkway.knowledge.parsing.{module}"), name))
    try:
        parsed = parser(body, stem_and_extension(file_name)[0], limits)
    except (Unreadable, MemoryError, ModuleNotFoundError):
        raise
    except RecursionError as error:
        raise Unreadable("bomb", "the file is refused: it is nested too deeply; simplify it", repr(error)) from None
    except Exception as error:  # the libraries raise whatever comes up in a damaged file
        raise broken(_WHATS[kind], repr(error)) from None
    return _finished(parsed, stem_and_extension(file_name)[0])


def _finished(parsed: Parsed, stem: str) -> Parsed:
    """The document with its title and outline."""
    headings = [block for block in blocks(parsed.markdown) if block.kind == "heading"]
    if not any(map(str.isalnum, parsed.markdown)):
        raise Unreadable("empty", _EMPTY.get(parsed.kind, "the file holds no text"))
    if _INCREDIBLE.search(parsed.title):
        parsed = msgspec.structs.replace(parsed, title=stem)
    outline = tuple(Heading(heading.level, heading.text) for heading in headings)
    return msgspec.structs.replace(parsed, title=_title(parsed, headings), outline=outline)


# What programs write when nobody has given a title.
_INCREDIBLE: Final = re.compile(
    r"^(Microsoft (Word|PowerPoint|Excel)\b|untitled|unknown$|document\d*$|presentation\d*$|slide \d+$|"
    r"powerpoint (presentation|演示文稿)|无标题|未命名|文档\s?\d*$|演示文稿\s?\d*$)|"
    r"\.(docx?|pptx?|xlsx?|wps|indd|tex|dvi)$",
    re.IGNORECASE,
)
_HEADED: Final = ("md", "html", "docx")
_EMPTY: Final[dict[Kind, str]] = {
    "pdf": "the PDF holds no text, only pictures of pages; run it through text recognition (OCR) and upload the result"
}


def _title(parsed: Parsed, headings: list[Block]) -> str:
    """What the file says its title is; in text with headings the only one of the first level, if it is the first."""
    tops = [heading.text for heading in headings if heading.level == 1]
    heads_all = parsed.kind in _HEADED and len(tops) == 1 and headings[0].level == 1
    title = " ".join((tops[0] if heads_all else parsed.title).split())
    return title[:TITLE_LIMIT].strip()
