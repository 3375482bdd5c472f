"""ONE table of all actions: name → permission and fields; and those of the vendor's that are not offered."""

from __future__ import annotations

from typing import Literal

import msgspec

from arkway.control import fields
from arkway.control.errors import ActionNotFound, ActionUnsupported
from arkway.core.errors import MissingField
from arkway.wire.fields import Table

VERSION = "2024-01-01"

Operation = Literal["create", "get", "list", "update", "start", "stop", "delete", "get_api_key", "certificate"]


class ActionKind(msgspec.Struct, frozen=True):
    """One action. ``permission`` is a line of `arkway.core.roles`; ``ours``: the vendor's SDKs do not have it."""

    name: str
    operation: Operation
    permission: str
    fields: Table
    ours: bool = False


ACTIONS: dict[str, ActionKind] = {
    kind.name: kind
    for kind in (
        ActionKind("GetApiKey", "get_api_key", "endpoints.get_api_key", fields.GET_API_KEY),
        ActionKind("CreateEndpoint", "create", "endpoints.create", fields.CREATE),
        ActionKind("GetEndpoint", "get", "endpoints.read", fields.ID),
        ActionKind("ListEndpoints", "list", "endpoints.read", fields.LIST),
        ActionKind("UpdateEndpoint", "update", "endpoints.update", fields.UPDATE, ours=True),
        ActionKind("StartEndpoint", "start", "endpoints.start", fields.ID, ours=True),
        ActionKind("StopEndpoint", "stop", "endpoints.stop", fields.ID),
        ActionKind("DeleteEndpoint", "delete", "endpoints.delete", fields.ID),
        ActionKind("GetEndpointCertificate", "certificate", "endpoints.certificate", fields.CERTIFICATE),
    )
}

_BATCHES = "there are no batch inference jobs; send the calls to an endpoint"
_TRAINING = "models are not trained here; `arkway pull` installs a model that was trained elsewhere"
UNSUPPORTED: dict[str, str] = {
    "CreateBatchInferenceJob": _BATCHES,
    "ListBatchInferenceJobs": _BATCHES,
    "CreateEvaluationJob": "there are no evaluation jobs",
    "CreateModelCustomizationJob": _TRAINING,
    "GetModelCustomizationJob": _TRAINING,
    "ListModelCustomizationJobs": _TRAINING,
    "ResumeModelCustomizationJob": _TRAINING,
    "TerminateModelCustomizationJob": _TRAINING,
    "GetModelCustomizationJobMetrics": _TRAINING,
    "GetModelCustomizationJobMetricData": _TRAINING,
}


def kind_of(name: str, version: str) -> ActionKind:
    """Raises MissingField, ActionNotFound, ActionUnsupported."""
    if not name:
        raise MissingField("Action")
    if not version:
        raise MissingField("Version")
    known = version == VERSION
    if known and name in UNSUPPORTED:
        raise ActionUnsupported(name, UNSUPPORTED[name])
    if not known or name not in ACTIONS:
        raise ActionNotFound(name, version, [*ACTIONS, *UNSUPPORTED])
    return ACTIONS[name]
