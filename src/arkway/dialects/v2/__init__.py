"""MaaS v2 (``/api/v2/endpoint/{id}``; seed "Moonshot-v1-8k API 调用指南", protocol §5)."""

from arkway.dialects.v2.dialect import MaasV2

__all__ = ["MaasV2"]
