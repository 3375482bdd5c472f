"""What the composition root tells the engine pool."""

from __future__ import annotations

from pathlib import Path

import msgspec

from arkway.core.model import ModelCard

MIB = 1024 * 1024


class EngineModel(msgspec.Struct, frozen=True):
    """Weights on disk and what is known of them. The key in the pool's mapping is ``card.served_name``.

    ``projector`` are the weights that turn images into what the model reads; None for a model that reads text alone.
    """

    path: Path
    card: ModelCard
    projector: Path | None = None


class EngineSettings(msgspec.Struct, frozen=True):
    """Sizes and deadlines shared by every engine of one pool.

    ``threads`` 0 = from the usable processors. ``memory_bytes`` 0 = three quarters of what the machine and its control
    groups give. ``idle_stop_s`` 0 = engines are never stopped for idleness. ``queue_wait_s`` is measured once the
    request could run. ``batch_tokens`` is what the engine reads between two looks at who has left: 128 costs no
    measurable speed against 256 and halves the work done for a client that is gone (about one second for a model of
    half a billion parameters).
    """

    slots: int = 4
    threads: int = 0
    memory_bytes: int = 0
    idle_stop_s: float = 600.0
    queue_limit: int = 64
    queue_wait_s: float = 30.0
    start_limit_s: float = 300.0
    hang_limit_s: float = 60.0
    backoff_first_s: float = 0.1
    backoff_limit_s: float = 30.0
    batch_tokens: int = 128
