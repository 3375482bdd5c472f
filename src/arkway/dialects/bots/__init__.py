"""Bot API V2 (``/api/v2/bots/{bot_id}/chat``; seed "Bot API V2", protocol §6)."""

from arkway.dialects.bots.dialect import BotsV2

__all__ = ["BotsV2"]
