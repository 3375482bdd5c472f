"""What callers name and must not reach: not one connection gets there, whatever the URL, name or redirect.

Each case has the fetcher as an operator would have it, but for the port, on which somebody listens at 127.0.0.1 and
at ::1, so that every way there would be counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arkway.core.errors import UnsupportedInput
from tests.tools.raw_upstream import Peer, RawUpstream, saying
from tests.tools.waiting import PATIENCE_S
from tests.tools.web import OUTSIDE, Names, beside, fetcher, page, paths, redirect

INSIDE = saying(page(b"secret"))

HOSTS = (
    # This machine, as it is written and as it can be.
    "127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "127.255.255.254", "0.0.0.0", "0", "0.0.0.1", "2130706433",
    "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0X7F000001", "0177.0.0.1", "0177.1", "017700000001",
    "127.0.0.1.", "127.0.0.01",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "127．0．0．1", "１２７.0.0.1", "127.0.0.1%2e", "127%2e0.0.1", "%31%32%37.0.0.1",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::7f00:1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:7f00:1::1]",
    "[2001:0:7f00:1::]", "[2001::80ff:fffe]", "[fe80::1%25lo]", "[fe80::1%lo]", "[::1%25lo]", "[fec0::1]",
    "[2606:4700::5efe:7f00:1]", "[2606:4700::200:5efe:127.0.0.1]", "[::ffff:0:127.0.0.1]",
    # Other insides.
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "169.254.0.1",
    "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "100.96.0.96", "100.127.255.255",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[febf::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]",
    "[5f00::1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]",
)  # fmt: skip


@pytest.fixture
async def inside() -> AsyncIterator[list[RawUpstream]]:
    """Listeners that nobody is to meet, on one port."""
    async with RawUpstream(INSIDE) as four:
        six = await beside(four, INSIDE, "::1")
        try:
            yield [four, six]
        finally:
            await six.close()


async def refused(url: str, names: Names, port: int, networks: tuple[str, ...] = ()) -> str:
    with pytest.raises(UnsupportedInput) as why:
        await fetcher(port, names, networks).fetch(url, max_bytes=1024, timeout_s=PATIENCE_S)
    assert why.value.field == ""
    return why.value.message


def met(servers: list[RawUpstream]) -> int:
    return sum(len(server.peers) for server in servers)


async def test_the_listeners_would_count(inside: list[RawUpstream]) -> None:
    port = inside[0].port
    for host in ("127.0.0.1", "[::1]", "a.test"):
        web = fetcher(port, Names({"a.test": [["127.0.0.1", "::1"]]}), ("127.0.0.0/8", "::1/128"))
        assert (await web.fetch(f"http://{host}:{port}/", max_bytes=9, timeout_s=PATIENCE_S)).body == b"secret"
    assert met(inside) >= 3


@pytest.mark.parametrize("host", HOSTS)
async def test_addresses_inside(inside: list[RawUpstream], host: str) -> None:
    message = await refused(f"http://{host}:{inside[0].port}/", Names({}), inside[0].port)
    assert "host" in message
    assert "127.0.0.1" not in message
    assert met(inside) == 0


ADDRESSES = tuple(host.strip("[]") for host in HOSTS)


@pytest.mark.parametrize("address", ADDRESSES)
async def test_names_that_mean_them(inside: list[RawUpstream], address: str) -> None:
    """Whatever form a resolver gives."""
    port = inside[0].port
    names = Names({"a.test": [[address]]})
    message = await refused(f"http://a.test:{port}/", names, port)
    assert message == await refused(f"http://nothing.test:{port}/", names, port), "told as if it did not exist"
    assert met(inside) == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}\\@a.test/", "http://a.test@127.0.0.1:{port}/", "http://a.test:80@127.0.0.1:{port}/",
        "http://a.test#@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@a.test/", "http://a.test?@127.0.0.1:{port}/",
        "http:/127.0.0.1:{port}/", "http:127.0.0.1:{port}", "http:///127.0.0.1:{port}/", "//127.0.0.1:{port}/",
        "http://[127.0.0.1]:{port}/", "http://[::1]a.test:{port}/", "http://a.test[::1]:{port}/", "ws://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}:80/", "http://127.0.0.1:+{port}/", "http://127.0.0.1:{port}\t/", "\nhttp://127.0.0.1:{port}/",
        "http://127.0.0.1\x00.a.test:{port}/", "http://127.0.0.1%00.a.test:{port}/", "http://localhost:{port}/",
        "http://localhost.:{port}/", "http://LOCALHOST:{port}/", "http://127.0.0.1\u3002a.test:{port}/",
        "file://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/", "unix:///run/x", "data:,x", "http+unix://x/",
        "https://127.0.0.1:{port}/",
    ],
)  # fmt: skip
async def test_urls_that_readers_read_differently(inside: list[RawUpstream], url: str) -> None:
    port = inside[0].port
    names = Names({"a.test": [["10.0.0.1"]], "localhost": [["127.0.0.1", "::1"]]})
    await refused(url.format(port=port), names, port)
    assert met(inside) == 0


async def test_other_ports_are_not_knocked_at(inside: list[RawUpstream]) -> None:
    names = Names({"a.test": [["127.0.0.1"]]})
    message = await refused(f"http://a.test:{inside[0].port}/", names, 443, ("127.0.0.0/8",))
    assert f"port {inside[0].port}" in message
    assert (met(inside), names.asked) == (0, [])


@pytest.mark.parametrize("answers", [[OUTSIDE, "127.0.0.1"], ["127.0.0.1", OUTSIDE], [OUTSIDE, "::1"], []])
async def test_one_address_inside_is_enough(answers: list[str]) -> None:
    async with RawUpstream(saying(page(b"x")), OUTSIDE) as server:
        other = await beside(server, INSIDE, "127.0.0.1")
        names = Names({"a.test": [answers]})
        await refused(f"http://a.test:{server.port}/", names, server.port, (f"{OUTSIDE}/32",))
        assert met([server, other]) == 0
        await other.close()


async def test_a_name_that_means_something_else_a_moment_later() -> None:
    """DNS rebinding: the address that was checked is the one that is dialed, and nobody is asked twice."""
    async with RawUpstream(saying(page(b"outside")), OUTSIDE) as server:
        other = await beside(server, INSIDE, "127.0.0.1")
        names = Names({"a.test": [[OUTSIDE], ["127.0.0.1"]]})
        web = fetcher(server.port, names)
        url = f"http://a.test:{server.port}/"
        assert (await web.fetch(url, max_bytes=9, timeout_s=PATIENCE_S)).body == b"outside"
        assert (len(names.asked), met([server]), met([other])) == (1, 1, 0)
        with pytest.raises(UnsupportedInput):
            await web.fetch(url, max_bytes=9, timeout_s=PATIENCE_S)
        assert (len(names.asked), met([server]), met([other])) == (2, 1, 0)
        await other.close()


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
        "http://inside.test:{port}/", "http://a.test:{port}/again", "http://a.test@127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data", "http://127.0.0.1:22/", "file:///etc/passwd", "gopher://127.0.0.1/",
        "http://127.1:{port}/", "/then", "http:\\\\127.0.0.1:{port}\\",
    ],
)  # fmt: skip
async def test_redirects_inside(location: str) -> None:
    """By an address, by a name, by the same name that has moved, by a second redirect."""
    answers: dict[str, bytes] = {}
    async with RawUpstream(paths(answers), OUTSIDE) as server:
        others = [await beside(server, INSIDE, host) for host in ("127.0.0.1", "::1")]
        answers["/"] = redirect(location.format(port=server.port))
        answers["/then"] = redirect(f"//127.0.0.1:{server.port}/")
        names = Names({"a.test": [[OUTSIDE], ["127.0.0.1"]], "inside.test": [["127.0.0.1"]]})
        await refused(f"http://a.test:{server.port}/", names, server.port, (f"{OUTSIDE}/32",))
        assert met([server]) == 1
        assert met(others) == 0
        for other in others:
            await other.close()


async def test_a_stranger_on_an_inner_address_is_counted() -> None:
    """The counting of these tests, once more: a fetcher that is told to goes there by a redirect."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(redirect(f"http://127.0.0.1:{server.port}/"))

    async with RawUpstream(script, OUTSIDE) as server:
        other = await beside(server, INSIDE, "127.0.0.1")
        web = fetcher(server.port, networks=("127.0.0.0/8",))
        fetched = await web.fetch(f"http://{OUTSIDE}:{server.port}/", max_bytes=9, timeout_s=PATIENCE_S)
        assert (fetched.body, met([other])) == (b"secret", 1)
        await other.close()
