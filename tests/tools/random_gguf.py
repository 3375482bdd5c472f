"""A tiny GGUF model made of seeded noise: the whole engine path without any weights.

A byte-level BPE vocabulary (every octet is a token, so any text can be read and any octets written), a few merges,
ChatML control tokens, and a ChatML template that renders tools. By itself the model writes noise and never stops.

``script`` makes it answer instead: every piece becomes a token of its own, each taught to follow the one before, the
first to follow the newline that opens the assistant's turn; after the last piece the turn ends. A piece may be bytes,
so that an answer can be cut inside a character.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|reserved|>")
MERGES = (
    "h e", "l l", "he ll", "hell o", "Ġ w", "o r", "or l", "orl d", "Ġw orld",
    "a s", "s i", "as si", "s t", "assi st", "a n", "an t", "assist ant", "u s", "e r", "us er",
    "s y", "st e", "sy ste", "syste m", "ä ½", "ä½ ł", "å ¥", "å¥ ½", "ð Ł",
)  # fmt: skip
FOLLOWS = 0.35
QUOTE_LIFT = 0.06
SPECIAL_DROP = -0.3

TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Answer with <tool_call>{"name": ..., "arguments": ...}</tool_call>.<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def write_random_gguf(
    path: Path,
    *,
    script: Sequence[str | bytes] = (),
    context: int = 4096,
    width: int = 128,
    layers: int = 2,
    seed: int = 7,
) -> Path:
    """Writes the model to ``path`` and returns it. ``width`` (a multiple of 32) and ``layers`` set how slow it is."""
    tokens, types = vocabulary(script)
    writer = gguf.GGUFWriter(path, "llama")
    _write_shape(writer, context=context, width=width, layers=layers)
    _write_vocabulary(writer, tokens, types)
    embedding, output = ends(tokens, script, width, seed)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    for name, tensor in layer_tensors(width, layers, seed):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_letters() -> list[str]:
    """The printable letter that stands for each octet in a byte-level vocabulary (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(octet) if octet in plain else chr(next(spare)) for octet in range(256)]


def vocabulary(script: Sequence[str | bytes]) -> tuple[list[str], list[int]]:
    """Every token, in the vocabulary's letters and the order of the ids, the control tokens last; and their types."""
    ordinary = [*byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]
    normal = [*ordinary, *(piece for piece in _spelled(script) if piece not in ordinary)]
    types = [int(gguf.TokenType.NORMAL)] * len(normal) + [int(gguf.TokenType.CONTROL)] * len(SPECIALS)
    return [*normal, *SPECIALS], types


def _spelled(script: Sequence[str | bytes]) -> list[str]:
    """The pieces in the vocabulary's letters. Each can be followed by one thing only, so none may come twice."""
    letters = byte_letters()
    pieces = ["".join(letters[octet] for octet in _octets(piece)) for piece in script]
    if len(set(pieces)) < len(pieces) or letters[0x0A] in pieces:
        raise ValueError("a script piece comes twice or is a lone newline: cut the answer elsewhere")
    return pieces


def _octets(piece: str | bytes) -> bytes:
    return piece.encode() if isinstance(piece, str) else piece


def _write_shape(writer: Any, *, context: int, width: int, layers: int) -> None:
    writer.add_name("random")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(width * 2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(width // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _write_vocabulary(writer: Any, tokens: list[str], types: list[int]) -> None:
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def ends(tokens: list[str], script: Sequence[str | bytes], width: int, seed: int) -> tuple[Any, Any]:
    """Embedding and output matrices: noise, with a constant first dimension that biases single tokens."""
    noise = np.random.default_rng(seed)
    embedding = noise.standard_normal((len(tokens), width)).astype(np.float32)
    output = (noise.standard_normal((len(tokens), width)) * 0.12).astype(np.float32)
    embedding[:, 0] = 4.0
    output[:, 0] = 0.0
    output[tokens.index('"'), 0] = QUOTE_LIFT * 4
    output[-len(SPECIALS) :] = 0.0
    output[-len(SPECIALS) :, 0] = SPECIAL_DROP * 4
    chain = [byte_letters()[0x0A], *_spelled(script), "<|im_end|>"]
    for before, after in itertools.pairwise(chain if script else []):
        output[tokens.index(after), 1:] += FOLLOWS * embedding[tokens.index(before), 1:]
    return embedding, output


def layer_tensors(width: int, layers: int, seed: int) -> Iterator[tuple[str, Any]]:
    """Everything between the two ends, by the names of GGUF: noise, and norms of ones."""
    noise = np.random.default_rng(seed + 1)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Any:
        return (noise.standard_normal((rows, columns)) * scale / np.sqrt(columns)).astype(np.float32)

    ones = np.ones(width, dtype=np.float32)
    yield "output_norm.weight", ones
    for layer in range(layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", ones
        yield f"{block}.attn_q.weight", matrix(width, width)
        yield f"{block}.attn_k.weight", matrix(width // 2, width)
        yield f"{block}.attn_v.weight", matrix(width // 2, width)
        yield f"{block}.attn_output.weight", matrix(width, width, 0.3 / layers)
        yield f"{block}.ffn_norm.weight", ones
        yield f"{block}.ffn_gate.weight", matrix(width * 2, width)
        yield f"{block}.ffn_up.weight", matrix(width * 2, width)
        yield f"{block}.ffn_down.weight", matrix(width, width * 2, 0.3 / layers)


if __name__ == "__main__":
    print(write_random_gguf(Path(sys.argv[1]), script=sys.argv[2:]))
