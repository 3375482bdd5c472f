"""``arkway accounts``: who there is on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import actor

if TYPE_CHECKING:
    from arkway.admin.tenancy import AccountInfo, Accounts
    from arkway.stores.store import Store


@click.group("accounts")
def command() -> None:
    """Make, list, suspend and resume accounts.

    An account is a tenant: its projects, keys, endpoints and usage are its own, and nobody else can tell that they are
    there. The account `default` is the operator's own.
    """


@command.command("create")
@click.argument("account", metavar="[ID]", default="")
@click.option("--name", default="", help="What people call it; by default its id.")
@as_json_option
@click.pass_context
def create_account(ctx: click.Context, account: str, name: str, as_json: bool) -> None:
    """Make an account with the project `default`; without an ID it gets one (acc-…)."""
    with opened(ctx) as store:
        made = _accounts(store).create(now_s(), account, name)
    if as_json:
        echo_json(made)
        return
    click.echo(f"account {made.id} is made; its first key: arkway keys create --account {made.id}")


@command.command("list")
@as_json_option
@click.pass_context
def list_accounts(ctx: click.Context, as_json: bool) -> None:
    """List accounts, suspended ones too."""
    with opened(ctx) as store:
        accounts = _accounts(store).list()
    if as_json:
        echo_json(accounts)
        return
    rows = [(info.id, info.name, info.status, moment(info.created_at)) for info in accounts]
    print_table(("id", "name", "status", "created (UTC)"), rows)


@command.command("suspend")
@click.argument("account", metavar="ID")
@as_json_option
@click.pass_context
def suspend_account(ctx: click.Context, account: str, as_json: bool) -> None:
    """Refuse every credential of an account like a revoked one; running servers follow within two seconds."""
    with opened(ctx) as store:
        accounts = _accounts(store)
        accounts.suspend(account)
        info = accounts.show(account)
    _print(info, as_json)


@command.command("resume")
@click.argument("account", metavar="ID")
@as_json_option
@click.pass_context
def resume_account(ctx: click.Context, account: str, as_json: bool) -> None:
    """Take the credentials of a suspended account again."""
    with opened(ctx) as store:
        accounts = _accounts(store)
        accounts.resume(account)
        info = accounts.show(account)
    _print(info, as_json)


def _accounts(store: Store) -> Accounts:
    from arkway.admin.tenancy import Accounts
    from arkway.stores.tenancy import AccountTable

    return Accounts(AccountTable(store), actor())


def _print(info: AccountInfo, as_json: bool) -> None:
    if as_json:
        echo_json(info)
        return
    click.echo(f"account {info.id} is {info.status}")
