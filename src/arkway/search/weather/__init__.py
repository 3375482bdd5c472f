"""The weather of a city: one provider a file, each behind `arkway.search.weather.report.WeatherProvider`."""
