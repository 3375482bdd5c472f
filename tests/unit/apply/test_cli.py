"""``arkway apply`` and ``arkway export`` as they are typed."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.cli import group
from tests.tools.databases import made_in

Run = Callable[..., Result]

FILE = """
[[endpoints]]
name = "chat"
model = "small"

[[keys]]
name = "backend"
endpoints = ["chat"]

[[access_keys]]
name = "host"
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made_in(tmp_path / "home")

    def run(*words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(group, ["--home", str(tmp_path / "home"), *words], input=stdin)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "platform.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def document(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return orjson.loads(result.stdout)


def test_a_plan_tells_by_its_exit_code_whether_there_is_anything_to_do(run: Run, file: Path) -> None:
    planned = run("apply", "-f", str(file), "--plan")
    assert planned.exit_code == 2
    assert planned.stdout.splitlines() == [
        "+ endpoint default/default/chat: create, it is not there yet",
        '    model        "small"',
        '    status       "running"',
        "+ key default/default/backend: create, it is not there yet",
        '    role         "inference"',
        '    endpoints    ["chat"]',
        "+ access key default/default/host: create, it is not there yet",
        '    role         "owner"',
        "3 changes",
    ]
    assert document(run("endpoints", "list", "--json")) == []
    assert run("apply", "-f", str(file), "--yes").exit_code == 0
    again = run("apply", "-f", str(file), "--plan")
    assert (again.exit_code, again.stdout) == (0, "nothing to do\n")
    file.write_text(FILE.replace('"small"', '"large"').replace("[[access_keys]]", "[[aliases]]\nmodel = 'm'"))
    planned = run("apply", "-f", str(file), "--plan", "--prune")
    assert "~ endpoint default/default/chat: update, it differs from the file" in planned.stdout
    assert '    model        "small" -> "large"' in planned.stdout
    assert "- access key default/default/host: revoke, the file does not name it" in planned.stdout
    kept = run("apply", "-f", str(file), "--plan")
    assert "  access key default/default/host: the file does not name it; --prune would revoke it" in kept.stdout


def test_a_secret_is_shown_once_and_works(run: Run, file: Path) -> None:
    done = document(run("apply", "-f", str(file), "--yes", "--json"))
    assert done["applied"]
    assert [(made["kind"], made["name"]) for made in done["secrets"]] == [("key", "backend"), ("access key", "host")]
    secrets = [made["secret"] for made in done["secrets"]]
    (key,) = document(run("keys", "list", "--json"))
    assert (key["id"], key["last4"]) == (done["secrets"][0]["id"], secrets[0][-4:])
    for words in (("export",), ("apply", "-f", str(file), "--json"), ("audit", "--json"), ("keys", "list", "--json")):
        assert not any(secret in run(*words).output for secret in secrets)


def test_secrets_go_into_a_new_private_file(run: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "new-keys.json"
    done = run("apply", "-f", str(file), "--yes", "--secrets-out", str(out))
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    made = orjson.loads(out.read_bytes())
    assert [key["name"] for key in made] == ["backend", "host"]
    assert not any(key["secret"] in done.output for key in made)
    file.write_text(FILE + '[[keys]]\nname = "second"\n')
    refused = run("apply", "-f", str(file), "--yes", "--secrets-out", str(out))
    assert (refused.exit_code, "is there already" in refused.output) == (1, True)
    nowhere = run("apply", "-f", str(file), "--yes", "--secrets-out", str(tmp_path / "no" / "where"))
    assert (nowhere.exit_code, "cannot write" in nowhere.output) == (1, True)
    assert len(document(run("keys", "list", "--json"))) == 1


def test_nothing_is_done_unasked(run: Run, file: Path) -> None:
    refused = run("apply", "-f", str(file))
    assert (refused.exit_code, "nothing was done; to make these 3 changes, say --yes" in refused.output) == (1, True)
    assert document(run("keys", "list", "--json")) == []


def test_what_fails_halfway_is_undone(run: Run, file: Path, tmp_path: Path) -> None:
    """The key ring is another host's: the last change of the plan fails, and with it all of them."""
    assert run("aksk", "create", "--name", "first").exit_code == 0
    (tmp_path / "home" / "keyring").unlink()
    out = tmp_path / "secrets"
    failed = run("apply", "-f", str(file), "--yes", "--secrets-out", str(out))
    assert (failed.exit_code, "no access key can be used" in failed.output) == (1, True)
    assert (document(run("keys", "list", "--json")), document(run("endpoints", "list", "--json"))) == ([], [])
    assert not out.exists()


def test_what_was_exported_is_what_there_is(run: Run, file: Path, tmp_path: Path) -> None:
    assert run("apply", "-f", str(file), "--yes").exit_code == 0
    text = run("export").stdout
    assert run("apply", "-f", "-", "--plan", "--prune", stdin=text).exit_code == 0
    out = tmp_path / "written.toml"
    assert run("export", "-o", str(out)).stdout == f"wrote {len(out.read_text().split('[[')) - 1} things to {out}\n"
    assert out.read_text() == text
    assert document(run("export", "--json")) == {"file": None, "platform": text, "ambiguous": {}}
    run("keys", "create", "--name", "backend")
    left = run("export")
    assert "left out, since there is more than one: key default/default/backend (key-" in left.stderr
    refused = run("apply", "-f", str(file), "--plan")
    assert (refused.exit_code, f"{file}, line 6: the key default/default/backend is ambiguous" in refused.output) == (
        1,
        True,
    )


@pytest.mark.parametrize(
    "content, said",
    [
        (b"\xff", "is not UTF-8"),
        (b"[[keys]]\nnam = 'k'\n", "line 2: `keys.nam`: there is no such key; did you mean `name`?"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_cannot_be_taken_is_explained(run: Run, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "wrong.toml"
    if content is not None:
        path.write_bytes(content)
    refused = run("apply", "-f", str(path), "--plan")
    assert (refused.exit_code, said in refused.output, "Traceback" in refused.output) == (1, True, False)
