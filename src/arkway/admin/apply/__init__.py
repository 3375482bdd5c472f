"""One source of truth: a file that says what there is on a host, the way from here to there, and the way back."""

from arkway.admin.apply.document import Platform, read
from arkway.admin.apply.export import exported
from arkway.admin.apply.perform import Made, check_unchanged, perform
from arkway.admin.apply.plan import Change, Leftover, Plan, Prepared, prepare
from arkway.admin.apply.state import Commands, State, look

__all__ = [
    "Change",
    "Commands",
    "Leftover",
    "Made",
    "Plan",
    "Platform",
    "Prepared",
    "State",
    "check_unchanged",
    "exported",
    "look",
    "perform",
    "prepare",
    "read",
]
