"""Access key pairs: made, listed, revoked. The secret is handed out once, to whoever makes the pair."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import msgspec
from msgspec import UNSET, UnsetType

from arkway.admin.audit import Acting
from arkway.admin.keys import changes, check_role
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.caller import Role
from arkway.core.errors import InvalidField

PERMANENT = "AKLT"
TEMPORARY = "AKTP"
SESSION = "STS2"
LETTERS = 43  # of 62: 256 bits
NAME_MAX_CHARACTERS = 128

_ALPHABET = string.ascii_letters + string.digits


class AccessKeyInfo(msgspec.Struct, frozen=True):
    """What may be shown of a pair. ``endpoints`` empty = all of the project; times are epoch seconds."""

    id: str
    account: str
    project: str
    name: str
    endpoints: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    role: Role = "owner"

    @property
    def temporary(self) -> bool:
        """Whether a session token belongs to it."""
        return self.id.startswith(TEMPORARY)

    def status(self, now_s: int) -> Literal["active", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now_s else "active"


class NewAccessKey(msgspec.Struct, frozen=True):
    """A pair as its maker sees it, this once. ``session_token`` empty = a permanent pair."""

    info: AccessKeyInfo
    secret: str
    session_token: str = ""

    def __repr__(self) -> str:
        return f"NewAccessKey({self.info.id!r})"


class AccessKeyTable(Protocol):
    """Where pairs are kept; it encrypts the secrets."""

    def under(self, entry: Entry) -> Self: ...

    def insert(self, row: Mapping[str, Any], secret: str, session_token: str = "") -> None: ...

    def rows(self, account: str, project: str) -> Sequence[Mapping[str, Any]]: ...

    def revoke(self, account: str, project: str, access_key_id: str, now_s: int) -> bool: ...

    def update(
        self,
        account: str,
        project: str,
        access_key_id: str,
        role: str | UnsetType,
        endpoints: Sequence[str] | UnsetType,
        expires_at: int | UnsetType | None,
    ) -> bool: ...


class AccessKeys:
    """The commands on the access key pairs of one project."""

    def __init__(
        self, table: AccessKeyTable, account: str = "default", project: str = "default", actor: Actor = SERVER
    ) -> None:
        self._table = table
        self._account, self._project = account, project
        self._acting = Acting(account, project, actor)

    def create(
        self,
        name: str,
        now_s: int,
        endpoints: Sequence[str] = (),
        expires_at: int | None = None,
        *,
        temporary: bool = False,
        role: Role = "owner",
    ) -> NewAccessKey:
        """A new pair; a temporary one has a session token and needs an expiry. The audit log is written before.

        Raises InvalidField for an unusable name, role or expiry, Misconfigured when the key ring cannot encrypt.
        """
        check_role(role, self._account)
        if not name or len(name) > NAME_MAX_CHARACTERS or not name.isprintable():
            raise InvalidField(f"an access key's name has 1 to {NAME_MAX_CHARACTERS} printable characters", "name")
        if expires_at is not None and expires_at <= now_s:
            raise InvalidField("the access key would have expired before it is made; choose a later time", "expires_at")
        if temporary and expires_at is None:
            raise InvalidField("a temporary access key needs a time at which it expires", "expires_at")
        info = AccessKeyInfo(
            id=_letters(TEMPORARY if temporary else PERMANENT, LETTERS),
            account=self._account,
            project=self._project,
            name=name,
            endpoints=tuple(dict.fromkeys(endpoints)),
            created_at=now_s,
            expires_at=expires_at,
            role=role,
        )
        made = NewAccessKey(info, new_secret(), _letters(SESSION, 2 * LETTERS) if temporary else "")
        entry = self._acting.entry(
            "access_keys.create", info.id, name=name, role=role, endpoints=list(info.endpoints), expires_at=expires_at
        )
        self._table.under(entry).insert(msgspec.structs.asdict(info), made.secret, made.session_token)
        return made

    def list(self) -> tuple[AccessKeyInfo, ...]:
        """Every pair of the project, revoked and expired ones too, oldest first."""
        return tuple(msgspec.convert(row, AccessKeyInfo) for row in self._table.rows(self._account, self._project))

    def update(
        self,
        access_key_id: str,
        role: Role | UnsetType = UNSET,
        endpoints: Sequence[str] | UnsetType = UNSET,
        expires_at: int | UnsetType | None = UNSET,
    ) -> None:
        """What a pair may do, to which endpoints and until when; what is UNSET stays, and so does its secret.

        Effective in running servers within two seconds. Raises InvalidField for an unusable role, for a temporary pair
        that would never expire, and when there is no such pair or it was revoked.
        """
        if role is not UNSET:
            check_role(role, self._account)
        if expires_at is None and access_key_id.startswith(TEMPORARY):
            raise InvalidField("a temporary access key needs a time at which it expires", "expires_at")
        only = endpoints if endpoints is UNSET else tuple(dict.fromkeys(endpoints))
        detail = changes(role, only, expires_at)
        entry = Entry(self._account, self._project, self._acting.actor, "access_keys.update", access_key_id, detail)
        if not self._table.under(entry).update(self._account, self._project, access_key_id, role, only, expires_at):
            raise InvalidField(
                f"there is no access key `{access_key_id[:64]}` in use; `arkway aksk list` shows all of them", "id"
            )

    def revoke(self, access_key_id: str, now_s: int) -> None:
        """Effective in running servers within two seconds. Raises InvalidField when there is no such pair."""
        table = self._table.under(self._acting.entry("access_keys.revoke", access_key_id))
        if not table.revoke(self._account, self._project, access_key_id, now_s):
            raise InvalidField(
                f"there is no access key `{access_key_id[:64]}`; `arkway aksk list` shows all of them", "id"
            )


def new_secret() -> str:
    """The vendor's form: base64 of 43 letters and digits, 60 characters that end with ``==``; 256 random bits."""
    return base64.b64encode(_letters("", LETTERS).encode()).decode()


def _letters(prefix: str, count: int) -> str:
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(count))
