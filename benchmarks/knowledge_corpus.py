"""Documents to find things in: manuals that Debian packages carry, fetched by apt into a cache folder and cut here."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

import msgspec

from arkway.core.knowledge import Chunk, Document
from arkway.knowledge.chunking import chunk
from arkway.knowledge.identity import document_id
from arkway.knowledge.parsing import Limits, Parsed, Unreadable, parse
from benchmarks.report import Unmeasured

APT_LIMIT_S: Final = 300
_HAN: Final = re.compile("[\u4e00-\u9fff]")
_ESCAPE: Final = re.compile(r"\\(?:f(?:\[[^]]*\]|\(..|.)|s[-+]?\d|\((?:lq|rq|aq|dq)|[&/,|^%])")
_DRAWN: Final = {r"\-": "-", r"\(bu": "*", r"\(co": "(c)", r"\(em": "-", r"\e": "\\", r"\~": " ", r"\ ": " "}

Language = Literal["zh", "en"]


class Written(msgspec.Struct, frozen=True):
    """A document and the chunks it was cut into."""

    document: Document
    chunks: Sequence[Chunk]


class Source(msgspec.Struct, frozen=True):
    """Files of packages: which, and how they are found in the unpacked package."""

    packages: tuple[str, ...]
    patterns: tuple[str, ...]


MANUALS: Final = Source(
    ("manpages-zh", "debian-handbook", "debian-reference-zh-cn"),
    (
        "usr/share/debian-reference/ch*.zh-cn.html",
        "usr/share/doc/debian-handbook/html/zh-CN/*.html",
        "usr/share/doc/debian-handbook/html/en-US/*.html",
        "usr/share/man/zh_CN/man*/*.gz",
    ),
)
PAGES: Final = Source(("manpages", "manpages-dev"), ("usr/share/man/man*/*.gz",))


def language(chunk: Chunk) -> Language:
    """Chinese when a tenth of the characters are."""
    return "zh" if 10 * len(_HAN.findall(chunk.text)) > len(chunk.text) else "en"


def corpus(source: Source, collection_id: str, limit: int) -> list[Written]:
    """At most ``limit`` chunks, no text twice. Raises Unmeasured where apt gives no packages."""
    root = _unpacked(source.packages)
    files = [path for pattern in source.patterns for path in sorted(root.glob(pattern)) if path.is_file()]
    seen: set[str] = set()
    found: list[Written] = []
    left = limit
    for path in files:
        written = _written(collection_id, str(path.relative_to(root)), path)
        chunks = [one for one in written.chunks if one.text not in seen][:left] if written else []
        seen.update(one.text for one in chunks)
        if written and chunks:
            found.append(Written(written.document, chunks))
            left -= len(chunks)
    return found


def book() -> bytes:
    """A PDF of 250 pages in Chinese, with an outline. Raises Unmeasured where apt gives no packages."""
    return (_unpacked(MANUALS.packages) / "usr/share/debian-reference/debian-reference.zh-cn.pdf").read_bytes()


def _written(collection_id: str, source: str, path: Path) -> Written | None:
    parsed = _parsed(path)
    if parsed is None:
        return None
    own_id = document_id(collection_id, source)
    document = Document(
        id=own_id, collection_id=collection_id, source=source, name=path.name, type="html", title=parsed.title
    )
    return Written(document, chunk(parsed, own_id))


def _parsed(path: Path) -> Parsed | None:
    """None for what holds no text."""
    try:
        if path.suffix == ".gz":
            markdown = "\n".join(_markdown(gzip.decompress(path.read_bytes()).decode("utf-8", "replace")))
            return parse(f"{path.name.removesuffix('.gz')}.md", markdown.encode(), Limits())
        return parse(path.name, path.read_bytes(), Limits())
    except Unreadable:
        return None


def _markdown(roff: str) -> Iterator[str]:
    """A manual page as text with headings: enough to search in."""
    for line in roff.splitlines():
        request, _, rest = line.partition(" ")
        if request in (".SH", ".SS"):
            yield f"\n## {_text(rest)}\n"
        elif request in (".PP", ".P", ".LP", ".TP", ".IP", ".HP"):
            yield ""
        elif request in (".B", ".I", ".BR", ".BI", ".IR", ".RB", ".RI", ".IB"):
            yield _text(rest)
        elif not line.startswith((".", "'")):
            yield _text(line)


def _text(line: str) -> str:
    text = _ESCAPE.sub("", line).replace('"', "")
    for escape, drawn in _DRAWN.items():
        text = text.replace(escape, drawn)
    return text.strip()


def _unpacked(packages: Iterable[str]) -> Path:
    """A folder with the packages' files; what has been fetched once is not fetched again."""
    names = tuple(packages)
    folder = _cache() / blake2b(" ".join(names).encode(), digest_size=6).hexdigest()
    if not folder.exists():
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _run("apt-get", "download", "-q", *names, cwd=draft)
        for package in draft.glob("*.deb"):
            _run("dpkg-deb", "-x", package.name, ".", cwd=draft)
            package.unlink()
        draft.rename(folder)
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arkway-benchmarks" / "knowledge"


def _run(*command: str, cwd: Path) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=APT_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unmeasured(f"{command[0]} did not run: {error}; the manuals come from Debian packages") from error
    if done.returncode:
        raise Unmeasured(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-200:]}")
