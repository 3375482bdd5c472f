"""The seams: what flow needs from the world, as protocols. Adapters live in backends, stores and telemetry."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from arkway.core.audit import Entry
from arkway.core.caller import AccessKey, Call, Caller
from arkway.core.chat import ChatReply, ChatRequest, ReplyTag, Usage
from arkway.core.classification import ClassifyReply, ClassifyRequest
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError
from arkway.core.events import Event
from arkway.core.limit import Demand, Rule, Used
from arkway.core.model import Deployment, Endpoint
from arkway.core.raw import ErrorReply, RawRequest


class Backend(Protocol):
    """A backend that is pulled: an engine, or a wrapper around one."""

    def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """The answer as events. Errors of the tree in `arkway.core.errors`; whoever iterates closes it."""
        ...


class Sink(Protocol):
    """Where a pushing backend puts an answer. No method waits or raises.

    Exactly one of ``ended`` and ``failed`` comes, last; after `Running.cancel` neither.
    """

    def events(self, batch: Sequence[Event]) -> None:
        """What one read brought, at least one."""

    def ended(self) -> None:
        """The answer broke off nowhere: all of it was in ``events``."""

    def failed(self, error: ArkwayError) -> None: ...


class Running(Protocol):
    """A call that a pushing backend is at. Every method may be called at any time, more than once."""

    def pause(self) -> None:
        """The sink is full: what is under way may still come, no more is read."""

    def resume(self) -> None: ...

    def cancel(self) -> None:
        """Nobody wants the rest: the work stops, at once."""


class Pushing(Protocol):
    """The other kind of backend, without coroutines: what is ready is pushed. The road takes both kinds."""

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        """Begins at once and does not wait; the sink hears nothing before this returns.

        Raises errors of the tree for what can be refused without asking anybody.
        """
        ...


class Heeding(Protocol):
    """A backend to which other fields of a request have an effect than the embedded engine heeds."""

    def heeded(self, deployment: Deployment, request: ChatRequest) -> ChatRequest:
        """The request with ``ignored`` as it is on this backend."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors."""

    async def embed(self, deployment: Deployment, request: EmbedRequest, call: Call) -> EmbedReply: ...


class Tokenizer(Protocol):
    """Cuts texts into the serving model's own tokens; the ids are those that ``logit_bias`` takes."""

    async def tokenize(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]: ...


class Classifier(Protocol):
    """Chooses among labels."""

    async def classify(self, deployment: Deployment, request: ClassifyRequest, call: Call) -> ClassifyReply: ...


class Alias(msgspec.Struct, frozen=True):
    """A name callers may use for a model, such as a retired product's; ``model_version`` empty = its default one."""

    name: str
    model_name: str
    model_version: str


class Directory(Protocol):
    """Read-only view of keys, endpoints, aliases and limits, held in this process: no method waits.

    ``changes`` is another number after anything but the times of use has changed, and so after what finds the models
    behind endpoints gives another answer, such as for one that came, went or was replaced. It becomes it last, and none
    comes back: what was concluded under another number is to be forgotten.
    """

    changes: int

    def caller(self, secret: str, now_s: int) -> Caller | None:
        """Whose API key this is; None for unknown, revoked and expired alike."""

    def stands(self, caller: Caller, now_s: int) -> bool:
        """Whether `caller` would give this very object for the same key again; counts as a use of it.

        False says nothing against the key: it has to be looked up.
        """

    def access_key(self, access_key_id: str, now_s: int) -> AccessKey | None:
        """The access key pair of this id; None for unknown, revoked and expired alike."""

    def used(self, access_key_id: str, now_s: int) -> None:
        """A signature by this access key was right. (An API key is used by being found.)"""

    def alias(self, name: str) -> Alias | None:
        """Names of aliases are told apart without regard to case."""

    def aliases(self) -> tuple[Alias, ...]: ...

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """An endpoint, or a bot: that is one whose model is called as the bot is."""

    def endpoints(self, account: str, project: str) -> tuple[Endpoint, ...]:
        """Every endpoint of one project, oldest first; no bots."""

    def limits(self, account: str, project: str, key_id: str, endpoint_id: str) -> tuple[Rule, ...]:
        """The limits that a call by this key to this endpoint is under; the same tuple until they change."""


class Hold(Protocol):
    """What one call has taken of its limits."""

    def settle(self, used: Used) -> None:
        """Gives back what was not used. Never waits, never raises, counts once: for a ``finally``."""
        ...


class Limiter(Protocol):
    """Counts what calls use against limits: all those of one call in one step, all or nothing.

    Both methods raise RateLimited (also TokenRateLimited) or QuotaExhausted; nothing is taken then. ``hold_nowait``
    gives None where the answer has to be waited for, by `hold`, which is one round trip at most.
    """

    def hold_nowait(self, demand: Demand) -> Hold | None: ...

    async def hold(self, demand: Demand) -> Hold: ...


Outcome = Literal["done", "client_abort", "upstream_error", "interrupted", "refused"]


class Attempt(msgspec.Struct, frozen=True):
    """The opening entry of one attempt to serve one call: who, what, through which door, and a guess at its cost.

    ``caller`` is the caller's own user, as the request's ``user`` field names it.
    """

    id: str
    request_id: str
    account: str
    project: str
    key_id: str
    endpoint_id: str
    model: str
    dialect: str
    operation: str
    opened_ms: int
    estimate_tokens: int = 0
    caller: str = ""


class Settlement(msgspec.Struct, frozen=True):
    """The closing entry: how it ended, what it cost, and how long it took (milliseconds; -1 = never got that far)."""

    outcome: Outcome
    usage: Usage
    closed_ms: int
    first_token_ms: int = -1
    duration_ms: int = -1
    error: str = ""


class Ledger(Protocol):
    """The append-only record of use. Every method is synchronous and does not wait: safe in a ``finally``."""

    def reserve(self, attempt: Attempt) -> None:
        """Before any backend works. Raises StoreUnavailable when the journal does not take it."""

    def checkpoint(self, attempt_id: str, prompt_tokens: int, completion_tokens: int) -> None:
        """What has been spent so far: settled at this if the process dies."""

    def settle(self, attempt_id: str, settlement: Settlement) -> None:
        """The end, written before the caller sees the end."""


Adjustment = Literal["ignored", "clamped"]


class CallRecord(msgspec.Struct, frozen=True):
    """One finished HTTP call, for observers (metrics, access log). ``adjusted``: fields without (full) effect."""

    request_id: str
    dialect: str
    operation: str
    endpoint_id: str
    model: str
    status: int
    error: str
    outcome: Outcome
    usage: Usage
    first_token_s: float
    duration_s: float
    stream: bool
    key_id: str = ""
    adjusted: tuple[tuple[str, Adjustment], ...] = ()


class Observer(Protocol):
    """Told of every call, synchronously; must not wait."""

    def started(self, dialect: str, operation: str) -> None: ...

    def ended(self, record: CallRecord) -> None: ...


class StreamEncoder(Protocol):
    """Events to the bytes of one stream. Pure and synchronous."""

    def feed(self, event: Event) -> bytes:
        """The bytes of one event, possibly none. A choice's end is held back until ``close``."""

    def heartbeat(self) -> bytes:
        """Bytes that keep the connection alive and mean nothing."""

    def fail(self, error: ArkwayError) -> bytes:
        """The error frame and the end: never looks complete."""

    def close(self, usage: Usage) -> bytes:
        """Finish reasons, usage if asked for, and the end."""


class Channel(Protocol):
    """One caller's end-to-end encryption of message texts, for one call."""

    def open(self, text: str) -> str:
        """Base64 of ciphertext to clear text. Raises InvalidField."""
        ...

    def seal(self, text: str) -> str: ...


class Sealing(Protocol):
    """Message encryption (protocol §4.7). ``certificate`` is PEM with the server's P-256 public key."""

    certificate: str

    def channel(self, crypto_token: str) -> Channel:
        """The channel that the caller's half of the exchange opens. Raises InvalidField."""
        ...


class CertRequest(msgspec.Struct, frozen=True):
    """For which model or endpoint a certificate is wanted."""

    asked: str
    asked_version: str = ""


class Refusing(Protocol):
    """What every form of the wire has: errors of its own.

    ``deaf_to_status``: this client takes no notice of the HTTP status of an answer it wants streamed, so that an error
    has to be a frame as well; `wants_stream` then tells from a body that may be broken.
    """

    name: str
    deaf_to_status: bool

    def suited(self, raw: RawRequest) -> Refusing:
        """This form as the client of this request needs it (protocol §2.1)."""
        ...

    def wants_stream(self, body: bytes) -> bool: ...

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        """``stream``: the answer was to be a stream."""
        ...


class Dialect(Refusing, Protocol):
    """One generation's wire: a pure translator between bytes and the canonical middle."""

    def suited(self, raw: RawRequest) -> Dialect: ...

    def decode_chat(self, raw: RawRequest, body: bytes) -> ChatRequest: ...

    def encode_chat(self, reply: ChatReply, request: ChatRequest, tag: ReplyTag) -> bytes: ...

    def stream(self, request: ChatRequest, tag: ReplyTag) -> StreamEncoder: ...

    def decode_embed(self, raw: RawRequest, body: bytes) -> EmbedRequest: ...

    def encode_embed(self, reply: EmbedReply, request: EmbedRequest, tag: ReplyTag) -> bytes: ...


class Tokenizing(Protocol):
    """A dialect that has tokenization."""

    def decode_tokenize(self, raw: RawRequest, body: bytes) -> TokenizeRequest: ...

    def encode_tokenize(self, reply: tuple[Tokenized, ...], request: TokenizeRequest, tag: ReplyTag) -> bytes: ...


class Listing(Protocol):
    """A dialect that lists models."""

    def encode_models(self, deployments: tuple[Deployment, ...], name: str = "") -> bytes:
        """The list, or the one called ``name``. Raises EndpointNotFound."""
        ...


class Classifying(Protocol):
    """A dialect that has classification."""

    def decode_classify(self, raw: RawRequest, body: bytes) -> ClassifyRequest: ...

    def encode_classify(self, reply: ClassifyReply, request: ClassifyRequest, tag: ReplyTag) -> bytes: ...


class Certifying(Protocol):
    """A dialect that hands out the certificate of message encryption."""

    def decode_cert(self, raw: RawRequest, body: bytes) -> CertRequest:
        """Raises RouteNotFound where message encryption is off."""
        ...

    def encode_cert(self, deployment: Deployment, request: CertRequest, tag: ReplyTag) -> bytes: ...


class Action(msgspec.Struct, frozen=True):
    """One call of the control plane: what is asked, by whom. ``body`` is JSON as it came."""

    name: str
    version: str
    body: bytes
    caller: Caller
    request_id: str
    now_ms: int


class ActionResult(msgspec.Struct, frozen=True):
    """What an action gives, as the wire names it, and the request's fields without (full) effect."""

    result: Mapping[str, Any]
    ignored: tuple[str, ...] = ()
    clamped: tuple[str, ...] = ()


class Control(Protocol):
    """The control plane behind its wire."""

    async def perform(self, action: Action) -> ActionResult:
        """Raises errors of the tree; nothing of a secret leaves before the audit log has it."""
        ...


class Controlling(Protocol):
    """A form that carries actions (protocol §8)."""

    action: str
    version: str

    def encode_result(self, result: Mapping[str, Any], request_id: str) -> bytes: ...


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What a temporary API key says of itself.

    It is the access key's that asked for it, and is good for these ``resources`` of one project (at least one: ids of
    endpoints and bots) until ``expires_s`` (epoch seconds).
    """

    access_key_id: str
    account: str
    project: str
    resources: tuple[str, ...]
    expires_s: int


class Fetched(msgspec.Struct, frozen=True):
    """A document: ``content_type`` as its server says it, the decoded ``body``, the ``url`` where it was at last."""

    content_type: str
    body: bytes
    url: str


class Fetcher(Protocol):
    """Fetches documents whose URLs callers name, without reaching what callers cannot reach themselves."""

    async def fetch(self, url: str, *, max_bytes: int, timeout_s: float, accept: Sequence[str] = ()) -> Fetched:
        """At most ``max_bytes``, unpacked too. ``accept``: media types, or ``type/*``; none = any.

        Raises UnsupportedInput, without a field, with a sentence that is safe to show: the URL, what it leads to or
        what is there cannot be taken.
        """
        ...


class Audit(Protocol):
    """The log of changes, which only grows."""

    def append(self, entry: Entry) -> None:
        """One more entry, kept when this returns. Waits for the store. Raises StoreUnavailable."""
        ...
