"""All cases, in the order in which they are tried."""

from __future__ import annotations

from arkway.conformance import ark, legacy
from arkway.conformance.cases import CASES as REGISTERED
from arkway.conformance.cases import SURFACES

# Importing them has registered their cases.
MODULES = (legacy, ark)

CASES = tuple(sorted(REGISTERED, key=lambda case: SURFACES.index(case.surface)))
