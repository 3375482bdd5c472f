"""Settings: defaults, file, environment, command line, each over the one before; mistakes explained."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from arkway.config import Settings, default_home, known_keys, load, range_of
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


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("server.port", "65536", "an integer from 0 to 65535, not '65536'"),
        ("server.port", "-1", "an integer from 0 to 65535"),
        ("server.port", "http", "an integer from 0 to 65535, not 'http'"),
        ("server.host", "", "a string with at least one character"),
        ("server.drain_s", "0", "a number above 0, up to 2592000, not '0'"),
        ("stream.heartbeat_s", "nan", "a number from 0.01 to 3600"),
        ("stream.total_s", "inf", "up to 2592000, not 'inf'"),
        ("stream.next_event_s", "-0.5", "a number above 0"),
        ("engine.slots", "0", "an integer from 1 to 64"),
        ("engine.slots", "65", "an integer from 1 to 64"),
        ("engine.threads", "-1", "an integer from 0 to 1024"),
        ("engine.memory_mib", "-1", "an integer from 0 to"),
        ("engine.queue_limit", "-1", "an integer from 0 to"),
        ("engine.preload", "perhaps", "true or false, not 'perhaps'"),
        ("ledger.durability", "maybe", "`process` or `group` or `sync`, not 'maybe'"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(key: str, value: str, said: str) -> None:
    variable = "ARKWAY__" + key.upper().replace(".", "__")
    with pytest.raises(Misconfigured) as caught:
        load(environ={"ARKWAY_HOME": "/nonexistent", variable: value})
    assert caught.value.message.startswith(f"the setting `{key}` has to be ")
    assert said in caught.value.message


@pytest.mark.parametrize(
    "section, key, value, said",
    [
        ("database", "url", "mysql://me:hidden@db/x", "empty (SQLite in the data directory) or `postgresql://"),
        ("database", "url", "arkway-hidden.db", "or `postgresql://user@host:5432/name`"),
        ("database", "url", "sqlite+postgresql://hidden", "or `postgresql://user@host:5432/name`"),
        ("limits", "valkey", "http://:hidden@cache:6379", "or a URL such as `redis://host:6379/0`"),
        ("limits", "valkey", "cache-hidden:6379", "or a URL such as `redis://host:6379/0`"),
    ],
)
def test_an_address_of_another_kind_is_refused_with_its_line_and_not_shown(
    tmp_path: Path, section: str, key: str, value: str, said: str
) -> None:
    file = tmp_path / "arkway.toml"
    file.write_text(f'[server]\nport = 1\n\n[{section}]\n{key} = "{value}"\n', encoding="utf-8")
    with pytest.raises(Misconfigured) as caught:
        load(environ={"ARKWAY_HOME": str(tmp_path)})
    assert caught.value.message.startswith(f"{file}, line 5: the setting `{section}.{key}` has to be ")
    assert said in caught.value.message
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["", "postgres://h/x", "postgresql://u:p%40@h1:1,h2:2/x?sslmode=require", "postgresql+psycopg://h/x"]
)
def test_addresses_of_databases(url: str) -> None:
    assert load(environ={"ARKWAY_HOME": "/x", "ARKWAY__DATABASE__URL": url}).database.url == url


@pytest.mark.parametrize("url", ["", "redis://:p@h:6379/0", "rediss://h", "unix:///run/valkey.sock"])
def test_addresses_of_counting_servers(url: str) -> None:
    assert load(environ={"ARKWAY_HOME": "/x", "ARKWAY__LIMITS__VALKEY": url}).limits.valkey == url


@pytest.mark.parametrize("literal", ["nan", "inf", "-inf", "0", "1e400"])
def test_no_number_of_a_file_is_endless(tmp_path: Path, literal: str) -> None:
    (tmp_path / "arkway.toml").write_text(f"[stream]\ntotal_s = {literal}\n", encoding="utf-8")
    with pytest.raises(Misconfigured, match=r"stream\.total_s.* above 0, up to 2592000"):
        load(environ={"ARKWAY_HOME": str(tmp_path)})


def test_the_ends_of_a_range_belong_to_it() -> None:
    environ = {"ARKWAY_HOME": "/nonexistent", "ARKWAY__SERVER__PORT": "65535", "ARKWAY__ENGINE__SLOTS": "64"}
    settings = load(environ={**environ, "ARKWAY__ENGINE__QUEUE_LIMIT": "0"})
    assert (settings.server.port, settings.engine.slots, settings.engine.queue_limit) == (65535, 64, 0)


def test_every_number_has_a_range() -> None:
    for section in msgspec.structs.fields(Settings)[1:]:
        for field in msgspec.structs.fields(section.type):
            kind = get_args(field.type)[0] if hasattr(field.type, "__metadata__") else field.type
            assert kind not in (int, float) or range_of(field.type), field.name


@pytest.mark.parametrize(
    "environ, said",
    [
        ({"ARKWAY__SERVER": "1", "ARKWAY__SERVER__PORT": "2"}, "`server` is a section"),
        ({"ARKWAY__SERVER__PORT": "2", "ARKWAY__SERVER": "1"}, "`server` is a section"),
        ({"ARKWAY__SERVER": "1"}, "`server` is a section"),
        ({"ARKWAY__SERVER__PORT": "1", "ARKWAY__SERVER__PORT__X": "2"}, "unknown key `server.port.x`"),
        ({"ARKWAY__SERVER__PORT__X": "2"}, "unknown key `server.port.x`"),
        ({"ARKWAY__NOTHING": "1", "ARKWAY__NOTHING__X": "2"}, "unknown key `nothing.x`"),
        ({"ARKWAY__HOME": "1", "ARKWAY__HOME__X": "2"}, "unknown key `home.x`"),
        ({"ARKWAY__": "1"}, "unknown key ``"),
    ],
)
def test_variables_that_do_not_fit_together_are_explained(environ: dict[str, str], said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(environ={"ARKWAY_HOME": "/nonexistent", **environ})
    assert said in caught.value.message


def test_a_section_with_a_value_is_not_hidden_by_a_later_layer(tmp_path: Path) -> None:
    (tmp_path / "arkway.toml").write_text("server = 1\n", encoding="utf-8")
    with pytest.raises(Misconfigured, match=r"`server` is a section.*ARKWAY__SERVER__HOST"):
        load(environ={"ARKWAY_HOME": str(tmp_path), "ARKWAY__SERVER__PORT": "2"})


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
