"""Measurements of Arkway: ``python -m benchmarks``. What each one means is in ``docs/benchmarks.md``."""
