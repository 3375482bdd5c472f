"""The samples of the vendor's guides to MaaS v1 (Skylark-chat, 2023) and v2 (Moonshot-v1-8k, 2024), as printed.

The guides are not part of this repository. Where copies lie beside the checkout, their Python samples are cut out and
run in the environments of the SDKs, with nothing but host, scheme and endpoint put in; keys come from the environment,
as the guides say.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.testing import RunningServer
from tests.sdk.cells import cell
from tests.sdk.conftest import only
from tests.sdk.guides import maas_sample, objects, printable, run
from tests.sdk.scenes import breaks_off, play

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

TURNS = ["天为什么这么蓝", "因为有你", "花儿为什么这么香"]


def printed(client: str, source: str, server: RunningServer, folder: Path) -> list[str]:
    """The lines that the sample prints."""
    return run(*printable(client.split(" ")[0], source, server, folder)).splitlines()


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """The name of a client: the samples start processes of their own."""
    name: str = request.param
    return name


@only("maas v1", "maas-2024 v1")
@cell("sample program")
def test_python_of_the_v1_guide(client: str, server: RunningServer, tmp_path: Path) -> None:
    lines = printed(client, maas_sample("002", server), server, tmp_path)

    answer, *frames = objects(lines)
    assert answer["choice"]["message"]["content"] == "你好，世界"
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert "".join(frame["choice"]["message"]["content"] for frame in frames) == "你好，世界"
    assert frames[-1]["usage"]["total_tokens"] == 10
    # Beside every answer its text: the whole one, then one for every frame.
    assert [line for line in lines if line and not line.startswith("{")] == ["你好，世界", "你好", "，", "世界"]
    chat, stream = server.backend.requests
    assert (chat.stream, stream.stream) == (False, True)
    assert (chat.sampling.temperature, chat.sampling.top_p, chat.max_tokens) == (0.7, 0.9, 1000)
    assert [message.text().rstrip("?？") for message in chat.messages] == TURNS


@only("maas v2", "maas-2024 v2")
@cell("sample program")
def test_python_of_the_v2_guide(client: str, server: RunningServer, tmp_path: Path) -> None:
    lines = printed(client, maas_sample("004", server), server, tmp_path)

    answer, *frames = objects(lines)
    assert len(lines) == 1 + len(frames)
    assert answer["choices"][0]["message"]["content"] == "你好，世界"
    assert "".join(frame["choices"][0]["message"]["content"] for frame in frames) == "你好，世界"
    assert frames[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert [request.stream for request in server.backend.requests] == [False, True]


@only("maas v1", "maas-2024 v1")
def test_samples_print_errors(client: str, server: RunningServer, tmp_path: Path) -> None:
    play(server, breaks_off("一"))

    lines = printed(client, maas_sample("002", server), server, tmp_path)

    assert lines.count("code_n: 1709806") == 2  # the whole answer, and the stream after its first frame
    assert "一" in lines
