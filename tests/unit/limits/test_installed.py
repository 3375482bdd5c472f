"""Quotas after a crash: what the journal has counts, although nothing of it had reached the database."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import msgspec
import pytest

from arkway.admin.limits import Limits
from arkway.app.installation import Installation
from arkway.config import load
from arkway.core.chat import Usage
from arkway.core.errors import QuotaExhausted
from arkway.core.limit import Demand
from arkway.limits.memory import MemoryLimiter
from arkway.ports import Attempt, Settlement
from arkway.stores.home import database_path
from arkway.stores.limits import LimitTable
from arkway.stores.sqlite import SqliteStore


def attempt(number: int) -> Attempt:
    place = {"account": "default", "project": "default", "key_id": "key-1", "endpoint_id": "ep-1", "model": "m"}
    ids = {"id": f"a{number}", "request_id": f"r{number}", "dialect": "v3", "operation": "chat"}
    return msgspec.convert({**place, **ids, "opened_ms": time.time_ns() // 1_000_000}, Attempt)


def installed(home: Path) -> Installation:
    return Installation(load(environ={}, overrides={"home": str(home), "engine": {"preload": False}}))


def test_quotas_go_on_after_a_crash_where_the_ledger_is(tmp_path: Path) -> None:
    home, image = tmp_path / "home", tmp_path / "image"
    running = installed(home)
    try:
        with SqliteStore(database_path(home)) as store:
            Limits(LimitTable(store)).set("project", "", {"tokens-total": 1000}, int(time.time()))
        ledger = running.parts().ledger
        ledger.reserve(attempt(1))
        ledger.settle("a1", Settlement("done", Usage(100, 20), attempt(1).opened_ms + 5))
        # Cut in the middle of its answer: what it had been given by then is billed.
        ledger.reserve(attempt(2))
        ledger.checkpoint("a2", 200, 16)
        shutil.copytree(home, image)
    finally:
        running.close()
    again = installed(image)
    try:
        parts = again.parts()
        rules = parts.directory.limits("default", "default", "key-1", "ep-1")
        limiter = MemoryLimiter(spent=parts.spent)
        now_ms = time.time_ns() // 1_000_000
        with pytest.raises(QuotaExhausted, match="664 left"):
            limiter.hold_nowait(Demand(rules, now_ms, 665))
        limiter.hold_nowait(Demand(rules, now_ms, 664))
    finally:
        again.close()
