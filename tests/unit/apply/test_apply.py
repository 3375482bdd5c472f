"""Files, plans, and what becomes of them, over a real database."""

from __future__ import annotations

from typing import Any

import pytest

from arkway.admin.apply import Made, Plan, check_unchanged, exported, look, perform, prepare, read
from arkway.admin.apply.plan import Difference
from arkway.cli.platform import Host
from arkway.core.errors import Misconfigured
from tests.unit.apply.conftest import Ground

NOW_S = 1_750_000_000

FILE = """
[[accounts]]
id = "acme"
name = "ACME Ltd"

[[projects]]
account = "acme"
id = "web"

[[endpoints]]
account = "acme"
project = "web"
name = "chat"
model = "small"
version = "2"
tags = { team = "search" }
rpm = 60

[[keys]]
account = "acme"
project = "web"
name = "backend"
endpoints = ["chat"]
expires = 2030-01-01T00:00:00+08:00

[[access_keys]]
name = "host"
role = "operator"

[[limits]]
account = "acme"
project = "web"
scope = "key"
name = "backend"
limit = "tokens-per-day"
amount = 1000
shadow = true

[[limits]]
account = "acme"
scope = "account"
limit = "cost-per-month"
amount = 12.5

[[aliases]]
name = "Doubao-Pro"
model = "small"

[[prices]]
model = "small-2"
effective = 2026-01-01T00:00:00Z
prompt = 0.8
completion = 2
"""


def plan_of(host: Host, text: str, *, prune: bool = False, now_s: int = NOW_S) -> Plan:
    return prepare(read(text, "platform.toml"), host, now_s, prune=prune).plan


def apply(host: Host, text: str, *, prune: bool = False, now_s: int = NOW_S) -> tuple[Made, ...]:
    return perform(prepare(read(text, "platform.toml"), host, now_s, prune=prune), host, now_s)


def shown(plan: Plan) -> list[str]:
    return [f"{change.action} {change.ref}" for change in plan.changes]


def test_everything_is_made_once(ground: Ground) -> None:
    def work(host: Host) -> None:
        assert shown(plan_of(host, FILE)) == [
            "create account acme",
            "create project acme/web",
            "create endpoint acme/web/chat",
            "create key acme/web/backend",
            "create access key default/default/host",
            "create limit acme/account cost-per-month",
            "create limit acme/web/endpoint chat rpm",
            "create limit acme/web/key backend tokens-per-day",
            "create alias doubao-pro",
            "create price small-2 from 2026-01-01T00:00:00Z",
        ]
        made = apply(host, FILE)
        assert [(key.kind, key.name) for key in made] == [("key", "backend"), ("access key", "host")]
        assert made[0].secret.startswith("ark-")
        assert made[1].secret.endswith("==")
        (endpoint,) = host.endpoints("acme", "web").list()
        (key,) = host.keys("acme", "web").list()
        assert (endpoint.model_name, endpoint.model_version, endpoint.tags[0].value) == ("small", "2", "search")
        assert (key.endpoints, key.role, key.expires_at) == ((endpoint.id,), "inference", 1_893_427_200)
        limits = {(limit.scope, limit.subject, limit.name, limit.amount) for limit in host.limits("acme", "web").list()}
        assert limits == {
            ("key", key.id, "tokens-per-day", 1000.0),
            ("account", "", "cost-per-month", 12.5),
            ("endpoint", endpoint.id, "rpm", 60.0),
        }
        again = plan_of(host, FILE)
        assert (again.changes, again.drift, apply(host, FILE)) == ((), (), ())

    ground.on(work)


def test_a_change_is_shown_exactly_and_then_made(ground: Ground) -> None:
    def work(host: Host) -> None:
        apply(host, FILE)
        (before,) = host.endpoints("acme", "web").list()
        edited = FILE.replace('version = "2"', 'version = "3"\nstatus = "stopped"').replace('"operator"', '"owner"')
        edited = (
            edited.replace("amount = 12.5", "amount = 20").replace('"ACME Ltd"', '"ACME"').replace("rpm = 60\n", "")
        )
        edited = edited.replace('endpoints = ["chat"]\n', "")
        changes = {f"{change.action} {change.ref}": change.differences for change in plan_of(host, edited).changes}
        assert changes == {
            "update account acme": (Difference("name", "ACME Ltd", "ACME"),),
            "update endpoint acme/web/chat": (
                Difference("version", "2", "3"),
                Difference("status", "running", "stopped"),
            ),
            "update key acme/web/backend": (Difference("endpoints", ["chat"], []),),
            "update access key default/default/host": (Difference("role", "operator", "owner"),),
            "update limit acme/account cost-per-month": (Difference("amount", 12.5, 20),),
            "remove limit acme/web/endpoint chat rpm": (),
        }
        assert apply(host, edited) == ()
        assert plan_of(host, edited).changes == ()
        (after,) = host.endpoints("acme", "web").list()
        assert (after.id, after.model_version, after.status) == (before.id, "3", "stopped")
        assert host.keys("acme", "web").list()[0].endpoints == ()
        assert host.accounts.show("acme").name == "ACME"

    ground.on(work)


def test_what_the_file_does_not_name_is_told_and_goes_only_when_that_is_asked_for(ground: Ground) -> None:
    def work(host: Host) -> None:
        apply(host, FILE)
        small = '[[accounts]]\nid = "acme"\n[[projects]]\naccount = "acme"\nid = "web"\n'
        plan = plan_of(host, small)
        assert shown(plan) == ["update account acme"]
        pruned = {str(left.ref): left.prune for left in plan.drift}
        assert pruned == {
            "endpoint acme/web/chat": "stop",
            "key acme/web/backend": "revoke",
            "access key default/default/host": "revoke",
            "limit acme/account cost-per-month": "remove",
            "limit acme/web/endpoint chat rpm": "remove",
            "limit acme/web/key backend tokens-per-day": "remove",
            "alias doubao-pro": "remove",
            "price small-2 from 2026-01-01T00:00:00Z": "remove",
        }
        apply(host, small, prune=True)
        assert host.endpoints("acme", "web").list()[0].status == "stopped"
        assert host.keys("acme", "web").list()[0].status(NOW_S) == "revoked"
        assert (host.aliases.list(), host.prices.list(), host.limits("acme", "web").list()) == ((), (), ())
        again = plan_of(host, small, prune=True)
        assert (again.changes, [str(left.ref) for left in again.drift]) == ((), ["endpoint acme/web/chat"])
        nothing = plan_of(host, "", prune=True)
        assert shown(nothing) == ["suspend account acme"]
        apply(host, "", prune=True)
        assert host.accounts.show("acme").status == "suspended"
        assert plan_of(host, "", prune=True).changes == ()

    ground.on(work)


def test_what_cannot_be_told_apart_is_left_alone(ground: Ground) -> None:
    def work(host: Host) -> None:
        endpoints = host.endpoints("default", "default")
        one, two = sorted(endpoints.create("chat", "small", NOW_S).id for _ in range(2))
        host.limits("default", "default").set("endpoint", two, {"rpm": 5}, NOW_S)
        key, _ = host.keys("default", "default").create("only", NOW_S, [two])
        plan = plan_of(host, "", prune=True)
        assert plan.ambiguous == {"endpoint default/default/chat": (one, two)}
        assert shown(plan) == [f"remove limit default/default/endpoint {two} rpm", "revoke key default/default/only"]
        text = exported(look(host, NOW_S))
        assert f"# Left out, since there is more than one: endpoint default/default/chat, with the ids {one}" in text
        assert plan_of(host, text, prune=True).changes == ()
        with pytest.raises(Misconfigured) as refused:
            plan_of(host, '[[endpoints]]\nname = "chat"\nmodel = "small"\n')
        assert refused.value.message.startswith("platform.toml, line 1: the endpoint default/default/chat is ambiguous")
        with pytest.raises(Misconfigured, match=f"`chat` is ambiguous, there are {one}, {two}"):
            plan_of(host, '[[keys]]\nname = "k"\nendpoints = ["chat"]\n')
        apply(host, f'[[keys]]\nname = "only"\nendpoints = ["{one}"]\n')
        assert host.keys("default", "default").list()[0].endpoints == (one,)
        assert host.keys("default", "default").list()[0].id == key.id

    ground.on(work)


def test_a_key_that_has_expired_is_not_made_again(ground: Ground) -> None:
    text = (
        '[[keys]]\nname = "k"\nexpires = 2025-07-01T00:00:00Z\n'
        '[[limits]]\nscope = "key"\nname = "k"\nlimit = "rpm"\namount = 3\n'
    )

    def work(host: Host) -> None:
        apply(host, text)
        later_s = NOW_S + 90 * 86_400
        plan = plan_of(host, text, now_s=later_s)
        assert (plan.changes, [str(ref) for ref in plan.expired]) == (
            (),
            ["key default/default/k", "limit default/default/key k rpm"],
        )
        (new,) = apply(host, text.replace("2025", "2027"), now_s=later_s)
        assert new.name == "k"
        assert len(host.keys("default", "default").list()) == 2

    ground.on(work)


def test_a_plan_that_is_not_the_plan_any_more_is_not_carried_out(ground: Ground) -> None:
    def work(host: Host) -> None:
        before = prepare(read(FILE, "f"), host, NOW_S)
        check_unchanged(before, prepare(read(FILE, "f"), host, NOW_S + 5))
        host.aliases.set("doubao-pro", "large", NOW_S)
        with pytest.raises(Misconfigured, match="changed since the plan was shown, nothing was done"):
            check_unchanged(before, prepare(read(FILE, "f"), host, NOW_S))

    ground.on(work)


def test_every_change_is_on_record_and_no_secret_is(ground: Ground) -> None:
    from arkway.stores.audit import AuditTable

    def work(host: Host) -> tuple[list[Any], tuple[Made, ...]]:
        made = apply(host, FILE)
        apply(host, "", prune=True)
        return list(AuditTable(host._store).rows_of_all()), made

    rows, made = ground.on(work)
    assert [row["action"] for row in reversed(rows)] == [
        "accounts.create",
        "projects.create",
        "endpoints.create",
        "keys.create",
        "access_keys.create",
        "limits.set",
        "limits.set",
        "limits.set",
        "aliases.set",
        "prices.set",
        "prices.remove",
        "aliases.remove",
        "access_keys.revoke",
        "accounts.suspend",
    ]
    assert {row["actor"] for row in rows} == {"cli:anna"}
    assert not any(key.secret in repr(rows) for key in made)


@pytest.mark.parametrize(
    "text, said",
    [
        ("[[keys]]\nname = 'k'\nendpoints = ['nowhere']\n", "line 1: there is no endpoint default/default/nowhere"),
        ("\n[[keys]]\naccount = 'ghost'\nname = 'k'\n", "line 2: there is no account ghost; name it in [[accounts]]"),
        ("[[keys]]\nproject = 'p'\nname = 'k'\n", "there is no project default/p; name it in [[projects]]"),
        (
            "[[limits]]\nscope = 'key'\nname = 'k'\nlimit = 'rpm'\namount = 1\n",
            "line 1: there is no key default/default/k",
        ),
        (
            "[[endpoints]]\nname='e'\nmodel='m'\nrpm=2\n[[limits]]\nscope='endpoint'\nname='e'\nlimit='rpm'\namount=1\n",
            "line 5: the limit default/default/endpoint e rpm is there twice",
        ),
    ],
)
def test_what_the_file_names_has_to_be_there(ground: Ground, text: str, said: str) -> None:
    def work(host: Host) -> None:
        with pytest.raises(Misconfigured) as refused:
            plan_of(host, text)
        assert said in refused.value.message

    ground.on(work)
