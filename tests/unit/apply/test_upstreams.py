"""Upstreams and groups in a platform file: secrets by reference, members that are there, what goes and what stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from arkway.admin.apply import Plan, exported, look, perform, prepare, read
from arkway.admin.groups import written_member
from arkway.cli.platform import Host
from arkway.core.errors import Misconfigured
from tests.unit.apply.conftest import Ground

NOW_S = 1_750_000_000

FILE = """
[[upstreams]]
name = "vllm"
base_url = "http://127.0.0.1:8000/v1/"

[[upstreams]]
name = "ark"
base_url = "https://ark.cn-beijing.volces.com/api/v3"
kind = "ark"
key_env = "UPSTREAM_TEST_KEY"

[[groups]]
model = "qwen3"
version = "8b"
members = ["vllm/Qwen/Qwen3-8B", "ark/ep-1,priority=1"]
context_tokens = 40960
tokenizer = "small:q8_0"
stick_to = "prefix"
"""
PAIR = """
[[upstreams]]
name = "ark"
base_url = "https://ark.cn-beijing.volces.com/api/v3"
kind = "ark"
access_key_id = "AKLTid"
key_env = "UPSTREAM_TEST_KEY"
"""


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setenv("UPSTREAM_TEST_KEY", "first-secret")
    return lambda value: monkeypatch.setenv("UPSTREAM_TEST_KEY", value)


def plan_of(host: Host, text: str, *, prune: bool = False) -> Plan:
    return prepare(read(text, "platform.toml"), host, NOW_S, prune=prune).plan


def apply(host: Host, text: str, *, prune: bool = False) -> list[str]:
    prepared = prepare(read(text, "platform.toml"), host, NOW_S, prune=prune)
    perform(prepared, host, NOW_S)
    return [f"{change.action} {change.ref}" for change in prepared.plan.changes]


def test_they_are_made_once_and_exported_without_a_secret(ground: Ground, variable: Callable[[str], None]) -> None:
    def work(host: Host) -> None:
        assert apply(host, FILE) == ["create upstream ark", "create upstream vllm", "create group qwen3:8b"]
        assert plan_of(host, FILE).changes == ()
        assert host.upstreams.has_secret("ark", "first-secret")
        assert host.upstreams.show("vllm").base_url == "http://127.0.0.1:8000/v1"
        (group,) = host.groups.list()
        assert [*map(written_member, group.members)] == ["vllm/Qwen/Qwen3-8B", "ark/ep-1,priority=1"]
        assert (group.card.context_tokens, group.card.max_output_tokens, group.is_default) == (40960, 40960, True)
        assert (group.card.tokenizer, group.card.capabilities[-1]) == ("small:q8_0", "tokenization")
        text = exported(look(host, NOW_S))
        assert 'tokenizer = "small:q8_0"' in text
        assert "first-secret" not in text
        assert "key_env" not in text
        assert 'auth = "key"' in text
        assert plan_of(host, text, prune=True).changes == ()

    ground.on(work)


def test_another_secret_in_the_variable_is_a_change_and_the_plan_names_only_the_variable(
    ground: Ground, variable: Callable[[str], None]
) -> None:
    def work(host: Host) -> None:
        apply(host, FILE)
        variable("second-secret")
        plan = plan_of(host, FILE)
        (change,) = plan.changes
        assert (change.action, str(change.ref)) == ("update", "upstream ark")
        assert [(each.field, each.before, each.after) for each in change.differences] == [
            ("key_env", None, "UPSTREAM_TEST_KEY")
        ]
        assert "second-secret" not in repr(plan)
        apply(host, FILE)
        assert host.upstreams.has_secret("ark", "second-secret")
        assert plan_of(host, FILE).changes == ()

    ground.on(work)


def test_a_secret_is_kept_where_the_variable_is_not_set(ground: Ground, variable: Callable[[str], None]) -> None:
    def work(host: Host) -> None:
        variable("")
        with pytest.raises(Misconfigured, match=r"line 6: the variable `UPSTREAM_TEST_KEY` is not set"):
            plan_of(host, FILE)
        variable("first-secret")
        apply(host, FILE)
        variable("")
        assert plan_of(host, FILE).changes == ()
        moved = FILE.replace("beijing", "shanghai")
        assert apply(host, moved) == ["update upstream ark"]
        assert host.upstreams.has_secret("ark", "first-secret")
        with pytest.raises(Misconfigured, match="secret of the upstream ark"):
            plan_of(host, PAIR)

    ground.on(work)


def test_an_access_key_pair_and_taking_it_away(ground: Ground, variable: Callable[[str], None]) -> None:
    def work(host: Host) -> None:
        apply(host, PAIR)
        info = host.upstreams.show("ark")
        assert (info.auth, info.access_key_id) == ("aksk", "AKLTid")
        assert plan_of(host, exported(look(host, NOW_S))).changes == ()
        open_one = '[[upstreams]]\nname = "ark"\nbase_url = "https://ark.cn-beijing.volces.com/api/v3"\nkind = "ark"\n'
        assert apply(host, open_one) == ["update upstream ark"]
        assert (host.upstreams.show("ark").auth, host.upstreams.show("ark").access_key_id) == ("none", "")
        assert host.upstreams.has_secret("ark", "")

    ground.on(work)


def test_a_member_has_to_be_there(ground: Ground) -> None:
    group = '[[groups]]\nmodel = "m"\nmembers = ["one/m"]\n'

    def work(host: Host) -> None:
        with pytest.raises(Misconfigured, match="there is no upstream one, neither in the file nor in the database"):
            plan_of(host, group)
        apply(host, '[[upstreams]]\nname = "one"\nbase_url = "http://127.0.0.1:1/v1"\n')
        # It is there, in no file: with --prune it stays, since the file's group needs it.
        assert apply(host, group, prune=True) == ["create group m:1"]
        (left,) = [left for left in plan_of(host, group, prune=True).drift if left.ref.kind == "upstream"]
        assert left.prune is None
        assert apply(host, "", prune=True) == ["remove group m:1", "remove upstream one"]

    ground.on(work)


def test_one_version_is_the_default_one(ground: Ground) -> None:
    file = '[[upstreams]]\nname = "one"\nbase_url = "http://127.0.0.1:1/v1"\n'
    versions = "".join(
        f'[[groups]]\nmodel = "m"\nversion = "{version}"\nmembers = ["one/m"]\ndefault = {flag}\n'
        for version, flag in (("1", "{first}"), ("2", "{second}"))
    )

    def text(first: str, second: str) -> str:
        return file + versions.format(first=first, second=second)

    def work(host: Host) -> None:
        with pytest.raises(Misconfigured, match="default version already"):
            plan_of(host, text("true", "true"))
        for flags, default in ((("true", "false"), "1"), (("false", "true"), "2"), (("true", "false"), "1")):
            assert apply(host, text(*flags))
            assert plan_of(host, text(*flags)).changes == ()
            assert host.groups.show("m").card.version == default

    ground.on(work)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[upstreams]]\nname = "A"\nbase_url = "http://h/v1"', "upstreams.name"),
        ('[[upstreams]]\nname = "a"\nbase_url = "ftp://h/v1"', "upstreams.base_url"),
        ('[[upstreams]]\nname = "a"\nbase_url = "http://h/v1"\nkey = "sk-1"', "there is no such key"),
        ('[[upstreams]]\nname = "a"\nbase_url = "http://h/v1"\nauth = "aksk"', "upstreams.access_key_id"),
        ('[[upstreams]]\nname = "a"\nbase_url = "http://h/v1"\naccess_key_id = "AK"', "kind `ark`"),
        ('[[upstreams]]\nname = "a"\nbase_url = "http://h/v1"\nidle_s = 0', "upstreams.idle_s"),
        ('[[groups]]\nmodel = "m"', "`members` is missing"),
        ('[[groups]]\nmodel = "m"\nmembers = []', "groups.members"),
        ('[[groups]]\nmodel = "m"\nmembers = ["m"]', "groups.members"),
        ('[[groups]]\nmodel = "m m"\nmembers = ["a/m"]', "groups.model"),
        ('[[groups]]\nmodel = "m"\nmembers = ["a/m"]\nstick_to = "me"', "groups.stick_to"),
        ('[[groups]]\nmodel = "m"\nmembers = ["a/m"]\ntokenizer = "a b"', "groups.tokenizer"),
        ('[[groups]]\nmodel = "m"\nmembers = ["a/m"]\nattempts = 11', "groups.attempts"),
        ('[[groups]]\nmodel = "m"\nmembers = ["a/m"]\ncapabilities = ["embeddings"]', "groups.dimensions"),
    ],
)
def test_mistakes_are_told_with_their_key(text: str, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read(text, "platform.toml")
    assert said in refused.value.message
    assert "sk-1" not in refused.value.message
