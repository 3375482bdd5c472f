"""Archives of strangers (DOCX, PPTX, XLSX, ODS): looked at before any library reads them. Nothing is ever unpacked to
files; names of members are keys to read by, not paths."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pyexpat import ExpatError, ParserCreate, XMLParserType
from typing import Final

from arkway.knowledge.parsing.parsed import Limits, Unreadable, broken, encrypted, shown_mib

OLE_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_STEP_BYTES: Final = 64 * 1024
_ENCRYPTED: Final = 0x1


def checked_archive(body: bytes, what: str, limits: Limits) -> zipfile.ZipFile:
    """The archive, once it is known to keep to the limits: how many members, what they really unpack to (whatever they
    claim), and no XML that declares entities. Raises Unreadable."""
    if body.startswith(OLE_MAGIC):
        raise _sealed_or_old(what)
    try:
        archive = zipfile.ZipFile(io.BytesIO(body))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise broken(what, repr(error)) from None
    _check_claims(archive.infolist(), len(body), what, limits)
    for member in archive.infolist():
        _check_member(body, member, what)
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One member's content; b"" when there is none of this name."""
    try:
        return archive.read(name)
    except KeyError:
        return b""


def _check_claims(members: list[zipfile.ZipInfo], size_bytes: int, what: str, limits: Limits) -> None:
    if len(members) > limits.members:
        raise _bomb(f"it holds {len(members)} parts, and {limits.members} are the limit")
    unpacked = sum(member.file_size for member in members)
    if unpacked > limits.unpacked_bytes:
        raise _bomb(f"it unpacks to more than {shown_mib(limits.unpacked_bytes)}")
    sizes = [(unpacked, size_bytes)] + [(member.file_size, member.compress_size) for member in members]
    if any(large >= limits.ratio_from_bytes and large > limits.ratio * small for large, small in sizes):
        raise _bomb(f"it unpacks to more than {limits.ratio} times its size")
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise encrypted(what)
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise broken(what, "a method of compression that Office files do not use")


def _check_member(body: bytes, member: zipfile.ZipInfo, what: str) -> None:
    """That the member unpacks to what it claims, no more and no less, and declares no entities if it is XML."""
    prolog = _Prolog()
    left_bytes = member.file_size
    for piece in _unpacked(body, member, what):
        left_bytes -= len(piece)
        if left_bytes < 0:
            raise _bomb("a part of it unpacks to more than it claims")
        prolog.feed(piece)
    if left_bytes:
        raise broken(what, "a part of it is shorter than it claims")
    if prolog.has_doctype:
        raise _bomb("a part of it declares XML entities, which documents have no use for")


def _unpacked(body: bytes, member: zipfile.ZipInfo, what: str) -> Iterator[bytes]:
    """A member's content in steps, as the stream itself has it."""
    header = body[member.header_offset : member.header_offset + _LOCAL_HEADER.size]
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise broken(what, "a part of it is not where its directory says")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    packed = memoryview(body)[start : start + member.compress_size]
    if len(packed) < member.compress_size:
        raise broken(what, "a part of it is cut short")
    steps = (packed[at : at + _STEP_BYTES] for at in range(0, len(packed), _STEP_BYTES))
    if member.compress_type == zipfile.ZIP_STORED:
        return map(bytes, steps)
    return _inflated(steps, what)


def _inflated(packed: Iterable[memoryview], what: str) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for step in packed:
            source: bytes | memoryview = step
            while source and not stream.eof:
                yield stream.decompress(source, _STEP_BYTES)
                source = stream.unconsumed_tail
        while not stream.eof:
            piece = stream.decompress(b"", _STEP_BYTES)
            if not piece:
                raise broken(what, "a part of it ends too early")
            yield piece
    except zlib.error as error:
        raise broken(what, repr(error)) from None


class _Prolog:
    """What comes before the first element of XML. Only there can a document type stand, which declares entities."""

    def __init__(self) -> None:
        self.has_doctype = False
        self._done = False
        self._parser: XMLParserType = ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._element

    def feed(self, piece: bytes) -> None:
        if self._done:
            return
        try:
            self._parser.Parse(piece, False)
        except (ExpatError, ValueError, LookupError):
            self._done = True  # a picture, or broken XML, which its reader will say

    def _doctype(self, *_: object) -> None:
        self.has_doctype = self._done = True

    def _element(self, *_: object) -> None:
        self._done = True


def _bomb(why: str) -> Unreadable:
    return Unreadable("bomb", f"the file is refused: {why}; open it in the program that made it and save it again")


def _sealed_or_old(what: str) -> Unreadable:
    message = (
        f"the file is either protected with a password or of the format before {what}; "
        "remove the password, or save it in the new format"
    )
    return Unreadable("encrypted", message)
