from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from arkway.backends.engine.footprint import OVERHEAD_BYTES, footprint_bytes
from arkway.core.errors import BackendUnavailable


def test_weights_cache_and_overhead(random_model: Path) -> None:
    """2 layers of 2 key-value heads, 32 wide: 2 · 2 bytes · 2 · 2 · 32 = 512 bytes a token."""
    assert footprint_bytes(random_model, 1000, 4) == random_model.stat().st_size + 512 * 4000 + OVERHEAD_BYTES


def test_heads_may_differ_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "layers.gguf"
    writer = gguf.GGUFWriter(path, "qwen3next")
    writer.add_block_count(3)
    writer.add_head_count(16)
    writer.add_head_count_kv([0, 2, 4])
    writer.add_key_length(64)
    writer.add_value_length(32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert footprint_bytes(path, 10, 1) == path.stat().st_size + 2 * 6 * (64 + 32) * 10 + OVERHEAD_BYTES


@pytest.mark.parametrize("head", [b"", b"GGUF", b"nonsense and more", b"GGUF" + b"\xff" * 64])
def test_damaged_files_are_refused(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(head)
    with pytest.raises(BackendUnavailable, match=r"broken\.gguf"):
        footprint_bytes(path, 100, 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="missing"):
        footprint_bytes(tmp_path / "none.gguf", 100, 1)
