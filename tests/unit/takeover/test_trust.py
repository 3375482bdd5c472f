"""The recipes' own rules; that they work is shown against a running server."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from arkway.takeover.trust import STACKS, recipes

CA = Path("/srv/my data/tls/ca.pem")
URL = "https://localhost:8443"


@pytest.mark.parametrize("stack", STACKS)
def test_every_recipe_names_the_real_path_and_leaves_no_blank(stack: str) -> None:
    (recipe,) = recipes(CA, URL, stack)
    said = "\n".join((*recipe.commands, recipe.note))
    assert str(CA) in said
    assert not any(blank in said for blank in ("{ca}", "{url}", "{place}", "{host}"))
    for line in recipe.commands:
        assert shlex.split(line), "a line that no shell takes"


def test_a_path_with_spaces_stays_one_word() -> None:
    (recipe,) = recipes(CA, URL, "node")
    assert shlex.split(recipe.commands[0]) == ["export", f"NODE_EXTRA_CA_CERTS={CA}"]


def test_all_stacks_come_at_once_and_an_address_in_brackets_is_taken() -> None:
    chosen = recipes(CA, "https://[::1]:8443")
    assert tuple(recipe.stack for recipe in chosen) == STACKS
    openssl = next(recipe for recipe in chosen if recipe.stack == "openssl")
    assert "-connect [::1]:8443 -servername ::1 " in openssl.commands[0]
