"""The Java programs of the vendor's guides, with every version of the SDK they are for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arkway.core.errors import Overloaded
from arkway.testing import EMBEDDING_CARD, RunningServer
from tests.sdk.cells import cell
from tests.sdk.java.samples import ark_chat, ark_embeddings, output, v1_chat, v2_chat
from tests.sdk.scenes import breaks_off, fails, play

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

on_ark = pytest.mark.parametrize("client", ["java-ark v3", "java-ark-2024 v3"])
on_v1 = pytest.mark.parametrize("client", ["java-maas v1", "java-maas-2024 v1"])
on_v2 = pytest.mark.parametrize("client", ["java-maas v2", "java-maas-2024 v2"])


@cell("sample program")
@on_ark
def test_ark_chat(client: str, server: RunningServer, tmp_path: Path) -> None:
    lines = output(client, ark_chat(server), tmp_path, server).split("\n")

    assert lines[:4] == ["", "----- standard request -----", "你好，世界", ""]
    assert lines[4:] == ["----- streaming request -----", "你好，世界"]
    assert [request.stream for request in server.backend.requests] == [False, True]
    assert server.backend.requests[0].messages[1].text().startswith("常见的十字花科植物有哪些")


@cell("sample program")
@on_ark
def test_ark_embeddings(client: str, server: RunningServer, tmp_path: Path) -> None:
    printed = output(client, ark_embeddings(server), tmp_path, server)

    assert printed.startswith("\n----- embeddings request -----\nEmbeddingResult{")
    assert f"model='{EMBEDDING_CARD.served_name}'" in printed
    assert re.search(r"embedding=\[-?0\.\d+, ", printed)


@cell("sample program")
@on_v1
def test_v1_chat(client: str, server: RunningServer, tmp_path: Path) -> None:
    lines = [line for line in output(client, v1_chat(server), tmp_path, server).splitlines() if line]

    usage = ["prompt_tokens: 7", "completion_tokens: 3", "total_tokens: 10"]
    assert lines[:4] == ["你好，世界", *usage]
    assert lines[4:7] == ["你好", "，", "世界"]
    assert lines[-3:] == usage
    asked, streamed = server.backend.requests
    assert (asked.stream, streamed.stream) == (False, True)
    assert [turn.role for turn in asked.messages] == ["user", "assistant", "user"]
    assert asked.messages[2].text().startswith("花儿为什么这么香")
    assert asked.max_tokens == 1000
    assert asked.sampling.temperature == pytest.approx(0.7)


@cell("sample program")
@on_v2
def test_v2_chat(client: str, server: RunningServer, tmp_path: Path) -> None:
    lines = [line for line in output(client, v2_chat(server), tmp_path, server).splitlines() if line]

    usage = "[promptTokens=7,completionTokens=3,totalTokens=10]"
    assert lines[0] == "你好，世界"
    assert lines[1].endswith(usage)
    assert lines[2:-1] == ["你好", "，", "世界"]
    assert lines[-1].endswith(usage)
    assert [request.stream for request in server.backend.requests] == [False, True]
    assert server.backend.requests[0].messages[2].text() == "什么是中国"


@cell("sample program")
@on_v1
def test_v1_sample_tells_of_errors(client: str, server: RunningServer, tmp_path: Path) -> None:
    """The sample's own words for a refusal, of the plain call and of the stream, the status of which it never sees."""
    play(server, fails(Overloaded("the waiting line is full", retry_after_s=1)))

    printed = output(client, v1_chat(server), tmp_path, server)

    assert printed.count("code: ServiceResourceWaitQueueFull\ncode_n: 1709822\nmessage: ") == 2
    assert "caught: java.lang.RuntimeException: " in printed


@cell("sample program")
@on_v2
def test_v2_sample_tells_of_a_stream_that_breaks(client: str, server: RunningServer, tmp_path: Path) -> None:
    play(server, breaks_off("一", "二"))

    printed = output(client, v2_chat(server), tmp_path, server)

    assert printed.count("code: InternalServiceError\ncode_n: 1709806\nmessage: ") == 2
    assert "一\n二\nreq_id: " in printed
