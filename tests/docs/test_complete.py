"""Nothing that a user can meet is missing from its page."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import arkway.http
import arkway.wire
from arkway import config
from arkway.app.installation import Installation
from arkway.backends.engine import schema
from arkway.core import errors
from arkway.dialects.openai import errors as openai_errors
from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v3 import errors as v3_errors
from arkway.dialects.v3 import fields as v3_fields
from arkway.http.surface import ROUTES, Route
from arkway.models.catalogue import CATALOGUE, DEFAULT_CHAT, catalogued
from arkway.wire import limits
from arkway.wire.fields import Table
from arkway.wire.maas_shape import errors as maas_errors
from scripts.generate_docs import ROOT, coded, command_contexts, error_leaves
from tests.docs.markdown import text_of

DOCS = ROOT / "docs"
TABLES = {
    "v3.CHAT": v3_fields.CHAT,
    "v3.EMBED": v3_fields.EMBED,
    "v3.TOKENIZE": v3_fields.TOKENIZE,
    "openai.CHAT": openai_fields.CHAT,
    "openai.EMBED": openai_fields.EMBED,
}
NOT_A_LIMIT_OF_ITS_OWN = {"arkway.wire.fields.INTEGER_MAX"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_the_api_page(route: Route) -> None:
    path = route.path.replace("{}", "{name}")
    assert f"| {route.method} | `{path}` |" in text_of(DOCS / "api.md")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_field_is_in_the_api_page_with_what_it_does(table: Table) -> None:
    page = text_of(DOCS / "api.md")
    for field in table.values():
        assert re.search(rf"^\| `{field.name}` \| {field.kind} \|.*\| {field.effect} \|", page, re.MULTILINE), field


@pytest.mark.parametrize("key", config.known_keys())
def test_every_setting_is_in_the_configuration_page(key: str) -> None:
    row = next(line for line in text_of(DOCS / "configuration.md").splitlines() if line.startswith(f"| `{key}` |"))
    variable = "ARKWAY_HOME" if key == "home" else f"ARKWAY__{key.upper().replace('.', '__')}"
    assert f"`{variable}`" in row


@pytest.mark.parametrize("key", config.known_keys()[1:])
def test_the_environment_form_of_every_setting_is_read(key: str, tmp_path: Path) -> None:
    *parents, leaf = key.split(".")
    section = getattr(config.load(environ={}, overrides={"home": str(tmp_path)}), parents[0])
    held = getattr(section, leaf)
    value = (
        ",".join(map(str, held))
        if isinstance(held, tuple)
        else str(held).lower()
        if isinstance(held, bool)
        else str(held)
    )
    name = f"ARKWAY__{key.upper().replace('.', '__')}"
    again = config.load(environ={name: value}, overrides={"home": str(tmp_path)})
    assert getattr(again, parents[0]) == section


@pytest.mark.parametrize("leaf", error_leaves(), ids=lambda leaf: leaf.__name__)
def test_every_error_is_in_the_errors_page(leaf: type[errors.ArkwayError]) -> None:
    page = text_of(DOCS / "errors.md")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{leaf.__name__}` |"))
    for codes in (maas_errors.CODES, v3_errors.CODES, openai_errors.CODES):
        code = coded(codes, leaf)
        assert f"{code.status} `{code.code}` `{code.number or code.type}`" in row
    assert re.search(rf"─ {leaf.__name__}\b", page)


def test_every_command_and_option_is_in_the_command_line_page() -> None:
    page = text_of(DOCS / "cli.md")
    for context in command_contexts():
        part = page.partition(f"\n## {context.command_path}\n")[2].partition("\n## ")[0]
        assert part, context.command_path
        for parameter in context.command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in part, f"{context.command_path} {option}"


def test_every_command_takes_json() -> None:
    for context in command_contexts():
        if not hasattr(context.command, "list_commands"):
            assert any("--json" in parameter.opts for parameter in context.command.params), context.command_path


def test_every_limit_of_the_edge_and_the_wire_is_in_the_limits_page() -> None:
    page = text_of(DOCS / "limits.md")
    for name in sorted(set(_limits()) - NOT_A_LIMIT_OF_ITS_OWN):
        assert f"`{name}`" in page, name


def _limits() -> Iterator[str]:
    modules = [schema, *_modules(arkway.wire), *_modules(arkway.http)]
    for module in modules:
        for name, value in vars(module).items():
            is_limit = isinstance(value, int) and re.search(r"(^|_)MAX($|_)", name) and not name.startswith("_")
            if is_limit and (module is limits or not hasattr(limits, name)):
                yield f"{module.__name__}.{name}"


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def test_every_model_of_the_catalogue_is_in_the_models_page() -> None:
    page = text_of(DOCS / "models.md")
    for entry in CATALOGUE:
        part = page.partition(f"### {entry.name}\n")[2]
        facts = [entry.version, entry.sha256, entry.card.licence, entry.card.served_name, *entry.sources]
        assert all(fact in part for fact in facts), entry.name


def test_sizes_that_are_named_in_passing_are_the_catalogues() -> None:
    size = f"{catalogued(DEFAULT_CHAT).size_bytes / 1e6:.0f} MB"
    assert size in text_of(ROOT / "README.md")
    assert size in text_of(DOCS / "quickstart.md")


def test_every_reading_of_an_installation_is_in_the_api_page(tmp_path: Path) -> None:
    page = text_of(DOCS / "api.md")
    installation = Installation(config.load(environ={}, overrides={"home": str(tmp_path / "home")}))
    try:
        readings = installation.parts().gauges()
    finally:
        installation.close()
    assert readings
    assert all(f"`arkway_{name}`" in page for name in readings)


def test_every_folder_of_tests_is_in_the_testing_page() -> None:
    page = text_of(DOCS / "testing.md")
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py"))}
    assert {name for name in folders if f"`tests/{name}`" not in page} == set()
