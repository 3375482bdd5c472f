"""The model of `tests.tools.random_gguf` as the folder that Hugging Face's libraries and vLLM read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.tools.random_gguf import MERGES, SPECIALS, TEMPLATE, ends, layer_tensors, vocabulary

_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def write_random_checkpoint(
    folder: Path,
    *,
    script: Sequence[str | bytes] = (),
    context: int = 4096,
    width: int = 128,
    layers: int = 2,
    seed: int = 7,
) -> Path:
    """Writes the model into ``folder``, which is made, and returns it. Parameters: see `write_random_gguf`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens, _ = vocabulary(script)
    embedding, output = ends(tokens, script, width, seed)
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": output}
    tensors |= {_renamed(name): tensor for name, tensor in layer_tensors(width, layers, seed)}
    (folder / "model.safetensors").write_bytes(_safetensors(tensors))
    for name, value in (
        ("config.json", _config(tokens, context=context, width=width, layers=layers)),
        ("generation_config.json", {"eos_token_id": tokens.index("<|im_end|>")}),
        ("tokenizer.json", _tokenizer(tokens)),
        ("tokenizer_config.json", _tokenizer_config(context)),
    ):
        (folder / name).write_bytes(msgspec.json.encode(value))
    return folder


def _renamed(name: str) -> str:
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_BLOCK[part]}.weight"


def _safetensors(tensors: Mapping[str, Any]) -> bytes:
    """The length of a JSON header, 8 octets; the header, filled up with spaces to a multiple of 8; the numbers."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    written = msgspec.json.encode(header)
    written += b" " * (-len(written) % 8)
    return b"".join((len(written).to_bytes(8, "little"), written, *(tensor.tobytes() for tensor in tensors.values())))


def _config(tokens: Sequence[str], *, context: int, width: int, layers: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": width * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": width // 4,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": len(tokens),
        "bos_token_id": tokens.index("<|endoftext|>"),
        "eos_token_id": tokens.index("<|im_end|>"),
    }


def _tokenizer(tokens: Sequence[str]) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    merges = [merge.split(" ") for merge in MERGES]
    return {
        "version": "1.0",
        "added_tokens": [{"id": tokens.index(name), "content": name, **plain} for name in SPECIALS],
        "pre_tokenizer": _BYTE_LEVEL,
        "decoder": _BYTE_LEVEL,
        "model": {"type": "BPE", "vocab": {token: number for number, token in enumerate(tokens)}, "merges": merges},
    }


def _tokenizer_config(context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }


if __name__ == "__main__":
    print(write_random_checkpoint(Path(sys.argv[1]), script=sys.argv[2:]))
