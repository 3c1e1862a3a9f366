"""Llama-type GGUF files in: dequantised, un-permuted, with tokenizer, as a Hugging Face folder.

GGUF is llama.cpp's container. Its converter reorders the rows of the query and key projections for its own
rotary kernel (`LlamaModel.permute` of convert_hf_to_gguf.py); the inverse is `unpermute`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.hf_config import config_from_hf
from xlam_jax.models.params import Params
from xlam_jax.parallel.rules import ShardingRules
from xlam_jax.weights.hf_in import load_tensors
from xlam_jax.weights.safetensors_io import TensorInfo
from xlam_jax.weights.sentencepiece_bpe import Kind, build_tokenizer
from xlam_jax.weights.tensors import check_tensors
from xlam_jax.weights.tokenizer_files import SpecialTokens, save_tokenizer

_BLOCK = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


class GgufTensors:
    """The tensors of a GGUF file under their Hugging Face names, dequantised to fp32 when asked for."""

    def __init__(self, path: Path, tensors: Mapping[str, Any], cfg: ModelConfig):
        self._path, self._heads = path, {"q_proj": cfg.num_heads, "k_proj": cfg.num_kv_heads}
        self._tensors = {_hf_name(name): tensor for name, tensor in tensors.items()}
        self._last: tuple[str, np.ndarray] | None = None
        self.infos = {  # GGUF writes sizes innermost first
            name: TensorInfo(name, tuple(int(n) for n in reversed(t.shape)), np.dtype(np.float32))
            for name, t in self._tensors.items()
        }

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out; the last tensor is kept."""
        last = self._last  # another thread may replace it
        if last is None or last[0] != name:
            array = _dequantise(self._tensors[name], str(self._path))
            heads = self._heads.get(name.split(".")[-2])
            self._last = last = (name, unpermute(array, heads) if heads else array)
        return last[1][index or ()]

    def path_of(self, name: str) -> str:
        """The file."""
        return str(self._path)


def load_gguf(
    path: str | Path,
    *,
    dtype: Any = None,
    mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> tuple[ModelConfig, Params]:
    """Reads a GGUF file of the Llama architecture; tensors are dequantised one at a time.

    Args:
      dtype: of the parameters; None is float32.
      mesh, rules, progress: as in `load_hf`.

    Raises:
      InputError: no such file, truncated, another architecture, RoPE or tensors that are not known here.
    """
    cfg, tensors = open_gguf(path)
    return cfg, load_tensors(tensors, cfg, dtype=dtype, mesh=mesh, rules=rules, progress=progress)


def read_fields(path: str | Path) -> dict[str, Any]:
    """Key -> value of a GGUF file's header.

    Raises:
      InputError: no such file, or truncated.
    """
    return _read(Path(path))[0]


def save_gguf_tokenizer(path: str | Path, dst: Path) -> None:
    """Writes the tokenizer of a GGUF file as Hugging Face files into the folder `dst`.

    Raises:
      InputError: no such file, truncated, or a tokenizer that is not known here.
    """
    fields, _ = _read(Path(path))
    tokenizer, special = gguf_tokenizer(fields, where=str(path))
    save_tokenizer(
        tokenizer,
        special,
        dst,
        model_max_length=fields.get("llama.context_length", 2048),
        chat_template=fields.get("tokenizer.chat_template"),
    )


def open_gguf(path: str | Path) -> tuple[ModelConfig, GgufTensors]:
    """Config and tensors of a GGUF file of the Llama architecture.

    Raises:
      InputError: as `load_gguf`.
    """
    fields, infos = _read(Path(path))
    cfg = gguf_config(fields, infos, where=str(path))
    tensors = GgufTensors(Path(path), infos, cfg)
    check_tensors(tensors, cfg)
    return cfg, tensors


def gguf_config(fields: Mapping[str, Any], tensors: Mapping[str, Any], where: str) -> ModelConfig:
    """The ModelConfig of a GGUF header (keys `llama.*`).

    Raises:
      InputError: an architecture or RoPE scaling that this package does not compute.
    """
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise InputError(
            f"GGUF architecture {architecture!r} is not supported", where=where, hint="supported: llama"
        )

    def need(key: str) -> Any:
        if f"llama.{key}" not in fields:
            raise InputError(f"the header lacks llama.{key}", where=where)
        return fields[f"llama.{key}"]

    heads, hidden = need("attention.head_count"), need("embedding_length")
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": _exact(fields.get("llama.rope.freq_base", 1e4)),
    }
    scaling = fields.get("llama.rope.scaling.type", "none")
    factor = fields.get("llama.rope.scaling.factor", fields.get("llama.rope.scale_linear"))
    if scaling not in ("none", "linear") or "rope_freqs.weight" in tensors:
        raise InputError(
            "this RoPE scaling is not supported",
            where=where,
            hint="supported: none, linear (llama.rope.scaling)",
        )
    if factor and factor != 1:
        rope |= {"rope_type": "linear", "factor": _exact(factor)}
    ids = _special_ids(fields)
    return config_from_hf(
        {
            "model_type": "llama",
            "vocab_size": len(fields["tokenizer.ggml.tokens"]),
            "hidden_size": hidden,
            "intermediate_size": need("feed_forward_length"),
            "num_hidden_layers": need("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
            "head_dim": fields.get("llama.attention.key_length", hidden // heads),
            "rms_norm_eps": _exact(need("attention.layer_norm_rms_epsilon")),
            "rope_parameters": rope,
            "max_position_embeddings": need("context_length"),
            "tie_word_embeddings": "output.weight" not in tensors,
            "bos_token_id": ids["bos"],
            "eos_token_id": ids["eos"],
            "pad_token_id": ids["pad"],
        },
        where=where,
    )


def gguf_tokenizer(fields: Mapping[str, Any], where: str) -> tuple[Tokenizer, SpecialTokens]:
    """The fast tokenizer stored in a GGUF header, and its special tokens.

    Raises:
      InputError: a tokenizer model or pre-tokenizer that this package does not know.
    """
    pieces, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    special = SpecialTokens(**{k: None if i is None else pieces[i] for k, i in _special_ids(fields).items()})
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model == "llama" and special.bos is not None:
        prefix = fields.get("tokenizer.ggml.add_space_prefix", True)
        scores = fields["tokenizer.ggml.scores"]
        return build_tokenizer(pieces, scores, kinds, bos=special.bos, add_prefix_space=prefix), special
    if (model, pre) != ("gpt2", "smollm"):
        raise InputError(
            f"GGUF tokenizer {model!r} with pre-tokenizer {pre!r} is not supported",
            where=where,
            hint="supported: gpt2/smollm, llama; or convert from the model's Hugging Face folder",
        )
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(piece, special=True, normalized=False)
            for piece, kind in zip(pieces, kinds, strict=True)
            if kind == Kind.CONTROL
        ]
    )
    return tokenizer, special


def unpermute(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix [N * H, D], from llama.cpp's order (interleaved pairs) to halves."""
    half = array.shape[0] // heads // 2
    return array.reshape(heads, half, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _special_ids(fields: Mapping[str, Any]) -> dict[str, int | None]:
    ids = {
        "bos": fields.get("tokenizer.ggml.bos_token_id"),
        "eos": fields.get("tokenizer.ggml.eos_token_id"),
        "pad": fields.get("tokenizer.ggml.padding_token_id"),
        "unk": fields.get("tokenizer.ggml.unknown_token_id"),
    }
    # Padding with the end of sequence would make padding mean stop; the unknown token is never produced.
    if ids["pad"] in (None, ids["eos"]):
        ids["pad"] = ids["unk"] if ids["unk"] != ids["eos"] else None
    return ids


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import gguf

    if not path.is_file():
        raise InputError("GGUF file not found", where=str(path), hint="check the path")
    try:
        reader = gguf.GGUFReader(path)
        fields = {key: field.contents() for key, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OverflowError) as e:
        raise InputError(
            f"truncated, or not a GGUF file: {(str(e) or type(e).__name__).splitlines()[0]}",
            where=str(path),
            hint="fetch the file again",
        ) from e
    if "tokenizer.ggml.tokens" not in fields:
        raise InputError("the GGUF file carries no tokenizer", where=str(path))
    return fields, {t.name: t for t in reader.tensors}


def _dequantise(tensor: Any, where: str) -> np.ndarray:
    import gguf

    try:
        return gguf.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as e:
        raise InputError(
            f"{tensor.name}: quantisation {tensor.tensor_type!r} is not known", where=where
        ) from e


def _hf_name(name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _BLOCK and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{_BLOCK[parts[2]]}.weight"
    return name


def _exact(value: float) -> float:
    """The decimal that was meant: GGUF holds 1e-05 as the float32 9.99999974e-06."""
    return float(str(np.float32(value)))
