"""What SQLite and PostgreSQL say in different words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT with ``on_conflict_do_nothing`` and ``on_conflict_do_update``, for this connection's database."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def insert_plainly(connection: sa.Connection, statement: sa.Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of plain values that all have the same columns, at a third of what the whole way of the library costs."""
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    names = compiled.positiontup if isinstance(compiled, SQLCompiler) and compiled.positional else None
    values: Any = rows if names is None else list(map(itemgetter(*names), rows))
    connection.exec_driver_sql(str(compiled), values)


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
