"""From logits to the next token: greedy, temperature, nucleus (top-p), under an allowed-token bitmask.

Shapes: B rows, V vocabulary, W = ceil(V / 32) words of the bitmask.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Sampling(NamedTuple):
    """How tokens are drawn. `temperature` 0 is greedy; `top_p` 1 keeps the whole distribution."""

    temperature: float = 0.0
    top_p: float = 1.0


@functools.partial(jax.jit, static_argnames=("seed",))
def row_keys(seed: int, rows: jax.Array | np.ndarray) -> jax.Array:
    """PRNG keys [B] that depend on the seed and each row's number alone, never on its place in a batch.

    Args:
      seed: any integer.
      rows: int32 [B], the number of each row in the caller's list of prompts.
    """
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(rows)


def apply_bitmask(logits_BV: jax.Array, mask_BW: jax.Array) -> jax.Array:
    """Sets logits of forbidden tokens to -inf; bit t % 32 of word t // 32 (int32, low bit first) allows t."""
    bits_BWb = (mask_BW[:, :, None] >> jnp.arange(32, dtype=jnp.int32)) & 1
    allowed_BV = bits_BWb.reshape(mask_BW.shape[0], -1)[:, : logits_BV.shape[1]] != 0
    return jnp.where(allowed_BV, logits_BV, -jnp.inf)


def keep_nucleus(logits_BV: jax.Array, top_p: jax.Array | float) -> jax.Array:
    """Keeps the smallest set of most probable tokens that reaches `top_p`; the rest becomes -inf.

    Tokens that tie with the last kept one are kept too. No sort: the cut is found by bisecting the bit
    patterns of the probabilities (non-negative floats order like their bits), 31 reductions over V, which
    is exact and an order of magnitude cheaper than sorting V on a CPU.
    """
    probs_BV = jax.nn.softmax(logits_BV.astype(jnp.float32), axis=-1)
    bits_BV = jax.lax.bitcast_convert_type(probs_BV, jnp.int32)
    # The most probable token always stays, also when top_p <= 0 or rounding keeps the sum below top_p.
    target_B1 = jnp.minimum(jnp.float32(top_p), probs_BV.sum(-1, keepdims=True))

    def halve(_, bounds):
        low, high = bounds  # mass(bits >= low) reaches the target, mass(bits >= high) does not
        middle = low + (high - low) // 2
        mass = jnp.where(bits_BV >= middle, probs_BV, 0.0).sum(-1, keepdims=True)
        enough = mass >= target_B1
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = jnp.zeros_like(bits_BV[:, :1])
    high = bits_BV.max(-1, keepdims=True) + 1
    cut, _ = jax.lax.fori_loop(0, 31, halve, (low, high))
    cut = jnp.minimum(cut, bits_BV.max(-1, keepdims=True))
    return jnp.where(bits_BV >= cut, logits_BV, -jnp.inf)


class Drawing(NamedTuple):
    """What of a `Sampling` decides which program is compiled."""

    greedy: bool
    nucleus: bool

    @classmethod
    def of(cls, sampling: Sampling) -> Drawing:
        return cls(sampling.temperature <= 0.0, sampling.top_p < 1.0)


def draw(
    logits_BV: jax.Array,
    keys_B: jax.Array,
    counts_B: jax.Array,
    sampling: Sampling,
    drawing: Drawing,
    mask_BW: jax.Array | None = None,
) -> jax.Array:
    """`sample` for use inside jit, where the numbers of `sampling` may be traced.

    Args:
      logits_BV, keys_B, counts_B, mask_BW: as in `sample`.
      drawing: static; `Drawing.of(sampling)`.
    """
    if mask_BW is not None:
        logits_BV = apply_bitmask(logits_BV, mask_BW)
    if drawing.greedy:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    logits_BV = logits_BV / jnp.maximum(sampling.temperature, 1e-6)
    if drawing.nucleus:
        logits_BV = keep_nucleus(logits_BV, sampling.top_p)
    step_keys_B = jax.vmap(jax.random.fold_in)(keys_B, counts_B)
    return jax.vmap(jax.random.categorical)(step_keys_B, logits_BV).astype(jnp.int32)


_draw = jax.jit(draw, static_argnames=("drawing",))


def sample(
    logits_BV: jax.Array,
    keys_B: jax.Array,
    counts_B: jax.Array | np.ndarray,
    sampling: Sampling = Sampling(),
    mask_BW: jax.Array | np.ndarray | None = None,
) -> jax.Array:
    """Draws the next token of each row.

    Args:
      logits_BV: float32 [B, V].
      keys_B: PRNG keys [B] (`row_keys`).
      counts_B: int32 [B], tokens already drawn in the row; the n-th draw of a row is a function of (key, n).
      sampling: temperature and top_p.
      mask_BW: int32 [B, W] bitmask of allowed tokens, or None.

    Returns:
      int32 [B]. Greedy ties go to the lowest token id.
    """
    return _draw(logits_BV, keys_B, counts_B, _as_floats(sampling), Drawing.of(sampling), mask_BW)


def _as_floats(sampling: Sampling) -> Sampling:
    return Sampling(float(sampling.temperature), float(sampling.top_p))
