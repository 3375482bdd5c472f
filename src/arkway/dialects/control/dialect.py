"""The vendor's OpenAPI envelope (protocol §8): pure, one form for every action."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qs

from arkway.core.errors import ArkwayError
from arkway.core.raw import ErrorReply, RawRequest
from arkway.dialects.control.errors import CODES, error_object
from arkway.wire import json
from arkway.wire.codes import error_reply

SERVICE = "ark"
REGION = "cn-beijing"
NAME_MAX_CHARACTERS = 64

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{NAME_MAX_CHARACTERS}}}")
_SCOPE = re.compile(r"Credential=[^/, ]*/[^/, ]*/([^/, ]*)/")
_FIELDS_MAX = 32


class ControlForm:
    """Implements `arkway.ports.Refusing` and Controlling.

    ``action`` and ``version`` are the request's, empty where it names none; ``region`` is the one it is signed for.
    """

    name = "control"
    deaf_to_status = False

    def __init__(self, action: str = "", version: str = "", region: str = REGION) -> None:
        self.action = action
        self.version = version
        self.region = region

    def suited(self, raw: RawRequest) -> Self:
        """The form that tells what this very request has asked for."""
        asked = _query(raw.query)
        found = _SCOPE.search(raw.header("authorization")[:4096])
        region = found[1] if found and _NAME.fullmatch(found[1]) else REGION
        return type(self)(asked.get("Action", ""), asked.get("Version", ""), region)

    def wants_stream(self, body: bytes) -> bool:
        return False

    def encode_result(self, result: Mapping[str, Any], request_id: str) -> bytes:
        return json.dumps({"ResponseMetadata": self._metadata(request_id), "Result": result})

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        metadata = {**self._metadata(request_id), "Error": error_object(error)}
        return error_reply(CODES, error, json.dumps({"ResponseMetadata": metadata}))

    def _metadata(self, request_id: str) -> dict[str, Any]:
        return {
            "RequestId": request_id,
            "Action": _shown(self.action),
            "Version": _shown(self.version),
            "Service": SERVICE,
            "Region": self.region,
        }


def _query(query: str) -> dict[str, str]:
    """The first value of each name; a query of many fields is nobody's."""
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="replace")
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _shown(name: str) -> str:
    """A name as it may be told back: never a stranger's text."""
    return name if _NAME.fullmatch(name) else ""
