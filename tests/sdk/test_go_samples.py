"""Every Go program of the vendor's guides, compiled and run against the server with each version of its SDK.

The guides (v1: "Skylark-chat", v2: "Moonshot-v1-8k", v3: "API 调用指南") are not part of this repository. Where copies
lie beside the checkout, their programs are cut out and changed in nothing but host, scheme, key and placeholders.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from arkway.testing import EMBEDDING_CARD, RunningServer
from arkway.wire import json
from tests.sdk import toolchains
from tests.sdk.cells import cell
from tests.sdk.conftest import DIRECT
from tests.sdk.foreign import counts

pytestmark = pytest.mark.sdk
pytest_plugins = ["tests.sdk.cells"]

GUIDES = toolchains.ROOT.parent / "shared" / "seeds"
# From its package clause to a closing brace that nothing of Go follows.
PROGRAM = re.compile(r"^package main\n.*?^\}\n(?=\n(?!func |type |var |const |import |//|/\*)|\Z)", re.S | re.M)
MAAS_HOST = "maas-api.ml-platform-cn-beijing.volces.com"
RUN_TIMEOUT_S = 60


def programs(guide: str) -> list[str]:
    """The Go programs of one guide, by the beginning of its file name; skips where there is no copy of it."""
    toolchains.need("go")
    copies = sorted(GUIDES.glob(f"{guide}_*.txt"))
    if not copies:
        pytest.skip(f"no copy of the vendor's guide {guide} beside the checkout")
    return PROGRAM.findall(copies[0].read_text(encoding="utf-8"))


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """The text with each change made; every one of them has to be possible."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def output(client: str, source: str, folder: Path, environ: dict[str, str]) -> list[str]:
    """The lines a program prints, built with the modules of one SDK line."""
    name = client.split(" ")[0]
    toolchains.command(name)  # so that only one process at a time fetches modules
    (folder / "main.go").write_text(source, encoding="utf-8")
    toolchains.go_build(name, folder / "sample", folder / "main.go")
    done = subprocess.run(
        [str(folder / "sample")],
        env={**os.environ, **DIRECT, **environ},
        capture_output=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def on_maas(source: str, server: RunningServer) -> str:
    """A sample of v1 or v2, sent to the server over plain HTTP."""
    return replaced(
        source,
        (MAAS_HOST, server.url.removeprefix("http://")),
        ("r.SetAccessKey(", 'r.SetScheme("http")\nr.SetAccessKey('),
    )


def keys(server: RunningServer) -> dict[str, str]:
    return {"VOLC_ACCESSKEY": server.access_key_id, "VOLC_SECRETKEY": server.secret_access_key}


def answers(lines: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """What the samples of v1 and v2 print: the answer, the chunks of the stream, and the usage by itself."""
    first, *chunks, usage = lines
    answer = json.load_object(first.removeprefix("chat answer ").encode())
    return answer, [json.load_object(chunk.encode()) for chunk in chunks], json.load_object(usage.encode())


@pytest.mark.parametrize("client", ["go-maas v1", "go-maas-2024 v1"])
@cell("sample program")
def test_v1(client: str, server: RunningServer, tmp_path: Path) -> None:
    (source,) = programs("002")

    lines = output(client, on_maas(source, server), tmp_path, keys(server))

    answer, chunks, usage = answers(lines)
    assert answer["choice"]["message"]["content"] == "你好，世界"
    assert "".join(chunk["choice"]["message"].get("content", "") for chunk in chunks) == "你好，世界"
    assert chunks[-1]["choice"]["finish_reason"] == "stop"
    assert counts(usage) == counts(chunks[-1]["usage"]) == counts(answer["usage"]) == (7, 3, 10)
    once, streamed = server.backend.requests
    assert (once.stream, streamed.stream) == (False, True)
    assert (once.max_tokens, round(once.sampling.temperature or 0, 6)) == (1000, 0.7)
    assert [message.text() for message in streamed.messages] == [
        "天为什么这么蓝?",
        "因为有你",
        "花儿为什么这么香?",
    ]


@pytest.mark.parametrize("client", ["go-maas v2", "go-maas-2024 v2"])
@cell("sample program")
def test_v2(client: str, server: RunningServer, tmp_path: Path) -> None:
    (source,) = programs("004")
    source = replaced(on_maas(source, server), ("{YOUR_ENDPOINT_ID}", server.endpoint_id))

    answer, chunks, usage = answers(output(client, source, tmp_path, keys(server)))

    assert answer["choices"][0]["message"]["content"] == "你好，世界"
    assert "".join(chunk["choices"][0]["message"].get("content", "") for chunk in chunks) == "你好，世界"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert counts(usage) == counts(answer["usage"]) == (7, 3, 10)
    assert [request.stream for request in server.backend.requests] == [False, True]


@pytest.mark.parametrize("client", ["go-ark v3", "go-ark-2024 v3"])
@cell("sample program")
def test_v3_chat(client: str, server: RunningServer, tmp_path: Path) -> None:
    source = replaced(
        programs("000")[0],
        ('os.Getenv("ARK_API_KEY"))', f'os.Getenv("ARK_API_KEY"), arkruntime.WithBaseUrl("{server.url}/api/v3"))'),
        ("${YOUR_ENDPOINT_ID}", server.endpoint_id),
    )

    lines = output(client, source, tmp_path, {"ARK_API_KEY": server.api_key})

    assert lines == ["----- standard request -----", "你好，世界", "----- streaming request -----", "你好，世界"]
    assert [request.stream for request in server.backend.requests] == [False, True]
    assert server.backend.requests[0].messages[1].text().startswith("常见的十字花科植物有哪些")


@pytest.mark.parametrize("client", ["go-ark v3", "go-ark-2024 v3"])
@cell("sample program")
def test_v3_embeddings(client: str, server: RunningServer, tmp_path: Path) -> None:
    _, source = programs("000")
    source = replaced(
        source, ("${BASE_URL}", f"{server.url}/api/v3"), ("${YOUR_ENDPOINT_ID}", server.embedding_endpoint_id)
    )

    title, printed = output(client, source, tmp_path, {"ARK_API_KEY": server.api_key})

    assert title == "----- embeddings request -----"
    reply = json.load_object(printed.encode())
    assert [len(entry["embedding"]) for entry in reply["data"]] == [EMBEDDING_CARD.dimensions]
    assert reply["model"] == EMBEDDING_CARD.served_name
