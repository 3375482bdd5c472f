"""Bots in the database: kept as they are, told to every process, on record, and the project's alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from arkway.admin.bots import BotNotFound, Bots
from arkway.admin.endpoints import Endpoints
from arkway.admin.limits import Limits
from arkway.admin.tenancy import Accounts, Projects
from arkway.core.audit import Actor
from arkway.core.bot import Bot, BotAction, BotChange
from arkway.core.errors import InvalidField
from arkway.stores import schema
from arkway.stores.audit import AuditTable
from arkway.stores.bots import BotTable
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import pepper
from arkway.stores.limits import LimitTable
from arkway.stores.store import Store
from arkway.stores.tables import EndpointTable
from arkway.stores.tenancy import AccountTable, ProjectTable
from tests.tools.waiting import until

NOW_S = 1_750_000_000
ANNA = Actor("cli:anna", "02-request")
KNOWLEDGE = BotAction(kind="knowledge", collections=("手册", "faq"), limit=8, deadline_s=0.5)
EVERYTHING: dict[str, Any] = {
    "prompt": "You are ‘小助’.\n\tAnswer briefly.",
    "actions": (KNOWLEDGE, BotAction(kind="web_search"), BotAction(kind="weather", provider="qweather")),
    "intent": "llm",
    "citation": "cited",
    "lexicon": ("股价", "share price"),
    "context_share": 0.25,
    "description": "for the shop",
    "moderation": "strict",
}


def bots(store: Store, account: str = "default", project: str = "default") -> Bots:
    return Bots(BotTable(store), lambda *where: where[2] in ("手册", "faq"), account, project, ANNA)


def endpoint(store: Store, account: str = "default", project: str = "default") -> str:
    return Endpoints(EndpointTable(store), account, project).create("chat", "small", NOW_S).id


def log_of(store: Store, account: str = "default") -> list[tuple[str, str, dict[str, Any]]]:
    rows = AuditTable(store).rows(account, action="")
    return [(row["action"], row["target"], row["detail"]) for row in rows if row["action"].startswith("bots.")]


def test_what_goes_in_comes_out(store: Store) -> None:
    ep = endpoint(store)
    made = bots(store).create("小助", ep, NOW_S, **EVERYTHING)
    assert made.id.startswith("bot-20250615")
    assert len(made.id) == len("bot-20250615150640-abcde")
    assert bots(store).show(made.id) == made
    plain = bots(store).create("plain", ep, NOW_S + 1)
    assert bots(store).list() == (made, plain)
    told = {name: getattr(made, name) for name in EVERYTHING}
    assert told == EVERYTHING
    assert plain == Bot(
        id=plain.id, name="plain", account="default", project="default", endpoint_id=ep, created_at=NOW_S + 1,
        updated_at=NOW_S + 1,
    )  # fmt: skip


def test_what_is_named_is_changed_and_the_rest_stays(store: Store) -> None:
    ep, other = endpoint(store), endpoint(store)
    made = bots(store).create("helper", ep, NOW_S, **EVERYTHING)
    changed = bots(store).update(made.id, BotChange(endpoint_id=other, prompt="", actions=(KNOWLEDGE,)), NOW_S + 5)
    assert (changed.endpoint_id, changed.prompt, changed.actions) == (other, "", (KNOWLEDGE,))
    assert (changed.lexicon, changed.intent, changed.name) == (made.lexicon, made.intent, made.name)
    assert (changed.created_at, changed.updated_at) == (NOW_S, NOW_S + 5)
    bots(store).update(made.id, BotChange(actions=(), lexicon=(), context_share=0.0), NOW_S + 6)
    emptied = bots(store).show(made.id)
    assert (emptied.actions, emptied.lexicon, emptied.context_share) == ((), (), 0.0)


def test_every_change_is_on_record_and_no_prompt_with_it(store: Store) -> None:
    ours = bots(store)
    made = ours.create("helper", endpoint(store), NOW_S, **EVERYTHING)
    ours.update(made.id, BotChange(prompt="another", context_share=0.0), NOW_S)
    ours.stop(made.id, NOW_S)
    ours.start(made.id, NOW_S)
    ours.delete(made.id, NOW_S)
    log = log_of(store)
    assert [entry[0] for entry in log] == [
        "bots.delete", "bots.start", "bots.stop", "bots.update", "bots.create",
    ]  # fmt: skip
    assert {entry[1] for entry in log} == {made.id}
    assert log[3][2] == {"prompt_characters": 7, "context_share": 0.0}
    created = log[4][2]
    assert created["actions"] == ["knowledge:手册,faq,limit=8,deadline_s=0.5", "web_search", "weather:qweather"]
    assert created["endpoint_id"] == made.endpoint_id
    assert "小助" not in repr(log)


def test_a_deleted_bot_is_gone_and_its_row_stays(store: Store) -> None:
    ours = bots(store)
    made = ours.create("helper", endpoint(store), NOW_S)
    ours.delete(made.id, NOW_S)
    assert ours.list() == ()
    for again in (ours.start, ours.stop, ours.delete):
        with pytest.raises(BotNotFound):
            again(made.id, NOW_S)
    with pytest.raises(BotNotFound):
        ours.update(made.id, BotChange(prompt="x"), NOW_S)
    kept = store.run_sync(lambda connection: connection.execute(sa.select(schema.bots.c.status)).scalars().all())
    assert kept == ["deleted"]
    assert [entry[0] for entry in log_of(store)] == ["bots.delete", "bots.create"]


def refused(work: Any) -> InvalidField:
    with pytest.raises(InvalidField) as raised:
        work()
    return raised.value


def test_a_bot_stands_on_an_endpoint_of_its_own_project_alone(store: Store) -> None:
    Accounts(AccountTable(store)).create(NOW_S, "acme")
    ours, theirs, ep = bots(store), endpoint(store, "acme"), endpoint(store)
    made = ours.create("helper", ep, NOW_S)
    gone = endpoint(store)
    Endpoints(EndpointTable(store)).delete(gone, NOW_S)
    for wrong in (theirs, gone, "ep-20250101000000-abcde", "nonsense"):
        messages = {
            refused(lambda wrong=wrong: ours.create("x", wrong, NOW_S)).message,
            refused(lambda wrong=wrong: ours.update(made.id, BotChange(endpoint_id=wrong), NOW_S)).message,
        }
        (message,) = messages
        assert message.startswith(f"the project `default` has no endpoint `{wrong}`")
    on_a_bot = refused(lambda: ours.create("x", made.id, NOW_S))
    assert "not on another bot" in on_a_bot.message
    assert on_a_bot.field == "endpoint_id"
    assert ours.list() == (made,)
    assert len(log_of(store)) == 1


def test_a_bots_endpoint_may_go_and_the_bot_can_still_be_changed(store: Store) -> None:
    ours, ep = bots(store), endpoint(store)
    made = ours.create("helper", ep, NOW_S)
    Endpoints(EndpointTable(store)).delete(ep, NOW_S)
    changed = ours.update(made.id, BotChange(endpoint_id=ep, prompt="p"), NOW_S)
    assert (changed.prompt, changed.endpoint_id) == ("p", ep)


def test_a_collection_has_to_be_there_when_it_is_named(store: Store) -> None:
    ep = endpoint(store)
    there = ["manual"]
    ours = Bots(
        BotTable(store), lambda account, project, name: (account, project) == ("default",) * 2 and name in there
    )
    manual = BotAction(kind="knowledge", collections=("manual",))
    made = ours.create("helper", ep, NOW_S, actions=(manual,))
    there.clear()
    assert ours.update(made.id, BotChange(actions=(manual, BotAction(kind="weather"))), NOW_S).actions[0] == manual
    other = BotAction(kind="knowledge", collections=("manual", "elsewhere"))
    for work in (
        lambda: ours.update(made.id, BotChange(actions=(other,)), NOW_S),
        lambda: ours.create("second", ep, NOW_S, actions=(other,)),
    ):
        error = refused(work)
        assert error.field == "actions"
    assert (
        "has no collection `elsewhere`"
        in refused(lambda: ours.update(made.id, BotChange(actions=(other,)), NOW_S)).message
    )
    assert len(ours.list()) == 1


def test_what_is_anothers_is_not_there(store: Store) -> None:
    Accounts(AccountTable(store)).create(NOW_S, "acme")
    Projects(ProjectTable(store)).create("second", NOW_S)
    made = bots(store).create("helper", endpoint(store), NOW_S)
    for account, project in (("acme", "default"), ("default", "second")):
        theirs = bots(store, account, project)
        assert theirs.list() == ()
        told = {_answer(theirs, step, bot_id) for step in STEPS for bot_id in (made.id, "bot-20250101000000-zzzzz")}
        assert told == {"the bot `ID` does not exist or you do not have access to it"}
    assert bots(store).show(made.id) == made


STEPS: tuple[Callable[[Bots, str], object], ...] = (
    lambda theirs, bot_id: theirs.show(bot_id),
    lambda theirs, bot_id: theirs.update(bot_id, BotChange(name="mine"), NOW_S),
    lambda theirs, bot_id: theirs.start(bot_id, NOW_S),
    lambda theirs, bot_id: theirs.stop(bot_id, NOW_S),
    lambda theirs, bot_id: theirs.delete(bot_id, NOW_S),
)


def _answer(theirs: Bots, step: Callable[[Bots, str], object], bot_id: str) -> str:
    with pytest.raises(BotNotFound) as raised:
        step(theirs, bot_id)
    return raised.value.message.replace(bot_id, "ID")


def test_a_project_with_a_bot_is_not_deleted(store: Store) -> None:
    projects = Projects(ProjectTable(store))
    projects.create("second", NOW_S)
    bots(store, project="second").create("helper", endpoint(store, project="second"), NOW_S)
    assert "1 bot" in refused(lambda: projects.delete("second")).message


def test_a_bot_has_limits_like_an_endpoint(store: Store) -> None:
    made = bots(store).create("helper", endpoint(store), NOW_S)
    limits = Limits(LimitTable(store))
    limits.set("endpoint", made.id, {"rpm": 60}, NOW_S)
    assert [limit.subject for limit in limits.list()] == [made.id]
    assert (
        "has no endpoint"
        in refused(lambda: limits.set("endpoint", "bot-20250101000000-zzzzz", {"rpm": 60}, NOW_S)).message
    )


# As the road of a call sees them


def test_the_directory_finds_a_bot_as_an_endpoint_and_lists_it_nowhere(store: Store, tmp_path: Path) -> None:
    directory = CachedDirectory(store, pepper(tmp_path))
    ep = endpoint(store)
    made = bots(store).create("helper", ep, NOW_S, moderation="strict", description="d")
    found = directory.endpoint(made.id)
    assert found is not None
    assert found == made.as_endpoint()
    assert (found.model_name, found.model_version, found.moderation, found.status) == (made.id, "", "strict", "running")
    assert directory.bot(made.id) == made
    assert directory.bot(ep) is None
    assert [each.id for each in directory.endpoints("default", "default")] == [ep]


def test_a_change_is_there_when_the_command_returns_and_the_directory_says_that_there_was_one(
    store: Store, tmp_path: Path
) -> None:
    directory = CachedDirectory(store, pepper(tmp_path))
    ours = bots(store)
    made = ours.create("helper", endpoint(store), NOW_S)
    for change, status in ((ours.stop, "stopped"), (ours.start, "running")):
        before = directory.changes
        change(made.id, NOW_S)
        found = directory.endpoint(made.id)
        assert found is not None
        assert found.status == status
        assert directory.changes != before
    before = directory.changes
    ours.update(made.id, BotChange(prompt="another"), NOW_S)
    bot = directory.bot(made.id)
    assert bot is not None
    assert bot.prompt == "another"
    assert directory.changes != before
    ours.delete(made.id, NOW_S)
    assert directory.endpoint(made.id) is None
    assert directory.bot(made.id) is None


def test_another_process_hears_of_it(store: Store, another: Store, tmp_path: Path) -> None:
    directory = CachedDirectory(store, pepper(tmp_path))
    made = bots(another).create("helper", endpoint(another), NOW_S)
    until(lambda: directory.bot(made.id) == made)
    bots(another).delete(made.id, NOW_S)
    until(lambda: directory.endpoint(made.id) is None)


def test_a_bot_that_a_newer_program_wrote_is_left_out_and_nothing_else_is(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, ep = bots(store), endpoint(store)
    made, odd = ours.create("helper", ep, NOW_S), ours.create("odd", ep, NOW_S)
    change = schema.bots.update().where(schema.bots.c.id == odd.id).values(intent="telepathy")
    store.run_sync(lambda connection: connection.execute(change))
    with caplog.at_level(logging.WARNING, "arkway.store"):
        directory = CachedDirectory(store, pepper(tmp_path))
        ours.update(made.id, BotChange(prompt="p"), NOW_S)
    assert directory.bot(made.id) is not None
    assert directory.bot(odd.id) is None
    assert directory.endpoint(odd.id) is None
    told = [record.getMessage() for record in caplog.records if odd.id in record.getMessage()]
    assert len(told) == 1
    assert "telepathy" in told[0]
