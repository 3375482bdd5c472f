"""The published vectors are what the code gives, and what the second opinion gives."""

from __future__ import annotations

import hashlib

import pytest

from scripts import generate_vectors as vectors
from tests.unit.signing.first_opinion import judged
from tests.unit.signing.second_opinion import (
    Rules,
    Wire,
    canonical,
    check_credential,
    judge,
    normal_path,
    normal_query,
    parse_authorization,
    to_sign,
)

NAMES = [case.name for case in vectors.CASES]
RULES = Rules(["cn-beijing", "Region"], ["ml_maas", "ark"], host_needed=False)


def text_of(name: str, kind: str) -> str:
    return (vectors.DIRECTORY / name / f"{name}.{kind}").read_bytes().decode()


def wire_of(name: str, kind: str) -> Wire:
    front, _, body = text_of(name, kind).partition("\n\n")
    line, *fields = front.split("\n")
    method, target, _ = line.split(" ")
    path, _, query = target.partition("?")
    headers = [(key.lower(), value) for key, _, value in (field.partition(":") for field in fields)]
    return Wire(method, path, query, headers, body.encode())


def test_the_files_are_those_of_the_script() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 25
    assert vectors.published() == vectors.files()


@pytest.mark.parametrize("name", NAMES)
def test_the_second_opinion_writes_the_same_texts(name: str) -> None:
    wire = wire_of(name, "sreq")
    credential, names, _ = parse_authorization(wire)
    _, region, service = check_credential(credential, RULES)
    payload = wire.one("x-content-sha256") if wire.all("x-content-sha256") else hashlib.sha256(wire.body).hexdigest()
    text = canonical(wire, normal_path(wire.path), normal_query(wire.query), names.split(";"), payload, None)
    assert text_of(name, "creq") == text
    assert text_of(name, "sts") == to_sign(vectors.X_DATE, region, service, text)


@pytest.mark.parametrize("name", NAMES)
def test_both_verifiers_accept_the_signed_request_alone(name: str) -> None:
    wire, unsigned = wire_of(name, "sreq"), wire_of(name, "req")
    assert judged(wire, vectors.SECRET, RULES, vectors.NOW_S) == "accepted"
    assert judge(wire, vectors.SECRET, RULES, vectors.NOW_S) == "accepted"
    assert judged(unsigned, vectors.SECRET, RULES, vectors.NOW_S) == "none"
    unsigned.headers.append(("authorization", text_of(name, "authz")))
    assert unsigned == wire
