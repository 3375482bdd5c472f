"""One connection on which the credentials change from request to request, while everything else stays as it is.

As behind a proxy that shares connections among its clients: each request is its own key's, or nobody's.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence

import pytest

from arkway.core.caller import Caller
from arkway.signing import Head, sign
from arkway.testing import MemoryLedger, RunningServer, running_server
from arkway.wire import json

KEYS = {"key-of-a": Caller("default", "default", "A"), "key-of-b": Caller("other", "default", "B")}
BODY = json.dumps({"messages": [{"role": "user", "content": "hello"}]})


def signed(server: RunningServer, path: str, access_key_id: str) -> dict[str, str]:
    x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    host = server.url.partition("//")[2]
    fields = ((b"host", host.encode()), (b"content-type", b"application/json"))
    return dict(
        sign(
            Head("POST", path, "", fields),
            BODY,
            access_key_id=access_key_id,
            secret=server.secret_access_key.encode(),
            region="cn-beijing",
            service="ml_maas",
            x_date=x_date,
        )
    )


def statuses(server: RunningServer, shown: Sequence[str]) -> list[int]:
    """What each of these credentials gets, one after the other on one connection; the other headers do not change."""
    path = f"/api/v2/endpoint/{server.endpoint_id}/chat"
    headers = signed(server, path, server.access_key_id)
    known = {"signed": headers["Authorization"], "stranger": signed(server, path, "AKLTnobody")["Authorization"]}
    known["forged"] = known["signed"][:-8] + "00000000"
    connection = http.client.HTTPConnection(server.url.partition("//")[2])
    found = []
    for name in shown:
        headers = {**headers, "Authorization": known.get(name, f"Bearer {name}")}
        connection.request("POST", path, BODY, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
    connection.close()
    return found


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "cold"])
@pytest.mark.parametrize("first", ["signed", "stranger", "key-of-a", "nobody"])
def test_each_request_is_its_own_keys_or_nobodys(hot: bool, first: str) -> None:
    shown = [first, "key-of-a", "nobody", "key-of-b", "key-of-a", "forged", "signed", "nobody", "stranger", "key-of-a"]
    right = {"signed": 200, "key-of-a": 200, "key-of-b": 400, "nobody": 401, "stranger": 401, "forged": 401}
    ledger = MemoryLedger()
    with running_server(keys=KEYS, ledger=ledger, settings={"server": {"hot_path": hot}}) as server:
        assert statuses(server, shown) == [right[name] for name in shown]
    whose = {"key-of-a": "A", "signed": "key-testing"}
    assert len(ledger.settlements) == sum(right[name] == 200 for name in shown)
    assert {attempt.key_id for attempt in ledger.attempts.values()} >= {whose["key-of-a"]}
    assert sum(attempt.key_id == "A" for attempt in ledger.attempts.values()) == shown.count("key-of-a")
