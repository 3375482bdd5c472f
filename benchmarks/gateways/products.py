"""LiteLLM and Portkey, the widely used gateways, and rolter, a young one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from benchmarks.gateways.gateway import KEY, Command, Gateway, Place
from benchmarks.gateways.install import node, node_packages, python_packages
from benchmarks.gateways.proxies import written

LITELLM = f"""
model_list:
- model_name: mock
  litellm_params: {{{{model: openai/mock, api_base: "http://127.0.0.1:{{upstream}}/v1", api_key: none}}}}
litellm_settings: {{{{telemetry: false, num_retries: 0}}}}
general_settings: {{{{master_key: {KEY}}}}}
"""

ROLTER = f"""
[server]
host = "127.0.0.1"
port = {{port}}

[[virtual_keys]]
key = "{KEY}"
name = "benchmark"
models = []

[queue]
capacity = 8192
workers = 256

[[providers]]
name = "mock"
kind = "openai_compatible"
api_base = "http://127.0.0.1:{{upstream}}"

[[routes]]
model = "mock"
strategy = "round_robin"
[[routes.targets]]
provider = "mock"
model = "mock"
"""


class LiteLLM(Gateway):
    """One worker, production mode, its master key, no database."""

    name, language, note = "litellm", "Python", "checks its master key; no database"
    version: ClassVar[str] = "1.108.5"
    proves: ClassVar[bool] = True
    refusal: ClassVar[int] = 400  # a key that is not the master key is looked for in the database that is not there
    boot_s: ClassVar[float] = 120.0

    def install(self) -> str:
        # httptools is what uvicorn parses with where it is there, and certifi's pin is of a version not to be had
        wanted = [f"litellm[proxy]=={self.version}", "httptools"]
        self._bin = python_packages(self.cache / "litellm", wanted, overrides=["certifi>=2025.1.31"])
        return self.version

    def command(self, place: Place) -> Command:
        config = written(place, "litellm.yaml", LITELLM)
        where = ("--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1", "--telemetry", "False")
        environ = {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "NO_DOCS": "True",
            "PATH": f"{self._bin}:/usr/bin:/bin",
        }
        return Command((str(self._bin / "litellm"), "--config", str(config), *where), environ)


class Portkey(Gateway):
    """On Node 22. ``@hono/node-server`` is held at 1.13.8: with newer ones every stream is answered with 500."""

    name, language, note = "portkey", "Node 22", "no keys of its own"
    version: ClassVar[str] = "1.15.2"

    def install(self) -> str:
        packages = {"@portkey-ai/gateway": self.version}
        self._folder = node_packages(self.cache, "portkey", packages, {"@hono/node-server": "1.13.8"})
        self._node, _ = node(self.cache)
        return self.version

    def command(self, place: Place) -> Command:
        script = self._folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
        environ = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
        return Command((str(self._node), str(script), f"--port={place.port}", "--headless"), environ)

    def extra_headers(self, place: Place) -> Mapping[str, str]:
        host = f"http://127.0.0.1:{place.upstream_port}/v1"
        return {"x-portkey-provider": "openai", "x-portkey-custom-host": host}


class Rolter(Gateway):
    """The data plane alone, with a configuration file."""

    name, language, note = "rolter", "Rust", "checks keys of its configuration file; no stores behind it"
    version: ClassVar[str] = "0.1.0"
    proves: ClassVar[bool] = True

    def install(self) -> str:
        self._bin = python_packages(self.cache / "rolter", [f"rolter=={self.version}"])
        return self.version

    def command(self, place: Place) -> Command:
        config = written(place, "rolter.toml", ROLTER)
        environ = {"RUST_LOG": "error", "ROLTER_CONFIG": str(config)}
        return Command((str(self._bin / "rolter"), "gateway", "--config", str(config)), environ)
