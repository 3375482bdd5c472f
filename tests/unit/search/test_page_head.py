"""What pages say about themselves."""

from __future__ import annotations

import pytest

from arkway.core.reference import Cover
from arkway.search.page_head import Head, decoded_page, head_of

URL = "https://www.a.test/dir/page.html"
TIME = "2025年04月08日 10:30:00(CST) 星期二"


def test_a_page_that_says_nothing() -> None:
    assert head_of("<p>text", URL) == Head()
    assert head_of("", URL) == Head()


def test_a_page_that_says_everything() -> None:
    html = """<title>Title &amp; more | Site</title><meta name=description content='What it
    is about'><meta property=og:site_name content="Site"><meta property="og:image" content="../c.png">
    <meta property="og:image:width" content="640px"><meta property="og:image:height" content="x">
    <link rel="shortcut icon" href="//cdn.test/i.ico"><link rel=canonical href="/dir/canonical">
    <link rel=alternate media="only screen and (max-width: 640px)" href="https://m.a.test/p">
    <meta itemprop="datePublished" content="2025-04-08T10:30:00+08:00">"""
    assert head_of(html, URL) == Head(
        title="Title & more | Site", site_name="Site", description="What it is about", publish_time=TIME,
        canonical="https://www.a.test/dir/canonical", logo_url="https://cdn.test/i.ico",
        mobile_url="https://m.a.test/p",
        cover=Cover("https://www.a.test/c.png", 640, 0),
    )  # fmt: skip


@pytest.mark.parametrize(
    "html",
    [
        '<meta property="article:published_time" content="2025-04-08T02:30:00Z">',
        '<meta name="PubDate" content="2025/04/08 10:30">',
        '<script type="application/ld+json">{"@graph":[{},{"datePublished":"2025-04-08T10:30:00+08:00"}]}</script>',
        '<script type="application/ld+json">[broken</script><time datetime="2025-04-08T10:30:00+08:00">',
        '<meta name="date" content="soon"><time datetime="2025-04-08 10:30">',
    ],
)  # fmt: skip
def test_when_it_was_published(html: str) -> None:
    assert head_of(html, URL).publish_time == TIME


@pytest.mark.parametrize("link", ["javascript:x", "data:,x", "http://[", "", "http://u:p@a.test/"])
def test_links_that_are_none(link: str) -> None:
    html = f'<link rel=icon href="{link}"><link rel=canonical href="{link}"><meta property=og:image content="{link}">'
    assert head_of(html, URL) == Head()


STRANGE = ("<![" * 1000, "<!DOCTYPE [" * 100, "<title>" * 10_000, "<a " + "x=y " * 50_000, "<" * 100_000, "\ud800<b>")


def test_strange_pages_are_read_as_far_as_it_goes() -> None:
    for html in STRANGE:
        assert isinstance(head_of(html, URL), Head)
    assert head_of("<title>一</title><svg><title>二</title></svg>", URL).title == "一"


def test_encodings() -> None:
    assert decoded_page("中文".encode()) == "中文"
    assert decoded_page(b"\xef\xbb\xbf" + "中文".encode()) == "中文"
    assert decoded_page("中文".encode("gbk"), "text/html; charset=GB2312") == "中文"
    assert decoded_page('<meta charset="gbk">中文'.encode("gbk")).endswith("中文")
    assert decoded_page("中文".encode("gb18030")) == "中文"
    assert decoded_page("日本".encode("shift_jis"), 'text/html; charset="Shift_JIS"') == "日本"
    assert decoded_page("中文".encode(), "text/html; charset=no-such") == "中文"
    assert decoded_page(b"\xff\xff\xff", "text/html; charset=utf-8")
