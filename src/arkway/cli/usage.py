"""``arkway usage``: what was used and what it costs, from the ledger."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from arkway.cli.database import as_json_option, echo_json, moment, opened, print_table
from arkway.cli.progress import Bar
from arkway.cli.tenant import Place, check_place, place_options
from arkway.cli.when import Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arkway.admin.prices import Cost, PriceBook
    from arkway.admin.usage import Grouping, UsageReports, UsageRow, UsageTotal
    from arkway.stores.recorded import Transactions

GROUPINGS = ("account", "project", "key", "endpoint", "model", "caller", "hour", "day", "month")
COUNT_TITLES = ("prompt", "completion", "total")
END_OF_TIME_MS = 1 << 62


class Wanted(NamedTuple):
    """Which calls a command is about."""

    place: Place
    everything: bool
    since_ms: int
    until_ms: int
    where: dict[str, tuple[str, ...]]


def wanted_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that choose calls; the command gets them as ``wanted``."""

    @click.option(
        "--since", type=Moment(), default="30d", show_default=True, help="From a day, a moment or a time ago."
    )
    @click.option("--until", type=Moment(), help="Up to a moment, not included; default: now.")
    @click.option("--key", "keys", multiple=True, metavar="ID", help="Only by this key; may be repeated.")
    @click.option("--endpoint", "endpoints", multiple=True, metavar="EP", help="Only on this endpoint; repeatable.")
    @click.option("--model", "models", multiple=True, metavar="MODEL", help="Only of this model; repeatable.")
    @click.option("--caller", "callers", multiple=True, metavar="USER", help="Only for this user of a caller's.")
    @click.option("--all", "everything", is_flag=True, help="Of every project of every account.")
    @place_options
    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        where = {name: options.pop(f"{name}s") for name in ("key", "endpoint", "model", "caller")}
        place, everything = options.pop("place"), options.pop("everything")
        since_ms, until_ms = options.pop("since"), options.pop("until")
        wanted = Wanted(place, everything, since_ms, until_ms if until_ms is not None else END_OF_TIME_MS, where)
        return function(*arguments, wanted=wanted, **options)

    return command


@click.group("usage", invoke_without_command=True)
@click.option(
    "--by", multiple=True, type=click.Choice(GROUPINGS), help="Sums instead of single calls; may be repeated."
)
@click.option("--cost", "with_cost", is_flag=True, help="What it costs, at the prices in force when calls were opened.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many single calls.")
@as_json_option
@wanted_options
@click.pass_context
def command(
    ctx: click.Context, wanted: Wanted, by: tuple[Grouping, ...], with_cost: bool, limit: int, as_json: bool
) -> None:
    """Show tokens used: the newest calls, or sums (times are UTC).

    \b
    arkway usage --by model --since 24h
    arkway usage --by key --by day --since 2026-11-01 --until 2026-12-01 --cost
    arkway usage --by project          all projects of the account
    """
    if ctx.invoked_subcommand is not None:
        return
    with opened(ctx) as store:
        reports = _reports(store, wanted, by)
        book = _book(store) if with_cost else None
        if by:
            totals = reports.totals(by, wanted.since_ms, wanted.until_ms, where=wanted.where, prices=book)
            _show_totals(by, totals, as_json)
        else:
            _show_calls(reports.rows(wanted.since_ms, wanted.until_ms, limit, wanted.where), book, as_json)


@command.command("export")
@click.option("--format", "kind", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), required=True, help="The file."
)
@as_json_option
@wanted_options
@click.pass_context
def export(ctx: click.Context, wanted: Wanted, kind: str, out: Path, as_json: bool) -> None:
    """Write every settled call to a file, oldest first; `--out -` is CSV on standard output.

    Parquet needs the extra `analytics`.
    """
    from arkway.admin.export import check_parquet, export_csv, export_parquet, write_csv
    from arkway.core.errors import ArkwayError

    to_stdout = str(out) == "-"
    if to_stdout and (kind == "parquet" or as_json):
        raise click.UsageError("standard output takes CSV, and nothing else beside it; name a file with --out")
    try:
        if kind == "parquet":
            check_parquet()
    except ArkwayError as error:
        raise click.ClickException(error.message) from error
    with opened(ctx) as store:
        reports = _reports(store, wanted, ())
        count = reports.count(wanted.since_ms, wanted.until_ms, wanted.where)
        pages = reports.pages(wanted.since_ms, wanted.until_ms, wanted.where)
        with Bar("exporting", count) as told:
            if to_stdout:
                write_csv(pages, sys.stdout, told)
            else:
                (export_parquet if kind == "parquet" else export_csv)(pages, out, told)
            written = told.done
    if as_json:
        echo_json({"file": str(out), "format": kind, "calls": written})
    elif not to_stdout:
        click.echo(f"wrote {written} calls to {out}")


def _reports(store: Transactions, wanted: Wanted, by: Sequence[Grouping]) -> UsageReports:
    """By project is of the whole account, by account of the whole host."""
    from arkway.admin.usage import UsageReports
    from arkway.stores.usage import UsageTable

    if wanted.everything or "account" in by:
        return UsageReports(UsageTable(store), None, None)
    check_place(store, wanted.place)
    project = None if "project" in by else wanted.place.project
    return UsageReports(UsageTable(store), wanted.place.account, project)


def _book(store: Transactions) -> PriceBook:
    from arkway.admin.prices import Prices
    from arkway.stores.prices import PriceTable

    return Prices(PriceTable(store)).book()


def _show_totals(by: Sequence[Grouping], totals: Sequence[UsageTotal], as_json: bool) -> None:
    import msgspec

    if as_json:
        plain = [
            {n: v for n, v in msgspec.structs.asdict(t).items() if n != "groups" and v is not None} for t in totals
        ]
        echo_json(
            [
                {**dict(zip(by, t.groups, strict=True)), "group": t.group, **entry, "total_tokens": t.total_tokens}
                for t, entry in zip(totals, plain, strict=True)
            ]
        )
        return
    if not totals:
        click.echo("no call was settled in this time")
        return
    costs = ("cost",) if totals[0].cost is not None else ()
    print_table((*by, "calls", *COUNT_TITLES, *costs), [_total_cells(total) for total in totals], numbers_from=len(by))


def _total_cells(total: UsageTotal) -> tuple[str, ...]:
    counts = (str(total.calls), str(total.prompt_tokens), str(total.completion_tokens), str(total.total_tokens))
    if total.cost is None:
        return (*total.groups, *counts)
    amounts = [_amount(cost) for cost in total.cost]
    if total.unpriced_tokens:
        amounts.append(f"{total.unpriced_tokens} tokens without a price")
    return (*total.groups, *counts, " + ".join(amounts) or "0")


def _show_calls(rows: Sequence[UsageRow], book: PriceBook | None, as_json: bool) -> None:
    import msgspec

    costs = [book.cost_of(row.model, row, row.opened_ms) for row in rows] if book is not None else []
    if as_json:
        documents = [{**msgspec.structs.asdict(row), "total_tokens": row.total_tokens} for row in rows]
        echo_json([{**d, "cost": c} for d, c in zip(documents, costs, strict=True)] if book else documents)
        return
    if not rows:
        click.echo("no call was settled in this time")
        return
    titles: tuple[str, ...] = ("opened (UTC)", "model", "endpoint", "key", "outcome", *COUNT_TITLES)
    cells = [_call_cells(row) for row in rows]
    if book is not None:
        titles = (*titles, "cost")
        cells = [(*cell, _amount(cost) if cost else "no price") for cell, cost in zip(cells, costs, strict=True)]
    print_table(titles, cells, numbers_from=5)


def _call_cells(row: UsageRow) -> tuple[str, ...]:
    counts = (str(row.prompt_tokens), str(row.completion_tokens), str(row.total_tokens))
    return (moment(row.opened_ms // 1000), row.model, row.endpoint_id, row.key_id, row.outcome, *counts)


def _amount(cost: Cost) -> str:
    """For people, at six digits after the point; JSON has all of them."""
    return f"{cost.amount:,.6f}".rstrip("0").rstrip(".") + f" {cost.currency}"
