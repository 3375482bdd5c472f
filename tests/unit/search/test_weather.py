"""The weather: whose, from where, in which fields."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from arkway.core.bot import Asker
from arkway.core.errors import ArkwayError, BackendFailed, BackendTimeout, BackendUnavailable, Misconfigured
from arkway.ports.lookup import Plugin
from arkway.search.weather.cities import Gazetteer
from arkway.search.weather.open_meteo import OpenMeteo
from arkway.search.weather.plugin import Weather
from arkway.search.weather.qweather import KEY_HEADER, QWeather
from arkway.search.weather.report import Day, Report, WeatherProvider, told
from arkway.search.weather.static import StaticWeather
from tests.tools.raw_upstream import RawUpstream, saying, silent
from tests.tools.waiting import PATIENCE_S
from tests.unit.search.scripted import Scripted, ok, ok_json, quest, service, status

TIME = "2025年04月08日 10:30:00(CST) 星期二"
FILE = {
    "cities": [
        {"city": "北京", "condition": "晴", "temperature_c": 25, "feels_c": 24.5, "humidity": 30, "wind": "北风 3 级",
        "aqi": 57, "air": "良",
         "observed": "2025-04-08 10:30", "days": [{"date": "2025-04-09", "condition": "小雨", "low_c": 12,
         "high_c": 20.5}]},
        {"city": "Springfield", "aliases": ["春田"], "condition": "Cloudy"},
    ],
    "url": "https://weather.example.com/",
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weather.json"
    path.write_bytes(msgspec.json.encode(FILE))
    return path


@pytest.mark.parametrize(
    ("query", "city"),
    [
        ("北京明天天气怎么样", "北京"), ("明天上海会下雨吗", "上海"), ("请问今天齐齐哈尔冷吗", "齐齐哈尔"),
        ("呼伦贝尔的天气", "呼伦贝尔"), ("London天气", "伦敦"), ("明天Tokyo冷吗", "东京"), ("Londoners 的天气", "广州"),
        ("weather in Beijing today", "北京"), ("What's the weather in New York?", "纽约"),
        ("Is it raining in San Francisco", "旧金山"),
        ("东京天气", "东京"), ("今天昆山市的天气", "昆山"), ("明天神木市会下雨吗", "神木市"),
        ("我想知道正定县今天的天气", "正定县"),
        ("weather in Little Rock tomorrow", "Little Rock"), ("从北京到上海，那边天气如何", "北京"),
    ],
)  # fmt: skip
def test_the_city_of_a_question(query: str, city: str) -> None:
    assert Gazetteer().city(query, Asker("广州")) == city


@pytest.mark.parametrize(
    "query",
    ["今天天气怎么样", "我们小区会下雨吗", "本市天气", "will it rain", "temperature in Celsius", "哪个城市最冷"],
)
def test_a_question_without_a_city_is_about_where_the_asker_is(query: str) -> None:
    assert Gazetteer().city(query, Asker("广州市"), "北京") == "广州"
    assert Gazetteer().city(query, Asker(), "北京") == "北京"
    assert Gazetteer().city(query, Asker()) == ""


def test_names_of_ones_own_go_first() -> None:
    assert Gazetteer(["春田", "Springfield"]).city("springfield 和北京的天气", Asker()) == "Springfield"


async def test_it_is_a_plugin(file: Path) -> None:
    weather: Plugin = Weather({"static": StaticWeather(file)}, "static")
    assert (weather.source, weather.action_name) == ("weather", "content_plugin")
    assert await weather.wanted(quest("北京天气"))
    assert await weather.wanted(quest("天气怎么样", city="北京"))
    assert not await weather.wanted(quest("北京的历史"))
    assert not await weather.wanted(quest("上海天气")), "of which nothing is known"
    assert not await weather.wanted(quest("天气怎么样"))


async def test_every_field(file: Path) -> None:
    findings = await Weather({"static": StaticWeather(file)}, "static").find(quest("北京天气"))
    (snippet,) = findings.snippets
    reference = snippet.reference
    assert snippet.text == (
        f"北京当前天气（{TIME}）：晴，气温 25℃，体感 24.5℃，湿度 30%，北风 3 级，空气质量指数 57（良）"
        "\n2025-04-09 小雨 12~20.5℃"
    )
    assert reference.extra == {"aqi": "57", "city": "北京", "condition": "晴"}
    assert (reference.title, reference.site_name, reference.publish_time) == ("北京天气", "天气", TIME)
    assert (reference.url, reference.logo_url) == (
        "https://weather.example.com/",
        "https://weather.example.com/favicon.ico",
    )
    assert reference.summary.startswith("北京当前天气")
    assert (findings.count, findings.output["provider"], findings.output["city"]) == (1, "static", "北京")


async def test_the_city_by_another_name_or_of_the_asker_or_by_default(file: Path) -> None:
    weather = Weather({"static": StaticWeather(file)}, "static", default_city="北京")
    for asked, city in (
        (quest("春田天气"), "Springfield"),
        (quest("天气", city="北京市"), "北京"),
        (quest("天气"), "北京"),
    ):
        assert (await weather.find(asked)).snippets[0].reference.extra["city"] == city
    assert (await weather.find(quest("上海天气"))).snippets == ()


async def test_without_anything_there_is_no_weather() -> None:
    weather = Weather({"static": StaticWeather()}, "static")
    assert not await weather.wanted(quest("北京天气"))
    assert (await weather.find(quest("北京天气"))).snippets == ()
    assert (await weather.find(quest("天气"))).count == 0
    with pytest.raises(Misconfigured, match="`qweather`"):
        await weather.find(quest("北京天气", provider="qweather"))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"cities": [{"name": "x"}]}', '{"cities": [{"city": "x", "aqi": "57"}]}', "{" * 5000]
)
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(Misconfigured, match=r"w\.json"):
        StaticWeather(tmp_path / "w.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        StaticWeather(tmp_path / "none.json")


def test_what_is_not_known_is_not_told() -> None:
    assert (
        told(Report(city="北京", condition="晴", days=(Day("2025-04-09", "雨"),))) == "北京当前天气：晴\n2025-04-09 雨"
    )


class Late:
    """A provider that takes its time."""

    name = "late"
    cities: Sequence[str] = ()

    def knows(self, city: str) -> bool:
        return True

    async def report(self, city: str) -> Report | None:
        await asyncio.sleep(PATIENCE_S)
        return None

    async def aclose(self) -> None: ...


async def test_a_provider_has_no_more_time_than_the_action() -> None:
    with pytest.raises(BackendTimeout, match="`late`"):
        await Weather({"late": Late()}, "late").find(quest("北京天气", deadline_s=0.05))


PLACES = {
    "results": [{"id": 1816670, "name": "北京市", "latitude": 39.9075, "longitude": 116.39723, "country": "中国"}],
    "generationtime_ms": 1.0,
}
FORECAST = {
    "latitude": 39.875, "longitude": 116.375, "utc_offset_seconds": 28800, "timezone": "Asia/Shanghai",
    "current_units": {"temperature_2m": "°C"},
    "current": {"time": "2025-04-08T10:30", "interval": 900, "temperature_2m": 18.4, "relative_humidity_2m": 25,
    "apparent_temperature": 16.0,
                "weather_code": 2, "wind_speed_10m": 11.2, "wind_direction_10m": 350},
    "daily": {"time": ["2025-04-08", "2025-04-09"], "weather_code": [3, 61], "temperature_2m_max": [22.1, 19.0],
              "temperature_2m_min": [9.3, None]},
}  # fmt: skip
OPEN_METEO = {
    "/v1/search": ok_json(PLACES),
    "/v1/forecast": ok_json(FORECAST),
    "/v1/air-quality": ok_json({"current": {"us_aqi": 91}}),
}


async def asked_open_meteo(answers: dict[str, bytes]) -> tuple[Report | None, Scripted]:
    async with Scripted(answers) as server, service(server) as asked:
        return await OpenMeteo(asked, asked, asked, "k").report("北京"), server


async def test_open_meteo() -> None:
    report, server = await asked_open_meteo(OPEN_METEO)
    assert report == Report(
        city="北京", condition="多云", temperature_c=18.4, feels_c=16.0, humidity=25, wind="北风 11.2 km/h", aqi=91,
        observed=TIME,
        days=(Day("2025-04-08", "阴", 9.3, 22.1), Day("2025-04-09", "小雨", None, 19.0)),
        url="https://open-meteo.com/", site_name="Open-Meteo",
    )  # fmt: skip
    by_path = {request.path: request.params for request in server.asked}
    assert by_path["/v1/search"] == {
        "name": ["北京"],
        "count": ["1"],
        "language": ["zh"],
        "format": ["json"],
        "apikey": ["k"],
    }
    assert by_path["/v1/forecast"]["latitude"] == ["39.9075"]
    assert by_path["/v1/air-quality"]["current"] == ["us_aqi"]


async def test_open_meteo_without_the_air_or_the_city() -> None:
    report, _ = await asked_open_meteo({**OPEN_METEO, "/v1/air-quality": status(500)})
    assert report is not None
    assert (report.condition, report.aqi) == ("多云", None)
    report, _ = await asked_open_meteo({**OPEN_METEO, "/v1/search": ok_json({"generationtime_ms": 0.5})})
    assert report is None


QWEATHER = {
    "/geo/v2/city/lookup": ok_json({"code": "200", "location": [{"name": "北京", "id": "101010100", "lat": "39.90499",
    "lon": "116.40529",
                                                                "adm2": "北京", "adm1": "北京市"}], "refer": {}}),
    "/v7/weather/now": ok_json({"code": "200", "updateTime": "2025-04-08T10:35+08:00",
    "fxLink": "https://www.qweather.com/weather/beijing-101010100.html",
                                "now": {"obsTime": "2025-04-08T10:30+08:00", "temp": "18", "feelsLike": "16",
                                "icon": "100", "text": "晴",
                                        "windDir": "北风", "windScale": "3", "humidity": "25"}}),
    "/v7/weather/3d": ok_json({"code": "200", "daily": [{"fxDate": "2025-04-09", "tempMax": "20", "tempMin": "8",
    "textDay": "小雨"}]}),
    "/airquality/v1/current/39.90/116.41": ok_json({"indexes": [{"code": "us-epa", "aqi": 91, "category": "Moderate"},
                                                               {"code": "cn-mee", "aqi": 57, "aqiDisplay": "57",
                                                               "category": "良"}]}),
}  # fmt: skip


async def test_qweather() -> None:
    async with Scripted(QWEATHER) as server, service(server, headers={KEY_HEADER: "secret"}) as asked:
        report = await QWeather(asked).report("北京")
        assert {request.headers[KEY_HEADER] for request in server.asked} == {"secret"}
        assert {request.path for request in server.asked} == set(QWEATHER)
    assert report == Report(
        city="北京", condition="晴", temperature_c=18, feels_c=16, humidity=25, wind="北风 3 级", aqi=57, air="良",
        observed=TIME,
        days=(Day("2025-04-09", "小雨", 8, 20),), url="https://www.qweather.com/weather/beijing-101010100.html",
        site_name="和风天气",
    )  # fmt: skip


@pytest.mark.parametrize("lookup", [status(404), ok_json({"code": "404"}), ok_json({"code": "200", "location": []})])
async def test_qweather_does_not_know_the_city(lookup: bytes) -> None:
    async with Scripted({"/geo/v2/city/lookup": lookup}) as server, service(server) as asked:
        assert await QWeather(asked).report("无处") is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [("401", Misconfigured), ("402", Misconfigured), ("429", BackendUnavailable), ("500", BackendFailed)],
)
async def test_qweather_has_codes_of_its_own(code: str, kind: type[ArkwayError]) -> None:
    for path in ("/geo/v2/city/lookup", "/v7/weather/now"):
        async with Scripted({**QWEATHER, path: ok_json({"code": code})}) as server, service(server) as asked:
            with pytest.raises(kind):
                await QWeather(asked).report("北京")


ODD_PLACES = b'{"code": "200", "location": [{"id": 1}], "results": [{}]}'


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"results": 1, "code": 1}', b"\xff", ODD_PLACES])
async def test_weather_of_another_form(body: bytes) -> None:
    async with RawUpstream(saying(ok(body))) as server, service(server) as asked:
        providers: list[WeatherProvider] = [QWeather(asked), OpenMeteo(asked, asked, asked)]
        for provider in providers:
            with pytest.raises(BackendFailed):
                await provider.report("北京")


async def test_weather_that_says_nothing() -> None:
    async with RawUpstream(silent) as server, service(server, timeout_s=0.3) as asked:
        for provider in (QWeather(asked), OpenMeteo(asked, asked, asked)):
            with pytest.raises(BackendTimeout):
                await provider.report("北京")
