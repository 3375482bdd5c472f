"""Which cells of the conformance table (client x case) the tests of a run have filled. PYTEST_DONT_REWRITE

A test module that fills cells says so twice: ``pytest_plugins = ["tests.sdk.cells"]`` once, and ``@cell("chat")`` on a
test. The client is the test's ``client`` parameter, or the one named in the mark. When the run ends, every such module
has a file ``.cache/conformance/<module>.json``: ``{"<client>": {"<case>": "passed" | "failed" | "skipped"}}``, where a
cell that several tests fill is as good as the worst of them. Modules that did not run keep the file they had.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from arkway.wire import json

CASES = (
    "chat",
    "stream",
    "usage",
    "embeddings",
    "tokenization",
    "classification",
    "error 400",
    "error 401",
    "error 404",
    "error 429",
    "mid-stream error",
    "session token",
    "bearer key",
    "cancel",
    "heartbeat",
    "1-byte chunks",
    "unicode",
    "tool calls",
    "end-to-end encryption",
    "control plane",
    "AK/SK mode",
    "key refresh",
    "sample program",
)
OUTCOMES = ("passed", "skipped", "failed")  # from good to bad

Test = TypeVar("Test", bound=Callable[..., Any])
Table = dict[str, dict[str, str]]

_results: defaultdict[str, Table] = defaultdict(dict)


def folder(root: Path) -> Path:
    """Where the results of a checkout lie."""
    return root / ".cache" / "conformance"


def cell(case: str, *, client: str = "") -> Callable[[Test], Test]:
    """Marks a test as one that shows ``case``, for ``client`` or for the client it is parametrised with."""
    if case not in CASES:
        raise ValueError(f"no such case: {case}; there are {', '.join(CASES)}")

    def mark(test: Test) -> Test:
        test.__dict__.setdefault("cells", []).append((client, case))
        return test

    return mark


def record(module: str, client: str, case: str, outcome: str) -> None:
    """Notes one outcome; a worse one that is there already stays."""
    row = _results[module].setdefault(client, {})
    row[case] = max(outcome, row.get(case, OUTCOMES[0]), key=OUTCOMES.index)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if isinstance(item, pytest.Function) and (report.when == "call" or not report.passed):
        for client, case in item.function.__dict__.get("cells", ()):
            record(item.path.stem, client or _parameter(item), case, report.outcome)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    place = folder(session.config.rootpath)
    for module, table in _results.items():
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{module}{worker and '.'}{worker}.json").write_bytes(json.dumps(table) + b"\n")


def _parameter(item: pytest.Function) -> str:
    if not hasattr(item, "callspec"):
        raise pytest.UsageError(f"{item.nodeid} fills a cell of no client: name it in the mark")
    return str(item.callspec.params["client"])
