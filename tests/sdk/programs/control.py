"""Runs in a client's own environment and uses the vendor's control plane as a caller would, on demand.

``python control.py`` reads one JSON object per line, ``{"operation", "host", "ca", "access_key_id",
"secret_access_key", "arguments"}``, and writes what the SDK surfaced as one JSON line: ``{"result": …}`` or
``{"error": {class, message, status, body}}``. An operation is ``control <Action>`` (``volcenginesdkark``), or
``aksk chat`` or ``aksk stream``: the Ark client in AK/SK mode, kept from call to call. ``host`` begins with
``http://``, or has no scheme and is spoken to by TLS, its certificate checked with the file ``ca``.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import Any

import volcenginesdkark
import volcenginesdkcore
from volcenginesdkcore.rest import ApiException

Ask = dict[str, Any]

KEPT: dict[tuple[str, ...], Any] = {}


def configure(ask: Ask) -> None:
    """What a user does to lead the SDK to another control plane; its AK/SK mode copies the default."""
    configuration = volcenginesdkcore.Configuration()
    configuration.host = ask["host"]
    configuration.ak = ask["access_key_id"]
    configuration.sk = ask["secret_access_key"]
    configuration.region = "cn-beijing"
    if ask["ca"]:
        configuration.schema = "https"  # what the SDK of 2024 has instead of a URL
        configuration.ssl_ca_cert = ask["ca"]
    volcenginesdkcore.Configuration.set_default(configuration)


def control(ask: Ask, action: str) -> Any:
    configure(ask)
    api = volcenginesdkark.ARKApi(volcenginesdkcore.ApiClient())
    request = typed(action + "Request", ask["arguments"])
    method = getattr(api, re.sub(r"(?<!^)(?=[A-Z])", "_", action).lower())
    return plain(method(request))


def typed(kind: str, fields: Any) -> Any:
    """The SDK's own object for a request, from its fields as they are on the wire."""
    if found := re.fullmatch(r"list\[(.*)\]", kind):
        return [typed(found[1], entry) for entry in fields]
    cls = getattr(volcenginesdkark, kind, None)
    if cls is None:
        return fields
    names = {wire: name for name, wire in cls.attribute_map.items()}
    types = cls.swagger_types
    return cls(**{names[wire]: typed(types[names[wire]], value) for wire, value in fields.items()})


def plain(value: Any) -> Any:
    """The SDK's object as its fields are on the wire."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if hasattr(value, "attribute_map"):
        return {wire: plain(getattr(value, name)) for name, wire in value.attribute_map.items()}
    return value


def aksk(ask: Ask, operation: str) -> Any:
    arguments = ask["arguments"]
    client = ark(ask)
    if operation == "stream":
        chunks = client.chat.completions.create(stream=True, **arguments)
        return [chunk.model_dump() for chunk in chunks]
    return client.chat.completions.create(**arguments).model_dump()


def ark(ask: Ask) -> Any:
    identity = (ask["host"], ask["base_url"], ask["access_key_id"])
    if identity not in KEPT:
        configure(ask)
        module = importlib.import_module(sys.argv[1])
        pair = {"ak": ask["access_key_id"], "sk": ask["secret_access_key"]}
        KEPT[identity] = module.Ark(base_url=ask["base_url"], **pair)
    return KEPT[identity]


def answer(ask: Ask) -> dict[str, Any]:
    kind, name = ask["operation"].split(" ")
    try:
        return {"result": control(ask, name) if kind == "control" else aksk(ask, name)}
    except ApiException as error:
        body = error.body.decode() if isinstance(error.body, bytes) else error.body
        seen = {"class": type(error).__name__, "message": str(error), "status": error.status, "body": body}
        return {"error": seen}
    except Exception as error:
        seen = {"class": type(error).__name__, "message": str(error), "body": None}
        return {"error": {**seen, "status": getattr(error, "status_code", None)}}


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # what an SDK prints is not an answer
    for line in sys.stdin:
        # The client's environment holds the client alone: there is no stricter JSON here.
        reply = answer(json.loads(line))  # noqa: TID251
        print(json.dumps(reply, ensure_ascii=False), file=answers, flush=True)  # noqa: TID251


if __name__ == "__main__":
    main()
