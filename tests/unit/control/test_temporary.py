"""Temporary keys carry their own proof: nothing about one can be changed, and nothing of it is kept."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
import pytest

from arkway.ports import Grant
from arkway.stores.home import Pepper
from arkway.stores.temporary import MAX_CHARACTERS, TemporaryKeys, caller_of

NOW_S = 1_750_000_000
GRANT = Grant("AKLT1", "acme", "research", ("ep-1", "bot-2"), NOW_S + 60)
KEYS = TemporaryKeys(Pepper(b"p" * 32))


def encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def test_what_was_granted_comes_back() -> None:
    secret = KEYS.issue(GRANT)
    assert secret.startswith("ark-t")
    assert KEYS.claimed(secret)
    assert KEYS.grant(secret, NOW_S) == GRANT


def test_every_process_with_the_pepper_can_check_it() -> None:
    assert TemporaryKeys(Pepper(b"p" * 32)).grant(KEYS.issue(GRANT), NOW_S) == GRANT


def test_nobody_without_the_pepper_can_make_one() -> None:
    assert KEYS.grant(TemporaryKeys(Pepper(b"q" * 32)).issue(GRANT), NOW_S) is None


@pytest.mark.parametrize(("now_s", "good"), [(0, True), (59, True), (60, False), (61, False)])
def test_it_dies_to_the_second(now_s: int, good: bool) -> None:
    assert (KEYS.grant(KEYS.issue(GRANT), NOW_S + now_s) is not None) is good


def test_any_changed_character_spoils_it() -> None:
    secret = KEYS.issue(GRANT)
    for index in range(len(secret)):
        changed = secret[:index] + ("A" if secret[index] != "A" else "B") + secret[index + 1 :]
        found = KEYS.grant(changed, NOW_S)
        # The last character of each part has bits that stand for nothing.
        assert found is None or (found == GRANT and secret[index + 1 : index + 2] in ("", "."))


@pytest.mark.parametrize("change", [{"account": "other"}, {"resources": ("ep-9",)}, {"expires_s": NOW_S + 10**6}])
def test_another_grant_under_the_same_proof_is_refused(change: dict[str, object]) -> None:
    proof = KEYS.issue(GRANT).partition(".")[2]
    other = msgspec.msgpack.encode(msgspec.structs.replace(GRANT, **change))
    assert KEYS.grant(f"ark-t{encoded(other)}.{proof}", NOW_S) is None


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "ark-t",
        "ark-t.",
        "ark-t..",
        "ark-tAAAA.",
        "ark-t.AAAA",
        "ark-t!!.!!",
        "ark-té.AA",
        "ark-t" + "A" * 100_000 + ".A",
    ],
)
def test_rubbish_is_nobodys(secret: str) -> None:
    assert KEYS.grant(secret, NOW_S) is None


def test_an_endless_key_is_not_looked_at() -> None:
    grant = msgspec.structs.replace(GRANT, resources=tuple(f"ep-{number:020d}" for number in range(1000)))
    secret = KEYS.issue(grant)
    assert len(secret) > MAX_CHARACTERS
    assert KEYS.grant(secret, NOW_S) is None


def test_a_hundred_endpoints_fit() -> None:
    grant = msgspec.structs.replace(GRANT, resources=tuple(f"ep-20240701000000-{number:05d}" for number in range(100)))
    assert KEYS.grant(KEYS.issue(grant), NOW_S) == grant


def test_a_grant_of_nothing_is_no_grant_of_everything() -> None:
    """A caller without endpoints may use all of them: a key without resources must not become one."""
    assert KEYS.grant(KEYS.issue(msgspec.structs.replace(GRANT, resources=())), NOW_S) is None


def test_a_proven_text_that_is_no_grant() -> None:
    class Other(msgspec.Struct, array_like=True):
        text: str

    secret = KEYS.issue(Other("hello"))  # type: ignore[arg-type]
    assert KEYS.grant(secret, NOW_S) is None
    assert urlsafe_b64decode(secret.removeprefix("ark-t").partition(".")[0] + "==")


def test_who_calls_with_it() -> None:
    caller = caller_of(GRANT)
    assert (caller.account, caller.project, caller.key_id) == ("acme", "research", "AKLT1")
    assert caller.endpoints == ("ep-1", "bot-2")
    assert caller.role == "inference"
