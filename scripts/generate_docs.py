"""Writes the generated parts of the documentation from the code itself: ``make docs``.

A generated part stands between ``<!-- generated: name -->`` and ``<!-- end -->``; ``SECTIONS`` says what each name
means. ``--check`` writes nothing and exits with 1 when a file is out of date.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, cast

import click
import msgspec

from arkway import config
from arkway.cli import group
from arkway.core import errors, roles
from arkway.core.model import ParameterRange
from arkway.core.roles import PERMISSIONS
from arkway.dialects.bots import fields as bots_fields
from arkway.dialects.openai import errors as openai_errors
from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v1 import fields as v1_fields
from arkway.dialects.v2 import fields as v2_fields
from arkway.dialects.v3 import errors as v3_errors
from arkway.dialects.v3 import fields as v3_fields
from arkway.http.admin.openapi import REASONS, build, statuses
from arkway.http.admin.operations import Operation
from arkway.http.admin.table import OPERATIONS
from arkway.http.surface import ROUTES, Route
from arkway.models.catalogue import CATALOGUE, CatalogueEntry
from arkway.telemetry.metrics import Metrics
from arkway.telemetry.plugins import PluginWatch
from arkway.telemetry.tally import Spread, Tally
from arkway.wire import messages
from arkway.wire.codes import FINAL, Code, code_of
from arkway.wire.fields import Field, Table, mode_rows
from arkway.wire.maas_shape import errors as maas_errors
from arkway.wire.openai_shape import request as shape

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"(<!-- generated: ([a-z0-9-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

# Parts that another script writes: the table of clients and cases (scripts/compatibility.py).
ELSEWHERE = {"cells"}

MEANINGS = {
    "home": "The data directory. See [where settings come from](#where-settings-come-from).",
    "server.host": "Address to listen on. The default takes connections from this machine only.",
    "server.port": "Port to listen on; 0 takes any free one.",
    "server.log_level": "The least severe of Arkway's own log lines that is written (JSON lines on standard error); "
    "libraries say nothing below a warning.",
    "server.overhead_header": "Answers of chat calls say in `x-arkway-overhead-us` how many microseconds they cost "
    "here: from the request's last byte to the answer's head, but for the time that the model had.",
    "server.hot_path": "Chat calls are served by plain callbacks. Off: by coroutines, as every other call is; slower, "
    "and of use only to find out whether a fault lies there.",
    "server.access_log": "One log line per call: ids, status, tokens, duration; never a prompt, an answer or a key.",
    "server.drain_s": "How long a stop waits for calls under way before it cuts them; seconds.",
    "edge.connections": "Open connections at a time; the next one hears 503. Never more than four fifths of what the "
    "limit of open files leaves.",
    "edge.per_address": "The same for one peer's address; 0 = no limit of its own: behind a proxy all have one.",
    "edge.header_count": "Header fields of one request.",
    "edge.header_bytes": "All header names and values together; bytes.",
    "edge.target_bytes": "Path and query string; bytes.",
    "edge.first_byte_s": "How long a new connection may say nothing; seconds.",
    "edge.head_s": "How long a request's line and headers may take, from their first byte; seconds.",
    "edge.body_s": "How long a body may take altogether; seconds.",
    "edge.body_window_s": "Over how long a body's least rate is judged, again and again; seconds.",
    "edge.body_bytes_per_s": "The least that a body has to bring on average in each such time; bytes/s, 0 = any.",
    "edge.keep_alive_s": "How long a connection may be idle between requests; seconds.",
    "edge.write_stall_s": "How long a client may read nothing of what was sent; seconds.",
    "edge.linger_s": "How long the rest of a refused request is thrown away, so that its sender sees why; seconds.",
    "edge.pipelined": "Requests that may wait for their turn on one connection; it ends after them.",
    "edge.extension_bytes": "Chunk extensions and trailers of a chunked body; bytes.",
    "edge.bodies_max_bytes": "What has come in of the bodies of all requests that are not answered yet, together; what "
    "is more hears 503. A body takes about three times its size while it is answered; bytes.",
    "tls.port": "Port of the HTTPS listener beside the plain one; 0 = off. See [TLS](tls.md).",
    "tls.certificate": "PEM file with the certificate and its chain; empty = the one of `arkway tls init`.",
    "tls.key": "PEM file with its private key; empty = the one of `arkway tls init`.",
    "surface.v2_model_names": "Whether the endpoint's place in a v2 path may hold a model's name or an alias.",
    "surface.legacy_mode": "What v1 and v2 take: what real callers send, or only what the documents allow "
    "([both, field by field](legacy-fields.md)).",
    "surface.message_encryption": "End-to-end encryption of message texts on v1 and v2 "
    "([message encryption](message-encryption.md)).",
    "signing.regions": "Regions that a signature's scope may name; none = any.",
    "signing.max_skew_s": "How far a signature's date may be from the server's clock; seconds.",
    "signing.public_hosts": "Names by which callers know a server behind a proxy that rewrites `Host`.",
    "database.url": "A PostgreSQL database, `postgresql://user@host/name`; empty = SQLite in the data directory "
    "([storage](storage.md)).",
    "retention.usage_days": "Settled calls older than this are deleted, their sums kept; days, 0 = never "
    "([usage](usage.md)).",
    "control.api_key_max_s": "The longest life of a temporary API key of `GetApiKey`; seconds.",
    "admin.enabled": "Whether the [Admin API](admin-api.md) is served.",
    "limits.valkey": "A Valkey or Redis server that several processes share their limits through; empty = each "
    "process by itself ([limits](limits-and-quotas.md)).",
    "limits.timeout_s": "How long that server may take before a process limits by its own share; seconds.",
    "limits.processes": "How many processes share the limits, for their own shares while that server is away; 0 = "
    "found out by itself.",
    "limits.burst_s": "How many seconds' worth of a rate may come at once.",
    "limits.currency": "The currency of budgets.",
    "knowledge.ingest": "Whether this server reads what is uploaded into collections. Off, where another server or "
    "`arkway kb add` does it.",
    "knowledge.chunk_chars": "The most characters that one chunk of a document has. Documents that are there keep "
    "their chunks until they are uploaded again.",
    "knowledge.coverage": "How much of what a question is about the collections have to have, rare words counting "
    "most, for a bot of the intent `auto` to look it up.",
    "knowledge.vector_weight": "What vectors count for beside words (1), in collections where the embedding model has "
    "passed its test.",
    "knowledge.rerank_url": "A server that puts what was found in order; empty = none.",
    "knowledge.rerank_shape": "How it is asked: as Jina, Cohere, vLLM and llama-server are, or as Text Embeddings "
    "Inference is.",
    "knowledge.rerank_model": "The model that it is to use; empty = its own.",
    "knowledge.rerank_key": "The key that it is sent (`Authorization: Bearer …`); empty = none.",
    "knowledge.rerank_deadline_s": "How long it is waited for; after that the order stays as it was; seconds.",
    "fetch.enabled": "Whether images that callers name by `http(s)://` URLs are fetched for models that do not fetch "
    "them ([images](upstreams.md#images)). Off: they are refused.",
    "fetch.hosts": "Names from which alone anything is fetched; `.example.com` is every name below; none = any.",
    "fetch.networks": "Networks (`10.1.0.0/16`) that may be reached though they are not public.",
    "fetch.ports": "Ports that may be asked.",
    "fetch.max_bytes": "The size of one document, unpacked; bytes.",
    "fetch.timeout_s": "How long one document may take, name and redirects included; seconds.",
    "fetch.images": "Images of one request that are fetched at most.",
    "search.provider": "The provider for bots that name none (see [search.md](search.md)). `local` needs nothing and "
    "finds pages that were kept.",
    "search.timeout_s": "How long a provider may take at most; the deadline of a bot's action may be earlier; seconds.",
    "search.max_bytes": "The size of a provider's answer; bytes.",
    "search.pages": "Of how many results the page itself is fetched and read, within what `[fetch]` allows; 0 = none. "
    "Needs the extra `search`.",
    "search.page_max_bytes": "The size of one such page, unpacked; bytes.",
    "search.searxng_url": "Address of a SearXNG whose `search.formats` list `json`; empty = none.",
    "search.bocha_url": "Address of Bocha.",
    "search.bocha_key": "Key of Bocha, or `file:` and the path of the file that holds it; empty = not used.",
    "search.ark_url": "Base address of Ark, or of another Arkway, up to `/api/v3`.",
    "search.ark_bot": "Id of the bot there that searches; empty = not used.",
    "search.ark_key": "API key for it, or `file:` and the path of the file that holds it.",
    "search.kiwix_url": "Address of a kiwix-serve; empty = none.",
    "search.kiwix_public_url": "Where users reach it, for references; empty = the same address.",
    "search.kiwix_books": "Names of the ZIM files to search, all of one language.",
    "weather.provider": "The provider for bots that name none.",
    "weather.timeout_s": "How long a provider may take for each of its answers; seconds.",
    "weather.city": "The city of questions that name none, of askers who say nothing of where they are; empty = none.",
    "weather.file": "JSON file with the weather that `static` knows; empty = none.",
    "weather.open_meteo_url": "Address of Open-Meteo's forecasts.",
    "weather.open_meteo_geocoding_url": "Address of its geocoding.",
    "weather.open_meteo_air_url": "Address of its air quality.",
    "weather.open_meteo_key": "Key of its commercial offer, or `file:` and the path of the file that holds it.",
    "weather.qweather_url": "Address that QWeather gives an account; empty = not used.",
    "weather.qweather_key": "Key for it, or `file:` and the path of the file that holds it.",
    "moderation.default": "The strategy of endpoints and bots that have chosen none; empty = none.",
    "moderation.strategies": "Strategies by name ([moderation](moderation.md)); in a variable a JSON object.",
    "secrets.command": "A command that prints the master key of the key ring ([access keys](access-keys.md)).",
    "surface.v3_model_names": "Whether `model` on `/api/v3` may be a model's name beside an endpoint id.",
    "surface.openai_model_names": "The same on `/v1`.",
    "stream.heartbeat_s": "A stream that was silent this long gets a sign of life (an empty delta); seconds.",
    "stream.first_event_s": "How long the model may take to the first piece of its answer, the prompt included; "
    "begins anew with whatever it tells before; seconds.",
    "stream.next_event_s": "How long the model may be silent between two pieces of its answer; seconds.",
    "stream.total_s": "How long one answer may take altogether; seconds.",
    "engine.threads": "Threads of the chat engine; 0 = from CPU affinity and control-group quota.",
    "engine.slots": "Answers that one chat model works on at the same time.",
    "engine.memory_mib": "Memory cap over all loaded chat models; 0 = three quarters of the machine's; MiB.",
    "engine.queue_limit": "Calls that may wait for one chat model; the next one is refused.",
    "engine.queue_wait_s": "How long one call waits for a slot before it is refused; seconds.",
    "engine.idle_stop_s": "A model unused for this long is stopped, chat and embedding alike; seconds.",
    "engine.preload": "Load the first chat model with the server instead of at its first call.",
    "ledger.durability": "What survives a power cut: see [the ledger](ledger.md#durability).",
}

FLAGS = {
    "home": "--home",
    "server.host": "--host",
    "server.port": "--port",
    "server.access_log": "--access-log",
    "tls.port": "--tls-port",
}


class Limit(msgspec.Struct, frozen=True):
    """One row of the limits table. ``source`` is the dotted name of the constant (or default) that decides."""

    what: str
    source: str
    unit: str = ""
    error: type[errors.ArkwayError] | None = None


_REQUEST = "arkway.wire.limits"
_HTTP = "arkway.http.asgi.Limits"
_SHAPE = "arkway.wire.openai_shape"
_BOTS, _KNOWLEDGE = "arkway.http.admin.bots", "arkway.http.admin.knowledge"
_GROUPS = "arkway.http.admin.upstreams"
_EDGE = "arkway.http.edge.EdgeLimits"
_SCHEMA = "arkway.backends.engine.schema"
_ENGINE = "arkway.backends.engine.settings.EngineSettings"
_SEEING = "arkway.backends.engine.seeing"
_SETTINGS = "arkway.config"

EDGE = (
    Limit("Header fields of one request", f"{_HTTP}.header_count", "", errors.HeadTooLarge),
    Limit("All header names and values together", f"{_HTTP}.header_bytes", "bytes", errors.HeadTooLarge),
    Limit("Path and query string (beyond it: 414)", f"{_HTTP}.target_bytes", "bytes"),
    Limit("Open connections (beyond it: 503)", f"{_EDGE}.connections"),
    Limit("Connections over that which are told so at a time", "arkway.http.edge.SURPLUS_MAX"),
    Limit("The `Host` header", "arkway.http.edge_head.HOST_MAX_BYTES", "bytes", errors.BadRequest),
    Limit("Silence of a new connection", f"{_EDGE}.first_byte_s", "s"),
    Limit("Time until the request line and the headers are here", f"{_EDGE}.head_s", "s", errors.RequestTimeout),
    Limit("Time until the whole body is here", f"{_HTTP}.body_s", "s", errors.RequestTimeout),
    Limit("The least that a body brings", f"{_EDGE}.body_bytes_per_s", "bytes/s", errors.RequestTimeout),
    Limit("Over how long that is judged", f"{_EDGE}.body_window_s", "s"),
    Limit("Chunk extensions and trailers", f"{_EDGE}.extension_bytes", "bytes", errors.BadRequest),
    Limit("Requests that wait for their turn on one connection", f"{_EDGE}.pipelined"),
    Limit(
        "Bodies of all requests that are not answered yet, together",
        f"{_EDGE}.bodies_max_bytes",
        "bytes",
        errors.BackendUnavailable,
    ),
    Limit("A connection between requests", f"{_EDGE}.keep_alive_s", "s"),
    Limit(
        "What is read of a stranger's body to learn whether it asks for a stream",
        "arkway.http.serve.STRANGER_MAX_BYTES",
        "bytes",
    ),
    Limit("Time in which the rest of a refused body is thrown away", f"{_HTTP}.linger_s", "s"),
    Limit("One write to a client that does not read", f"{_HTTP}.write_stall_s", "s"),
    Limit("A body of the Admin API", "arkway.http.admin.table.BODY_MAX_BYTES", "bytes", errors.TooLarge),
    Limit(
        "The same where it takes no fields",
        "arkway.http.admin.table.ACTION_BODY_MAX_BYTES",
        "bytes",
        errors.TooLarge,
    ),
    Limit("Connections to one upstream", f"{_GROUPS}.CONNECTIONS_MAX", "", errors.InvalidField),
    Limit("Any time of an upstream", f"{_GROUPS}.SECONDS_MAX", "s", errors.InvalidField),
    Limit("An upstream's error that is looked at", f"{_SHAPE}.faults.BODY_MAX_BYTES", "bytes"),
    Limit("Its words that a caller may see", f"{_SHAPE}.faults.WORDS_MAX", "characters"),
    Limit("One frame of an upstream's stream", f"{_SHAPE}.incoming.FRAME_MAX_BYTES", "bytes", errors.BackendFailed),
    Limit("Answers in one", f"{_SHAPE}.incoming.CHOICES_MAX", "", errors.BackendFailed),
    Limit("Tool calls in one answer of an upstream", f"{_SHAPE}.pieces.CALLS_MAX", "", errors.BackendFailed),
    Limit("Tokens that an upstream may report", f"{_SHAPE}.pieces.TOKENS_MAX"),
    Limit("Fields of a request that are passed on without being known", f"{_SHAPE}.outgoing.EXTRAS_MAX"),
    Limit("The name of a JSON Schema that is passed on", f"{_SHAPE}.request.SCHEMA_NAME_MAX", "characters"),
    Limit("Members of a group", f"{_GROUPS}.MEMBERS_MAX", "", errors.InvalidField),
    Limit("A member's weight", f"{_GROUPS}.WEIGHT_MAX", "", errors.InvalidField),
    Limit("A member's priority", f"{_GROUPS}.PRIORITY_MAX", "", errors.InvalidField),
    Limit("Tokens that a group's card may say", f"{_GROUPS}.TOKENS_MAX", "", errors.InvalidField),
    Limit("Dimensions that it may say", f"{_GROUPS}.DIMENSIONS_MAX", "", errors.InvalidField),
    Limit("Fields in a query of the Admin API", "arkway.http.admin.reading.FIELDS_MAX", "", errors.BadRequest),
    Limit("A bot's prompt", f"{_BOTS}.PROMPT_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("Its actions", f"{_BOTS}.ACTIONS_MAX", "", errors.InvalidField),
    Limit("Collections of one action", f"{_BOTS}.COLLECTIONS_MAX", "", errors.InvalidField),
    Limit("A collection's name there", f"{_BOTS}.COLLECTION_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("Results of one action", f"{_BOTS}.RESULTS_MAX", "", errors.InvalidField),
    Limit("Words of a bot's lexicon", f"{_BOTS}.WORDS_MAX", "", errors.InvalidField),
    Limit("One of them", f"{_BOTS}.WORD_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("`city`, `district` of a bot's user", "arkway.wire.limits.PLACE_MAX_BYTES", "bytes"),
    Limit("An uploaded document", f"{_KNOWLEDGE}.UPLOAD_MAX_BYTES", "bytes", errors.TooLarge),
    Limit("Its file name", f"{_KNOWLEDGE}.FILE_NAME_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("Its source", f"{_KNOWLEDGE}.SOURCE_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("A collection's name", f"{_KNOWLEDGE}.NAME_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("A question to collections", f"{_KNOWLEDGE}.QUERY_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("Results of one", f"{_KNOWLEDGE}.RESULTS_MAX", "", errors.InvalidField),
    Limit(
        "A header's value that may differ in a head that is known", "arkway.http.edge_repeats.VALUE_MAX_BYTES", "bytes"
    ),
    Limit("Heads in a row that are not known, until none is looked for", "arkway.http.edge_repeats.MISSES_MAX"),
    Limit("An API key's characters that are looked at", "arkway.stores.home.SECRET_MAX_CHARACTERS"),
)
JSON_BODY = (
    Limit("Nesting of the JSON body", "arkway.wire.json.DEPTH_MAX", "levels", errors.BadRequest),
    Limit("Values in the JSON body", "arkway.wire.json.VALUES_MAX", "", errors.BadRequest),
    Limit("`messages`", f"{_REQUEST}.MESSAGES_MAX", "entries", errors.InvalidField),
    Limit("Parts of one message's `content`", f"{_REQUEST}.PARTS_MAX", "entries", errors.InvalidField),
    Limit("`tool_calls` of one message", f"{_REQUEST}.TOOL_CALLS_MAX", "entries", errors.InvalidField),
    Limit("`stop`", f"{_REQUEST}.STOP_MAX", "strings", errors.InvalidField),
    Limit("One stop string", f"{_REQUEST}.STOP_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("`logit_bias`", f"{_REQUEST}.LOGIT_BIAS_MAX", "entries", errors.InvalidField),
    Limit("A token id in `logit_bias`", f"{_REQUEST}.TOKEN_ID_MAX", "", errors.InvalidField),
    Limit("`tools` or `functions`", f"{_REQUEST}.TOOLS_MAX", "entries", errors.InvalidField),
    Limit("One function, as JSON", f"{_REQUEST}.TOOL_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("`model`", f"{_REQUEST}.MODEL_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("`user` and every other name", f"{_REQUEST}.NAME_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("Texts of one embeddings or tokenization call", f"{_REQUEST}.EMBED_INPUTS_MAX", "", errors.InvalidField),
    Limit("`stop` on v1 and v2", f"{_REQUEST}.LEGACY_STOP_MAX", "strings", errors.InvalidField),
    Limit("`labels` of one classification", f"{_REQUEST}.LABELS_MAX", "entries", errors.InvalidField),
    Limit("One label", f"{_REQUEST}.LABEL_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("Candidates at one position", f"{_REQUEST}.TOP_LOGPROBS_MAX", "", errors.InvalidField),
    Limit("`crypto_token`", f"{_REQUEST}.CRYPTO_TOKEN_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("One text of such a call", f"{_REQUEST}.EMBED_INPUT_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("All texts of such a call", f"{_REQUEST}.EMBED_TOTAL_MAX_BYTES", "bytes", errors.InvalidField),
    Limit("Images of one request to an embedded model", f"{_SEEING}.IMAGES_MAX", "", errors.InvalidField),
    Limit("All of them together", f"{_SEEING}.PIXELS_MAX", "pixels", errors.UnsupportedInput),
    Limit("Images of one request that are fetched", f"{_SETTINGS}.Fetch.images", "", errors.UnsupportedInput),
    Limit("One of them", f"{_SETTINGS}.Fetch.max_bytes", "bytes", errors.UnsupportedInput),
    Limit("All of them together", "arkway.backends.pictured.TOTAL_MAX_BYTES", "bytes", errors.UnsupportedInput),
    Limit("Time until one of them is here", f"{_SETTINGS}.Fetch.timeout_s", "s", errors.UnsupportedInput),
    Limit("Its URL", "arkway.fetching.place.URL_MAX_CHARS", "characters", errors.UnsupportedInput),
    Limit("Redirects on the way to it", "arkway.fetching.web.REDIRECTS_MAX", "", errors.UnsupportedInput),
    Limit("Documents that one process fetches at a time", "arkway.fetching.web.AT_ONCE"),
)
SCHEMAS = (
    Limit("Nesting of a JSON Schema", f"{_SCHEMA}.MAX_DEPTH", "levels", errors.InvalidField),
    Limit("A JSON Schema, as JSON", f"{_SCHEMA}.MAX_BYTES", "bytes", errors.InvalidField),
    Limit("A `pattern` in a JSON Schema", f"{_SCHEMA}.PATTERN_MAX_CHARS", "characters", errors.InvalidField),
    Limit("`maxItems`, `enum`, `{m,n}` and other counts in one", f"{_SCHEMA}.COUNT_MAX", "", errors.InvalidField),
    Limit("Item and property counts of one, together", f"{_SCHEMA}.ITEMS_MAX", "", errors.InvalidField),
    Limit("`minLength`, `maxLength`", f"{_SCHEMA}.LENGTH_MAX", "", errors.InvalidField),
    Limit("Names in one object of a JSON Schema", f"{_SCHEMA}.NAMES_MAX", "", errors.InvalidField),
    Limit("A constant in a JSON Schema", f"{_SCHEMA}.CONSTANT_MAX_CHARS", "characters", errors.InvalidField),
    Limit("`multipleOf`, least common multiple", f"{_SCHEMA}.FACTOR_MAX", "", errors.InvalidField),
    Limit("The same, over all uses", f"{_SCHEMA}.FACTORS_MAX", "", errors.InvalidField),
)
RUNNING = (
    Limit("Calls at work on one chat model", f"{_SETTINGS}.Engine.slots", "slots"),
    Limit("Calls waiting for one chat model", f"{_SETTINGS}.Engine.queue_limit", "", errors.Overloaded),
    Limit("Wait for a slot", f"{_SETTINGS}.Engine.queue_wait_s", "s", errors.Overloaded),
    Limit("Start of a chat model", f"{_ENGINE}.start_limit_s", "s", errors.BackendUnavailable),
    Limit("Silence of a chat model at work, then it is restarted", f"{_ENGINE}.hang_limit_s", "s"),
    Limit("Silence until an answer begins", f"{_SETTINGS}.Stream.first_event_s", "s", errors.BackendTimeout),
    Limit("Silence within an answer", f"{_SETTINGS}.Stream.next_event_s", "s", errors.BackendTimeout),
    Limit("One answer altogether", f"{_SETTINGS}.Stream.total_s", "s", errors.BackendTimeout),
    Limit("One line of an event stream that is read", "arkway.wire.sse.LINE_MAX_BYTES", "bytes", errors.BackendFailed),
    Limit("Unfinished embedding and tokenization calls", "arkway.backends.embedding.UseEmbedder.queue_limit", "",
          errors.Overloaded),
    Limit("Wait of such a call for its next piece", "arkway.backends.embedding.UseEmbedder.wait_limit_s", "s",
          errors.Overloaded),
)  # fmt: skip
KEEPING = (
    Limit("One journal segment before the next begins", "arkway.stores.journal.SEGMENT_BYTES", "bytes"),
    Limit("Tokens of one count in the ledger", "arkway.stores.framing.TOKENS_MAX"),
    Limit("A key's name", "arkway.admin.keys.NAME_MAX_CHARACTERS", "characters", errors.InvalidField),
    Limit("Rows of one `arkway usage`", "arkway.admin.usage.ROWS_MAX"),
    Limit("Disk room that a download must leave free", "arkway.models.store.RESERVE_BYTES", "bytes"),
    Limit("Probe of a model source", "arkway.models.pull.PROBE_LIMIT_S", "s"),
    Limit("Silence of a model hub during a download", "arkway.models.network.STALL_LIMIT_S", "s"),
    Limit("A broken download that nobody takes up is kept for", "arkway.models.store.STALE_AFTER_S", "s"),
)


def main(arguments: Sequence[str]) -> int:
    """Writes what is out of date, or with ``--check`` only names it. The number of outdated files, at most 1."""
    stale = {path: text for path, text in rendered().items() if text != path.read_text(encoding="utf-8")}
    for path, text in stale.items():
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


def documents() -> tuple[Path, ...]:
    """Every document of the project, in a fixed order."""
    return tuple(sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))


def rendered() -> dict[Path, str]:
    """Every document with its generated parts made anew."""
    return {path: MARK.sub(_section, path.read_text(encoding="utf-8")) for path in documents()}


def _section(found: re.Match[str]) -> str:
    name = found[2]
    if name in ELSEWHERE:
        return found[0]
    if name not in SECTIONS:
        raise SystemExit(f"there is no generated part `{name}`; there are {', '.join(SECTIONS)}")
    return f"{found[1]}\n{SECTIONS[name]().strip()}\n\n{found[4]}"


# Tables in Markdown


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; bars and line breaks in cells are made harmless."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


# Tenancy


def role_meanings() -> str:
    return markdown_table(("role", "meaning"), ((_code(role), meaning) for role, meaning in roles.MEANINGS.items()))


def permissions() -> str:
    titles = ("action", "to …", *roles.ROLES, "key limited to endpoints")
    return markdown_table(titles, (_permission(action) for action in roles.PERMISSIONS))


def _permission(action: str) -> tuple[str, ...]:
    permission = roles.PERMISSIONS[action]
    marks = ("yes" if role in permission.roles else "" for role in roles.ROLES)
    return (_code(action), permission.what, *marks, "on these" if permission.scoped else "")


# The API


def routes() -> str:
    titles = ("method", "path", "dialect", "operation", "authentication", "body, at most")
    return markdown_table(titles, (_route(route) for route in ROUTES))


def _route(route: Route) -> tuple[str, ...]:
    auth = {"bearer": "API key", "any": "API key or signature", "signature": "signature", "none": "none"}[route.auth]
    dialect = "-" if route.auth == "none" else route.dialect
    path = route.path.replace("{}", "{name}")
    body = amount(route.body_max_bytes, "bytes") if route.body_max_bytes else "no body"
    return (route.method, _code(path), dialect, route.operation, auth, body)


def fields_of(table: Table) -> Callable[[], str]:
    """A section for one field table."""

    def section() -> str:
        titles = ("field", "type", "range", "default", "here", "meaning")
        return markdown_table(titles, (_field(entry) for entry in table.values()))

    return section


def _field(entry: Field) -> tuple[str, ...]:
    default = "required" if entry.required else entry.default
    return (_code(entry.name), entry.kind, _range(entry), default, entry.effect, entry.doc)


def _range(entry: Field) -> str:
    bounds = [_bounds(entry.low, entry.high)] if entry.low is not None or entry.high is not None else []
    if entry.choices:
        bounds.append(" or ".join(_code(choice) for choice in entry.choices))
    if entry.max_items is not None:
        bounds.append(f"at most {entry.max_items} entries")
    if entry.max_bytes is not None:
        bounds.append(f"at most {amount(entry.max_bytes, 'bytes')}")
    return ", ".join(bounds)


def _bounds(low: float | None, high: float | None) -> str:
    """An inclusive range in words."""
    if low is not None and high is not None:
        return "a 64-bit number" if high - low > 1 << 60 else f"{low:g} to {high:g}" if low != high else f"{low:g} only"
    return f"at least {low:g}" if low is not None else f"at most {high:g}"


def modes_of(*tables: tuple[str, Table]) -> Callable[[], str]:
    """A section for the tables of one operation, a prefix before each: what every field does in either mode."""

    def section() -> str:
        titles = ("field", "type", "compat (default)", "strict", "meaning")
        return markdown_table(titles, (row for prefix, table in tables for row in _modes(prefix, table)))

    return section


def _modes(prefix: str, table: Table) -> Iterable[tuple[str, ...]]:
    for (name, kind, compat, strict), entry in zip(mode_rows(table, prefix), table.values(), strict=True):
        yield (_code(name), kind, compat, "the same" if strict == compat else strict, entry.doc)


# Errors


def error_tree() -> str:
    """The tree as the module that defines it draws it."""
    drawn = cleandoc(errors.__doc__ or "").partition("::\n\n")[2].partition("\n\nA message")[0]
    return f"```text\n{cleandoc(drawn)}\n```"


def error_codes() -> str:
    titles = (
        "error",
        "v1, v2: status, code, code_n",
        "Ark v3: status, code, type",
        "OpenAI: status, code, type",
        "headers",
    )
    return markdown_table(titles, (_error(leaf) for leaf in error_leaves()))


def error_leaves() -> tuple[type[errors.ArkwayError], ...]:
    """Every class of the tree that is raised; adapters may refine one for themselves, which no caller sees."""
    tree = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ArkwayError)]
    inner = {parent for kind in tree for parent in kind.__bases__} - {errors.BadRequest, errors.RateLimited}
    return tuple(kind for kind in tree if kind not in inner)


def _error(leaf: type[errors.ArkwayError]) -> tuple[str, ...]:
    codes = (coded(table, leaf) for table in (maas_errors.CODES, v3_errors.CODES, openai_errors.CODES))
    return (_code(leaf.__name__), *(_coded_text(code) for code in codes), ", ".join(_error_headers(leaf)))


def coded(codes: Mapping[type[errors.ArkwayError], Code], leaf: type[errors.ArkwayError]) -> Code:
    """How one dialect shows a class of error."""
    return code_of(codes, leaf.__new__(leaf))


def _coded_text(code: Code) -> str:
    return f"{code.status} `{code.code}` `{code.number or code.type}`"


def _error_headers(leaf: type[errors.ArkwayError]) -> Iterable[str]:
    if leaf in (errors.RateLimited, errors.Overloaded):
        yield "`Retry-After`"
    if issubclass(leaf, FINAL):
        yield "`x-should-retry: false`"
    if leaf is errors.MethodNotAllowed:
        yield "`Allow`"
    if leaf is errors.RequestTimeout:
        yield "`Connection: close`"


# The Admin API


def admin_operations() -> str:
    titles = ("method", "path", "needs the role", "body", "what it does")
    return markdown_table(titles, (_admin_operation(operation) for operation in OPERATIONS))


def _admin_operation(operation: Operation) -> tuple[str, ...]:
    roles = ", ".join(PERMISSIONS[operation.permission].roles)
    body = _code(operation.body.__name__) if operation.body else ""
    return (operation.method, _code(operation.full_path), roles, body, operation.summary)


def admin_errors() -> str:
    rows = ((str(status), ", ".join(map(_code, codes)), REASONS[status]) for status, codes in statuses().items())
    return markdown_table(("status", "code", "meaning"), rows)


def admin_bodies() -> str:
    """Every struct that a body is read into, and those within them."""
    schemas = build()["components"]["schemas"]
    bodies = {operation.body.__name__ for operation in OPERATIONS if operation.body}
    inner = {name for body in bodies for name in re.findall(r"#/components/schemas/(\w+)", str(schemas[body]))}
    return "\n\n".join(_admin_body(name, schemas[name]) for name in schemas if name in bodies | inner)


def _admin_body(name: str, schema: Mapping[str, Any]) -> str:
    rows = ((_code(field), *_schema_text(kind), _default(field, kind, schema)) for field, kind in _properties(schema))
    return f"### {name}\n\n{schema['description']}\n\n{markdown_table(('field', 'type', 'range', 'default'), rows)}"


def _properties(schema: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return typing.cast("Mapping[str, Any]", schema["properties"]).items()


def _default(field: str, kind: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if field in schema.get("required", ()):
        return "required"
    return _code(msgspec.json.encode(kind["default"]).decode()) if "default" in kind else ""


def _schema_text(kind: Mapping[str, Any]) -> tuple[str, str]:
    """The type of a field and its range."""
    if reference := kind.get("$ref"):
        return reference.rpartition("/")[2], ""
    if options := kind.get("anyOf"):
        texts = [_schema_text(option) for option in options]
        return " or ".join(text for text, _ in texts), ", ".join(part for _, part in texts if part)
    if choices := kind.get("enum"):
        return "string", " or ".join(map(_code, choices))
    if kind["type"] == "array":
        return f"list of {_schema_text(kind['items'])[0]}", f"at most {kind['maxItems']}" if "maxItems" in kind else ""
    return kind["type"], ", ".join(_schema_bounds(kind))


def _schema_bounds(kind: Mapping[str, Any]) -> Iterable[str]:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "minLength": "{} and more characters",
        "maxLength": "at most {} characters",
    }
    yield from (text.format(f"{kind[name]:,.15g}".replace(",", " ")) for name, text in words.items() if name in kind)


# Settings


def settings() -> str:
    titles = ("key", "type", "range", "default", "environment", "flag", "meaning")
    return markdown_table(titles, (_setting(*each) for each in _keys(config.Settings)))


def _keys(section: type[msgspec.Struct], prefix: str = "") -> Iterable[tuple[str, Any, Any]]:
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _keys(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field.type, field.default


def _setting(key: str, kind: Any, default: Any) -> tuple[str, ...]:
    if key not in MEANINGS:
        raise SystemExit(f"the setting `{key}` has no meaning yet: say it in MEANINGS of scripts/generate_docs.py")
    variable = "ARKWAY_HOME" if key == "home" else config.ENV_PREFIX + key.upper().replace(".", "__")
    shown = "" if default is msgspec.NODEFAULT else _toml(default)
    flag = _code(FLAGS.get(key, ""))
    return (_code(key), type_text(kind), config.range_of(kind), _code(shown), _code(variable), flag, MEANINGS[key])


def _toml(value: Any) -> str:
    """A default as it would stand in the TOML file."""
    return f"{value:g}" if isinstance(value, float) else msgspec.json.encode(value).decode()


def type_text(kind: Any) -> str:
    """A type in words."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(_code(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Annotated:
        return type_text(typing.get_args(kind)[0])
    if typing.get_origin(kind) is tuple:
        return f"list of {type_text(typing.get_args(kind)[0])}s"
    if typing.get_origin(kind) is dict:
        return "table"
    words = {int: "integer", float: "number", bool: "boolean", str: "string", Path: "path"}
    return words[kind]


# Limits


def limits_of(entries: Sequence[Limit]) -> Callable[[], str]:
    """A section for one group of limits."""

    def section() -> str:
        titles = ("what", "limit", "beyond it", "decided by")
        return markdown_table(titles, (_limit(entry) for entry in entries))

    return section


def _limit(entry: Limit) -> tuple[str, ...]:
    status = coded(v3_errors.CODES, entry.error).status if entry.error else 0
    beyond = f"{status} `{entry.error.__name__}`" if entry.error else ""
    return (entry.what, amount(value_of(entry.source), entry.unit), beyond, _code(entry.source))


def value_of(source: str) -> float:
    """The value behind a dotted name: a module's constant, a struct field's default or a parameter's default."""
    path, _, name = source.rpartition(".")
    try:
        owner: Any = importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, attribute = path.rpartition(".")
        owner = getattr(importlib.import_module(module), attribute)
    if isinstance(owner, types.ModuleType):
        return cast(float, getattr(owner, name))
    if issubclass(owner, msgspec.Struct):
        return next(cast(float, field.default) for field in msgspec.structs.fields(owner) if field.name == name)
    return cast(float, owner.__init__.__kwdefaults__[name])


def amount(value: float, unit: str) -> str:
    """A number with its unit; octets in the largest binary unit that fits without a rest."""
    if unit != "bytes":
        shown = f"{value:g}" if isinstance(value, float) else f"{value:,}".replace(",", " ")
        return f"{shown} {unit}".strip()
    for factor, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if value % factor == 0:
            return f"{value // factor:g} {name}"
    return f"{value:g} bytes"


# The command line


def commands() -> str:
    return "\n\n".join(_command(context) for context in command_contexts())


def command_contexts(context: click.Context | None = None) -> Iterable[click.Context]:
    """The context of a command (the whole program's, when none is given) and of everything below it, depth first."""
    context = context or click.Context(group, info_name="arkway", **group.context_settings)
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            child = context.command.get_command(context, name)
            assert child is not None
            yield from command_contexts(click.Context(child, info_name=name, parent=context))


def _command(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", *_help(command.help or ""), f"```text\n{usage}\n```"]
    command._help_option = None  # kept from whoever asked first, perhaps without the names that `arkway` gives it
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    parts.append(markdown_table(("option", "meaning"), ((_code(names), text) for names, text in records)))
    return "\n\n".join(parts)


def _help(text: str) -> Iterable[str]:
    """Paragraphs; one that click must not rewrap is a block of its own."""
    for paragraph in cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield f"```text\n{paragraph[2:]}\n```"
        else:
            yield " ".join(paragraph.split())


# Models


def catalogue() -> str:
    return "\n\n".join(_model(entry) for entry in CATALOGUE)


def _model(entry: CatalogueEntry) -> str:
    rows = [(label, text) for label, text in _facts(entry) if text]
    parts = [f"### {entry.name}", markdown_table((entry.card.title, ""), rows), "Parameters:"]
    titles = ("parameter", "range", "default", "note")
    parts.append(markdown_table(titles, (_parameter(each) for each in entry.card.parameters)))
    return "\n\n".join(parts)


def _facts(entry: CatalogueEntry) -> Iterable[tuple[str, str]]:
    card = entry.card
    answer = f"up to {card.max_output_tokens} tokens; {card.default_output_tokens} when the caller sets no limit"
    yield "version", _code(entry.version)
    yield "served as", _code(card.served_name)
    yield "licence", card.licence
    yield "abilities", ", ".join(card.capabilities)
    yield "context", f"{card.context_tokens} tokens, prompt and answer together"
    yield "answer", answer if card.max_output_tokens else ""
    yield "vector", f"{card.dimensions} numbers" if card.dimensions else ""
    yield "languages", ", ".join(card.languages)
    yield "size", f"{entry.size_bytes} bytes" if entry.size_bytes else ""
    yield "sha256", _code(entry.sha256)
    yield "sources", "<br>".join(_code(ref) for ref in entry.sources) or f"the package that provides `{entry.module}`"
    yield "remarks", card.remarks


def _parameter(entry: ParameterRange) -> tuple[str, ...]:
    bounds = "" if entry.low is None or entry.high is None else _bounds(entry.low, entry.high)
    default = "" if entry.default is None else msgspec.json.encode(entry.default).decode().strip('"')
    return (_code(entry.name), bounds, default, entry.note)


# Metrics


def metrics() -> str:
    """What every server exposes; the readings of an installation are described beside this table."""
    collectors = (*vars(Metrics()).values(), *vars(PluginWatch()).values())
    found = [each for each in collectors if hasattr(each, "_labelnames") or isinstance(each, Tally | Spread)]
    titles = ("metric", "type", "labels", "meaning")
    return markdown_table(titles, (_metric(each) for each in found))


def _metric(collector: Any) -> tuple[str, ...]:
    counted = isinstance(collector, Tally | Spread)
    family = collector.metric() if counted else next(iter(collector.collect()))
    labels = collector.labels if counted else collector._labelnames
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return (_code(name), family.type, ", ".join(_code(label) for label in labels), family.documentation)


# Decisions


def decisions() -> str:
    found = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    return "\n".join(f"- [{_title(path)}]({path.name})" for path in found)


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


SECTIONS: dict[str, Callable[[], str]] = {
    "roles": role_meanings,
    "permissions": permissions,
    "routes": routes,
    "fields-v3-chat": fields_of(v3_fields.CHAT),
    "fields-v3-embeddings": fields_of(v3_fields.EMBED),
    "fields-v3-tokenization": fields_of(v3_fields.TOKENIZE),
    "fields-openai-chat": fields_of(openai_fields.CHAT),
    "fields-openai-embeddings": fields_of(openai_fields.EMBED),
    "modes-v1-chat": modes_of(
        ("", v1_fields.CHAT),
        ("model.", v1_fields.MODEL),
        ("parameters.", v1_fields.PARAMETERS),
        ("messages[].", v1_fields.MESSAGE),
    ),
    "modes-v1-embeddings": modes_of(("", v1_fields.EMBED)),
    "modes-v1-tokenization": modes_of(("", v1_fields.TOKENIZE)),
    "modes-v1-classification": modes_of(("", v1_fields.CLASSIFY)),
    "modes-v1-cert": modes_of(("", v1_fields.CERT)),
    "modes-v2-chat": modes_of(
        ("", v2_fields.CHAT), ("parameters.", v2_fields.PARAMETERS), ("messages[].", v2_fields.MESSAGE)
    ),
    "modes-v2-embeddings": modes_of(("", v2_fields.EMBED)),
    "modes-v2-tokenization": modes_of(("", v2_fields.TOKENIZE)),
    "modes-v2-classification": modes_of(("", v2_fields.CLASSIFY)),
    "modes-bots-chat": modes_of(
        ("", bots_fields.CHAT), ("parameters.", bots_fields.PARAMETERS), ("messages[].", bots_fields.MESSAGE)
    ),
    "fields-v3-bots": fields_of(v3_fields.BOT_CHAT),
    "fields-stream-options": fields_of(shape.STREAM_OPTIONS),
    "fields-message": fields_of(shape.MESSAGE),
    "fields-function": fields_of(messages._FUNCTION),
    "admin-operations": admin_operations,
    "admin-errors": admin_errors,
    "admin-bodies": admin_bodies,
    "error-tree": error_tree,
    "error-codes": error_codes,
    "settings": settings,
    "limits-edge": limits_of(EDGE),
    "limits-body": limits_of(JSON_BODY),
    "limits-schema": limits_of(SCHEMAS),
    "limits-running": limits_of(RUNNING),
    "limits-keeping": limits_of(KEEPING),
    "commands": commands,
    "catalogue": catalogue,
    "metrics": metrics,
    "decisions": decisions,
}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
