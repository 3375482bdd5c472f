"""OpenAI's own API (``/v1``), for clients that know nothing of Ark."""

from arkway.dialects.openai.dialect import OpenAI

__all__ = ["OpenAI"]
