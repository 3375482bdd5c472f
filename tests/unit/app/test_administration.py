"""The Admin API's changes of several tables: each is one step, of which all is kept or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from msgspec.structs import replace

from arkway.admin.groups import card_of
from arkway.app.administration import admin_commands, status_of
from arkway.core.audit import SERVER
from arkway.core.caller import Caller
from arkway.core.errors import InvalidField
from arkway.core.upstream import Credential, Group, Member, Upstream
from arkway.http.admin.commands import Commands, Step
from arkway.http.admin.errors import NotFound
from arkway.http.admin.operations import Request
from arkway.http.admin.paging import Page
from arkway.http.admin.upstreams import MemberGiven, SetGroup, UpdateUpstream, set_group, update_upstream
from arkway.stores.home import Pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.sqlite import SqliteStore

NOW_S = 1_750_000_000
OPERATOR = Caller("default", "default", "key-1", role="operator")


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    with SqliteStore(tmp_path / "arkway.db") as store:
        yield admin_commands(
            store,
            Pepper(b"of the tests"),
            KeyRing(tmp_path),
            lambda name, version: None,
            tuple,
            lambda: status_of((), (), {}),
            lambda *_: False,
            elsewhere,
        )


def request(body: msgspec.Struct, name: str = "") -> Request:
    return Request(OPERATOR, SERVER, NOW_S, "default", "default", name, None, body, Page(1))


def elsewhere(*_: Any) -> NoReturn:
    raise AssertionError("that is a step of its own")


def in_one_step(commands: Commands) -> Commands:
    return replace(commands, upstreams=elsewhere, groups=elsewhere, endpoints=elsewhere)


def actions(commands: Commands) -> list[str]:
    return [entry.action for entry in commands.audit(None).list()]


def test_of_a_change_that_fails_nothing_is_kept(commands: Commands) -> None:
    group = Group(card=card_of("m", "1"), members=(Member(upstream="one", model="m"),))

    def change(step: Step) -> None:
        step.upstreams.add(Upstream(name="one", base_url="http://127.0.0.1:9/v1"), Credential(), NOW_S)
        step.groups.set(group, NOW_S)
        assert step.endpoints.ensure(["m"], NOW_S)
        raise InvalidField("no", "x")

    with pytest.raises(InvalidField):
        commands.together(SERVER, change)
    assert commands.upstreams(SERVER).list() == ()
    assert commands.groups(SERVER).list() == ()
    assert actions(commands) == []


def test_an_upstream_is_read_and_changed_in_one_step(commands: Commands) -> None:
    commands.upstreams(SERVER).add(Upstream(name="one", base_url="http://127.0.0.1:9/v1"), Credential(), NOW_S)
    info = update_upstream(in_one_step(commands), request(UpdateUpstream(idle_s=5.0), "one"))
    assert (info.idle_s, commands.upstreams(SERVER).show("one").idle_s) == (5.0, 5.0)
    with pytest.raises(NotFound):
        update_upstream(in_one_step(commands), request(UpdateUpstream(idle_s=5.0), "two"))
    assert update_upstream(commands, request(UpdateUpstream(), "one")) == info
    assert actions(commands) == ["upstreams.update", "upstreams.create"]


def test_a_group_and_its_endpoint_are_one_step(commands: Commands) -> None:
    commands.upstreams(SERVER).add(Upstream(name="one", base_url="http://127.0.0.1:9/v1"), Credential(), NOW_S)
    body = SetGroup(model="m", members=(MemberGiven(upstream="one", model="m"),))
    info = set_group(in_one_step(commands), request(body))
    assert (info.card.name, info.is_default) == ("m", True)
    assert [each.model_name for each in commands.endpoints("default", "default", SERVER).list()] == ["m"]
    with pytest.raises(InvalidField):
        set_group(
            in_one_step(commands), request(SetGroup(model="n", members=(MemberGiven(upstream="two", model="m"),)))
        )
    assert len(commands.endpoints("default", "default", SERVER).list()) == 1
