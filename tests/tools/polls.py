"""How soon a change of another process is taken in, told in polls of the database instead of seconds."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from arkway.stores.store import Store, open_store
from tests.tools.waiting import until

EFFECTIVE_WITHIN_S = 2.0


def by_the_next_polls(store: Store, condition: Callable[[], bool]) -> bool:
    """Whether it holds by the second poll from now: at a server's own interval, within two seconds.

    The first may have been under way already. What is done at every poll comes after others' changes were noticed.
    """
    assert 2 * inspect.signature(open_store).parameters["poll_s"].default <= EFFECTIVE_WITHIN_S
    held: list[bool] = []
    store.every_poll(lambda: held.append(condition()))
    until(lambda: len(held) >= 2)
    return held[1]
