"""Whatever a platform looks like: exported and applied, nothing changes; and a plan leads exactly where it says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arkway.admin.apply import Platform, exported, look, perform, prepare, read
from arkway.admin.apply.entries import (
    AccessKey,
    Account,
    Alias,
    Bot,
    Endpoint,
    Entry,
    Group,
    Key,
    Limit,
    Price,
    Project,
    Upstream,
)
from arkway.admin.apply.terms import Ref
from arkway.admin.limits import WHATS
from arkway.cli.platform import Host
from arkway.core.bot import BotAction
from arkway.core.limit import Scope
from arkway.core.model import Tag
from arkway.core.roles import ROLES
from tests.tools.examples import examples
from tests.unit.apply.conftest import Ground

NOW_S = 1_750_000_000
MOST = settings(
    max_examples=examples(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ACCOUNTS = ("default", "acme", "b.c")
PROJECTS = ("default", "web")
NAMES = ("chat", "a b", 'say "hi"', "back\\slash", "模型", "é", "#no", "[[x]]", "it's", "= 1")
# What TOML writes in a way of its own.
PRINTABLE = st.text(st.sampled_from("ab \"'\\#=[]{},.é模\U0001f600"), max_size=8)
TEXTS = st.text(st.sampled_from("ab \"'\\#\n\r\t\x01\x7f\x85\u2028模"), max_size=8)

names = st.sampled_from(NAMES)
moments = st.integers(NOW_S // 60 + 10, NOW_S // 60 + 10**7).map(
    lambda minute: datetime.fromtimestamp(minute * 60, UTC)
)
money = st.floats(0, 1e9).map(abs)
places = st.fixed_dictionaries({"account": st.sampled_from(ACCOUNTS), "project": st.sampled_from(PROJECTS)})
tags = st.dictionaries(st.sampled_from(["team", "a b", "模", "x.y"]), PRINTABLE, max_size=2)
roles = st.sampled_from([role for role in ROLES if role != "operator"])


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    return Endpoint(
        **draw(places),
        name=draw(names),
        model=draw(st.sampled_from(["small", "large", "m/x y"])),
        version=draw(st.sampled_from(["", "1", "2.0-rc"])),
        status=draw(st.sampled_from(["running", "stopped"])),
        description=draw(TEXTS),
        moderation=draw(PRINTABLE),
        tags=draw(tags),
        rpm=draw(st.integers(0, 1000)),
        tpm=draw(st.integers(0, 10**12)),
    )


@st.composite
def bots(draw: st.DrawFn, named: list[Endpoint]) -> Bot:
    on = draw(st.sampled_from(named))
    return Bot(
        account=on.account,
        project=on.project,
        name=draw(names),
        endpoint=on.name,
        status=draw(st.sampled_from(["running", "stopped"])),
        prompt=draw(TEXTS),
        actions=draw(
            st.sampled_from([(), ("knowledge:manual,faq,limit=8", "web_search"), ("weather,deadline_s=0.5",)])
        ),
        intent=draw(st.sampled_from(["auto", "llm", "never"])),
        citation=draw(st.sampled_from(["all", "cited"])),
        lexicon=draw(st.sampled_from([(), ("share price", "股价")])),
        context_share=draw(st.floats(0, 1)),
        moderation=draw(PRINTABLE),
        description=draw(TEXTS),
    )


@st.composite
def keys(draw: st.DrawFn, named: list[Endpoint | Bot]) -> Key:
    place: dict[str, Any] = draw(places)
    mine = [each for each in named if (each.account, each.project) == (place["account"], place["project"])]

    def scope(kind: type[Endpoint | Bot]) -> tuple[str, ...]:
        known = [each.name for each in mine if isinstance(each, kind)]
        return tuple(draw(st.lists(st.sampled_from(known), unique=True))) if known else ()

    kind = draw(st.sampled_from([Key, AccessKey]))
    expires = draw(st.none() | moments)
    endpoints, bots = scope(Endpoint), scope(Bot)
    return kind(**place, name=draw(names), role=draw(roles), endpoints=endpoints, bots=bots, expires=expires)


@st.composite
def limits(draw: st.DrawFn, subjects: list[Entry]) -> Limit:
    name = draw(st.sampled_from(list(WHATS)))
    amount = draw(st.integers(1, 10**9)) if name not in ("rpm", "tpm") else draw(st.floats(0.5, 1e6))
    fields: dict[str, Any] = {"limit": name, "amount": amount, "shadow": draw(st.booleans())}
    if not subjects or draw(st.booleans()):
        place: dict[str, Any] = draw(places)
        return Limit(**place, scope=draw(st.sampled_from(["project", "account"])), **fields)
    of = draw(st.sampled_from(subjects))
    assert isinstance(of, Endpoint | Bot | Key)
    scope = {Endpoint: "endpoint", Bot: "bot", AccessKey: "access_key", Key: "key"}[type(of)]
    return Limit(account=of.account, project=of.project, scope=scope, name=of.name, **fields)  # type: ignore[arg-type]


@st.composite
def prices(draw: st.DrawFn) -> Price:
    return Price(
        model=draw(st.sampled_from(["small-1", "large"])),
        effective=draw(moments),
        currency=draw(st.sampled_from(["CNY", "USD"])),
        prompt=draw(money),
        completion=draw(money),
        cached=draw(st.none() | money),
        reasoning=draw(st.none() | money),
    )


upstreams = st.builds(
    Upstream,
    name=st.sampled_from(["vllm", "ark"]),
    base_url=st.sampled_from(["http://127.0.0.1:8000/v1", "https://models.example.com/"]),
    kind=st.sampled_from(["openai", "ark"]),
    connections_max=st.integers(1, 100),
    idle_s=st.floats(0.1, 3600),
    ca_file=st.sampled_from(["", "/etc/ca bundle.pem"]),
)


@st.composite
def groups(draw: st.DrawFn, named: list[str]) -> list[Group]:
    """At most one default version of each model."""
    versions = draw(st.lists(st.tuples(st.sampled_from(["big", "Org/big"]), st.sampled_from(["1", "2"])), unique=True))
    of_model = {model: draw(st.sampled_from(["1", "2", ""])) for model, _ in versions}
    return [
        Group(
            model=model,
            version=version,
            members=tuple(
                f"{name}/some model{draw(st.sampled_from(['', ',weight=3', ',priority=2']))}" for name in named
            ),
            default=of_model[model] == version,
            title=draw(st.sampled_from(["", model, 'The "big" one'])),
            capabilities=draw(st.sampled_from([("chat",), ("chat", "tools", "json", "images")])),
            max_output_tokens=draw(st.sampled_from([0, 100])),
            tokenizer=draw(st.sampled_from(["", "small", "Org/small:q8_0"])),
            retry_share=draw(st.floats(0, 1)),
            breaker_open_s=draw(st.floats(0.1, 100)),
        )
        for model, version in versions
        if named
    ]


@st.composite
def platforms(draw: st.DrawFn) -> Platform:
    """Any platform that a file can say."""
    found: dict[Ref, Entry] = {}

    def take(*entries: Entry) -> None:
        for entry in entries:
            found.setdefault(entry.ref, entry)

    for account in ACCOUNTS:
        status = "active" if account == "default" else draw(st.sampled_from(["active", "suspended"]))
        take(Account(id=account, name=draw(PRINTABLE), status=status))  # type: ignore[arg-type]
        take(Project(account=account, id="web", name=draw(st.sampled_from(["", "The web"]))))
    servers = draw(st.lists(upstreams, max_size=2, unique_by=lambda server: server.name))
    take(*servers, *draw(groups([server.name for server in servers])))
    take(*draw(st.lists(endpoints(), max_size=4)))
    made = [entry for entry in found.values() if isinstance(entry, Endpoint)]
    take(*draw(st.lists(bots(made), max_size=3)) if made else ())
    named = [entry for entry in found.values() if isinstance(entry, Endpoint | Bot)]
    take(*draw(st.lists(keys(named), max_size=4)))
    subjects = [entry for entry in found.values() if isinstance(entry, Endpoint | Bot | Key)]
    for limit in draw(st.lists(limits(list(subjects)), max_size=4)):
        rates = {(each.account, each.project, each.name) for each in made if each.rpm or each.tpm}
        if limit.scope != "endpoint" or (limit.account, limit.project, limit.name) not in rates:
            take(limit)
    take(*(Alias(name=draw(names).replace(" ", "_"), model="small", version=draw(st.sampled_from(["", "1"])))
           for _ in range(draw(st.integers(0, 2)))))  # fmt: skip
    take(*draw(st.lists(prices(), max_size=3)))
    return Platform(found)


def apply(host: Host, platform: Platform, *, prune: bool = False) -> int:
    prepared = prepare(platform, host, NOW_S, prune=prune)
    perform(prepared, host, NOW_S)
    return len(prepared.plan.changes)


@MOST
@given(platform=platforms())
def test_a_platform_is_exported_as_what_changes_nothing(ground: Ground, platform: Platform) -> None:
    def work(host: Host) -> None:
        apply(host, platform)
        state = look(host, NOW_S)
        assert state.ambiguous == {}
        text = exported(state)
        written = read(text, "exported")
        plan = prepare(written, host, NOW_S, prune=True).plan
        assert (plan.changes, plan.expired) == ((), ())
        assert {str(left.ref) for left in plan.drift} == set()
        assert prepare(platform, host, NOW_S).plan.changes == ()

    ground.on(work)


@MOST
@given(first=platforms(), second=platforms())
def test_from_one_platform_to_another_and_no_further(ground: Ground, first: Platform, second: Platform) -> None:
    def work(host: Host) -> None:
        apply(host, first)
        apply(host, second, prune=True)
        again = prepare(second, host, NOW_S, prune=True).plan
        assert again.changes == ()
        assert all(left.prune is None for left in again.drift)
        elsewhere = exported(look(host, NOW_S))
        assert prepare(read(elsewhere, "exported"), host, NOW_S, prune=True).plan.changes == ()

    ground.on(work)


@MOST
@given(platform=platforms())
def test_a_file_makes_the_same_platform_on_another_host(ground: Ground, platform: Platform) -> None:
    def first(host: Host) -> str:
        apply(host, platform)
        return exported(look(host, NOW_S))

    text = ground.on(first)

    def second(host: Host) -> str:
        apply(host, read(text, "exported"))
        return exported(look(host, NOW_S))

    assert ground.on(second) == text


steps = st.lists(
    st.tuples(
        st.sampled_from(["endpoint", "bot", "key", "pair", "stop", "delete", "halt", "drop", "revoke", "limit"]),
        names,
        st.integers(0, 1000),
    ),
    max_size=12,
)


def hand(host: Host, step: str, name: str, number: int) -> None:
    """One command as people give it: names come twice, things are stopped, deleted, revoked."""
    where = (("default", "acme")[number % 2], "default")
    endpoints, keys, pairs = host.endpoints(*where), host.keys(*where), host.access_keys(*where)
    ids = [each.id for each in endpoints.list()]
    known = [each.id for each in keys.list()]
    bots = host.bots(*where)
    bot_ids = [each.id for each in bots.list()]
    only = [ids[number % len(ids)]] if ids and number % 3 else bot_ids[:1]
    if step == "endpoint":
        endpoints.create(name, "small", NOW_S, tags=(Tag("t", name),))
    elif step == "bot" and ids:
        bots.create(name, ids[number % len(ids)], NOW_S, actions=(BotAction(kind="web_search"),))
    elif step in ("halt", "drop") and bot_ids:
        {"halt": bots.stop, "drop": bots.delete}[step](bot_ids[number % len(bot_ids)], NOW_S)
    elif step == "key":
        keys.create(name, NOW_S, only, (None, NOW_S + 60)[number % 4 // 2])
    elif step == "pair":
        pairs.create(name, NOW_S, only, NOW_S + 600, temporary=number % 3 == 0)
    elif step in ("stop", "delete") and ids:
        getattr(endpoints, step)(ids[number % len(ids)], NOW_S)
    elif step == "revoke" and known:
        keys.revoke(known[number % len(known)], NOW_S)
    elif step == "limit" and ids + known:
        subject = (ids + known)[number % len(ids + known)]
        scope: Scope = "key" if subject in known else "endpoint"
        host.limits(*where).set(scope, subject, {"rpm": (1, 2.5)[number % 5 % 2]}, NOW_S, shadow=number % 7 < 2)


@MOST
@given(given_steps=steps)
def test_what_hands_have_made_is_exported_as_what_changes_nothing(ground: Ground, given_steps: list[Any]) -> None:
    def work(host: Host) -> None:
        host.accounts.create(NOW_S, "acme")
        for step, name, number in given_steps:
            hand(host, step, name, number)
        for now_s in (NOW_S, NOW_S + 300):
            text = exported(look(host, now_s))
            plan = prepare(read(text, "exported"), host, now_s, prune=True).plan
            assert (plan.changes, plan.drift, plan.expired) == ((), (), ())

    ground.on(work)


@pytest.mark.parametrize("seconds", [0, 59])
def test_a_moment_is_kept_to_the_second(ground: Ground, seconds: int) -> None:
    def work(host: Host) -> None:
        host.keys("default", "default").create("k", NOW_S, (), NOW_S + 3600 + seconds)
        assert prepare(read(exported(look(host, NOW_S)), "f"), host, NOW_S).plan.changes == ()

    ground.on(work)
