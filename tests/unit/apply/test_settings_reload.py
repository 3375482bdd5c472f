"""Which settings change while the server runs, and what a reload leaves behind when it goes wrong."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arkway.app.reload import LIVE, Reloader, Take, changed, merged
from arkway.config import Settings, known_keys, load
from arkway.core.errors import Misconfigured

DOCS = Path(__file__).parents[3] / "docs"


def settings(**sections: Any) -> Settings:
    return load(environ={"ARKWAY_HOME": "/nonexistent"}, overrides=sections)


def test_every_live_setting_is_a_setting_and_on_its_page() -> None:
    assert set(known_keys()) >= LIVE
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    part = page.partition("\n## Changing settings while the server runs\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", part.partition("\n\nAll others")[0]))
    assert listed == LIVE


def test_what_cannot_change_stays_until_the_next_start() -> None:
    old = settings()
    new = settings(server={"port": 1, "log_level": "debug"}, engine={"slots": 2, "queue_limit": 3}, tls={"key": "k"})
    assert set(changed(old, new)) == {
        "server.port",
        "server.log_level",
        "engine.slots",
        "engine.queue_limit",
        "tls.key",
    }
    now = merged(old, new)
    assert set(changed(old, now)) == {"server.log_level", "engine.queue_limit", "tls.key"}
    assert set(changed(now, new)) == {"server.port", "engine.slots"}
    assert merged(old, old) == old


class Outside:
    """Settings as they are outside, and what was taken in."""

    def __init__(self) -> None:
        self.now: Settings | Exception = settings()
        self.refused: Exception | None = None
        self.taken: list[Settings] = []
        self.reads = 0

    def read(self) -> Settings:
        self.reads += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def prepare(self, wanted: Settings) -> Take:
        if self.refused is not None:
            raise self.refused
        return lambda: self.taken.append(wanted)


async def settled(reloader: Reloader) -> None:
    await asyncio.sleep(0)
    while reloader._task is not None and not reloader._task.done():
        await asyncio.sleep(0.005)


async def test_what_is_asked_before_the_start_is_done_at_the_start_and_many_at_a_time_are_few() -> None:
    outside = Outside()
    reloader = Reloader(settings(), outside.read)
    reloader.ask()
    outside.now = settings(stream={"heartbeat_s": 1})
    reloader.start(outside.prepare)
    await settled(reloader)
    assert [each.stream.heartbeat_s for each in outside.taken] == [1.0]
    for _ in range(20):
        reloader.ask()
    await settled(reloader)
    assert 2 <= outside.reads <= 3


@pytest.mark.parametrize("how", ["read", "prepare", "defect"])
async def test_what_goes_wrong_leaves_the_old_settings_and_is_told(how: str, caplog: pytest.LogCaptureFixture) -> None:
    outside = Outside()
    old = settings()
    reloader = Reloader(old, outside.read)
    reloader.start(outside.prepare)
    wrong = Misconfigured("arkway.toml, line 2: the setting `server.port` has to be an integer")
    outside.now = wrong if how == "read" else settings(stream={"total_s": 9})
    outside.refused = {"read": None, "prepare": wrong, "defect": ValueError("hidden")}[how]
    reloader.ask()
    await settled(reloader)
    assert (reloader.settings, outside.taken) == (old, [])
    (note,) = reloader.notes()
    assert note.startswith("changed settings were not taken in, the old ones stay: ")
    assert note.endswith("see the log")  # anybody can read it, and a mistake may hold a password
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert ("line 2" in caplog.records[0].getMessage()) == (how != "defect")
    outside.now, outside.refused = settings(stream={"total_s": 9}), None
    reloader.ask()
    await settled(reloader)
    assert (reloader.settings.stream.total_s, reloader.notes()) == (9.0, ())


async def test_a_value_that_needs_a_start_is_named_without_its_value(caplog: pytest.LogCaptureFixture) -> None:
    outside = Outside()
    outside.now = settings(database={"url": "postgresql://u:hidden@h/d"}, stream={"total_s": 9})
    reloader = Reloader(settings(), outside.read)
    reloader.start(outside.prepare)
    with caplog.at_level("INFO"):
        reloader.ask()
        await settled(reloader)
    assert outside.taken[0].database.url == ""
    assert "take effect when the server starts again: database.url" in caplog.text
    assert "changed: stream.total_s" in caplog.text
    assert "hidden" not in caplog.text


def test_a_mistake_in_the_file_is_told_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "arkway.toml"
    for text, line, key in (
        ("# first\n[server]\nport = 'x'\n", 3, "server.port"),
        ("[engine]\nslots = 4\n\n[stream]\ntotal = 5\n", 5, "stream.total"),
        ("\nstream.total_s = 0\n", 2, "stream.total_s"),
        ("server = 1\n", 1, "server"),
        ("[signing]\nregions = [\n 5,\n]\n", 2, "signing.regions"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(Misconfigured) as refused:
            load(file, {"ARKWAY_HOME": str(tmp_path)})
        assert refused.value.message.startswith(f"{file}, line {line}: "), refused.value.message
        assert f"`{key}`" in refused.value.message
    file.write_text("[server]\nport = 1\n", encoding="utf-8")
    with pytest.raises(Misconfigured) as refused:
        load(file, {"ARKWAY_HOME": str(tmp_path), "ARKWAY__SERVER__PORT": "x"})
    assert refused.value.message.startswith("the setting `server.port`")
    assert msgspec.structs.asdict(load(file, {"ARKWAY_HOME": str(tmp_path)}).server)["port"] == 1
