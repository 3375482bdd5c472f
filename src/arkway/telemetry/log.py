"""Logs as JSON lines with an allow-list of fields: no prompt, no answer, no secret can get in by accident."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

import orjson

from arkway.core.errors import ArkwayError
from arkway.ports import CallRecord, Observer

FIELDS = (
    "request_id",
    "dialect",
    "operation",
    "endpoint_id",
    "model",
    "status",
    "error",
    "outcome",
    "prompt_tokens",
    "completion_tokens",
    "duration_ms",
    "key_id",
    "pid",
)

OURS = "arkway"

_SECRET = re.compile(r"(?i)\b(ark-)[0-9A-Za-z]{16,}|(bearer\s+)\S+")


class JsonFormatter(logging.Formatter):
    """One JSON object per line. JSON escapes line breaks and terminal codes, so a logged value cannot forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": redacted(_message(record)),
        }
        entry |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        if record.exc_info and record.exc_info[1] is not None:
            entry["exception"] = redacted("".join(_told(record.exc_info[1])))
        return orjson.dumps(entry, default=str).decode()


class AccessLog:
    """Implements `arkway.ports.Observer`: one line per call."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("arkway.access")

    def started(self, dialect: str, operation: str) -> None:
        """Nothing to say yet."""

    def ended(self, record: CallRecord) -> None:
        logger = self._logger
        if logger.isEnabledFor(logging.INFO):
            # What `info` would find out besides, such as the line of code that logs, is written by nobody.
            line = logging.LogRecord(logger.name, logging.INFO, "", 0, "call", (), None)
            line.__dict__.update(_extra(record))
            logger.handle(line)


def together(*observers: Observer) -> Observer:
    """Several observers as one; one alone is told by nobody in between."""
    return observers[0] if len(observers) == 1 else Observers(*observers)


class Observers:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self, dialect: str, operation: str) -> None:
        for observer in self._observers:
            observer.started(dialect, operation)

    def ended(self, record: CallRecord) -> None:
        for observer in self._observers:
            observer.ended(record)


def redacted(text: str) -> str:
    """The text without API keys and bearer tokens."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}[redacted]", text)


def to_stream(level: str, stream: TextIO = sys.stderr) -> None:
    """Sends every logger's lines to the stream as JSON: our own from ``level`` on, a library's from warning on.

    What libraries tell below a warning holds what they were given: SQL parameters, bodies, headers.
    """
    # Of every line they would find out what `JsonFormatter` does not write, by way of the kernel in one case.
    logging.logProcesses = logging.logMultiprocessing = logging.logThreads = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_worth_telling)
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)


def level_of(log_level: str, *, access_log: bool) -> str:
    """The access log is on the level info."""
    return "info" if access_log and log_level != "debug" else log_level


def set_level(level: str) -> None:
    """From which level on lines are written, as in `to_stream`."""
    ours = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(max(ours, logging.WARNING))
    logging.getLogger(OURS).setLevel(ours)


def _worth_telling(record: logging.LogRecord) -> bool:
    """The levels alone do not decide, since a library may set its own loggers'."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == OURS


def _message(record: logging.LogRecord) -> str:
    """asyncio adds the failed task to its words, and with it what an exception was given: its first line will do."""
    message = record.getMessage()
    return message.partition("\n")[0] if record.name == "asyncio" else message


def _told(error: BaseException) -> Iterator[str]:
    """A failure as frames and class names, the first cause first.

    The words of a library's exception may quote what it was given, a prompt among it; ours and the system's do not.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _told(cause)
    yield from traceback.format_tb(error.__traceback__)
    words = f": {error}" if isinstance(error, ArkwayError | OSError) else ""
    yield f"{type(error).__module__}.{type(error).__qualname__}{words}\n"


def _extra(record: CallRecord) -> dict[str, object]:
    return {
        "request_id": record.request_id,
        "dialect": record.dialect,
        "operation": record.operation,
        "endpoint_id": record.endpoint_id,
        "model": record.model,
        "status": record.status,
        "error": record.error,
        "outcome": record.outcome,
        "prompt_tokens": record.usage.prompt_tokens,
        "completion_tokens": record.usage.completion_tokens,
        "duration_ms": round(record.duration_s * 1000, 1),
        "key_id": record.key_id,
    }
