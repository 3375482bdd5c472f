"""The weather of one city, as a value and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from arkway.core.bot import Snippet
from arkway.core.reference import Reference
from arkway.search.cleaning import SUMMARY_MAX_CHARS, TEXT_MAX_CHARS, TITLE_MAX_CHARS, flat, lines
from arkway.search.sites import favicon_of, web_url


class Day(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A day that is to come, ``date`` as 2025-04-08; temperatures in degrees Celsius."""

    date: str
    condition: str = ""
    low_c: float | None = None
    high_c: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How it is now. None and "" are what is not known; ``wind`` is text, ``aqi`` the index that the source uses.

    ``observed`` is in the callers' form of times.
    """

    city: str
    condition: str = ""
    temperature_c: float | None = None
    feels_c: float | None = None
    humidity: float | None = None
    wind: str = ""
    aqi: float | None = None
    air: str = ""
    observed: str = ""
    days: tuple[Day, ...] = ()
    url: str = ""
    site_name: str = ""


class WeatherProvider(Protocol):
    """Something that knows the weather. ``cities``: names that it knows by itself, beside those everybody knows."""

    name: str
    cities: Sequence[str]

    def knows(self, city: str) -> bool:
        """Is it worth asking? Asks nobody."""
        ...

    async def report(self, city: str) -> Report | None:
        """None for a city that it does not know. Raises errors of the tree."""
        ...

    async def aclose(self) -> None: ...


def number(value: float | None) -> str:
    """As people write it; "" for what is not known."""
    return "" if value is None else f"{value:.1f}".removesuffix(".0")


def told(report: Report) -> str:
    """For the model: a line of how it is, and one for each day."""
    facts = (
        report.condition,
        _fact("气温", number(report.temperature_c), "℃"),
        _fact("体感", number(report.feels_c), "℃"),
        _fact("湿度", number(report.humidity), "%"),
        report.wind,
        _fact("空气质量指数", number(report.aqi), f"（{report.air}）" if report.air else ""),
    )
    at = f"（{report.observed}）" if report.observed else ""
    now = f"{report.city}当前天气{at}：" + "，".join(fact for fact in facts if fact)
    return "\n".join((now, *(_day(day) for day in report.days)))


def reference_of(report: Report) -> Reference:
    """As callers get it, what only the weather has in ``extra``."""
    extra: dict[str, Any] = {
        "aqi": number(report.aqi),
        "city": flat(report.city, TITLE_MAX_CHARS),
        "condition": flat(report.condition, TITLE_MAX_CHARS),
    }
    url = web_url(report.url)
    return Reference(
        url=url,
        logo_url=favicon_of(url),
        mobile_url=url,
        site_name=flat(report.site_name, TITLE_MAX_CHARS),
        title=flat(f"{report.city}天气", TITLE_MAX_CHARS),
        summary=flat(told(report), SUMMARY_MAX_CHARS),
        publish_time=report.observed,
        extra=extra,
    )


def snippet_of(report: Report) -> Snippet:
    return Snippet(lines(told(report), TEXT_MAX_CHARS), reference_of(report))


def _fact(name: str, value: str, unit: str) -> str:
    return f"{name} {value}{unit}" if value else ""


def _day(day: Day) -> str:
    low, high = number(day.low_c), number(day.high_c)
    return f"{day.date} {day.condition} {low}~{high}℃" if low and high else f"{day.date} {day.condition}"
