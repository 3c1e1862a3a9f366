"""One table per family, and everything that is derived from it.

Initial values, shardings, counts, optimizer masks, LoRA targets and Hugging Face names all come from the
`ParamSpec` leaves of `spec(cfg)`, so a parameter is declared once.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from xlam_jax.errors import InputError
from xlam_jax.models import deepseek, llama, mixtral
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params, ParamSpec
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules, to_sharding

_TABLES = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), llama.table),
    **dict.fromkeys(("mixtral", "qwen3_moe"), mixtral.table),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), deepseek.table),
}


def spec(cfg: ModelConfig) -> Params:
    """A `Params` with a `ParamSpec` at every leaf (`head` is None when tied)."""
    return _TABLES[cfg.family](cfg)


def leaves(cfg: ModelConfig) -> dict[str, ParamSpec]:
    """Dotted path ("layers.attn.q", "embed", ...) -> spec, in tree order."""
    flat, _ = jax.tree_util.tree_flatten_with_path(spec(cfg))
    return {path_name(path): leaf for path, leaf in flat}


def path_name(path: tuple[Any, ...]) -> str:
    """The dotted name of a key path of `jax.tree_util`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def count_params(cfg: ModelConfig) -> int:
    """Number of scalars, tied embeddings counted once."""
    return sum(math.prod(s.shape) for s in leaves(cfg).values())


def count_active_params(cfg: ModelConfig) -> int:
    """Number of scalars that one token meets: of a layer's experts only those it is sent to."""
    share = cfg.moe.experts_per_token / cfg.moe.num_experts if cfg.moe else 1
    sizes = ((math.prod(s.shape), s.per_expert) for s in leaves(cfg).values())
    return sum(round(size * share) if per_expert else size for size, per_expert in sizes)


def shapes(cfg: ModelConfig, dtype: Any = jnp.float32) -> Params:
    """`jax.ShapeDtypeStruct` at every leaf."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype), spec(cfg))


def shardings(cfg: ModelConfig, mesh: Mesh, rules: ShardingRules | None = None) -> Params:
    """`NamedSharding` at every leaf.

    Raises:
      InputError: a dimension that does not divide by its mesh axes, or colliding rules.
    """
    rules = rules or DEFAULT_RULES
    return jax.tree.map(lambda s: to_sharding(s.axes, mesh, rules, s.shape), spec(cfg))


def decay_mask(cfg: ModelConfig) -> Params:
    """True where weight decay applies: matrices and tables, not norms."""
    return jax.tree.map(lambda s: s.decay, spec(cfg))


def lora_targets(cfg: ModelConfig) -> dict[str, str]:
    """Dotted path -> PEFT's name of the module ("layers.attn.q" -> "q_proj"), for leaves that may carry LoRA."""
    return {path: s.hf.split(".")[-2] for path, s in leaves(cfg).items() if s.lora}


def init(
    cfg: ModelConfig,
    key: jax.Array,
    *,
    dtype: Any = jnp.float32,
    mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
) -> Params:
    """Fresh parameters, made by one jit that writes every shard where it belongs.

    Matrices are drawn from a normal of `cfg.initializer_range` cut at 3 standard deviations; a leaf's values
    depend on `key` and its path only, not on the mesh.

    Args:
      key: a PRNG key.
      dtype: of every leaf.
      mesh: None for the default device.
      rules: None for `DEFAULT_RULES`.
    """
    table = spec(cfg)

    def make(key: jax.Array) -> Params:
        def leaf(path: tuple[Any, ...], s: ParamSpec) -> jax.Array:
            return draw(cfg, s, jax.random.fold_in(key, zlib.crc32(path_name(path).encode())), dtype)

        return jax.tree_util.tree_map_with_path(leaf, table)

    out = None if mesh is None else shardings(cfg, mesh, rules)
    return jax.jit(make, out_shardings=out)(key)


def draw(cfg: ModelConfig, s: ParamSpec, key: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """A fresh value of one leaf; drawn in float32, then cast.

    Args:
      cfg: gives the standard deviation, and the number of layers that "normal_residual" goes by.
      s: of the leaf; its shape and `init` are read.
      key: of this leaf alone.
    """
    if s.init in ("ones", "zeros"):
        return jnp.full(s.shape, float(s.init == "ones"), dtype)
    scale = cfg.initializer_range
    if s.init == "normal_residual":
        scale /= math.sqrt(2 * cfg.num_layers)
    return (scale * jax.random.truncated_normal(key, -3.0, 3.0, s.shape, jnp.float32)).astype(dtype)


class HfEntry(NamedTuple):
    """Where one Hugging Face tensor lives: `index` into the leading axes of leaf `path` (layer, then expert;
    empty when the leaf is the tensor itself)."""

    path: str
    index: tuple[int, ...]
    spec: ParamSpec
    shape: tuple[int, ...]  # of the tensor in the checkpoint


def hf_entries(cfg: ModelConfig) -> dict[str, HfEntry]:
    """Hugging Face tensor name -> its place in `Params`, layer by layer in the order of a forward pass."""
    table = leaves(cfg)

    def rows() -> Iterator[tuple[str, HfEntry]]:
        flat = [(path, s) for path, s in table.items() if not s.per_layer]
        yield from ((s.hf, _entry(path, (), s)) for path, s in flat if path == "embed")
        for layer in range(cfg.num_layers):
            for path, s in table.items():
                if s.per_layer and 0 <= layer - s.first_layer < s.shape[0]:
                    yield from _of_layer(path, layer, s)
        yield from ((s.hf, _entry(path, (), s)) for path, s in flat if path != "embed")

    return dict(rows())


def hf_count(cfg: ModelConfig) -> int:
    """How many tensors `hf_entries` names, without naming them."""
    return sum(math.prod(s.shape[: int(s.per_layer) + int(s.per_expert)]) for s in leaves(cfg).values())


def _of_layer(path: str, layer: int, s: ParamSpec) -> Iterator[tuple[str, HfEntry]]:
    index = (layer - s.first_layer,)
    if not s.per_expert:
        yield s.hf.format(layer=layer), _entry(path, index, s)
        return
    for expert in range(s.shape[1]):
        yield s.hf.format(layer=layer, expert=expert), _entry(path, (*index, expert), s)


def _entry(path: str, index: tuple[int, ...], s: ParamSpec) -> HfEntry:
    shape = s.shape[len(index) :]
    return HfEntry(path, index, s, shape[::-1] if s.transform == "transpose" else shape)


def hf_to_param(s: ParamSpec, array: Any) -> Any:
    """One Hugging Face tensor (one layer) in our orientation; a view for numpy arrays."""
    return array.T if s.transform == "transpose" else array


def param_to_hf(s: ParamSpec, array: Any) -> Any:
    """Inverse of `hf_to_param`."""
    return array.T if s.transform == "transpose" else array


def params_from_state_dict(state: Mapping[str, np.ndarray], cfg: ModelConfig, dtype: Any = None) -> Params:
    """Numpy `Params` from a whole Hugging Face state dict (small models; `release` streams large ones).

    Raises:
      InputError: a tensor that is missing, left over, or of the wrong shape.
    """
    entries = hf_entries(cfg)
    extra = set(state) - set(entries)
    if cfg.tie_embeddings:
        extra.discard("lm_head.weight")
    missing = set(entries) - set(state)
    if missing or extra:
        raise InputError(
            f"state dict does not fit the config: {len(missing)} missing, {len(extra)} unknown",
            where=", ".join(sorted(missing | extra)[:3]),
        )
    by_path: dict[str, list[np.ndarray]] = {}
    for name, entry in entries.items():
        array = np.asarray(state[name])
        if array.shape != entry.shape:
            raise InputError(f"tensor has shape {array.shape}, the config says {entry.shape}", where=name)
        by_path.setdefault(entry.path, []).append(hf_to_param(entry.spec, array))

    def leaf(path: tuple[Any, ...], s: ParamSpec) -> np.ndarray:
        arrays = by_path[path_name(path)]
        out = np.stack(arrays).reshape(s.shape) if s.per_layer else np.ascontiguousarray(arrays[0])
        return out if dtype is None else out.astype(dtype)

    return jax.tree_util.tree_map_with_path(leaf, spec(cfg))


def state_dict_from_params(params: Params, cfg: ModelConfig) -> dict[str, np.ndarray]:
    """Inverse of `params_from_state_dict`; `params` must be stacked and fit in host memory."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    arrays = {path_name(path): np.asarray(leaf) for path, leaf in flat}
    return {name: param_to_hf(e.spec, arrays[e.path][e.index]) for name, e in hf_entries(cfg).items()}
