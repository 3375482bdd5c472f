"""How much memory a model will take, read from its file without loading it, and how much there is."""

from __future__ import annotations

import os
from pathlib import Path

from arkway.backends.engine.cgroup import CGROUP_ROOT, MEMBERSHIP, own_groups, setting
from arkway.core.errors import BackendUnavailable, Misconfigured
from arkway.wire.gguf import read_gguf_shape

OVERHEAD_BYTES = 96 * 1024 * 1024


def footprint_bytes(path: Path, context_tokens: int, slots: int) -> int:
    """Weights, key-value cache of all slots, and working room. Raises BackendUnavailable for a file that is no GGUF."""
    try:
        weights = path.stat().st_size
        shape = read_gguf_shape(path)
    except FileNotFoundError:
        raise BackendUnavailable(f"the model file {path.name} is missing; pull the model again") from None
    except OSError as error:
        reason = error.strerror or "no reason given"
        raise BackendUnavailable(
            f"the model file {path.name} cannot be read ({reason}); mend its permissions"
        ) from None
    except Misconfigured as broken:
        raise BackendUnavailable(broken.message) from None
    return weights + shape.kv_bytes_per_token * context_tokens * slots + OVERHEAD_BYTES


def projector_bytes(path: Path) -> int:
    """The weights that read images, and as much again to work in. Raises BackendUnavailable."""
    try:
        return 2 * path.stat().st_size
    except OSError as error:
        reason = error.strerror or "no reason given"
        raise BackendUnavailable(f"the image projector {path.name} cannot be read ({reason}); pull it again") from None


def memory_cap_bytes(configured: int, cgroup_root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """The configured cap, or three quarters of what this process may use."""
    return configured or usable_memory_bytes(cgroup_root, membership) * 3 // 4


def usable_memory_bytes(cgroup_root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """The smaller of the machine's memory and the control groups' tightest limit (version 2 or 1)."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    groups = own_groups("memory", cgroup_root, membership)
    limits = [setting(group / name) for group in groups for name in ("memory.max", "memory.limit_in_bytes")]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])
