"""The plugins as the settings have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.app.search import weather, web_search
from arkway.config import Settings, load
from arkway.core.errors import Misconfigured
from arkway.knowledge.opening import open_knowledge
from arkway.ports.lookup import KnowledgeStore
from tests.unit.search.scripted import Scripted, ok_json, quest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KnowledgeStore]:
    store = open_knowledge(tmp_path)
    yield store
    store.close()


def settings(home: Path, **sections: Any) -> Settings:
    return load(environ={}, overrides={"home": str(home), **sections})


async def test_a_new_installation_searches_and_finds_nothing(tmp_path: Path, store: KnowledgeStore) -> None:
    plugin = web_search(settings(tmp_path), store)
    findings = await plugin.find(quest("今天的新闻"))
    assert (findings.snippets, findings.output["provider"]) == ((), "local")
    sky = weather(settings(tmp_path))
    assert (await sky.find(quest("北京天气"))).snippets == ()
    await plugin.aclose()
    await sky.aclose()


async def test_a_bot_may_name_any_provider_that_is_configured(tmp_path: Path, store: KnowledgeStore) -> None:
    async with Scripted({"/search": ok_json({"results": [{"url": "https://a.test/"}]})}) as server:
        plugin = web_search(settings(tmp_path, search={"searxng_url": server.url("")}), store)
        assert len((await plugin.find(quest(provider="searxng"))).snippets) == 1
        assert (await plugin.find(quest())).snippets == ()
        with pytest.raises(Misconfigured):
            await plugin.find(quest(provider="bocha"))
        await plugin.aclose()


@pytest.mark.parametrize(
    ("section", "missing"),
    [({"provider": "searxng"}, "searxng_url"), ({"provider": "bocha"}, "bocha_key"), ({"provider": "ark",
    "ark_key": "k"}, "ark_bot"),
     ({"provider": "kiwix", "kiwix_url": "http://k.test"}, "kiwix_books")],
)  # fmt: skip
def test_a_default_that_is_not_configured(
    tmp_path: Path, store: KnowledgeStore, section: dict[str, str], missing: str
) -> None:
    with pytest.raises(Misconfigured, match=missing):
        web_search(settings(tmp_path, search=section), store)


def test_a_default_for_the_weather_that_is_not_configured(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="qweather_url"):
        weather(settings(tmp_path, weather={"provider": "qweather"}))


async def test_keys_come_from_files_too(tmp_path: Path, store: KnowledgeStore) -> None:
    (tmp_path / "key").write_text("sk-from-a-file\n")
    async with Scripted({"": ok_json({"data": {}})}) as server:
        section = {"provider": "bocha", "bocha_url": server.url("/"), "bocha_key": f"file:{tmp_path / 'key'}"}
        plugin = web_search(settings(tmp_path, search=section), store)
        await plugin.find(quest())
        await plugin.aclose()
    assert server.asked[0].headers["authorization"] == "Bearer sk-from-a-file"
    assert server.asked[0].path == "/v1/web-search"


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"two\nlines", "密钥".encode()])
def test_keys_that_are_none(tmp_path: Path, store: KnowledgeStore, content: bytes | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"`search\.bocha_key`"):
        web_search(settings(tmp_path, search={"bocha_key": f"file:{path}"}), store)


def test_keys_are_shown_nowhere(tmp_path: Path) -> None:
    given = settings(tmp_path, search={"bocha_key": "sk-secret"}, weather={"qweather_key": "sk-secret"})
    assert "sk-secret" not in repr(given)
    assert "bocha_key='…'" in repr(given)
    with pytest.raises(Misconfigured) as why:
        settings(tmp_path, search={"ark_key": ["sk-secret"]})
    assert "sk-secret" not in why.value.message


@pytest.mark.parametrize("url", ["searx", "ftp://a.test", "http://user:pw@a.test", "http://a.test/?q=1", "http://a b"])
def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(Misconfigured, match=r"search\.searxng_url"):
        settings(tmp_path, search={"searxng_url": url})


def test_pages_are_read_where_the_extra_is_there(tmp_path: Path, store: KnowledgeStore) -> None:
    assert web_search(settings(tmp_path, search={"pages": 3}), store).action_name == "WebBrowsingPlus"
