"""Identifiers have the vendor's forms (protocol §0 rule 12)."""

from __future__ import annotations

import re

from arkway.core import ids


def test_request_ids_are_02_milliseconds_and_38_hex_digits() -> None:
    made = ids.request_id(1719792000123, bytes(range(ids.REQUEST_ID_ENTROPY_BYTES)))
    assert re.fullmatch(r"02\d{13}[0-9a-f]{38}", made)
    assert len(made) == 53
    assert made.startswith("021719792000123")


def test_endpoint_and_key_ids() -> None:
    assert re.fullmatch(r"ep-20240701080000-[0-9a-z]{5}", ids.endpoint_id("20240701080000", b"\xff" * 8))
    assert re.fullmatch(r"key-[0-9a-z]{12}", ids.key_id(b"\x01" * 16))
    assert ids.key_id(b"\x01" * 16) != ids.key_id(b"\x02" * 16)
