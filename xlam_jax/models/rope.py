"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and the ways to stretch them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.models.config import ModelConfig, RopeScaling


def rope_angles(positions_BS: jax.Array, cfg: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """(cos, sin) of the rotary angles, each float32 [B, S, rotated width / 2].

    With `dynamic` scaling the base follows from the largest position of each row, as transformers' does for a
    batch of one.
    """
    positions = positions_BS.astype(jnp.float32)
    if cfg.rope_scaling is not None and cfg.rope_scaling.type == "dynamic":
        frequency, factor = _dynamic(positions.max(axis=-1) + 1, cfg), 1.0
        angle = positions[..., None] * frequency[:, None]
    else:
        frequency, factor = _frequencies(cfg)
        angle = positions[..., None] * frequency
    return jnp.cos(angle) * factor, jnp.sin(angle) * factor


def softmax_scale(cfg: ModelConfig) -> float:
    """The factor on scores: H ** -0.5, and for a latent head under YaRN the square of its `mscale`."""
    scale, rope = cfg.head_dim**-0.5, cfg.rope_scaling
    if cfg.latent and rope and rope.mscale_all_dim:
        scale *= _mscale(rope.factor, rope.mscale_all_dim) ** 2
    return scale


def rotate(x_BSNH: jax.Array, cos: jax.Array, sin: jax.Array, interleaved: bool = False) -> jax.Array:
    """Turns pairs of a head: its two halves, or (`interleaved`) neighbours, which come out as halves.

    The order of the result does not matter, since queries and keys are ordered alike.

    Args:
      cos, sin: of `rope_angles`, [B, S, H / 2].
    """
    x, dtype = x_BSNH, x_BSNH.dtype
    halves = (x[..., ::2], x[..., 1::2]) if interleaved else jnp.split(x, 2, axis=-1)
    # The arithmetic is float32; what is cut and joined, forwards and backwards, is as narrow as x.
    a, b = (half.astype(jnp.float32) for half in halves)
    cos, sin = cos[:, :, None], sin[:, :, None]
    return jnp.concatenate([(a * cos - b * sin).astype(dtype), (b * cos + a * sin).astype(dtype)], axis=-1)


def _exponent(cfg: ModelConfig) -> np.ndarray:
    return np.arange(0, cfg.rope_dim, 2, dtype=np.float32) / np.float32(cfg.rope_dim)


def _frequencies(cfg: ModelConfig) -> tuple[np.ndarray, float]:
    """(float32 angle per position of each pair, factor on cos and sin)."""
    frequency = np.float32(1.0) / np.float32(cfg.rope_theta) ** _exponent(cfg)
    rope = cfg.rope_scaling
    if rope is None:
        return frequency, 1.0
    match rope.type:
        case "linear":
            return frequency / np.float32(rope.factor), 1.0
        case "llama3":
            return _llama3(frequency, rope), 1.0
        case _:
            return _yarn(frequency, rope, cfg)


def _llama3(frequency: np.ndarray, rope: RopeScaling) -> np.ndarray:
    """Long wavelengths are divided, short ones kept, those between blended."""
    assert rope.original_max_position_embeddings
    assert rope.low_freq_factor
    assert rope.high_freq_factor
    turns = rope.original_max_position_embeddings * frequency / np.float32(2 * math.pi)
    share = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    share = np.clip(share, 0, 1).astype(np.float32)
    return (1 - share) * frequency / np.float32(rope.factor) + share * frequency


def _yarn(frequency: np.ndarray, rope: RopeScaling, cfg: ModelConfig) -> tuple[np.ndarray, float]:
    trained = rope.original_max_position_embeddings
    assert trained

    def pair_of(turns: float) -> float:  # the pair that turns so often over the trained length
        return cfg.rope_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(cfg.rope_theta))

    low, high = pair_of(rope.beta_fast), pair_of(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, cfg.rope_dim - 1)
    ramp = (np.arange(cfg.rope_dim // 2, dtype=np.float32) - low) / (high - low or 0.001)
    stretched = np.clip(ramp, 0, 1)
    mixed = frequency / np.float32(rope.factor) * stretched + frequency * (1 - stretched)
    factor = rope.attention_factor
    if factor is None:
        factor = _mscale(rope.factor, 1.0)
        if rope.mscale and rope.mscale_all_dim:
            factor = _mscale(rope.factor, rope.mscale) / _mscale(rope.factor, rope.mscale_all_dim)
    return mixed.astype(np.float32), factor


def _mscale(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _dynamic(length_B: jax.Array, cfg: ModelConfig) -> jax.Array:
    """float32 [B, width / 2]; the base grows once a row is longer than the model was trained for."""
    assert cfg.rope_scaling
    factor, trained, width = cfg.rope_scaling.factor, cfg.max_position_embeddings, cfg.rope_dim
    stretch = factor * jnp.maximum(length_B, trained) / trained - (factor - 1)
    base = cfg.rope_theta * stretch ** (width / (width - 2))
    return 1.0 / base[:, None] ** _exponent(cfg)
