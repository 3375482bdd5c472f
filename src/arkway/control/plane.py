"""What the actions do. They wait for the store, so each runs in a thread: the event loop must not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from arkway.control.access import (
    Access,
    Certificate,
    RateLimits,
    Request,
    Resources,
    place_of,
    project_of,
)
from arkway.control.actions import Operation, kind_of
from arkway.control.api_keys import ApiKeys, Issue
from arkway.control.errors import ActionUnsupported, ResourceNotFound
from arkway.control.fields import RATES, Reader
from arkway.control.shape import Seen, page, whole
from arkway.core.audit import Actor
from arkway.core.errors import EndpointNotFound, Forbidden, InvalidField
from arkway.core.limit import Rates
from arkway.core.model import Endpoint, EndpointChange
from arkway.core.roles import require
from arkway.ports import Action, ActionResult
from arkway.wire import json

_MODEL_FIELD = "ModelReference.FoundationModel.Name"


class ControlPlane:
    """Implements `arkway.ports.Control`.

    ``issue`` makes temporary API keys, each good for at most ``api_key_max_s``; ``certificate`` None = message
    encryption is off.
    """

    def __init__(
        self, access: Access, issue: Issue, api_key_max_s: int, certificate: Certificate | None = None
    ) -> None:
        self._access = access
        self._certificate = certificate
        self._operations: dict[Operation, Callable[[Request], dict[str, Any]]] = {
            "create": self._create,
            "get": self._get,
            "list": self._list,
            "update": self._update,
            "start": self._start,
            "stop": self._stop,
            "delete": self._delete,
            "get_api_key": ApiKeys(access, issue, api_key_max_s).get,
            "certificate": self._get_certificate,
        }

    async def perform(self, action: Action) -> ActionResult:
        """What one action gives. Raises errors of the tree."""
        kind = kind_of(action.name, action.version)
        require(action.caller, kind.permission)
        reader = Reader()
        values = reader.read(kind.fields, json.load_object(action.body or b"{}"))
        actor = Actor(action.caller.key_id, action.request_id)
        request = Request(kind, values, reader, action.caller, actor, action.now_ms // 1000)
        result = await asyncio.to_thread(self._operations[kind.operation], request)
        return ActionResult(result, tuple(reader.ignored), tuple(reader.clamped))

    def _create(self, request: Request) -> dict[str, Any]:
        values, reader, caller = request.values, request.reader, request.caller
        project = project_of(self._access, request)
        resources = self._access.resources(caller.account, project, request.actor)
        name, version = self._model(reader, values["ModelReference"])
        rates = _rates(Rates(), _sent_rates(reader, values))
        draft = resources.draft(
            values["Name"],
            name,
            request.now_s,
            version,
            description=values.get("Description", ""),
            moderation=reader.moderation(values.get("Moderation", {})),
            tags=reader.tags(values.get("Tags", [])),
        )
        if values.get("DryRun"):
            return {"Id": ""}

        def keep(resources: Resources, limits: RateLimits) -> None:
            resources.add(draft)
            if rates != Rates():
                limits.put(draft.id, rates, request.now_s)

        self._access.together(caller.account, project, request.actor, keep)
        return {"Id": draft.id}

    def _get(self, request: Request) -> dict[str, Any]:
        _, endpoint = self._found(request)
        return whole(self._seen(endpoint, self._rates_of(request, endpoint)))

    def _list(self, request: Request) -> dict[str, Any]:
        caller = request.caller
        project = project_of(self._access, request)
        rates = self._access.rates(caller.account, project, request.actor).all()
        endpoints = self._access.resources(caller.account, project, request.actor).list()
        allowed = (e for e in endpoints if not caller.endpoints or e.id in caller.endpoints)
        seen = [self._seen(endpoint, rates.get(endpoint.id, Rates())) for endpoint in allowed]
        return page(seen, request.values, request.reader)

    def _update(self, request: Request) -> dict[str, Any]:
        _, endpoint = self._found(request)
        change, sent = self._change(request), _sent_rates(request.reader, request.values)

        def keep(resources: Resources, limits: RateLimits) -> None:
            resources.check(change)
            held = limits.all().get(endpoint.id, Rates())
            rates = _rates(held, sent)
            if rates != held:
                # Whoever looks after an endpoint does not lift the limit that its owner has set.
                require(request.caller, "limits.set")
            if request.values.get("DryRun"):
                return
            resources.update(endpoint.id, change, request.now_s)
            if rates != held:
                limits.put(endpoint.id, rates, request.now_s)

        self._access.together(endpoint.account, endpoint.project, request.actor, keep)
        return {"Id": endpoint.id}

    def _change(self, request: Request) -> EndpointChange:
        values, reader = request.values, request.reader
        name, version = self._model(reader, values["ModelReference"]) if "ModelReference" in values else (None, None)
        return EndpointChange(
            name=values.get("Name"),
            description=values.get("Description"),
            model_name=name,
            model_version=version,
            moderation=reader.moderation(values["Moderation"]) if "Moderation" in values else None,
            tags=reader.tags(values["Tags"]) if "Tags" in values else None,
        )

    def _start(self, request: Request) -> dict[str, Any]:
        resources, endpoint = self._found(request)
        resources.start(endpoint.id, request.now_s)
        return {}

    def _stop(self, request: Request) -> dict[str, Any]:
        resources, endpoint = self._found(request)
        resources.stop(endpoint.id, request.now_s)
        return {}

    def _delete(self, request: Request) -> dict[str, Any]:
        resources, endpoint = self._found(request)
        resources.delete(endpoint.id, request.now_s)
        return {}

    def _get_certificate(self, request: Request) -> dict[str, Any]:
        self._found(request)
        if self._certificate is None:
            raise ActionUnsupported(
                request.kind.name, "message encryption is off; the operator turns it on with surface.message_encryption"
            )
        return {
            "NotAfter": self._certificate.not_after,
            "NotBefore": self._certificate.not_before,
            "PCAHost": "",
            "PCAInstanceCertificate": self._certificate.pem,
            "PCAName": "Arkway message encryption",
            "PCARootCACertificate": self._certificate.pem,
            "PCASubCACertificate": "",
        }

    def _found(self, request: Request) -> tuple[Resources, Endpoint]:
        """The endpoint named ``Id``. Raises ResourceNotFound, Forbidden."""
        endpoint_id, caller = request.values["Id"], request.caller
        account, project = place_of(self._access, caller, endpoint_id)
        resources = self._access.resources(account, project, request.actor)
        try:
            endpoint = resources.show(endpoint_id)
        except EndpointNotFound:
            raise ResourceNotFound("endpoint", endpoint_id) from None
        if caller.endpoints and endpoint_id not in caller.endpoints:
            raise Forbidden(f"this access key is not allowed to use the endpoint `{endpoint_id}`")
        return resources, endpoint

    def _rates_of(self, request: Request, endpoint: Endpoint) -> Rates:
        limits = self._access.rates(endpoint.account, endpoint.project, request.actor)
        return limits.all().get(endpoint.id, Rates())

    def _seen(self, endpoint: Endpoint, rates: Rates) -> Seen:
        if self._access.find_model(endpoint.model_name, endpoint.model_version) is not None:
            return Seen(endpoint, rates)
        return Seen(
            endpoint, rates, f"the model {endpoint.model_name} {endpoint.model_version}".strip() + " is not installed"
        )

    def _model(self, reader: Reader, reference: Any) -> tuple[str, str]:
        """Name and version of an installed model, by its own name or an alias. Raises InvalidField."""
        name, version = reader.model(reference)
        if self._access.find_model(name, version) is not None:
            return name, version
        alias = self._access.directory.alias(name)
        # An alias has its own version: those that belonged to a retired name no longer exist.
        if alias is not None and self._access.find_model(alias.model_name, alias.model_version) is not None:
            return alias.model_name, alias.model_version
        whole_name = f"{name} {version}".strip()
        raise InvalidField(
            f"the model `{whole_name[:128]}` is not installed; the operator installs it with `arkway pull`",
            _MODEL_FIELD,
        )


def _sent_rates(reader: Reader, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return reader.read(RATES, values["RateLimit"], "RateLimit") if "RateLimit" in values else {}


def _rates(held: Rates, sent: Mapping[str, Any]) -> Rates:
    """The rates asked for; what is not sent stays as it is."""
    return msgspec.structs.replace(held, **{name.lower(): amount for name, amount in sent.items()})
