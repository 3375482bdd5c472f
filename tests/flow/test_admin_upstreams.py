"""Upstreams and groups over the Admin API: as the commands have them, for operators, and without their secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.admin.upstreams import UpstreamInfo
from arkway.core.audit import SERVER
from tests.tools.administered import HOST, Administered, Client, administered

SECRET = "sk-CANARY-of-an-upstream"
URL = "http://127.0.0.1:9/v1"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Administered]:
    with administered(tmp_path) as made:
        yield made


@pytest.fixture
def client(place: Administered) -> Iterator[Client]:
    with place.client() as made:
        yield made


def member(upstream: str, **more: Any) -> dict[str, Any]:
    return {"upstream": upstream, "model": "m", **more}


def test_an_upstream_is_made_changed_and_removed(place: Administered, client: Client) -> None:
    made = client.do("upstreams.create", {"name": "vllm", "base_url": f"{URL}/", "key": SECRET})
    assert made.status == 201
    assert (made.json()["base_url"], made.json()["auth"]) == (URL, "key")
    assert set(made.json()) == set(UpstreamInfo.__struct_fields__)
    changed = client.do("upstreams.update", {"idle_s": 5, "connections_max": 7}, name="vllm")
    assert (changed.json()["idle_s"], changed.json()["connections_max"], changed.json()["auth"]) == (5.0, 7, "key")
    assert client.do("upstreams.show", name="vllm").json() == changed.json()
    listed = client.do("upstreams.list").json()["items"]
    assert [each["name"] for each in listed] == ["of-acme", "of-default", "vllm"]
    assert place.commands.upstreams(SERVER).has_secret("vllm", SECRET)
    opened = client.do("upstreams.update", {"key": ""}, name="vllm")
    assert opened.json()["auth"] == "none"
    log = client.do("audit.list", query="limit=5").json()["items"]
    assert [entry["action"] for entry in log[:3]] == ["upstreams.update", "upstreams.update", "upstreams.create"]
    shown = [made, changed, opened, client.do("upstreams.list"), client.do("audit.list")]
    assert SECRET not in "".join(each.body.decode() for each in shown)
    assert client.do("upstreams.remove", name="vllm").json() == {"removed": 1}
    assert client.do("upstreams.show", name="vllm").status == 404


def test_what_is_there_already_or_in_use_is_a_conflict(client: Client) -> None:
    again = client.do("upstreams.create", {"name": f"of-{HOST}", "base_url": URL})
    assert (again.status, again.json()["error"]["code"]) == (409, "Conflict")
    assert client.do("groups.set", {"model": "m", "members": [member(f"of-{HOST}")]}).status == 200
    used = client.do("upstreams.remove")
    assert (used.status, used.json()["error"]["code"]) == (409, "Conflict")
    assert client.do("groups.remove", query="model=m").status == 200
    assert client.do("groups.remove", query="model=m").status == 404
    assert client.do("upstreams.remove").status == 200


def test_a_group_is_set_whole_and_its_model_gets_an_endpoint(client: Client) -> None:
    members = [member("of-default", weight=3), member("of-acme", role="canary", share=2.5)]
    body = {
        "model": "Org/m",
        "version": "8b",
        "members": members,
        "context_tokens": 1000,
        "default_output_tokens": 10,
        "tokenizer": "small:q8_0",
        "policy": {"stick_to": "session", "attempts": 3},
    }
    made = client.do("groups.set", body)
    assert made.status == 200, made.body
    found = made.json()
    assert [(each["weight"], each["role"], each["share"]) for each in found["members"]] == [
        (3, "normal", 0.0),
        (100, "canary", 2.5),
    ]
    assert (found["card"]["max_output_tokens"], found["policy"]["attempts"], found["is_default"]) == (1000, 3, True)
    assert (found["card"]["tokenizer"], found["card"]["capabilities"][-1]) == ("small:q8_0", "tokenization")
    assert client.do("groups.list").json()["items"] == [found]
    endpoints = client.do("endpoints.list").json()["items"]
    assert [each["model_name"] for each in endpoints].count("Org/m") == 1
    # Left out has its default.
    again = client.do("groups.set", {"model": "Org/m", "version": "8b", "members": members[:1]}).json()
    assert (again["policy"]["attempts"], again["card"]["context_tokens"], again["is_default"]) == (2, 32768, True)
    assert len(client.do("endpoints.list").json()["items"]) == len(endpoints)


@pytest.mark.parametrize(
    ("operation", "body", "field"),
    [
        ("upstreams.create", {"name": "A", "base_url": URL}, "name"),
        ("upstreams.create", {"name": "a", "base_url": "http://user:word@host/v1"}, "base_url"),
        ("upstreams.create", {"name": "a", "base_url": "http://host/v1?x=1"}, "base_url"),
        ("upstreams.create", {"name": "a", "base_url": URL, "key": "two words"}, "key"),
        ("upstreams.create", {"name": "a", "base_url": URL, "access_key_id": "AK", "secret_access_key": "s"}, "auth"),
        ("upstreams.create", {"name": "a", "base_url": URL, "secret": "s"}, "secret"),
        ("upstreams.create", {"name": "a"}, "base_url"),
        ("upstreams.update", {"connect_s": 0}, "connect_s"),
        ("groups.set", {"model": "m", "members": []}, "members"),
        ("groups.set", {"model": "m", "members": [member("nowhere")]}, "members"),
        ("groups.set", {"model": "m", "members": [member("of-acme", weight=-1)]}, "members[0].weight"),
        ("groups.set", {"model": "m", "members": [member("of-acme", role="canary")]}, "members"),
        ("groups.set", {"model": "m", "members": [member("of-acme")], "policy": {"attempts": 11}}, "policy.attempts"),
        ("groups.set", {"model": "m", "members": [member("of-acme")], "capabilities": ["embeddings"]}, "dimensions"),
        ("groups.set", {"model": "m", "members": [member("of-acme")], "tokenizer": "a b"}, "tokenizer"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(client: Client, operation: str, body: Any, field: str) -> None:
    reply = client.do(operation, body)
    assert reply.status == 400, reply.body
    assert reply.json()["error"]["field"] == field
    assert "word@" not in reply.body.decode()
    assert [each["name"] for each in client.do("upstreams.list").json()["items"]] == ["of-acme", "of-default"]
    assert client.do("groups.list").json()["items"] == []
