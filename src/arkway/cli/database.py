"""What the commands on keys, endpoints, aliases and usage share: the database in force, opened directly.

Works beside a running server, which notices changes within two seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from arkway.admin.bots import HasCollection
    from arkway.cli.tenant import Place
    from arkway.stores.keyring import KeyRing
    from arkway.stores.store import Store

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@contextmanager
def opened(ctx: click.Context) -> Iterator[Store]:
    """The database of the data directory in force; errors of the tree become sentences."""
    from arkway.cli.context import settings
    from arkway.core.errors import ArkwayError
    from arkway.stores.belonging import pepper_of
    from arkway.stores.home import database_path
    from arkway.stores.store import open_store

    config = settings(ctx)
    try:
        with open_store(database_path(config.home), config.database.url) as store:
            if store.shared:
                pepper_of(config.home, store)  # keys made under another host's pepper would not work there
            yield store
    except ArkwayError as error:
        raise click.ClickException(error.message) from error


def key_ring(ctx: click.Context) -> KeyRing:
    """The key ring of the data directory in force. Raises Misconfigured, StoreUnavailable: call it within `opened`."""
    import os

    from arkway.cli.context import settings
    from arkway.stores.keyring import VARIABLE, open_ring

    config = settings(ctx)
    return open_ring(config.home, master_key=os.environ.get(VARIABLE, ""), command=config.secrets.command)


def check_endpoints(store: Store, place: Place, wanted: Sequence[str]) -> None:
    """Raises EndpointNotFound unless the project has all of these endpoints and bots."""
    from arkway.admin.endpoints import Endpoints
    from arkway.stores.bots import BotTable
    from arkway.stores.tables import EndpointTable

    endpoints = Endpoints(EndpointTable(store), *place)
    bots = {row["id"] for row in BotTable(store).rows(*place)}
    for endpoint_id in wanted:
        if endpoint_id not in bots:
            endpoints.show(endpoint_id)


def collections_known(ctx: click.Context) -> HasCollection:
    """Whether a project has a collection. What knows that takes its time to import: only when it is asked."""

    def has_collection(account: str, project: str, name: str) -> bool:
        from arkway.app.lookup import collections_of
        from arkway.cli.context import settings

        return collections_of(settings(ctx))(account, project, name)

    return has_collection


def now_s() -> int:
    """The clock, in whole seconds of the epoch."""
    import time

    return int(time.time())


def echo_json(document: Any) -> None:
    """One JSON document on standard output; structs are objects."""
    import msgspec

    click.echo(msgspec.json.encode(document))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 99) -> None:
    """Never folds a column: ids are there to be copied. ``numbers_from``: the first column that holds numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place >= numbers_from else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(width=max(needed, console.width)).print(table)


def moment(epoch_s: int | None) -> str:
    """UTC, to the minute; empty for None."""
    import time

    return "" if epoch_s is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(epoch_s))
