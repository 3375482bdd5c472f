"""What clients of this shape cannot do, told by their User-Agent: the only sniffing that is needed (protocol §2.1)."""

from __future__ import annotations

import msgspec


class Client(msgspec.Struct, frozen=True):
    """One family of clients.

    ``deaf_to_status``: a stream's HTTP status is not looked at, so that an error has to be a frame. ``strict_keys``: an
    unknown key in an answer of v2 is an exception. ``cuts_characters``: a stream's text is decoded piece by piece as
    it arrives, so that only ASCII survives a cut.
    """

    prefix: str = ""
    deaf_to_status: bool = False
    strict_keys: bool = False
    cuts_characters: bool = False


ANY = Client()
CLIENTS = (
    Client("volc-sdk-java/", deaf_to_status=True, strict_keys=True),
    Client("volc-sdk-nodejs/", deaf_to_status=True, cuts_characters=True),
)


def client_of(user_agent: str) -> Client:
    """The family a ``User-Agent`` header belongs to."""
    return next((client for client in CLIENTS if user_agent.startswith(client.prefix)), ANY)
