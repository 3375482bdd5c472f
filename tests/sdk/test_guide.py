"""The samples of the vendor's guide: our program after them with every client, and the guide's own text where it is.

The guide ("API 调用指南", 2024-07-03) is not part of this repository. Where a copy lies beside the checkout, its Python
and curl samples are cut out and run with nothing but address, endpoint and key put in.
"""

from __future__ import annotations

import re

import pytest

from arkway.testing import EMBEDDING_CARD, RunningServer
from arkway.wire import json
from tests.sdk import environments
from tests.sdk.cells import cell
from tests.sdk.conftest import PROGRAMS, Client, only
from tests.sdk.guides import guide, replaced, run

pytest_plugins = ["tests.sdk.cells"]
pytestmark = pytest.mark.sdk

PYTHON = re.compile(r"^pip install 'volcengine-python-sdk\[ark\]'\n(.*?)^Embeddings\n(.*?)^Java SDK$", re.S | re.M)
CURL = re.compile(r"^curl https://ark\.cn-beijing\.volces\.com.*?^  }'$", re.S | re.M)


def python_samples() -> tuple[str, str]:
    found = PYTHON.search(guide("000"))
    assert found is not None
    return found[1], found[2]


@cell("sample program")
def test_sample_program(client: Client, server: RunningServer) -> None:
    output = run(
        [str(environments.interpreter(client.name)), str(PROGRAMS / "sample.py"), client.name],
        {
            "ARK_BASE_URL": client.base_url(server),
            "ARK_API_KEY": server.api_key,
            "ARK_CHAT_MODEL": server.endpoint_id,
            "ARK_EMBEDDING_MODEL": server.embedding_endpoint_id,
            "ARK_MAX_TOKENS": "32",
        },
    )

    document = json.load_object(output.encode())
    assert document["standard"]["content"] == document["streaming"]["content"] == "你好，世界"
    assert document["standard"]["usage"]["total_tokens"] == 10
    assert (document["streaming"]["pieces"], document["streaming"]["finish_reason"]) == (3, "stop")
    assert [len(vector) for vector in document["embeddings"]["vectors"]] == [EMBEDDING_CARD.dimensions]
    assert [request.max_tokens for request in server.backend.requests] == [32, 32]


@only("ark", "ark-2024")
@cell("sample program")
def test_python_chat_of_the_guide(client: Client, server: RunningServer) -> None:
    source = replaced(
        python_samples()[0],
        ("Ark()\n", f'Ark(base_url="{server.url}/api/v3")\n'),
        ("${YOUR_ENDPOINT_ID}", server.endpoint_id),
    )

    output = run([str(environments.interpreter(client.name)), "-c", source], {"ARK_API_KEY": server.api_key})

    assert output.splitlines() == [
        "----- standard request -----",
        "你好，世界",
        "----- streaming request -----",
        "你好，世界",
    ]
    assert [request.stream for request in server.backend.requests] == [False, True]
    assert server.backend.requests[0].messages[1].text().startswith("常见的十字花科植物有哪些")


@only("ark", "ark-2024")
@cell("sample program")
def test_python_embeddings_of_the_guide(client: Client, server: RunningServer) -> None:
    source = replaced(
        python_samples()[1],
        ("${BASE_URL}", f"{server.url}/api/v3"),
        ("${YOUR_ENDPOINT_ID}", server.embedding_endpoint_id),
    )

    output = run([str(environments.interpreter(client.name)), "-c", source], {"ARK_API_KEY": server.api_key})

    assert output.startswith("----- embeddings request -----\n")
    assert re.search(r"embedding=\[-?0\.\d+, ", output)
    assert f"model='{EMBEDDING_CARD.served_name}'" in output


def test_curl_of_the_guide(server: RunningServer) -> None:
    host = ("https://ark.cn-beijing.volces.com", server.url)
    chat, embeddings = CURL.findall(guide("000"))
    chat = replaced(chat, host, ("${YOUR_ENDPOINT_ID}", server.endpoint_id))
    embeddings = replaced(embeddings, host, ("$YOUR_ENDPOINT_ID", server.embedding_endpoint_id))
    key = {"API_KEY": server.api_key}

    stream = run(["sh", "-c", chat], key)
    vectors = json.load_object(run(["sh", "-c", embeddings], key).encode())

    assert stream.endswith('"usage":null}\n\ndata: [DONE]\n\n')
    assert stream.count("data: ") == 5
    assert len(vectors["data"][0]["embedding"]) == EMBEDDING_CARD.dimensions
