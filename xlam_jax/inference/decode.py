"""Prefill and decode with a key/value cache, exact with respect to `models.decoder.forward`.

Weights come unstacked, one `Layer` per block, and go into `jax.jit` as arguments: slicing stacked weights
inside jit copies every layer at every step, which on a CPU costs 3-6 times the step itself.

Each row of the cache belongs to one sequence: slot s of a row holds the key and value of its position s, so
rows of any length decode together and a finished row can be given to the next prompt. Slots beyond a row's
position hold leftovers that no query may see.

Shape legend: B cache rows, C cache slots, G prompts of one prefill, P prompt positions (right-padded),
D hidden, N query heads, K key/value heads, H head width, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.models.attention import MASKED, attend
from xlam_jax.models.blocks import attention_inputs, attention_output, mlp_block
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.decoder import embed, final_norm, logits
from xlam_jax.models.params import Params
from xlam_jax.models.rope import rope_angles, softmax_scale

# One (key, value) pair per layer, each [B, K, C, H]: with the slots next to the head width, both products of
# attention are plain batched matrix products (measured faster on the CPU than [B, C, K, H]).
Cache = tuple[tuple[jax.Array, jax.Array], ...]


def new_cache(cfg: ModelConfig, rows: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache of `rows` sequences with `slots` positions each."""
    shape = (rows, cfg.num_kv_heads, slots)
    key, value = (*shape, cfg.head_dim), (*shape, cfg.v_head_dim)
    return tuple((jnp.zeros(key, dtype), jnp.zeros(value, dtype)) for _ in range(cfg.num_layers))


@functools.partial(jax.jit, static_argnames=("cfg",), donate_argnames=("cache",))
def prefill(
    params: Params,
    cache: Cache,
    tokens_GP: jax.Array,
    lengths_G: jax.Array,
    rows_G: jax.Array,
    cfg: ModelConfig,
) -> tuple[jax.Array, Cache]:
    """Runs prompts and writes their keys and values into the given rows of the cache.

    Args:
      params: unstacked parameters (`models.params.unstack`).
      cache: donated; use the returned one.
      tokens_GP: int32, right-padded with anything. P must not exceed the cache's slots.
      lengths_G: int32, real tokens of each prompt, at least 1.
      rows_G: int32, distinct cache rows; an index beyond the last row writes nothing (a padding prompt).

    Returns:
      (logits of each prompt's last token, float32 [G, V]; the cache). Other positions get no logits.
    """
    G, P = tokens_GP.shape
    positions_GP = jnp.broadcast_to(jnp.arange(P, dtype=jnp.int32), (G, P))
    angles = rope_angles(positions_GP, cfg)
    # Padding stands at the end, where causality alone hides it from every real token.
    segments_GP = jnp.ones((G, P), jnp.int32)
    real_GP = positions_GP < lengths_G[:, None]  # experts need not see the rest
    x_GPD = embed(params, tokens_GP)
    out = []
    for layer, (keys, values) in zip(params.layers, cache, strict=True):
        q, k, v = attention_inputs(layer, x_GPD, angles, cfg)
        keys = keys.at[rows_G, :, :P].set(k.swapaxes(1, 2).astype(keys.dtype), mode="drop")
        values = values.at[rows_G, :, :P].set(v.swapaxes(1, 2).astype(values.dtype), mode="drop")
        out.append((keys, values))
        out_GPNH = attend(q, k, v, segments_GP, window=cfg.sliding_window, scale=softmax_scale(cfg))
        x_GPD = attention_output(layer, x_GPD, out_GPNH)
        x_GPD, _ = mlp_block(layer, x_GPD, cfg, real_GP)
    last_GD = x_GPD[jnp.arange(G), lengths_G - 1]
    return logits(params, final_norm(params, last_GD, cfg), cfg), tuple(out)


@functools.partial(jax.jit, static_argnames=("cfg",), donate_argnames=("cache",))
def decode(
    params: Params, cache: Cache, tokens_B: jax.Array, positions_B: jax.Array, cfg: ModelConfig
) -> tuple[jax.Array, Cache]:
    """One token per row: writes its key and value at its position, and attends to all positions up to it.

    Args:
      params: unstacked parameters.
      cache: donated; use the returned one.
      tokens_B: int32.
      positions_B: int32 position of each token in its row; beyond the last slot nothing is written.

    Returns:
      (logits of the next token, float32 [B, V]; the cache).
    """
    B = tokens_B.shape[0]
    slots = jnp.arange(cache[0][0].shape[2], dtype=jnp.int32)
    seen_BC = slots[None, :] <= positions_B[:, None]
    if cfg.sliding_window is not None:
        seen_BC &= slots[None, :] > positions_B[:, None] - cfg.sliding_window
    angles, scale = rope_angles(positions_B[:, None], cfg), softmax_scale(cfg)
    rows_B = jnp.arange(B)
    x_B1D = embed(params, tokens_B[:, None])
    out = []
    for layer, (keys, values) in zip(params.layers, cache, strict=True):
        q, k, v = attention_inputs(layer, x_B1D, angles, cfg)
        keys = keys.at[rows_B, :, positions_B].set(k[:, 0].astype(keys.dtype), mode="drop")
        values = values.at[rows_B, :, positions_B].set(v[:, 0].astype(values.dtype), mode="drop")
        out.append((keys, values))
        out_B1NH = _attend_one(q * jnp.asarray(scale, q.dtype), keys, values, seen_BC)
        x_B1D = attention_output(layer, x_B1D, out_B1NH)
        x_B1D, _ = mlp_block(layer, x_B1D, cfg)
    return logits(params, final_norm(params, x_B1D[:, 0], cfg), cfg), tuple(out)


def _attend_one(
    q_B1NH: jax.Array, keys_BKCH: jax.Array, values_BKCH: jax.Array, seen_BC: jax.Array
) -> jax.Array:
    """One query per row, scaled, against its cache; [B, 1, N, value width]."""
    B, _, N, H = q_B1NH.shape
    K = keys_BKCH.shape[1]
    q_BKGH = q_B1NH.reshape(B, K, N // K, H)
    scores = jnp.einsum("bkgh,bkch->bkgc", q_BKGH, keys_BKCH, preferred_element_type=jnp.float32)
    scores = jnp.where(seen_BC[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(values_BKCH.dtype)
    return jnp.einsum("bkgc,bkch->bkgh", weights, values_BKCH).reshape(B, 1, N, -1)


@jax.jit
def take_rows(cache: Cache, rows: jax.Array) -> Cache:
    """The cache of the given rows only, in that order."""
    return jax.tree.map(lambda a: a[rows], cache)


def pad_prompts(prompts: list[list[int]], rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-pads: (tokens int32 [rows, length], lengths). Missing rows have one token of padding."""
    tokens, lengths = np.zeros((rows, length), np.int32), np.ones(rows, np.int32)
    for i, ids in enumerate(prompts):
        tokens[i, : len(ids)] = ids
        lengths[i] = len(ids)
    return tokens, lengths
