from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured
from arkway.stores.home import pepper


def test_the_pepper_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = pepper(home).digest("ark-secret")
    assert stat.S_IMODE((home / "pepper").stat().st_mode) == 0o600
    assert (home / "pepper").stat().st_size == 32
    assert pepper(home).digest("ark-secret") == first
    assert pepper(tmp_path / "another").digest("ark-secret") != first
    assert [file.name for file in home.iterdir()] == ["pepper"]


def test_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: pepper(tmp_path / "home").digest("x"), range(64)))
    assert len(digests) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_pepper_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    pepper(tmp_path)
    (tmp_path / "pepper").chmod(mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        pepper(tmp_path)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_pepper_of_the_wrong_length_is_refused(tmp_path: Path, length: int) -> None:
    pepper(tmp_path)
    (tmp_path / "pepper").write_bytes(b"x" * length)
    with pytest.raises(Misconfigured, match="not 32 bytes"):
        pepper(tmp_path)
