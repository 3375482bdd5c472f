"""The sections ``[search]`` and ``[weather]`` of the configuration (docs/search.md)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

WEB = Meta(
    pattern=r"\A(https?://[^\s\0@?#]+)?\Z",
    description="empty or an address such as `https://host:8080/path`, without a user name, query or fragment",
)


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where bots search the web (docs/search.md). Each provider that is configured can be named by a bot.

    ``provider``: the one for bots that name none. Keys are shown nowhere: not by this object either; one that begins
    with ``file:`` is the path of the file that holds it. ``pages``: of how many results the page itself is read,
    fetched within what ``[fetch]`` allows; 0 = none.
    """

    provider: Literal["local", "searxng", "bocha", "ark", "kiwix"] = "local"
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    max_bytes: Annotated[int, Meta(ge=1024, le=33_554_432)] = 2_097_152
    pages: Annotated[int, Meta(ge=0, le=10)] = 0
    page_max_bytes: Annotated[int, Meta(ge=1024, le=16_777_216)] = 2_097_152
    searxng_url: Annotated[str, WEB] = ""
    bocha_url: Annotated[str, WEB] = "https://api.bochaai.com"
    bocha_key: str = ""
    ark_url: Annotated[str, WEB] = "https://ark.cn-beijing.volces.com/api/v3"
    ark_bot: str = ""
    ark_key: str = ""
    kiwix_url: Annotated[str, WEB] = ""
    kiwix_public_url: Annotated[str, WEB] = ""
    kiwix_books: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return without_keys(self)


class Weather(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where bots learn the weather (docs/search.md).

    ``file``: what ``static`` knows; empty = nothing. ``city``: for questions without one, of askers who are nowhere.
    Keys as in ``[search]``.
    """

    provider: Literal["static", "open-meteo", "qweather"] = "static"
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    city: str = ""
    file: str = ""
    open_meteo_url: Annotated[str, WEB] = "https://api.open-meteo.com"
    open_meteo_geocoding_url: Annotated[str, WEB] = "https://geocoding-api.open-meteo.com"
    open_meteo_air_url: Annotated[str, WEB] = "https://air-quality-api.open-meteo.com"
    open_meteo_key: str = ""
    qweather_url: Annotated[str, WEB] = ""
    qweather_key: str = ""

    def __repr__(self) -> str:
        return without_keys(self)


def without_keys(section: msgspec.Struct) -> str:
    """As ``repr``, with whatever is called a key left out."""
    values = {name: getattr(section, name) for name in section.__struct_fields__}
    shown = (f"{name}={'…' if value and name.endswith('_key') else value!r}" for name, value in values.items())
    return f"{type(section).__name__}({', '.join(shown)})"
