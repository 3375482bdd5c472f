"""What fetches the images that callers name, as the section ``[fetch]`` has it."""

from __future__ import annotations

from arkway.backends.pictured import Images
from arkway.config import Settings
from arkway.fetching.addresses import Allowed
from arkway.fetching.web import WebFetcher


def images_fetched(settings: Settings) -> Images | None:
    """None where nothing is fetched. Raises Misconfigured."""
    fetch = settings.fetch
    if not fetch.enabled:
        return None
    fetcher = WebFetcher(Allowed(fetch.networks), hosts=fetch.hosts, ports=fetch.ports)
    return Images(fetcher, images_max=fetch.images, max_bytes=fetch.max_bytes, timeout_s=fetch.timeout_s)
