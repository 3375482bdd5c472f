"""What an upstream server says went wrong, as errors of our own.

The caller gets to know what the caller can mend. What concerns the operator's account, keys or machines is told in
words of ours, and an upstream's own words are shown only when they name no host, address, path or secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    BadRequest,
    ContextTooLong,
    InputBlocked,
    InvalidField,
    OutputBlocked,
    Overloaded,
    RateLimited,
)

RETRY_AFTER_MAX_S = 60.0
WORDS_MAX = 300
BODY_MAX_BYTES = 64 * 1024

_UNSAFE = re.compile(
    r"""://                                  # a URL
    | [A-Za-z0-9_-]\.[A-Za-z][A-Za-z0-9_-]*[:/.]?   # a host or file name, a module
    | \b\d{1,3}(?:\.\d{1,3}){3}\b            # IPv4
    | [0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:     # IPv6
    | [\w\]]:\d{2,5}\b                       # a port
    | localhost
    | (?:^|[\s'"`(=])[~.]?/\w                # a path
    | [A-Za-z]:\\ | \\\\
    | @
    | \b(?:sk|ak|pk|hf|gsk)[-_]\w
    | \bep-\w
    | (?i:bearer|authori[sz]ation|api[ _-]?key|secret|password|credential|traceback|\bhost\b|\bserver\b|\bupstream\b)
    | (?=[\w+=-]*\d)[\w+=-]{24,}             # a key, an id
    """,
    re.VERBOSE,
)
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:\[\d{1,4}\]|\.[A-Za-z0-9_]{1,64}){0,6}")

_CONTEXT = re.compile(
    r"context[ _-]?(?:length|size|window)|maximum (?:context|input)|exceed_context|longer than the model"
    r"|too many tokens|prompt is too long|input (?:length|token)\w* .{0,40}(?:exceed|longer|too)"
    r"|`?inputs`? tokens \+ `?max_new_tokens`?",
    re.IGNORECASE,
)
_CONTEXT_HOLDS = (
    re.compile(r"maximum context length (?:is|of) (?:only )?(\d{1,9})", re.IGNORECASE),
    re.compile(r"context (?:length|size|window)[^\d]{0,24}(\d{1,9})", re.IGNORECASE),
    re.compile(r"maximum (?:input )?length (?:is |of )?(\d{1,9})", re.IGNORECASE),
    re.compile(r"must be <= (\d{1,9})", re.IGNORECASE),
)
_PROMPT_HAS = (
    re.compile(r"\((\d{1,9}) in the messages", re.IGNORECASE),
    re.compile(r"(?:contains?|has|resulted in)(?: at least)? (\d{1,9}) (?:input )?tokens", re.IGNORECASE),
    re.compile(r"(?:input|request|prompt)[^\d]{0,24}(\d{1,9})(?: tokens|\))", re.IGNORECASE),
    re.compile(r"input length (\d{1,9})", re.IGNORECASE),
    re.compile(r"given: (\d{1,9}) `?inputs", re.IGNORECASE),
    re.compile(r"(?:you requested|requested) (\d{1,9}) tokens", re.IGNORECASE),
)
_ANSWER_TAKES = re.compile(r"(\d{1,9}) (?:in the completion|output tokens)", re.IGNORECASE)

_BLOCKED = re.compile(
    r"""SensitiveContentDetected | RiskDetection | ContentSecurityDetection  # Ark (protocol §9.2)
    | \b(?:Req|Resp)TextExistRisk\b                                         # its older generations
    | \Acontent_(?:filter|policy_violation)\b | ResponsibleAIPolicyViolation # OpenAI, Azure
    | \b(?:moderation_blocked|data_inspection_failed)\b                     # OpenAI, DashScope
    | \Ainvalid_prompt\b.*(?:safety|usage[ ]polic)                          # OpenAI
    | \binput[ ]was[ ]flagged                                               # OpenRouter
    | \AContent[ ]Exists[ ]Risk                                             # DeepSeek
    | 不安全或敏感内容                                                      # Zhipu
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OUTPUT = re.compile(
    r"Output[A-Za-z]+(?:SensitiveContent|RiskDetection)|RespTextExistRisk|\AOutput data", re.IGNORECASE
)
_OPERATORS = re.compile(
    r"model_not_found|invalid_api_key|ClosedEndpoint|UnsupportedModel|ModelNotOpen|AccountOverdue|ServiceNotOpen"
    r"|insufficient_quota|QuotaExceeded|SetLimitExceeded|insufficient[ _]balance|billing"
    r"|the model .{1,80} does not exist|model .{1,80} not found",
    re.IGNORECASE,
)
_NO_TOOLS = re.compile(r"--enable-auto-tool-choice|--tool-call-parser", re.IGNORECASE)
_BY_RATE = re.compile(r"rate.?limit|\b[rt]pm\b|per.?minute|too.?many.?requests|RequestBurst", re.IGNORECASE)
_BY_LOAD = re.compile(r"overload|inflight|ModelLoading|capacity|busy", re.IGNORECASE)

UNAVAILABLE = "no server of this model can take the call just now; try again later"
REFUSED_US = "the model's server does not let this service in; its operator has to mend that"
FAILED = "the model's server failed while it was serving"


class Fault(msgspec.Struct, frozen=True):
    """What an error body says, in whichever form: any of it may be empty. ``details`` is the error object."""

    message: str = ""
    code: str = ""
    kind: str = ""
    param: str = ""
    details: Mapping[str, Any] = {}

    @property
    def all(self) -> str:
        return f"{self.code} {self.kind} {self.message}"

    def blocked(self) -> InputBlocked | OutputBlocked | None:
        """The refusal of a text that this is, if it is one."""
        inner = self.details.get("innererror")
        deeper = _word(inner.get("code")) if isinstance(inner, dict) else ""
        # Each by itself: words of moderation stand in messages of other errors, too.
        said = (self.code, self.kind, deeper, self.message, f"{self.code} {self.message}")
        if not any(_BLOCKED.search(words) for words in said):
            return None
        return OutputBlocked() if any(_OUTPUT.search(words) for words in said) else InputBlocked()


def error_of(status: int, headers: Mapping[str, str], body: bytes, hidden: Sequence[str] = ()) -> ArkwayError:
    """The error that an answer other than 200 means. ``headers``: names lower-case.

    ``hidden`` are words that no message may show, such as the upstream's host, its key and its model's name.
    """
    return _error(status, headers, _fault(body), hidden)


def fault_in(payload: bytes, hidden: Sequence[str] = ()) -> ArkwayError:
    """The error that stands where an answer should be: in a stream, or in the body of a 200."""
    fault = _fault(payload)
    status = int(fault.code) if re.fullmatch(r"[45]\d\d", fault.code) else _status_of(fault)
    return _error(status, {}, fault, hidden)


def is_fault(payload: bytes) -> bool:
    """Whether a line without a field's name is an error object."""
    try:
        value = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(value.get("error"))


def _error(status: int, headers: Mapping[str, str], fault: Fault, hidden: Sequence[str]) -> ArkwayError:
    if status == 429:
        return _too_many(fault, _retry_after_s(headers))
    if status in (408, 504, 524):
        return BackendTimeout("the model's server did not answer in time")
    if status in (400, 409, 413, 422):
        return _callers(status, fault, hidden)
    if status == 403 and (blocked := fault.blocked()) is not None:
        return blocked
    if status in (401, 402, 403, 407):
        return BackendUnavailable(REFUSED_US)
    if status in (503, 529) and ("retry-after" in headers or "retry-after-ms" in headers):
        # It says when to come back: it is there, and has too much to do.
        return Overloaded("the model's server is overloaded just now; come back later", _retry_after_s(headers))
    if status in (502, 503, 529) or 300 <= status < 500:
        return BackendUnavailable(UNAVAILABLE)
    return BackendFailed(FAILED)


def _callers(status: int, fault: Fault, hidden: Sequence[str]) -> ArkwayError:
    if status == 413:
        return BadRequest("the request is larger than the model's server takes; shorten it")
    if _OPERATORS.search(fault.all):
        return BackendUnavailable(UNAVAILABLE)
    if (blocked := fault.blocked()) is not None:
        return blocked
    if _CONTEXT.search(fault.all):
        return _too_long(fault)
    if _NO_TOOLS.search(fault.message):
        return InvalidField("the model's server is not set up for tools", "tools")
    words = safe_words(fault.message, hidden)
    param = fault.param.removeprefix("body.")  # vLLM's word for the place
    param = param if _PARAMETER.fullmatch(param) and not _named(param, hidden) else ""
    if param:
        return InvalidField(words or "the model's server does not take this value", param)
    return BadRequest(words or "the model's server does not take this request; check its parameters")


def _too_long(fault: Fault) -> ArkwayError:
    context = _number(fault.details.get("n_ctx")) or _first(_CONTEXT_HOLDS, fault.message)
    prompt = _number(fault.details.get("n_prompt_tokens")) or _first(_PROMPT_HAS, fault.message)
    if not context or not prompt:
        return BadRequest(
            "the prompt and the answer do not fit into the model's context; "
            "shorten the messages or lower the answer's limit",
            "messages",
        )
    return ContextTooLong(prompt, _first((_ANSWER_TAKES,), fault.message), context)


def _too_many(fault: Fault, retry_after_s: float) -> ArkwayError:
    if _OPERATORS.search(fault.all):
        return BackendUnavailable(UNAVAILABLE)
    if _BY_RATE.search(fault.all) and not _BY_LOAD.search(fault.all):
        return RateLimited("the model's server takes no more calls just now; come back later", retry_after_s)
    return Overloaded("the model's server is overloaded just now; come back later", retry_after_s)


def safe_words(message: str, hidden: Sequence[str] = ()) -> str:
    """The message, cut to a bound, or nothing when it names what callers have no business to know."""
    words = " ".join("".join(char if char.isprintable() else " " for char in message[: 4 * WORDS_MAX]).split())
    if not words or _UNSAFE.search(words) or _named(words, hidden):
        return ""
    return words if len(words) <= WORDS_MAX else words[:WORDS_MAX] + "…"


def _named(words: str, hidden: Sequence[str]) -> bool:
    folded = words.casefold()
    return any(word and word.casefold() in folded for word in hidden)


def _fault(body: bytes) -> Fault:
    """Every form seen: ``{"error": {…}}``, ``{"error": "…"}``, ``{"object": "error", …}``, ``{"detail": …}``, text."""
    try:
        value = msgspec.json.decode(body[:BODY_MAX_BYTES] if len(body) > BODY_MAX_BYTES else body)
    except (ValueError, RecursionError):
        return Fault()
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return Fault(message=value) if isinstance(value, str) else Fault()
    found = value.get("error", value)
    if isinstance(found, str):
        return Fault(message=found, code=_word(value.get("code")), kind=_word(value.get("error_type")))
    if not isinstance(found, dict):
        return Fault()
    if "detail" in found and "message" not in found:
        return _by_detail(found["detail"])
    return Fault(
        message=_word(found.get("message")),
        code=_word(found.get("code")),
        kind=_word(found.get("type")),
        param=_word(found.get("param")),
        details=found,
    )


def _by_detail(detail: Any) -> Fault:
    """FastAPI's form: a text, or what was wrong with which field."""
    first = detail[0] if isinstance(detail, list) and detail else detail
    if not isinstance(first, dict):
        return Fault(message=_word(first))
    place = first.get("loc")
    path = [str(step) for step in place if step != "body"] if isinstance(place, list) else []
    return Fault(message=_word(first.get("msg")), param=".".join(path))


def _status_of(fault: Fault) -> int:
    """The HTTP status that an error without one would have had."""
    if fault.blocked() is not None:
        return 400
    words = f"{fault.code} {fault.kind}".lower()
    if re.search(r"rate.?limit|overload|too.?many", words):
        return 429
    if re.search(r"timeout", words):
        return 504
    if re.search(r"authentication|permission|unauthorized|forbidden", words):
        return 401
    if re.search(r"bad.?request|invalid|validation|context|sensitivecontent", words):
        return 400
    return 500


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """How long to wait: what the server says, at most a minute; a second when it says nothing."""
    millis = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d{1,9}", millis, re.ASCII):
        return min(int(millis) / 1000, RETRY_AFTER_MAX_S)
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value, re.ASCII):
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        # A date is read against the server's own clock.
        wait_s = (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 1.0
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


def _first(patterns: Sequence[re.Pattern[str]], message: str) -> int:
    for pattern in patterns:
        if (found := pattern.search(message)) is not None:
            return int(found[1])
    return 0


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else 0


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value[:4096]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
