"""The plugins of bots for the web and the weather, as the sections ``[search]`` and ``[weather]`` have them."""

from __future__ import annotations

from pathlib import Path

from arkway.config import Settings
from arkway.core.errors import Misconfigured
from arkway.fetching.addresses import Allowed
from arkway.fetching.web import WebFetcher
from arkway.ports.lookup import KnowledgeStore
from arkway.search.asking import Service
from arkway.search.found import Provider
from arkway.search.providers.ark import ArkBot
from arkway.search.providers.bocha import Bocha
from arkway.search.providers.kiwix import Kiwix
from arkway.search.providers.local import LocalPages
from arkway.search.providers.searxng import SearXNG
from arkway.search.reading import PageReading, require_extra
from arkway.search.settings import Search
from arkway.search.weather.open_meteo import OpenMeteo
from arkway.search.weather.plugin import Weather
from arkway.search.weather.qweather import KEY_HEADER, QWeather
from arkway.search.weather.report import WeatherProvider
from arkway.search.weather.static import StaticWeather
from arkway.search.web_search import WebSearch

FROM_FILE = "file:"
KEY_FILE_MAX_BYTES = 4096


def web_search(settings: Settings, store: KnowledgeStore) -> WebSearch:
    """Searches; ``store`` holds the pages of the offline provider. To be closed. Raises Misconfigured."""
    search = settings.search
    providers = _search_providers(search, store)
    if search.provider not in providers:
        raise Misconfigured(f"`search.provider` is `{search.provider}`, for which {_SEARCH_NEEDS[search.provider]}")
    return WebSearch(providers, search.provider, reading=_reading(settings), pages=search.pages)


def weather(settings: Settings) -> Weather:
    """Knows the weather. To be closed. Raises Misconfigured."""
    section = settings.weather
    providers = _weather_providers(settings)
    if section.provider not in providers:
        raise Misconfigured("`weather.provider` is `qweather`, for which `weather.qweather_url` and `_key` are missing")
    return Weather(providers, section.provider, default_city=section.city)


_SEARCH_NEEDS = {
    "searxng": "`search.searxng_url` is missing",
    "bocha": "`search.bocha_key` is missing",
    "ark": "`search.ark_bot` and `search.ark_key` are both needed",
    "kiwix": "`search.kiwix_url` and `search.kiwix_books` are both needed",
}


def _search_providers(search: Search, store: KnowledgeStore) -> dict[str, Provider]:
    """The offline one, and each that has what it needs."""
    providers: dict[str, Provider] = {"local": LocalPages(store)}
    if search.searxng_url:
        providers["searxng"] = SearXNG(_service(search, "searxng", search.searxng_url))
    if search.bocha_key:
        providers["bocha"] = Bocha(
            _service(search, "bocha", search.bocha_url, _key("search.bocha_key", search.bocha_key))
        )
    if search.ark_bot and search.ark_key:
        key = _key("search.ark_key", search.ark_key)
        providers["ark"] = ArkBot(_service(search, "ark", search.ark_url, key), search.ark_bot)
    if search.kiwix_url and search.kiwix_books:
        kiwix = _service(search, "kiwix", search.kiwix_url)
        providers["kiwix"] = Kiwix(kiwix, search.kiwix_books, search.kiwix_public_url)
    return providers


def _service(search: Search, name: str, url: str, key: str = "") -> Service:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Service(name, url, headers=headers, timeout_s=search.timeout_s, max_bytes=search.max_bytes)


def _reading(settings: Settings) -> PageReading | None:
    """What reads pages of results: they lie anywhere, and are fetched as what callers name is."""
    if not settings.search.pages:
        return None
    require_extra()
    fetch = settings.fetch
    fetcher = WebFetcher(Allowed(fetch.networks), hosts=fetch.hosts, ports=fetch.ports)
    return PageReading(fetcher, max_bytes=settings.search.page_max_bytes)


def _weather_providers(settings: Settings) -> dict[str, WeatherProvider]:
    section, timeout_s = settings.weather, settings.weather.timeout_s
    urls = (section.open_meteo_url, section.open_meteo_geocoding_url, section.open_meteo_air_url)
    forecast, geocoding, air = (Service("open-meteo", url, timeout_s=timeout_s) for url in urls)
    providers: dict[str, WeatherProvider] = {
        "static": StaticWeather(Path(section.file).expanduser() if section.file else None),
        "open-meteo": OpenMeteo(forecast, geocoding, air, _key("weather.open_meteo_key", section.open_meteo_key)),
    }
    if section.qweather_url and section.qweather_key:
        headers = {KEY_HEADER: _key("weather.qweather_key", section.qweather_key)}
        providers["qweather"] = QWeather(
            Service("qweather", section.qweather_url, headers=headers, timeout_s=timeout_s)
        )
    return providers


def _key(setting: str, value: str) -> str:
    """The key itself, or what is in the file that is named instead. Raises Misconfigured, never with the key."""
    key = value.strip()
    if key.startswith(FROM_FILE):
        key = _in_file(setting, Path(key.removeprefix(FROM_FILE)).expanduser())
    if not key.isascii() or not key.isprintable():
        raise Misconfigured(f"the key of `{setting}` has characters that no key has")
    return key


def _in_file(setting: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            key = file.read(KEY_FILE_MAX_BYTES).decode().strip()
    except OSError as error:
        raise Misconfigured(f"cannot read the key of `{setting}` from {path}: {error.strerror}") from None
    except UnicodeError:
        raise Misconfigured(f"the key of `{setting}` in {path} is no text") from None
    if not key:
        raise Misconfigured(f"the file {path}, which holds the key of `{setting}`, is empty")
    return key
