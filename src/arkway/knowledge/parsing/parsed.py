"""What parsing takes and gives, as values."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from arkway.core.errors import UnsupportedInput

MIB: Final = 1024 * 1024
TITLE_LIMIT: Final = 200

Kind = Literal["md", "txt", "html", "pdf", "docx", "pptx", "sheet", "csv"]
Reason = Literal["unknown", "too_large", "too_much", "bomb", "encrypted", "broken", "empty", "memory", "time", "killed"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one file may cost. Sizes in bytes, times in seconds.

    ``text_bytes``: of the Markdown as UTF-8. ``ratio``: what an archive, or a member of it, may unpack to, as a
    multiple of its size; what unpacks to less than ``ratio_from_bytes`` is not judged by it. ``memory_bytes``: the
    child's address space. ``cpu_s`` is the child's, ``wall_s`` is how long the caller waits.
    """

    upload_bytes: int = 100 * MIB
    pages: int = 2_000
    text_bytes: int = 20 * MIB
    ratio: int = 100
    ratio_from_bytes: int = MIB
    unpacked_bytes: int = 512 * MIB
    members: int = 1_000
    memory_bytes: int = 512 * MIB
    cpu_s: int = 20
    wall_s: float = 60.0


class Heading(msgspec.Struct, frozen=True):
    """A heading of the document; ``level`` counts from 1, as in Markdown."""

    level: int
    title: str


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """A document as Markdown. ``title`` is never empty; ``meta`` is what the file says about itself, as far as it does:
    ``pages``, ``sheets``, ``slides``, ``encoding``, ``author``, and the front matter of Markdown."""

    kind: Kind
    title: str
    markdown: str
    outline: tuple[Heading, ...] = ()
    meta: dict[str, str] = {}


class Unreadable(UnsupportedInput):
    """A file that cannot be taken in. The message says what is wrong with it and how to mend it, and can be shown to
    whoever uploaded it; ``detail`` is for the log only."""

    def __init__(self, reason: Reason, message: str, detail: str = "") -> None:
        super().__init__(message, "file")
        self.reason = reason
        self.detail = detail


def shown_mib(size_bytes: int) -> str:
    """A size as people write it."""
    return f"{size_bytes / MIB:g} MiB" if size_bytes >= MIB else f"{size_bytes} bytes"


def broken(what: str, detail: str = "") -> Unreadable:
    """A file that is not what its name says, or was cut short."""
    message = f"the file is damaged or is not {what}; open it in the program that made it and save it again"
    return Unreadable("broken", message, detail)


def encrypted(what: str) -> Unreadable:
    """A file that asks for a password."""
    return Unreadable("encrypted", f"the {what} is protected with a password; remove the password and upload it again")


def too_much_text(limits: Limits) -> Unreadable:
    """More text than one document may have."""
    limit = shown_mib(limits.text_bytes)
    return Unreadable("too_much", f"the file holds more than {limit} of text; split it into several files")


class Gathered:
    """Markdown as it comes together. Raises Unreadable as soon as it is more than the limits allow."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._left_bytes = limits.text_bytes

    def add(self, block: str) -> None:
        """A block of its own; the blank line after it is added here. An empty one is left out."""
        if block := block.strip("\n"):
            self._left_bytes -= len(block.encode("utf-8", "replace")) + 2
            self._parts.append(block)
        if self._left_bytes < 0:
            raise too_much_text(self._limits)

    def markdown(self) -> str:
        return "\n\n".join(self._parts)
