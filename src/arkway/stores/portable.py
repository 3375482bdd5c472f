"""What SQLite and PostgreSQL say in different words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

# 21 columns of so many rows are 5,376 variables; SQLite takes 32,766 in one statement since its version 3.32.
ROWS_AT_ONCE = 256


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT with ``on_conflict_do_nothing`` and ``on_conflict_do_update``, for this connection's database."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def insert_plainly(connection: sa.Connection, statement: sa.Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of plain values that all have the same columns, past most of what the library does for each of them.

    Many rows are one step of the driver. Each step is a moment at which another thread may take the interpreter, and
    has to be waited for.
    """
    if connection.dialect.name == "postgresql":
        _insert_arrays(connection, statement, rows)
        return
    sql, columns = _one_row(connection, statement, tuple(rows[0]))
    values_of, start = itemgetter(*columns), 0
    while start < len(rows):
        # Powers of two, so that the driver knows the statement again.
        count = min(ROWS_AT_ONCE, 1 << (len(rows) - start).bit_length() - 1)
        values = chain.from_iterable(map(values_of, rows[start : start + count]))
        connection.exec_driver_sql(_many_rows(sql, len(columns), count), tuple(values))
        start += count


def _one_row(connection: sa.Connection, statement: sa.Insert, names: tuple[str, ...]) -> tuple[str, list[str]]:
    compiled = statement.compile(dialect=connection.dialect, column_keys=names)
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None
    return str(compiled), compiled.positiontup


@lru_cache(maxsize=64)
def _many_rows(sql: str, columns: int, count: int) -> str:
    one = f"({', '.join('?' * columns)})"
    before, values, after = sql.partition(f"VALUES {one}")
    assert values
    return f"{before}VALUES {', '.join([one] * count)}{after}"


def _insert_arrays(connection: sa.Connection, statement: sa.Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """One array for each column: PostgreSQL reads a long list of values more slowly than one row after the other."""
    columns = [statement.table.c[name] for name in rows[0]]
    arrays = [sa.bindparam(column.name, type_=postgresql.ARRAY(column.type)) for column in columns]
    source = sa.func.unnest(*arrays).table_valued(*(column.name for column in columns)).render_derived()
    values = {column.name: [row[column.name] for row in rows] for column in columns}
    connection.execute(statement.from_select(columns, sa.select(*source.c)), values)


class MadeInTurn(FunctionElement[int]):
    """``MadeInTurn(table.c.id)`` orders rows of one second: as they were made on SQLite, by id on PostgreSQL.

    PostgreSQL keeps no such order: its rows move when they change.
    """

    type = sa.Integer()
    inherit_cache = True


@compiles(MadeInTurn, "sqlite")
def _turn_of_sqlite(element: MadeInTurn, compiler: SQLCompiler, **_: Any) -> str:
    (column,) = element.clauses
    assert isinstance(column, sa.Column)
    return f"{compiler.preparer.format_table(column.table)}.rowid"


@compiles(MadeInTurn, "postgresql")
def _turn_of_postgresql(element: MadeInTurn, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)
