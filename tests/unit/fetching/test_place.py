"""URLs read once, and strictly."""

from __future__ import annotations

import pytest

from arkway.core.errors import UnsupportedInput
from arkway.fetching.place import URL_MAX_CHARS, Place, joined, place_of

PORTS = frozenset((80, 443, 8443))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://example.com", Place("http", "example.com", 80, "/")),
        ("HTTPS://Example.COM:8443/a?b=c#d", Place("https", "example.com", 8443, "/a?b=c")),
        ("https://a_b-c.example.com./x", Place("https", "a_b-c.example.com", 443, "/x")),
        ("http://xn--fiqs8s.cn/图.png?q=猫", Place("http", "xn--fiqs8s.cn", 80, "/%E5%9B%BE.png?q=%E7%8C%AB")),
        ("http://8.8.8.8/a%2Fb%20c", Place("http", "8.8.8.8", 80, "/a%2Fb%20c")),
        ("http://[2606:4700:0::1]/", Place("http", "2606:4700::1", 80, "/")),
        ("http://example.com?x", Place("http", "example.com", 80, "/?x")),
    ],
)
def test_what_is_asked_for(url: str, place: Place) -> None:
    assert place_of(url, PORTS) == place
    assert place_of(place.url, PORTS) == place, "its own text means the same"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "only http"),
        ("file:///etc/passwd", "only http"),
        ("//example.com/", "only http"),
        ("example.com", "only http"),
        ("", "only http"),
        ("gopher://127.0.0.1:6379/_x", "only http"),
        ("http://a@example.com/", "user name"),
        ("http://a:b@example.com/", "user name"),
        ("http://@example.com/", "user name"),
        ("http://127.0.0.1\\@example.com/", "backslashes"),
        ("http:\\\\example.com/", "backslashes"),
        (" http://example.com/", "blanks"),
        ("http://exam\tple.com/", "blanks"),
        ("http://example.com/a\r\nhost: b", "blanks"),
        ("http://example.com/\ud800", "halves"),
        ("http://example.com/?a=\udc00", "halves"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:0/", "port 0"),
        ("http://example.com:99999/", "malformed"),
        ("http://example.com:x/", "malformed"),
        ("http://[::1/", "malformed"),
        ("http:///a", "host"),
        ("http://①②⑦.⓪.⓪.①/", "host"),
        ("http://例子.cn/", "host"),
        ("http://127.1/", "host"),
        ("http://0x7f000001/", "host"),
        ("http://0x7f.0.0.1/", "host"),
        ("http://2130706433/", "host"),
        ("http://0177.0.0.1/", "host"),
        ("http://127.0.0.01/", "host"),
        ("http://1.2.3.4.5/", "host"),
        ("http://256.0.0.1/", "host"),
        ("http://127.0.0.1../", "host"),
        ("http://a..b/", "host"),
        ("http://-a.com/", "host"),
        ("http://a%2eb/", "host"),
        ("http://a,b/", "host"),
        ("http://[fe80::1%25eth0]/", "host"),
        (f"http://{'a' * 64}.com/", "host"),
        (f"http://{'a.' * 127}com/", "host"),
        (f"http://example.com/{'a' * URL_MAX_CHARS}", "characters"),
    ],
)
def test_what_is_not(url: str, why: str) -> None:
    with pytest.raises(UnsupportedInput) as refused:
        place_of(url, PORTS)
    assert why in refused.value.message
    assert "127.0.0.1" not in refused.value.message


def test_redirects_are_read_from_where_they_are() -> None:
    place = place_of("https://example.com/a/b?c", PORTS)
    assert joined(place, "d", PORTS).url == "https://example.com/a/d"
    assert joined(place, "//other.org:8443/?e#f", PORTS).url == "https://other.org:8443/?e"


@pytest.mark.parametrize(
    ("location", "why"),
    [("http://example.com/", "https:// to http://"), ("https://u@example.com/", "user name"), ("ftp://x/", "only http"),
     ("https://a\\b/", "no URL"), ("https://[::1", "no URL"), ("//127.1/", "host")],
)  # fmt: skip
def test_redirects_that_are_not_followed(location: str, why: str) -> None:
    with pytest.raises(UnsupportedInput) as refused:
        joined(place_of("https://example.com/", PORTS), location, PORTS)
    assert why in refused.value.message
