"""Ark v3 (``/api/v3``; seed "API 调用指南", protocol §7)."""

from arkway.dialects.v3.bots import ArkV3Bots
from arkway.dialects.v3.dialect import ArkV3

__all__ = ["ArkV3", "ArkV3Bots"]
