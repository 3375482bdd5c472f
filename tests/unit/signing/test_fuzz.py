"""Random requests, signed by the second opinion and then damaged: both verifiers give the same verdict.

``ARKWAY_FUZZ_CASES`` says how many; ``ARKWAY_FUZZ_SEED`` which ones.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.unit.signing.first_opinion import judged
from tests.unit.signing.second_opinion import Rules, Wire, authorize, judge, seconds_since_1970

CASES = int(os.environ.get("ARKWAY_FUZZ_CASES", "3000"))
SEED = int(os.environ.get("ARKWAY_FUZZ_SEED", "20240703"))
SECRET = "c2VjcmV0"
DATES = ("20240703T064826Z", "20240229T235959Z", "20231231T235959Z", "20240101T000000Z", "21000228T120000Z")
SEGMENTS = (
    "api",
    "v1",
    "v2",
    "chat",
    "endpoint",
    "ep-1",
    "a%20b",
    "%E4%B8%AD",
    "a+b",
    "x%2bY",
    "~._-",
    "a:@!$&'()*,;=",
    "...",
)
PIECES = (
    "a=1",
    "A=2",
    "a-=1",
    "a/=3",
    "a-b=2",
    "b=2+3",
    "b%20c=%7e",
    "flag",
    "=v",
    "x=%2F%26%3D",
    "%E4%B8%AD=%E6%96%87",
    "Action=chat",
    "",
)
HOSTS = ("127.0.0.1:8000", "maas.example.com", "h:80", "h:443", "h:8443", "[::1]:443", "[::1]:8000", "h:", "::443", "")
HEADERS = ("content-type", "x-tt-logid", "x-security-token", "accept", "user-agent", "content-md5", "x-sdk-request")
VALUES = ("application/json", "", "attempt=1; max=4", "a  b", " padded\t", "\xe4\xb8\xad", "STS2abc==", "0")
SPECIAL = (
    *("20240703T064826z", "20240230T000000Z", "20240703T246060Z", "00000101T000000Z", "-5", "0", "01", "99999999999"),
    *("UNSIGNED-PAYLOAD", hashlib.sha256(b"{}").hexdigest(), hashlib.sha256(b"").hexdigest(), "h", "h:80"),
)
OCTETS = "aA0 zZ/;,=%+&?.:-_~\t\xe4\x80\"'`HTX"

Item = TypeVar("Item")


class Dice:
    """SplitMix64: the same numbers on every machine and version."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, bound: int) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) % 2**64
        mixed = (self._state ^ (self._state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        return (mixed ^ (mixed >> 31)) % bound

    def one_of(self, items: Sequence[Item]) -> Item:
        return items[self.below(len(items))]

    def some_of(self, items: Sequence[Item], most: int) -> list[Item]:
        return [self.one_of(items) for _ in range(self.below(most + 1))]

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent


def good(dice: Dice) -> Wire:
    """A request with anything in it that the scheme has a rule for, rightly signed."""
    body = dice.one_of((b"", b"{}", b'{"a": 1}', b"\x00\xff"))
    stamp = dice.one_of(DATES)
    names = sorted(set(dice.some_of(HEADERS, 4)))
    headers = [(name, dice.one_of(VALUES)) for name in names]
    headers += [("host", dice.one_of(HOSTS)), ("x-date", stamp)]
    if dice.chance(80):
        hashed = b"" if body == b"{}" and dice.chance(30) else body
        headers.append(("x-content-sha256", hashlib.sha256(hashed).hexdigest()))
    if dice.chance(10):
        headers.append(("x-expires", dice.one_of(("1", "60", "900", "86400"))))
    path = "".join(f"/{segment}" for segment in dice.some_of(SEGMENTS, 5)) + dice.one_of(("", "/"))
    query = "&".join(sorted(set(dice.some_of(PIECES, 4)), key=lambda piece: dice.below(1000)))
    wire = Wire(dice.one_of(("POST", "GET")), path, query, headers, body)
    optional = [name for name, _ in headers if name not in ("host", "x-date") and dice.chance(80)]
    sign(wire, sorted({"host", "x-date", *optional}), dice.one_of(("cn-beijing", "Region")))
    return wire


def sign(wire: Wire, names: list[str], region: str) -> None:
    value = authorize(wire, names, "AKLTtest", SECRET, region, "ml_maas")
    wire.headers.append(("authorization", value))


def edited(text: str, dice: Dice) -> str:
    """One character put in, taken out, or replaced; or the case swapped, or a percent-escape made of one."""
    at = dice.below(len(text) + 1)
    front, one, back = text[:at], text[at : at + 1], text[at + 1 :]
    other = dice.one_of(OCTETS)
    escaped = "".join(f"%{ord(c):02x}" for c in one)
    return front + dice.one_of((other + one, "", other, one.swapcase(), escaped)) + back


def edit_path(wire: Wire, dice: Dice) -> None:
    wire.path = edited(wire.path, dice)


def edit_query(wire: Wire, dice: Dice) -> None:
    wire.query = edited(wire.query, dice)


def splice_path(wire: Wire, dice: Dice) -> None:
    wire.path += dice.one_of(
        ("/", "//", "/.", "/..", "/%2e%2E", "/%2F", "/%ff", "/%", "/%C0%AF", "\xe4", "/%00", "/a%")
    )


def splice_query(wire: Wire, dice: Dice) -> None:
    more = dice.one_of(
        ("&", "&a=9", "&%61=1", "&q=%ff", "&q=%g0", "&X-Signature=0", "&x-algorithm", "&c=\xe4", "&a-%3d", "&&")
    )
    wire.query += more


def shuffle_query(wire: Wire, dice: Dice) -> None:
    wire.query = "&".join(sorted(wire.query.split("&"), key=lambda piece: dice.below(1000)))


def edit_authorization(wire: Wire, dice: Dice) -> None:
    replace(wire, "authorization", edited(first(wire, "authorization"), dice))


def edit_authorization_part(wire: Wire, dice: Dice) -> None:
    old, new = dice.one_of((
        ("HMAC-SHA256", "AWS4-HMAC-SHA256"), ("HMAC-SHA256 ", "HMAC-SHA256  "), (", ", ","), (", ", ",  "),
        (", ", " ,"), ("/request", "/aws4_request"), ("/request", "//request"), ("x-date", "x-date;x-else"),
        ("host;", ""), ("x-date", "X-Date"), (";x-date", ""), ("host", "host;host"),
        ("ml_maas", "ark"), ("ml_maas", "iam"), ("AKLTtest", ""), ("/2", "/3"),
        ("x-date", "x-date;"), ("Signature=", "Signature=0"), ("HMAC-SHA256", "Bearer"), ("cn-beijing", "cn-shanghai"),
    ))  # fmt: skip
    replace(wire, "authorization", first(wire, "authorization").replace(old, new))


def edit_value(wire: Wire, dice: Dice) -> None:
    name = dice.one_of(wire.headers)[0]
    replace(wire, name, edited(first(wire, name), dice))


def set_value(wire: Wire, dice: Dice) -> None:
    name = dice.one_of(("x-date", "x-expires", "x-content-sha256", "host", *HEADERS))
    replace(wire, name, dice.one_of((*SPECIAL, *VALUES, *DATES)))


def pad_value(wire: Wire, dice: Dice) -> None:
    name, value = dice.one_of(wire.headers)
    replace(wire, name, dice.one_of((" ", "\t", "\x0b", "\xa0", "")) + value + dice.one_of((" ", "\t ", "\x00", "")))


def drop_header(wire: Wire, dice: Dice) -> None:
    wire.headers.pop(dice.below(len(wire.headers)))


def add_header(wire: Wire, dice: Dice) -> None:
    name = dice.one_of((*HEADERS, "x-expires", "x-content-sha256", "authorization", "x-date", "host"))
    wire.headers.append((name, dice.one_of((*VALUES, "60", "0" * 64))))


def double_header(wire: Wire, dice: Dice) -> None:
    wire.headers.insert(dice.below(len(wire.headers)), dice.one_of(wire.headers))


def shuffle_headers(wire: Wire, dice: Dice) -> None:
    wire.headers.sort(key=lambda field: dice.below(1000))


def change_body(wire: Wire, dice: Dice) -> None:
    wire.body = dice.one_of((b"", b"{}", wire.body + b" ", b"{}\n"))


def change_method(wire: Wire, dice: Dice) -> None:
    wire.method = dice.one_of(("GET", "POST", "post", "PUT"))


MUTATIONS: tuple[Callable[[Wire, Dice], None], ...] = (
    edit_path, edit_query, splice_path, splice_query, shuffle_query, edit_authorization, edit_authorization_part,
    edit_value, set_value, pad_value, drop_header, add_header, double_header, shuffle_headers, change_body,
    change_method,
)  # fmt: skip


def first(wire: Wire, name: str) -> str:
    return next(iter(wire.all(name)), "")


def replace(wire: Wire, name: str, value: str) -> None:
    wire.headers = [(key, value if key == name else old) for key, old in wire.headers]


def rules(dice: Dice) -> Rules:
    return Rules(
        regions=dice.one_of(((), ("cn-beijing", "Region"), ("cn-beijing", "Region"), ("cn-beijing",))),
        services=dice.one_of(((), ("ml_maas",), ("ml_maas", "ark"))),
        skew_s=dice.one_of((900, 900, 300)),
        public_hosts=dice.one_of(((), (), ("maas.example.com", "h:443"), ("127.0.0.1:8000",))),
        host_needed=dice.chance(75),
    )


def test_two_verifiers_agree_on_every_request() -> None:
    dice, verdicts, mutations = Dice(SEED), Counter[str](), 0
    for number in range(CASES):
        wire = good(dice)
        now_s = seconds_since_1970(wire.one("x-date")) + dice.one_of(
            (0, 1, 2, 60, 300, 301, 899, 900, 901, -300, -900, -901, 10**9)
        )
        now_s = now_s if dice.chance(20) else seconds_since_1970(wire.one("x-date"))
        for _ in range(dice.one_of((0, 1, 1, 1, 2, 3))):
            dice.one_of(MUTATIONS)(wire, dice)
            mutations += 1
        policy = rules(dice)
        ours, theirs = judged(wire, SECRET, policy, now_s), judge(wire, SECRET, policy, now_s)
        assert ours == theirs, f"case {number} of seed {SEED}: {ours} against {theirs}: {wire} {policy} {now_s}"
        verdicts[ours] += 1
    print(f"{CASES} requests, {mutations} mutations: {dict(verdicts)}")
    every = {"accepted", "none", "malformed", "expired", "bad_request", "mismatch"}
    assert CASES < 1000 or {kind for kind, count in verdicts.items() if count > CASES // 200} == every
