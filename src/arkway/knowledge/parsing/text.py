"""Plain text and Markdown: encodings, control characters, front matter."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import Final

from arkway.knowledge.blocks import literal
from arkway.knowledge.parsing.parsed import Limits, Parsed, Unreadable, too_much_text

_MEND: Final = "save it as UTF-8, or give it the extension of what it really is"
_FOREIGN: Final = re.compile(r"[^\x00-\x7f]")
_SURELY_UTF8: Final = 4  # so many characters of GB18030 in a row are hardly ever valid in UTF-8
_LINE_ENDS: Final = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_INVISIBLE: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff\u200b\u2060\u00ad]")
_FRONT: Final = re.compile(r"---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_FRONT_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,63}):[ \t]*(\S.{0,999})")
# Characters that PDF fonts put in the place of ordinary ones: radicals, compatibility ideographs, Latin ligatures.
_STAND_INS: Final = re.compile(r"[\u2e80-\u2fdf\uf900-\ufaff\ufb00-\ufb06]")


def decoded(body: bytes, limits: Limits) -> tuple[str, str]:
    """The text and the name of its encoding: UTF-8, UTF-16 with its mark, else GB18030. Raises Unreadable."""
    if len(body) > 2 * limits.text_bytes:
        raise too_much_text(limits)
    encoding = _encoding(body)
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(body, error) from None
    if "\x00" in text:
        raise Unreadable("broken", f"the file is not text but something else; {_MEND}")
    if len(text.encode("utf-8", "replace")) > limits.text_bytes:
        raise too_much_text(limits)
    return clean(text), encoding.removesuffix("-sig")


def _encoding(body: bytes) -> str:
    """What the text is in: by its mark, else UTF-8 if it is that, or was before it was damaged, else GB18030."""
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        sound = body[: error.start].decode("utf-8-sig")
        return "utf-8-sig" if len(_FOREIGN.findall(sound)) >= _SURELY_UTF8 else "gb18030"
    return "utf-8-sig"


def _undecodable(body: bytes, error: UnicodeDecodeError) -> Unreadable:
    if error.encoding == "gb18030":
        return Unreadable("broken", f"the file is not text in UTF-8 or GB18030; {_MEND}")
    place = f"at byte {error.start + 1} of {len(body)}"
    return Unreadable("broken", f"the file is text in {error.encoding.upper()} that is damaged {place}; {_MEND}")


def clean(text: str) -> str:
    """The text with one kind of line end and without what cannot be seen."""
    return _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))


def ordinary(text: str) -> str:
    """The text with ordinary characters in the place of those that only look like them."""
    return _STAND_INS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)


def parse_text(body: bytes, stem: str, limits: Limits) -> Parsed:
    """Plain text, in which nothing means anything."""
    text, encoding = decoded(body, limits)
    return Parsed(kind="txt", title=stem, markdown=literal(text), meta={"encoding": encoding})


def parse_markdown(body: bytes, stem: str, limits: Limits) -> Parsed:
    """Markdown, with the simple fields of its front matter."""
    text, encoding = decoded(body, limits)
    meta = {"encoding": encoding}
    if front := _FRONT.match(text):
        fields = [_FRONT_FIELD.fullmatch(line.rstrip()) for line in front[1].split("\n")]
        meta |= {field[1].lower(): field[2].strip().strip("\"'") for field in fields if field}
        text = text[front.end() :]
    return Parsed(kind="md", title=meta.get("title") or stem, markdown=text, meta=meta)
