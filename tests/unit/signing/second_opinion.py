"""A second verifier and signer of Volc Signature V4, written from the description of the scheme alone.

It shares no code with ``arkway.signing`` and goes about everything differently (text instead of octets, loops instead
of regular expressions, HMAC and calendar by hand), so that a mistake is not made twice. Slow on purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
HEX = "0123456789abcdef"
TOKEN = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Verdict(Exception):
    """``kind`` is none, malformed, expired, bad_request or mismatch; nothing raised is accepted."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Rules(msgspec.Struct, frozen=True):
    regions: Sequence[str] = ()
    services: Sequence[str] = ()
    skew_s: int = 900
    public_hosts: Sequence[str] = ()
    host_needed: bool = True


class Wire(msgspec.Struct):
    """One request; header values are text, one character per octet (latin-1)."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> str:
        return self.all(name)[0].strip(" \t")


def judge(wire: Wire, secret: str, rules: Rules, now_s: int) -> str:
    """``accepted``, or the kind of refusal."""
    try:
        _judge(wire, secret, rules, now_s)
    except Verdict as verdict:
        return verdict.kind
    return "accepted"


def _judge(wire: Wire, secret: str, rules: Rules, now_s: int) -> None:
    credential, names, proof = parse_authorization(wire)
    date, region, service = check_credential(credential, rules)
    check_proof(proof)
    signed = check_names(names, rules)
    check_presence(wire, signed)
    stamp = wire.one("x-date")
    check_time(wire, stamp, date, rules, now_s)
    claimed = wire.one("x-content-sha256") if wire.all("x-content-sha256") else None
    if claimed is not None and (len(claimed) != 64 or any(c not in HEX for c in claimed)):
        raise Verdict("malformed")
    path, query = normal_path(wire.path), normal_query(wire.query)
    hashes = [hashlib.sha256(wire.body).hexdigest()]
    if wire.body == b"{}":
        hashes.append(hashlib.sha256(b"").hexdigest())
    if claimed is not None:
        hashes = [one for one in hashes if one == claimed]
    hosts = [None, *rules.public_hosts] if "host" in signed else [None]
    for host in hosts:
        for payload in hashes:
            text = canonical(wire, path, query, signed, payload, host)
            if prove(secret, stamp, region, service, text) == proof:
                return
    raise Verdict("mismatch")


def parse_authorization(wire: Wire) -> tuple[str, str, str]:
    """Credential, SignedHeaders and Signature as written."""
    for piece in wire.query.split("&"):
        name = piece.split("=")[0].lower()
        if name in ("x-algorithm", "x-credential", "x-signature", "x-signedqueries", "x-amz-signature"):
            raise Verdict("malformed")
    sent = wire.all("authorization")
    if not sent:
        raise Verdict("none")
    if len(sent) > 1 or len(sent[0]) > 4096 or any(ord(c) > 127 for c in sent[0]):
        raise Verdict("malformed")
    text = sent[0].strip(" \t")
    scheme, rest = text[:11], text[11:]
    if scheme != "HMAC-SHA256" or not rest.startswith(" "):
        raise Verdict("malformed")
    parts = rest.lstrip(" ").split(",")
    if len(parts) != 3:
        raise Verdict("malformed")
    values = []
    for index, (part, label) in enumerate(zip(parts, ("Credential=", "SignedHeaders=", "Signature="), strict=True)):
        stripped = part.lstrip(" ") if index else part
        if not stripped.startswith(label) or " " in stripped:
            raise Verdict("malformed")
        values.append(stripped[len(label) :])
    return values[0], values[1], values[2]


def check_credential(credential: str, rules: Rules) -> tuple[str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "request":
        raise Verdict("malformed")
    key, date, region, service, _ = parts
    letters = UNRESERVED.replace("~", "")
    if not 1 <= len(key) <= 128 or any(c not in letters + "=+" for c in key):
        raise Verdict("malformed")
    if len(date) != 8 or any(c not in "0123456789" for c in date):
        raise Verdict("malformed")
    for name, allowed in ((region, rules.regions), (service, rules.services)):
        if not 1 <= len(name) <= 64 or any(c not in letters.replace(".", "") for c in name):
            raise Verdict("malformed")
        if allowed and name not in allowed:
            raise Verdict("malformed")
    return date, region, service


def check_proof(proof: str) -> None:
    if len(proof) != 64 or any(c not in HEX for c in proof):
        raise Verdict("malformed")


def check_names(joined: str, rules: Rules) -> list[str]:
    names = joined.split(";")
    if any(not name or any(c not in TOKEN for c in name) for name in names):
        raise Verdict("malformed")
    if len(names) > 64 or sorted(set(names)) != names:
        raise Verdict("malformed")
    if "x-date" not in names or (rules.host_needed and "host" not in names):
        raise Verdict("malformed")
    return names


def check_presence(wire: Wire, names: list[str]) -> None:
    for name in [*names, "x-content-sha256", "x-expires"]:
        if len(wire.all(name)) > 1:
            raise Verdict("bad_request")
    if any(not wire.all(name) for name in names):
        raise Verdict("malformed")


def check_time(wire: Wire, stamp: str, date: str, rules: Rules, now_s: int) -> None:
    if len(stamp) != 16 or stamp[8] != "T" or stamp[15] != "Z" or stamp[:8] != date:
        raise Verdict("malformed")
    if any(c not in "0123456789" for c in stamp[:8] + stamp[9:15]):
        raise Verdict("malformed")
    moment_s = seconds_since_1970(stamp)
    life_s = rules.skew_s
    if wire.all("x-expires"):
        text = wire.one("x-expires")
        if not 1 <= len(text) <= 10 or any(c not in "0123456789" for c in text) or text[0] == "0":
            raise Verdict("malformed")
        life_s = min(life_s, int(text))
    age_s = now_s - moment_s
    if age_s > life_s or age_s < -rules.skew_s:
        raise Verdict("expired")


def seconds_since_1970(stamp: str) -> int:
    """By counting days, a year and a month at a time."""
    year, month, day = int(stamp[0:4]), int(stamp[4:6]), int(stamp[6:8])
    hour, minute, second = int(stamp[9:11]), int(stamp[11:13]), int(stamp[13:15])
    if not (year >= 1 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        raise Verdict("malformed")
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= MONTH_DAYS[month - 1] + (1 if leap and month == 2 else 0):
        raise Verdict("malformed")
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 - 719162
    days += sum(MONTH_DAYS[: month - 1]) + (1 if leap and month > 2 else 0) + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def decode(text: str) -> str:
    octets = bytearray()
    at = 0
    while at < len(text):
        if text[at] == "%":
            pair = text[at + 1 : at + 3].lower()
            if len(pair) != 2 or pair[0] not in HEX or pair[1] not in HEX:
                raise Verdict("bad_request")
            octets.append(HEX.index(pair[0]) * 16 + HEX.index(pair[1]))
            at += 3
        elif ord(text[at]) > 127:
            raise Verdict("bad_request")
        else:
            octets.append(ord(text[at]))
            at += 1
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Verdict("bad_request") from None


def encode(text: str) -> str:
    return "".join(
        chr(octet) if chr(octet) in UNRESERVED else "%" + HEX[octet >> 4].upper() + HEX[octet & 15].upper()
        for octet in text.encode("utf-8")
    )


def normal_path(raw: str) -> str:
    if raw == "":
        return "/"
    if not raw.startswith("/"):
        raise Verdict("bad_request")
    pieces = [decode(piece) for piece in raw[1:].split("/")]
    for index, piece in enumerate(pieces):
        if "/" in piece or piece == "." or piece == "..":
            raise Verdict("bad_request")
        if piece == "" and index != len(pieces) - 1:
            raise Verdict("bad_request")
    return "/" + "/".join(encode(piece) for piece in pieces)


def normal_query(raw: str) -> str:
    found: list[tuple[str, str]] = []
    for piece in raw.split("&"):
        if piece == "":
            continue
        at = piece.find("=")
        name, value = (piece, "") if at < 0 else (piece[:at], piece[at + 1 :])
        found.append((decode(name.replace("+", "%20")), decode(value.replace("+", "%20"))))
    found.sort(key=lambda pair: pair[0].encode("utf-8"))
    if any(one[0] == other[0] for one, other in zip(found, found[1:], strict=False)):  # noqa: RUF007
        raise Verdict("bad_request")
    return "&".join(encode(name) + "=" + encode(value) for name, value in found)


def without_default_port(host: str) -> str:
    for ending in (":80", ":443"):
        if host.endswith(ending):
            rest = host[: -len(ending)]
            if ":" not in rest or rest.endswith("]"):
                return rest
    return host


def canonical(wire: Wire, path: str, query: str, signed: list[str], payload: str, host: str | None) -> str:
    """The canonical request as text (latin-1); ``host`` replaces the received one."""
    text = wire.method + "\n" + path + "\n" + query + "\n"
    for name in signed:
        value = wire.one(name)
        if name == "host":
            value = without_default_port(value if host is None else host)
        text += name + ":" + value + "\n"
    return text + "\n" + ";".join(signed) + "\n" + payload


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    block = hashlib.sha256(key).digest() if len(key) > 64 else key
    block = block.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(octet ^ 0x36 for octet in block) + message).digest()
    return hashlib.sha256(bytes(octet ^ 0x5C for octet in block) + inner).digest()


def to_sign(stamp: str, region: str, service: str, text: str) -> str:
    digest = hashlib.sha256(text.encode("latin-1")).hexdigest()
    return f"HMAC-SHA256\n{stamp}\n{stamp[:8]}/{region}/{service}/request\n{digest}"


def prove(secret: str, stamp: str, region: str, service: str, text: str) -> str:
    day_key = hmac_sha256(secret.encode(), stamp[:8].encode())
    region_key = hmac_sha256(day_key, region.encode())
    service_key = hmac_sha256(region_key, service.encode())
    key = hmac_sha256(service_key, b"request")
    return hmac_sha256(key, to_sign(stamp, region, service, text).encode()).hex()


def authorize(wire: Wire, signed: list[str], key_id: str, secret: str, region: str, service: str) -> str:
    """The Authorization value for a request that already has every header it signs."""
    stamp = wire.one("x-date")
    payload = wire.one("x-content-sha256") if wire.all("x-content-sha256") else hashlib.sha256(wire.body).hexdigest()
    text = canonical(wire, normal_path(wire.path), normal_query(wire.query), signed, payload, None)
    proof = prove(secret, stamp, region, service, text)
    scope = f"{key_id}/{stamp[:8]}/{region}/{service}/request"
    return f"HMAC-SHA256 Credential={scope}, SignedHeaders={';'.join(signed)}, Signature={proof}"
