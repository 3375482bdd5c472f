"""Documents of the web, fetched on behalf of callers without reaching what they cannot reach themselves."""
