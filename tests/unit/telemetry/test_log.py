"""Log lines: one JSON object each, an allow-list of fields, nothing secret."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from arkway.core.chat import Usage
from arkway.core.errors import BackendFailed
from arkway.ports import CallRecord
from arkway.telemetry.log import FIELDS, AccessLog, JsonFormatter, redacted, to_stream
from arkway.wire import json

SECRET = "ark-0123456789abcdefghijklmnop"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a logger of its own writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("arkway")
    level, logger.level = logger.level, logging.DEBUG
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def whole_log() -> Iterator[io.StringIO]:
    """What the whole process writes at level debug; the loggers are put back as they were."""
    root, ours = logging.getLogger(), logging.getLogger("arkway")
    before = (root.handlers[:], root.level, ours.level)
    root.handlers[:] = []
    stream = io.StringIO()
    to_stream("debug", stream)
    yield stream
    root.handlers[:], root.level = before[:2]
    ours.setLevel(before[2])
    root.setLevel(before[1])


def failed(error: BaseException, cause: BaseException | None = None) -> None:
    try:
        raise error from cause
    except BaseException:
        logging.getLogger("arkway").exception("internal error", extra={"request_id": "02", "prompt": "PROMPT"})


def test_a_value_cannot_forge_a_line(lines: io.StringIO) -> None:
    logging.getLogger("arkway.x").warning("a\nb\r\x1b[31m %s", '"}\n{"level":"error"}')
    assert lines.getvalue().count("\n") == 1
    assert "\x1b" not in lines.getvalue()
    assert json.loads(lines.getvalue().encode())["message"].startswith("a\nb")


def test_only_listed_fields_are_written(lines: io.StringIO) -> None:
    failed(BackendFailed("the engine stopped"))
    told = json.loads(lines.getvalue().encode())
    assert told["request_id"] == "02"
    assert set(told) <= {*FIELDS, "time", "level", "message", "exception"}
    assert "PROMPT" not in lines.getvalue()


def test_our_own_errors_keep_their_words_and_others_lose_them(lines: io.StringIO) -> None:
    failed(BackendFailed("the engine stopped"), ValueError("PROMPT"))
    told = json.loads(lines.getvalue().encode())["exception"]
    assert "the engine stopped" in told
    assert "builtins.ValueError\n" in told
    assert "test_log.py" in told
    assert "PROMPT" not in told


def test_the_systems_errors_keep_their_words(lines: io.StringIO) -> None:
    failed(FileNotFoundError(2, "No such file", "/models/m.gguf"))
    assert "/models/m.gguf" in lines.getvalue()


@pytest.mark.parametrize(
    "text", [SECRET, f"key={SECRET},", f"Authorization: Bearer {SECRET}", f"bearer {SECRET}", f"BEARER\t{SECRET}"]
)
def test_keys_are_redacted(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "0123456789" not in redacted(text)
    assert "[redacted]" in redacted(text)


def test_the_access_log_has_one_line_a_call(lines: io.StringIO) -> None:
    record = CallRecord("02", "v3", "chat", "ep-1", "m-1", 200, "", "done", Usage(3, 4), 0.1, 0.25, True, "key-1")
    AccessLog().started("v3", "chat")
    AccessLog().ended(record)
    told = json.loads(lines.getvalue().encode())
    assert told["prompt_tokens"] == 3
    assert told["duration_ms"] == 250.0
    assert told["key_id"] == "key-1"


def test_debug_shows_our_own_lines_and_of_libraries_only_warnings(whole_log: io.StringIO) -> None:
    for name in ("sqlalchemy.engine.Engine", "aiohttp.client", "asyncio", "alembic.runtime", "uvicorn.error"):
        library = logging.getLogger(name)
        level = library.level
        library.setLevel(logging.DEBUG)
        library.debug("PROMPT")
        library.info("PROMPT")
        library.warning("worth knowing from %s", name)
        library.setLevel(level)
    logging.getLogger("arkway.store").debug("ours")
    logging.getLogger("arkways").info("PROMPT")
    said = [json.loads(line.encode()) for line in whole_log.getvalue().splitlines()]
    assert [entry["level"] for entry in said] == ["warning"] * 5 + ["debug"]
    assert said[-1]["message"] == "ours"
    assert "PROMPT" not in whole_log.getvalue()


def test_debug_shows_no_sql_parameter(whole_log: io.StringIO) -> None:
    heard = io.StringIO()
    listener = logging.StreamHandler(heard)
    library = logging.getLogger("sqlalchemy.engine")
    library.addHandler(listener)
    library.setLevel(logging.DEBUG)
    try:
        engine = sa.create_engine("sqlite://")
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT :word"), {"word": "PROMPT"}).scalar() == "PROMPT"
        engine.dispose()
    finally:
        library.removeHandler(listener)
        library.setLevel(logging.NOTSET)
    assert "PROMPT" in heard.getvalue()
    assert whole_log.getvalue() == ""


def test_a_level_above_warning_is_everybodys(whole_log: io.StringIO) -> None:
    to_stream("error", whole_log)
    logging.getLogger("arkway").warning("ours")
    logging.getLogger("uvicorn.error").warning("theirs")
    logging.getLogger("uvicorn.error").error("serious")
    assert [json.loads(line.encode())["message"] for line in whole_log.getvalue().splitlines()] == ["serious"]


def test_a_lost_task_keeps_what_it_failed_on(whole_log: io.StringIO) -> None:
    words = "PROMPT"

    async def lose() -> None:
        async def fail() -> None:
            raise ValueError(words)

        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(lose())
    assert "never retrieved" in whole_log.getvalue()
    assert "PROMPT" not in whole_log.getvalue()
