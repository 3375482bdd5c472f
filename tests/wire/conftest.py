"""Golden files: ``tests/wire/<dialect>/<case>.txt`` holds a request above the line ``---`` and what comes of it below.

``python -m pytest tests/wire --regenerate`` writes what is below the line anew; read the difference before you keep it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the golden files' expectations anew")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        files = sorted(FOLDER.glob("*/*.txt"))
        metafunc.parametrize("golden", files, ids=lambda file: f"{file.parent.name}/{file.stem}")


@pytest.fixture
def regenerate(request: pytest.FixtureRequest) -> bool:
    """Whether to write expectations instead of checking them."""
    return bool(request.config.getoption("--regenerate", default=False))
