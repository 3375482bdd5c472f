"""What goes wrong in the control plane alone, as finer kinds of the errors that every form knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from arkway.core.errors import ArkwayError, EndpointNotFound, RouteNotFound, UnsupportedModel

SHOWN_CHARACTERS = 128


class ActionNotFound(RouteNotFound):
    """No such action, or not in this version."""

    def __init__(self, action: str, version: str, known: Iterable[str]) -> None:
        near = difflib.get_close_matches(action[:SHOWN_CHARACTERS], list(known), n=1)
        hint = f"; did you mean `{near[0]}`?" if near and near[0] != action else ""
        ArkwayError.__init__(
            self,
            f"there is no action `{action[:SHOWN_CHARACTERS]}` of version `{version[:SHOWN_CHARACTERS]}`{hint}",
        )


class ActionUnsupported(UnsupportedModel):
    """An action of the vendor's that this server does not offer, or not as it is configured."""

    field = ""

    def __init__(self, action: str, why: str) -> None:
        ArkwayError.__init__(self, f"the action `{action}` is not offered here: {why}")
        self.operation = action


class ResourceNotFound(EndpointNotFound):
    """Nothing of that name for this caller: unknown and somebody else's get one and the same answer."""

    field = ""

    def __init__(self, kind: str, asked: str) -> None:
        ArkwayError.__init__(
            self, f"the {kind} `{asked[:SHOWN_CHARACTERS]}` does not exist or you do not have access to it"
        )
        self.asked, self.near = asked, ()
