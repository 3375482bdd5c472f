"""The tenant is in every query: each statement that a table class makes for a tenant is looked at as it is executed.

Methods are found by themselves, and called with examples by the names of their parameters: a new one is either asked
here for a tenant's sake or listed as the whole host's, with the reason.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import operators, visitors

import arkway.stores
from arkway.core.audit import Actor, Entry
from arkway.stores import schema
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.keyring import KeyRing
from arkway.stores.recorded import Recorded
from arkway.stores.store import Store
from arkway.stores.tables import KeyTable

ACCOUNT, PROJECT = "acme", "second"
SOURCES = sorted(Path(arkway.stores.__path__[0]).glob("*.py"))
TENANT_TABLES = {table.name for table in schema.metadata.tables.values() if "account" in table.c} | {"accounts"}

# What is asked for the whole host, and why. Everything else is asked for one tenant.
HOST_WIDE = {
    "AccessKeyTable.check_ring": "the key ring is the host's; it reads ciphertext to know the ids of its keys",
    "AccountTable.rows": "the operator's list",
    "AliasTable": "aliases are the operator's",
    "PriceTable": "prices are the operator's",
    "UpstreamTable": "upstreams are the operator's",
    "GroupTable": "groups are the operator's",
    "AuditTable.rows_of_all": "the operator's view",
    "UsageTable.by_ids": "the ledger is checked against the journal, which is the host's",
}
# Functions that ask for a tenant's rows and do not name the account themselves.
ELSEWHERE_NAMED = {
    "access_keys._check_ring": HOST_WIDE["AccessKeyTable.check_ring"],
    "access_keys._behind": "a rotation encrypts every secret of the host anew",
    "access_keys._encrypt_anew": "as above",
    "access_keys._batch": "as above",
    "access_keys._kids": "as above",
    "bots.BotShelf.read": "the cache of the whole host",
    "directory._write_used": "times of last use, of whichever keys were used",
    "tenancy.AccountTable.rows": HOST_WIDE["AccountTable.rows"],
    "usage.UsageTable.by_ids": HOST_WIDE["UsageTable.by_ids"],
    "limits.LimitTable.remove": "its callers give the whole place, as a mapping",
    "audit._matching": "callers add the account; the operator's view has none",
}
FILTERED = re.compile(r"\.account\b|\b_?within\(|\b_?mine\(|\b_is\(|\btenant\b|\baccount ==|\baccounts\.c\.id ==")

EXAMPLES: dict[str, Any] = {
    "account": ACCOUNT,
    "project": PROJECT,
    "tenants": [(ACCOUNT, PROJECT)],
    "key_id": "key-1",
    "access_key_id": "AKLT1",
    "endpoint_id": "ep-1",
    "bot_id": "bot-1",
    "values": {"status": "stopped"},
    "status": "suspended",
    "now_s": 1_750_000_000,
    "since_ms": 0,
    "until_ms": 1_800_000_000_000,
    "day_ms": 1_750_000_000_000,
    "limit": 10,
    "deleted": False,
    "actor": "cli:anna",
    "action": "keys.create",
    "where": {},
    "by": ("day",),
    "scope": "key",
    "subject": "key-1",
    "role": "viewer",
    "endpoints": (),
    "expires_at": None,
    "before": (1_750_000_000_000, "audit-1"),
    "name": "second",
}
OWN_EXAMPLES: dict[str, dict[str, Any]] = {
    "LimitTable.remove": {
        "where": {"account": ACCOUNT, "project": PROJECT, "scope": "key", "subject": "key-1"},
        "which": [("requests", "minute")],
    },
}
SKIPPED = {"under", "insert", "append", "put"}  # they write rows that hold their account, or none


def table_classes() -> dict[str, type[Any]]:
    found = {}
    for module in pkgutil.iter_modules(arkway.stores.__path__, "arkway.stores."):
        if module.name.rpartition(".")[2] in ("migrations", "postgres", "postgres_link"):
            continue
        for name, each in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(each) and each.__module__ == module.name and not name.startswith("_")
            if own and (name.endswith("Table") or (issubclass(each, Recorded) and each is not Recorded)):
                found[name] = each
    return found


def methods() -> Iterator[Any]:
    for name, each in table_classes().items():
        for method, function in vars(each).items():
            public = inspect.isfunction(function) and not method.startswith("_") and method not in SKIPPED
            if public and name not in HOST_WIDE and f"{name}.{method}" not in HOST_WIDE:
                yield pytest.param(each, method, id=f"{name}.{method}")


def made(each: type[Any], store: Store, home: Path) -> Any:
    """The table, with examples for what its constructor takes besides the store."""
    if each is AccessKeyTable:
        return AccessKeyTable(store, KeyRing(home))
    parameters = list(inspect.signature(each).parameters.values())[1:]
    given = {
        parameter.name: EXAMPLES[parameter.name] for parameter in parameters if parameter.default is parameter.empty
    }
    return each(store, **given)


def watched(store: Store, work: Callable[[], Any]) -> list[sa.ClauseElement]:
    """The statements that were executed meanwhile."""
    seen: list[sa.ClauseElement] = []

    def note(_: Any, element: Any, *rest: Any) -> None:
        assert isinstance(element, sa.ClauseElement), "a statement in text: nobody can look into it"
        seen.append(element)

    sa.event.listen(sa.Engine, "before_execute", note)
    try:
        result = work()
        if inspect.isgenerator(result):
            list(result)
    finally:
        sa.event.remove(sa.Engine, "before_execute", note)
    return seen


def unfiltered(statement: sa.ClauseElement) -> set[str]:
    """The tenant tables of a statement, or of a part of it, that are not narrowed to the tenant."""
    found: set[str] = set()
    for node in visitors.iterate(statement):
        if isinstance(node, sa.Select):
            tables = [part for source in node.order_by(None).get_final_froms() for part in _tables(source)]
        elif isinstance(node, sa.Update | sa.Delete):
            tables = _tables(node.table)
        else:
            continue
        found |= {table.name for table in tables if table.name in TENANT_TABLES and not _narrowed(node, table)}
    return found


def _tables(source: Any) -> list[sa.Table]:
    if isinstance(source, sa.Table):
        return [source]
    if isinstance(source, sa.Join):
        return [*_tables(source.left), *_tables(source.right)]
    return []  # a subquery is a Select of its own


def _narrowed(node: sa.Select[Any] | sa.Update | sa.Delete, table: sa.Table) -> bool:
    wanted = {"id": ACCOUNT} if table.name == "accounts" else {"account": ACCOUNT}
    if "project" in table.c and table.name != "audit":
        wanted["project"] = PROJECT
    told = {column: values for each in _conjuncts(node.whereclause) for column, values in _equation(each, table)}
    # Of the limits of a whole account the project is empty: they bind each of its projects.
    return all(told.get(column, set()) - {""} == {value} for column, value in wanted.items())


def _conjuncts(clause: Any) -> Iterator[Any]:
    """What has to hold altogether: an OR is one condition, and narrows nothing."""
    if isinstance(clause, sa.sql.elements.BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from _conjuncts(part)
    elif isinstance(clause, sa.sql.elements.Grouping):
        yield from _conjuncts(clause.element)
    elif clause is not None:
        yield clause


def _equation(clause: Any, table: sa.Table) -> Iterator[tuple[str, set[Any]]]:
    """``column = value``, or ``column IN (values)``, of this table."""
    if isinstance(clause, sa.BinaryExpression) and clause.operator in (operators.eq, operators.in_op):
        left, right = clause.left, clause.right
        if isinstance(left, sa.Column) and left.table is table and isinstance(right, sa.BindParameter):
            value = right.effective_value
            yield left.name, {value} if clause.operator is operators.eq else set(cast(list[Any], value))


def test_table_classes_are_found() -> None:
    assert {"KeyTable", "AccessKeyTable", "EndpointTable", "UsageTable", "ProjectTable", "AuditTable"} <= set(
        table_classes()
    )


@pytest.mark.parametrize(("each", "method"), list(methods()))
def test_a_statement_for_a_tenant_names_the_tenant(each: type[Any], method: str, store: Store, tmp_path: Path) -> None:
    table = made(each, store, tmp_path)
    parameters = list(inspect.signature(getattr(each, method)).parameters.values())[1:]
    examples = {**EXAMPLES, **OWN_EXAMPLES.get(f"{each.__name__}.{method}", {})}
    missing = [parameter.name for parameter in parameters if parameter.name not in examples]
    assert not missing, "give EXAMPLES a value for it, or list the method in HOST_WIDE"
    given = {parameter.name: examples[parameter.name] for parameter in parameters}
    statements = watched(store, lambda: getattr(table, method)(**given))
    assert statements
    for statement in statements:
        assert not unfiltered(statement), str(statement.compile(dialect=sqlite.dialect()))


KEYS, ENDPOINTS = schema.api_keys, schema.endpoints
MINE = sa.and_(KEYS.c.account == ACCOUNT, KEYS.c.project == PROJECT)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (sa.select(KEYS).where(MINE), []),
        (sa.select(KEYS).where(MINE, KEYS.c.id == "key-1"), []),
        (sa.select(KEYS), ["api_keys"]),
        (sa.select(KEYS).where(KEYS.c.account == ACCOUNT), ["api_keys"]),
        (sa.select(KEYS).where(KEYS.c.account == "another", KEYS.c.project == PROJECT), ["api_keys"]),
        (sa.select(KEYS).where(KEYS.c.account.in_([ACCOUNT, "another"]), KEYS.c.project == PROJECT), ["api_keys"]),
        (sa.select(KEYS).where(sa.or_(MINE, KEYS.c.id == "key-1")), ["api_keys"]),
        (sa.select(KEYS).where(KEYS.c.account != ACCOUNT, KEYS.c.project == PROJECT), ["api_keys"]),
        (KEYS.update().where(KEYS.c.id == "key-1").values(name="x"), ["api_keys"]),
        (KEYS.delete().where(MINE), []),
        (sa.select(KEYS, ENDPOINTS).where(MINE), ["endpoints"]),
        (sa.select(sa.select(KEYS).subquery()), ["api_keys"]),
        (sa.select(KEYS).where(MINE, KEYS.c.id.in_(sa.select(ENDPOINTS.c.id))), ["endpoints"]),
        (sa.select(schema.aliases), []),
    ],
)
def test_the_check_itself_sees_what_is_missing(statement: sa.ClauseElement, found: list[str]) -> None:
    assert unfiltered(statement) == set(found)


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{part.name}", part) for part in node.body if isinstance(part, ast.FunctionDef))


def asks(function: ast.FunctionDef) -> bool:
    """Whether it builds a query or a change of a tenant's table. Reads names, and not what they are bound to."""
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    calls = {
        node.func.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    return bool(names & TENANT_TABLES and calls & {"select", "update", "delete", "select_from"})


def suspicious(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    for name, function in functions(ast.parse(text)):
        if asks(function) and not FILTERED.search(ast.get_source_segment(text, function) or ""):
            yield f"{file.stem}.{name}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_no_function_forgets_the_tenant(file: Path) -> None:
    assert set(suspicious(file)) - set(ELSEWHERE_NAMED) == set()


def test_what_is_listed_as_the_hosts_is_still_there() -> None:
    found = {name for file in SOURCES for name in suspicious(file)}
    assert set(ELSEWHERE_NAMED) - found == set()
    classes = table_classes()
    for entry in HOST_WIDE:
        name, _, method = entry.partition(".")
        assert hasattr(classes[name], method or "__init__"), entry


def test_a_table_under_an_entry_writes_both_in_one_transaction(store: Store) -> None:
    commits: list[list[str]] = [[]]

    def note(_: Any, element: Any, *rest: Any) -> None:
        if isinstance(element, sa.Insert | sa.Update | sa.Delete):
            commits[-1].append(str(element.table))

    def commit(_: Any) -> None:
        commits.append([])

    row = {"account": "default", "project": "default", "name": "n", "last4": "abcd", "endpoints": (), "created_at": 1}
    entry = Entry("default", "default", Actor("cli:anna"), "keys.create", "key-1")
    sa.event.listen(sa.Engine, "before_execute", note)
    sa.event.listen(sa.Engine, "commit", commit)
    try:
        KeyTable(store).under(entry).insert({"id": "key-1", **row}, b"digest")
    finally:
        sa.event.remove(sa.Engine, "before_execute", note)
        sa.event.remove(sa.Engine, "commit", commit)
    assert [written for written in commits if written] == [["api_keys", "audit"]]
