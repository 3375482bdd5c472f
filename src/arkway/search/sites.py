"""What the address of a page alone tells about it: its site, its picture, and whether it is an address of the web."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

URL_MAX_CHARS = 2048

_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f-\x9f<>\"\\^`{|}\ud800-\udfff\u200b-\u200f\u2028-\u202e]")
# The second labels below which anybody registers names under a country: enough for what is only shown.
_is_second = re.compile(
    r"ac|asn|blog|co|com|edu|go|gob|gouv|gov|gv|id|info|ltd|me|mil|ne|net|nhs|nom|or|org|plc|sch|web"
).fullmatch
# Provinces of .cn, which are registries too (bj.cn).
_is_province = re.compile(
    r"ah|bj|cq|fj|gd|gs|gx|gz|ha|hb|he|hi|hk|hl|hn|jl|js|jx|ln|mo|nm|nx|qh|sc|sd|sh|sn|sx|tj|tw|xj|xz|yn|zj"
).fullmatch


def web_url(text: str) -> str:
    """The text, if it is an absolute http(s) address with a host and without a password; "" otherwise."""
    if len(text) > URL_MAX_CHARS or _NOT_IN_A_URL.search(text):
        return ""
    try:
        parts = urlsplit(text)
        port_is_sound = parts.port is None or parts.port > 0
    except ValueError:
        return ""
    sound = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and port_is_sound
    return text if sound else ""


def host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def origin_of(url: str) -> str:
    """``https://host:port``, or "" for what is no address of the web."""
    if not web_url(url):
        return ""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def favicon_of(url: str) -> str:
    """Where a site's picture lies unless its pages say otherwise."""
    origin = origin_of(url)
    return f"{origin}/favicon.ico" if origin else ""


def site_of(url: str) -> str:
    """The name somebody registered: ``example.com`` of ``https://www.example.com/``; an address stays one.

    By the registries that are common, without the whole public suffix list.
    """
    host = host_of(url).rstrip(".")
    labels = host.split(".")
    if ":" in host or len(labels) <= 2 or labels[-1].isdigit():
        return host
    country = len(labels[-1]) == 2
    below = country and (_is_second(labels[-2]) or (labels[-1] == "cn" and _is_province(labels[-2])))
    return ".".join(labels[-3:] if below else labels[-2:])
