"""The weather as a bot's plugin: of the city that the question names, or where the asker is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from arkway.core.bot import Findings, Quest
from arkway.core.errors import BackendTimeout, Misconfigured
from arkway.search.lexicon import asks_for_weather
from arkway.search.weather.cities import Gazetteer
from arkway.search.weather.report import WeatherProvider, snippet_of


class Weather:
    """Implements `arkway.ports.lookup.Plugin`. The source is what Ark calls 墨迹天气."""

    source = "weather"
    action_name = "content_plugin"

    def __init__(self, providers: Mapping[str, WeatherProvider], default: str, *, default_city: str = "") -> None:
        """``default_city``: for questions without one, of askers who are nowhere."""
        self._providers = dict(providers)
        self._default = default
        self._default_city = default_city
        self._gazetteers = {name: Gazetteer(provider.cities) for name, provider in providers.items()}

    async def wanted(self, quest: Quest) -> bool:
        """By the words of the question, and only where a city is known whose weather can be had."""
        provider = self._provider(quest.action.provider)
        return asks_for_weather(quest.query) and provider.knows(self._city(provider, quest))

    async def find(self, quest: Quest) -> Findings:
        """One snippet, or none where there is no city or no weather of it. Raises BackendTimeout and others."""
        provider = self._provider(quest.action.provider)
        city = self._city(provider, quest)
        if not city or quest.action.limit <= 0:
            return Findings(count=0)
        try:
            async with asyncio.timeout(quest.action.deadline_s):
                report = await provider.report(city)
        except TimeoutError:
            raise BackendTimeout(
                f"`{provider.name}` did not answer within {quest.action.deadline_s:g} seconds"
            ) from None
        if report is None:
            return Findings(output={"provider": provider.name, "city": city})
        output = {"provider": provider.name, **msgspec.to_builtins(report)}
        return Findings(snippets=(snippet_of(report),), output=output)

    async def aclose(self) -> None:
        """Closes every provider."""
        for provider in self._providers.values():
            await provider.aclose()

    def _city(self, provider: WeatherProvider, quest: Quest) -> str:
        return self._gazetteers[provider.name].city(quest.query, quest.asker, self._default_city)

    def _provider(self, name: str) -> WeatherProvider:
        """Raises Misconfigured."""
        provider = self._providers.get(name or self._default)
        if provider is None:
            known = ", ".join(f"`{each}`" for each in sorted(self._providers))
            raise Misconfigured(
                f"the weather provider `{name[:64]}` is not configured on this server; there are {known}"
            )
        return provider
