from __future__ import annotations

from pathlib import Path

import pytest

from arkway.backends.engine.footprint import OVERHEAD_BYTES, footprint_bytes
from arkway.core.errors import BackendUnavailable


def test_weights_cache_and_overhead(random_model: Path) -> None:
    """2 layers of 2 key-value heads, 32 wide: 2 · 2 bytes · 2 · 2 · 32 = 512 bytes a token."""
    assert footprint_bytes(random_model, 1000, 4) == random_model.stat().st_size + 512 * 4000 + OVERHEAD_BYTES


@pytest.mark.parametrize("head", [b"", b"GGUF", b"nonsense and more", b"GGUF" + b"\xff" * 64])
def test_damaged_files_are_refused(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(head)
    with pytest.raises(BackendUnavailable, match=r"broken\.gguf"):
        footprint_bytes(path, 100, 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="missing"):
        footprint_bytes(tmp_path / "none.gguf", 100, 1)
