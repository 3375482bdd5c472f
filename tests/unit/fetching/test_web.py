"""Documents fetched from scripted servers."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from pathlib import Path

import pytest

from arkway import __version__
from arkway.core.errors import UnsupportedInput
from arkway.fetching.addresses import Allowed
from arkway.fetching.web import AT_ONCE, REDIRECTS_MAX, WebFetcher
from arkway.ports import Fetched
from arkway.takeover.authority import Files, files, initialise
from tests.tools.raw_upstream import OK, Peer, RawUpstream, saying
from tests.tools.waiting import PATIENCE_S, soon
from tests.tools.web import OUTSIDE, Names, fetcher, page, paths, redirect

KIB = 1024


async def test_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    got: list[bytes] = []
    answers = {"/a.png?b=%E7%8C%AB": page(b"png", "image/png; x=y", "set-cookie: c=1; path=/")}
    async with RawUpstream(paths(answers, got), OUTSIDE) as server:
        names = Names({"images.test": [[OUTSIDE]]})
        web = fetcher(server.port, names)
        url = f"http://Images.test:{server.port}/a.png?b=猫#x"
        for _ in range(2):
            fetched = await web.fetch(url, max_bytes=3, timeout_s=PATIENCE_S, accept=("image/*",))
            shown = f"http://images.test:{server.port}/a.png?b=%E7%8C%AB"
            assert fetched == Fetched("image/png; x=y", b"png", shown)
        assert names.asked == ["images.test"] * 2
    assert len(server.peers) == 2, "no connection is kept"
    lines = set(got[1].decode().lower().split("\r\n"))
    assert f"host: images.test:{server.port}" in lines
    assert f"user-agent: arkway/{__version__}" in lines
    assert not {line.partition(":")[0] for line in lines} & {"cookie", "authorization", "referer", "proxy-connection"}


async def test_redirects_are_followed_three_times() -> None:
    answers = {f"/{n}": redirect(f"/{n + 1}", (301, 302, 303, 307, 308)[n]) for n in range(5)}
    answers |= {"/5": page(b"end")}
    async with RawUpstream(paths(answers), OUTSIDE) as server:
        web = fetcher(server.port, Names({"a.test": [[OUTSIDE]]}))
        fetched = await web.fetch(f"http://a.test:{server.port}/2", max_bytes=KIB, timeout_s=PATIENCE_S)
        assert (fetched.body, fetched.url) == (b"end", f"http://a.test:{server.port}/5")
        assert len(server.peers) == REDIRECTS_MAX + 1
        with pytest.raises(UnsupportedInput, match="more than 3 times"):
            await web.fetch(f"http://a.test:{server.port}/1", max_bytes=KIB, timeout_s=PATIENCE_S)


async def test_a_compressed_document_is_unpacked() -> None:
    packed = page(gzip.compress(b"long " * KIB), "text/html; charset=gbk", "content-encoding: gzip")
    async with RawUpstream(saying(packed), OUTSIDE) as server:
        web = fetcher(server.port)
        url = f"http://{OUTSIDE}:{server.port}/"
        fetched = await web.fetch(url, max_bytes=5 * KIB, timeout_s=PATIENCE_S, accept=("text/html",))
        assert fetched == Fetched("text/html; charset=gbk", b"long " * KIB, url)


BOMB = gzip.compress(bytes(8 << 20))
ENDLESS = OK + b"content-type: image/png\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (page(bytes(KIB + 1)), "larger than the limit of 1024 bytes"),
        (OK + b"content-type: image/png\r\ncontent-length: 99999999999\r\n\r\n", "larger than the limit"),
        (page(BOMB[:900], "image/png", "content-encoding: gzip"), "larger than the limit"),
        (page(b"x", "image/png", "content-encoding: br"), "Content-Encoding"),
        (page(b"x", "image/png", "content-encoding: gzip"), "not compressed"),
        (page(b"x", "text/html"), "not of the type image/*"),
        (page(b"x", "imagex/png"), "not of the type"),
        (OK + b"content-length: 1\r\n\r\nx", "not of the type"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "the status 404"),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", "the status 500"),
        (b"HTTP/1.1 206 Part\r\ncontent-type: image/png\r\ncontent-length: 1\r\n\r\nx", "the status 206"),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", "the status 302"),
        (OK + b"content-type: image/png\r\ncontent-length: 9\r\n\r\nx", "broke off"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "in HTTP"),
        (b"", "in HTTP"),
        (OK + b"x: " + bytes(1 << 20), "in HTTP"),
    ],
)
async def test_documents_that_are_not_taken(said: bytes, why: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)

    async with RawUpstream(script, OUTSIDE) as server:
        url = f"http://{OUTSIDE}:{server.port}/"
        with pytest.raises(UnsupportedInput) as refused:
            await fetcher(server.port).fetch(url, max_bytes=KIB, timeout_s=PATIENCE_S, accept=("image/*",))
        assert why in refused.value.message
        assert OUTSIDE not in refused.value.message
        await soon(lambda: server.ended == len(server.peers))


async def test_a_document_without_an_end_is_cut() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(ENDLESS)
        while True:
            await peer.say(bytes(KIB))

    async with RawUpstream(script, OUTSIDE) as server:
        url = f"http://{OUTSIDE}:{server.port}/"
        with pytest.raises(UnsupportedInput, match="larger than the limit"):
            await fetcher(server.port).fetch(url, max_bytes=64 * KIB, timeout_s=PATIENCE_S)
        await soon(lambda: server.ended == 1)


@pytest.mark.parametrize("said", [b"", ENDLESS, OK[:5], redirect("/again")])
async def test_a_document_that_does_not_come(said: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)
        await peer.gone()

    async with RawUpstream(script, OUTSIDE) as server:
        url = f"http://{OUTSIDE}:{server.port}/"
        with pytest.raises(UnsupportedInput) as refused:
            await fetcher(server.port).fetch(url, max_bytes=KIB, timeout_s=0.5)
        assert refused.value.message.endswith(("within 0.5 seconds", "3 times"))
        await soon(lambda: server.ended == len(server.peers))


async def test_the_deadline_is_for_the_name_too() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    web = fetcher(80)
    web._resolve = never
    with pytest.raises(UnsupportedInput, match=r"within 0\.05 seconds"):
        await web.fetch("http://slow.test:80/", max_bytes=1, timeout_s=0.05)


async def test_the_systems_resolver() -> None:
    """Where ``localhost`` is, is for the system to say; what does not exist is told as what lies inside."""
    async with RawUpstream(saying(page(b"x"))) as server:
        web = WebFetcher(Allowed(["127.0.0.0/8", "::1/128"]), ports=(server.port,))
        assert (await web.fetch(f"http://localhost:{server.port}/", max_bytes=1, timeout_s=PATIENCE_S)).body == b"x"
        with pytest.raises(UnsupportedInput, match="no address in public"):
            await web.fetch(f"http://nothing.invalid:{server.port}/", max_bytes=1, timeout_s=PATIENCE_S)
        plain = WebFetcher(ports=(server.port,))
        with pytest.raises(UnsupportedInput, match="no address in public"):
            await plain.fetch(f"http://localhost:{server.port}/", max_bytes=1, timeout_s=PATIENCE_S)
        assert len(server.peers) == 1


async def test_nobody_there() -> None:
    async with RawUpstream(saying(b""), OUTSIDE) as server:
        port = server.port
    with pytest.raises(UnsupportedInput, match="cannot be reached"):
        await fetcher(port).fetch(f"http://{OUTSIDE}:{port}/", max_bytes=1, timeout_s=PATIENCE_S)


async def test_only_so_many_at_a_time() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.say(page(b"x"))

    async with RawUpstream(script, OUTSIDE) as server:
        web = fetcher(server.port)
        url = f"http://{OUTSIDE}:{server.port}/"
        every = [asyncio.ensure_future(web.fetch(url, max_bytes=1, timeout_s=PATIENCE_S)) for _ in range(AT_ONCE + 5)]
        await soon(lambda: len(server.peers) == AT_ONCE)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(server.peers) == AT_ONCE
        go.set()
        assert [each.body for each in await asyncio.gather(*every)] == [b"x"] * (AT_ONCE + 5)


async def test_only_the_hosts_that_are_named() -> None:
    async with RawUpstream(paths({"/": page(b"x"), "/away": redirect("//b.test/")}), OUTSIDE) as server:
        every = ("a.test", "b.test", "x.c.test", "c.test", "xc.test")
        web = fetcher(server.port, Names({name: [[OUTSIDE]] for name in every}), hosts=("A.test", ".c.test"))
        for name in ("a.test", "x.c.test"):
            assert (await web.fetch(f"http://{name}:{server.port}/", max_bytes=9, timeout_s=PATIENCE_S)).body == b"x"
        for url in ("b.test", "c.test", "xc.test", OUTSIDE):
            with pytest.raises(UnsupportedInput, match="from the URL's host"):
                await web.fetch(f"http://{url}:{server.port}/", max_bytes=9, timeout_s=PATIENCE_S)
        assert len(server.peers) == 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Files:
    home: Path = tmp_path_factory.mktemp("authority")
    initialise(home, [], int(time.time()))
    return files(home)


@pytest.mark.parametrize(("name", "taken"), [("localhost", True), ("other.test", False)])
async def test_the_certificate_is_that_of_the_name(authority: Files, name: str, taken: bool) -> None:
    told: list[str] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.server, authority.server_key)
    context.sni_callback = lambda _, said, __: told.append(said)
    trusting = ssl.create_default_context(cafile=authority.ca)
    async with RawUpstream(saying(page(b"safe")), OUTSIDE, tls=context) as server:
        web = fetcher(server.port, Names({name: [[OUTSIDE]]}), tls=trusting)
        asked = web.fetch(f"https://{name}:{server.port}/", max_bytes=9, timeout_s=PATIENCE_S)
        if taken:
            assert (await asked).body == b"safe"
        else:
            with pytest.raises(UnsupportedInput, match="not trusted"):
                await asked
    assert told == [name]
