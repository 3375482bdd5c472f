"""What nobody should read, and what operators do not want to be read: found, masked, and the same for every cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.backends.moderation.patterns import Pattern, operator_pattern
from arkway.backends.moderation.personal import is_bank_card, is_id_card, personal_patterns
from arkway.backends.moderation.scanning import Chain, Hit
from arkway.backends.moderation.settings import Personal
from arkway.core.errors import Misconfigured

BLOCK, MASK = Hit(True), Hit(False)
KINDS: tuple[Personal, ...] = ("mobile", "id_card", "bank_card", "email", "api_key")
CARD = "6217001234567890122"
ID_CARD = "11010519491231002X"
KEY = "ark-" + "a1B2" * 10
FRAGMENTS = [
    *("13800138000", "138 0013 8000", "+86 138-0013-8000", CARD, "4222 2222 2222 2220", ID_CARD, "11010519491231002x"),
    *(
        "a@b.com",
        "john.doe+x@mail.example.co.uk",
        KEY,
        "sk-" + "x9" * 20,
        "AKLT" + "z" * 40,
        "12",
        "3",
        "-",
        " ",
        "x",
        "X",
    ),
    *("１３８", "００１３８０００", "－", "\u3000", "Ｘ", "＠", "．"),
    *("文", "@", ".", "sk", "s", "ark", "AK", "a", "\n", "2024-11-22 10:20", "1" * 30, "a" * 70 + "@b.cn", "_", "/"),
]
OWN = (
    operator_pattern(r"\bO-\d{4,}\b", MASK, width=12, alphabet="O0-9-", where="t"),
    operator_pattern(r"张三.*李四", BLOCK, width=10, alphabet="", where="t"),
    operator_pattern(r"\d{3,}\b", MASK, width=6, alphabet="", where="t"),
    operator_pattern(r"(?i)secret$", MASK, width=8, alphabet="", where="t"),
)
OWN_FRAGMENTS = ["O-", "1234", "O-12345678901", "张三", "李四", "x", "12", " ", "\ud800", "张三和李四", "SECRET", "_"]


def run(patterns: tuple[Pattern, ...], pieces: list[str]) -> tuple[str, Hit | None]:
    chain = Chain([pattern.scanner() for pattern in patterns])
    out = ""
    for piece in pieces:
        out += chain.feed(piece)
        if chain.found is not None:
            return out, chain.found
    return out + chain.feed("", final=True), chain.found


def all_at_once(patterns: tuple[Pattern, ...], text: str) -> tuple[str, Hit | None]:
    chain = Chain([pattern.scanner() for pattern in patterns])
    return chain.feed(text, final=True), chain.found


@st.composite
def cut_texts(draw: st.DrawFn, fragments: list[str]) -> tuple[str, list[str]]:
    text = "".join(draw(st.lists(st.sampled_from(fragments), max_size=6)))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return text, [text[low:high] for low, high in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize("hit", [MASK, BLOCK], ids=["mask", "block"])
@given(cut_texts(FRAGMENTS))
@settings(max_examples=500, deadline=None)
def test_personal_things_are_found_however_a_text_is_cut(hit: Hit, case: tuple[str, list[str]]) -> None:
    text, pieces = case
    patterns = personal_patterns(KINDS, hit)
    out, found = run(patterns, pieces)
    assert (out, found) == run(patterns, list(text)) == all_at_once(patterns, text)
    if found is None:
        assert len(out) == len(text)
        assert all(char in ("*", text[place]) for place, char in enumerate(out))


@given(cut_texts(OWN_FRAGMENTS))
@settings(max_examples=500, deadline=None)
def test_the_operators_patterns_are_found_however_a_text_is_cut(case: tuple[str, list[str]]) -> None:
    text, pieces = case
    assert run(OWN, pieces) == run(OWN, list(text)) == all_at_once(OWN, text)


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("打 13800138000 吧", "打 *********** 吧"),
        ("打+86 138-0013-8000吧", "打+****************吧"),
        ("13800138000 13900139000", "*********** ***********"),
        (f"证件{ID_CARD}。", f"证件{'*' * 18}。"),
        ("证件110105194912310021。", "证件110105194912310021。"),
        (f"卡{CARD},", f"卡{'*' * 19},"),
        ("卡 4222 2222 2222 2220", f"卡 {'*' * 19}"),
        ("卡 4222 2222 2222 2221", "卡 4222 2222 2222 2221"),
        ("写给 john.doe+x@mail.example.co.uk.", f"写给 {'*' * 29}."),
        (f"key {KEY} ok", f"key {'*' * 44} ok"),
        ("ep-20241122138001380001", "ep-20241122138001380001"),
        ("在2024-11-22 10:20", "在2024-11-22 10:20"),
        ("a13800138000b", "a13800138000b"),
    ],
)
def test_what_is_found(text: str, out: str) -> None:
    assert run(personal_patterns(KINDS, MASK), list(text))[0] == out


def test_only_what_was_asked_for_is_found() -> None:
    assert run(personal_patterns(("email",), MASK), ["13800138000 a@b.cn"])[0] == "13800138000 ******"


def test_check_digits_count() -> None:
    assert is_id_card(ID_CARD)
    assert not is_id_card("110105194913310025")  # there is no thirteenth month
    assert is_bank_card(CARD)
    assert not is_bank_card(CARD[:-1] + "3")


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", "(", "a*", "a{1,2000}{1,2000}"])
def test_what_re2_cannot_take_or_finds_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(Misconfigured, match="here"):
        operator_pattern(pattern, MASK, width=10, alphabet="", where="here")


def test_a_wrong_alphabet_is_refused() -> None:
    with pytest.raises(Misconfigured, match="alphabet"):
        operator_pattern("a", MASK, width=10, alphabet="z-a", where="here")


def test_an_alphabet_says_what_is_held_back() -> None:
    free = operator_pattern(r"O-\d+", MASK, width=12, alphabet="", where="t").scanner()
    told = operator_pattern(r"O-\d+", MASK, width=12, alphabet="O0-9-", where="t").scanner()
    assert free.feed("订单号") == ""
    assert told.feed("订单号") == "订单号"
    assert told.feed("O-1") == ""
    assert told.feed("2。") == "****。"
