"""A progress bar for people; nothing where standard error is not a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self


class Bar:
    """Call it with the number of steps done since the last call; ``done`` counts them."""

    def __init__(self, what: str, steps: int) -> None:
        self.done = 0
        self._what, self._steps = what, steps

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._progress.start()
        self._task = self._progress.add_task(self._what, total=self._steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, steps: int) -> None:
        self.done += steps
        self._progress.advance(self._task, steps)
