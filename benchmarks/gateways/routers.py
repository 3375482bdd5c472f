"""Gateways for models that are written in Rust."""

from __future__ import annotations

import socket
from typing import ClassVar
from urllib.parse import urlsplit

from benchmarks.gateways.gateway import Command, Gateway, Place
from benchmarks.gateways.install import python_packages
from benchmarks.gateways.proxies import written

TENSORZERO = """
[gateway]
observability.enabled = false

[models.mock]
routing = ["mock"]

[models.mock.providers.mock]
type = "openai"
model_name = "mock"
api_base = "http://127.0.0.1:{upstream}/v1/"
api_key_location = "none"
"""

TENSORZERO_START = """
import sys, threading
from tensorzero import _start_http_gateway
stores = {"clickhouse_url": None, "postgres_url": None, "valkey_url": None}
gateway = _start_http_gateway(config_file=sys.argv[1], async_setup=False, **stores)
open(sys.argv[2], "w").write(gateway.base_url)
threading.Event().wait()
"""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class VllmRouter(Gateway):
    """Round robin over one worker, metrics on."""

    name, language, note = "vllm-router", "Rust", "no keys of its own"
    version: ClassVar[str] = "0.1.17"

    def install(self) -> str:
        self._bin = python_packages(self.cache / "vllm-router", [f"vllm-router=={self.version}"])
        return self.version

    def command(self, place: Place) -> Command:
        flags = ("--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(free_port()))
        where = ("--host", "127.0.0.1", "--port", str(place.port))
        upstream = ("--worker-urls", f"http://127.0.0.1:{place.upstream_port}")
        return Command((str(self._bin / "vllm-router"), *where, *upstream, *flags))


class Smg(Gateway):
    """Round robin over one worker, metrics on."""

    name, language, note = "smg", "Rust", "no keys of its own"
    version: ClassVar[str] = "1.13.0"

    def install(self) -> str:
        self._bin = python_packages(self.cache / "smg", [f"smg=={self.version}"])
        return self.version

    def command(self, place: Place) -> Command:
        flags = ("--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(free_port()))
        where = ("--host", "127.0.0.1", "--port", str(place.port), "--backend", "openai")
        upstream = ("--worker-urls", f"http://127.0.0.1:{place.upstream_port}")
        return Command((str(self._bin / "smg"), "launch", *where, *upstream, *flags))


class TensorZero(Gateway):
    """The gateway inside the Python package, observability off."""

    name, language, note = "tensorzero", "Rust", "no keys (they need PostgreSQL), observability off"
    version: ClassVar[str] = "2026.6.0"
    path: ClassVar[str] = "/openai/v1/chat/completions"
    model: ClassVar[str] = "tensorzero::model_name::mock"

    def install(self) -> str:
        self._bin = python_packages(self.cache / "tensorzero", [f"tensorzero=={self.version}"])
        return self.version

    def command(self, place: Place) -> Command:
        config = written(place, "tensorzero.toml", TENSORZERO)
        return Command((str(self._bin / "python"), "-c", TENSORZERO_START, str(config), str(place.folder / "url")))

    def port(self, place: Place) -> int:
        """It takes a free port by itself."""
        file = place.folder / "url"
        return urlsplit(file.read_text()).port or 0 if file.exists() else 0
