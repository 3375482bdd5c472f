from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from arkway.cli import group
from arkway.cli.pull import Lines
from arkway.models.pull import PullProgress


@pytest.fixture
def home(tmp_path: Path, gguf_file: Path) -> Path:
    """A data directory with two versions of one small model, pulled by the command itself."""
    for version in ("v1", "v2"):
        done = arkway(tmp_path / "home", "pull", f"file:{gguf_file}", "--name", "tiny", "--version", version)
        assert done.exit_code == 0, done.output
    return tmp_path / "home"


def arkway(home: Path, *words: str) -> Result:
    return CliRunner().invoke(group, ["--home", str(home), *words])


def test_list_and_show(home: Path) -> None:
    listed = msgspec.json.decode(arkway(home, "models", "list", "--json").stdout)
    mine = [(model["name"], model["version"], model["is_default"]) for model in listed if model["name"] == "tiny"]
    assert mine == [("tiny", "v1", True), ("tiny", "v2", False)]
    everything = arkway(home, "models", "list", "--all").stdout
    assert "tiny" in everything
    assert "not installed" in everything
    page = arkway(home, "models", "show", "tiny").stdout
    for words in ("temperature", "0 to 2", "512 tokens", "licence          mit", str(home), "default version  v1"):
        assert words in page
    offered = msgspec.json.decode(arkway(home, "models", "show", "smollm2-135m-instruct", "--json").stdout)
    assert (offered["installed"], offered["card"]["languages"]) == (False, ["en"])
    assert "arkway pull smollm2-135m-instruct" in arkway(home, "models", "show", "smollm2-135m-instruct").stdout


def test_default_verify_and_remove(home: Path) -> None:
    assert arkway(home, "models", "default", "tiny", "v2").exit_code == 0
    shown = msgspec.json.decode(arkway(home, "models", "show", "tiny", "--json").stdout)
    assert (shown["version"], shown["is_default"]) == ("v2", True)
    assert arkway(home, "models", "verify", "tiny").exit_code == 0
    Path(shown["path"]).write_bytes(b"x" * shown["size_bytes"])
    damaged = arkway(home, "models", "verify", "tiny", "--json")
    assert damaged.exit_code == 1
    assert [verdict["status"] for verdict in msgspec.json.decode(damaged.stdout)] == ["damaged", "damaged"]
    assert "arkway models remove tiny:v1" in damaged.stderr
    assert arkway(home, "models", "remove", "tiny:v1").stdout == "removed tiny:v1\n"
    removed = msgspec.json.decode(arkway(home, "models", "remove", "tiny", "--json").stdout)
    assert [model["version"] for model in removed] == ["v2"]


@pytest.mark.parametrize(
    "words, says",
    [
        (("pull", "no-such-model"), "the catalogue has no model"),
        (("pull", "a", "b", "--source", "hf:a/b:c"), "go with one NAME only"),
        (("models", "show", "nothing"), "the catalogue has no model"),
        (("models", "default", "tiny", "v9"), "installed are: tiny:v1, tiny:v2"),
        (("models", "remove", "tiny:v9"), "is not installed"),
        (("models", "verify", "nothing"), "is not installed"),
    ],
)
def test_errors_are_sentences(home: Path, words: tuple[str, ...], says: str) -> None:
    failed = arkway(home, *words)
    assert failed.exit_code == 1
    assert failed.stderr.startswith("Error: ")
    assert says in failed.stderr


def test_doctor_reports_as_json(home: Path) -> None:
    told = arkway(home, "doctor", "--json")
    report = msgspec.json.decode(told.stdout)
    assert told.exit_code == (0 if report["healthy"] else 1)
    models = next(check for check in report["checks"] if check["name"] == "models")
    assert "tiny:v1" in models["found"]
    assert "data directory" in arkway(home, "doctor").stdout


def test_progress_lines_are_few() -> None:
    written: list[str] = []
    report = Lines(written.append)
    report(PullProgress("m", "probing"))
    for done in range(1001):
        report(PullProgress("m", "downloading", "hf:a/b:c", done, 1000))
    report(PullProgress("m", "done", "hf:a/b:c", 1000, 1000))
    assert len(written) == 13
    assert (written[0], written[2], written[-1]) == ("m: probing", "m: 10 % of 0 MB", "m: done hf:a/b:c")
