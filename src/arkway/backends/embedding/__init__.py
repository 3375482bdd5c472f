"""Embeddings in a child process of their own: Universal Sentence Encoder, multilingual, version 3.

Reading order: `embedder` (what callers see) → `link` (one life of the child) → `frames` (what travels between the two)
→ `child` (the other side) → `rota` (whose turn it is) → `encoder` and `windows` (the model itself).
"""

from arkway.backends.embedding.embedder import EmbedderStatus, UseEmbedder

__all__ = ["EmbedderStatus", "UseEmbedder"]
