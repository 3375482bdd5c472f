"""Files, programs and TCP connections taken away from this process for good, by Landlock (Linux 5.13 and later).

Any user may do that to itself, in containers too. What stays is reading where programs and their libraries are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# The numbers are those of linux/landlock.h and the same on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_READ_FILE: Final = 1 << 2
_READ_FOLDER: Final = 1 << 3
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many kinds of access to files a version knows; later ones 16."""
_TCP_FROM: Final = 4
_SCOPES_FROM: Final = 6
_BOTH: Final = 0b11  # to bind and to connect; abstract sockets and signals of others
_LIBRARIES: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/nix/store", "/gnu/store")
_DEVICES: Final = ("/dev/null", "/dev/urandom")


def version() -> int:
    """Of what the kernel has; 0 = nothing."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)))


def leave_files() -> bool:
    """Whether it was done. Only where this process cannot get more rights any more (``PR_SET_NO_NEW_PRIVS``)."""
    known = version()
    if not known:
        return False
    libc = ctypes.CDLL(None)
    handled = struct.pack("=Q", (1 << _FILE_RIGHTS.get(known, 16)) - 1)
    handled += struct.pack("=Q", _BOTH) * (known >= _TCP_FROM) + struct.pack("=Q", _BOTH) * (known >= _SCOPES_FROM)
    rules = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        for path in _needed():
            _allow_reading(libc, rules, path)
        return bool(libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _needed() -> Iterable[str]:
    """Where Python and the libraries are; never everything."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    own = str(Path(__file__).parents[2])  # where it is installed in some way that says nothing in `sys.path`
    places = {*_LIBRARIES, *_DEVICES, own, sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *libraries}
    return sorted(place for place in places if os.path.isabs(place) and os.path.realpath(place) != "/")


def _allow_reading(libc: ctypes.CDLL, rules: int, path: str) -> None:
    with contextlib.suppress(OSError):  # what is not there needs no rule
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights = _READ_FILE | (_READ_FOLDER if os.path.isdir(path) else 0)
            libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
        finally:
            os.close(place)
