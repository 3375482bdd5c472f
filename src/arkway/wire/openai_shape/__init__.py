"""The OpenAI-like JSON shape, which Ark v3, OpenAI's own API and most upstream servers share."""
