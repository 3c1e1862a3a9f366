"""Tiny models and a tiny tokenizer, made on the spot."""

from __future__ import annotations

import functools

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from xlam_jax.models.config import ModelConfig, RopeScaling
from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import params_from_state_dict

CORPUS = [
    '{"tool_calls": [{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]}',
    '{"tool_calls": [{"name": "add", "arguments": {"a": 1.5, "b": [1, 2]}}]}',
    "[BEGIN OF QUERY]\nWhat is the weather like in Oslo tomorrow?\n[END OF QUERY]",
]


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML's tokens; about 300 entries."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", bos_token="<|im_start|>")


def config(kind: str = "llama") -> ModelConfig:
    """A two-layer decoder whose vocabulary is wider than the tokenizer's and no multiple of 32."""
    base = ModelConfig(
        family="mistral" if kind == "mistral" else "llama",
        vocab_size=len(tokenizer()) + 13,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        eos_token_ids=(2,),
        initializer_range=0.3,
    )
    if kind == "linear":
        return base.replace(rope_scaling=RopeScaling("linear", 4.0))
    if kind == "mistral":
        return base.replace(sliding_window=5)
    if kind == "tied":
        return base.replace(tie_embeddings=True)
    if kind == "llama":
        return base
    # Other families: their tiny shapes with this vocabulary; experts amplify, so smaller weights.
    return named_config(f"tiny-{kind}").replace(
        vocab_size=base.vocab_size, max_position_embeddings=512, initializer_range=0.1, eos_token_ids=(2,)
    )


@functools.cache
def params(kind: str = "llama", seed: int = 0):
    """Random weights, large enough that logits of different tokens are far apart."""
    return tiny.params(config(kind), seed)


@functools.cache
def torch_model(kind: str = "llama"):
    """The same decoder in transformers (fp32, own random weights)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    values = config_to_hf(config(kind))
    torch.manual_seed(1)
    model = (
        MistralForCausalLM(MistralConfig(**values))
        if kind == "mistral"
        else LlamaForCausalLM(LlamaConfig(**values))
    )
    return model.eval().float()


@functools.cache
def params_of_torch(kind: str = "llama"):
    """The weights of `torch_model(kind)` as our parameters."""
    state = {k: np.asarray(v.detach().numpy()) for k, v in torch_model(kind).state_dict().items()}
    if config(kind).tie_embeddings:
        state.pop("lm_head.weight", None)
    return params_from_state_dict(state, config(kind))
