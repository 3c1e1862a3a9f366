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

from xlam_jax.inference.sampler import Drawing, Sampling, draw
from xlam_jax.models.attention import MASKED, attend
from xlam_jax.models.blocks import attention_inputs, attention_output, mlp_block
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.decoder import embed, final_norm, logits
from xlam_jax.models.params import Params
from xlam_jax.models.rope import rope_angles, softmax_scale

# One (key, value) pair per layer: keys [B, K, H, C], values [B, K, C, H]. So written, both products of attention
# are plain batched matrix products; with keys as [B, K, C, H] a CPU transposes the whole cache at every step, half
# of the step's time at 32 rows (`xlam bench decode`).
Cache = tuple[tuple[jax.Array, jax.Array], ...]


def new_cache(cfg: ModelConfig, rows: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache of `rows` sequences with `slots` positions each.

    Args:
      dtype: of keys and values; what is written into the cache is cast to it.
    """
    key = (rows, cfg.num_kv_heads, cfg.head_dim, slots)
    value = (rows, cfg.num_kv_heads, slots, cfg.v_head_dim)
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
        keys = keys.at[rows_G, :, :, :P].set(k.transpose(0, 2, 3, 1).astype(keys.dtype), mode="drop")
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
      positions_B: int32 position of each token in its row. A row without a sequence may have any position: what
        it writes stands in its own slots (in the last one for positions beyond it), and a later sequence
        writes a slot before it sees it.

    Returns:
      (logits of the next token, float32 [B, V]; the cache).
    """
    B = tokens_B.shape[0]
    slots = jnp.arange(cache[0][1].shape[2], dtype=jnp.int32)
    seen_BC = slots[None, :] <= positions_B[:, None]
    if cfg.sliding_window is not None:
        seen_BC &= slots[None, :] > positions_B[:, None] - cfg.sliding_window
    angles, scale = rope_angles(positions_B[:, None], cfg), softmax_scale(cfg)
    # Always in bounds, so that XLA need not keep the old value by. And never one update alone: that becomes a
    # dynamic-update-slice, for which XLA's CPU copies the whole cache four times (40 of 56 ms).
    twice = 2 if B == 1 else 1
    rows_W = jnp.arange(B).repeat(twice)
    at_W = jnp.minimum(positions_B, slots.size - 1).repeat(twice)
    x_B1D = embed(params, tokens_B[:, None])
    out = []
    for layer, (keys, values) in zip(params.layers, cache, strict=True):
        q, k, v = attention_inputs(layer, x_B1D, angles, cfg)
        k_WKH, v_WKH = k[:, 0].repeat(twice, 0), v[:, 0].repeat(twice, 0)
        keys = keys.at[rows_W, :, :, at_W].set(k_WKH.astype(keys.dtype), mode="promise_in_bounds")
        values = values.at[rows_W, :, at_W].set(v_WKH.astype(values.dtype), mode="promise_in_bounds")
        out.append((keys, values))
        out_B1NH = _attend_one(q * jnp.asarray(scale, q.dtype), keys, values, seen_BC)
        x_B1D = attention_output(layer, x_B1D, out_B1NH)
        x_B1D, _ = mlp_block(layer, x_B1D, cfg)
    return logits(params, final_norm(params, x_B1D[:, 0], cfg), cfg), tuple(out)


@functools.partial(jax.jit, static_argnames=("cfg", "drawing"), donate_argnames=("cache",))
def decode_and_draw(
    params: Params,
    cache: Cache,
    tokens_B: jax.Array,
    positions_B: jax.Array,
    counts_B: jax.Array,
    keys_B: jax.Array,
    sampling: Sampling,
    cfg: ModelConfig,
    drawing: Drawing,
) -> tuple[jax.Array, jax.Array, jax.Array, Cache]:
    """`decode` and `sampler.draw` as one program, so that steps can follow each other without the host.

    Args:
      params, cache, tokens_B, positions_B: as in `decode`; the cache is donated.
      counts_B, keys_B: as in `sampler.sample`.
      sampling: traced, so that other numbers need no other program.
      drawing: static; `Drawing.of(sampling)`.

    Returns:
      (drawn tokens, positions and counts of the next step, each int32 [B]; the cache).
    """
    logits_BV, cache = decode(params, cache, tokens_B, positions_B, cfg)
    drawn_B = draw(logits_BV, keys_B, counts_B, sampling, drawing)
    return drawn_B, positions_B + 1, counts_B + 1, cache


def _attend_one(
    q_B1NH: jax.Array, keys_BKHC: jax.Array, values_BKCH: jax.Array, seen_BC: jax.Array
) -> jax.Array:
    """One query per row, scaled, against its cache; [B, 1, N, value width]."""
    B, _, N, H = q_B1NH.shape
    K = keys_BKHC.shape[1]
    q_BKGH = q_B1NH.reshape(B, K, N // K, H)
    scores = jnp.einsum("bkgh,bkhc->bkgc", q_BKGH, keys_BKHC, preferred_element_type=jnp.float32)
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
