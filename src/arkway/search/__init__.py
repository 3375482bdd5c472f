"""Searching the web and the weather for bots: providers behind `arkway.ports.lookup.Plugin`, and pages kept offline."""
