"""The two halves of a decoder block, as pure functions over one `Layer`.

Norms, softmax, rotary angles and the router are float32; matrix products run in the dtype of the residual
stream.

Shape legend: B rows, S positions, D hidden, N query heads, K key/value heads, H head width, F MLP width,
C width of a latent, E experts.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from xlam_jax.models import adapted
from xlam_jax.models.config import LatentConfig, ModelConfig
from xlam_jax.models.params import LatentAttention, Layer, Mlp, Moe
from xlam_jax.models.rope import rope_angles, rotate
from xlam_jax.parallel.active import active_mesh, context_ways

# Names a remat policy "names:..." may save.
SAVEABLE_NAMES = ("attn_in", "qkv", "attn_out", "attn_residual", "mlp_in", "mlp_hidden", "moe_out")
Heads = tuple[jax.Array, jax.Array, jax.Array]
_LATENT_EPS = 1e-6  # transformers does not take the config's for the norms inside latent attention


def product(x: jax.Array, w: Any) -> jax.Array:
    """x [..., in] @ w [in, out] in the dtype of x; `w` may be any that `models.adapted.product` takes."""
    return adapted.product(_matmul, x, w)


def _matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    # The cast stands at the use, so a scan over fp32 weights holds one layer in the compute dtype at a time.
    w = w.astype(x.dtype)
    if context_ways(active_mesh()) > 1:
        # Rows and positions that are both split make no axis: XLA would gather all positions of each row.
        return x @ w
    # Two dimensions: the weight gradient of a three-dimensional product makes XLA transpose its operands.
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) over the last axis, in float32."""
    x32 = x.astype(jnp.float32)
    normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    return (normed * scale.astype(jnp.float32)).astype(x.dtype)


def attention_inputs(
    layer: Layer, x_BSD: jax.Array, positions: jax.Array | tuple[jax.Array, jax.Array], cfg: ModelConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pre-norm, projections and rotation of the residual stream.

    Args:
      layer: one layer, not a stack.
      x_BSD: the residual stream before the block (the norm is applied here).
      positions: int32 [B, S], or the result of `rope_angles` when several layers share it.

    Returns:
      q [B, S, N, H] and k [B, S, K, H], rotated; v [B, S, K, value width]; all in the dtype of x. Latent
      attention gives every query head its own key and value.
    """
    with jax.named_scope("qkv"):
        h_BSD = checkpoint_name(rms_norm(x_BSD, layer.attn_norm, cfg.rms_norm_eps), "attn_in")
        angles = positions if isinstance(positions, tuple) else rope_angles(positions, cfg)
        if cfg.latent:
            return _latent_inputs(layer.attn, h_BSD, angles, cfg, cfg.latent)
        return _plain_inputs(layer.attn, h_BSD, angles, cfg)


def _plain_inputs(attn: Any, h_BSD: jax.Array, angles: tuple, cfg: ModelConfig) -> Heads:
    B, S, _ = h_BSD.shape

    def heads(w: Any, bias: Any, count: int) -> jax.Array:
        out = product(h_BSD, w)
        out = out if bias is None else out + bias.astype(out.dtype)
        return checkpoint_name(out, "qkv").reshape(B, S, count, cfg.head_dim)

    q = heads(attn.q, attn.q_bias, cfg.num_heads)
    k = heads(attn.k, attn.k_bias, cfg.num_kv_heads)
    v = heads(attn.v, attn.v_bias, cfg.num_kv_heads)
    if cfg.qk_norm:
        q, k = rms_norm(q, attn.q_norm, cfg.rms_norm_eps), rms_norm(k, attn.k_norm, cfg.rms_norm_eps)
    return rotate(q, *angles), rotate(k, *angles), v


def _latent_inputs(
    attn: LatentAttention, h_BSD: jax.Array, angles: tuple, cfg: ModelConfig, latent: LatentConfig
) -> Heads:
    B, S, _ = h_BSD.shape
    N, nope = cfg.num_heads, latent.nope_head_dim
    if attn.q is None:
        narrow = rms_norm(product(h_BSD, attn.q_a), attn.q_a_norm, _LATENT_EPS)
        q = product(narrow, attn.q_b)
    else:
        q = product(h_BSD, attn.q)
    q = checkpoint_name(q, "qkv").reshape(B, S, N, cfg.head_dim)
    q_rot = rotate(q[..., nope:], *angles, interleaved=True)
    c_BSC = product(h_BSD, attn.kv_a)
    k_rot = rotate(c_BSC[:, :, None, latent.kv_rank :], *angles, interleaved=True)
    kv = product(rms_norm(c_BSC[..., : latent.kv_rank], attn.kv_a_norm, _LATENT_EPS), attn.kv_b)
    kv = checkpoint_name(kv, "qkv").reshape(B, S, N, nope + latent.v_head_dim)
    k = jnp.concatenate([kv[..., :nope], jnp.broadcast_to(k_rot, (B, S, N, k_rot.shape[-1]))], axis=-1)
    return jnp.concatenate([q[..., :nope], q_rot], axis=-1), k, kv[..., nope:]


def attention_output(layer: Layer, x_BSD: jax.Array, out_BSNH: jax.Array) -> jax.Array:
    """The residual stream after attention: x + concat(heads) @ o."""
    B, S, _ = x_BSD.shape
    with jax.named_scope("attention_out"):
        out = out_BSNH.reshape(B, S, -1).astype(x_BSD.dtype)  # named, where it is made, by its backend
        return checkpoint_name(x_BSD + product(out, layer.attn.o), "attn_residual")


def mlp_block(
    layer: Layer, x_BSD: jax.Array, cfg: ModelConfig, mask_BS: jax.Array | None = None, **experts: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The residual stream after the block's second half: x + mlp(norm(x)).

    Args:
      mask_BS: False for padding, which is sent to no expert and not counted; None: everything counts.
      experts: options of `models.experts.moe_ffn`.

    Returns:
      (residual stream, sums over tokens for a mixture: "router_count" and "router_prob" [E], "router_tokens";
      empty for a plain MLP).
    """
    with jax.named_scope("mlp"):
        h_BSD = checkpoint_name(rms_norm(x_BSD, layer.mlp_norm, cfg.rms_norm_eps), "mlp_in")
        if isinstance(layer.mlp, Moe):
            y_BSD, sums = _moe(layer.mlp, h_BSD, cfg, mask_BS, experts)
            return x_BSD + y_BSD, sums
        return x_BSD + swiglu(layer.mlp, h_BSD), {}


def swiglu(mlp: Mlp, h: jax.Array) -> jax.Array:
    """(silu(h gate) * (h up)) @ down."""
    gate = checkpoint_name(product(h, mlp.gate), "mlp_hidden")
    up = checkpoint_name(product(h, mlp.up), "mlp_hidden")
    return product(jax.nn.silu(gate) * up, mlp.down)


def _moe(
    moe: Moe, h_BSD: jax.Array, cfg: ModelConfig, mask_BS: jax.Array | None, options: dict[str, Any]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    from xlam_jax.models.experts import moe_ffn
    from xlam_jax.models.routing import route

    assert cfg.moe
    if mask_BS is None:
        mask_BS = jnp.ones(h_BSD.shape[:2], bool)
    routing = route(h_BSD, moe.router, cfg.moe, mask_BS, moe.bias)
    y_BSD, stats = moe_ffn(h_BSD, routing, moe, cfg.moe, mask_BS=mask_BS, **options)
    y_BSD = checkpoint_name(y_BSD, "moe_out")
    if moe.shared is not None:
        y_BSD = y_BSD + swiglu(moe.shared, h_BSD)
    sums = {"router_count": routing.count_E, "router_prob": routing.prob_E, "router_tokens": routing.tokens}
    return y_BSD, sums | {f"moe_{k}": v for k, v in stats.items()}
