"""The forward pass of Llama-type decoders: pure functions over `Params`.

Weights are fp32 or bf16; `compute_dtype` is what matrix products run in. Norms, softmax, rotary angles and
logits are always fp32.

Shape legend: B rows, S positions, D hidden, N query heads, K key/value heads, H head width, F MLP width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from xlam_jax.errors import InputError
from xlam_jax.models.attention import attend
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Layer, Params, ParamSpec, unstack
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules, constrain

__all__ = [
    "SAVEABLE_NAMES",
    "Layer",
    "ParamSpec",
    "Params",
    "attention_inputs",
    "attention_output",
    "embed",
    "final_norm",
    "forward",
    "head_matrix",
    "logits",
    "mlp_block",
    "rope_angles",
    "unstack",
]

# Names a remat policy "names:..." may save.
SAVEABLE_NAMES = ("attn_in", "qkv", "attn_out", "attn_residual", "mlp_in", "mlp_hidden")


def forward(
    params: Params,
    tokens_BS: jax.Array,
    positions_BS: jax.Array,
    segment_ids_BS: jax.Array,
    cfg: ModelConfig,
    *,
    remat: str = "none",
    compute_dtype: Any = None,
    attention: str = "xla",
    rules: ShardingRules = DEFAULT_RULES,
    frozen_layers: Layer | None = None,
    branches_BS: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Hidden states after the final norm.

    Args:
      params: stacked layers are scanned; a tuple of layers is unrolled.
      tokens_BS: int32 ids.
      positions_BS: int32, counted from 0 within each packed document.
      segment_ids_BS: int32; tokens attend causally within equal ids. 0 is padding.
      remat: what the backward pass keeps of each layer: "none" (keep everything), "full" (recompute all),
        "dots" (keep matrix products with weights), "names:a,b" (keep these of `SAVEABLE_NAMES`).
      compute_dtype: dtype of activations and matrix products; None for the parameters' own.
      attention: backend name, see `models.attention`.
      rules: sharding rules of activations; they act only under `jax.set_mesh`.
      frozen_layers: stacked layers that stand below `params.layers`; gradients stop above them, so they cost
        a forward pass and keep nothing for the backward one.
      branches_BS: int32, where segments fork; see `models.attention.attend`.

    Returns:
      (hidden_BSD, auxiliary sums; empty for dense models).

    Raises:
      InputError: unknown remat policy or attention backend.
    """
    policy = remat_policy(remat)
    x_BSD = embed(params, tokens_BS, compute_dtype)
    x_BSD = constrain(x_BSD, ("batch", "length", "act_embed"), rules)
    angles = rope_angles(positions_BS, cfg)

    def block(x_BSD: jax.Array, layer: Layer) -> jax.Array:
        q, k, v = attention_inputs(layer, x_BSD, angles, cfg)
        q = constrain(q, ("batch", "length", "act_heads", None), rules)
        with jax.named_scope("attention"):
            out = attend(
                q, k, v, segment_ids_BS,
                window=cfg.sliding_window, backend=attention, branches_BS=branches_BS,
            )  # fmt: skip
        x_BSD = attention_output(layer, x_BSD, out)
        x_BSD = constrain(x_BSD, ("batch", "length", "act_embed"), rules)
        x_BSD = mlp_block(layer, x_BSD, cfg)
        return constrain(x_BSD, ("batch", "length", "act_embed"), rules)

    if frozen_layers is not None:
        x_BSD, _ = jax.lax.scan(lambda x, layer: (block(x, layer), None), x_BSD, frozen_layers)
        x_BSD = jax.lax.stop_gradient(x_BSD)
    if remat != "none":
        # Inside a scan the compiler cannot merge the recomputation with the forward pass anyway.
        block = jax.checkpoint(block, policy=policy, prevent_cse=isinstance(params.layers, tuple))
    if isinstance(params.layers, tuple):
        for layer in params.layers:
            x_BSD = block(x_BSD, layer)
    else:
        x_BSD, _ = jax.lax.scan(lambda x, layer: (block(x, layer), None), x_BSD, params.layers)
    return final_norm(params, x_BSD, cfg), {}


def remat_policy(name: str) -> Callable[..., bool] | None:
    """The `jax.checkpoint` policy called `name`; None recomputes everything."""
    policies = jax.checkpoint_policies
    if name in ("none", "full"):
        return None
    if name == "dots":
        return policies.dots_with_no_batch_dims_saveable
    kind, _, rest = name.partition(":")
    names = tuple(part.strip() for part in rest.split(",") if part.strip())
    if kind == "names" and names and set(names) <= set(SAVEABLE_NAMES):
        return policies.save_only_these_names(*names)
    raise InputError(
        f"unknown remat policy {name!r}",
        where="remat",
        hint=f"none, full, dots, or names: followed by any of {','.join(SAVEABLE_NAMES)}",
    )


def embed(params: Params, tokens_BS: jax.Array, dtype: Any = None) -> jax.Array:
    """[B, S] ids -> [B, S, D] in `dtype` (None: the table's own)."""
    x_BSD = jnp.take(params.embed, tokens_BS, axis=0)
    return x_BSD if dtype is None else x_BSD.astype(dtype)


def rope_angles(positions_BS: jax.Array, cfg: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """(cos, sin) of the rotary angles, each float32 [B, S, H / 2] (Su et al. 2021, arXiv:2104.09864)."""
    exponent = np.arange(0, cfg.head_dim, 2, dtype=np.float32) / np.float32(cfg.head_dim)
    frequency = np.float32(1.0) / np.float32(cfg.rope_theta) ** exponent
    if cfg.rope_scaling is not None:
        frequency = frequency / np.float32(cfg.rope_scaling.factor)
    angle = positions_BS.astype(jnp.float32)[..., None] * frequency
    return jnp.cos(angle), jnp.sin(angle)


def attention_inputs(
    layer: Layer, x_BSD: jax.Array, positions: jax.Array | tuple[jax.Array, jax.Array], cfg: ModelConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pre-norm, projections and rotation of the residual stream.

    Args:
      layer: one layer, not a stack.
      x_BSD: the residual stream before the block (the norm is applied here).
      positions: int32 [B, S], or the result of `rope_angles` when several layers share it.

    Returns:
      q [B, S, N, H] and k [B, S, K, H], rotated; v [B, S, K, H]; all in the dtype of x.
    """
    with jax.named_scope("qkv"):
        B, S, _ = x_BSD.shape
        h_BSD = checkpoint_name(_rms_norm(x_BSD, layer.attn_norm, cfg.rms_norm_eps), "attn_in")
        q = checkpoint_name(_matmul(h_BSD, layer.q), "qkv").reshape(B, S, cfg.num_heads, cfg.head_dim)
        k = checkpoint_name(_matmul(h_BSD, layer.k), "qkv").reshape(B, S, cfg.num_kv_heads, cfg.head_dim)
        v = checkpoint_name(_matmul(h_BSD, layer.v), "qkv").reshape(B, S, cfg.num_kv_heads, cfg.head_dim)
        cos, sin = positions if isinstance(positions, tuple) else rope_angles(positions, cfg)
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v


def attention_output(layer: Layer, x_BSD: jax.Array, out_BSNH: jax.Array) -> jax.Array:
    """The residual stream after attention: x + concat(heads) @ o."""
    B, S, _ = x_BSD.shape
    out = checkpoint_name(out_BSNH.reshape(B, S, -1).astype(x_BSD.dtype), "attn_out")
    return checkpoint_name(x_BSD + _matmul(out, layer.o), "attn_residual")


def mlp_block(layer: Layer, x_BSD: jax.Array, cfg: ModelConfig) -> jax.Array:
    """The residual stream after the SwiGLU MLP: x + (silu(h gate) * (h up)) @ down, h = norm(x)."""
    with jax.named_scope("mlp"):
        h_BSD = checkpoint_name(_rms_norm(x_BSD, layer.mlp_norm, cfg.rms_norm_eps), "mlp_in")
        gate = checkpoint_name(_matmul(h_BSD, layer.gate), "mlp_hidden")
        up = checkpoint_name(_matmul(h_BSD, layer.up), "mlp_hidden")
        return x_BSD + _matmul(jax.nn.silu(gate) * up, layer.down)


def final_norm(params: Params, x_BSD: jax.Array, cfg: ModelConfig) -> jax.Array:
    """The last RMSNorm; its result is what `logits` and the chunked cross-entropy take."""
    return _rms_norm(x_BSD, params.final_norm, cfg.rms_norm_eps)


def head_matrix(params: Params) -> jax.Array:
    """[D, V]; the transposed embedding table when tied, so that its gradient reaches the table."""
    return params.embed.T if params.head is None else params.head


def logits(params: Params, hidden: jax.Array, cfg: ModelConfig) -> jax.Array:
    """[..., D] -> float32 [..., V]. For training use `models.cross_entropy`, which never holds all of it."""
    del cfg
    head_DV = head_matrix(params).astype(hidden.dtype)
    return jnp.matmul(hidden, head_DV, preferred_element_type=jnp.float32)


def _matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    # The cast stands at the use, so a scan over fp32 weights holds one layer in the compute dtype at a time.
    # Two dimensions: the weight gradient of a three-dimensional product makes XLA transpose its operands.
    return (x.reshape(-1, x.shape[-1]) @ w.astype(x.dtype)).reshape(*x.shape[:-1], w.shape[-1])


def _rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    x32 = x.astype(jnp.float32)
    normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    return (normed * scale.astype(jnp.float32)).astype(x.dtype)


def _rotate(x_BSNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    # The halves of a head are the pairs that turn together, as in Hugging Face checkpoints (not neighbours).
    a, b = jnp.split(x_BSNH.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BSNH.dtype)
