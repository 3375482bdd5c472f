"""The vocabulary every other package speaks: requests, events, models, errors, identifiers. Pure values, no I/O."""
