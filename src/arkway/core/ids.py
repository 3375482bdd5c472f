"""Identifiers, made from a clock reading and entropy that the edge hands in."""

from __future__ import annotations

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
REQUEST_ID_ENTROPY_BYTES = 19


def request_id(now_ms: int, entropy: bytes) -> str:
    """The vendor's form (protocol §0 rule 12): ``02``, 13 digits of epoch milliseconds, 38 hex digits."""
    return f"02{now_ms:013d}{entropy.hex()}"


def endpoint_id(stamp: str, entropy: bytes) -> str:
    """``ep-<YYYYMMDDhhmmss>-<5 characters>``, as the vendor's console makes them; ``stamp`` is UTC."""
    return f"ep-{stamp}-{_letters(entropy, 5)}"


def bot_id(stamp: str, entropy: bytes) -> str:
    """``bot-<YYYYMMDDhhmmss>-<5 characters>``; ``stamp`` is UTC."""
    return f"bot-{stamp}-{_letters(entropy, 5)}"


def account_id(entropy: bytes) -> str:
    """``acc-`` and 12 characters."""
    return f"acc-{_letters(entropy, 12)}"


def key_id(entropy: bytes) -> str:
    """A public name for a secret, safe to log."""
    return f"key-{_letters(entropy, 12)}"


def _letters(entropy: bytes, count: int) -> str:
    number = int.from_bytes(entropy, "big")
    picked = []
    for _ in range(count):
        number, digit = divmod(number, len(ALPHABET))
        picked.append(ALPHABET[digit])
    return "".join(picked)
