"""Upstreams: what may be one, what becomes of its secret, and what is on record."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from arkway.admin.groups import Groups, card_of
from arkway.admin.upstreams import UpstreamChange, Upstreams
from arkway.core.errors import InvalidField
from arkway.core.upstream import Credential, Group, Member, Upstream
from arkway.stores import schema
from arkway.stores.store import Store

NOW_S = 1_750_000_000
URL = "http://127.0.0.1:8000/v1"
SECRET = "sk-CANARY-of-an-upstream"


def server(**fields: Any) -> Upstream:
    return Upstream(**{"name": "vllm", "base_url": URL, **fields})


def audited(store: Store) -> list[tuple[str, str, dict[str, Any]]]:
    query = sa.select(schema.audit).order_by(schema.audit.c.id)
    rows = store.run_sync(lambda connection: connection.execute(query).all(), read=True)
    assert {(row.account, row.project, row.actor) for row in rows} <= {("default", "", "cli:anna")}
    return [(row.action, row.target, row.detail) for row in rows]


def test_an_upstream_is_added_changed_shown_and_removed(store: Store, upstreams: Upstreams) -> None:
    made = upstreams.add(server(base_url=f"{URL}/"), Credential(SECRET), NOW_S)
    assert (made.base_url, made.auth, made.created_at, made.updated_at) == (URL, "key", NOW_S, NOW_S)
    changed = upstreams.update("vllm", UpstreamChange(base_url="https://[::1]:8443/v1", idle_s=5.0), NOW_S + 1)
    assert changed == msgspec.structs.replace(made, base_url="https://[::1]:8443/v1", idle_s=5.0, updated_at=NOW_S + 1)
    assert upstreams.list() == (changed,)
    assert upstreams.show("vllm") == changed
    assert upstreams.update("vllm", UpstreamChange(credential=Credential()), NOW_S + 2).auth == "none"
    upstreams.remove("vllm")
    assert upstreams.list() == ()
    assert audited(store) == [
        ("upstreams.create", "vllm", {"base_url": URL, "kind": "openai", "auth": "key"}),
        ("upstreams.update", "vllm", {"base_url": "https://[::1]:8443/v1", "idle_s": 5.0}),
        ("upstreams.update", "vllm", {"auth": "none", "secret": "another one"}),
        ("upstreams.remove", "vllm", {}),
    ]


def test_nothing_that_comes_out_has_the_secret_in_it(store: Store, upstreams: Upstreams) -> None:
    pair = Credential(access_key_id="AKLTid", secret_access_key=SECRET)
    made = upstreams.add(server(kind="ark"), pair, NOW_S)
    upstreams.update("vllm", UpstreamChange(credential=pair), NOW_S)
    assert (made.auth, made.access_key_id) == ("aksk", "AKLTid")
    rows = store.run_sync(lambda connection: connection.execute(sa.select(schema.upstreams)).all(), read=True)
    for shown in (made, upstreams.list(), audited(store), rows, pair):
        assert SECRET not in repr(shown)
    assert upstreams.has_secret("vllm", SECRET)
    assert not upstreams.has_secret("vllm", SECRET[1:])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *(({"name": name}, "name") for name in ("", "A", "-a", "a_b", "a" * 64, "a\n", "ä")),
        *(
            ({"base_url": url}, "base_url")
            for url in (
                "",
                "127.0.0.1:8000",
                "ftp://host/v1",
                "http://",
                "http:///v1",
                "http://user@host/v1",
                "http://user:password@host/v1",
                "http://host/v1?key=1",
                "http://host/v1?",
                "http://host/v1#x",
                "http://host:0/v1",
                "http://host:99999/v1",
                "http://host:port/v1",
                "http://ho st/v1",
                "http://host/v 1",
                "http://host/v1\r\nx: y",
                "http://[::1/v1",
                "http://[::1%25eth0]/v1",
                "http://-host/v1",
                "http://host/v1/chat/completions",
                "http://host/" + "x" * 1024,
            )
        ),
        ({"region": "cn beijing"}, "region"),
        ({"connect_s": 0.0}, "connect_s"),
        ({"idle_s": float("nan")}, "idle_s"),
        ({"first_byte_s": 1e9}, "first_byte_s"),
        ({"connections_max": 0}, "connections_max"),
        ({"ca_file": "ca.pem"}, "ca_file"),
    ],
)
def test_what_no_upstream_can_be_is_refused(upstreams: Upstreams, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        upstreams.add(server(**fields), Credential(), NOW_S)
    assert refused.value.field == field
    assert "password" not in refused.value.message.replace("user or password", "")
    assert upstreams.list() == ()


@pytest.mark.parametrize(
    ("kind", "credential"),
    [
        ("openai", Credential(access_key_id="AKLT", secret_access_key="s")),
        ("ark", Credential(access_key_id="AKLT")),
        ("ark", Credential(secret_access_key="s")),
        ("ark", Credential("key", "AKLT", "s")),
        ("openai", Credential("two words")),
        ("openai", Credential("line\r\nx-other: 1")),
        ("openai", Credential("schlüssel")),
        ("openai", Credential("k" * 4097)),
    ],
)
def test_what_no_credential_can_be_is_refused(upstreams: Upstreams, kind: Any, credential: Credential) -> None:
    with pytest.raises(InvalidField):
        upstreams.add(server(kind=kind), credential, NOW_S)
    assert upstreams.list() == ()


def test_a_kind_that_takes_no_pair_is_not_given_to_an_upstream_that_has_one(upstreams: Upstreams) -> None:
    upstreams.add(server(kind="ark"), Credential(access_key_id="AKLT", secret_access_key="s"), NOW_S)
    with pytest.raises(InvalidField, match="kind `ark`"):
        upstreams.update("vllm", UpstreamChange(kind="openai"), NOW_S)


def test_a_name_is_taken_once_and_nobody_is_changed_or_removed_who_is_not_there(upstreams: Upstreams) -> None:
    upstreams.add(server(), Credential("first"), NOW_S)
    with pytest.raises(InvalidField, match="already"):
        upstreams.add(server(base_url="http://other/v1"), Credential("second"), NOW_S)
    assert upstreams.has_secret("vllm", "first")
    for command in (
        lambda: upstreams.show("other"),
        lambda: upstreams.remove("other"),
        lambda: upstreams.update("other", UpstreamChange(idle_s=1.0), NOW_S),
    ):
        with pytest.raises(InvalidField, match="no upstream `other`"):
            command()


def test_an_upstream_that_a_group_uses_stays(upstreams: Upstreams, groups: Groups) -> None:
    upstreams.add(server(), Credential(), NOW_S)
    groups.set(Group(card=card_of("m", "1"), members=(Member(upstream="vllm", model="m"),)), NOW_S)
    with pytest.raises(InvalidField, match="answers for a group"):
        upstreams.remove("vllm")
    groups.remove("m")
    upstreams.remove("vllm")
    assert upstreams.list() == ()
