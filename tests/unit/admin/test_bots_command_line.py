"""``arkway bots`` as it is typed, and what actions may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from arkway.admin.bots import PROMPT_MAX_CHARACTERS, action_of, written_action
from arkway.admin.endpoints import Endpoints
from arkway.cli import group
from arkway.core.bot import BotAction
from arkway.core.errors import InvalidField
from arkway.core.knowledge import Collection
from arkway.knowledge.opening import knowledge_path, open_knowledge
from arkway.stores.audit import AuditTable
from arkway.stores.home import database_path
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import EndpointTable
from tests.tools.databases import made_in

Run = Callable[..., Result]
NOW_S = 1_750_000_000


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made_in(tmp_path)
    return lambda *words: CliRunner().invoke(group, ["--home", str(tmp_path), *words])


@pytest.fixture
def endpoint(run: Run, tmp_path: Path) -> str:
    with SqliteStore(database_path(tmp_path)) as store:
        return Endpoints(EndpointTable(store)).create("chat", "small", NOW_S).id


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


def refused(result: Result, code: int = 1) -> str:
    assert result.exit_code == code, result.output
    return result.stderr


def create(run: Run, endpoint: str, *words: str, name: str = "helper") -> Any:
    return document(run("bots", "create", "--name", name, "--endpoint", endpoint, *words, "--json"))


def keep_collections(home: Path, *names: str, project: str = "default") -> None:
    store = open_knowledge(home)
    try:
        for name in names:
            assert store.create(Collection(id=f"kb-{project}-{name}", account="default", project=project, name=name))
    finally:
        store.close()


def test_a_bot_is_made_shown_changed_stopped_and_deleted(run: Run, endpoint: str, tmp_path: Path) -> None:
    keep_collections(tmp_path, "manual", "faq")
    words = ("--prompt", "Answer.", "--action", "knowledge:manual,faq,limit=8", "--action", "web_search")
    more = ("--intent", "llm", "--citation", "cited", "--lexicon", "股价", "--lexicon", "a b", "--context-share", "0.2")
    made = create(run, endpoint, *words, *more, "--moderation", "strict", "--description", "d")
    assert made["actions"] == [
        {"kind": "knowledge", "collections": ["manual", "faq"], "provider": "", "limit": 8, "deadline_s": 3.0},
        {"kind": "web_search", "collections": [], "provider": "", "limit": 5, "deadline_s": 3.0},
    ]
    assert (made["intent"], made["citation"], made["lexicon"], made["context_share"]) == (
        "llm", "cited", ["股价", "a b"], 0.2,
    )  # fmt: skip
    assert document(run("bots", "show", made["id"], "--json")) == made
    assert document(run("bots", "list", "--json")) == [made]
    shown = run("bots", "show", made["id"]).output
    assert "knowledge:manual,faq,limit=8 web_search" in shown
    assert "Answer." in shown
    assert made["id"] in run("bots", "list").output

    changed = document(run("bots", "update", made["id"], "--action", "weather", "--prompt", "", "--json"))
    assert [action["kind"] for action in changed["actions"]] == ["weather"]
    assert (changed["prompt"], changed["lexicon"]) == ("", ["股价", "a b"])
    emptied = document(run("bots", "update", made["id"], "--no-actions", "--no-lexicon", "--json"))
    assert (emptied["actions"], emptied["lexicon"]) == ([], [])

    assert document(run("bots", "stop", made["id"], "--json"))["status"] == "stopped"
    assert document(run("bots", "start", made["id"], "--json"))["status"] == "running"
    assert run("bots", "delete", made["id"]).output == f"deleted {made['id']}\n"
    assert "does not exist" in refused(run("bots", "show", made["id"]))
    assert document(run("bots", "list", "--json")) == []
    with SqliteStore(database_path(tmp_path)) as store:
        actions = [row["action"] for row in AuditTable(store).rows("default") if row["target"] == made["id"]]
    assert actions == [f"bots.{each}" for each in ("delete", "start", "stop", "update", "update", "create")]


def test_a_prompt_may_be_a_file(run: Run, endpoint: str, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("你是\n小助。\n", encoding="utf-8")
    made = create(run, endpoint, "--prompt-file", str(file))
    assert made["prompt"] == "你是\n小助。"
    assert "not both" in refused(run("bots", "update", made["id"], "--prompt-file", str(file), "--prompt", "x"), 2)
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused(run("bots", "update", made["id"], "--prompt-file", str(file)))
    file.write_text("x" * (PROMPT_MAX_CHARACTERS + 1))
    assert "at most" in refused(run("bots", "update", made["id"], "--prompt-file", str(file)))


def test_what_is_not_there_is_refused_with_a_sentence(run: Run, endpoint: str, tmp_path: Path) -> None:
    make = ("bots", "create", "--name", "x", "--endpoint")
    assert "has no endpoint `ep-none`; `arkway endpoints list`" in refused(run(*make, "ep-none"))
    made = create(run, endpoint)
    assert "not on another bot" in refused(run(*make, made["id"]))
    missing = run(*make, endpoint, "--action", "knowledge:manual")
    assert "has no collection `manual`; `arkway kb list`" in refused(missing)
    assert not knowledge_path(tmp_path).exists()
    assert "has no collection `news`" in refused(run(*make, endpoint, "--action", "web_search:local,news"))
    keep_collections(tmp_path, "manual", project="second")
    assert "has no collection `manual`" in refused(run(*make, endpoint, "--action", "knowledge:manual"))
    assert "no project" in refused(run(*make, endpoint, "--project", "nowhere"))
    assert "name what is to change" in refused(run("bots", "update", made["id"]), 2)
    assert "--no-actions" in refused(run("bots", "update", made["id"], "--no-actions", "--action", "weather"), 2)
    assert len(document(run("bots", "list", "--json"))) == 1


def test_keys_and_limits_take_a_bots_id(run: Run, endpoint: str) -> None:
    made = create(run, endpoint)
    key = document(run("keys", "create", "--endpoint", made["id"], "--json"))
    assert key["endpoints"] == [made["id"]]
    pair = document(run("aksk", "create", "--endpoint", made["id"], "--endpoint", endpoint, "--json"))
    assert pair["endpoints"] == [made["id"], endpoint]
    (limit,) = document(run("limits", "set", "--endpoint", made["id"], "--rpm", "60", "--json"))
    assert (limit["scope"], limit["subject"]) == ("endpoint", made["id"])
    nobody = "bot-20250101000000-zzzzz"
    assert "does not exist" in refused(run("keys", "create", "--endpoint", nobody))
    assert "has no endpoint" in refused(run("limits", "set", "--endpoint", nobody, "--rpm", "60"))


def test_help_teaches(run: Run) -> None:
    told = run("bots", "create", "--help").output
    for word in ("--action", "knowledge:manual", "web_search", "weather", "--intent", "--citation", "--prompt-file"):
        assert word in told
    assert "bots" in run("--help").output


# Actions


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("web_search", BotAction(kind="web_search")),
        ("web_search:bocha,limit=10", BotAction(kind="web_search", provider="bocha", limit=10)),
        (
            "web_search:local,news,手册,limit=3",
            BotAction(kind="web_search", provider="local", collections=("news", "手册"), limit=3),
        ),
        ("weather,deadline_s=0.5", BotAction(kind="weather", deadline_s=0.5)),
        ("knowledge:手册", BotAction(kind="knowledge", collections=("手册",))),
        (
            "knowledge:a b,limit=1,c,deadline_s=10",
            BotAction(kind="knowledge", collections=("a b", "c"), limit=1, deadline_s=10.0),
        ),
    ],
)
def test_an_action_as_it_is_written(text: str, action: BotAction) -> None:
    assert action_of(text) == action
    assert action_of(written_action(action)) == action


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`` is no action; there are knowledge, web_search, weather"),
        ("websearch", "`websearch` is no action"),
        ("knowledge", "knowledge names 1 to"),
        ("knowledge:", "knowledge names 1 to"),
        ("knowledge:a,a", "each once"),
        ("knowledge:a:b", "none of them"),
        ("weather:a,b", "asks one provider"),
        ("web_search:bocha,b", "have collections"),
        ("web_search:local,b,b", "each once"),
        ("web_search:local,a:b", "none of them"),
        ("web_search:Bocha", "a provider's name"),
        ("web_search,limit=0", "from 1 to 50"),
        ("web_search,limit=51", "from 1 to 50"),
        ("web_search,limit=many", "the action `web_search,limit=many`"),
        ("weather,deadline_s=0", "from 0.1 to 60"),
        ("weather,deadline_s=nan", "from 0.1 to 60"),
        ("weather,top=3", "not `top`"),
    ],
)
def test_what_is_no_action_is_said(text: str, message: str) -> None:
    with pytest.raises(InvalidField) as raised:
        action_of(text)
    assert message in raised.value.message
    assert raised.value.field == "actions"


@given(
    names=st.lists(st.text("abc 模-_.", min_size=1, max_size=5), min_size=1, max_size=4, unique=True),
    limit=st.integers(1, 50),
    deadline_ms=st.integers(100, 60_000),
)
def test_what_is_written_reads_as_it_was(names: list[str], limit: int, deadline_ms: int) -> None:
    action = BotAction(kind="knowledge", collections=tuple(names), limit=limit, deadline_s=deadline_ms / 1000)
    assert action_of(written_action(action)) == action
