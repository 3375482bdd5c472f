"""Whatever becomes of a bot's call, it ends once, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
import gc

import pytest

from arkway.backends.bot import Bots, PluginCall
from arkway.backends.bot.call import BotCall
from arkway.core.bot import ActionKind, Findings, Quest
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, Usage
from arkway.core.errors import (
    BackendFailed,
    ContextTooLong,
    EndpointNotFound,
    EndpointStopped,
    Overloaded,
    StoreUnavailable,
)
from arkway.core.events import Delta, Finished, Progress, UsageReport
from arkway.core.model import Deployment
from arkway.flow.pumped import pushing
from arkway.ports import Attempt
from arkway.ports.lookup import Plugin
from arkway.testing import MemoryLedger, ScriptedBackend, says
from tests.tools.bots import Model, Scene, ScriptedPlugin, answers, asks, calls, page
from tests.tools.pushing import Kept, Puppet
from tests.tools.waiting import soon

FOUND = Findings((page(1), page(2)))
SAYS = answers("It is so", "[1]", ".")
QUESTION = "What is the capital of France?"
SHORT_S = 0.05
"""Nothing but what never ends is given this long."""


class Stuck:
    """A search that never ends; ``stopped`` once it was told to. ``stubborn``: it goes on until ``let_go``."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.begun = self.stopped = False
        self.let_go = asyncio.Event()
        self._stubborn = stubborn

    async def __call__(self, quest: Quest) -> Findings:
        self.begun = True
        while True:
            try:
                await self.let_go.wait()
                return FOUND
            except asyncio.CancelledError:
                self.stopped = True
                if not self._stubborn:
                    raise


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_plugin_that_is_late_is_done_without(stubborn: bool, caplog: pytest.LogCaptureFixture) -> None:
    stuck = Stuck(stubborn=stubborn)
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin(stuck)}, deadline_s=SHORT_S, intent="always")
    told = await scene.told(asks(QUESTION, wants_intention=True))
    assert (told.error, told.text, told.references) == (None, "It is so.", ())
    assert told.intentions == ["正在搜索"]
    assert [(call.result, call.step) for call in scene.seen] == [("late", "find")]
    (settled,) = scene.ledger.settlements.values()
    assert (settled.outcome, settled.error) == ("upstream_error", "BackendTimeout")
    assert "without one of its actions" in caplog.text
    await soon(lambda: stuck.stopped)
    stuck.let_go.set()
    await soon(lambda: not scene.bots._desk.tasks)
    assert len(scene.ledger.settlements) == len(scene.seen) == 1, "what it found later changes nothing"


async def test_a_late_plugin_takes_nothing_from_the_others() -> None:
    plugins: dict[ActionKind, Plugin] = {
        "weather": ScriptedPlugin(Stuck(), source="weather"),
        "web_search": ScriptedPlugin(FOUND),
    }
    scene = Scene(Model(SAYS), plugins, deadline_s=SHORT_S, intent="always")
    told = await scene.told(asks(QUESTION))
    assert told.text == "It is so[1]."
    assert [each.url for each in told.references] == ["https://pages.test/1", "https://pages.test/2"]


@pytest.mark.parametrize("error", [BackendFailed("down"), ValueError("a defect"), Overloaded("busy")], ids=repr)
@pytest.mark.parametrize("step", ["wanted", "find"])
async def test_a_plugin_that_fails_is_done_without(error: Exception, step: str) -> None:
    plugin = ScriptedPlugin(error) if step == "find" else ScriptedPlugin(FOUND, wants=error)
    scene = Scene(Model(SAYS), {"web_search": plugin})
    told = await scene.told(asks(QUESTION))
    assert (told.error, told.text, told.references) == (None, "It is so.", ())
    assert [(call.result, call.step) for call in scene.seen] == [("failed", step)]
    assert [each.outcome for each in scene.ledger.settlements.values()] == ["upstream_error"] * (step == "find")
    assert told.report.actions == ()


async def test_an_action_without_a_plugin_is_done_without() -> None:
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin()}, intent="always")
    scene.plugins = {}
    told = await scene.told(asks(QUESTION, wants_intention=True))
    assert (told.text, told.intentions) == ("It is so.", [])
    assert [call.result for call in scene.seen] == ["absent"]


async def test_nothing_is_looked_up_that_the_ledger_does_not_take() -> None:
    class Full(MemoryLedger):
        def reserve(self, attempt: Attempt) -> None:
            raise StoreUnavailable("the journal is full")

    plugin = ScriptedPlugin(FOUND)
    scene = Scene(Model(SAYS), {"web_search": plugin}, intent="always")
    scene.bots = Bots(
        lambda _: scene.bot, lambda _: (scene.inner, scene.model), lambda: scene.plugins, Full(), lambda: 0
    )
    told = await scene.told(asks(QUESTION, wants_intention=True))
    assert (told.error, told.text, told.intentions) == (None, "It is so.", [])
    assert not plugin.asked


async def test_an_observer_that_fails_hurts_nobody() -> None:
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin(FOUND)}, intent="always")

    def failing(_: PluginCall) -> None:
        raise ValueError("a defect")

    scene.bots = Bots(
        lambda _: scene.bot, lambda _: (scene.inner, scene.model), lambda: scene.plugins, scene.ledger, observer=failing
    )
    assert (await scene.told(asks(QUESTION))).text == "It is so[1]."


HUGE = Findings(
    tuple(page(number, "字" * 10**6, summary="s" * 10**6, extra={"x": "y" * 10**6}) for number in range(200)),
    output={"raw": "z" * 10**6, "broken": "\ud800"},
)


async def test_a_huge_answer_of_a_plugins_stays_small() -> None:
    scene = Scene(Model(SAYS), {"web_search": ScriptedPlugin(HUGE)}, intent="always", limit=5)
    told = await scene.told(asks(QUESTION))
    assert told.text == "It is so[1]."
    assert 1 <= len(told.references) <= 5
    assert len(scene.model.requests[0].messages[-1].text()) < 8192
    (call,) = told.report.details[0].tool_details
    assert len(call.output["data"]["data"]["results"]) == 5
    assert len(str(call.output)) < 50_000


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_does_not_fit_after_all_is_done_without(at_once: bool) -> None:
    refusal = ContextTooLong(9000, 1, 8192)
    scene = Scene(Model(refusal if at_once else (refusal,), SAYS), {"web_search": ScriptedPlugin(FOUND)})
    told = await scene.told(asks(QUESTION))
    assert (told.error, told.text, told.references) == (None, "It is so.", ())
    assert "material" not in scene.model.requests[1].messages[-1].text()
    assert told.usage == Usage(100, 3)


@pytest.mark.parametrize("citation", ["all", "cited"])
async def test_what_does_not_fit_after_something_was_said_is_done_without(citation: str) -> None:
    wanted = calls(("search_web", "{}"))
    refusal = ContextTooLong(9000, 1, 8192)
    model = Model(wanted, (Delta("So far [1]. "), *wanted), (refusal,), answers("It is so", "[2]", "."))
    found = iter((Findings((page(1),)), Findings((page(2), page(3)))))

    async def more(_: Quest) -> Findings:
        return next(found)

    scene = Scene(model, {"web_search": ScriptedPlugin(more)}, intent="tools", citation=citation)
    told = await scene.told(asks(QUESTION))
    assert (told.error, told.text) == (None, "So far [1]. It is so.")
    assert [each.url for each in told.references] == ["https://pages.test/1"]
    assert "material" in model.requests[2].messages[1].text()
    assert "material" not in model.requests[3].messages[1].text()


async def test_a_prompt_that_is_too_long_by_itself_is_the_callers_mistake() -> None:
    refusal = ContextTooLong(9000, 1, 8192)
    scene = Scene(Model((refusal,), (refusal,)), {"web_search": ScriptedPlugin(FOUND)})
    assert (await scene.told(asks(QUESTION))).error is refusal


@pytest.mark.parametrize("intent", ["auto", "tools", "never"])
@pytest.mark.parametrize("said", [0, 1])
async def test_errors_of_the_model_pass_on_unchanged(intent: str, said: int) -> None:
    error = Overloaded("busy", 7.0)
    scene = Scene(Model((*[Delta("so")] * said, error)), {"web_search": ScriptedPlugin(FOUND)}, intent=intent)
    told = await scene.told(asks(QUESTION))
    assert told.error is error
    assert not [event for event in told.events if isinstance(event, Finished | UsageReport)]


async def test_what_is_refused_at_once_is_raised_unless_something_is_looked_up_first() -> None:
    error = Overloaded("busy")
    with pytest.raises(Overloaded):
        Scene(Model(error), {"web_search": ScriptedPlugin()}, intent="never").start(asks(QUESTION))
    told = await Scene(Model(error), {"web_search": ScriptedPlugin()}, intent="always").told(asks(QUESTION))
    assert told.error is error


def test_a_bot_that_is_gone_or_has_no_model_is_told_at_once() -> None:
    def stopped(_: object) -> tuple[Deployment, Model]:
        raise EndpointStopped("ep-1")

    scene = Scene(Model())
    scene.bots = Bots(lambda _: None, stopped, dict, scene.ledger)
    assert scene.bots.heeded(scene.deployment, asks(QUESTION)) == asks(QUESTION)
    with pytest.raises(EndpointNotFound):
        scene.start(asks(QUESTION))
    scene.bots = Bots(lambda _: scene.bot, stopped, dict, scene.ledger)
    assert scene.bots.heeded(scene.deployment, asks(QUESTION)) == asks(QUESTION)
    with pytest.raises(EndpointStopped):
        scene.start(asks(QUESTION))


def test_what_has_an_effect_is_up_to_the_model_behind() -> None:
    scene = Scene(Model())
    assert scene.bots.heeded(scene.deployment, asks(QUESTION)).ignored == ("user",)
    assert scene.model.deployments == [scene.inner]


async def test_the_ordinary_backends_serve_bots_too() -> None:
    """One that is pulled, through the pump."""
    backend = ScriptedBackend(says("It ", "is", "[", "7", "]."))
    scene = Scene(pushing(backend), {"web_search": ScriptedPlugin(FOUND)})
    told = await scene.told(asks(QUESTION))
    assert told.text == "It is."
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (7, 5)
    assert backend.open_streams == 0


async def test_pause_and_resume_reach_the_model() -> None:
    scene = Scene(Puppet(), {"web_search": ScriptedPlugin(FOUND)})
    running, _ = scene.start(asks(QUESTION))
    running.pause()
    await soon(lambda: scene.model.asked)
    assert scene.model.last.told == ["pause"], "it was paused before there was a model to pause"
    running.resume()
    running.pause()
    assert scene.model.last.told == ["pause", "resume", "pause"]
    running.cancel()
    running.resume()
    running.cancel()
    assert scene.model.last.told == ["pause", "resume", "pause", "cancel"]


async def test_a_client_that_leaves_stops_the_search() -> None:
    stuck = Stuck()
    scene = Scene(Model(), {"web_search": ScriptedPlugin(stuck)}, intent="always")
    running, sink = scene.start(asks(QUESTION))
    await soon(lambda: stuck.begun)
    running.cancel()
    assert [each.outcome for each in scene.ledger.settlements.values()] == ["client_abort"], "in the same step"
    assert [call.result for call in scene.seen] == ["cancelled"]
    await soon(lambda: stuck.stopped and not scene.bots._desk.tasks)
    assert (sink.got, sink.over, scene.model.requests) == ([], False, [])


async def test_a_client_that_leaves_a_search_pays_for_the_call_that_asked_for_it() -> None:
    stuck = Stuck()
    scene = Scene(Model(calls(("search_web", "{}"))), {"web_search": ScriptedPlugin(stuck)}, intent="tools")
    running, sink = scene.start(asks(QUESTION))
    await soon(lambda: stuck.begun)
    running.cancel()
    assert sink.got == [Progress(50, 50)]


@pytest.mark.parametrize("way", ["cancel", "expire"])
async def test_a_client_that_leaves_stops_the_question_whether_to_search(way: str) -> None:
    scene = Scene(Puppet(), {"web_search": ScriptedPlugin(FOUND)}, intent="llm")
    running, sink = scene.start(asks(QUESTION))
    await soon(lambda: scene.model.asked)
    getattr(running, way)()
    assert scene.model.last.cancelled
    await asyncio.sleep(0.01)
    assert (len(scene.model.asked), sink.got, sink.over) == (1, [], False)


async def test_a_call_that_expires_tells_a_model_that_wants_to_know() -> None:
    class Learning(Model):
        expired = 0

        def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: object) -> Learning:  # type: ignore[override]
            return self

        def expire(self) -> None:
            self.expired += 1

        def cancel(self) -> None:
            raise AssertionError

    scene = Scene(Learning(), intent="never")
    running, _ = scene.start(asks(QUESTION))
    assert isinstance(running, BotCall)
    running.expire()
    assert scene.model.expired == 1


async def test_a_task_that_somebody_else_stops_fails_the_call() -> None:
    stuck = Stuck()
    scene = Scene(Model(), {"web_search": ScriptedPlugin(stuck)}, intent="always")
    before = asyncio.all_tasks()
    _, sink = scene.start(asks(QUESTION))
    (task,) = asyncio.all_tasks() - before
    await soon(lambda: stuck.begun)
    task.cancel()
    await soon(lambda: sink.over and stuck.stopped)
    assert isinstance(sink.error, BackendFailed)
    assert [each.outcome for each in scene.ledger.settlements.values()] == ["client_abort"]


async def test_there_is_no_task_where_nothing_has_to_be_looked_up() -> None:
    before = asyncio.all_tasks()
    for scene in (
        Scene(Puppet()),
        Scene(Puppet(), {"web_search": ScriptedPlugin()}, intent="never"),
        Scene(Puppet(), {"web_search": ScriptedPlugin()}, intent="tools"),
    ):
        scene.start(asks(QUESTION))
        assert len(scene.model.asked) == 1
    scene = Scene(Puppet(), {"web_search": ScriptedPlugin()}, intent="always")
    scene.start(asks(""))
    assert len(scene.model.asked) == 1, "there is no question to look up"
    assert asyncio.all_tasks() == before


STORIES: dict[str, tuple[tuple[object, ...], str]] = {
    "plain": ((SAYS,), "never"),
    "searched": ((SAYS,), "always"),
    "asked": ((answers("需要"), SAYS), "llm"),
    "called": ((calls(("search_web", "{}")), SAYS), "tools"),
    "refused": (((BackendFailed("down"),),), "auto"),
    "too long": (((ContextTooLong(9, 9, 9),), (ContextTooLong(9, 9, 9),)), "auto"),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("left_after", [0, 1, 2, 3, 5, 8, 13, 99])
async def test_a_call_leaves_nothing_to_the_collector(story: str, left_after: int) -> None:
    """Whenever its client leaves: prompts and answers are freed then, not when somebody looks for cycles."""
    script, intent = STORIES[story]
    scene = Scene(Model(*script), {"web_search": ScriptedPlugin(FOUND)}, intent=intent)  # type: ignore[arg-type]
    gc.collect()
    gc.disable()
    try:
        before = living()
        running, sink = scene.start(asks(QUESTION))
        for _ in range(left_after):
            await asyncio.sleep(0)
        over = sink.over
        running.cancel()
        told = len(sink.got)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(sink.got) == told, "events after the end"
        assert sink.over is over
        del running, sink
        scene.model.requests.clear()
        await soon(lambda: living() <= before)
    finally:
        gc.enable()
    assert not scene.bots._desk.tasks
    assert scene.ledger.attempts.keys() == scene.ledger.settlements.keys()


def living() -> int:
    return sum(isinstance(each, BotCall | Kept) for each in gc.get_objects())
