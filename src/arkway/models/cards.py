"""A model card for a GGUF file that no catalogue knows, made from what the file says of itself."""

from __future__ import annotations

import re

from arkway.core.errors import Misconfigured
from arkway.core.model import ModelCard
from arkway.models.catalogue import chat_card, embedding_parameters
from arkway.wire.gguf import GgufHeader

# Room of one call when the file allows more: four slots of it fit into a few hundred megabytes beside a small model.
CONTEXT_CAP_TOKENS = 8192
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")


def card_from_header(header: GgufHeader, name: str, version: str) -> ModelCard:
    """The card of a file that is to be called ``name`` and ``version``."""
    context_tokens = min(header.context_tokens or CONTEXT_CAP_TOKENS, CONTEXT_CAP_TOKENS)
    title = header.name or name
    licence = header.licence or "unknown"
    if header.embeds:
        return ModelCard(
            name=name,
            version=version,
            title=title,
            licence=licence,
            capabilities=("embeddings", "tokenization"),
            context_tokens=context_tokens,
            dimensions=header.embedding_length,
            languages=header.languages,
            parameters=embedding_parameters(header.embedding_length),
            remarks=_remarks(header),
        )
    return chat_card(
        name,
        version,
        title,
        licence,
        context_tokens=context_tokens,
        default_output_tokens=max(1, context_tokens // 2),
        languages=header.languages,
        remarks=_remarks(header),
    )


def name_from_filename(filename: str) -> str:
    """``Qwen3-0.6B-Q8_0.gguf`` -> ``qwen3-0.6b-q8_0``; raises Misconfigured when nothing usable is left."""
    stem = re.sub(r"\.gguf$", "", filename, flags=re.IGNORECASE)
    return checked_name(re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:96], filename)


def checked_name(name: str, shown: str = "") -> str:
    """A model name or version that is safe as a file name; raises Misconfigured."""
    if not _NAME.fullmatch(name):
        raise Misconfigured(
            f"`{(shown or name)[:128]}` cannot be a model's name or version: use up to 96 of a-z 0-9 . _ - "
            "and begin with a letter or digit (choose one with --name)"
        )
    return name


def _remarks(header: GgufHeader) -> str:
    known = f"Added by the operator; architecture {header.architecture}."
    if header.embeds or header.has_chat_template:
        return known
    return f"{known} It carries no chat template, so it is probably a base model and may not answer questions well."
