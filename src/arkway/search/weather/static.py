"""Weather from a file: the same every time, without any network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from arkway.core.errors import Misconfigured
from arkway.search.times import shown_time
from arkway.search.weather.cities import plain_city
from arkway.search.weather.report import Day, Report

FILE_MAX_BYTES = 8_388_608


class _City(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    city: str
    aliases: tuple[str, ...] = ()
    condition: str = ""
    temperature_c: float | None = None
    feels_c: float | None = None
    humidity: float | None = None
    wind: str = ""
    aqi: float | None = None
    air: str = ""
    observed: str = ""
    days: tuple[Day, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cities: tuple[_City, ...]
    url: str = ""
    site_name: str = "天气"


class StaticWeather:
    """Implements `arkway.search.weather.report.WeatherProvider`."""

    name = "static"

    def __init__(self, path: Path | None = None) -> None:
        """Without a file there is no weather anywhere. Raises Misconfigured."""
        file = _read(path) if path is not None else _File(())
        self._reports: dict[str, Report] = {}
        for city in file.cities:
            report = _report(city, file)
            for name in (city.city, *city.aliases):
                self._reports.setdefault(plain_city(name).casefold(), report)
        self.cities: Sequence[str] = [name for city in file.cities for name in (city.city, *city.aliases)]

    def knows(self, city: str) -> bool:
        return plain_city(city).casefold() in self._reports

    async def report(self, city: str) -> Report | None:
        """What the file has."""
        return self._reports.get(plain_city(city).casefold())

    async def aclose(self) -> None:
        """Nothing is open."""


def _report(city: _City, file: _File) -> Report:
    told = {name: getattr(city, name) for name in city.__struct_fields__ if name not in ("aliases", "observed")}
    return Report(**told, observed=shown_time(city.observed), url=file.url, site_name=file.site_name)


def _read(path: Path) -> _File:
    """Raises Misconfigured."""
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise Misconfigured(f"the weather file {path} is larger than {FILE_MAX_BYTES} bytes")
        return msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise Misconfigured(f"cannot read the weather file {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Misconfigured(f"the weather file {path} is not as docs/search.md has it: {error}") from None
