"""What commands on a tenant share: which project is meant, and who gives the command."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from arkway.core.audit import Actor
    from arkway.stores.recorded import Transactions

F = TypeVar("F", bound=Callable[..., Any])


class Place(NamedTuple):
    """One project of one account."""

    account: str
    project: str


account_option = click.option("--account", default="default", show_default=True, help="Of this account.")
project_option = click.option("--project", default="default", show_default=True, help="In this project of it.")


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--account`` and ``--project`` to a command, which gets them as ``place``."""

    @account_option
    @project_option
    @wraps(function)
    def command(*arguments: Any, account: str, project: str, **options: Any) -> Any:
        return function(*arguments, place=Place(account, project), **options)

    return command


def check_place(store: Transactions, place: Place) -> None:
    """Raises InvalidField unless there is such a project, so that a mistyped name is not an empty project."""
    from arkway.admin.tenancy import Projects
    from arkway.stores.tenancy import ProjectTable

    Projects(ProjectTable(store), place.account).show(place.project)


def actor() -> Actor:
    """The user of the operating system: by its number, not by what the environment says."""
    from arkway.core.audit import Actor

    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return Actor(f"cli:{name}")
