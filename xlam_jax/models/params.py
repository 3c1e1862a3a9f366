"""The parameter tree of a decoder, and what is declared about each leaf.

Shape legend: L layers, V vocabulary, D hidden, N query heads, K key/value heads, H head width, F MLP width.
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
      shape: full shape; a per-layer parameter carries the leading layer axis.
      axes: logical axis name of each dimension (see `parallel.rules.ShardingRules`).
      init: "normal", "normal_residual" (smaller by sqrt(2 * layers); block outputs) or "ones".
      decay: weight decay applies.
      lora: a LoRA adapter may stand on it.
      hf: name in a Hugging Face checkpoint; "{layer}" stands for the layer index.
      transform: "none", or "transpose" where Hugging Face stores [out, in] and we store [in, out].
      per_layer: stacked on a leading axis here, one tensor per layer there.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: str
    decay: bool
    lora: bool
    hf: str
    transform: str
    per_layer: bool


@flax.struct.dataclass
class Layer:
    """One decoder block, or all of them stacked on a leading axis of L. Matrices are [in, out]."""

    attn_norm: Any  # [D]
    q: Any  # [D, N*H]
    k: Any  # [D, K*H]
    v: Any  # [D, K*H]
    o: Any  # [N*H, D]
    mlp_norm: Any  # [D]
    gate: Any  # [D, F]
    up: Any  # [D, F]
    down: Any  # [F, D]


@flax.struct.dataclass
class Params:
    """A whole decoder. `layers` is one stacked `Layer` (training) or a tuple of them (generation)."""

    embed: Any  # [V, D]
    layers: Any
    final_norm: Any  # [D]
    head: Any = None  # [D, V]; None when tied to embed


def unstack(params: Params) -> Params:
    """Per-layer arrays instead of stacked ones. Call it outside `jax.jit`: inside, every step copies."""
    if isinstance(params.layers, tuple):
        return params
    count = params.layers.attn_norm.shape[0]
    return params.replace(  # pyright: ignore[reportAttributeAccessIssue]
        layers=tuple(jax.tree.map(lambda a, i=i: a[i], params.layers) for i in range(count))
    )
