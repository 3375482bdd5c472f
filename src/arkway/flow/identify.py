"""Who calls: headers → Caller. Cheap checks only; the body has not been read yet."""

from __future__ import annotations

from arkway.core.caller import Caller
from arkway.core.errors import Unauthenticated
from arkway.core.raw import RawRequest
from arkway.ports import Directory


def bearer(directory: Directory, raw: RawRequest) -> Caller:
    """The caller that the ``Authorization: Bearer`` header proves. Raises Unauthenticated.

    Unknown, revoked and expired keys get one and the same answer.
    """
    scheme, _, secret = raw.header("authorization").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated(missing=True)
    caller = directory.caller(secret.strip(), raw.now_ms // 1000)
    if caller is None:
        raise Unauthenticated
    return caller
