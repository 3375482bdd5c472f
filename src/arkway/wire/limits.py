"""How much of anything one request may hold, whatever its dialect (`docs/limits.md`)."""

from __future__ import annotations

MESSAGES_MAX = 2048
PARTS_MAX = 256
STOP_MAX = 4
STOP_MAX_BYTES = 256
LOGIT_BIAS_MAX = 1024
TOOLS_MAX = 128
TOOL_MAX_BYTES = 64 * 1024
TOOL_CALLS_MAX = 128
NAME_MAX_BYTES = 256
MODEL_MAX_BYTES = 256
EMBED_INPUTS_MAX = 256
EMBED_INPUT_MAX_BYTES = 64 * 1024
EMBED_TOTAL_MAX_BYTES = 1024 * 1024
TOKEN_ID_MAX = 2**31 - 1
LEGACY_STOP_MAX = 16
"""For MaaS v1 and v2, whose documents give no number."""
LABELS_MAX = 128
LABEL_MAX_BYTES = 256
TOP_LOGPROBS_MAX = 20
CRYPTO_TOKEN_MAX_BYTES = 1024
PLACE_MAX_BYTES = 256
"""A city, or a part of one."""
