"""``arkway upstreams`` and ``arkway groups`` as they are typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from arkway.admin.apply.entries import Upstream as UpstreamEntry
from arkway.cli import group
from arkway.core.upstream import Upstream
from arkway.http.admin.upstreams import CreateUpstream
from arkway.testing import RunningServer, running_server

Run = Callable[..., Result]

URL = "http://127.0.0.1:8000/v1"
SECRET = "sk-CANARY-of-an-upstream"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*words: str, stdin: str = "", **environ: str) -> Result:
        return CliRunner(env=environ).invoke(group, ["--home", str(tmp_path / "home"), *words], input=stdin)

    return run


def document(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return orjson.loads(result.stdout)


def refused(result: Result) -> str:
    assert result.exit_code in (1, 2), result.output
    return result.stderr


def test_one_command_makes_upstream_group_and_endpoint(run: Run) -> None:
    made = document(
        run("upstreams", "add", "vllm", URL, "--serve", "qwen3:8b=Qwen/Qwen3-8B", "--context-tokens", "40960", "--json")
    )
    (serving,) = made["serving"]
    (endpoint,) = document(run("endpoints", "list", "--json"))
    assert serving == {"model": "qwen3", "version": "8b", "endpoints": [endpoint["id"]]}
    assert (endpoint["model_name"], endpoint["model_version"]) == ("qwen3", "")
    shown = document(run("groups", "show", "qwen3", "--json"))
    assert shown["members"][0] | {"upstream": "vllm", "model": "Qwen/Qwen3-8B"} == shown["members"][0]
    assert (shown["card"]["context_tokens"], shown["is_default"]) == (40960, True)
    # Its name is a model's: aliases and further endpoints may mean it.
    assert document(run("aliases", "set", "skylark-chat", "qwen3", "--json"))["model_name"] == "qwen3"
    assert run("endpoints", "create", "second", "--model", "qwen3:8b").exit_code == 0
    assert "not installed" in refused(run("endpoints", "create", "third", "--model", "qwen3:9b"))


def test_what_an_upstream_calls_its_model_is_its_name_here_where_nothing_else_is_said(run: Run) -> None:
    assert run("upstreams", "add", "ollama", URL, "--serve", "qwen3:0.6b").exit_code == 0
    (listed,) = document(run("groups", "list", "--json"))
    assert (listed["model"], listed["version"], listed["members"][0]["model"]) == ("qwen3", "0.6b", "qwen3:0.6b")


def test_a_tokenizer_is_declared_kept_and_taken_away(run: Run) -> None:
    chosen = "smollm2-135m-instruct"
    made = run("upstreams", "add", "one", URL, "--serve", "m", "--tokenizer", chosen)
    assert (made.exit_code, f"`arkway pull {chosen}` installs it" in made.stderr) == (0, True)
    kept = document(run("groups", "set", "m", "--member", "one/m", "--json"))["card"]
    assert (kept["tokenizer"], kept["capabilities"]) == (chosen, ["chat", "tools", "json", "tokenization"])
    assert chosen in run("groups", "show", "m").output
    gone = run("groups", "set", "m", "--member", "one/m", "--tokenizer", "", "--json")
    assert (document(gone)["card"]["tokenizer"], gone.stderr) == ("", "")


def test_a_tokenizer_that_is_nowhere_is_taken_with_a_warning(run: Run) -> None:
    assert run("upstreams", "add", "one", URL).exit_code == 0
    made = run("groups", "set", "m", "--member", "one/m", "--tokenizer", "smollm")
    assert made.exit_code == 0, made.output
    assert "`smollm`" in made.stderr
    assert "did you mean" in made.stderr
    assert "NAME or NAME:VERSION" in refused(run("groups", "set", "m", "--member", "one/m", "--tokenizer", "a b"))


def test_nothing_is_left_of_an_upstream_whose_model_is_taken(run: Run) -> None:
    assert run("upstreams", "add", "one", URL, "--serve", "m").exit_code == 0
    assert "is there already, nothing was done" in refused(run("upstreams", "add", "two", URL, "--serve", "m"))
    assert [info["name"] for info in document(run("upstreams", "list", "--json"))] == ["one"]


@pytest.mark.parametrize(
    ("words", "stdin", "environ", "auth"),
    [
        (["--key-stdin"], f"{SECRET}\n", {}, "key"),
        (["--key-env", "A_KEY"], "", {"A_KEY": SECRET}, "key"),
        (["--kind", "ark", "--access-key-id", "AKLTid", "--secret-stdin"], SECRET, {}, "aksk"),
        (["--kind", "ark", "--access-key-id", "AKLTid", "--secret-env", "S"], "", {"S": SECRET}, "aksk"),
        ([], "", {}, "none"),
    ],
)
def test_a_secret_goes_in_and_is_never_shown(
    run: Run, words: list[str], stdin: str, environ: dict[str, str], auth: str, tmp_path: Path
) -> None:
    made = run("upstreams", "add", "one", URL, *words, stdin=stdin, **environ)
    assert made.exit_code == 0, made.output
    shown = document(run("upstreams", "show", "one", "--json"))
    assert shown["auth"] == auth
    outputs = [made, run("upstreams", "list"), run("upstreams", "show", "one"), run("audit", "list", "--json")]
    assert SECRET not in "".join(each.output for each in outputs) + repr(shown)
    assert not any(SECRET.encode() in path.read_bytes() for path in (tmp_path / "home").iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--key-env", "NOT_SET"], "is not set"),
        (["--key-stdin"], "no key on standard input"),
        (["--key-stdin", "--key-env", "A"], "give one of"),
        (["--access-key-id", "AKLT"], "--secret-stdin"),
        (["--secret-stdin"], "--access-key-id"),
        (["--access-key-id", "AKLT", "--key-stdin"], "--secret-stdin"),
        (["--ca-file", "/nowhere/ca.pem"], "no file"),
        (["--connect-s", "0"], "connect_s"),
        (["--serve", "=m"], "name"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_made(run: Run, words: list[str], said: str) -> None:
    assert said in refused(run("upstreams", "add", "one", URL, *words))
    assert document(run("upstreams", "list", "--json")) == []


def test_a_key_over_an_open_road_is_warned_of(run: Run) -> None:
    warned = run("upstreams", "add", "far", "http://models.example.com/v1", "--key-stdin", stdin=SECRET)
    assert "travels in clear" in warned.stderr
    near = run("upstreams", "add", "near", URL, "--key-stdin", stdin=SECRET)
    assert "travels in clear" not in near.stderr


def test_an_upstream_is_changed_piece_by_piece(run: Run) -> None:
    run("upstreams", "add", "one", URL, "--key-stdin", stdin=SECRET)
    moved = document(run("upstreams", "update", "one", "--url", "http://127.0.0.1:9000/v1", "--idle-s", "9", "--json"))
    assert (moved["base_url"], moved["idle_s"], moved["auth"]) == ("http://127.0.0.1:9000/v1", 9.0, "key")
    assert document(run("upstreams", "update", "one", "--no-key", "--json"))["auth"] == "none"
    assert "name what is to change" in refused(run("upstreams", "update", "one"))
    assert "not both" in refused(run("upstreams", "update", "one", "--no-key", "--key-stdin", stdin="k"))
    assert "no upstream `two`" in refused(run("upstreams", "update", "two", "--idle-s", "9"))


def test_members_are_replaced_and_everything_else_of_a_group_stays(run: Run) -> None:
    run("upstreams", "add", "one", URL)
    run("upstreams", "add", "two", URL)
    set_up = ("--context-tokens", "5000", "--stick-to", "session", "--attempts", "3", "--title", "A title")
    first = document(run("groups", "set", "m", "--member", "one/m,weight=7", *set_up, "--json"))
    assert len(first["endpoints"]) == 1
    then = document(run("groups", "set", "m", "--member", "one/m", "--member", "two/m,role=shadow,share=10", "--json"))
    assert [(member["upstream"], member["role"]) for member in then["members"]] == [
        ("one", "normal"),
        ("two", "shadow"),
    ]
    assert (then["card"], then["policy"], then["endpoints"]) == (first["card"], first["policy"], first["endpoints"])
    assert "answers for a group" in refused(run("upstreams", "remove", "two"))
    document(run("groups", "remove", "m", "--json"))
    assert document(run("upstreams", "remove", "two", "--json")) == {"name": "two", "status": "removed"}
    assert "no group `m`" in refused(run("groups", "show", "m"))
    assert "no upstream `three`" in refused(run("groups", "set", "m", "--member", "three/m"))


def test_people_are_shown_what_programs_are(run: Run) -> None:
    assert "arkway upstreams add" in run("upstreams", "list").output
    assert "arkway groups set" in run("groups", "list").output
    run("upstreams", "add", "one", URL, "--serve", "m=theirs")
    assert "one/theirs" in run("groups", "list").output
    assert "one/theirs" in run("groups", "show", "m").output
    assert URL in run("upstreams", "show", "one").output


@pytest.fixture
def upstream() -> Any:
    with running_server(settings={"surface": {"v3_model_names": True}}) as server:
        yield server


def test_a_check_asks_for_models_and_for_a_token_of_each(run: Run, upstream: RunningServer) -> None:
    url = f"{upstream.url}/api/v3"
    run("upstreams", "add", "one", url, "--key-stdin", "--serve", f"m={upstream.endpoint_id}", stdin=upstream.api_key)
    found = document(run("upstreams", "check", "one", "--json"))
    assert [(entry["what"], entry["ok"]) for entry in found] == [("models", True), (upstream.endpoint_id, True)]
    assert len(upstream.backend.requests) == 1
    run("upstreams", "update", "one", "--key-stdin", stdin="ark-wrong")
    wrong = run("upstreams", "check", "one", "--model", "nothing")
    assert wrong.exit_code == 1
    assert wrong.stdout.count("FAILED") == 2
    assert "ark-wrong" not in wrong.output


def test_a_check_of_a_server_that_is_not_there_says_so(run: Run) -> None:
    run("upstreams", "add", "gone", "http://127.0.0.1:9/v1")
    (found,) = document(run("upstreams", "check", "gone", "--json"), 1)
    assert found["ok"] is False
    assert found["found"]
    assert "no upstream `other`" in refused(run("upstreams", "check", "other"))


def test_an_upstream_of_which_nothing_is_said_is_the_same_everywhere(run: Run) -> None:
    usual = Upstream(name="u", base_url=URL)
    help_text = " ".join(run("upstreams", "add", "--help").output.split())
    for name in ("connections_max", "connect_s", "first_byte_s", "idle_s", "region", "kind"):
        said = getattr(usual, name)
        assert getattr(CreateUpstream(name="u", base_url=URL), name) == said
        assert getattr(UpstreamEntry(name="u", base_url=URL), name) == said
        assert f"default {said:g}" in help_text.lower() if isinstance(said, float) else str(said) in help_text


def test_a_check_of_a_model_that_embeds_asks_for_an_embedding(run: Run, upstream: RunningServer) -> None:
    url, model = f"{upstream.url}/api/v3", upstream.embedding_endpoint_id
    run("upstreams", "add", "one", url, "--key-stdin", stdin=upstream.api_key)
    run("groups", "set", "v", "--member", f"one/{model}", "--dimensions", "8")
    found = document(run("upstreams", "check", "one", "--json"))
    assert [(entry["what"], entry["ok"]) for entry in found] == [("models", True), (model, True)]
    assert found[1]["found"] == "one embedding"


def test_a_check_with_a_key_pair_asks_for_no_list(run: Run) -> None:
    pair = ("--kind", "ark", "--access-key-id", "AKLTabc", "--secret-stdin")
    run("upstreams", "add", "ark", "http://127.0.0.1:9/api/v3", *pair, stdin=SECRET)
    (found,) = document(run("upstreams", "check", "ark", "--json"))
    assert (found["what"], found["ok"]) == ("models", True)
    assert "not asked for" in found["found"]
