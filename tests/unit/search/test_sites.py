"""What an address tells of its site, and text of strangers made plain."""

from __future__ import annotations

import pytest

from arkway.search.cleaning import flat, lines
from arkway.search.sites import favicon_of, origin_of, site_of, web_url


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.example.com/a", "example.com"), ("https://example.com", "example.com"),
        ("http://news.bbc.co.uk/x", "bbc.co.uk"), ("https://www.beijing.gov.cn/", "beijing.gov.cn"),
        ("https://a.b.com.cn/", "b.com.cn"), ("https://www.some.bj.cn", "some.bj.cn"), ("http://127.0.0.1:80/",
        "127.0.0.1"),
        ("http://[::1]/", "::1"), ("http://localhost/", "localhost"), ("https://docs.rs/x", "docs.rs"),
        ("https://de.wikipedia.org/", "wikipedia.org"), ("nonsense", ""), ("http://[", ""),
    ],
)  # fmt: skip
def test_the_name_that_somebody_registered(url: str, site: str) -> None:
    assert site_of(url) == site


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "ftp://a.test/", "//a.test/", "https://", "http://a b/",
    "http://u:p@a.test/",
     "http://a.test/\n", 'http://a.test/"x', "http://a.test/<x>", "http://a.test:99999/", "x", "",
     "http://a.test/" + "a" * 2048,
     "http://a.test/\u202e", "http://[::1"],
)  # fmt: skip
def test_what_is_no_address_of_the_web(url: str) -> None:
    assert web_url(url) == ""
    assert favicon_of(url) == ""
    assert origin_of(url) == ""


def test_addresses_of_the_web() -> None:
    assert web_url("https://例子.测试/路径?a=b#c") == "https://例子.测试/路径?a=b#c"
    assert favicon_of("https://a.test:8443/x/y") == "https://a.test:8443/favicon.ico"


def test_text_is_made_plain() -> None:
    assert flat("  <b>Jazz</b> &amp; more\n\n\x00\x1b[31m\u202e text ", 100) == "Jazz & more [31m text"
    assert flat("a < b and c > d", 100) == "a < b and c > d"
    assert lines("a  b\r\n\n \n<p class='x'>c</p>", 100) == "a b\nc"
    assert flat("字" * 400, 300) == "字" * 300
    assert flat("\ud800x", 10) == "x"
    assert len(flat(" " * 10_000_000 + "x", 300)) <= 300
