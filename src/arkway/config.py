"""All settings, one frozen tree: defaults, then the TOML file, then ``ARKWAY__…`` variables, then the command line.

``ARKWAY__SERVER__PORT=9000`` is ``[server] port = 9000``; a list is written with commas between its entries. An unknown
key is an error at start that names the nearest one; so is a value out of its type or range, which the types below
declare. ``docs/configuration.md`` is checked against this file.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from arkway.backends.moderation.settings import ModerationSettings
from arkway.core.errors import Misconfigured
from arkway.search.settings import WEB, Search, Weather, without_keys
from arkway.wire.toml import line_of

ENV_PREFIX = "ARKWAY__"
VALUE_SHOWN = 64
WITH_PASSWORDS = (
    "database.url", "limits.valkey", "search.bocha_key", "search.ark_key", "weather.open_meteo_key",
    "weather.qweather_key", "knowledge.rerank_key",
)  # fmt: skip
TABLES = ("moderation.strategies.",)
"""What is below these has names that the operator gives."""

Port = Annotated[int, Meta(ge=0, le=65535)]
# At most 30 days: longer is a slip, and infinity no time at all.
Seconds = Annotated[float, Meta(gt=0, le=2_592_000)]
POSTGRES = Meta(
    pattern=r"\A(postgres(ql)?(\+psycopg)?://[^\0]*)?\Z",
    description="empty (SQLite in the data directory) or `postgresql://user@host:5432/name`",
)
VALKEY = Meta(
    pattern=r"\A((redis|rediss|unix)://[^\0]*)?\Z",
    description="empty (limits are counted in this process) or a URL such as `redis://host:6379/0`",
)


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``host`` and ``port`` to listen on (port 0 = any free one); ``drain_s``: how long a stop waits for streams."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Port = 8080
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    access_log: bool = False
    overhead_header: bool = True
    hot_path: bool = True
    drain_s: Seconds = 60.0


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """HTTPS beside plain HTTP. ``port`` to listen on, 0 = off.

    ``certificate`` (with its chain) and ``key``: PEM files; both empty = those of ``arkway tls init``.
    """

    port: Port = 0
    certificate: str = ""
    key: str = ""


class Surface(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether model names are taken beside endpoint ids, per API (v1 always takes them).

    ``legacy_mode``: whether v1 and v2 take what real callers send (``compat``) or only what their documents allow
    (``strict``; docs/legacy-fields.md). ``message_encryption``: the end-to-end encryption of v1 and v2.
    """

    v2_model_names: bool = True
    v3_model_names: bool = False
    openai_model_names: bool = True
    legacy_mode: Literal["compat", "strict"] = "compat"
    message_encryption: bool = False


class Signing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Signed requests (v1, v2).

    ``regions`` that a signature may name, none = any. ``max_skew_s``: how far a signature's date may be from the
    server's clock. ``public_hosts``: names under which callers reach the server through a proxy that rewrites ``Host``.
    """

    regions: tuple[str, ...] = ()
    max_skew_s: Annotated[int, Meta(ge=1, le=86400)] = 900
    public_hosts: tuple[str, ...] = ()


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``heartbeat_s``: a sign of life on streams that are silent this long. Deadlines of a backend's events."""

    heartbeat_s: Annotated[float, Meta(ge=0.01, le=3600)] = 15.0
    first_event_s: Seconds = 180.0
    next_event_s: Seconds = 60.0
    total_s: Seconds = 1800.0


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The embedded engine.

    ``threads`` 0 = from CPU affinity and quota. ``memory_mib`` 0 = three quarters of what is there when the server
    starts. ``queue_limit`` calls may wait, each for ``queue_wait_s``. A model unused for ``idle_stop_s`` is stopped.
    ``preload`` starts the first chat model with the server instead of at its first call.
    """

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    slots: Annotated[int, Meta(ge=1, le=64)] = 4
    memory_mib: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    queue_limit: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    queue_wait_s: Seconds = 30.0
    idle_stop_s: Seconds = 600.0
    preload: bool = True


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``process``: survives the process; ``group``: fsync within 10 ms; ``sync``: fsync before every answer's end."""

    durability: Literal["process", "group", "sync"] = "group"


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``usage_days``: settled calls older than this many days are deleted, 0 = none are. Their sums stay."""

    usage_days: Annotated[int, Meta(ge=0, le=36_500)] = 0


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``url`` of a PostgreSQL database, which several processes and hosts can share; empty = SQLite in ``home``.

    A password in it is shown nowhere: not by this object either.
    """

    url: Annotated[str, POSTGRES] = ""

    def __repr__(self) -> str:
        return f"Database(url={'…' if self.url else ''!r})"


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What guards the secrets of access keys.

    ``command`` prints the master key (docs/access-keys.md); empty = ``ARKWAY_MASTER_KEY``, else a key file in the data
    directory.
    """

    command: str = ""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The control plane. ``api_key_max_s``: how long the temporary API keys of ``GetApiKey`` live at most."""

    api_key_max_s: Annotated[int, Meta(ge=1, le=2_592_000)] = 2_592_000


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How limits are counted (docs/limits-and-quotas.md).

    ``valkey``: URL of a Valkey or Redis server that several processes share, empty = in this process's memory. A call
    waits for it ``timeout_s`` at most; while it is away each process gives a share of every limit, one of ``processes``
    (0 = as many as were last seen). ``burst_s``: how much of a rate may come at once, in seconds' worth. ``currency``:
    what limits on cost are in; prices in another one do not count.
    """

    valkey: Annotated[str, VALKEY] = ""
    timeout_s: Annotated[float, Meta(gt=0, le=1)] = 0.045
    processes: Annotated[int, Meta(ge=0, le=10_000)] = 0
    burst_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    currency: Literal["CNY", "USD"] = "CNY"


class Admin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The Admin API (``/admin/v1``), where API keys with a role above inference and signed requests are taken."""

    enabled: bool = True


class Fetch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What callers name by URL (images), fetched for models that cannot fetch it. Off unless the operator turns it on.

    ``hosts``: if there are any, only these; ``.example.com`` is every name below. ``networks`` that may be reached
    though they are not public. ``max_bytes`` and ``timeout_s`` for each document; ``images`` of one request.
    """

    enabled: bool = False
    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    ports: tuple[Port, ...] = (80, 443)
    max_bytes: Annotated[int, Meta(ge=1024, le=33_554_432)] = 10_485_760
    timeout_s: Annotated[float, Meta(gt=0, le=300)] = 10.0
    images: Annotated[int, Meta(ge=1, le=64)] = 8


class Edge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What strangers meet first (docs/limits.md): connections, heads, and patience, all in seconds and bytes.

    ``per_address`` 0 = no limit of its own for one peer's address. ``body_bytes_per_s``: the least that a body has to
    bring on average over each ``body_window_s``. ``pipelined``: requests that may wait on one connection.
    """

    connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    per_address: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    header_count: Annotated[int, Meta(ge=16, le=10_000)] = 100
    header_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 32_768
    target_bytes: Annotated[int, Meta(ge=256, le=1_048_576)] = 8_192
    first_byte_s: Seconds = 10.0
    head_s: Seconds = 10.0
    body_s: Seconds = 120.0
    body_window_s: Seconds = 10.0
    body_bytes_per_s: Annotated[int, Meta(ge=0, le=1_073_741_824)] = 1024
    keep_alive_s: Seconds = 75.0
    write_stall_s: Seconds = 30.0
    linger_s: Seconds = 3.0
    pipelined: Annotated[int, Meta(ge=1, le=10_000)] = 64
    extension_bytes: Annotated[int, Meta(ge=0, le=1_048_576)] = 1024
    bodies_max_bytes: Annotated[int, Meta(ge=1_048_576, le=1_099_511_627_776)] = 268_435_456


class Knowledge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Collections of documents (docs/knowledge.md).

    ``ingest``: whether this server takes in what is uploaded. ``chunk_chars``: the most that one chunk has.
    ``coverage``: how much of a question has to be there for a bot's intent ``auto``. ``vector_weight``: what vectors
    count for beside words where they have proven themselves. ``rerank_url`` of a server that puts hits in order, empty
    = none, in the form ``rerank_shape``; it gets ``rerank_key`` and is waited for ``rerank_deadline_s``.
    """

    ingest: bool = True
    chunk_chars: Annotated[int, Meta(ge=100, le=8000)] = 500
    coverage: Annotated[float, Meta(ge=0, le=1)] = 0.6
    vector_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    rerank_url: Annotated[str, WEB] = ""
    rerank_shape: Literal["jina", "tei"] = "jina"
    rerank_model: str = ""
    rerank_key: str = ""
    rerank_deadline_s: Annotated[float, Meta(gt=0, le=60)] = 0.3

    def __repr__(self) -> str:
        return without_keys(self)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tree. ``home`` holds everything that is kept: database, journal, keys' pepper, models."""

    home: Path
    server: Server = Server()
    edge: Edge = Edge()
    tls: Tls = Tls()
    surface: Surface = Surface()
    signing: Signing = Signing()
    stream: Stream = Stream()
    engine: Engine = Engine()
    ledger: Ledger = Ledger()
    database: Database = Database()
    retention: Retention = Retention()
    secrets: Secrets = Secrets()
    control: Control = Control()
    admin: Admin = Admin()
    limits: Limits = Limits()
    fetch: Fetch = Fetch()
    knowledge: Knowledge = Knowledge()
    search: Search = Search()
    weather: Weather = Weather()
    moderation: ModerationSettings = ModerationSettings()


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
    text = _text_of(chosen) if file is not None or chosen.exists() else ""
    kept = _parsed(text, chosen)
    later = (_from_environ(environ), overrides)
    try:
        return _converted(_layered({"home": str(home)}, kept, *later))
    except _Mistake as mistake:
        blamed = _holds(kept, mistake.key) and not any(_holds(layer, mistake.key) for layer in later)
        line = line_of(text, *mistake.key.split(".")) if blamed else 0
        where = f"{chosen}, line {line}: " if line else f"{chosen}: " if blamed else ""
        raise Misconfigured(where + mistake.sentence) from None


def known_keys(section: type[msgspec.Struct] = Settings, prefix: str = "") -> tuple[str, ...]:
    """Every key of the tree, dotted."""
    keys: list[str] = []
    for field in msgspec.structs.fields(section):
        nested = _is_section(field.type)
        keys += known_keys(field.type, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return tuple(keys)


def range_of(kind: Any) -> str:
    """The range that a setting's type declares, in words; empty when any value of the type will do."""
    bound = next((each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Meta)), Meta())
    if bound.min_length is not None:
        return "with at least one character"
    if bound.gt is not None:
        return f"above {bound.gt:g}, up to {bound.le:.0f}"
    return f"from {bound.ge} to {bound.le}" if bound.ge is not None else ""


class _Mistake(Exception):
    """Something wrong about one key, in a sentence."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key, self.sentence = key, sentence


def _converted(tree: Mapping[str, Any]) -> Settings:
    """Raises _Mistake."""
    try:
        return msgspec.convert(tree, Settings, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise _explained(str(error), tree) from None


def _holds(layer: Mapping[str, Any], key: str) -> bool:
    place: Any = layer
    for part in key.split("."):
        if not isinstance(place, Mapping) or part not in place:
            return False
        place = place[part]
    return True


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"cannot read the configuration {path}: {error.strerror}") from None
    except ValueError as error:
        raise Misconfigured(f"the configuration {path} is not valid TOML: {error}") from None


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise Misconfigured(f"the configuration {path} is not valid TOML: {error}") from None


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    given = {name[len(ENV_PREFIX) :].lower(): value for name, value in environ.items() if name.startswith(ENV_PREFIX)}
    tree: dict[str, Any] = {}
    # In this order a variable whose name is the beginning of another one's comes before it.
    for name, value in sorted(given.items()):
        *parents, leaf = name.split("__")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise Misconfigured(_misplaced(parents[0], name))
        place[leaf] = value
    return tree


def _misplaced(section: str, name: str) -> str:
    """What to say of a variable below another one that has a value."""
    known = name.count("__") == 1 and any(key.startswith(f"{section}.") for key in known_keys())
    return _sectioned(section) if known else _unknown(name.replace("__", "."))


def _layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers over each other, each checked to have sections where the tree has them."""
    tree: dict[str, Any] = {}
    for layer in layers:
        for field in msgspec.structs.fields(Settings):
            if _is_section(field.type) and not isinstance(layer.get(field.name, {}), Mapping):
                raise _Mistake(field.name, _sectioned(field.name))
        tree = _merged(tree, layer)
    return _with_lists(tree, Settings)


def _with_lists(tree: Mapping[str, Any], section: type[msgspec.Struct]) -> dict[str, Any]:
    """The tree with every list that was written as one text, as in a variable, cut at its commas."""
    result = dict(tree)
    for field in msgspec.structs.fields(section):
        value = result.get(field.name)
        if _is_section(field.type) and value is not None:
            result[field.name] = _with_lists(value, field.type)
        elif typing.get_origin(field.type) is tuple and isinstance(value, str):
            result[field.name] = [entry.strip() for entry in value.split(",") if entry.strip()]
        elif typing.get_origin(field.type) is dict and isinstance(value, str):
            result[field.name] = _from_json(f"{section.__name__}.{field.name}", value)
    return result


def _from_json(name: str, text: str) -> Any:
    """A table that was written as one text, as in a variable."""
    try:
        return msgspec.json.decode(text)
    except ValueError as error:
        raise _Mistake("", f"the setting `{name}` has to be a JSON object: {error}") from None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _sectioned(section: str) -> str:
    inside = next(key for key in known_keys() if key.startswith(f"{section}."))
    variable = ENV_PREFIX + inside.upper().replace(".", "__")
    return (
        f"`{section}` is a section of the configuration and has no value of its own; "
        f"set what is in it, such as `{inside}` ({variable})"
    )


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
    hint = f"; did you mean `{near[0]}`?" if near else f"; known keys: {', '.join(known_keys())}"
    return f"the configuration has an unknown key `{key}`{hint}"


def _explained(problem: str, tree: Mapping[str, Any]) -> _Mistake:
    """The first mistake: an unknown key, or what a key has to be and what it is."""
    for key in sorted(set(_dotted(tree)) - set(known_keys())):
        if not key.startswith(TABLES):
            return _Mistake(key, _unknown(key))
    found = re.search(r"`\$\.([a-z0-9_.]+)(?:\[.*\])?`$", problem)
    if found is None:
        return _Mistake("", f"the configuration is wrong: {problem}")
    value: Any = tree
    kind: Any = Settings
    for name in found[1].split("."):
        value = value[name]
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == name)
    if typing.get_origin(kind) is dict:
        return _Mistake(found[1], f"the setting `{found[1]}` is wrong: {problem}")
    shown = "" if found[1] in WITH_PASSWORDS else f", not {str(value)[:VALUE_SHOWN]!r}"
    sentence = f"the setting `{found[1]}` has to be {_expected(kind)}{shown}"
    return _Mistake(found[1], sentence)


def _expected(kind: Any) -> str:
    if form := next((each.description for each in getattr(kind, "__metadata__", ()) if each.pattern), ""):
        return form
    if typing.get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"a list of {'strings' if typing.get_args(kind)[0] is str else 'ports'}"
    plain = typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a string", Path: "a path"}
    return f"{words[plain]} {range_of(kind)}".rstrip()


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys += _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return keys
