"""Which deployment serves: what the caller asked for → Deployment."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from arkway.core.caller import Caller
from arkway.core.errors import BackendUnavailable, EndpointNotFound, EndpointStopped, Forbidden
from arkway.core.model import Deployment, Endpoint, ModelCard
from arkway.ports import Directory

FindModel = Callable[[str, str], tuple[ModelCard, str] | None]

# How alike is near (difflib's ratio). All endpoint ids look alike but for their last characters; of a model's name,
# people leave out whole parts.
NEAR_ID = 0.9
NEAR_NAME = 0.6


class Router:
    """Resolves an endpoint id, or a model's name where names are on, within the caller's own project.

    ``find_model(name, version)`` gives the card of an installed model version ("" = the default one) and the key of
    the backend that runs it.
    """

    def __init__(self, directory: Directory, find_model: FindModel) -> None:
        self._directory = directory
        self._find_model = find_model

    def deployment(self, caller: Caller, asked: str, *, names: bool) -> Deployment:
        """Raises EndpointNotFound, EndpointStopped, Forbidden, BackendUnavailable."""
        endpoint = self._endpoint(caller, asked, names)
        if caller.endpoints and endpoint.id not in caller.endpoints:
            raise Forbidden(f"this API key is not allowed to use the endpoint `{endpoint.id}`")
        if endpoint.status == "stopped":
            raise EndpointStopped(endpoint.id)
        return self._deployed(endpoint)

    def deployments(self, caller: Caller) -> tuple[Deployment, ...]:
        """Everything the caller may use and that is installed, oldest first."""
        mine = self._directory.endpoints(caller.account, caller.project)
        allowed = (e for e in mine if not caller.endpoints or e.id in caller.endpoints)
        found = ((e, self._find_model(e.model_name, e.model_version)) for e in allowed)
        return tuple(Deployment(e, *model) for e, model in found if model is not None)

    def _deployed(self, endpoint: Endpoint) -> Deployment:
        model = self._find_model(endpoint.model_name, endpoint.model_version)
        if model is None:
            name = f"{endpoint.model_name} {endpoint.model_version}".strip()
            raise BackendUnavailable(
                f"the model `{name}` behind `{endpoint.id}` is not installed; the operator installs it with "
                f"`arkway pull {endpoint.model_name}`"
            )
        return Deployment(endpoint, *model)

    def _endpoint(self, caller: Caller, asked: str, names: bool) -> Endpoint:
        endpoint = self._directory.endpoint(asked)
        # An endpoint of another tenant is answered exactly as one that does not exist.
        if endpoint is not None and (endpoint.account, endpoint.project) == (caller.account, caller.project):
            return endpoint
        mine = self._directory.endpoints(caller.account, caller.project)
        named = self._by_name(mine, caller, asked) if names else None
        if named is None:
            raise EndpointNotFound(asked, self._near(mine, caller, asked, names))
        return named

    def _by_name(self, mine: tuple[Endpoint, ...], caller: Caller, asked: str) -> Endpoint | None:
        fitting = [e for e in mine if asked in self._names(e)]
        usable = [e for e in fitting if _usable(e, caller)]
        return next(iter(usable or fitting), None)

    def _names(self, endpoint: Endpoint) -> tuple[str, ...]:
        model = self._find_model(endpoint.model_name, endpoint.model_version)
        served = (model[0].served_name,) if model else ()
        return (endpoint.model_name, *served)

    def _near(self, mine: tuple[Endpoint, ...], caller: Caller, asked: str, names: bool) -> tuple[str, ...]:
        """What this caller could have meant, nearest first: a function of its own project and the name alone."""
        usable = [e for e in mine if _usable(e, caller)]
        ids = difflib.get_close_matches(asked[:128], [e.id for e in usable], n=2, cutoff=NEAR_ID)
        models = {e.model_name: e.id for e in reversed(usable)}
        near = difflib.get_close_matches(asked[:128], list(models), n=2, cutoff=NEAR_NAME)
        if names:
            return tuple([*ids, *near][:2])
        # A model's name where only endpoint ids are taken: name the endpoint that runs this model.
        return tuple(ids or [models[name] for name in near[:1]])


def _usable(endpoint: Endpoint, caller: Caller) -> bool:
    return endpoint.status == "running" and (not caller.endpoints or endpoint.id in caller.endpoints)
