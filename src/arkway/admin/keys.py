"""API keys: made, listed, revoked. The secret exists once, in the hand of whoever made the key."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import msgspec
from msgspec import UNSET, UnsetType

from arkway.admin.audit import Acting
from arkway.core import ids
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.caller import Role
from arkway.core.errors import InvalidField
from arkway.core.roles import HOST_ACCOUNT, ROLES

PREFIX = "ark-"
SECRET_LETTERS = 43  # of 62: 256 bits
NAME_MAX_CHARACTERS = 128

_ALPHABET = string.ascii_letters + string.digits


class KeyInfo(msgspec.Struct, frozen=True):
    """What may be shown of a key. ``endpoints`` empty = all of the project; times are epoch seconds."""

    id: str
    account: str
    project: str
    name: str
    last4: str
    endpoints: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    role: Role = "inference"

    def status(self, now_s: int) -> Literal["active", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now_s else "active"


class KeyTable(Protocol):
    """Where keys are kept."""

    def under(self, entry: Entry) -> Self: ...

    def insert(self, row: Mapping[str, Any], digest: bytes) -> None: ...

    def rows(self, account: str, project: str) -> Sequence[Mapping[str, Any]]: ...

    def revoke(self, account: str, project: str, key_id: str, now_s: int) -> bool: ...

    def update(
        self,
        account: str,
        project: str,
        key_id: str,
        role: str | UnsetType,
        endpoints: Sequence[str] | UnsetType,
        expires_at: int | UnsetType | None,
    ) -> bool: ...


class Keys:
    """The commands on the keys of one project. ``digest`` turns a secret into what is stored of it."""

    def __init__(
        self,
        table: KeyTable,
        digest: Callable[[str], bytes],
        account: str = "default",
        project: str = "default",
        actor: Actor = SERVER,
    ) -> None:
        self._table, self._digest = table, digest
        self._account, self._project = account, project
        self._acting = Acting(account, project, actor)

    def create(
        self,
        name: str,
        now_s: int,
        endpoints: Sequence[str] = (),
        expires_at: int | None = None,
        *,
        role: Role = "inference",
        action: str = "keys.create",
    ) -> tuple[KeyInfo, str]:
        """A new key and its secret; ``action`` is what the audit log calls it, which is written before.

        Raises InvalidField for an unusable name or role, or an expiry that has passed.
        """
        check_role(role, self._account)
        if not name or len(name) > NAME_MAX_CHARACTERS or not name.isprintable():
            raise InvalidField(f"a key's name has 1 to {NAME_MAX_CHARACTERS} printable characters", "name")
        if expires_at is not None and expires_at <= now_s:
            raise InvalidField("the key would have expired before it is made; choose a later time", "expires_at")
        secret = new_secret()
        key = KeyInfo(
            id=ids.key_id(secrets.token_bytes(16)),
            account=self._account,
            project=self._project,
            name=name,
            last4=secret[-4:],
            endpoints=tuple(dict.fromkeys(endpoints)),
            created_at=now_s,
            expires_at=expires_at,
            role=role,
        )
        entry = self._acting.entry(
            action, key.id, name=name, role=role, endpoints=list(key.endpoints), expires_at=expires_at
        )
        self._table.under(entry).insert(msgspec.structs.asdict(key), self._digest(secret))
        return key, secret

    def list(self) -> tuple[KeyInfo, ...]:
        """Every key of the project, revoked and expired ones too, oldest first."""
        return tuple(msgspec.convert(row, KeyInfo) for row in self._table.rows(self._account, self._project))

    def update(
        self,
        key_id: str,
        role: Role | UnsetType = UNSET,
        endpoints: Sequence[str] | UnsetType = UNSET,
        expires_at: int | UnsetType | None = UNSET,
    ) -> None:
        """What a key may do, to which endpoints and until when; what is UNSET stays, and so does its secret.

        Effective in running servers within two seconds. Raises InvalidField for an unusable role, and when there is no
        such key or it was revoked.
        """
        if role is not UNSET:
            check_role(role, self._account)
        only = endpoints if endpoints is UNSET else tuple(dict.fromkeys(endpoints))
        detail = changes(role, only, expires_at)
        entry = Entry(self._account, self._project, self._acting.actor, "keys.update", key_id, detail)
        if not self._table.under(entry).update(self._account, self._project, key_id, role, only, expires_at):
            raise InvalidField(
                f"there is no API key `{key_id[:64]}` in use; `arkway keys list` shows all of them", "id"
            )

    def revoke(self, key_id: str, now_s: int) -> None:
        """Effective in running servers within two seconds. Raises InvalidField when there is no such key."""
        table = self._table.under(self._acting.entry("keys.revoke", key_id))
        if not table.revoke(self._account, self._project, key_id, now_s):
            raise InvalidField(f"there is no API key `{key_id[:64]}`; `arkway keys list` shows all of them", "id")


def changes(
    role: str | UnsetType, endpoints: Sequence[str] | UnsetType, expires_at: int | UnsetType | None
) -> dict[str, Any]:
    """What the audit log is told of a changed key or pair: also that it has no expiry, or no endpoints of its own."""
    detail = {"role": role, "endpoints": endpoints, "expires_at": expires_at}
    found = {name: value for name, value in detail.items() if value is not UNSET}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def check_role(role: str, account: str) -> None:
    """Raises InvalidField for what is no role, and for the operator's outside the operator's own account."""
    if role not in ROLES:
        raise InvalidField(f"the role is one of {', '.join(ROLES)}", "role")
    if role == "operator" and account != HOST_ACCOUNT:
        raise InvalidField(f"only keys of the account `{HOST_ACCOUNT}` can have the role operator", "role")


def new_secret() -> str:
    """``ark-`` and 43 letters and digits from the system's random source."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_LETTERS))
