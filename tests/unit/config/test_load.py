"""Settings: defaults, file, environment, command line, each over the one before; mistakes explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.config import default_home, known_keys, load
from arkway.core.errors import Misconfigured


def test_defaults_listen_on_loopback_only(tmp_path: Path) -> None:
    settings = load(environ={"ARKWAY_HOME": str(tmp_path)})
    assert settings.home == tmp_path
    assert settings.server.host == "127.0.0.1"
    assert not settings.surface.v3_model_names
    assert settings.surface.openai_model_names


def test_each_layer_goes_over_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "arkway.toml").write_text("[server]\nport = 1\nhost = 'a'\ndrain_s = 1.5\n", encoding="utf-8")
    environ = {"ARKWAY_HOME": str(tmp_path), "ARKWAY__SERVER__PORT": "2", "ARKWAY__SERVER__HOST": "b", "OTHER": "x"}
    settings = load(environ=environ, overrides={"server": {"host": "c"}})
    assert (settings.server.drain_s, settings.server.port, settings.server.host) == (1.5, 2, "c")


def test_a_named_file_replaces_the_one_at_home(tmp_path: Path) -> None:
    (tmp_path / "arkway.toml").write_text("[server]\nport = 1\n", encoding="utf-8")
    other = tmp_path / "other.toml"
    other.write_text("[engine]\nslots = 2\n", encoding="utf-8")
    settings = load(other, {"ARKWAY_HOME": str(tmp_path)})
    assert (settings.server.port, settings.engine.slots) == (8080, 2)


def test_words_from_the_environment_become_values(tmp_path: Path) -> None:
    environ = {
        "ARKWAY_HOME": str(tmp_path),
        "ARKWAY__SERVER__ACCESS_LOG": "true",
        "ARKWAY__STREAM__HEARTBEAT_S": "0.5",
        "ARKWAY__LEDGER__DURABILITY": "sync",
    }
    settings = load(environ=environ)
    assert settings.server.access_log
    assert settings.stream.heartbeat_s == 0.5
    assert settings.ledger.durability == "sync"


@pytest.mark.parametrize(
    "text, said",
    [
        ("[server]\nprot = 1\n", "server.port"),
        ("[servr]\nport = 1\n", "server"),
        ("[server]\nport = 'x'\n", "port"),
        ("[server]\nport = 1.5\n", "port"),
        ("[server]\nlog_level = 'loud'\n", "log_level"),
        ("[ledger]\ndurability = 'maybe'\n", "durability"),
        ("server = 1\n", "server"),
        ("[server\n", "TOML"),
    ],
)
def test_a_mistake_is_explained(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "arkway.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(Misconfigured, match=said):
        load(file, {"ARKWAY_HOME": str(tmp_path)})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml", {})


def test_an_unknown_variable_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"server\.port"):
        load(environ={"ARKWAY_HOME": str(tmp_path), "ARKWAY__SERVER__PORTT": "1"})


def test_home_follows_the_desktop_conventions() -> None:
    assert default_home({"ARKWAY_HOME": "/a", "XDG_DATA_HOME": "/b"}) == Path("/a")
    assert default_home({"XDG_DATA_HOME": "/b"}) == Path("/b/arkway")
    assert default_home({}) == Path("~/.local/share/arkway").expanduser()


def test_every_key_is_known_by_its_dotted_name() -> None:
    keys = known_keys()
    assert {"home", "server.port", "stream.heartbeat_s", "ledger.durability"} <= set(keys)
    assert len(keys) == len(set(keys))
