"""Groups: members, cards, policies, and which version a bare name means."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.admin.groups import Groups, card_of, check, default_of, member_of, named, written_member
from arkway.admin.upstreams import Upstreams
from arkway.core.errors import InvalidField
from arkway.core.upstream import Credential, Group, Member, Policy, Upstream

NOW_S = 1_750_000_000


@pytest.fixture(autouse=True)
def _servers(upstreams: Upstreams) -> None:
    for name in ("one", "two"):
        upstreams.add(Upstream(name=name, base_url="http://127.0.0.1:9/v1"), Credential(), NOW_S)


def group(*members: str, version: str = "1", is_default: bool = True, **card: Any) -> Group:
    chosen = tuple(map(member_of, members or ("one/m",)))
    return Group(card=card_of("m", version, **card), members=chosen, is_default=is_default)


def test_a_group_is_made_changed_and_removed(groups: Groups) -> None:
    made = groups.set(group("one/m", "two/m,role=canary,share=5"), NOW_S)
    assert (made.card.served_name, made.created_at) == ("m-1", NOW_S)
    changed = groups.set(group("two/other", context_tokens=100, default_output_tokens=50), NOW_S + 1)
    assert groups.list() == (changed,)
    assert (changed.created_at, changed.updated_at) == (NOW_S, NOW_S + 1)
    assert changed.members == (Member(upstream="two", model="other"),)
    assert (changed.card.context_tokens, changed.card.max_output_tokens) == (100, 100)
    assert groups.remove("m") == changed
    assert groups.list() == ()
    with pytest.raises(InvalidField, match="no group `m`"):
        groups.remove("m")


def test_a_bare_name_means_one_version(groups: Groups) -> None:
    assert groups.stays_default("m", "1")
    groups.set(group(version="1"), NOW_S)
    assert (groups.stays_default("m", "1"), groups.stays_default("m", "2")) == (True, False)
    groups.set(group(version="2", is_default=False), NOW_S + 1)
    assert groups.show("m").card.version == "1"
    groups.set(group(version="2"), NOW_S + 2)
    assert [(info.card.version, info.is_default) for info in groups.list()] == [("1", False), ("2", True)]
    groups.remove("m")
    assert groups.show("m").card.version == "1"
    assert groups.stays_default("m", "3")


def test_nothing_is_kept_of_a_group_whose_member_is_nowhere(groups: Groups) -> None:
    before = groups.set(group(), NOW_S)
    with pytest.raises(InvalidField, match=r"no upstream `three` \(there are one, two\)"):
        groups.set(group("one/m", "three/m", version="2"), NOW_S)
    assert groups.list() == (before,)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["m"], "not a member"),
        (["/m"], "not a member"),
        (["one/"], "not a member"),
        (["one/m,colour=red"], "not `colour`"),
        (["one/m,weight=much"], "weight"),
        (["one/m,role=boss"], "role"),
        (["one/m,weight=0"], "weight above 0"),
        (["one/m,weight=-1"], "weight is from 0"),
        (["one/m,weight=10001"], "weight is from 0"),
        (["one/m,priority=101"], "priority"),
        (["one/m,share=5"], "only canaries and shadows"),
        (["one/m", "two/m,role=canary"], "share above 0"),
        (["one/m", "two/m,role=shadow,share=101"], "share above 0"),
        (["one/m", "two/m,role=canary,share=nan"], "share above 0"),
        (["one/m", "one/n,role=canary,share=60", "two/n,role=canary,share=60"], "at most 100"),
        (["one/m,role=canary,share=5"], "normal one"),
        (["one/m", "one/m,priority=1"], "a member once"),
        ([f"one/{number}" for number in range(65)], "1 to 64 members"),
    ],
)
def test_members_that_cannot_be_are_refused(groups: Groups, members: list[str], said: str) -> None:
    with pytest.raises(InvalidField, match=said) as refused:
        groups.set(group(*members), NOW_S)
    assert refused.value.field == "members"
    assert groups.list() == ()


@pytest.mark.parametrize(
    ("card", "field"),
    [
        ({"context_tokens": -1}, "context_tokens"),
        ({"max_output_tokens": 40_000}, "max_output_tokens"),
        ({"max_output_tokens": 10, "default_output_tokens": 11}, "default_output_tokens"),
        ({"capabilities": ("tools",)}, "capabilities"),
        ({"capabilities": ("chat", "flying")}, "capabilities"),
        ({"capabilities": ("embeddings",)}, "dimensions"),
        ({"capabilities": ("chat",), "dimensions": 8}, "dimensions"),
        ({"title": "a\nb"}, "title"),
        ({"tokenizer": "two words"}, "tokenizer"),
        ({"tokenizer": "m:1:2"}, "tokenizer"),
        ({"tokenizer": ":1"}, "tokenizer"),
    ],
)
def test_cards_that_cannot_be_are_refused(card: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(group(**card))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("card", "capabilities"),
    [
        ({"tokenizer": "small"}, ("chat", "tools", "json", "tokenization")),
        ({"tokenizer": "small:q8_0", "capabilities": ("tokenization", "chat")}, ("tokenization", "chat")),
        ({"tokenizer": "", "capabilities": ("chat",)}, ("chat",)),
    ],
)
def test_with_a_tokenizer_there_is_tokenization(
    groups: Groups, card: dict[str, Any], capabilities: tuple[str, ...]
) -> None:
    groups.set(group(**card), NOW_S)
    kept = groups.show("m").card
    assert (kept.tokenizer, kept.capabilities) == (card["tokenizer"], capabilities)


@pytest.mark.parametrize("name", ["", "-m", "m m", "m:1", "m" * 129, "m\n", "模"])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(Group(card=card_of(name, "1", title="t"), members=(member_of("one/m"),)))
    assert refused.value.field == "model"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0),
        ("attempts", 11),
        ("retry_share", -0.1),
        ("retry_share", 1.1),
        ("breaker_ratio", 0.0),
        ("breaker_calls", 0),
        ("breaker_window_s", 0.0),
        ("breaker_open_s", float("inf")),
        ("probe_s", -1.0),
    ],
)
def test_policies_that_cannot_be_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidField) as refused:
        check(msgspec.structs.replace(group(), policy=msgspec.structs.replace(Policy(), **{field: value})))
    assert refused.value.field == field


def test_an_embedding_model_says_how_long_its_vectors_are() -> None:
    card = card_of("bge", "1", dimensions=1024)
    check(Group(card=card, members=(member_of("one/BAAI/bge-m3"),)))
    assert (card.capabilities, card.max_output_tokens) == (("embeddings",), 0)


def test_names_and_versions() -> None:
    assert named("qwen3") == ("qwen3", "")
    assert named("qwen3:0.6b") == named("qwen3@0.6b") == ("qwen3", "0.6b")
    assert named("Qwen/Qwen3-8B:fp8") == ("Qwen/Qwen3-8B", "fp8")
    assert member_of("one/qwen3:0.6b,weight=3").model == "qwen3:0.6b"


models = st.text("abcXYZ019./:_- ", min_size=1, max_size=12)
members = st.builds(
    Member,
    upstream=st.sampled_from(["one", "two"]),
    model=models,
    role=st.sampled_from(["normal", "canary", "shadow"]),
    weight=st.integers(0, 10_000),
    priority=st.integers(0, 100),
    share=st.integers(0, 1000).map(lambda tenths: tenths / 10),
)


@given(member=members)
def test_a_member_is_read_as_it_is_written(member: Member) -> None:
    assert member_of(written_member(member)) == member


def test_the_default_version_of_nothing_is_none() -> None:
    assert default_of(()) is None
    both = [group(version="1", is_default=False), group(version="2", is_default=False)]
    assert default_of(both) == both[1]


def test_no_two_models_have_one_served_name(groups: Groups) -> None:
    groups.set(Group(card=card_of("qwen3", "8b-1"), members=(member_of("one/m"),)), NOW_S)
    with pytest.raises(InvalidField, match="qwen3:8b-1") as refused:
        groups.set(Group(card=card_of("qwen3-8b", "1"), members=(member_of("one/m"),)), NOW_S)
    assert refused.value.field == "version"
    assert [info.card.name for info in groups.list()] == ["qwen3"]
    groups.set(Group(card=card_of("qwen3", "8b-1"), members=(member_of("two/m"),)), NOW_S)
