"""Crawled pages, read from the disk."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from arkway.core.errors import Misconfigured
from arkway.search.pages import PAGE_MAX_BYTES, Page, read_pages, read_sitemap

BASE = "https://docs.example.com/v1"
TIME = "2025年04月08日 10:30:00(CST) 星期二"
HTML = """<html><head><title>Install</title><meta name="description" content="How to install">
<meta property="og:site_name" content="Docs"><meta property="og:image" content="/c.png">
<meta property="og:image:width" content="30"><meta name="date" content="2025-04-08 10:30">
</head><body><h1>Install</h1></body></html>"""
MARKDOWN = """---
title: "Guide"
date: 2025-04-08 10:30
image: https://i.test/g.png
---
# Other heading
text
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_tree(tmp_path: Path) -> None:
    files = {"index.html": HTML, "a/index.htm": HTML, "a/b c.html": HTML, "guide.md": MARKDOWN, "q?id=1.html": HTML,
             "style.css": "x", ".git/x.html": HTML}  # fmt: skip
    pages = list(read_pages(tree(tmp_path, files), BASE))
    assert [page.source for page in pages] == [
        f"{BASE}/a/b%20c.html", f"{BASE}/a/", f"{BASE}/guide.md", f"{BASE}/", f"{BASE}/q?id=1.html",
    ]  # fmt: skip
    assert pages[1] == Page(
        source=f"{BASE}/a/", file_name="index.htm", body=HTML.encode(), title="Install",
        meta={"url": f"{BASE}/a/", "site_name": "Docs", "publish_time": TIME, "summary": "How to install",
              "logo_url": "https://docs.example.com/favicon.ico", "cover_url": "https://docs.example.com/c.png",
              "cover_width": "30"},
    )  # fmt: skip
    assert (pages[2].title, pages[2].file_name) == ("Guide", "guide.md")
    assert pages[2].meta["publish_time"] == TIME
    assert pages[2].meta["site_name"] == "example.com"
    assert pages[2].meta["cover_url"] == "https://i.test/g.png"


def test_a_page_may_name_its_own_address_but_nobody_elses(tmp_path: Path) -> None:
    files = {
        "a.html": '<link rel="canonical" href="https://www.example.com/real">',
        "b.html": '<link rel="canonical" href="https://bank.test/login">',
        "c.md": "---\nurl: https://example.com/c\n---\nx",
    }
    assert [page.source for page in read_pages(tree(tmp_path, files), BASE)] == [
        "https://www.example.com/real", f"{BASE}/b.html", "https://example.com/c",
    ]  # fmt: skip


def test_without_an_address_only_pages_that_name_theirs_are_taken(tmp_path: Path) -> None:
    files = {"a.html": '<link rel="canonical" href="https://example.com/a">', "b.html": HTML}
    left_out: list[tuple[str, str]] = []
    pages = read_pages(tree(tmp_path, files), skipped=lambda name, why: left_out.append((name, why)))
    assert [page.source for page in pages] == ["https://example.com/a"]
    assert [name for name, _ in left_out] == ["b.html"]


def test_what_is_too_large_or_leads_out_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret.html").write_text(HTML)
    root = tree(tmp_path / "site", {"ok.html": HTML})
    (root / "large.html").write_bytes(b" " * (PAGE_MAX_BYTES + 1))
    (root / "out.html").symlink_to(tmp_path / "secret.html")
    (root / "gone.html").symlink_to(tmp_path / "nothing")
    (root / "dir.html").mkdir()
    left_out: list[str] = []
    pages = read_pages(root, BASE, skipped=lambda name, why: left_out.append(name))
    assert [page.source for page in pages] == [f"{BASE}/ok.html"]
    assert left_out == ["dir.html", "gone.html", "large.html", "out.html"]


SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
  <url><loc>https://docs.example.com/v1/a</loc><lastmod>2025-04-08T10:30:00+08:00</lastmod></url>
  <url><loc><![CDATA[https://docs.example.com/v1/b/]]></loc></url>
  <url><loc>https://docs.example.com/x?a=1&amp;b=2</loc><priority>0.5</priority></url>
  <url><loc>&e;</loc></url>
</urlset>"""


def test_a_sitemap(tmp_path: Path) -> None:
    path = tmp_path / "sitemap.xml"
    path.write_text(SITEMAP, encoding="utf-8")
    assert read_sitemap(path) == {
        "https://docs.example.com/v1/a": TIME, "https://docs.example.com/v1/b/": "",
        "https://docs.example.com/x?a=1&b=2": "",
    }  # fmt: skip


def test_a_tree_with_its_sitemap(tmp_path: Path) -> None:
    (tmp_path / "sitemap.xml").write_text(SITEMAP, encoding="utf-8")
    root = tree(tmp_path / "site", {"a.html": "<title>A</title>", "b/index.html": HTML, "private.html": HTML})
    left_out: list[str] = []
    pages = list(
        read_pages(root, BASE, sitemap=tmp_path / "sitemap.xml", skipped=lambda name, why: left_out.append(name))
    )
    assert [(page.source, page.meta["url"]) for page in pages] == [
        (f"{BASE}/a", f"{BASE}/a"),
        (f"{BASE}/b/", f"{BASE}/b/"),
    ]
    assert pages[0].meta["publish_time"] == TIME
    assert left_out == ["private.html"]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    lines = [
        {"url": "https://a.test/x/y.html", "html": HTML}, {"url": "https://a.test/", "markdown": "# 标题\n正文",
        "publish_time": "2025-04-08 10:30",
        "site_name": "站", "title": "题", "summary": "概"}, {"url": "file:///etc/passwd", "html": "x"},
        {"url": "https://a.test/"}, [1],
    ]  # fmt: skip
    path.write_bytes(b"\n".join(msgspec.json.encode(line) for line in lines) + b"\n\nbroken\n")
    left_out: list[str] = []
    pages = list(read_pages(path, skipped=lambda name, why: left_out.append(name)))
    assert [(page.source, page.file_name, page.title) for page in pages] == [
        ("https://a.test/x/y.html", "y.html", "Install"), ("https://a.test/", "a.test.md", "题"),
    ]  # fmt: skip
    assert pages[1].meta == {
        "url": "https://a.test/", "site_name": "站", "publish_time": TIME, "summary": "概",
        "logo_url": "https://a.test/favicon.ico",
    }  # fmt: skip
    assert left_out == ["line 3", "line 4", "line 5", "line 7"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Jazz" + " #" * 500_000 + "\n", "Jazz"),
        ("# Jazz" + "#" * 500_000 + "x\n", "Jazz###"),
        ("---\ntitle: Jazz" + " " * 500_000 + "x \t\n---\n", "Jazz"),
        ("---\n  \ntitle \t: 'Jazz' \ndate : 2025-04-08\n---\n# Other", "Jazz"),
        ("---\ntitle:\n---\n#  Jazz  ##  \n", "Jazz"),
    ],
)
def test_lines_without_end_take_no_time(tmp_path: Path, text: str, title: str) -> None:
    (tmp_path / "a.md").write_text(text)
    (page,) = read_pages(tmp_path, "https://a.test/")
    assert page.title.startswith(title)
    assert len(page.title) <= 300


def test_a_sitemap_in_many_pieces_is_read(tmp_path: Path) -> None:
    file = tmp_path / "sitemap.xml"
    pieces = "<url><loc>https://a<!-- -->.test/</loc></url><url><loc>https://b.test/" + "a<!---->" * 300_000
    file.write_text(f"<urlset>{pieces}</loc></url></urlset>")
    assert list(read_sitemap(file)) == ["https://a.test/"]


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty.xml").write_text("<urlset/>")
    for arguments in ((tmp_path / "nothing", BASE), (tmp_path, "ftp://x"), (tmp_path / "empty.xml", BASE)):
        with pytest.raises(Misconfigured):
            list(read_pages(*arguments))
    for sitemap in ("nothing.xml", "empty.xml"):
        with pytest.raises(Misconfigured, match="sitemap"):
            list(read_pages(tmp_path, BASE, sitemap=tmp_path / sitemap))
