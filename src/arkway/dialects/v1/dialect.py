"""MaaS v1: its form, for every family of clients."""

from __future__ import annotations

from typing import Any

from arkway.core.model import Deployment
from arkway.core.raw import RawRequest
from arkway.dialects.v1 import fields
from arkway.ports import CertRequest, Sealing
from arkway.wire.maas_shape.clients import ANY, CLIENTS, Client, client_of
from arkway.wire.maas_shape.codec import Form, MaasCodec, Tables
from arkway.wire.maas_shape.reply import ReplyStyle


class MaasV1(MaasCodec):
    """Implements `arkway.ports.Dialect`, Tokenizing, Classifying and Certifying.

    ``strict`` enforces the documented ranges and the order of messages (protocol §11a).
    """

    name = "v1"

    def __init__(self, strict: bool = False, sealing: Sealing | None = None, *, client: Client = ANY) -> None:
        super().__init__(FORM, client, sealing, strict=strict)
        families = CLIENTS if client is ANY else ()
        self._families = {family: MaasV1(strict, sealing, client=family) for family in families}

    def suited(self, raw: RawRequest) -> MaasV1:
        return self._families.get(client_of(raw.header("user-agent")), self)


def _cert(deployment: Deployment, request: CertRequest) -> dict[str, Any]:
    """What the client puts in place of its own ``model`` from now on: it has to lead to the same deployment."""
    model = {"name": request.asked, "version": deployment.card.version}
    if request.asked == deployment.endpoint.id:
        model |= {"name": deployment.card.name, "endpoint_id": deployment.endpoint.id}
    return {"model": model}


FORM = Form(
    tables=Tables(fields.CHAT, fields.EMBED, fields.TOKENIZE, fields.CLASSIFY, fields.CERT),
    rules=fields.RULES,
    asked=lambda _, reading: fields.asked(reading.values["model"]),
    cert=_cert,
    style=ReplyStyle(one_choice=True),
)
