"""Gateways that are compared. ``PEERS`` are in every run; ``EXTRA`` only when they are named."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gateways.arkway import Arkway
from benchmarks.gateways.direct import Direct
from benchmarks.gateways.gateway import Gateway
from benchmarks.gateways.products import LiteLLM, Portkey, Rolter
from benchmarks.gateways.proxies import Envoy, Haproxy, Nginx
from benchmarks.gateways.routers import Smg, TensorZero, VllmRouter

PEERS: tuple[type[Gateway], ...] = (Arkway, Direct, Nginx, Envoy, VllmRouter, Smg, TensorZero, Portkey, LiteLLM)
EXTRA: tuple[type[Gateway], ...] = (Haproxy, Rolter)
GATEWAYS = {kind.name: kind for kind in (*PEERS, *EXTRA)}


def chosen(names: tuple[str, ...], cache: Path) -> list[Gateway]:
    """The gateways of these names, or all peers. Raises RuntimeError for a name that there is not."""
    if unknown := set(names) - set(GATEWAYS):
        raise RuntimeError(f"no such gateway: {', '.join(sorted(unknown))}; there are {', '.join(GATEWAYS)}")
    kinds = [GATEWAYS[name] for name in names] if names else list(PEERS)
    return [kind(cache) for kind in kinds]
