"""The parameter tree of a decoder, and what is declared about each leaf.

Shape legend: L layers, V vocabulary, D hidden, N query heads, K key/value heads, H head width, F MLP width,
E experts, R rank of an adapter, C width of a latent.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax


@dataclasses.dataclass(frozen=True)
class ParamSpec:
    """Everything known about one parameter before it has a value.

    Attributes:
      shape: full shape; a per-layer parameter carries the leading layer axis, an expert's the expert axis
        next.
      axes: logical axis name of each dimension (see `parallel.rules.ShardingRules`).
      init: "normal", "normal_residual" (smaller by sqrt(2 * layers); block outputs), "ones" or "zeros".
      decay: weight decay applies.
      lora: a LoRA adapter may stand on it.
      hf: name in a Hugging Face checkpoint; "{layer}" and "{expert}" stand for the indices.
      transform: "none", or "transpose" where Hugging Face stores [out, in] and we store [in, out].
      per_layer: stacked on a leading axis here, one tensor per layer there.
      per_expert: stacked on the axis after that here, one tensor per expert there.
      first_layer: number of the layer that index 0 stands for.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: str
    decay: bool
    lora: bool
    hf: str
    transform: str
    per_layer: bool
    per_expert: bool = False
    first_layer: int = 0


@flax.struct.dataclass
class Adapted:
    """A matrix with a low-rank addition (LoRA, arXiv:2106.09685): x @ w + (drop(x) @ a) @ b * scale.

    It stands in the place of a matrix of `Params`; every product of the forward pass goes through
    `models.adapted.product`, which knows it. `models.lora` makes and takes apart such trees.

    Attributes:
      w: None in a tree of adapters without their model.
      keys: one random key per row of the batch; only in a training step with dropout.
      dropout: share of the inputs of `a` that are dropped where there are `keys`.
    """

    w: Any  # [..., in, out]
    a: Any  # [..., in, R]
    b: Any  # [..., R, out]
    scale: float = flax.struct.field(pytree_node=False, default=1.0)
    keys: Any = None  # [..., B]
    dropout: float = flax.struct.field(pytree_node=False, default=0.0)


@flax.struct.dataclass
class Quantized:
    """A frozen matrix in 8 or 4 bits; `models.quantized` makes and reads it."""

    array: Any  # qwix.QArray: qvalue [..., in, out], scale [..., in / block, out]


@flax.struct.dataclass
class Attention:
    """Projections of grouped-query attention; matrices are [in, out]."""

    q: Any  # [D, N*H]
    k: Any  # [D, K*H]
    v: Any  # [D, K*H]
    o: Any  # [N*H, D]
    q_bias: Any = None  # [N*H]
    k_bias: Any = None  # [K*H]
    v_bias: Any = None  # [K*H]
    q_norm: Any = None  # [H]
    k_norm: Any = None  # [H]


@flax.struct.dataclass
class LatentAttention:
    """Projections of multi-head latent attention; `q` or the three of the bottleneck are None."""

    kv_a: Any  # [D, C + rope]: the latent and the key part that all heads share
    kv_a_norm: Any  # [C]
    kv_b: Any  # [C, N * (nope + v)]
    o: Any  # [N*v, D]
    q: Any = None  # [D, N*H]
    q_a: Any = None  # [D, q rank]
    q_a_norm: Any = None  # [q rank]
    q_b: Any = None  # [q rank, N*H]


@flax.struct.dataclass
class Mlp:
    """SwiGLU."""

    gate: Any  # [D, F]
    up: Any  # [D, F]
    down: Any  # [F, D]


@flax.struct.dataclass
class Moe:
    """Router and experts."""

    router: Any  # [D, E]
    gate: Any  # [E, D, F]
    up: Any  # [E, D, F]
    down: Any  # [E, F, D]
    bias: Any = None  # [E]; takes part in choosing only, so its gradient is zero
    shared: Mlp | None = None


@flax.struct.dataclass
class Layer:
    """One decoder block, or several stacked on a leading axis of L."""

    attn_norm: Any  # [D]
    attn: Any  # Attention or LatentAttention
    mlp_norm: Any  # [D]
    mlp: Any  # Mlp or Moe


@flax.struct.dataclass
class Params:
    """A whole decoder. `layers` is one stacked `Layer` (training) or a tuple of them (generation)."""

    embed: Any  # [V, D]
    layers: Any
    final_norm: Any  # [D]
    head: Any = None  # [D, V]; None when tied to embed
    dense_layers: Any = None  # stacked plain layers below `layers` (DeepSeek); None elsewhere


def unstack(params: Params) -> Params:
    """Per-layer arrays instead of stacked ones. Call it outside `jax.jit`: inside, every step copies."""
    if isinstance(params.layers, tuple):
        return params
    stacks = [stack for stack in (params.dense_layers, params.layers) if stack is not None]
    layers = tuple(
        jax.tree.map(lambda a, i=i: a[i], stack) for stack in stacks for i in range(stack.attn_norm.shape[0])
    )
    return dataclasses.replace(params, layers=layers, dense_layers=None)
