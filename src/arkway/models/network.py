"""How this machine reaches the world: hubs, proxy, CA bundle and pip, as the user has set them up already.

Hubs follow ``HF_ENDPOINT``, ``HF_TOKEN`` and ``MODELSCOPE_ENDPOINT``; proxies follow the usual ``*_PROXY`` variables.
Package indexes are the affair of pip alone.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp
import msgspec

from arkway.core.errors import Misconfigured
from arkway.models.wheels import Pip, pip_of_this_interpreter

CONNECT_LIMIT_S = 10.0
STALL_LIMIT_S = 30.0
RETRY_PAUSE_S = 0.5


class Network(msgspec.Struct, frozen=True):
    """Where to ask, and how. Addresses carry no trailing slash."""

    hf_endpoint: str = "https://huggingface.co"
    hf_token: str = ""
    modelscope_endpoint: str = "https://www.modelscope.cn"
    ca_files: tuple[str, ...] = ()
    uses_proxies: bool = True
    stall_limit_s: float = STALL_LIMIT_S
    retry_pause_s: float = RETRY_PAUSE_S
    pip: Pip = Pip()

    def endpoint(self, hub: str) -> str:
        return self.hf_endpoint if hub == "hf" else self.modelscope_endpoint

    def token(self, hub: str) -> str:
        return self.hf_token if hub == "hf" else ""


def network_from_environ(environ: Mapping[str, str]) -> Network:
    """Reads the settings; pip runs in the same environment."""
    return Network(
        hf_endpoint=(environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"),
        hf_token=environ.get("HF_TOKEN", ""),
        modelscope_endpoint=(environ.get("MODELSCOPE_ENDPOINT") or "https://www.modelscope.cn").rstrip("/"),
        ca_files=_distinct(environ.get("SSL_CERT_FILE"), environ.get("REQUESTS_CA_BUNDLE")),
        pip=pip_of_this_interpreter(environ),
    )


def open_session(network: Network) -> aiohttp.ClientSession:
    """A client with the user's proxies and CA bundle and with limits for connecting and stalling, none in total."""
    return aiohttp.ClientSession(
        trust_env=network.uses_proxies,
        auto_decompress=True,
        connector=aiohttp.TCPConnector(ssl=_tls(network.ca_files), limit=8),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S, sock_read=network.stall_limit_s),
        headers={"User-Agent": "arkway"},
    )


def _distinct(*values: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def _tls(ca_files: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name in ca_files:
        try:
            context.load_verify_locations(cafile=name)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"the CA bundle `{name}` cannot be used: {error}; mend SSL_CERT_FILE or REQUESTS_CA_BUNDLE"
            ) from error
    return context
