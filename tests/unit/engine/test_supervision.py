"""What happens when clients leave, lines fill, engines die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import aiohttp
import psutil
import pytest

from arkway.backends.engine.pool import EnginePool
from arkway.backends.engine.process import child_environment, telling_line, why_not_loaded
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest
from arkway.core.errors import BackendFailed, BackendUnavailable, Overloaded, Quarantined
from arkway.core.events import Delta, Progress
from tests.tools.waiting import PATIENCE_S, soon
from tests.unit.engine.conftest import Bench, card_of, deployment_of, request

pytestmark = pytest.mark.engine
Bench_ = Callable[..., Awaitable[Bench]]
LONG = 8192


async def begin(one: Bench, asked: ChatRequest, kind: type[Delta] | type[Progress], **who: str) -> None:
    """Reads until the first event of a kind, then leaves."""
    async with aclosing(one.stream(asked, **who)) as stream:
        async for event in stream:
            if isinstance(event, kind):
                return


async def strike(one: Bench, asked: ChatRequest, blow: signal.Signals) -> None:
    """Runs a request and strikes the engine when its first text comes."""
    struck = False
    async with aclosing(one.stream(asked)) as stream:
        async for event in stream:
            if isinstance(event, Delta) and not struck:
                struck = True
                os.kill(one.pool.status()[0].pid, blow)


async def test_leaving_while_it_writes_frees_the_slot_at_once(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, LONG)
    await begin(one, request(max_tokens=4000), Delta)
    await soon(lambda: one.pool.status()[0].slots_busy == 0)
    process = psutil.Process(one.pool.status()[0].pid)
    process.cpu_percent()
    await asyncio.sleep(0.3)
    assert process.cpu_percent() < 50


async def test_leaving_while_it_reads_frees_the_slot_too(bench: Bench_, slow_model: Path) -> None:
    """Long before it would have read everything: the processor's time that reading takes has not been spent."""
    one = await bench(slow_model, LONG)
    engine = psutil.Process(one.pool.status()[0].pid)

    def spent_s() -> float:
        return engine.cpu_times().user

    before_s = spent_s()
    await begin(one, request("y" * 7000, max_tokens=4), Progress)
    await soon(lambda: one.pool.status()[0].slots_busy == 0)
    left_s = spent_s() - before_s
    answered = await one.run(request("z", max_tokens=1))
    assert answered.usage.completion_tokens == 1
    before_s = spent_s()
    await one.run(request("x" * 7000, max_tokens=1))
    assert left_s < 0.8 * (spent_s() - before_s)


async def test_cancelling_the_task_is_leaving_too(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, LONG)
    task = asyncio.create_task(one.run(request(max_tokens=4000, n=2)))
    await soon(lambda: one.pool.status()[0].in_flight == 2)
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.wait([task])
    await soon(lambda: one.pool.status()[0].slots_busy == 0)
    assert one.pool.status()[0].in_flight == 0


async def test_a_killed_engine_fails_its_requests_and_serves_again(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, LONG)
    pid = one.pool.status()[0].pid
    await one.run(request(max_tokens=1))
    with pytest.raises(BackendFailed):
        await strike(one, request(max_tokens=4000), signal.SIGKILL)
    answered = await one.run(request("other", max_tokens=2))
    assert answered.usage.completion_tokens == 2
    status = one.pool.status()[0]
    assert (status.restarts, status.slots_busy, status.ready) == (1, 0, True)
    assert status.pid != pid


async def test_a_failed_restart_is_told_and_tried_again_by_itself(tmp_path: Path, random_model: Path) -> None:
    path, away = tmp_path / "moved.gguf", tmp_path / "away.gguf"
    path.write_bytes(random_model.read_bytes())
    card = card_of("moved")
    settings = EngineSettings(threads=1, backoff_first_s=0.05, backoff_limit_s=0.2)
    pool = EnginePool({card.served_name: EngineModel(path, card)}, settings)
    await pool.load(card.served_name)
    assert (pool.status()[0].failure, pool.troubles()) == ("", ())
    path.rename(away)
    os.kill(pool.status()[0].pid, signal.SIGKILL)
    await soon(lambda: pool.status()[0].failure != "")
    status = pool.status()[0]
    assert (status.loaded, status.ready, status.restarts) == (True, False, 1)
    assert pool.troubles() == (f"the model `{card.served_name}` does not start: {status.failure}",)
    assert "moved.gguf is missing" in status.failure
    with pytest.raises(BackendUnavailable, match="missing"):
        await pool.load(card.served_name)
    away.rename(path)
    await soon(lambda: pool.status()[0].ready)
    assert (pool.status()[0].failure, pool.troubles(), pool.status()[0].ready) == ("", (), True)
    await pool.aclose()


async def test_a_request_at_two_deaths_is_refused(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, LONG)
    poison = request("poison", max_tokens=3000)
    for _ in range(2):
        with pytest.raises(BackendFailed):
            await strike(one, poison, signal.SIGABRT)
    with pytest.raises(Quarantined):
        await one.run(poison)
    assert (await one.run(request("honest", max_tokens=1))).usage.completion_tokens == 1


async def test_a_hanging_engine_is_replaced(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, LONG, hang_limit_s=0.6)
    with pytest.raises(BackendFailed):
        await strike(one, request(max_tokens=3000), signal.SIGSTOP)
    assert (await one.run(request("again", max_tokens=1))).usage.completion_tokens == 1


async def test_the_line_is_bounded_and_fair(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, LONG, slots=1, queue_limit=10)
    order: list[str] = []

    async def ask(who: str) -> None:
        await one.run(request("x", max_tokens=4), account=who)
        order.append(who)

    holder = asyncio.create_task(one.run(request("x", max_tokens=4000), account="a"))
    await soon(lambda: one.pool.status()[0].in_flight == 1)
    tasks = [asyncio.create_task(ask("a")) for _ in range(9)]
    await soon(lambda: one.pool.status()[0].queue == 9)
    tasks.append(asyncio.create_task(ask("b")))
    await soon(lambda: one.pool.status()[0].queue == 10)
    with pytest.raises(Overloaded):
        await one.run(request("x", max_tokens=1), account="c")
    holder.cancel()
    await asyncio.gather(*tasks)
    # First come, first served would put it last; some of the others may have been let in before it came.
    assert order.index("b") < 9
    assert order.count("a") == 9


async def test_waiting_too_long_is_refused(bench: Bench_, slow_model: Path) -> None:
    one = await bench(slow_model, LONG, slots=1, queue_wait_s=0.3)
    holder = asyncio.create_task(one.run(request(max_tokens=4000)))
    await soon(lambda: one.pool.status()[0].in_flight == 1)
    with pytest.raises(Overloaded):
        await one.run(request("x", max_tokens=1))
    assert one.pool.status()[0].queue == 0
    holder.cancel()
    await asyncio.wait([holder])


async def test_the_childs_environment_holds_no_secret(
    bench: Bench_, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARK_API_KEY", "canary-7f3a")
    one = await bench(random_model)
    pid = one.pool.status()[0].pid
    assert set(child_environment()) <= {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "OMP_WAIT_POLICY"}
    assert child_environment()["OMP_WAIT_POLICY"] == "passive"
    assert str(random_model).encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    if os.geteuid() == 0:  # a process that may not be dumped shows its environment to nobody else
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"canary-7f3a" not in environment
        assert {entry.partition(b"=")[0].decode() for entry in environment.split(b"\0") if entry} <= set(
            child_environment()
        )


async def test_the_socket_is_ours_alone(bench: Bench_, random_model: Path) -> None:
    one = await bench(random_model)
    folder = (await one.pool._engines[one.name].supervisor.process()).folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["e.sock"]
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(folder / "e.sock"))) as stranger:
        answer = await stranger.post("http://engine/tokenize", json={"content": "x"})
        assert answer.status == 401
    if os.geteuid() == 0:
        assert not psutil.Process(one.pool.status()[0].pid).net_connections("inet")
    await one.pool.aclose()
    assert not folder.exists()


async def test_the_child_leaves_with_its_parent(bench: Bench_, random_model: Path) -> None:
    """The end of standard input is what a dead parent leaves behind."""
    one = await bench(random_model)
    process = await one.pool._engines[one.name].supervisor.process()
    assert process.child.stdin is not None
    process.child.stdin.close()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.shield(process.died)


async def test_a_broken_model_says_so_and_is_not_tried_without_pause(
    tmp_path: Path, random_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(random_model.read_bytes()[:200_000])
    card = card_of("cut")
    pool = EnginePool({card.served_name: EngineModel(path, card)}, EngineSettings(backoff_first_s=30.0))
    with pytest.raises(BackendUnavailable, match=r"cut\.gguf") as raised:
        await pool.load(card.served_name)
    assert "/" not in raised.value.message
    assert f"the model file {path} does not load" in caplog.text
    with pytest.raises(BackendUnavailable, match=r"cut\.gguf"):
        await pool.load(card.served_name)
    assert caplog.text.count(f"the model file {path} does not load") == 1
    assert "cut.gguf" in pool.status()[0].failure
    assert not pool.status()[0].loaded
    await pool.aclose()


async def test_an_unknown_model_is_unavailable(random_model: Path) -> None:
    pool = EnginePool({})
    with pytest.raises(BackendUnavailable, match="pull"):
        async for _ in pool.chat(deployment_of(card_of("none")), request(), Call("r")):
            pass
    await pool.aclose()


async def test_idle_engines_make_room_and_stop_by_themselves(random_model: Path, slow_model: Path) -> None:
    small, large = card_of("small"), card_of("large")
    models = {
        small.served_name: EngineModel(random_model, small),
        large.served_name: EngineModel(slow_model, large),
    }
    pool = EnginePool(models, EngineSettings(memory_bytes=320 * 1024 * 1024, idle_stop_s=1.5, threads=1))
    await pool.load(small.served_name)
    await pool.load(large.served_name)
    assert [status.loaded for status in pool.status()] == [False, True]
    await soon(lambda: not any(status.loaded for status in pool.status()))
    await pool.load(small.served_name)
    assert pool.status()[0].ready
    await pool.aclose()


async def test_a_model_over_the_memory_cap_is_refused(random_model: Path) -> None:
    card = card_of("m")
    settings = EngineSettings(memory_bytes=10 * 1024 * 1024)
    pool = EnginePool({card.served_name: EngineModel(random_model, card)}, settings)
    with pytest.raises(BackendUnavailable, match="MiB"):
        await pool.load(card.served_name)
    await pool.aclose()


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (1, "ImportError: libgomp.so.1: cannot open shared object file", "apt-get install libgomp1"),
        (1, "ModuleNotFoundError: No module named 'xllamacpp'", "pip install"),
        (-signal.SIGILL, "", "AVX2"),
        (-signal.SIGKILL, "", "memory"),
        (1, "", "missing"),
    ],
)
def test_reasons_say_what_to_do(code: int, words: str, said: str) -> None:
    assert said in why_not_loaded("/nowhere/model.gguf", code, words)


def test_reasons_hold_no_path(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.touch()
    words = f"0.01 I loading\nllama_model_load: error loading model: {path}: cut short\n"
    assert why_not_loaded(str(path), 1, words) == (
        "the model file model.gguf does not load; it may be damaged: pull it again (the server's log has the reason)"
    )
    assert telling_line(words) == f"llama_model_load: error loading model: {path}: cut short"
