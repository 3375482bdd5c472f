"""All settings, one frozen tree: defaults, then the TOML file, then ``ARKWAY__…`` variables, then the command line.

``ARKWAY__SERVER__PORT=9000`` is ``[server] port = 9000``. An unknown key is an error at start that names the nearest
one. ``docs/configuration.md`` is checked against this file.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from arkway.core.errors import Misconfigured

ENV_PREFIX = "ARKWAY__"


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``host`` and ``port`` to listen on (port 0 = any free one); ``drain_s``: how long a stop waits for streams."""

    host: str = "127.0.0.1"
    port: int = 8080
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    access_log: bool = False
    drain_s: float = 60.0


class Surface(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether model names are taken beside endpoint ids, per API."""

    v3_model_names: bool = False
    openai_model_names: bool = True


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``heartbeat_s``: a sign of life on streams that are silent this long. Deadlines of a backend's events."""

    heartbeat_s: float = 15.0
    first_event_s: float = 180.0
    next_event_s: float = 60.0
    total_s: float = 1800.0


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The embedded engine.

    ``threads`` 0 = from CPU affinity and quota. ``memory_mib`` 0 = three quarters of what is there when the server
    starts. ``queue_limit`` calls may wait, each for ``queue_wait_s``. A model unused for ``idle_stop_s`` is stopped.
    ``preload`` starts the first chat model with the server instead of at its first call.
    """

    threads: int = 0
    slots: int = 4
    memory_mib: int = 0
    queue_limit: int = 64
    queue_wait_s: float = 30.0
    idle_stop_s: float = 600.0
    preload: bool = True


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``process``: survives the process; ``group``: fsync within 10 ms; ``sync``: fsync before every answer's end."""

    durability: Literal["process", "group", "sync"] = "group"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tree. ``home`` holds everything that is kept: database, journal, keys' pepper, models."""

    home: Path
    server: Server = Server()
    surface: Surface = Surface()
    stream: Stream = Stream()
    engine: Engine = Engine()
    ledger: Ledger = Ledger()


def default_home(environ: Mapping[str, str]) -> Path:
    """``ARKWAY_HOME``, else ``$XDG_DATA_HOME/arkway``, else ``~/.local/share/arkway``."""
    if home := environ.get("ARKWAY_HOME"):
        return Path(home).expanduser()
    base = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "arkway"


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings in force. ``overrides`` are the command line's, as a tree. Raises Misconfigured.

    Without ``file``, ``<home>/arkway.toml`` is read where it exists.
    """
    environ = os.environ if environ is None else environ
    overrides = overrides or {}
    home = Path(overrides.get("home") or default_home(environ))
    chosen = file or home / "arkway.toml"
    tree: dict[str, Any] = {"home": str(home)}
    if file is not None or chosen.exists():
        tree = _merged(tree, _from_file(chosen))
    tree = _merged(_merged(tree, _from_environ(environ)), overrides)
    try:
        return msgspec.convert(tree, Settings, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise Misconfigured(_explained(str(error), tree)) from None


def known_keys(section: type[msgspec.Struct] = Settings, prefix: str = "") -> tuple[str, ...]:
    """Every key of the tree, dotted."""
    keys: list[str] = []
    for field in msgspec.structs.fields(section):
        nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        keys += known_keys(field.type, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return tuple(keys)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"cannot read the configuration {path}: {error.strerror}") from None
    except ValueError as error:
        raise Misconfigured(f"the configuration {path} is not valid TOML: {error}") from None


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX):
            *parents, leaf = name[len(ENV_PREFIX) :].lower().split("__")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = value
    return tree


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _explained(problem: str, tree: Mapping[str, Any]) -> str:
    unknown = sorted(set(_dotted(tree)) - set(known_keys()))
    for key in unknown:
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
        hint = f"; did you mean `{near[0]}`?" if near else f"; known keys: {', '.join(known_keys())}"
        return f"the configuration has an unknown key `{key}`{hint}"
    return f"the configuration is wrong: {problem}"


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys += _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return keys
