"""Knowledge's own threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from arkway.knowledge.threads import THREADS, in_thread
from tests.tools.waiting import PATIENCE_S


async def test_what_hangs_here_holds_up_nobody_else() -> None:
    let_go = threading.Event()
    hanging = [asyncio.ensure_future(in_thread(let_go.wait, PATIENCE_S)) for _ in range(100 * THREADS)]
    try:
        async with asyncio.timeout(PATIENCE_S / 2):
            assert await asyncio.to_thread(threading.current_thread) is not threading.current_thread()
    finally:
        let_go.set()
        await asyncio.gather(*hanging)


async def test_what_is_raised_there_is_raised_here() -> None:
    assert await in_thread(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="seven"):
        await in_thread(int, "seven")
