"""``arkway projects``: into what an account divides what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import account_option, actor

if TYPE_CHECKING:
    from arkway.admin.tenancy import Projects
    from arkway.stores.store import Store


@click.group("projects")
def command() -> None:
    """Make, list and delete the projects of an account.

    Keys, access keys, endpoints, limits and usage belong to one project. Commands on these take --account and
    --project, and mean the project `default` of the account `default` without them.
    """


@command.command("create")
@click.argument("project", metavar="ID")
@click.option("--name", default="", help="What people call it; by default its id.")
@account_option
@as_json_option
@click.pass_context
def create_project(ctx: click.Context, project: str, name: str, account: str, as_json: bool) -> None:
    """Make a project; id and name are unique within the account."""
    with opened(ctx) as store:
        made = _projects(store, account).create(project, now_s(), name)
    if as_json:
        echo_json(made)
        return
    click.echo(f"project {made.id} of the account {made.account} is made")


@command.command("list")
@account_option
@as_json_option
@click.pass_context
def list_projects(ctx: click.Context, account: str, as_json: bool) -> None:
    """List the projects of an account."""
    with opened(ctx) as store:
        projects = _projects(store, account).list()
    if as_json:
        echo_json(projects)
        return
    if not projects:
        click.echo(f"there is no account {account}; `arkway accounts list` shows all of them")
        return
    print_table(("id", "name", "created (UTC)"), [(p.id, p.name, moment(p.created_at)) for p in projects])


@command.command("delete")
@click.argument("project", metavar="ID")
@account_option
@as_json_option
@click.pass_context
def delete_project(ctx: click.Context, project: str, account: str, as_json: bool) -> None:
    """Delete a project in which there is nothing, and of which nothing is in the ledger.

    Revoked keys and deleted endpoints count: the ledger and the audit log name them.
    """
    with opened(ctx) as store:
        _projects(store, account).delete(project)
    if as_json:
        echo_json({"account": account, "id": project, "status": "deleted"})
        return
    click.echo(f"deleted {project}")


def _projects(store: Store, account: str) -> Projects:
    from arkway.admin.tenancy import Projects
    from arkway.stores.tenancy import ProjectTable

    return Projects(ProjectTable(store), account, actor())
