"""``arkway ledger``: do the books agree, and deleting old calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, now_s, opened
from arkway.cli.duration import Duration
from arkway.cli.progress import Bar
from arkway.cli.when import Moment

if TYPE_CHECKING:
    from arkway.admin.ledger import Verdict
    from arkway.stores.recorded import Transactions

DAY_S = 86_400
DIFFERENCES_SHOWN = 20
PAUSE_S = 0.02


@click.group("ledger")
def command() -> None:
    """Check the ledger, and delete its oldest calls."""


@command.command("verify")
@click.option("--since", "since_ms", type=Moment(), default=0, show_default="all", help="Sums from here on.")
@click.option("--until", "until_ms", type=Moment(), default=1 << 62, show_default="now", help="Sums up to here.")
@click.option(
    "--invoice",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="An upstream's bill, CSV with the columns date, model and tokens.",
)
@click.option(
    "--utc-offset",
    type=click.IntRange(-12, 14),
    default=0,
    show_default=True,
    help="Hours by which the invoice's days are ahead of UTC; 8 for Beijing.",
)
@as_json_option
@click.pass_context
def verify(
    ctx: click.Context, since_ms: int, until_ms: int, invoice: Path | None, utc_offset: int, as_json: bool
) -> None:
    """Compare the journal with the database, sums with what they add up, and an invoice with usage.

    Changes nothing, and may run beside a server. Exit code 1 when anything differs.
    """
    with opened(ctx) as store:
        verdicts = [*_journals(ctx, store), _sums(store, since_ms, until_ms)]
        if invoice is not None:
            verdicts.append(_invoice(store, invoice, utc_offset))
    if as_json:
        echo_json(verdicts)
    else:
        for verdict in verdicts:
            _show(verdict)
    if any(verdict.differences for verdict in verdicts):
        raise SystemExit(1)


@command.command("prune")
@click.option("--older-than", "age_s", type=Duration(), required=True, help="Calls opened longer ago, such as 400d.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@as_json_option
@click.pass_context
def prune_calls(ctx: click.Context, age_s: int, dry_run: bool, as_json: bool) -> None:
    """Delete single calls for good. Sums by hour, day and month stay, and so does the audit log.

    In small batches, beside a server that runs. `retention.usage_days` in the configuration does so by itself.
    """
    from arkway.stores.retention import prune

    if age_s < DAY_S:
        raise click.ClickException("calls of the last day are kept, since the journal may still hold them: 1d or more")
    before_ms = (now_s() - age_s) * 1000
    with opened(ctx) as store:
        count = _older(store, before_ms)
        if not dry_run:
            _put_on_record(store, before_ms, count)
            with Bar("deleting", count) as told:
                prune(store, before_ms, lambda deleted: told(deleted - told.done), pause_s=PAUSE_S)
                count = told.done
    if as_json:
        echo_json({"before_ms": before_ms, "calls": count, "deleted": not dry_run})
        return
    click.echo(f"{'would delete' if dry_run else 'deleted'} {count} calls; their sums stay")


def _older(store: Transactions, before_ms: int) -> int:
    from arkway.stores.usage import UsageTable

    table = UsageTable(store)
    return table.count(table.tenants(), 0, before_ms - before_ms % 60_000, {})


def _put_on_record(store: Transactions, before_ms: int, count: int) -> None:
    """In the audit log, before anything is gone."""
    from arkway.admin.audit import Acting
    from arkway.cli.tenant import actor
    from arkway.core.roles import HOST_ACCOUNT
    from arkway.stores.recorded import write_entry

    entry = Acting(HOST_ACCOUNT, "", actor()).entry("usage.prune", "usage", before_ms=before_ms, calls=count)
    store.run_sync(lambda connection: write_entry(connection, entry))


def _journals(ctx: click.Context, store: Transactions) -> list[Verdict]:
    """Each of this host's processes has a journal."""
    from arkway.admin.ledger import JournalCheck
    from arkway.cli.context import settings
    from arkway.stores.home import journal_paths
    from arkway.stores.inspection import JournalReading
    from arkway.stores.usage import UsageTable

    table = UsageTable(store)
    pruned_ms = table.pruned_ms(table.tenants())
    paths = journal_paths(settings(ctx).home)
    return [JournalCheck(table, pruned_ms).run(JournalReading(path)) for path in paths]


def _sums(store: Transactions, since_ms: int, until_ms: int) -> Verdict:
    from arkway.admin.ledger import SumsCheck
    from arkway.stores.inspection import SumsReading
    from arkway.stores.usage import UsageTable

    check, spans, waiting = SumsCheck(), 0, 0
    for tenant in UsageTable(store).tenants():
        reading = SumsReading(store, *tenant)
        days = reading.days(since_ms, until_ms)
        with Bar(f"sums of {'/'.join(tenant)}", len(days)) as told:
            for day_ms in days:
                check.feed("/".join(tenant), reading.of_day(day_ms))
                told(1)
        spans, waiting = spans + reading.spans, waiting + reading.waiting
    return check.verdict(spans, waiting)


def _invoice(store: Transactions, path: Path, utc_offset_h: int) -> Verdict:
    from arkway.admin.ledger import check_invoice, read_invoice
    from arkway.core.errors import InvalidField
    from arkway.stores.usage import UsageTable

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = read_invoice(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField(f"the invoice {path} cannot be read as UTF-8 text: {error}", "invoice") from None
    table = UsageTable(store)
    tenants = table.tenants()
    return check_invoice(lines, lambda by, since, until: table.totals(tenants, since, until, by), utc_offset_h)


def _show(verdict: Verdict) -> None:
    names = {"journal": "journal and database", "sums": "sums and calls", "invoice": "invoice and usage"}
    outcome = f"{len(verdict.differences)} differences" if verdict.differences else "agree"
    click.echo(f"{names[verdict.check]}: {outcome} ({verdict.compared} compared)")
    for difference in verdict.differences[:DIFFERENCES_SHOWN]:
        click.echo(f"  {difference.where}: expected {difference.expected}; found {difference.found}")
    if len(verdict.differences) > DIFFERENCES_SHOWN:
        click.echo(f"  … and {len(verdict.differences) - DIFFERENCES_SHOWN} more; --json has them all")
    for note in verdict.notes:
        click.echo(f"  note: {note}")
