"""Calls served by another server of the OpenAI-like API: the HTTP/1.1 client, and the backend on top of it."""
