"""Open-Meteo: free for what earns nothing, can be hosted by oneself. https://open-meteo.com/en/docs"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import msgspec

from arkway.core.errors import ArkwayError
from arkway.search.asking import Service, decoded, ending
from arkway.search.times import shown_time
from arkway.search.weather.report import Day, Report, number

FORECAST_DAYS = 3
SITE = "Open-Meteo"
SITE_URL = "https://open-meteo.com/"

_NOW = "temperature_2m,relative_humidity_2m,apparent_temperature,weather_code,wind_speed_10m,wind_direction_10m"
_DAILY = "weather_code,temperature_2m_max,temperature_2m_min"
# WMO code table 4677, as far as models of the weather use it.
_CONDITIONS = {
    0: "晴", 1: "晴间多云", 2: "多云", 3: "阴", 45: "雾", 48: "雾凇", 51: "小毛毛雨", 53: "毛毛雨", 55: "大毛毛雨",
    56: "冻毛毛雨", 57: "强冻毛毛雨", 61: "小雨", 63: "中雨", 65: "大雨", 66: "冻雨", 67: "强冻雨", 71: "小雪",
    73: "中雪", 75: "大雪", 77: "雪粒", 80: "小阵雨", 81: "阵雨", 82: "强阵雨", 85: "小阵雪", 86: "大阵雪",
    95: "雷阵雨", 96: "雷阵雨伴有冰雹", 99: "强雷阵雨伴有冰雹",
}  # fmt: skip
_WINDS = ("北", "东北", "东", "东南", "南", "西南", "西", "西北")
_IS_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class _Place(msgspec.Struct):
    name: str
    latitude: float
    longitude: float


class _Places(msgspec.Struct):
    results: list[_Place] | None = None


class _Now(msgspec.Struct):
    time: str | None = None
    temperature_2m: float | None = None
    relative_humidity_2m: float | None = None
    apparent_temperature: float | None = None
    weather_code: int | None = None
    wind_speed_10m: float | None = None
    wind_direction_10m: float | None = None


class _Daily(msgspec.Struct):
    time: list[str] = []
    weather_code: list[int | None] = []
    temperature_2m_max: list[float | None] = []
    temperature_2m_min: list[float | None] = []


class _Forecast(msgspec.Struct):
    current: _Now
    daily: _Daily | None = None
    utc_offset_seconds: int = 28_800


class _AirNow(msgspec.Struct):
    us_aqi: float | None = None


class _Air(msgspec.Struct):
    current: _AirNow


class OpenMeteo:
    """Implements `arkway.search.weather.report.WeatherProvider`. Its three parts may be three servers or one."""

    name = "open-meteo"
    cities: Sequence[str] = ()

    def __init__(self, forecast: Service, geocoding: Service, air: Service, key: str = "") -> None:
        """``key``: of its commercial offer, sent in the query as it wants it."""
        self._forecast, self._geocoding, self._air = forecast, geocoding, air
        self._key = (("apikey", key),) if key else ()

    def knows(self, city: str) -> bool:
        return bool(city)

    async def report(self, city: str) -> Report | None:
        """Now, three days, and the air where that can be had."""
        place = await self._place(city)
        if place is None:
            return None
        at = (("latitude", f"{place.latitude:.4f}"), ("longitude", f"{place.longitude:.4f}"), *self._key)
        air = asyncio.ensure_future(self._aqi(at))
        with ending(air):
            forecast = await self._weather(at)
            return _report(city, forecast, await air)

    async def aclose(self) -> None:
        for service in (self._forecast, self._geocoding, self._air):
            await service.aclose()

    async def _place(self, city: str) -> _Place | None:
        language = "zh" if _IS_CHINESE.search(city) else "en"
        asked = (("name", city), ("count", "1"), ("language", language), ("format", "json"), *self._key)
        found = decoded(self.name, await self._geocoding.get("/v1/search", asked), _Places)
        return found.results[0] if found.results else None

    async def _weather(self, at: Sequence[tuple[str, str]]) -> _Forecast:
        asked = (*at, ("current", _NOW), ("daily", _DAILY), ("timezone", "auto"), ("forecast_days", str(FORECAST_DAYS)))
        return decoded(self.name, await self._forecast.get("/v1/forecast", asked), _Forecast)

    async def _aqi(self, at: Sequence[tuple[str, str]]) -> float | None:
        """None where it cannot be had: the weather is still the weather."""
        try:
            body = await self._air.get("/v1/air-quality", (*at, ("current", "us_aqi")))
            return decoded(self.name, body, _Air).current.us_aqi
        except ArkwayError:
            return None


def _report(city: str, forecast: _Forecast, aqi: float | None) -> Report:
    now = forecast.current
    return Report(
        city=city,
        condition=_condition(now.weather_code),
        temperature_c=now.temperature_2m,
        feels_c=now.apparent_temperature,
        humidity=now.relative_humidity_2m,
        wind=_wind(now),
        aqi=aqi,
        observed=shown_time(_zoned(now.time or "", forecast.utc_offset_seconds)),
        days=_days(forecast.daily or _Daily()),
        url=SITE_URL,
        site_name=SITE,
    )


def _condition(code: int | None) -> str:
    return _CONDITIONS.get(code, "") if code is not None else ""


def _wind(now: _Now) -> str:
    if now.wind_direction_10m is None or now.wind_speed_10m is None:
        return ""
    return f"{_WINDS[round(now.wind_direction_10m % 360 / 45) % 8]}风 {number(now.wind_speed_10m)} km/h"


def _zoned(time: str, offset_s: int) -> str:
    """Its times are the place's own, without the offset."""
    minutes = abs(offset_s) // 60
    return f"{time}{'-' if offset_s < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}" if time else ""


def _days(daily: _Daily) -> tuple[Day, ...]:
    """As many as all of its columns have."""
    each = zip(daily.time, daily.weather_code, daily.temperature_2m_min, daily.temperature_2m_max, strict=False)
    return tuple(Day(date, _condition(code), low, high) for date, code, low, high in list(each)[:FORECAST_DAYS])
