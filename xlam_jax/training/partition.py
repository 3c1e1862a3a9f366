"""Which parameters are trained: one tree to differentiate, one that only takes part in the forward pass.

A leaf that is not in a tree is None there, so both keep the shape of `Params`, optax holds no state for what
is frozen, and no gradient of it is ever computed. With LoRA the trained tree is one of adapters, see
`models.lora`, and the frozen one whole.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import is_adapted
from xlam_jax.models.params import Layer, Params
from xlam_jax.models.spec import leaves, path_name


@flax.struct.dataclass
class Frozen:
    """`params`: leaves that keep their values, None elsewhere. `below`: the lowest layers, or None."""

    params: Any
    below: Layer | None = None


def check(cfg: ModelConfig, freeze: Sequence[str], freeze_layers: int) -> None:
    """Raises InputError for a glob that matches nothing, too many layers, or nothing left to train."""
    names = list(leaves(cfg))
    for glob in freeze:
        if not fnmatch.filter(names, glob):
            raise InputError(
                f"no parameter matches {glob!r}", where="freeze", hint="known: " + ", ".join(names)
            )
    if freeze_layers and cfg.dense_layers:
        raise InputError(
            "freeze_layers is not supported for models with dense layers below their experts",
            where="freeze_layers",
            hint="freeze: ['dense_layers.*'] keeps the dense layers' values",
        )
    if freeze_layers >= cfg.num_layers:
        raise InputError(
            f"freeze_layers is {freeze_layers}, the model has {cfg.num_layers} layers",
            where="freeze_layers",
            hint=f"at most {cfg.num_layers - 1}; freeze: ['layers.*'] freezes all",
        )
    if all(_is_frozen(name, cfg, freeze, freeze_layers) for name in names):
        raise InputError("every parameter is frozen", where="freeze", hint="leave something to train")


def _is_frozen(name: str, cfg: ModelConfig, freeze: Sequence[str], freeze_layers: int) -> bool:
    # Below frozen layers the input embedding gets no gradient; only a tied table is still trained, as the
    # head.
    cut_off = freeze_layers > 0 and name == "embed" and not cfg.tie_embeddings
    return cut_off or any(fnmatch.fnmatch(name, glob) for glob in freeze)


def split(params: Any, cfg: ModelConfig, freeze: Sequence[str], freeze_layers: int) -> tuple[Any, Frozen]:
    """(trainable, frozen) of a `Params` of arrays with stacked layers, or of anything shaped like it whose
    leaves are not sliced (shardings, masks: use `split_like`).

    Args:
      freeze: globs over parameter paths that are not trained, the config key `freeze`.
      freeze_layers: so many of the lowest layers stay, too; their slices of each stack go to `Frozen.below`.
    """
    below = jax.tree.map(lambda a: a[:freeze_layers], params.layers) if freeze_layers else None
    if freeze_layers:
        params = dataclasses.replace(params, layers=jax.tree.map(lambda a: a[freeze_layers:], params.layers))
    trainable, rest = _part(params, cfg, freeze, freeze_layers)
    return trainable, Frozen(rest, below)


def split_like(tree: Any, cfg: ModelConfig, freeze: Sequence[str], freeze_layers: int) -> tuple[Any, Frozen]:
    """As `split`, for a tree with one value per parameter, layers not sliced: shardings, decay masks.

    Args:
      freeze, freeze_layers: as in `split`.
    """
    trainable, rest = _part(tree, cfg, freeze, freeze_layers)
    return trainable, Frozen(rest, tree.layers if freeze_layers else None)


def _part(tree: Any, cfg: ModelConfig, freeze: Sequence[str], freeze_layers: int) -> tuple[Any, Any]:
    def frozen(path: tuple) -> bool:
        return _is_frozen(path_name(path), cfg, freeze, freeze_layers)

    keep = jax.tree_util.tree_map_with_path(lambda path, x: None if frozen(path) else x, tree)
    rest = jax.tree_util.tree_map_with_path(lambda path, x: x if frozen(path) else None, tree)
    return keep, rest


def combine(trainable: Any, frozen: Frozen) -> Params:
    """The parameters above `frozen.below`, to be given to the forward pass together with it."""

    def leaf(t: Any, f: Any) -> Any:
        if t is None:
            return f
        return t.replace(w=f) if is_adapted(t) else t

    return jax.tree.map(leaf, trainable, frozen.params, is_leaf=lambda x: x is None or is_adapted(x))


def merge(trainable: Any, frozen: Frozen) -> Params:
    """Inverse of `split`: whole `Params`, layers stacked again."""
    params = combine(trainable, frozen)
    if frozen.below is None:
        return params
    layers = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), frozen.below, params.layers)
    return dataclasses.replace(params, layers=layers)
