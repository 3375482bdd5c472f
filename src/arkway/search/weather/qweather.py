"""QWeather (和风天气), at the address that an account has of its own. https://dev.qweather.com/docs/api/"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec

from arkway.core.errors import ArkwayError, BackendFailed, BackendUnavailable, Misconfigured
from arkway.search.asking import Service, decoded, ending
from arkway.search.times import shown_time
from arkway.search.weather.report import Day, Report

KEY_HEADER = "x-qw-api-key"
SITE = "和风天气"
SITE_URL = "https://www.qweather.com/"
NOT_THERE = ("204", "404")

_Short = Annotated[str, msgspec.Meta(max_length=64)]


class _Place(msgspec.Struct):
    id: _Short
    name: _Short
    lat: _Short
    lon: _Short


class _Places(msgspec.Struct):
    code: str = ""
    location: list[_Place] = []


class _Now(msgspec.Struct):
    obsTime: str = ""  # noqa: N815 - the names there
    temp: str = ""
    feelsLike: str = ""  # noqa: N815
    text: str = ""
    windDir: str = ""  # noqa: N815
    windScale: str = ""  # noqa: N815
    humidity: str = ""


class _Weather(msgspec.Struct):
    code: str = ""
    fxLink: str = ""  # noqa: N815
    now: _Now | None = None


class _Day(msgspec.Struct):
    fxDate: str  # noqa: N815
    tempMax: str = ""  # noqa: N815
    tempMin: str = ""  # noqa: N815
    textDay: str = ""  # noqa: N815


class _Forecast(msgspec.Struct):
    code: str = ""
    daily: list[_Day] = []


class _Index(msgspec.Struct):
    code: str = ""
    aqi: float | None = None
    category: str | None = None


class _Air(msgspec.Struct):
    indexes: list[_Index] = []


class QWeather:
    """Implements `arkway.search.weather.report.WeatherProvider`."""

    name = "qweather"
    cities: Sequence[str] = ()

    def __init__(self, service: Service) -> None:
        self._service = service

    def knows(self, city: str) -> bool:
        return bool(city)

    async def report(self, city: str) -> Report | None:
        """Now, three days and the air, the latter two where they can be had."""
        place = await self._place(city)
        if place is None:
            return None
        days, air = asyncio.ensure_future(self._days(place)), asyncio.ensure_future(self._air(place))
        with ending(days, air):
            return _report(place, await self._now(place), await days, await air)

    async def aclose(self) -> None:
        await self._service.aclose()

    async def _place(self, city: str) -> _Place | None:
        asked = (("location", city), ("number", "1"), ("lang", "zh"))
        body = await self._service.find("/geo/v2/city/lookup", asked)
        found = decoded(self.name, body, _Places) if body is not None else _Places(code="404")
        if found.code in NOT_THERE:
            return None
        self._check(found.code)
        return found.location[0] if found.location else None

    async def _now(self, place: _Place) -> _Weather:
        body = await self._service.get("/v7/weather/now", (("location", place.id), ("lang", "zh")))
        weather = decoded(self.name, body, _Weather)
        self._check(weather.code)
        return weather

    async def _days(self, place: _Place) -> tuple[Day, ...]:
        try:
            body = await self._service.get("/v7/weather/3d", (("location", place.id), ("lang", "zh")))
            daily = decoded(self.name, body, _Forecast).daily[:3]
        except ArkwayError:
            return ()
        return tuple(Day(day.fxDate, day.textDay, _number(day.tempMin), _number(day.tempMax)) for day in daily)

    async def _air(self, place: _Place) -> _Index:
        """China's own index first, where there are several."""
        latitude, longitude = _number(place.lat), _number(place.lon)
        if latitude is None or longitude is None:
            return _Index()
        try:
            path = f"/airquality/v1/current/{latitude:.2f}/{longitude:.2f}"
            indexes = decoded(self.name, await self._service.get(path, (("lang", "zh"),)), _Air).indexes
        except ArkwayError:
            return _Index()
        return min(indexes, key=lambda index: not index.code.startswith("cn-mee"), default=_Index())

    def _check(self, code: str) -> None:
        """Its own codes, which look like statuses. Raises errors of the tree."""
        if code in ("401", "402", "403"):
            raise Misconfigured(f"`{self.name}` refuses the question (code {code}); check its key, address and plan")
        if code == "429":
            raise BackendUnavailable(f"`{self.name}` takes no more questions for now (code 429)")
        if code != "200":
            raise BackendFailed(f"`{self.name}` answers with the code {code[:16]}")


def _report(place: _Place, weather: _Weather, days: tuple[Day, ...], air: _Index) -> Report:
    now = weather.now or _Now()
    return Report(
        city=place.name,
        condition=now.text,
        temperature_c=_number(now.temp),
        feels_c=_number(now.feelsLike),
        humidity=_number(now.humidity),
        wind=f"{now.windDir} {now.windScale} 级" if now.windDir and now.windScale else now.windDir,
        aqi=air.aqi,
        air=air.category or "",
        observed=shown_time(now.obsTime),
        days=days,
        url=weather.fxLink or SITE_URL,
        site_name=SITE,
    )


def _number(text: str) -> float | None:
    """Its numbers are strings."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e6 else None
