"""A platform file with mistakes in it: each is told with its line, its key and what it has to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arkway.admin.apply import read
from arkway.admin.apply.document import PROBLEMS_SHOWN
from arkway.admin.apply.entries import (
    SECTIONS,
    Endpoint,
)
from arkway.admin.apply.terms import Ref
from arkway.core.errors import Misconfigured

DOCS = Path(__file__).parents[3] / "docs"


def said(text: str) -> list[str]:
    with pytest.raises(Misconfigured) as refused:
        read(text, "platform.toml")
    return refused.value.message.splitlines()


@pytest.mark.parametrize(
    "text, message",
    [
        ("[[endpoint]]\nname = 'e'\n", "line 1: there is no table `endpoint`; did you mean `endpoints`?"),
        ("\nendpoints = 5\n", "line 2: `endpoints` is a list of tables: write [[endpoints]] above each of them"),
        ("[endpoints]\nname = 'e'\n", "line 1: `endpoints` is a list of tables"),
        (
            "[[endpoints]]\nname = 'e'\nmodle = 'm'\n",
            "line 3: `endpoints.modle`: there is no such key; did you mean `model`?",
        ),
        ("[[keys]]\nname = 'k'\nsecret = 'ark-hidden'\n", "line 3: `keys.secret`: there is no such key"),
        ("[[endpoints]]\nname = 'e'\n", "line 1: `[[endpoints]]`: the key `model` is missing; it is a model's name"),
        (
            "[[endpoints]]\nname = 'e'\nmodel = 'm'\nstatus = 'on'\n",
            "line 4: `endpoints.status`: has to be `running` or `stopped`, not 'on'",
        ),
        (
            "[[endpoints]]\nname = 'e'\nmodel = 'm'\n\n[[endpoints]]\nmodel = 'm'\nname = 'f'\nrpm = 1.5\n",
            "line 8: `endpoints.rpm`: has to be a whole number, 0 for no limit, not '1.5'",
        ),
        (
            "[[endpoints]]\nname = ''\nmodel = 'm'\n",
            "line 2: `endpoints.name`: has to be 1 to 128 printable characters",
        ),
        ("[[endpoints]]\nname = 'e'\nmodel = 'm'\ntags = { a = 1 }\n", "line 4: `endpoints.tags`: has to be texts by"),
        ('[[endpoints]]\nname = "a\\u001bb"\nmodel = "m"\n', "line 2: `endpoints.name`: an endpoint's name has"),
        (
            "[[keys]]\nname = 'k'\nexpires = 2026-01-01T00:00:00\n",
            "line 3: `keys.expires`: has to be a time with its offset",
        ),
        ("[[keys]]\nname = 'k'\nexpires = 'soon'\n", "`keys.expires`: has to be a time with its offset"),
        ("[[keys]]\nname = 'k'\nrole = 'root'\n", "`keys.role`: has to be `inference` or `viewer`"),
        (
            "[[accounts]]\nid='a'\n[[keys]]\naccount = 'a'\nname = 'k'\nrole = 'operator'\n",
            "line 6: `keys.role`: only keys of the account `default`",
        ),
        ("[[accounts]]\nid = '-a'\n", "line 2: `accounts.id`: has to be 1 to 64 letters"),
        ("[[accounts]]\nid = 'default'\nstatus = 'suspended'\n", "line 3: `accounts.status`: the account `default`"),
        ("[[limits]]\nscope = 'project'\nlimit = 'tokens'\namount = 1\n", "`limits.limit`: limits are rpm, tpm"),
        (
            "[[limits]]\nscope = 'project'\nlimit = 'rpm'\namount = 0\n",
            "`limits.amount`: has to be a number of at least 0.001",
        ),
        (
            "[[limits]]\nscope = 'project'\nlimit = 'rpm'\namount = nan\n",
            "`limits.amount`: has to be a number of at least 0.001",
        ),
        ("[[limits]]\nscope = 'key'\nlimit = 'rpm'\namount = 1\n", "`limits.name`: limits of keys, endpoints and bots"),
        ("[[limits]]\nscope = 'project'\nname = 'x'\nlimit = 'rpm'\namount = 1\n", "line 3: `limits.name`: limits of"),
        ("[[limits]]\nscope = 'project'\nlimit = 'concurrency'\namount = 1.5\n", "line 4: `limits.amount`: `concurren"),
        ("[[aliases]]\nname = 'a b'\nmodel = 'm'\n", "line 2: `aliases.name`: an alias has"),
        (
            "[[prices]]\nmodel = 'm'\neffective = 2026-01-01T00:00:30Z\nprompt = 1\ncompletion = 1\n",
            "line 3: `prices.effective`: a price begins at a whole minute",
        ),
        (
            "[[prices]]\nmodel = 'm'\neffective = 2026-01-01T00:00:00Z\nprompt = -1\ncompletion = 1\n",
            "line 4: `prices.prompt`: has to be the price of a million tokens, from 0 to",
        ),
        (
            "[[endpoints]]\nname = 'e'\nmodel = 'm'\n[[endpoints]]\nname = 'e'\nmodel = 'n'\n",
            "line 4: `[[endpoints]]`: the endpoint default/default/e is there already, at platform.toml, line 1",
        ),
        (
            "[[endpoints]\n",
            "platform.toml is not valid TOML: Expected ']]' at the end of an array declaration (at line 1",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_it_has_to_be(text: str, message: str) -> None:
    (line,) = said(text)
    assert line.startswith("platform.toml")
    assert message in line
    assert "hidden" not in line


def test_all_mistakes_are_told_at_once() -> None:
    text = "[[endpoints]]\nname = 'e'\nmodel = 5\n[[aliases]]\nmodel = 'm'\n[other]\n[[keys]]\nname = 'k'\nrol = 'x'\n"
    assert [re.search(r"line \d+: `[a-z_.\[\]]+`|line \d+: there is no table", line)[0] for line in said(text)] == [  # type: ignore[index]
        "line 6: there is no table",
        "line 3: `endpoints.model`",
        "line 9: `keys.rol`",
        "line 4: `[[aliases]]`",
    ]
    many = said("[[aliases]]\nname = 'a'\n" * (PROBLEMS_SHOWN + 5))
    assert (len(many), many[-1]) == (PROBLEMS_SHOWN + 1, "and 5 more")


def test_a_key_that_is_left_out_has_its_default() -> None:
    platform = read("[[endpoints]]\nname = 'e'\nmodel = 'm'\n", "f")
    ref = Ref("endpoint", "default", "default", "e")
    assert platform.entries == {ref: Endpoint(name="e", model="m")}
    assert platform.lines == {ref: 1}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_every_table_is_on_its_page(section: str) -> None:
    page = (DOCS / "apply.md").read_text(encoding="utf-8")
    part = page.partition(f"\n### `[[{section}]]`\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    named = re.findall(r"^\| `([a-z_]+)` \|", part, re.MULTILINE)
    assert named == list(SECTIONS[section].__struct_fields__)
