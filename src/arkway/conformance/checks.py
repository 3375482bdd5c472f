"""What every client of a surface relies on, as assertions that say what was found instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from arkway.conformance.target import Answer, Failed
from arkway.wire import json

# What the Java client of v2 knows; any other key makes it throw (protocol §5.3).
JAVA_KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset(("error", "choices", "usage", "extra", "requestId")),
    "choices": frozenset(("index", "message", "finish_reason", "logprobs", "action", "observation", "thought")),
    "message": frozenset(("role", "content", "name", "references", "tool_calls", "tool_call_id")),
    "usage": frozenset(("prompt_tokens", "completion_tokens", "total_tokens")),
    "error": frozenset(("code", "code_n", "message")),
}


def expect(holds: bool, otherwise: str) -> None:
    """Raises Failed with ``otherwise`` unless it holds."""
    if not holds:
        raise Failed(otherwise)


def success(answer: Answer) -> dict[str, Any]:
    """A whole answer of success: exactly 200 (201 breaks the Python client), JSON by its type, ids in the headers."""
    expect(answer.status == 200, f"status {answer.status}: {answer.body[:200]!r}")
    kind = answer.headers.get("content-type", "")
    expect(kind.startswith("application/json"), f"content type `{kind}`, not application/json")
    expect("x-request-id" in answer.headers, "no X-Request-Id")
    return answer.object()


def counts(usage: Any, *names: str) -> None:
    """Every count a JSON integer, and the total their sum."""
    expect(isinstance(usage, dict), f"usage is {usage!r}, not an object")
    for name in names or ("prompt_tokens", "completion_tokens", "total_tokens"):
        expect(type(usage.get(name)) is int, f"usage.{name} is {usage.get(name)!r}, not an integer")
    total = usage["prompt_tokens"] + usage.get("completion_tokens", 0)
    expect(usage["total_tokens"] == total, f"usage.total_tokens is {usage['total_tokens']}, the sum is {total}")


def legacy_error(answer: Answer, code_n: int, code: str, status: int) -> None:
    """The error form of v1 and v2: an object with a code, a number that is not 0, and a message."""
    expect(answer.status == status, f"status {answer.status} instead of {status}: {answer.body[:200]!r}")
    legacy_error_object(answer.object(), code_n, code)


def legacy_error_object(body: Mapping[str, Any], code_n: int, code: str) -> None:
    """The error inside a body or a frame."""
    error = body.get("error")
    expect(isinstance(error, dict), f"`error` is {error!r}, not an object")
    assert isinstance(error, dict)
    expect(type(error.get("code_n")) is int, f"code_n is {error.get('code_n')!r}, not an integer")
    expect(error["code_n"] == code_n, f"code_n {error['code_n']} ({error.get('code')}) instead of {code_n} ({code})")
    expect(error.get("code") == code, f"code `{error.get('code')}` instead of `{code}`")
    expect(isinstance(error.get("message"), str) and bool(error["message"]), "the error has no message")


def v3_error(answer: Answer, status: int, code: str) -> None:
    """The error form of v3: four strings in an object."""
    expect(answer.status == status, f"status {answer.status} instead of {status}: {answer.body[:200]!r}")
    error = answer.object().get("error")
    expect(isinstance(error, dict), f"`error` is {error!r}, not an object")
    assert isinstance(error, dict)
    for name in ("code", "message", "param", "type"):
        expect(isinstance(error.get(name), str), f"error.{name} is {error.get(name)!r}, not a string")
    expect(error["code"] == code or error["code"].startswith(f"{code}."), f"code `{error['code']}`, not `{code}`")


def frames(answer: Answer, prefix: bytes) -> list[Any]:
    """The payloads of a whole stream in one framing: ``data:`` or ``data: ``, blank lines, the exact end."""
    expect(answer.status == 200, f"status {answer.status}: {answer.body[:200]!r}")
    encoding = answer.headers.get("transfer-encoding", "")
    expect(encoding == "chunked", "the stream is not chunked: clients then see its frames late")
    expect(b"\r" not in answer.body, "lines end with CR LF")
    expect(answer.body.endswith(prefix + b"[DONE]\n\n"), f"the stream ends with {answer.body[-40:]!r}")
    blocks = [block for block in answer.body[:-2].split(b"\n\n") if not _is_comment(block, prefix)]
    for block in blocks:
        exact = block.startswith(prefix) and (prefix.endswith(b" ") or not block.startswith(prefix + b" "))
        expect(exact and b"\n" not in block, f"a frame is not one `{prefix.decode()}` line: {block[:80]!r}")
    return [json.loads(block[len(prefix) :]) for block in blocks[:-1]]


def _is_comment(block: bytes, prefix: bytes) -> bool:
    """Comments are signs of life on v1 and v2; v3 clients break on them."""
    return block.startswith(b":") and not prefix.endswith(b" ")


def only(value: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    """No key but the allowed ones."""
    unknown = sorted(set(value) - set(allowed))
    expect(not unknown, f"{where} has {', '.join(unknown)}, which the Java client refuses")


def java_v2(body: Mapping[str, Any]) -> None:
    """A reply or frame of v2 that the Java client's strict parser takes."""
    only(body, JAVA_KEYS[""], "the body")
    for choice in body.get("choices", []):
        only(choice, JAVA_KEYS["choices"], "a choice")
        only(choice.get("message", {}), JAVA_KEYS["message"], "a message")
    only(body.get("usage") or {}, JAVA_KEYS["usage"], "usage")
    only(body.get("error") or {}, JAVA_KEYS["error"], "error")
