"""MaaS v2: its form, for every family of clients."""

from __future__ import annotations

from arkway.core.raw import RawRequest
from arkway.dialects.v2 import fields
from arkway.ports import Sealing
from arkway.wire.maas_shape.clients import ANY, CLIENTS, Client, client_of
from arkway.wire.maas_shape.codec import Form, MaasCodec, Tables
from arkway.wire.maas_shape.reply import ReplyStyle


class MaasV2(MaasCodec):
    """Implements `arkway.ports.Dialect`, Tokenizing, Classifying and Certifying.

    ``strict`` enforces the documented ranges (protocol §11a).
    """

    name = "v2"

    def __init__(self, strict: bool = False, sealing: Sealing | None = None, *, client: Client = ANY) -> None:
        super().__init__(STRICT_KEYS if client.strict_keys else FORM, client, sealing, strict=strict)
        families = CLIENTS if client is ANY else ()
        self._families = {family: MaasV2(strict, sealing, client=family) for family in families}

    def suited(self, raw: RawRequest) -> MaasV2:
        return self._families.get(client_of(raw.header("user-agent")), self)


def _form(style: ReplyStyle) -> Form:
    tables = Tables(fields.CHAT, fields.EMBED, fields.TOKENIZE, fields.CLASSIFY, fields.CERT)
    return Form(tables, fields.RULES, asked=lambda raw, _: fields.asked(raw.path), cert=lambda *_: {}, style=style)


FORM = _form(ReplyStyle(one_choice=False))
# Strict Jackson: an unknown key, an entry of `top_logprobs` even, is an exception (protocol §5.3).
STRICT_KEYS = _form(ReplyStyle(one_choice=False, request_id=False, rivals=False, function_calls=False))
