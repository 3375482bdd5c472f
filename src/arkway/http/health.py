"""``/livez`` says that the process runs, ``/readyz`` whether calls can be served, and if not, why."""

from __future__ import annotations

from collections.abc import Callable

from arkway.wire import json

JSON = "application/json; charset=utf-8"


class Health:
    """``troubles()`` lists, in sentences, what keeps calls from being served; empty = ready.

    ``warnings()`` lists what is wrong although they are served.
    """

    def __init__(
        self,
        version: str,
        troubles: Callable[[], tuple[str, ...]],
        warnings: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._version = version
        self._troubles, self._warnings = troubles, warnings

    async def live(self) -> tuple[int, str, bytes]:
        return 200, JSON, json.dumps({"status": "ok", "version": self._version})

    async def ready(self) -> tuple[int, str, bytes]:
        """200 and ``degraded`` when calls are served in spite of something: no reason to send them elsewhere."""
        troubles, warnings = self._troubles(), self._warnings()
        word = "not ready" if troubles else "degraded" if warnings else "ok"
        page = {"status": word, "troubles": troubles, **({"warnings": warnings} if warnings else {})}
        return 503 if troubles else 200, JSON, json.dumps(page)
