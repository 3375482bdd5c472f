"""What the table of cases does not say: messages, order, time, cached keys, canonical forms."""

from __future__ import annotations

import hashlib
import hmac
import sys
import timeit
from copy import deepcopy

import pytest

from arkway.core import errors
from arkway.signing import (
    Claim,
    Head,
    KeyCache,
    Policy,
    authenticate,
    canonical_request,
    claim,
    derived_key,
    sign,
    verify,
)
from arkway.signing.canonical import canonical_host, canonical_path, canonical_query, signature, string_to_sign
from arkway.signing.verification import _NOBODY
from tests.unit.signing.first_opinion import check, head_of
from tests.unit.signing.second_opinion import Rules, Wire
from tests.unit.signing.test_cases import CASES, KEY_ID, NOW_S, RULES, SECRET, auth, chat, put

DIGEST = hashlib.sha256(chat().body).digest()


def refusal(wire: Wire, rules: Rules = RULES, secret: str | None = SECRET, late_s: int = 0) -> str:
    with pytest.raises(errors.CallerError) as refused:
        check(wire, secret, rules, NOW_S + late_s)
    return refused.value.message


def claimed(wire: Wire | None = None, policy: Policy | None = None) -> Claim:
    return claim(head_of(wire or chat()), policy or Policy(), NOW_S)


def changed(old: str, new: str) -> Wire:
    wire = chat()
    auth(old, new)(wire)
    return wire


def test_a_wrong_signer_is_told_which_way_it_is_wrong() -> None:
    assert "AWS signature" in refusal(changed("HMAC-SHA256", "AWS4-HMAC-SHA256"))
    assert "ends with `aws4_request`" in refusal(changed("/request", "/aws4_request"))
    assert "Bearer token" in refusal(changed("HMAC-SHA256", "Bearer"))
    assert "`HMAC-SHA1`" in refusal(changed("HMAC-SHA256", "HMAC-SHA1"))
    assert "no `SignedHeaders=`" in refusal(changed("SignedHeaders=", "Signed="))


def test_a_region_or_service_that_is_not_taken_is_named_with_those_that_are() -> None:
    message = refusal(chat(scope=("cn-shanghai", "ml_maas")), Rules(["cn-beijing", "cn-north"], ["ml_maas"]))
    assert "region `cn-shanghai`" in message
    assert "`cn-beijing` or `cn-north`" in message
    assert "service `iam`" in refusal(chat(scope=("cn-beijing", "iam")))


@pytest.mark.parametrize(("late_s", "said"), [(1000, "1000 s ago"), (-1000, "1000 s in the future")])
def test_a_wrong_clock_is_told_both_times_and_the_direction(late_s: int, said: str) -> None:
    message = refusal(chat(), late_s=late_s)
    assert said in message
    assert "20261121T204052Z" in message
    assert ("slow" in message) == (late_s > 0)
    assert ("20261121T205732Z" in message) == (late_s > 0)


def test_a_rewritten_host_is_named_with_what_mends_it() -> None:
    wire = chat()
    put("host", "10.0.0.7:8000")(wire)
    message = refusal(wire, Rules(public_hosts=["api.example.com"]))
    assert all(part in message for part in ("`10.0.0.7:8000`", "`api.example.com`", "`public_hosts`", "proxy"))


def test_a_changed_body_is_told_apart_from_a_wrong_secret() -> None:
    wire = chat()
    wire.body += b" "
    assert "X-Content-Sha256" in refusal(wire)
    assert "secret access key" in refusal(chat(), secret="wrong")


def right_proof(wire: Wire) -> str:
    """What the signature of a refused request should have been, if it can be said at all."""
    try:
        found = claim(head_of(wire), Policy(require_host=False), NOW_S)
    except errors.CallerError:
        return ""
    text = canonical_request(found.request, hashlib.sha256(wire.body).digest())
    key = derived_key(SECRET.encode(), found.date, found.region, found.service)
    return signature(key, string_to_sign(text, found.x_date, found.region, found.service)).hex()


@pytest.mark.parametrize("case", [case for case in CASES if case.verdict != "accepted"], ids=lambda case: case.id)
def test_no_message_tells_a_secret(case: object) -> None:
    assert isinstance(case, type(CASES[0]))
    wire = deepcopy(case.wire)
    case.change(wire)
    message = refusal(wire, case.rules, case.secret, case.late_s)
    assert SECRET not in message
    assert (right_proof(wire) or "nothing") not in message
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 700


def test_the_clock_and_the_form_are_checked_before_anything_that_costs() -> None:
    wire = chat()
    wire.path = "/api/v1/../chat"
    with pytest.raises(errors.SignatureExpired):
        check(wire, SECRET, RULES, NOW_S + 10_000)


def test_ten_thousand_names_are_refused_in_less_than_a_millisecond() -> None:
    wire = changed("x-date", "x-date;" + ";".join(f"x-e{n:05}" for n in range(10_000)))
    head, policy = head_of(wire), Policy()
    assert "longer than 4096 bytes" in refusal(wire)

    def attempt() -> None:
        with pytest.raises(errors.MalformedCredentials):
            claim(head, policy, NOW_S)

    assert min(timeit.repeat(attempt, number=1, repeat=20)) < 0.001


def test_an_unknown_key_does_the_work_of_a_wrong_secret() -> None:
    """Counted, not timed: every HMAC and comparison of the one is made for the other."""
    found, policy = claimed(), Policy(public_hosts=("a.example.com", "b.example.com"))

    def work(secret: bytes | None, keys: KeyCache) -> list[str]:
        calls: list[str] = []

        def profile(frame: object, event: str, function: object) -> None:
            if event == "c_call":
                calls.append(getattr(function, "__name__", ""))

        sys.setprofile(profile)
        try:
            authenticate(found, policy, keys, secret, DIGEST)
        except errors.Unauthenticated:
            pass
        finally:
            sys.setprofile(None)
        return [name for name in calls if "hmac" in name or "digest" in name or "sha256" in name]

    cold = work(b"wrong", KeyCache()), work(None, KeyCache())
    assert cold[0] == cold[1]
    assert len(cold[0]) > 8


def test_an_unknown_key_is_refused_even_when_its_signature_is_right() -> None:
    wire = chat()
    fields = tuple(pair for pair in head_of(wire).fields if pair[0] != b"authorization")
    head = Head(wire.method, wire.path, wire.query, fields)
    scope = {"region": "cn-beijing", "service": "ml_maas", "x_date": wire.one("x-date")}
    added = sign(head, wire.body, access_key_id="AKLTnobody", secret=_NOBODY, **scope)
    put("authorization", added["Authorization"])(wire)
    found = claimed(wire)
    verify(found, Policy(), derived_key(_NOBODY, found.date, found.region, found.service), DIGEST)
    with pytest.raises(errors.UnknownCredentials):
        authenticate(found, Policy(), KeyCache(), None, DIGEST)


def test_keys_are_cached_up_to_a_bound() -> None:
    keys, found = KeyCache(capacity=2), claimed()
    expected = derived_key(b"one", found.date, found.region, found.service)
    assert keys.key(b"one", found) == expected
    keys.key(b"two", found)
    assert keys.key(b"one", found) is keys.key(b"one", found)
    recent = keys.key(b"one", found)
    keys.key(b"three", found)
    assert len(keys) == 2
    assert keys.key(b"one", found) is recent, "the one used last was forgotten first"


def test_a_claim_says_who_when_and_until_when() -> None:
    wire = chat(more={"x-security-token": "STS2abc"}, signed=("host", "x-date", "x-security-token"))
    found = claimed(wire)
    assert (found.access_key_id, found.region, found.service) == (KEY_ID, "cn-beijing", "ml_maas")
    assert (found.session_token, found.expires_s) == ("STS2abc", NOW_S + 900)
    assert claim(head_of(wire), Policy(), NOW_S + 500).expires_s == NOW_S + 900
    assert found.declared_digest == DIGEST
    assert len(found.signature) == 32


def test_a_token_that_is_not_signed_does_not_count() -> None:
    assert claimed(chat(more={"x-security-token": "STS2abc"})).session_token == ""


def test_the_same_request_has_the_same_signature_and_another_has_another() -> None:
    assert claimed().signature == claimed().signature != claimed(chat(body=b"{}")).signature


def test_signing_needs_no_more_than_a_host_and_is_accepted() -> None:
    head = Head("GET", "", "", ((b"host", b"h:80"),))
    added = sign(head, b"", access_key_id=KEY_ID, secret=b"s", region="r", service="s", x_date="20261121T204052Z")
    fields = tuple((name.lower().encode(), value.encode()) for name, value in added.items())
    found = claim(Head("GET", "/", "", (*head.fields, *fields)), Policy(), NOW_S)
    authenticate(found, Policy(), KeyCache(), b"s", hashlib.sha256().digest())
    assert list(added) == ["X-Date", "X-Content-Sha256", "Authorization"]
    assert hmac.compare_digest(found.signature.hex(), added["Authorization"][-64:])


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a/", "/a/"),
        ("/%7e%41", "/~A"),
        ("/a+b", "/a%2Bb"),
        ("/%E4%b8%ad", "/%E4%B8%AD"),
        ("/...", "/..."),
    ],
)
def test_a_path_has_one_form(raw: str, canonical: str) -> None:
    assert canonical_path(raw).decode() == canonical


@pytest.mark.parametrize(
    "raw", ["a", "//", "/a//b", "/.", "/a/..", "/%2e", "/a%2fb", "/%ff", "/%c0%af", "/%", "/%g0", "/\xe9", "*"]
)
def test_a_path_without_one_form_is_refused(raw: str) -> None:
    with pytest.raises(errors.BadRequest, match="path"):
        canonical_path(raw)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", ""),
        ("a", "a="),
        ("&b=2&&a=1&", "a=1&b=2"),
        ("a==", "a=%3D"),
        ("a-=1&a%2f=2", "a-=1&a%2F=2"),
        ("%61=+", "a=%20"),
    ],
)
def test_a_query_has_one_form(raw: str, canonical: str) -> None:
    assert canonical_query(raw).decode() == canonical


@pytest.mark.parametrize("raw", ["a=1&a=2", "a&%61", "a=%ff", "a=%4", "\xe9=1"])
def test_a_query_without_one_form_is_refused(raw: str) -> None:
    with pytest.raises(errors.BadRequest, match="query"):
        canonical_query(raw)


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("h:80", "h"),
        ("h:443", "h"),
        ("h:8000", "h:8000"),
        ("h:", "h:"),
        ("[::1]:443", "[::1]"),
        ("::443", "::443"),
        ("80", "80"),
    ],
)
def test_a_host_is_signed_without_a_default_port(host: str, canonical: str) -> None:
    assert canonical_host(host.encode()).decode() == canonical
