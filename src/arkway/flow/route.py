"""Which deployment serves: what the caller asked for → Deployment."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import msgspec

from arkway.core import roles
from arkway.core.caller import Caller
from arkway.core.errors import ArkwayError, BackendUnavailable, EndpointNotFound, EndpointStopped, Forbidden
from arkway.core.limit import Rule
from arkway.core.model import Deployment, Endpoint, ModelCard
from arkway.flow.admit import Admission
from arkway.ports import Alias, Directory

FindModel = Callable[[str, str], tuple[ModelCard, str] | None]

# How alike is near (difflib's ratio). All endpoint ids look alike but for their last characters; of a model's name,
# people leave out whole parts.
NEAR_ID = 0.9
NEAR_NAME = 0.6
CLEARANCES_MAX = 65_536
"""Some hundred octets each."""


class NameWaiting(EndpointNotFound):
    """A retired model's name for which nothing stands yet: what the operator has to do."""

    def __init__(self, asked: str) -> None:
        ArkwayError.__init__(
            self,
            f"no model stands for the name `{asked}` here yet; the operator installs a chat model with `arkway pull`, "
            f"or names one with `arkway aliases set {asked} MODEL`",
        )
        self.asked, self.near = asked, ()


class Target(NamedTuple):
    """An endpoint, the version of its model that is to serve ("" = the default one), and the alias that led here."""

    endpoint: Endpoint
    version: str
    alias: str = ""


class Clearance(msgspec.Struct, frozen=True, eq=False):
    """What all calls of one caller to one endpoint have in common, for as long as nothing is changed.

    ``model`` is the served name, ``rules`` the limits that they are under, ``costs``: some of these are on cost.
    """

    deployment: Deployment
    model: str
    admission: Admission
    rules: tuple[Rule, ...]
    costs: bool


class Router:
    """Resolves an endpoint id, or a model's name or alias where names are on, within the caller's own project.

    ``find_model(name, version)`` gives the card of an installed model version ("" = the default one) and the key of
    the backend that runs it. ``retired``: names, in lower case, that get an alias with the first chat model.
    """

    def __init__(self, directory: Directory, find_model: FindModel, retired: Collection[str] = ()) -> None:
        self._directory = directory
        self._find_model = find_model
        self._retired = frozenset(retired)
        self._changes = -1
        self._clearances: dict[tuple[Caller, str, str, bool], Clearance] = {}
        self._admissions: dict[int, Admission] = {}

    def clearance(self, caller: Caller, asked: str, *, names: bool, version: str = "") -> Clearance:
        """As `deployment`, with what else follows from it. Raises Forbidden for a role that calls no models, too.

        The same question has the same answer until the directory or what finds the models changes, which the
        directory's number tells. Whom a key belongs to and what it may do is part of the question.
        """
        if self._changes != self._directory.changes:
            # First, so that whatever is found while it changes is not kept.
            self._clearances, self._admissions, self._changes = {}, {}, self._directory.changes
        question = (caller, asked, version, names)
        clearance = self._clearances.get(question)
        if clearance is None:
            clearance = self._cleared(caller, asked, names, version)
            if len(self._clearances) >= CLEARANCES_MAX:
                self._clearances, self._admissions = {}, {}
            self._clearances[question] = clearance
        return clearance

    def _cleared(self, caller: Caller, asked: str, names: bool, version: str) -> Clearance:
        # Before anything is looked up: whose role it is not learns nothing of what is there.
        roles.require(caller, "models.call")
        deployment = self.deployment(caller, asked, names=names, version=version)
        endpoint, card = deployment.endpoint, deployment.card
        rules = self._directory.limits(caller.account, caller.project, caller.key_id, endpoint.id)
        costs = any(rule.kind == "cost" for rule in rules)
        admission = self._admissions.get(id(card))
        if admission is None or admission.card is not card:
            admission = self._admissions[id(card)] = Admission(card)
        return Clearance(deployment, card.served_name, admission, rules, costs)

    def deployment(self, caller: Caller, asked: str, *, names: bool, version: str = "") -> Deployment:
        """What serves ``asked``: an endpoint id, else a model's own name, else an alias (without regard to case).

        ``version`` goes with a model's own name: that very version, or nothing. An endpoint has its own, and an alias
        too: the versions that belonged to a retired name no longer exist. Raises EndpointNotFound, EndpointStopped,
        Forbidden, BackendUnavailable.
        """
        target = self._target(caller, asked, version, names)
        endpoint = target.endpoint
        if caller.endpoints and endpoint.id not in caller.endpoints:
            raise Forbidden(f"this key is not allowed to use the endpoint `{endpoint.id}`")
        if endpoint.status == "stopped":
            raise EndpointStopped(endpoint.id)
        return self._deployed(target)

    def deployments(self, caller: Caller) -> tuple[Deployment, ...]:
        """Everything the caller may use and that is installed, oldest first."""
        mine = self._directory.endpoints(caller.account, caller.project)
        allowed = (e for e in mine if not caller.endpoints or e.id in caller.endpoints)
        found = ((e, self._find_model(e.model_name, e.model_version)) for e in allowed)
        return tuple(Deployment(e, *model) for e, model in found if model is not None)

    def _deployed(self, target: Target) -> Deployment:
        endpoint = target.endpoint
        model = self._find_model(endpoint.model_name, target.version)
        if model is None:
            raise BackendUnavailable(_not_installed(target))
        return Deployment(endpoint, *model)

    def _target(self, caller: Caller, asked: str, version: str, names: bool) -> Target:
        endpoint = self._directory.endpoint(asked)
        # An endpoint of another tenant is answered exactly as one that does not exist.
        if endpoint is not None and (endpoint.account, endpoint.project) == (caller.account, caller.project):
            return Target(endpoint, endpoint.model_version)
        mine = self._directory.endpoints(caller.account, caller.project)
        fitting = (self._by_name(mine, asked, version) or self._by_alias(mine, asked)) if names else []
        usable = [target for target in fitting if _usable(target.endpoint, caller)]
        chosen = next(iter(usable or fitting), None)
        if chosen is None:
            raise self._not_found(mine, caller, asked, version, names)
        return chosen

    def _not_found(
        self, mine: Sequence[Endpoint], caller: Caller, asked: str, version: str, names: bool
    ) -> EndpointNotFound:
        if names and asked.casefold() in self._retired and self._directory.alias(asked) is None:
            return NameWaiting(asked)
        whole = f"{asked}:{version}" if names and version else asked
        return EndpointNotFound(whole, self._near(mine, caller, asked, names))

    def _by_name(self, mine: Sequence[Endpoint], asked: str, version: str) -> list[Target]:
        found = ((endpoint, self._version(endpoint, asked, version)) for endpoint in mine)
        return [Target(endpoint, serving) for endpoint, serving in found if serving is not None]

    def _version(self, endpoint: Endpoint, asked: str, version: str) -> str | None:
        """The version in which this endpoint serves the model of that name, None where it does not.

        An endpoint that follows its model's default version serves any other installed one on request.
        """
        own = endpoint.model_version
        if asked == endpoint.model_name:
            if version in ("", own):
                return own
            return version if not own and self._find_model(asked, version) else None
        model = self._find_model(endpoint.model_name, own)
        served = model is not None and asked == model[0].served_name and version in ("", model[0].version)
        return own if served else None

    def _by_alias(self, mine: Sequence[Endpoint], asked: str) -> list[Target]:
        alias = self._directory.alias(asked)
        if alias is None:
            return []
        return [Target(e, alias.model_version or e.model_version, alias.name) for e in mine if _stands_for(alias, e)]

    def _near(self, mine: Sequence[Endpoint], caller: Caller, asked: str, names: bool) -> tuple[str, ...]:
        """What this caller could have meant, nearest first: a function of its own project and the names alone."""
        usable = [e for e in mine if _usable(e, caller)]
        ids = difflib.get_close_matches(asked[:128], [e.id for e in usable], n=2, cutoff=NEAR_ID)
        models = {e.model_name: e.id for e in reversed(usable)}
        if names:
            known = {*models, *self._working_aliases(usable)}
            near = difflib.get_close_matches(asked[:128], sorted(known), n=2, cutoff=NEAR_NAME)
            return tuple([*ids, *near][:2])
        near = difflib.get_close_matches(asked[:128], list(models), n=2, cutoff=NEAR_NAME)
        # A model's name where only endpoint ids are taken: name the endpoint that runs this model.
        return tuple(ids or [models[name] for name in near[:1]])

    def _working_aliases(self, usable: Sequence[Endpoint]) -> list[str]:
        installed = (a for a in self._directory.aliases() if self._find_model(a.model_name, a.model_version))
        return [alias.name for alias in installed if any(_stands_for(alias, endpoint) for endpoint in usable)]


def _usable(endpoint: Endpoint, caller: Caller) -> bool:
    return endpoint.status == "running" and (not caller.endpoints or endpoint.id in caller.endpoints)


def _stands_for(alias: Alias, endpoint: Endpoint) -> bool:
    """An endpoint that is pinned to another version than the alias is not meant."""
    same_model = alias.model_name == endpoint.model_name
    return same_model and (not alias.model_version or endpoint.model_version in ("", alias.model_version))


def _not_installed(target: Target) -> str:
    """What the operator has to do; ``arkway pull`` takes a version after a colon."""
    model = target.endpoint.model_name
    name = f"{model} {target.version}".strip()
    pull = f"{model}:{target.version}" if target.version else model
    if not target.alias:
        return (
            f"the model `{name}` behind `{target.endpoint.id}` is not installed; the operator installs it with "
            f"`arkway pull {pull}`"
        )
    return (
        f"the model `{name}` that `{target.alias}` stands for is not installed; the operator installs it with "
        f"`arkway pull {pull}`, or names another one with `arkway aliases set {target.alias} MODEL`"
    )
