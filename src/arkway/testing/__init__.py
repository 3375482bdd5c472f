"""What users need to test their own code against Arkway, and what Arkway's own tests stand on.

``running_server()`` is a real server on a free loopback port, with a scripted backend in place of an engine: the wire,
the road and the ledger are the real ones. ``python -m arkway.testing`` runs one in the foreground.

::

    with running_server(scripted=says("你好", "!")) as server:
        client = Ark(base_url=server.url + "/api/v3", api_key=server.api_key)
"""

from __future__ import annotations

from arkway.testing.doubles import (
    ACCESS_KEY_ID,
    API_KEY,
    BOT_ID,
    CHAT_CARD,
    EMBEDDING_CARD,
    EMBEDDING_ENDPOINT_ID,
    ENDPOINT_ID,
    SECRET_ACCESS_KEY,
    SESSION_ACCESS_KEY_ID,
    SESSION_SECRET,
    SESSION_TOKEN,
    TEMPORARY_KEYS,
    Gate,
    Hook,
    MemoryLedger,
    Pause,
    Script,
    ScriptedBackend,
    StaticDirectory,
    Step,
    access_key,
    bot,
    echoes,
    endpoint,
    says,
)
from arkway.testing.server import (
    RunningServer,
    memory_control,
    running_server,
    scripted_parts,
)

__all__ = [
    "ACCESS_KEY_ID",
    "API_KEY",
    "BOT_ID",
    "CHAT_CARD",
    "EMBEDDING_CARD",
    "EMBEDDING_ENDPOINT_ID",
    "ENDPOINT_ID",
    "SECRET_ACCESS_KEY",
    "SESSION_ACCESS_KEY_ID",
    "SESSION_SECRET",
    "SESSION_TOKEN",
    "TEMPORARY_KEYS",
    "Gate",
    "Hook",
    "MemoryLedger",
    "Pause",
    "RunningServer",
    "Script",
    "ScriptedBackend",
    "StaticDirectory",
    "Step",
    "access_key",
    "bot",
    "echoes",
    "endpoint",
    "memory_control",
    "running_server",
    "says",
    "scripted_parts",
]
