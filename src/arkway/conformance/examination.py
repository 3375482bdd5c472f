"""All cases, in the order in which they are tried."""

from __future__ import annotations

from arkway.conformance import ark, bots, legacy
from arkway.conformance.cases import CASES as REGISTERED
from arkway.conformance.cases import SURFACES

# Importing them has registered their cases.
MODULES = (legacy, ark, bots)

CASES = tuple(sorted(REGISTERED, key=lambda case: SURFACES.index(case.surface)))
