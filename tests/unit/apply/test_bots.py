"""Bots in a platform file: on endpoints by name, with keys and limits of their own, what goes and what stays."""

from __future__ import annotations

import pytest

from arkway.admin.apply import Plan, exported, look, perform, prepare, read
from arkway.cli.platform import Host
from arkway.core.bot import BotAction
from arkway.core.errors import InvalidField, Misconfigured
from tests.unit.apply.conftest import Ground

NOW_S = 1_750_000_000

FILE = '''
[[endpoints]]
name = "chat"
model = "small"

[[bots]]
name = "helper"
endpoint = "chat"
prompt = """
You are "小助".
"""
actions = ["knowledge:manual,faq,limit=8", "web_search"]
citation = "cited"
lexicon = ["股价"]

[[keys]]
name = "shop"
bots = ["helper"]

[[limits]]
scope = "bot"
name = "helper"
limit = "rpm"
amount = 60
'''


def plan_of(host: Host, text: str, *, prune: bool = False) -> Plan:
    return prepare(read(text, "platform.toml"), host, NOW_S, prune=prune).plan


def apply(host: Host, text: str, *, prune: bool = False) -> list[str]:
    prepared = prepare(read(text, "platform.toml"), host, NOW_S, prune=prune)
    perform(prepared, host, NOW_S)
    return [f"{change.action} {change.ref}" for change in prepared.plan.changes]


def test_a_bot_with_its_key_and_its_limit(ground: Ground) -> None:
    def work(host: Host) -> None:
        assert apply(host, FILE) == [
            "create endpoint default/default/chat",
            "create bot default/default/helper",
            "create key default/default/shop",
            "create limit default/default/bot helper rpm",
        ]
        (endpoint,) = host.endpoints("default", "default").list()
        (bot,) = host.bots("default", "default").list()
        assert (bot.endpoint_id, bot.prompt, bot.lexicon) == (endpoint.id, 'You are "小助".\n', ("股价",))
        assert bot.actions[0] == BotAction(kind="knowledge", collections=("manual", "faq"), limit=8)
        (key,) = host.keys("default", "default").list()
        assert key.endpoints == (bot.id,)
        (limit,) = host.limits("default", "default").list()
        assert (limit.scope, limit.subject) == ("endpoint", bot.id)
        assert plan_of(host, FILE).changes == ()
        text = exported(look(host, NOW_S))
        assert 'actions = ["knowledge:manual,faq,limit=8", "web_search"]' in text
        assert bot.id not in text
        assert plan_of(host, text, prune=True).changes == ()

    ground.on(work)


def test_what_differs_is_changed_and_the_bot_stays_the_same_one(ground: Ground) -> None:
    def work(host: Host) -> None:
        apply(host, FILE)
        (before,) = host.bots("default", "default").list()
        second = FILE.replace('endpoint = "chat"', 'endpoint = "other"\nstatus = "stopped"')
        second += '[[endpoints]]\nname = "other"\nmodel = "large"\n'
        changes = plan_of(host, second).changes
        assert [(each.field, each.before, each.after) for each in changes[1].differences] == [
            ("endpoint", "chat", "other"),
            ("status", "running", "stopped"),
        ]
        apply(host, second)
        (after,) = host.bots("default", "default").list()
        assert (after.id, after.status, after.prompt) == (before.id, "stopped", before.prompt)
        assert after.endpoint_id != before.endpoint_id

    ground.on(work)


def test_what_the_file_does_not_name_is_stopped_with_prune(ground: Ground) -> None:
    def work(host: Host) -> None:
        apply(host, FILE)
        rest = FILE.partition("[[bots]]")[0]
        assert [str(left.ref) for left in plan_of(host, rest).drift if left.ref.kind == "bot"] == [
            "bot default/default/helper"
        ]
        assert "stop bot default/default/helper" in apply(host, rest, prune=True)
        (bot,) = host.bots("default", "default").list()
        assert bot.status == "stopped"
        assert plan_of(host, rest, prune=True).changes == ()

    ground.on(work)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILE.replace('endpoint = "chat"', 'endpoint = "chta"'), "line 6: there is no endpoint default/default/chta"),
        (FILE.replace('bots = ["helper"]', 'bots = ["nobody"]'), "there is no bot default/default/nobody"),
        (FILE.replace('name = "helper"\nlimit', 'name = "nobody"\nlimit'), "there is no bot default/default/nobody"),
    ],
)
def test_what_is_nowhere_is_said_with_its_line(ground: Ground, text: str, message: str) -> None:
    def work(host: Host) -> None:
        with pytest.raises(Misconfigured) as raised:
            plan_of(host, text)
        assert message in raised.value.message

    ground.on(work)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("actions = ['teleport']", "`bots.actions`: `teleport` is no action"),
        ("intent = 'maybe'", "`bots.intent`: has to be `always`"),
        ("context_share = 2", "`bots.context_share`: has to be a number from 0 to 1"),
        ("colection = ['a']", "there is no such key"),
        ("lexicon = ['']", "`bots.lexicon`: a lexicon has"),
    ],
)
def test_a_mistake_is_told_with_its_key(row: str, message: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        read(f"[[bots]]\nname = 'b'\nendpoint = 'chat'\n{row}\n", "platform.toml")
    assert message in raised.value.message
    assert "line 4" in raised.value.message


def test_a_collection_that_is_not_there_undoes_everything(ground: Ground) -> None:
    def work(host: Host) -> None:
        with pytest.raises(InvalidField, match="has no collection `elsewhere`"):
            apply(host, FILE.replace("manual,faq", "elsewhere"))

    ground.on(work)


def test_bots_that_share_a_name_are_left_alone(ground: Ground) -> None:
    def work(host: Host) -> None:
        apply(host, FILE)
        bots = host.bots("default", "default")
        twin = bots.create("helper", bots.list()[0].endpoint_id, NOW_S)
        with pytest.raises(Misconfigured, match="is ambiguous"):
            plan_of(host, FILE)
        text = exported(look(host, NOW_S))
        assert twin.id in text.partition("[[")[0]
        # The key and the limit name their bot by its id then, and the file still changes nothing.
        plan = plan_of(host, text, prune=True)
        assert (plan.changes, len(plan.ambiguous)) == ((), 1)

    ground.on(work)


def test_a_bot_outlives_its_endpoint(ground: Ground) -> None:
    def work(host: Host) -> None:
        apply(host, FILE)
        (endpoint,) = host.endpoints("default", "default").list()
        host.endpoints("default", "default").delete(endpoint.id, NOW_S)
        text = exported(look(host, NOW_S))
        assert f'endpoint = "{endpoint.id}"' in text
        assert plan_of(host, text, prune=True).changes == ()
        changed = text.replace('citation = "cited"', 'citation = "none"')
        assert apply(host, changed) == ["update bot default/default/helper"]

    ground.on(work)
