"""The control groups this process runs in: each of them, up to the root, may have a limit."""

from __future__ import annotations

from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def own_groups(controller: str, root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> list[Path]:
    """The folders of our group and of those above it, for version 2 and for the version 1 ``controller``.

    A container often sees its own group as the root, whatever path it is told; so a folder need not exist.
    """
    groups = []
    for line in setting(membership).splitlines() or ["0::/"]:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names:
            groups += _from_root(root, path)
        elif controller in names.split(","):
            for folder in dict.fromkeys((controller, names)):
                groups += _from_root(root / folder, path)
    return groups


def setting(path: Path) -> str:
    """What a group's file says; empty where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _from_root(root: Path, path: str) -> list[Path]:
    """``/a/b`` gives the root, ``a`` and ``a/b`` below it; a path that leaves the mount gives the root alone."""
    parts = Path(path.strip("/")).parts
    below = [] if ".." in parts else [root.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    return [root, *below]
