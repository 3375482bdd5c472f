"""Every signed request that the official SDKs of three languages were recorded to send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arkway.wire import json
from tests.unit.signing.first_opinion import judged
from tests.unit.signing.second_opinion import Rules, Wire, judge, seconds_since_1970

DATA = Path(__file__).parents[2] / "data" / "signing" / "recorded.jsonl"
RECORDED: list[dict[str, Any]] = [json.loads(line.encode()) for line in DATA.read_text("utf-8").splitlines()]
RULES = Rules(["cn-beijing"], ["ml_maas", "ark"])


def wire_of(record: dict[str, Any]) -> Wire:
    method, target, _ = record["request_line"].split(" ")
    path, _, query = target.partition("?")
    headers = [(name.lower(), value) for name, _, value in (line.partition(":") for line in record["headers"])]
    return Wire(method, path, query, headers, record["body"].encode())


def test_all_of_them_are_here() -> None:
    services = [wire_of(record).one("authorization").split("/")[3] for record in RECORDED]
    assert (services.count("ml_maas"), services.count("ark")) == (62, 6)


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: str(record["label"]))
def test_what_an_sdk_sent_is_accepted_and_nothing_else(record: dict[str, Any]) -> None:
    wire, secret = wire_of(record), record["secret_access_key"]
    now_s = seconds_since_1970(wire.one("x-date")) + 3
    assert judged(wire, secret, RULES, now_s) == judge(wire, secret, RULES, now_s) == "accepted"
    assert judged(wire, secret + "x", RULES, now_s) == "mismatch"
    wire.body += b" "
    assert judged(wire, secret, RULES, now_s) == judge(wire, secret, RULES, now_s) == "mismatch"
