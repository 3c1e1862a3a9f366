"""Tiny Hugging Face models written by transformers itself: the reference that release is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from xlam_jax.models.decoder import forward, logits

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.3,
}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 100_000.0}


def make(kind: str) -> torch.nn.Module:
    """A torch model: llama (untied), tied, linear, mistral (window 5)."""
    torch.manual_seed(len(kind))
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**SIZES, head_dim=8, sliding_window=5)).eval()
    rope = LINEAR if kind == "linear" else {"rope_type": "default", "rope_theta": 10_000.0}
    return LlamaForCausalLM(
        LlamaConfig(**SIZES, rope_parameters=rope, tie_word_embeddings=kind == "tied")
    ).eval()


KINDS = ("llama", "tied", "linear", "mistral")


def write(kind: str, folder: Path, **kwargs) -> torch.nn.Module:
    """Saves a tiny model with transformers' own save_pretrained."""
    model = make(kind)
    model.save_pretrained(folder, **kwargs)
    return model


def write_tokenizer(folder: Path, size: int = 20, **extra) -> None:
    """A word-level tokenizer, saved by transformers itself."""
    folder.mkdir()
    words = {f"w{i}": i for i in range(size - 2)} | {"<eos>": size - 2, "<unk>": size - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>", **extra)
    fast.chat_template = "{{ messages[0]['content'] }}<eos>"
    fast.save_pretrained(folder)


def edit_config(folder: Path, **changes) -> None:
    """Changes keys of config.json; None removes one."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


TOKENS = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (2, 24)).astype(np.int32)


def torch_logits(model: torch.nn.Module) -> np.ndarray:
    """[2, 24, V] of the reference."""
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS.astype(np.int64))).logits.float().numpy()


def folder_logits(folder: Path) -> np.ndarray:
    """[2, 24, V] of a folder, loaded by transformers."""
    return torch_logits(AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval())


def our_logits(params, cfg) -> np.ndarray:
    """[2, 24, V] of our forward pass."""
    tokens_BS = jnp.asarray(TOKENS)
    positions_BS = jnp.broadcast_to(jnp.arange(TOKENS.shape[1], dtype=jnp.int32), TOKENS.shape)

    @jax.jit  # one program, where single operations would be a hundred
    def run(params):
        hidden, _ = forward(params, tokens_BS, positions_BS, jnp.ones_like(tokens_BS), cfg)
        return logits(params, hidden, cfg)

    return np.asarray(run(params))


def files(folder: Path) -> dict[str, bytes]:
    """Relative name -> content of every file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def weights_of(folder: Path) -> dict[str, bytes]:
    """`files`, but for the card, which names the source, and what is computed of it."""
    return {
        n: b for n, b in files(folder).items() if n not in ("README.md", "provenance.json", "checksums.json")
    }
