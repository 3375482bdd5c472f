"""``arkway prices``: what models cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import actor
from arkway.cli.when import Moment

if TYPE_CHECKING:
    from arkway.admin.prices import Currency, Price, Prices
    from arkway.stores.recorded import Transactions


@click.group("prices")
def command() -> None:
    """See and set what a model's tokens cost, from when on.

    Costs are worked out whenever they are asked for, at the price in force when a call was opened. They are in CNY or
    USD, and never added up over both.
    """


@command.command("list")
@click.option("--model", help="Only of this model.")
@as_json_option
@click.pass_context
def list_prices(ctx: click.Context, model: str | None, as_json: bool) -> None:
    """List prices, of a million tokens each."""
    with opened(ctx) as store:
        prices = _prices(store).list(model)
    if as_json:
        echo_json(prices)
        return
    if not prices:
        click.echo("there is no price; `arkway prices set MODEL --prompt … --completion …` sets one")
        return
    titles = ("model", "from (UTC)", "currency", "prompt", "cached", "completion", "reasoning")
    print_table(titles, [_row(price) for price in prices], numbers_from=3)


@command.command("set")
@click.argument("model")
@click.option("--prompt", type=float, required=True, help="For a million tokens of the prompt.")
@click.option("--completion", type=float, required=True, help="For a million tokens of the answer.")
@click.option("--cached", type=float, help="For prompt tokens that were cached; default: as the prompt.")
@click.option("--reasoning", type=float, help="For tokens of reasoning; default: as the answer.")
@click.option("--currency", type=click.Choice(["CNY", "USD"]), default="CNY", show_default=True)
@click.option(
    "--from", "from_ms", type=Moment(), help="In force from this whole minute on (UTC); default: the next one."
)
@as_json_option
@click.pass_context
def set_price(
    ctx: click.Context,
    model: str,
    prompt: float,
    completion: float,
    cached: float | None,
    reasoning: float | None,
    currency: Currency,
    from_ms: int | None,
    as_json: bool,
) -> None:
    """Set what MODEL costs from a moment on, until its next price.

    MODEL is the name that `arkway usage` shows: a model and its version. A price that begins in the past changes what
    the calls since then cost.
    """
    from arkway.admin.prices import Price, whole_minute

    effective_at = whole_minute(now_s()) if from_ms is None else from_ms // 1000
    wanted = Price(model, effective_at, currency, prompt, completion, cached, reasoning)
    with opened(ctx) as store:
        price = _prices(store).set(wanted)
    if as_json:
        echo_json(price)
        return
    click.echo(
        f"{model} costs {prompt:g} and {completion:g} {currency} a million tokens from {moment(effective_at)} on"
    )


@command.command("remove")
@click.argument("model")
@click.option("--from", "from_ms", type=Moment(), help="Only the price that begins at this moment; default: all.")
@as_json_option
@click.pass_context
def remove_price(ctx: click.Context, model: str, from_ms: int | None, as_json: bool) -> None:
    """Remove prices of MODEL; what it cost while they were in force is then at its price before, or without a price."""
    with opened(ctx) as store:
        removed = _prices(store).remove(model, None if from_ms is None else from_ms // 1000)
    if as_json:
        echo_json({"model": model, "removed": removed})
        return
    click.echo(f"removed {removed} prices of {model}")


def _prices(store: Transactions) -> Prices:
    from arkway.admin.prices import Prices
    from arkway.stores.prices import PriceTable

    return Prices(PriceTable(store), actor())


def _row(price: Price) -> tuple[str, ...]:
    cached = price.prompt if price.cached is None else price.cached
    reasoning = price.completion if price.reasoning is None else price.reasoning
    amounts = (price.prompt, cached, price.completion, reasoning)
    return (price.model, moment(price.effective_at), price.currency, *(f"{amount:g}" for amount in amounts))
