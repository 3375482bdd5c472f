"""``arkway limits``: how much keys, endpoints, projects and accounts may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import Place, actor, check_place, place_options

if TYPE_CHECKING:
    from arkway.admin.limits import LimitInfo, Limits
    from arkway.core.limit import Scope
    from arkway.stores.recorded import Transactions

HELP = {
    "rpm": "Requests per minute.",
    "tpm": "Tokens per minute, prompt and answer.",
    "concurrency": "Calls at a time.",
    "tokens-per-day": "Tokens per UTC day.",
    "tokens-per-month": "Tokens per UTC month.",
    "tokens-total": "Tokens, once and for all.",
    "cost-per-day": "Money per UTC day, at the prices in force.",
    "cost-per-month": "Money per UTC month.",
    "cost-total": "Money, once and for all.",
}


@click.group("limits")
def command() -> None:
    """See and set limits.

    Each is of one key, one endpoint, a project (when neither is named) or the whole account. A call is under all
    limits that it meets: beyond a rate or a number of calls at a time it gets 429 and a time to come back, beyond a
    quota of tokens or money 403. Running servers follow within two seconds.
    """


def subject_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say whose limits are meant."""
    for option in (
        click.option("--whole-account", is_flag=True, help="Of all projects of the account together."),
        click.option("--endpoint", metavar="EP", default="", help="Of this endpoint or bot."),
        click.option("--key", metavar="KEY", default="", help="Of this API key or access key."),
    ):
        function = option(function)
    return function


def _amount_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(HELP):
        function = click.option(f"--{name}", type=float, help=HELP[name])(function)
    return function


def _name_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(HELP):
        function = click.option(f"--{name}", is_flag=True, help=HELP[name])(function)
    return function


@command.command("list")
@as_json_option
@place_options
@click.pass_context
def list_limits(ctx: click.Context, place: Place, as_json: bool) -> None:
    """List the limits of a project and of its account."""
    with opened(ctx) as store:
        limits = _limits(store, place).list()
    if as_json:
        echo_json(limits)
        return
    if not limits:
        click.echo("there is no limit; `arkway limits set` makes one")
        return
    rows = [
        (_whose(limit), limit.name, f"{limit.amount:,.15g}", _beyond(limit), moment(limit.updated_at))
        for limit in limits
    ]
    print_table(("of", "limit", "amount", "beyond it", "since (UTC)"), rows)


@command.command("set")
@subject_options
@_amount_options
@click.option("--shadow", is_flag=True, help="Count and report what is beyond the limit, but refuse nothing.")
@as_json_option
@place_options
@click.pass_context
def set_limits(
    ctx: click.Context,
    /,
    place: Place,
    key: str,
    endpoint: str,
    whole_account: bool,
    shadow: bool,
    as_json: bool,
    **amounts: float | None,
) -> None:
    """Set limits: those that are named, the others stay as they are.

    \b
    arkway limits set --key key-… --rpm 60
    arkway limits set --endpoint ep-… --tpm 100000 --concurrency 8
    arkway limits set --project default --tokens-per-day 1000000 --shadow
    """
    scope, subject = _subject(key, endpoint, whole_account)
    named = {name.replace("_", "-"): amount for name, amount in amounts.items() if amount is not None}
    with opened(ctx) as store:
        made = _limits(store, place).set(scope, subject, named, now_s(), shadow=shadow)
    if as_json:
        echo_json(made)
        return
    for limit in made:
        click.echo(f"{_whose(limit)}: {limit.name} {limit.amount:,.15g}{' (counts only)' if shadow else ''}")


@command.command("remove")
@subject_options
@_name_options
@as_json_option
@place_options
@click.pass_context
def remove_limits(
    ctx: click.Context,
    /,
    place: Place,
    key: str,
    endpoint: str,
    whole_account: bool,
    as_json: bool,
    **names: bool,
) -> None:
    """Take limits away: those that are named, or all of the subject."""
    scope, subject = _subject(key, endpoint, whole_account)
    named = [name.replace("_", "-") for name, wanted in names.items() if wanted]
    with opened(ctx) as store:
        removed = _limits(store, place).remove(scope, subject, named)
    if as_json:
        echo_json({"scope": scope, "subject": subject, "removed": removed})
        return
    click.echo(f"removed {removed} of the limits of the {scope} {subject}".rstrip())


def _limits(store: Transactions, place: Place) -> Limits:
    from arkway.admin.limits import Limits
    from arkway.stores.limits import LimitTable

    check_place(store, place)
    return Limits(LimitTable(store), *place, actor())


def _subject(key: str, endpoint: str, whole_account: bool) -> tuple[Scope, str]:
    if bool(key) + bool(endpoint) + whole_account > 1:
        raise click.UsageError("give one of --key, --endpoint and --whole-account, or none for the project")
    if key:
        return "key", key
    if endpoint:
        return "endpoint", endpoint
    return ("account", "") if whole_account else ("project", "")


def _beyond(limit: LimitInfo) -> str:
    return "counts only" if limit.shadow else "refuses"


def _whose(limit: LimitInfo) -> str:
    return f"{limit.scope} {limit.subject or limit.project or limit.account}"
