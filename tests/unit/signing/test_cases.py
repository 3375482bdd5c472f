"""Adversarial requests, one row each: what is done to a good request, and what becomes of it.

The numbers are stable names. What needs a server is tested with the server: 64 (Content-Encoding), 70 (exact replay),
71 (Expect), 72 (16 MiB body), 73 (revoked), 74 (another tenant), 78 (chunked), 79 (HTTP/1.0 without Host).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy

import msgspec
import pytest

from tests.unit.signing.first_opinion import judged
from tests.unit.signing.second_opinion import Rules, Wire, authorize, judge, seconds_since_1970

KEY_ID, SECRET = "AKLTtest", "c2VjcmV0"
X_DATE = "20261121T204052Z"
NOW_S = seconds_since_1970(X_DATE)
FOUR = ("content-type", "host", "x-content-sha256", "x-date")
RULES = Rules(["cn-beijing"], ["ml_maas"])

Change = Callable[[Wire], object]


def chat(
    path: str = "/api/v1/chat",
    query: str = "",
    host: str = "maas.example.com:8000",
    body: bytes = b'{"model": {"name": "skylark-chat"}}',
    x_date: str = X_DATE,
    more: dict[str, str] | None = None,
    signed: tuple[str, ...] = FOUR,
    scope: tuple[str, str] = ("cn-beijing", "ml_maas"),
) -> Wire:
    """A request as the Python SDK signs it."""
    headers = {
        "accept": "application/json",
        "host": host,
        "content-type": "application/json",
        "x-date": x_date,
        "x-content-sha256": hashlib.sha256(body).hexdigest(),
        **(more or {}),
    }
    wire = Wire("POST", path, query, list(headers.items()), body)
    wire.headers.append(("authorization", authorize(wire, list(signed), KEY_ID, SECRET, *scope)))
    return wire


def put(name: str, value: str) -> Change:
    def change(wire: Wire) -> None:
        wire.headers = [(key, value if key == name else old) for key, old in wire.headers]

    return change


def drop(name: str) -> Change:
    def change(wire: Wire) -> None:
        wire.headers = [(key, old) for key, old in wire.headers if key != name]

    return change


def add(name: str, value: str) -> Change:
    return lambda wire: wire.headers.append((name, value))


def again(name: str) -> Change:
    return lambda wire: wire.headers.append((name, wire.one(name)))


def auth(old: str, new: str) -> Change:
    """Replaces a part of the Authorization value, which has to be there."""

    def change(wire: Wire) -> None:
        assert old in wire.one("authorization")
        put("authorization", wire.one("authorization").replace(old, new))(wire)

    return change


def proof(edit: Callable[[str], str]) -> Change:
    def change(wire: Wire) -> None:
        front, _, digits = wire.one("authorization").rpartition("=")
        put("authorization", f"{front}={edit(digits)}")(wire)

    return change


def attribute(name: str, value: str | bytes) -> Change:
    return lambda wire: setattr(wire, name, value)


def both(*changes: Change) -> Change:
    return lambda wire: [change(wire) for change in changes]


def nothing(wire: Wire) -> None:
    """As signed."""


class Case(msgspec.Struct):
    id: str
    verdict: str
    change: Change = nothing
    wire: Wire = msgspec.field(default_factory=chat)
    late_s: int = 0
    rules: Rules = RULES
    secret: str | None = SECRET


MORE = b'{"model": {"name": "skylark-pro"}}'
TOKEN = {"more": {"x-security-token": "STS2abc"}, "signed": (*FOUR, "x-security-token")}
AB = {"query": "a=1&b=2"}


def expiring(seconds: str) -> Wire:
    return chat(more={"x-expires": seconds}, signed=(*FOUR, "x-expires"))


CASES = [
    Case("01-v1-as-the-sdk-sends-it", "accepted"),
    Case("02-v2-path", "accepted", wire=chat("/api/v2/endpoint/ep-20240703-abcde/chat")),
    Case("03-unsigned-logid-present", "accepted", wire=chat(more={"x-tt-logid": "2024"})),
    Case("04-unsigned-header-changed", "accepted", put("accept", "*/*")),
    Case("05-host-port-443", "accepted", put("host", "maas.example.com:443"), chat(host="maas.example.com")),
    Case("06-port-stripped-by-a-proxy", "mismatch", put("host", "maas.example.com")),
    Case(
        "06-port-stripped-and-public-host",
        "accepted",
        put("host", "maas.example.com"),
        rules=Rules(public_hosts=["other.example.com", "maas.example.com:8000"]),
    ),
    Case(
        "06-public-host-with-a-default-port",
        "accepted",
        put("host", "10.0.0.1:8000"),
        chat(host="maas.example.com"),
        rules=Rules(public_hosts=["maas.example.com:443"]),
    ),
    Case("07-body-changed", "mismatch", attribute("body", b'{"model": {"name": "skylark-chaT"}}')),
    Case(
        "08-body-and-hash-changed",
        "mismatch",
        both(attribute("body", MORE), put("x-content-sha256", hashlib.sha256(MORE).hexdigest())),
    ),
    Case("09-unsigned-payload", "malformed", put("x-content-sha256", "UNSIGNED-PAYLOAD")),
    Case("10-body-hash-removed", "malformed", drop("x-content-sha256")),
    Case("11-body-added", "mismatch", attribute("body", b'{"a": 1}'), chat(body=b"")),
    Case("11-empty-object-added-by-the-sdk", "accepted", attribute("body", b"{}"), chat(body=b"")),
    Case("12-method-changed", "mismatch", attribute("method", "GET")),
    Case("13-path-changed", "mismatch", attribute("path", "/api/v1/tokenization")),
    Case(
        "14-endpoint-changed",
        "mismatch",
        attribute("path", "/api/v2/endpoint/ep-2/chat"),
        chat("/api/v2/endpoint/ep-1/chat"),
    ),
    Case("15-empty-segment", "bad_request", attribute("path", "//api/v1/chat")),
    Case("16-dot-segments", "bad_request", attribute("path", "/api/v1/../v1/chat")),
    Case("17-encoded-dot-segments", "bad_request", attribute("path", "/api/v1/%2e%2e/v1/chat")),
    Case("18-encoded-slash", "bad_request", attribute("path", "/api%2Fv1/chat")),
    Case("19-encoded-unreserved", "accepted", attribute("path", "/%61pi/v1/chat")),
    Case("20-query-added", "mismatch", attribute("query", "a=1")),
    Case("21-query-reordered", "accepted", attribute("query", "b=2&a=1"), chat(**AB)),  # type: ignore[arg-type]
    Case("22-plus-for-a-blank", "accepted", attribute("query", "a=1+2"), chat(query="a=1%202")),
    Case("23-query-name-twice", "bad_request", attribute("query", "a=1&a=2"), chat(**AB)),  # type: ignore[arg-type]
    Case("24-query-not-utf8", "bad_request", attribute("query", "a=%ff")),
    Case("25-899-s-old", "accepted", late_s=899),
    Case("25-900-s-old", "accepted", late_s=900),
    Case("26-901-s-old", "expired", late_s=901),
    Case("27-899-s-ahead", "accepted", late_s=-899),
    Case("27-899-s-ahead-of-a-narrow-window", "expired", late_s=-899, rules=Rules(skew_s=300)),
    Case("28-901-s-ahead", "expired", late_s=-901),
    Case("29-year-9999", "expired", wire=chat(x_date="99991231T235959Z")),
    Case("30-date-moved", "mismatch", put("x-date", "20261121T204053Z")),
    Case("31-lower-case-t-and-z", "malformed", put("x-date", "20261121t204052z")),
    Case("32-short-time", "malformed", put("x-date", "20261121T20405Z")),
    Case("33-arabic-indic-digits", "malformed", put("x-date", "٢٠٢٦١١٢١T204052Z".encode().decode("latin-1"))),
    Case("34-no-date", "malformed", drop("x-date")),
    Case("35-two-dates", "bad_request", again("x-date")),
    Case("36-scope-of-another-day", "malformed", auth("/20261121/", "/20261120/")),
    Case(
        "37-across-midnight",
        "accepted",
        wire=chat(x_date="20261122T000010Z"),
        late_s=seconds_since_1970("20261121T235950Z") - NOW_S,
    ),
    Case("38-other-region", "malformed", wire=chat(scope=("cn-shanghai", "ml_maas"))),
    Case("38-any-region", "accepted", wire=chat(scope=("Region", "ml_maas")), rules=Rules(services=["ml_maas"])),
    Case("39-other-service", "malformed", wire=chat(scope=("cn-beijing", "iam"))),
    Case("40-aws-terminator", "malformed", auth("/request", "/aws4_request")),
    Case("41-unknown-access-key", "unknown", secret=None),
    Case("42-wrong-secret", "mismatch", secret="c2VjcmV1"),
    Case("43-injection", "malformed", auth(KEY_ID, "x' OR 1=1--")),
    Case("44-upper-case-signature", "malformed", proof(str.upper)),
    Case("45-63-digits", "malformed", proof(lambda digits: digits[1:])),
    Case("46-empty-signature", "malformed", proof(lambda digits: "")),
    Case("47-signature-not-ascii", "malformed", proof(lambda digits: digits[:63] + "é")),
    Case("48-last-digit-changed", "mismatch", proof(lambda digits: digits[:63] + ("0" if digits[63] != "0" else "1"))),
    Case("49-hmac-sha1", "malformed", auth("HMAC-SHA256", "HMAC-SHA1")),
    Case("50-no-algorithm", "malformed", auth("HMAC-SHA256", "none")),
    Case("51-two-authorizations", "malformed", again("authorization")),
    Case("52-host-not-signed", "malformed", wire=chat(signed=("content-type", "x-content-sha256", "x-date"))),
    Case("52-host-not-signed-where-allowed", "accepted", wire=chat(signed=("x-date",)), rules=Rules(host_needed=False)),
    Case("53-date-not-signed", "malformed", wire=chat(signed=("content-type", "host", "x-content-sha256"))),
    Case("54-names-not-sorted", "malformed", wire=chat(signed=("host", "content-type", "x-content-sha256", "x-date"))),
    Case("55-name-twice", "malformed", wire=chat(signed=("content-type", "host", "host", "x-date"))),
    Case("56-absent-header-named", "malformed", auth("x-date", "x-date;x-else")),
    Case(
        "57-ten-thousand-names", "malformed", auth("x-date", "x-date;" + ";".join(f"x-e{n:05}" for n in range(10_000)))
    ),
    Case("57-65-names", "malformed", auth("x-date", "x-date;" + ";".join(f"x-e{n:05}" for n in range(61)))),
    Case("58-signed-header-twice", "bad_request", again("content-type")),
    Case("59-content-type-changed", "mismatch", put("content-type", "text/plain")),
    Case("60-inner-blanks-kept", "accepted", wire=chat(more={"x-note": "a  b"}, signed=(*FOUR, "x-note"))),
    Case(
        "61-inner-blanks-collapsed",
        "mismatch",
        put("x-note", "a b"),
        chat(more={"x-note": "a  b"}, signed=(*FOUR, "x-note")),
    ),
    Case("62-blanks-around-a-value", "accepted", put("content-type", " \tapplication/json \t")),
    Case("63-other-host", "mismatch", put("host", "evil.example.com:8000")),
    Case("65-query-signature-and-body", "malformed", both(drop("authorization"), attribute("query", "X-Signature=ab"))),
    Case("66-both-kinds-of-signature", "malformed", wire=chat(query="X-Signature=ab")),
    Case("67-no-credentials", "none", drop("authorization")),
    Case("68-token-signed", "accepted", wire=chat(**TOKEN)),  # type: ignore[arg-type]
    Case("69-token-stripped", "malformed", drop("x-security-token"), chat(**TOKEN)),  # type: ignore[arg-type]
    Case("69-token-changed", "mismatch", put("x-security-token", "STS2abd"), chat(**TOKEN)),  # type: ignore[arg-type]
    Case("75-expires-after-one-second", "accepted", wire=expiring("1"), late_s=1),
    Case("75-expired-after-two-seconds", "expired", wire=expiring("1"), late_s=2),
    Case("76-expires-does-not-lengthen", "expired", wire=expiring("999999"), late_s=901),
    Case("76-expires-longer-than-the-window", "accepted", wire=expiring("999999"), late_s=900),
    Case("76-expires-not-a-number", "malformed", wire=expiring("-5")),
    Case("77-expires-changed", "mismatch", put("x-expires", "800"), expiring("600")),
    Case("80-bearer-with-an-access-key", "malformed", put("authorization", f"Bearer {KEY_ID}")),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_both_verifiers_say(case: Case) -> None:
    wire = deepcopy(case.wire)
    case.change(wire)
    assert judged(wire, case.secret, case.rules, NOW_S + case.late_s) == case.verdict
    if case.secret is not None:
        assert judge(wire, case.secret, case.rules, NOW_S + case.late_s) == case.verdict


def test_every_number_is_there() -> None:
    with_a_server = {64, 70, 71, 72, 73, 74, 78, 79}
    assert {int(case.id[:2]) for case in CASES} == set(range(1, 81)) - with_a_server
