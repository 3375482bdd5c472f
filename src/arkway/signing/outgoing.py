"""Signing a call that is about to be sent: from a URL, a body and a key pair to the headers of the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from arkway.core.errors import BadRequest
from arkway.signing.credentials import Head
from arkway.signing.signer import sign

JSON = "application/json"


class KeyPair(msgspec.Struct, frozen=True):
    """An access key pair as its holder has it, and what its signatures are made for."""

    access_key_id: str
    secret: str
    region: str = "cn-beijing"
    service: str = "ml_maas"
    session_token: str = ""

    def __repr__(self) -> str:
        return f"KeyPair({self.access_key_id!r})"


def signed_headers(
    pair: KeyPair, method: str, url: str, body: bytes, x_date: str, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Every header of a signed JSON call, Host among them. ``x_date`` is the clock, ``YYYYMMDDTHHMMSSZ`` in UTC.

    Raises BadRequest for a URL that has no host or cannot be signed over.
    """
    place = urlsplit(url)
    if not place.hostname:
        raise BadRequest(f"`{url[:128]}` is not the URL of a server")
    host = re.sub(r":(80|443)$", "", place.netloc.rpartition("@")[2])
    headers = {"Host": host, "Content-Type": JSON, **(extra or {})}
    fields = tuple((name.lower().encode(), value.encode()) for name, value in headers.items())
    head = Head(method, place.path or "/", place.query, fields)
    proof = sign(
        head,
        body,
        access_key_id=pair.access_key_id,
        secret=pair.secret.encode(),
        region=pair.region,
        service=pair.service,
        x_date=x_date,
        session_token=pair.session_token,
    )
    return {**headers, **proof}
