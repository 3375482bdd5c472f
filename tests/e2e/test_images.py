"""Images through the whole server: the embedded engine with a tiny model that sees, set up by the command line."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arkway.core.chat import ImagePart
from arkway.core.errors import UnsupportedInput
from arkway.core.model import Endpoint
from arkway.testing import CHAT_CARD, RunningServer, echoes, running_server
from tests.e2e.conftest import Home
from tests.tools.client import Connection, Reply
from tests.tools.random_gguf import write_random_gguf
from tests.tools.random_projector import TOKENS, png, write_random_projector
from tests.tools.raw_upstream import RawUpstream, saying
from tests.tools.web import OUTSIDE, page
from tests.tools.wires import OF_MODELS, Wire

pytestmark = pytest.mark.engine

IMAGE = png(28, 28, 1)
SEES = msgspec.structs.replace(CHAT_CARD, name="seeing", capabilities=("chat", "images"))
THERE = Endpoint("ep-20990101000000-seeing", "seeing", "seeing", "1", "running", "default", "default", 0)


def pull(home: Home, tmp_path: Path, name: str, *words: str) -> None:
    file = write_random_gguf(tmp_path / f"{name}.gguf", context=1024)
    done = home.run("pull", f"file:{file}", "--name", name, *words)
    assert done.returncode == 0, done.stderr


def data(octets: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(octets).decode()}"


def see(wire: Wire, client: Connection, endpoint: str, *urls: str) -> Reply:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content: Any = [*images, {"type": "text", "text": "hello"}]
    return client.post(*wire.chat(content, asked=endpoint, temperature=0, max_tokens=8))


def prompt_tokens(reply: Reply) -> int:
    assert reply.status == 200, reply.body
    return int(reply.json()["usage"]["prompt_tokens"])


def refused(wire: Wire, reply: Reply, why: str) -> None:
    error = wire.error(reply)
    assert reply.status == 400
    assert error["code"] == wire.error_of(UnsupportedInput("x"), reply)["code"]
    assert why in error["message"]


async def test_an_embedded_model_sees(home: Home, tmp_path: Path) -> None:
    projector = write_random_projector(tmp_path / "projector.gguf")
    await asyncio.to_thread(pull, home, tmp_path, "eyes", "--mmproj", f"file:{projector}")
    await asyncio.to_thread(pull, home, tmp_path, "blind")
    async with RawUpstream(saying(page(IMAGE)), OUTSIDE) as outside, RawUpstream(saying(page(IMAGE))) as inside:
        fetch = {"ENABLED": "true", "NETWORKS": f"{OUTSIDE}/32", "PORTS": f"{outside.port},{inside.port}"}
        home.environ |= {f"ARKWAY__FETCH__{name}": value for name, value in fetch.items()}
        await asyncio.to_thread(talk, home, outside.port, inside.port)
        assert (len(outside.peers), len(inside.peers)) == (len(OF_MODELS) - 1, 0)


def talk(home: Home, outside: int, inside: int) -> None:
    with home.serving() as served, Connection(served.url, served.secret()) as client:
        eyes, blind = served.endpoint("eyes"), served.endpoint("blind")
        for wire in [wire for wire in OF_MODELS if wire.route != "v1"]:
            plain = prompt_tokens(see(wire, client, eyes))
            seen = see(wire, client, eyes, data(IMAGE))
            assert prompt_tokens(seen) == plain + TOKENS
            fetched = see(wire, client, eyes, f"http://{OUTSIDE}:{outside}/a.png")
            assert prompt_tokens(fetched) == plain + TOKENS
            assert wire.text_of(fetched) == wire.text_of(seen)
            refused(wire, see(wire, client, eyes, f"http://127.0.0.1:{inside}/a.png"), "no address in public")
            refused(wire, see(wire, client, eyes, data(IMAGE[:60])), "broken")
            refused(wire, see(wire, client, blind, data(IMAGE)), "takes text only")
            assert prompt_tokens(see(wire, client, blind)) == plain
        metrics = client.get("/metrics").body.decode()
        assert "arkway_engine_ready 2" in metrics


@pytest.mark.parametrize("kind", ["openai", "ark"])
async def test_an_upstream_gets_the_image_itself(home: Home, kind: str) -> None:
    """But Ark, which fetches by itself what has TLS."""
    settings = {"surface": {"v3_model_names": True}}
    with running_server(echoes, cards=[SEES], endpoints=[THERE], settings=settings) as upstream:
        async with RawUpstream(saying(page(IMAGE)), OUTSIDE) as outside:
            fetch = {"ENABLED": "true", "NETWORKS": f"{OUTSIDE}/32", "PORTS": f"443,{outside.port}"}
            home.environ |= {f"ARKWAY__FETCH__{name}": value for name, value in fetch.items()}
            home.environ["UPSTREAM_KEY"] = upstream.api_key
            words = ("--key-env", "UPSTREAM_KEY", "--kind", kind, "--capability", "chat", "--capability", "images")
            serve = ("--serve", f"small={THERE.id}")
            home.json("upstreams", "add", "first", f"{upstream.url}/api/v3", *words, *serve)
            reply = await asyncio.to_thread(relayed, home, f"http://{OUTSIDE}:{outside.port}/a.png")
            assert (reply.status, len(outside.peers)) == (200, 1)
            assert _seen(upstream) == data(IMAGE)
            reply = await asyncio.to_thread(relayed, home, "https://127.0.0.1/a.png")
            if kind == "ark":
                assert (reply.status, _seen(upstream)) == (200, "https://127.0.0.1/a.png")
            else:
                refused(OF_MODELS[0], reply, "no address in public")
            assert len(outside.peers) == 1


def relayed(home: Home, url: str) -> Reply:
    with home.serving() as served, Connection(served.url, served.secret()) as client:
        images = [{"type": "image_url", "image_url": {"url": url}}]
        return client.post(*OF_MODELS[0].chat(images, asked=served.endpoint("small")))


def _seen(upstream: RunningServer) -> str:
    content = upstream.backend.requests[-1].messages[-1].content
    assert isinstance(content, tuple)
    (part,) = content
    assert isinstance(part, ImagePart)
    return part.url


def test_nothing_is_fetched_unless_it_is_said(home: Home, tmp_path: Path) -> None:
    projector = write_random_projector(tmp_path / "projector.gguf")
    pull(home, tmp_path, "eyes", "--mmproj", f"file:{projector}")
    with home.serving() as served, Connection(served.url, served.secret()) as client:
        wire = OF_MODELS[0]
        refused(wire, see(wire, client, served.endpoint("eyes"), f"http://{OUTSIDE}/a.png"), "end the image itself")


def test_networks_that_are_none_are_told_at_start(home: Home) -> None:
    home.environ |= {"ARKWAY__FETCH__ENABLED": "true", "ARKWAY__FETCH__NETWORKS": "10.1.0.1/16"}
    done = home.run("serve", "--port", "0", "--no-pull")
    assert done.returncode == 1
    assert "fetch.networks" in done.stderr
