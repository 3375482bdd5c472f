"""Which role may do what: ONE table, read by the road of a call, the control plane and the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

import msgspec

from arkway.core.caller import Caller, Role
from arkway.core.errors import Forbidden

ROLES: tuple[Role, ...] = get_args(Role)
HOST_ACCOUNT = "default"
"""The operator's own account: the only one whose keys may have the role operator."""

MEANINGS: Mapping[Role, str] = MappingProxyType(
    {
        "inference": "Calls models, and nothing else: what an API key has unless it was made with another role.",
        "viewer": "Sees what is there and what was used; calls no model and changes nothing.",
        "developer": "Calls models, and makes and changes endpoints, bots and collections.",
        "owner": "Everything within its account; what an access key has unless it was made with another role.",
        "operator": "Everything on this host, in every account; only keys of the account `default` have it.",
    }
)


class Permission(msgspec.Struct, frozen=True):
    """Who may do one thing. ``what`` completes "to …"; ``scoped``: keys limited to some endpoints may, on these."""

    what: str
    roles: tuple[Role, ...]
    scoped: bool = False


_CALLING: tuple[Role, ...] = ("inference", "developer", "owner", "operator")
_SEEING: tuple[Role, ...] = ("viewer", "developer", "owner", "operator")
_DEVELOPING: tuple[Role, ...] = ("developer", "owner", "operator")
_OWNING: tuple[Role, ...] = ("owner", "operator")
_OPERATING: tuple[Role, ...] = ("operator",)

PERMISSIONS: Mapping[str, Permission] = MappingProxyType(
    {
        "models.call": Permission("call models", _CALLING, scoped=True),
        "models.list": Permission("list models", ROLES, scoped=True),
        "endpoints.read": Permission("see endpoints", _SEEING, scoped=True),
        "endpoints.create": Permission("make endpoints", _DEVELOPING),
        "endpoints.update": Permission("change endpoints", _DEVELOPING, scoped=True),
        "endpoints.start": Permission("start endpoints", _DEVELOPING, scoped=True),
        "endpoints.stop": Permission("stop endpoints", _DEVELOPING, scoped=True),
        "endpoints.delete": Permission("delete endpoints", _DEVELOPING, scoped=True),
        "endpoints.get_api_key": Permission("get temporary API keys", _DEVELOPING, scoped=True),
        "endpoints.certificate": Permission("get certificates of endpoints", _DEVELOPING, scoped=True),
        "bots.read": Permission("see bots", _SEEING, scoped=True),
        "bots.create": Permission("make bots", _DEVELOPING),
        "bots.update": Permission("change bots", _DEVELOPING, scoped=True),
        "bots.start": Permission("start bots", _DEVELOPING, scoped=True),
        "bots.stop": Permission("stop bots", _DEVELOPING, scoped=True),
        "bots.delete": Permission("delete bots", _DEVELOPING, scoped=True),
        "collections.read": Permission("see collections of documents", _SEEING),
        "collections.search": Permission("search collections", _SEEING),
        "collections.create": Permission("make collections", _DEVELOPING),
        "collections.update": Permission("change collections", _DEVELOPING),
        "collections.reindex": Permission("index collections anew", _DEVELOPING),
        "collections.delete": Permission("delete collections", _DEVELOPING),
        "documents.read": Permission("see documents", _SEEING),
        "documents.upload": Permission("upload documents", _DEVELOPING),
        "documents.delete": Permission("delete documents", _DEVELOPING),
        "jobs.read": Permission("see uploads", _SEEING),
        "jobs.cancel": Permission("call uploads off", _DEVELOPING),
        "keys.read": Permission("see API keys", _SEEING),
        "keys.create": Permission("make API keys", _OWNING),
        "keys.update": Permission("change API keys", _OWNING),
        "keys.revoke": Permission("revoke API keys", _OWNING),
        "access_keys.read": Permission("see access keys", _SEEING),
        "access_keys.create": Permission("make access keys", _OWNING),
        "access_keys.update": Permission("change access keys", _OWNING),
        "access_keys.revoke": Permission("revoke access keys", _OWNING),
        "usage.read": Permission("see usage", _SEEING),
        "models.read": Permission("see installed models", _SEEING),
        "aliases.read": Permission("see aliases", _SEEING),
        "prices.read": Permission("see prices", _SEEING),
        "limits.read": Permission("see limits", _SEEING),
        "limits.set": Permission("set limits", _OWNING),
        "limits.remove": Permission("remove limits", _OWNING),
        "limits.of_account": Permission("change what a whole account may use", _OPERATING),
        "projects.read": Permission("see projects", _SEEING),
        "projects.create": Permission("make projects", _OWNING),
        "projects.rename": Permission("rename projects", _OWNING),
        "projects.delete": Permission("delete projects", _OWNING),
        "audit.read": Permission("read the audit log", _OWNING),
        "accounts.read": Permission("see accounts", _OPERATING),
        "accounts.create": Permission("make accounts", _OPERATING),
        "accounts.rename": Permission("rename accounts", _OPERATING),
        "accounts.suspend": Permission("suspend accounts", _OPERATING),
        "accounts.resume": Permission("resume accounts", _OPERATING),
        "aliases.set": Permission("set aliases", _OPERATING),
        "aliases.remove": Permission("remove aliases", _OPERATING),
        "prices.set": Permission("set prices", _OPERATING),
        "prices.remove": Permission("remove prices", _OPERATING),
        "upstreams.read": Permission("see upstreams", _OPERATING),
        "upstreams.create": Permission("add upstreams", _OPERATING),
        "upstreams.update": Permission("change upstreams", _OPERATING),
        "upstreams.remove": Permission("remove upstreams", _OPERATING),
        "groups.read": Permission("see groups", _OPERATING),
        "groups.set": Permission("set groups", _OPERATING),
        "groups.remove": Permission("remove groups", _OPERATING),
        "status.read": Permission("see how the server is", _OPERATING),
        "openapi.read": Permission("read the description of the Admin API", _SEEING, scoped=True),
        "usage.prune": Permission("delete old usage", _OPERATING),
        "secrets.rotate": Permission("rotate the key ring", _OPERATING),
    }
)


def require(caller: Caller, action: str) -> None:
    """Raises Forbidden unless the caller's role may do it; the message says which role is needed."""
    permission = PERMISSIONS[action]
    if caller.role not in permission.roles or (caller.role == "operator" and caller.account != HOST_ACCOUNT):
        raise Forbidden(
            f"to {permission.what}, a key needs the role {_either(permission.roles)}; "
            f"this one has the role {caller.role}"
        )
    if caller.endpoints and not permission.scoped:
        raise Forbidden(
            f"to {permission.what}, a key needs the role {_either(permission.roles)} for its whole project; "
            "this one is limited to some endpoints"
        )


def reaches(caller: Caller, account: str, project: str) -> bool:
    """Whether the project is the caller's to act on; what it does not reach is answered as if it did not exist.

    An operator reaches every account, an owner every project of its own, everybody else its own project. A key that
    is limited to endpoints stays within its project whatever its role.
    """
    if caller.endpoints:
        return (account, project) == (caller.account, caller.project)
    if caller.role == "operator" and caller.account == HOST_ACCOUNT:
        return True
    return account == caller.account and (project == caller.project or caller.role in ("owner", "operator"))


def require_grant(caller: Caller, role: Role) -> None:
    """Nobody gives more than he has. Raises Forbidden unless the caller may give this role to a key."""
    if role == "operator" and caller.role != "operator":
        raise Forbidden("to make a key of the role operator, a key needs the role operator itself")


def _either(roles: tuple[Role, ...]) -> str:
    *most, last = roles
    return f"{', '.join(most)} or {last}" if most else last
