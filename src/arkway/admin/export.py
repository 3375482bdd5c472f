"""Settled calls as files for other programs: CSV, and Parquet by DuckDB (the extra ``analytics``)."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from arkway.admin.usage import UsageRow
from arkway.core.errors import Misconfigured

Pages = Iterable[Sequence[UsageRow]]
Told = Callable[[int], None]

COLUMNS = tuple(field.name for field in msgspec.structs.fields(UsageRow))
_WHOLE = frozenset(field.name for field in msgspec.structs.fields(UsageRow) if field.type is int)


def write_csv(pages: Pages, file: TextIO, told: Told) -> None:
    """A line of titles and a line for each call; texts are quoted. ``told`` hears how many calls each page had."""
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(COLUMNS)
    for page in pages:
        writer.writerows(msgspec.structs.astuple(row) for row in page)
        told(len(page))


def export_csv(pages: Pages, path: Path, told: Told) -> None:
    """As `write_csv`; the file is there when it is complete. Raises Misconfigured where it cannot be written."""
    partial = _partial(path)
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            write_csv(pages, file, told)
        os.replace(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def check_parquet() -> None:
    """Raises Misconfigured unless Parquet can be written here."""
    try:
        import duckdb  # noqa: F401  (69 MB of an extra)
    except ImportError:
        raise Misconfigured(
            "Parquet is written by DuckDB, which is not installed; install it with `pip install 'arkway[analytics]'`, "
            "or export CSV"
        ) from None


def export_parquet(pages: Pages, path: Path, told: Told) -> None:
    """Parquet with zstd, by way of a CSV file beside it: memory holds a page, not the table.

    Raises Misconfigured where it cannot be written or DuckDB is missing.
    """
    check_parquet()
    import duckdb

    rows, partial = path.with_name(path.name + ".rows"), _partial(path)
    try:
        with open(rows, "w", encoding="utf-8", newline="") as file:
            write_csv(pages, file, told)
        with duckdb.connect() as connection:
            types = {name: "BIGINT" if name in _WHOLE else "VARCHAR" for name in COLUMNS}
            # By default an empty text would be read as NULL.
            read = connection.read_csv(
                str(rows), header=True, columns=types, allow_quoted_nulls=False, parallel=False, escapechar='"'
            )
            read.write_parquet(str(partial), compression="zstd")
        os.replace(partial, path)
    except (OSError, duckdb.Error) as error:
        raise _unwritable(path, error) from error
    finally:
        rows.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _unwritable(path: Path, error: Exception) -> Misconfigured:
    return Misconfigured(f"{path} cannot be written: {error}")
