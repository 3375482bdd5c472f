"""MaaS v1 (``/api/v1``; seed "Skylark-chat API 调用说明", protocol §4)."""

from arkway.dialects.v1.dialect import MaasV1

__all__ = ["MaasV1"]
