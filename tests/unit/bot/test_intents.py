"""What a bot does for each intent: what the model is asked, what the caller is told, what is on record."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from arkway.core.bot import Findings, ModelUse
from arkway.core.chat import Message, Sampling, Tool, Usage
from arkway.core.errors import BackendFailed
from arkway.core.events import BotReport, Cited, Delta, Event, Finished, Intention, Progress, Quoted, UsageReport
from arkway.testing import CHAT_CARD
from tests.tools.bots import (
    BEIJING,
    BOT_ID,
    INNER_ID,
    NOON_MS,
    Model,
    Scene,
    ScriptedPlugin,
    answers,
    asks,
    calls,
    ended,
    page,
)

FOUND = Findings((page(1), page(2)))
SAYS = answers("It ", "is so", "[1]", ".")

WHOLE = [Intention, Cited, Delta, Delta, Delta, Delta, Finished, UsageReport, BotReport]
PLAIN = [Delta, Delta, Delta, Finished, UsageReport, BotReport]


async def test_always_searches_and_answers_with_what_was_found() -> None:
    plugin = ScriptedPlugin(FOUND, wants=False)
    scene = Scene(Model(SAYS), {"web_search": plugin}, intent="always")
    told = await scene.told(asks("What is the capital of France?", asker=BEIJING, wants_intention=True))
    assert told.kinds == WHOLE
    assert told.text == "It is so[1]."
    assert told.intentions == ["正在搜索"]
    assert [(each.idx, each.url) for each in told.references] == [
        (0, "https://pages.test/1"),
        (1, "https://pages.test/2"),
    ]
    assert not plugin.weighed
    (quest,) = plugin.asked
    assert (quest.query, quest.asker, quest.account) == ("What is the capital of France?", BEIJING, "acc")
    assert told.usage == Usage(100, 4)
    assert told.report.models == (ModelUse(INNER_ID, 100, 4),)
    (use,), (detail,) = told.report.actions, told.report.details
    assert (use.name, use.action_name, use.count) == ("search_engine", "WebBrowsingPlus", 1)
    (call,) = detail.tool_details
    assert call.input == {"query": quest.query, "city": "北京", "district": "海淀区"}
    assert [each["url"] for each in call.output["data"]["data"]["results"]] == [each.url for each in told.references]
    assert (call.created_at, call.completed_at) == (NOON_MS, NOON_MS)


async def test_what_was_found_stands_fenced_and_numbered_before_the_question() -> None:
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin(FOUND)}, intent="always")
    await scene.told(asks("早", "早上好", "法国的首都是哪里？", system="Be brief.", asker=BEIJING))
    first, *_, last = scene.model.requests[0].messages
    assert first == Message("system", "Be a bot.\n\nBe brief.")
    assert [message.role for message in scene.model.requests[0].messages] == ["system", "user", "assistant", "user"]
    block = last.text()
    assert block.endswith("用户的问题：\n法国的首都是哪里？")
    assert '<material n="1">\nPage 1 | pages\nwhat page 1 says\n</material>' in block
    assert '<material n="2">' in block
    assert "当前时间：2025年04月08日 10:30:00(CST) 星期二" in block
    assert "当前位置：北京海淀区" in block
    assert "[1][2]" in block


async def test_an_english_question_is_answered_under_english_words() -> None:
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin(FOUND)}, intent="always")
    await scene.told(asks("What is the capital of France?"))
    block = scene.model.requests[0].messages[-1].text()
    assert "Current time: 2025-04-08 10:30:00(CST) Tuesday" in block
    assert "Current location" not in block
    assert block.isascii()


async def test_never_asks_the_model_at_once_and_nobody_else() -> None:
    plugin = ScriptedPlugin(FOUND)
    scene = Scene(Model(answers("a", "b", "c")), {"web_search": plugin}, intent="never")
    _, sink = scene.start(asks("What is new?", wants_intention=True))
    assert len(scene.model.requests) == 1, "it had begun when start returned"
    assert [type(event) for event in await ended(sink)] == PLAIN
    assert not plugin.asked
    assert not plugin.weighed
    assert scene.ledger.attempts == {}


@pytest.mark.parametrize("bot", [{"actions": ()}, {"intent": "tools", "actions": ()}], ids=["auto", "tools"])
async def test_a_bot_without_actions_is_a_model_with_a_prompt(bot: dict[str, Any]) -> None:
    scene = Scene(Model(answers("a", "b", "c")), {"web_search": ScriptedPlugin(FOUND)}, **bot)
    _, sink = scene.start(asks("What is new?"))
    (request,) = scene.model.requests
    assert request.messages == (Message("system", "Be a bot."), Message("user", "What is new?"))
    assert [type(event) for event in await ended(sink)] == PLAIN


@pytest.mark.parametrize("wants", [True, False])
async def test_auto_asks_the_plugins_and_no_model(wants: bool) -> None:
    plugin = ScriptedPlugin(FOUND, wants=wants)
    scene = Scene(Model(SAYS), {"web_search": plugin})
    told = await scene.told(asks("What is the capital of France?", wants_intention=True))
    assert len(scene.model.requests) == 1
    assert len(plugin.weighed) == 1
    assert bool(plugin.asked) is wants
    assert bool(told.intentions) is wants
    assert bool(told.references) is wants
    assert told.text == ("It is so[1]." if wants else "It is so.")
    assert [call.result for call in scene.seen] == ["found" if wants else "unwanted"]
    assert len(scene.ledger.attempts) == wants


async def test_auto_takes_only_the_actions_that_would_help() -> None:
    weather = ScriptedPlugin(Findings((page(9),)), wants=False, source="weather", action_name="weather")
    web = ScriptedPlugin(FOUND, wants=True)
    scene = Scene(Model(SAYS), {"weather": weather, "web_search": web})
    told = await scene.told(asks("What is the capital of France?"))
    assert [use.name for use in told.report.actions] == ["search_engine"]
    assert not weather.asked


@pytest.mark.parametrize(
    ("said", "searched"),
    [
        ("需要", True),
        ("需要。", True),
        ("不需要", False),
        ("Yes.", True),
        ("no", False),
        ("", False),
        ("也许吧", False),
    ],
)
async def test_llm_lets_the_model_say_whether_to_search(said: str, searched: bool) -> None:
    plugin = ScriptedPlugin(FOUND, wants=False)
    scene = Scene(Model(answers(said, prompt_tokens=30), SAYS), {"web_search": plugin}, intent="llm")
    sampling = Sampling(temperature=0.9, top_p=0.5, stop=("要",))
    told = await scene.told(asks("法国的首都是哪里？请告诉我", sampling=sampling, wants_intention=True))
    asking, answering = scene.model.requests
    assert (asking.max_tokens, asking.sampling) == (4, Sampling(temperature=0.0, top_p=0.5))
    assert "法国的首都是哪里？请告诉我" in asking.messages[-1].text()
    assert "Be a bot." not in asking.messages[0].text()
    assert answering.sampling == sampling
    assert bool(plugin.asked) is searched
    assert bool(told.intentions) is searched
    assert told.report.models == (ModelUse(INNER_ID, 30, 1), ModelUse(INNER_ID, 100, 4))
    assert told.usage == Usage(130, 5)


async def test_what_the_model_has_said_before_counts_from_the_first_token_on() -> None:
    """A client that leaves pays for both model calls."""
    scene = Scene(Model(answers("不需要", prompt_tokens=30), SAYS), {"web_search": ScriptedPlugin()}, intent="llm")
    told = await scene.told(asks("What is the capital of France?"))
    assert told.events[0] == Progress(30, 30)
    first = next(event for event in told.events if isinstance(event, Delta))
    assert (first.prompt_tokens, first.completion_tokens) == (130, 2)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_model_that_fails_at_the_intent_is_asked_for_the_answer_all_the_same(at_once: bool) -> None:
    model = Model(BackendFailed("down") if at_once else (BackendFailed("down"),), SAYS)
    scene = Scene(model, {"web_search": ScriptedPlugin(FOUND)}, intent="llm")
    told = await scene.told(asks("What is the capital of France?"))
    assert told.error is None
    assert told.text == "It is so."
    assert told.report.models == (ModelUse(INNER_ID, 100, 4),)


async def test_tools_are_called_by_the_model_and_answered_with_what_was_found() -> None:
    plugin = ScriptedPlugin(FOUND)
    model = Model(calls(("search_web", '{"query": "capital of France"}')), SAYS)
    scene = Scene(model, {"web_search": plugin}, intent="tools")
    told = await scene.told(asks("What is the capital of France?", wants_intention=True))
    assert told.kinds == [Progress, *WHOLE]
    assert [quest.query for quest in plugin.asked] == ["capital of France"]
    first, second = model.requests
    assert [tool.name for tool in first.tools] == ["search_web"]
    assert first.tools[0].parameters["required"] == ["query"]
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "tool"]
    assert '<material n="1">' in second.messages[1].text()
    assert "[1] [2]" in second.messages[3].text()
    assert second.messages[3].tool_call_id == second.messages[2].tool_calls[0].id == "id-0"
    assert "page 1" not in second.messages[3].text()
    assert told.report.models == (ModelUse(INNER_ID, 50, 5), ModelUse(INNER_ID, 100, 4))
    assert told.usage == Usage(150, 9)


@pytest.mark.parametrize(("first", "then", "left"), [("[", "9]", "[9"), ("[9", "]", "[9"), ("[", "1]", "[1]")])
async def test_a_citation_that_two_model_calls_make_together_has_a_source(first: str, then: str, left: str) -> None:
    model = Model((Delta(f"See {first}"), *calls(("search_web", "{}"))), answers(then, " so."))
    scene = Scene(model, {"web_search": ScriptedPlugin(FOUND)}, intent="tools")
    told = await scene.told(asks("What is the capital of France?"))
    assert told.text == f"See {left} so."


async def test_tools_may_go_unused() -> None:
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin(FOUND)}, intent="tools")
    _, sink = scene.start(asks("What is the capital of France?", wants_intention=True))
    assert len(scene.model.requests) == 1, "nothing had to be looked up before"
    kinds = [type(event) for event in await ended(sink)]
    assert kinds == [Delta, Delta, Delta, Delta, Finished, UsageReport, BotReport]


async def test_tools_are_offered_three_times_and_then_there_has_to_be_an_answer() -> None:
    round_ = calls(("search_web", '{"query": "more"}'))
    plugin = ScriptedPlugin(FOUND)
    scene = Scene(Model(round_, round_, round_, round_), {"web_search": plugin}, intent="tools")
    told = await scene.told(asks("What is the capital of France?"))
    assert [bool(request.tools) for request in scene.model.requests] == [True, True, True, False]
    assert len(plugin.asked) == 3
    assert [event for event in told.events if isinstance(event, Finished)] == [Finished("stop")]
    assert len(told.references) == 2, "the second and third time nothing new was found"
    assert [use.count for use in told.report.actions] == [3]
    assert sorted(scene.ledger.attempts) == ["req-1-a0", "req-1-a1", "req-1-a2"]


async def test_functions_that_do_not_exist_and_arguments_that_are_none_cost_nothing() -> None:
    model = Model(calls(("rm", "{}"), ("search_web", "not json"), ("search_web", '{"query": 7}')), SAYS)
    plugin = ScriptedPlugin(FOUND)
    scene = Scene(model, {"web_search": plugin}, intent="tools")
    told = await scene.told(asks("What is the capital of France?"))
    assert [quest.query for quest in plugin.asked] == ["What is the capital of France?"] * 2
    assert [message.tool_call_id for message in model.requests[1].messages[-3:]] == ["id-0", "id-1", "id-2"]
    shown = [call.arguments for call in model.requests[1].messages[-4].tool_calls]
    assert shown == ["{}", "{}", '{"query": 7}'], "servers read them, and refuse what is no JSON"
    assert told.text == "It is so[1]."


@pytest.mark.parametrize("why", ["the model cannot", "the caller has its own", "several answers are wanted"])
async def test_tools_become_auto_where_they_cannot_be_offered(why: str) -> None:
    card = CHAT_CARD if why != "the model cannot" else replace(CHAT_CARD, capabilities=("chat",))
    own = (Tool("mine"),) if why == "the caller has its own" else ()
    plugin = ScriptedPlugin(FOUND)
    scene = Scene(Model(SAYS), {"web_search": plugin}, intent="tools", card=card)
    count = 2 if why == "several answers are wanted" else 1
    await scene.told(asks("What is the capital of France?", tools=own, n=count))
    assert len(plugin.weighed) == 1
    assert scene.model.requests[0].tools == own


@pytest.mark.parametrize("piece", [Delta("word " * 600), Quoted(b'"' + b"word " * 600 + b'"')], ids=["text", "quoted"])
@pytest.mark.parametrize("intent", ["never", "always"])
async def test_an_answer_in_one_piece_that_nobody_has_counted_is_not_one_token(piece: Event, intent: str) -> None:
    scene = Scene(Model((piece, Finished("stop"))), {"web_search": ScriptedPlugin(FOUND)}, intent=intent)
    told = await scene.told(asks("What is the capital of France?"))
    assert told.usage.completion_tokens == 1000
    assert told.usage.provenance == "estimated"


async def test_every_action_is_an_entry_of_the_ledger() -> None:
    weather = ScriptedPlugin(BackendFailed("down"), source="weather", action_name="weather")
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin(FOUND), "weather": weather}, intent="always")
    told = await scene.told(asks("What is the capital of France?", user="someone"))
    entries = scene.ledger.attempts
    assert sorted(entries) == ["req-1-a0", "req-1-a1"]
    assert {each.model for each in entries.values()} == {"search_engine", "weather"}
    (first, *_) = entries.values()
    assert (first.request_id, first.account, first.project, first.key_id) == ("req-1", "acc", "proj", "key-1")
    assert (first.endpoint_id, first.operation, first.caller) == (BOT_ID, "action", "someone")
    ends = {entries[each].model: scene.ledger.settlements[each] for each in entries}
    assert (ends["search_engine"].outcome, ends["search_engine"].usage.total_tokens) == ("done", 0)
    assert (ends["weather"].outcome, ends["weather"].error) == ("upstream_error", "BackendFailed")
    assert [use.name for use in told.report.actions] == ["search_engine"]
