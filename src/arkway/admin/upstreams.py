"""Upstreams: other model servers that Arkway asks on its callers' behalf. They are the operator's.

A secret goes in and never comes out again: what may be shown is whether there is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from typing import Any, Literal, Protocol, Self
from urllib.parse import urlsplit

import msgspec

from arkway.admin.audit import Acting
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import InvalidField
from arkway.core.roles import HOST_ACCOUNT
from arkway.core.upstream import Credential, Upstream

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
REGION_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
URL_MAX_CHARACTERS = 1024
SECRET_MAX_CHARACTERS = 4096
PATH_MAX_CHARACTERS = 1024
CONNECTIONS_MAX = 65_536
SECONDS_MIN, SECONDS_MAX = 0.05, 3600.0

_NAME, _REGION = re.compile(NAME_PATTERN), re.compile(REGION_PATTERN)
# What may stand in a header's value: no blanks, so that a pasted line's end is noticed.
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?\Z")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*\Z")


class UpstreamInfo(Upstream, frozen=True, kw_only=True):
    """What may be shown of an upstream; ``auth`` says whether it has a secret. Times are epoch seconds."""

    access_key_id: str = ""
    created_at: int = 0
    updated_at: int = 0


class UpstreamChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to become of an upstream; None stays as it is. A ``Credential()`` takes the secret away."""

    base_url: str | None = None
    kind: Literal["openai", "ark"] | None = None
    region: str | None = None
    connections_max: int | None = None
    connect_s: float | None = None
    first_byte_s: float | None = None
    idle_s: float | None = None
    ca_file: str | None = None
    credential: Credential | None = None


class UpstreamTable(Protocol):
    """Where upstreams are kept; it encrypts the secrets."""

    def under(self, entry: Entry) -> Self: ...

    def add(self, row: Mapping[str, Any], secret: str) -> bool: ...

    def update(self, row: Mapping[str, Any], secret: str | None) -> bool: ...

    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    def has_secret(self, name: str, secret: str) -> bool: ...

    def remove(self, name: str) -> bool: ...


class Upstreams:
    """The commands on upstreams."""

    def __init__(self, table: UpstreamTable, actor: Actor = SERVER) -> None:
        self._table = table
        self._acting = Acting(HOST_ACCOUNT, "", actor)

    def add(self, upstream: Upstream, credential: Credential, now_s: int) -> UpstreamInfo:
        """A new upstream; its ``auth`` is what the credential is. Raises InvalidField, Misconfigured."""
        told = {**msgspec.structs.asdict(upstream), "auth": auth_of(credential), "base_url": plain(upstream.base_url)}
        info = UpstreamInfo(**told, access_key_id=credential.access_key_id, created_at=now_s, updated_at=now_s)
        check(info)
        check_credential(info, credential)
        table = self._table.under(self._acting.entry("upstreams.create", info.name, **_detail(info)))
        if not table.add(msgspec.structs.asdict(info), secret_of(credential)):
            raise InvalidField(f"there is an upstream `{info.name}` already; choose another name", "name")
        return info

    def update(self, name: str, change: UpstreamChange, now_s: int) -> UpstreamInfo:
        """The upstream as it is then; calls under way go on as they began. Raises InvalidField, Misconfigured."""
        before = self.show(name)
        new = {field: value for field in change.__struct_fields__ if (value := getattr(change, field)) is not None}
        credential: Credential | None = new.pop("credential", None)
        if credential is not None:
            new |= {"auth": auth_of(credential), "access_key_id": credential.access_key_id}
        if change.base_url is not None:
            new["base_url"] = plain(change.base_url)
        info = msgspec.structs.replace(before, **new, updated_at=now_s)
        check(info)
        check_credential(info, credential)
        told = {field: value for field, value in new.items() if value != getattr(before, field)}
        told |= {"secret": "another one"} if credential is not None else {}
        table = self._table.under(self._acting.entry("upstreams.update", name, **told))
        if not table.update(msgspec.structs.asdict(info), None if credential is None else secret_of(credential)):
            raise _unknown(name)
        return info

    def list(self) -> tuple[UpstreamInfo, ...]:
        """Every upstream, by name."""
        return tuple(msgspec.convert(row, UpstreamInfo) for row in self._table.rows())

    def show(self, name: str) -> UpstreamInfo:
        """Raises InvalidField when there is no such upstream."""
        found = next((info for info in self.list() if info.name == name), None)
        if found is None:
            raise _unknown(name)
        return found

    def has_secret(self, name: str, secret: str) -> bool:
        """Whether this is the upstream's secret."""
        return self._table.has_secret(name, secret)

    def remove(self, name: str) -> None:
        """Raises InvalidField when there is no such upstream, or a group has it as a member."""
        self.show(name)
        if not self._table.under(self._acting.entry("upstreams.remove", name)).remove(name):
            raise InvalidField(
                f"the upstream `{name}` answers for a group and stays; take it out of the group "
                "(`arkway groups list` shows all of them) or remove the group first",
                "name",
            )


def auth_of(credential: Credential) -> Literal["none", "key", "aksk"]:
    """What a credential is."""
    if credential.access_key_id or credential.secret_access_key:
        return "aksk"
    return "key" if credential.key else "none"


def secret_of(credential: Credential) -> str:
    """The part of a credential that nobody may see."""
    return credential.secret_access_key or credential.key


def plain(base_url: str) -> str:
    """The URL as it is kept: no slash at its end."""
    return base_url.strip().rstrip("/")


def check(info: UpstreamInfo) -> None:
    """Raises InvalidField for what no upstream can have."""
    if not _NAME.match(info.name):
        raise InvalidField(
            "an upstream's name has 1 to 63 of a-z, 0-9 and hyphens, and begins with a letter or digit", "name"
        )
    check_url(info.base_url)
    if not _REGION.match(info.region):
        raise InvalidField("a region is a name such as `cn-beijing`", "region")
    for field in ("connect_s", "first_byte_s", "idle_s"):
        value = getattr(info, field)
        if not (math.isfinite(value) and SECONDS_MIN <= value <= SECONDS_MAX):
            raise InvalidField(f"`{field}` is a number of seconds from {SECONDS_MIN:g} to {SECONDS_MAX:g}", field)
    if not 1 <= info.connections_max <= CONNECTIONS_MAX:
        raise InvalidField(f"`connections_max` is from 1 to {CONNECTIONS_MAX}", "connections_max")
    path = info.ca_file
    if path and not (path.startswith("/") and path.isprintable() and len(path) <= PATH_MAX_CHARACTERS):
        raise InvalidField("`ca_file` is the absolute path of a PEM file, or empty for the system's own", "ca_file")


def check_url(base_url: str) -> None:
    """Raises InvalidField; nothing of a URL with a password in it is repeated."""
    if len(base_url) > URL_MAX_CHARACTERS:
        raise InvalidField(f"the URL has more than {URL_MAX_CHARACTERS} characters", "base_url")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise InvalidField("the URL cannot be read; write one such as `http://127.0.0.1:8000/v1`", "base_url") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidField("a URL with a user or password in it is not taken; give the key by itself", "base_url")
    if "?" in base_url or "#" in base_url:
        raise InvalidField("the URL ends with its path: it takes no query and no fragment", "base_url")
    if parts.scheme not in ("http", "https") or not _is_host(parts.hostname or "") or port == 0:
        raise InvalidField(
            "the URL begins with http:// or https:// and a host, such as `http://127.0.0.1:8000/v1`", "base_url"
        )
    if not _PATH.match(parts.path):
        raise InvalidField("the URL's path has characters that have to be percent-encoded", "base_url")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise InvalidField("leave `/chat/completions` out: the URL ends where that begins", "base_url")


def _is_host(host: str) -> bool:
    """A name of DNS, or an address."""
    if ":" not in host:
        return bool(_HOST.match(host))
    try:
        return bool(IPv6Address(host)) and "%" not in host
    except ValueError:
        return False


def check_credential(upstream: Upstream, credential: Credential | None) -> None:
    """Raises InvalidField; ``credential`` None = the one that is there."""
    if upstream.auth == "aksk" and upstream.kind != "ark":
        raise InvalidField("an access key pair is for upstreams of the kind `ark`; others take an API key", "auth")
    if credential is None:
        return
    if auth_of(credential) == "aksk" and (credential.key or not all(_pair(credential))):
        raise InvalidField("an access key pair is an access key id and its secret, and no API key beside them", "key")
    for secret in filter(None, (credential.key, *_pair(credential))):
        if len(secret) > SECRET_MAX_CHARACTERS or not _TOKEN.match(secret):
            raise InvalidField(
                f"a key has at most {SECRET_MAX_CHARACTERS} printable ASCII characters and no blanks", "key"
            )


def _pair(credential: Credential) -> tuple[str, str]:
    return credential.access_key_id, credential.secret_access_key


def _detail(info: UpstreamInfo) -> dict[str, Any]:
    told = msgspec.structs.asdict(info)
    return {name: told[name] for name in ("base_url", "kind", "auth", "access_key_id")}


def _unknown(name: str) -> InvalidField:
    return InvalidField(f"there is no upstream `{name[:64]}`; `arkway upstreams list` shows all of them", "name")
