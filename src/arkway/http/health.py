"""``/livez`` says that the process runs, ``/readyz`` whether calls can be served, and if not, why."""

from __future__ import annotations

from collections.abc import Callable

from arkway.wire import json

JSON = "application/json; charset=utf-8"


class Health:
    """``troubles()`` lists, in sentences, what keeps calls from being served; empty = ready."""

    def __init__(self, version: str, troubles: Callable[[], tuple[str, ...]]) -> None:
        self._version = version
        self._troubles = troubles

    async def live(self) -> tuple[int, str, bytes]:
        return 200, JSON, json.dumps({"status": "ok", "version": self._version})

    async def ready(self) -> tuple[int, str, bytes]:
        troubles = self._troubles()
        status = 503 if troubles else 200
        return status, JSON, json.dumps({"status": "not ready" if troubles else "ok", "troubles": troubles})
