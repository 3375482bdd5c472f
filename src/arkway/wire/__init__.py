"""Pure codecs that both ends need: JSON, server-sent events, field tables, the OpenAI-like shape."""
