"""The weights on disk, found by the hash of their content.

::

    <root>/blobs/<sha256>                   whole, checked content; nothing else is ever put here
    <root>/manifests/<name>/<version>.json  which content a name and version mean
    <root>/defaults/<name>                  the default version of a name
    <root>/partial/<key>/                   downloads under way, kept a week for resuming
    <root>/locks/                           one lock per download, one for the manifests

Content enters ``blobs`` by a rename after its hash was checked, so a download that broke never becomes a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import math
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from arkway.core.errors import Misconfigured
from arkway.core.model import ModelCard
from arkway.models.cards import checked_name
from arkway.models.catalogue import CATALOGUE, CatalogueEntry, Kind
from arkway.models.files import drop, sha256_of, size_of, sync_folder, write_durably

RESERVE_BYTES = 256 << 20
LOCK_POLL_S = 0.1
STALE_AFTER_S = 7 * 86_400.0


class Projector(msgspec.Struct, frozen=True):
    """The weights that let a model read images; ``source`` is the ref that delivered them."""

    filename: str
    sha256: str
    size_bytes: int
    source: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """What a name and version stand for. ``source`` is the ref that delivered it."""

    card: ModelCard
    kind: Kind
    filename: str
    sha256: str
    size_bytes: int
    source: str = ""
    projector: Projector | None = None

    @property
    def contents(self) -> tuple[str, ...]:
        """The hashes of all that belongs to it."""
        return (self.sha256,) if self.projector is None else (self.sha256, self.projector.sha256)


class InstalledModel(msgspec.Struct, frozen=True):
    """A model ready to run. ``path`` is the GGUF file, or the package's folder for kind ``use`` (then no hash).

    ``projector``: the file that lets it read images; its card says that it does.
    """

    card: ModelCard
    kind: Kind
    path: Path
    sha256: str
    size_bytes: int
    is_default: bool
    source: str = ""
    projector: Path | None = None

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def version(self) -> str:
        return self.card.version


class Verdict(msgspec.Struct, frozen=True):
    """The result of hashing one installed model again."""

    name: str
    version: str
    status: Literal["intact", "missing", "damaged", "packaged"]


def free_bytes_at(path: Path) -> int:
    """Room left on the disk that holds ``path``."""
    return shutil.disk_usage(path).free


def package_folder(module: str) -> Path | None:
    """Where an importable top-level package lies, found without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


class ModelStore:
    """The models of one installation, below ``root``. Safe to use from several processes at once."""

    def __init__(
        self,
        root: Path,
        *,
        catalogue: tuple[CatalogueEntry, ...] = CATALOGUE,
        free_bytes: Callable[[Path], int] = free_bytes_at,
        find_package: Callable[[str], Path | None] = package_folder,
    ) -> None:
        self.root = root
        self.catalogue = catalogue
        self._free_bytes = free_bytes
        self._find_package = find_package

    def installed(self) -> tuple[InstalledModel, ...]:
        """Every model that is ready to run, by name and version. Entries whose content is gone are left out."""
        manifests = [entry for entry in self._manifests() if size_of(self.blob(entry.sha256)) == entry.size_bytes]
        versions: dict[str, list[str]] = {}
        for entry in manifests:
            versions.setdefault(entry.card.name, []).append(entry.card.version)
        defaults = {name: self._default_version(name, tuple(known)) for name, known in versions.items()}
        models = [self._model(entry, defaults[entry.card.name]) for entry in manifests]
        return tuple(sorted((*models, *self._packaged()), key=lambda model: (model.name, model.version)))

    def find(self, name: str, version: str = "") -> InstalledModel | None:
        """The model of that name and version; without a version, the name's default one."""
        for model in self.installed():
            if model.name == name and (model.version == version or (not version and model.is_default)):
                return model
        return None

    def set_default(self, name: str, version: str) -> InstalledModel:
        """Makes ``version`` what the bare name means. Raises Misconfigured when it is not installed."""
        model = self.find(name, version)
        if model is None:
            raise self._not_installed(f"{name}:{version}")
        if model.kind == "gguf":
            with self._manifest_lock():
                write_durably(self._folder("defaults") / name, version.encode())
        return msgspec.structs.replace(model, is_default=True)

    def remove(self, name: str, version: str = "") -> tuple[InstalledModel, ...]:
        """Forgets one version, or all of a name, and deletes content that nothing names any more."""
        if any(model.name == name for model in self._packaged()):
            raise Misconfigured(
                f"the weights of `{name}` belong to an installed package; remove that with pip uninstall"
            )
        with self._manifest_lock():
            known = self._manifests()
            chosen = [entry for entry in known if entry.card.name == name and version in ("", entry.card.version)]
            if not chosen:
                raise self._not_installed(f"{name}:{version}" if version else name)
            kept = {sha256 for entry in known if entry not in chosen for sha256 in entry.contents}
            for entry in chosen:
                self._manifest_path(name, entry.card.version).unlink(missing_ok=True)
                for sha256 in set(entry.contents) - kept:
                    drop(self.blob(sha256))
        return tuple(self._model(entry, "") for entry in chosen)

    def verify(self, name: str = "") -> tuple[Verdict, ...]:
        """Hashes content again (about a second per gigabyte). Content that does not fit its hash stays where it is."""
        verdicts = [
            Verdict(entry.card.name, entry.card.version, self._state(entry))
            for entry in self._manifests()
            if name in ("", entry.card.name)
        ]
        packaged = [Verdict(m.name, m.version, "packaged") for m in self._packaged() if name in ("", m.name)]
        if name and not verdicts and not packaged:
            raise self._not_installed(name)
        return tuple(sorted((*verdicts, *packaged), key=lambda verdict: (verdict.name, verdict.version)))

    def install(self, content: Path, manifest: Manifest) -> InstalledModel:
        """Takes over a file whose hash the caller has checked, and names it. ``content`` is moved on the same disk."""
        checked_name(manifest.card.name)
        checked_name(manifest.card.version)
        with self._manifest_lock():
            self._refuse_other_content(manifest)
            self._take(content, manifest.sha256)
            self._write(self._with_projector_of_before(manifest))
            default = self._folder("defaults") / manifest.card.name
            if not default.exists():
                write_durably(default, manifest.card.version.encode())
        model = self.find(manifest.card.name, manifest.card.version)
        assert model is not None, "it was written just now"
        return model

    def attach(self, content: Path, projector: Projector, name: str, version: str) -> InstalledModel:
        """Takes over a projector whose hash the caller has checked, for an installed model, in the place of another.

        Raises Misconfigured where that model is not installed.
        """
        with self._manifest_lock():
            known = self._manifests()
            before = next((e for e in known if (e.card.name, e.card.version) == (name, version)), None)
            if before is None:
                raise self._not_installed(f"{name}:{version}")
            self._take(content, projector.sha256)
            self._write(msgspec.structs.replace(before, projector=projector))
            kept = {sha256 for entry in known if entry is not before for sha256 in entry.contents}
            for sha256 in set(before.contents) - kept - {before.sha256, projector.sha256}:
                drop(self.blob(sha256))
        model = self.find(name, version)
        if model is None:
            raise self._not_installed(f"{name}:{version}")
        return model

    def holds(self, sha256: str) -> bool:
        """Is content of this hash here, under whatever name?"""
        return bool(sha256) and self.blob(sha256).is_file()

    def manifest_from_source(self, ref: str) -> Manifest | None:
        """What an earlier pull of the same ref has installed."""
        return next((entry for entry in self._manifests() if entry.source == ref), None)

    def blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256

    def workplace(self, key: str) -> Path:
        """The folder of one download under way. ``key`` is the content's hash where known, else any text."""
        return self._folder("partial") / (key if _is_hash(key) else hashlib.sha256(key.encode()).hexdigest())

    def drop_stale_downloads(self, now_s: float, *, spared: str) -> None:
        """Deletes what downloads other than ``spared`` left behind and nobody has touched for a week."""
        kept = self.workplace(spared)
        with contextlib.suppress(FileNotFoundError):
            os.utime(kept)
        for folder in kept.parent.iterdir():
            if folder != kept and now_s - _touched_s(folder) > STALE_AFTER_S:
                shutil.rmtree(folder, ignore_errors=True)

    def require_space(self, need_bytes: int, what: str) -> None:
        """Raises Misconfigured when the disk has not that much room and a reserve."""
        self._folder("partial")
        free = self._free_bytes(self.root)
        if free < need_bytes + RESERVE_BYTES:
            raise Misconfigured(
                f"{what} needs {_mib(need_bytes)} MiB of disk and {_mib(RESERVE_BYTES)} MiB to spare, but "
                f"{self.root} has {_mib(free)} MiB free; make room, or move the data directory to a larger disk"
            )

    @contextlib.asynccontextmanager
    async def lock(self, key: str, waiting: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Held by one download of ``key`` at a time, over all processes; ``waiting`` is called while another has it."""
        with self._lock_file(hashlib.sha256(key.encode()).hexdigest()) as descriptor:
            while not _taken(descriptor):
                waiting()
                await asyncio.sleep(LOCK_POLL_S)
            yield

    @contextlib.contextmanager
    def _manifest_lock(self) -> Iterator[None]:
        with self._lock_file("manifests") as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _lock_file(self, name: str) -> Iterator[int]:
        descriptor = os.open(self._folder("locks") / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _manifests(self) -> list[Manifest]:
        found = []
        for path in sorted((self.root / "manifests").glob("*/*.json")):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                found.append(self._current(msgspec.json.decode(path.read_bytes(), type=Manifest)))
        return found

    def _current(self, manifest: Manifest) -> Manifest:
        """The catalogue's card replaces the one of the day of the pull, as long as it means the same content."""
        for entry in self.catalogue:
            if (entry.name, entry.version, entry.sha256) == (
                manifest.card.name,
                manifest.card.version,
                manifest.sha256,
            ):
                return msgspec.structs.replace(manifest, card=entry.card)
        return manifest

    def _write(self, manifest: Manifest) -> None:
        path = self._manifest_path(manifest.card.name, manifest.card.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, msgspec.json.format(msgspec.json.encode(manifest), indent=2))

    def _with_projector_of_before(self, manifest: Manifest) -> Manifest:
        """A model that is pulled once more still sees."""
        card = manifest.card
        for entry in self._manifests():
            if (entry.card.name, entry.card.version, entry.sha256) == (card.name, card.version, manifest.sha256):
                return msgspec.structs.replace(manifest, projector=manifest.projector or entry.projector)
        return manifest

    def _projector(self, manifest: Manifest) -> Path | None:
        projector = manifest.projector
        whole = projector is not None and size_of(self.blob(projector.sha256)) == projector.size_bytes
        return self.blob(projector.sha256) if projector is not None and whole else None

    def _model(self, manifest: Manifest, default_version: str) -> InstalledModel:
        projector = self._projector(manifest)
        return InstalledModel(
            card=manifest.card if projector is None else _seeing(manifest.card),
            kind=manifest.kind,
            path=self.blob(manifest.sha256),
            sha256=manifest.sha256,
            size_bytes=manifest.size_bytes,
            is_default=manifest.card.version == default_version,
            source=manifest.source,
            projector=projector,
        )

    def _packaged(self) -> Iterator[InstalledModel]:
        for entry in self.catalogue:
            folder = self._find_package(entry.module) if entry.kind == "use" else None
            if folder is not None:
                size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                yield InstalledModel(entry.card, entry.kind, folder, "", size_bytes, True, f"package {entry.module}")

    def _default_version(self, name: str, versions: tuple[str, ...]) -> str:
        try:
            chosen = (self.root / "defaults" / name).read_text(encoding="utf-8")
        except OSError:
            chosen = ""
        return chosen if chosen in versions else versions[0]

    def _state(self, manifest: Manifest) -> Literal["intact", "missing", "damaged"]:
        if not all(self.blob(sha256).is_file() for sha256 in manifest.contents):
            return "missing"
        intact = all(sha256_of(self.blob(sha256)) == sha256 for sha256 in manifest.contents)
        return "intact" if intact else "damaged"

    def _refuse_other_content(self, manifest: Manifest) -> None:
        card = manifest.card
        for entry in self._manifests():
            same_name = (entry.card.name, entry.card.version) == (card.name, card.version)
            if same_name and entry.sha256 != manifest.sha256 and self.blob(entry.sha256).is_file():
                raise Misconfigured(
                    f"the name {card.name}:{card.version} already means other content; choose another name "
                    f"(--name, --version), or remove it first: arkway models remove {card.name}:{card.version}"
                )

    def _take(self, content: Path, sha256: str) -> None:
        blob = self._folder("blobs") / sha256
        if content == blob:
            return
        with content.open("rb") as file:
            os.fsync(file.fileno())
        content.replace(blob)
        sync_folder(blob.parent)

    def _manifest_path(self, name: str, version: str) -> Path:
        return self._folder("manifests") / name / f"{version}.json"

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        try:
            for part in (self.root.parent, self.root, folder):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"`{folder}` cannot be made: {error.strerror}; check who owns it") from error
        return folder

    def _not_installed(self, wanted: str) -> Misconfigured:
        known = ", ".join(f"{model.name}:{model.version}" for model in self.installed()) or "none"
        return Misconfigured(f"the model `{wanted[:128]}` is not installed; installed are: {known}")


def _seeing(card: ModelCard) -> ModelCard:
    if "images" in card.capabilities:
        return card
    return msgspec.structs.replace(card, capabilities=(*card.capabilities, "images"))


def _touched_s(folder: Path) -> float:
    """When anything in the folder changed last, in epoch seconds."""
    with contextlib.suppress(OSError):
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    return math.inf  # somebody else is at it


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_hash(key: str) -> bool:
    return len(key) == 64 and all(letter in "0123456789abcdef" for letter in key)


def _mib(count_bytes: int) -> int:
    return -(-count_bytes // (1 << 20))
