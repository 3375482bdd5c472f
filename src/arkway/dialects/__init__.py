"""One package per generation of the API: pure, synchronous translators between its bytes and the canonical middle."""
