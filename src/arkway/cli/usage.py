"""``arkway usage``: what was used, from the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.duration import Duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arkway.admin.usage import Grouping, UsageRow, UsageTotal

COUNT_TITLES = ("prompt", "completion", "total")


@click.command("usage")
@click.option("--since", "since_s", type=Duration(), default="30d", show_default=True, help="How far back.")
@click.option("--by", type=click.Choice(["day", "key", "endpoint", "model"]), help="Sums instead of single calls.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many single calls.")
@as_json_option
@click.pass_context
def command(ctx: click.Context, since_s: int, by: Grouping | None, limit: int, as_json: bool) -> None:
    """Show tokens used: the newest calls, or sums (days are UTC)."""
    from arkway.admin.usage import UsageReports
    from arkway.stores.tables import UsageTable

    since_ms = (now_s() - since_s) * 1000
    with opened(ctx) as store:
        reports = UsageReports(UsageTable(store))
        found: Sequence[UsageRow | UsageTotal] = (
            reports.totals(by, since_ms) if by else reports.rows(since_ms, limit=limit)
        )
    if as_json:
        echo_json([_document(entry) for entry in found])
        return
    if not found:
        click.echo("no call was settled in this time")
        return
    titles = (by, "calls") if by else ("opened (UTC)", "model", "endpoint", "key", "outcome")
    print_table((*titles, *COUNT_TITLES), [_row(entry) for entry in found], numbers_from=1 if by else 5)


def _document(entry: UsageRow | UsageTotal) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(entry), "total_tokens": entry.total_tokens}


def _row(entry: UsageRow | UsageTotal) -> tuple[str, ...]:
    from arkway.admin.usage import UsageTotal

    counts = (str(entry.prompt_tokens), str(entry.completion_tokens), str(entry.total_tokens))
    if isinstance(entry, UsageTotal):
        return (entry.group, str(entry.calls), *counts)
    return (moment(entry.opened_ms // 1000), entry.model, entry.endpoint_id, entry.key_id, entry.outcome, *counts)
