"""Errors of Bot API V2: those of the MaaS shape, but for a bot that does not exist (protocol §6.2, §9.1)."""

from __future__ import annotations

from arkway.core import errors as e
from arkway.core.raw import ErrorReply
from arkway.wire.codes import Code
from arkway.wire.maas_shape import errors

CODES: errors.Codes = {**errors.CODES, e.EndpointNotFound: Code(400, "InvalidBot", number=1709808)}


def payload(error: e.ArkwayError, request_id: str, shown_id: str) -> bytes:
    """The error object. ``shown_id`` is its ``req_id``; ``request_id``, ours, ends the message."""
    return errors.payload(_of_bot(error), request_id, shown_id, CODES)


def reply(error: e.ArkwayError, request_id: str) -> ErrorReply:
    """The whole HTTP answer for an error before the stream."""
    return errors.reply(error, payload(error, request_id, request_id), CODES)


class _NoBot(e.EndpointNotFound):
    """The same for every bot that a caller cannot have, and for whatever is none."""

    field = "bot_id"

    def __init__(self, asked: str) -> None:
        e.ArkwayError.__init__(self, f"the bot `{asked[:128]}` does not exist or you do not have access to it")
        self.asked, self.near = asked, ()


def _of_bot(error: e.ArkwayError) -> e.ArkwayError:
    return _NoBot(error.asked) if isinstance(error, e.EndpointNotFound) else error
