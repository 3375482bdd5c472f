"""Pure codecs that both ends need: JSON, server-sent events, field tables, the OpenAI-like and the MaaS shape."""
