"""Settings that are lists: in the file as lists, in a variable with commas."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.config import load
from arkway.core.errors import Misconfigured


@pytest.mark.parametrize("value", ["a.example,b.example", " a.example , b.example ,", "a.example,,b.example"])
def test_a_variable_is_cut_at_its_commas(value: str) -> None:
    assert load(environ={"ARKWAY__SIGNING__PUBLIC_HOSTS": value}).signing.public_hosts == ("a.example", "b.example")


def test_an_empty_variable_is_an_empty_list() -> None:
    assert load(environ={"ARKWAY__SIGNING__REGIONS": ""}).signing.regions == ()


def test_the_file_has_lists(tmp_path: Path) -> None:
    file = tmp_path / "arkway.toml"
    file.write_text('[signing]\nregions = ["cn-beijing", "ap-southeast-1"]\n')
    assert load(file, environ={}).signing.regions == ("cn-beijing", "ap-southeast-1")


@pytest.mark.parametrize("value", ["[1]", "7", "true"])
def test_what_is_no_list_of_strings_is_told(tmp_path: Path, value: str) -> None:
    file = tmp_path / "arkway.toml"
    file.write_text(f"[signing]\nregions = {value}\n")
    with pytest.raises(Misconfigured, match=r"`signing.regions` has to be a list of strings"):
        load(file, environ={})
