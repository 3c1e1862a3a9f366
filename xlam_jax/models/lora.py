"""LoRA (arXiv:2106.09685): adapters as a tree of their own, and how they meet their model.

A tree of adapters is shaped like `Params`: an `Adapted` without `w` where an adapter stands, None elsewhere.
So it can be differentiated, optimised and saved alone, and `attach` puts it on a model without touching that.

Shape legend: L layers, E experts, R rank.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import math
import zlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from pydantic import Field

from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Adapted, Params, ParamSpec, Quantized
from xlam_jax.models.quantized import axes, dequantize, quantize
from xlam_jax.models.spec import leaves, lora_targets, path_name, spec
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules, to_sharding

ALL = "all-linear"


class LoraConfig(Config):
    """Which matrices carry adapters, and of what kind.

    Attributes:
      rank: R; an adapter of an [in, out] matrix has R * (in + out) parameters.
      alpha: the low-rank product is multiplied by alpha / rank.
      rslora: by alpha / sqrt(rank) instead (arXiv:2312.03732).
      dropout: share of the low-rank path's inputs that are dropped while training. Not for experts.
      targets: each a class ("attention", "mlp", "experts", "router"), "all-linear" (these four), a parameter
        path or glob ("layers.attn.q", "layers.attn.*"), or a Hugging Face module's name ("q_proj", "w1").
      init: of the first factor, as in PEFT: "kaiming" is uniform within 1 / sqrt(in), "gaussian" has a
        standard deviation of 1 / rank. The second factor starts at zero.
      quantize: holds the matrices of the base's layers, adapted or not, in "int8" or "nf4" (QLoRA); routers,
        norms, embedding and head stay as they are. Needs qwix.
    """

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    rslora: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = Field(default=(ALL,), min_length=1)
    init: Literal["kaiming", "gaussian"] = "kaiming"
    quantize: Literal["int8", "nf4"] | None = None

    @property
    def scale(self) -> float:
        """What the low-rank product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


def class_of(path: str, s: ParamSpec) -> str:
    """ "attention", "mlp" (shared experts too), "experts" or "router"."""
    if s.per_expert:
        return "experts"
    if path.endswith(".router"):
        return "router"
    return "attention" if ".attn." in path else "mlp"


def target_paths(cfg: ModelConfig, lora: LoraConfig) -> tuple[str, ...]:
    """Paths of the adapted matrices, in tree order.

    Raises:
      InputError: a target that matches nothing; dropout on experts.
    """
    modules = lora_targets(cfg)
    table = leaves(cfg)
    classes = {path: class_of(path, table[path]) for path in modules}
    chosen: set[str] = set()
    for target in lora.targets:
        matches = {
            path
            for path, module in modules.items()
            if target in (ALL, module, classes[path]) or fnmatch.fnmatch(path, target)
        }
        if not matches:
            raise _unmatched(target, modules, sorted(set(classes.values())), cfg)
        chosen |= matches
    if lora.dropout and any(classes[path] == "experts" for path in chosen):
        raise InputError(
            "dropout is not supported on experts",
            where="lora.dropout",
            hint="dropout: 0, or targets without the experts; PEFT refuses it for fused experts too",
        )
    return tuple(path for path in modules if path in chosen)


def _unmatched(target: str, modules: dict[str, str], classes: list[str], cfg: ModelConfig) -> InputError:
    known = [ALL, *classes, *dict.fromkeys(modules.values()), *modules]
    near = difflib.get_close_matches(target, known, n=1, cutoff=0.75)
    return InputError(
        f"LoRA target {target!r} matches no matrix of this {cfg.family} model",
        where="lora.targets",
        hint=(f"{near[0]}? " if near else "") + "known: " + ", ".join(known),
    )


def adapter_shapes(
    cfg: ModelConfig, lora: LoraConfig, dtype: Any = jnp.float32, mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
) -> Params:  # fmt: skip
    """A tree of adapters of `jax.ShapeDtypeStruct`, placed when there is a mesh: a's rows lie as the matrix's
    rows, b's columns as its columns, the rank is whole everywhere.

    Args:
      dtype: of the adapters.
      mesh: None for shapes without a place.
      rules: None for `DEFAULT_RULES`.
    """
    chosen = set(target_paths(cfg, lora))

    def array(shape: tuple[int, ...], axes: tuple[str | None, ...]) -> jax.ShapeDtypeStruct:
        place = None if mesh is None else to_sharding(axes, mesh, rules or DEFAULT_RULES, shape)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    def leaf(path: tuple, s: ParamSpec) -> Any:
        if path_name(path) not in chosen:
            return None
        *lead, fan_in, fan_out = s.shape
        *lead_axes, axis_in, axis_out = s.axes
        return Adapted(
            w=None,
            a=array((*lead, fan_in, lora.rank), (*lead_axes, axis_in, None)),
            b=array((*lead, lora.rank, fan_out), (*lead_axes, None, axis_out)),
            scale=lora.scale,
            dropout=lora.dropout,
        )

    return jax.tree_util.tree_map_with_path(leaf, spec(cfg))


def init_adapters(
    cfg: ModelConfig,
    lora: LoraConfig,
    key: jax.Array,
    *,
    dtype: Any = jnp.float32,
    mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
) -> Params:
    """Fresh adapters that change nothing yet; values depend on `key` and the path, not on the mesh.

    Args:
      key: a PRNG key.
      dtype: of the adapters.
      mesh, rules: placement as in `adapter_shapes`; without a mesh all goes to the default device.
    """
    shapes = adapter_shapes(cfg, lora, dtype, mesh, rules)

    def make(key: jax.Array) -> Params:
        def leaf(path: tuple, s: jax.ShapeDtypeStruct) -> jax.Array:
            name = path_name(path)
            if name.endswith(".b"):
                return jnp.zeros(s.shape, dtype)
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            if lora.init == "gaussian":
                return (jax.random.normal(own, s.shape) / lora.rank).astype(dtype)
            bound = 1 / math.sqrt(s.shape[-2])
            return jax.random.uniform(own, s.shape, minval=-bound, maxval=bound).astype(dtype)

        return jax.tree_util.tree_map_with_path(leaf, shapes)

    adapter_shardings = None if mesh is None else jax.tree.map(lambda s: s.sharding, shapes)
    return jax.jit(make, out_shardings=adapter_shardings)(key)


def is_adapted(x: Any) -> bool:
    return isinstance(x, Adapted)


def has_adapters(tree: Any) -> bool:
    """Whether an `Adapted` stands anywhere in a tree."""
    return any(is_adapted(x) for x in jax.tree.leaves(tree, is_leaf=is_adapted))


def attach(params: Params, adapters: Params) -> Params:
    """The model with its adapters: `params` with an `Adapted` wherever `adapters` (stacked) have one."""
    if isinstance(params.layers, tuple):
        adapters = _unstacked(adapters, len(params.layers))
    return jax.tree.map(
        lambda adapter, w: w if adapter is None else adapter.replace(w=w),
        adapters,
        params,
        is_leaf=lambda x: x is None or is_adapted(x),
    )


def _unstacked(adapters: Params, count: int) -> Params:
    stacks = [s for s in (adapters.dense_layers, adapters.layers) if s is not None]
    sizes = [next((x.shape[0] for x in jax.tree.leaves(stack)), None) for stack in stacks]
    known = sum(size for size in sizes if size is not None)
    layers = tuple(
        jax.tree.map(lambda x, i=i: x[i], stack)
        for stack, size in zip(stacks, sizes, strict=True)
        for i in range(count - known if size is None else size)
    )
    return dataclasses.replace(adapters, layers=layers, dense_layers=None)


def base(params: Params) -> Params:
    """The model with its adapters off, sharing every array: DPO's reference."""
    return jax.tree.map(lambda x: x.w if is_adapted(x) else x, params, is_leaf=is_adapted)


def merge(params: Params) -> Params:
    """The model with its adapters added to their matrices and quantised ones expanded: plain arrays, the same
    function. Sums are float32, cast to the matrix's dtype; one matrix of a stack at a time.

    A model without adapters comes back as it is.
    """

    def leaf(x: Any) -> Any:
        if isinstance(x, Adapted | Quantized):
            return _merge(x)
        return x

    return jax.tree.map(leaf, params, is_leaf=lambda x: isinstance(x, Adapted | Quantized))


@jax.jit
def _merge(x: Any) -> jax.Array:
    def one(x: Any) -> jax.Array:
        if (x.a if is_adapted(x) else x.array.qvalue).ndim > 2:
            return jax.lax.map(one, x)
        if not is_adapted(x):
            return _plain(x)
        w = _plain(x.w)
        low = jnp.matmul(x.a.astype(jnp.float32), x.b.astype(jnp.float32), precision="highest")
        return (w.astype(jnp.float32) + low * x.scale).astype(w.dtype)

    return one(x.replace(keys=None) if is_adapted(x) else x)


def _plain(w: Any) -> jax.Array:
    return dequantize(w, w.array.scale.dtype) if isinstance(w, Quantized) else w


def with_dropout(params: Params, step: Any, tokens_BS: jax.Array, seed: int = 0) -> Params:
    """Gives every adapter with dropout a key for each row: masks depend on the seed, the step, the row's
    tokens, the layer and the path, so neither on the devices nor on how a step is cut into micro-batches.

    Args:
      params: with their adapters attached, see `attach`.
      step: of the run, a number or a traced scalar.
      tokens_BS: int32, of the micro-batch.
      seed: of the run.
    """
    if not any(x.dropout for x in jax.tree.leaves(params, is_leaf=is_adapted) if is_adapted(x)):
        return params
    seeds_B = _row_seeds(tokens_BS)

    def leaf(path: tuple, x: Any) -> Any:
        if not is_adapted(x) or not x.dropout:
            return x
        key = jax.random.fold_in(jax.random.key(zlib.crc32(path_name(path).encode()) ^ seed % 2**32), step)
        layers = jax.random.split(key, x.a.shape[:-2])
        keys = jax.vmap(lambda key: jax.vmap(lambda seed: jax.random.fold_in(key, seed))(seeds_B))
        return x.replace(keys=keys(layers))

    return jax.tree_util.tree_map_with_path(leaf, params, is_leaf=is_adapted)


def _row_seeds(tokens_BS: jax.Array) -> jax.Array:
    """uint32 [B] from the tokens of each row and their order."""
    place = jnp.arange(tokens_BS.shape[1], dtype=jnp.uint32)
    mixed = (tokens_BS.astype(jnp.uint32) + place * jnp.uint32(0x9E3779B9)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35)
    return (mixed ^ (mixed >> 13)).sum(axis=1, dtype=jnp.uint32)


def count_adapters(cfg: ModelConfig, lora: LoraConfig) -> int:
    """Number of trained scalars."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(adapter_shapes(cfg, lora)))


def quantize_base(
    params: Params, cfg: ModelConfig, lora: LoraConfig, mesh: Mesh | None = None, *, take: bool = False
) -> Params:  # fmt: skip
    """The base with its layers' matrices in the bits that `lora.quantize` names; as it is without that.

    Args:
      take: delete each matrix once it is quantised, so that no two whole models are held.

    Raises:
      InputError: qwix is not installed.
    """
    if lora.quantize is None:
        return params
    kind, table = lora.quantize, leaves(cfg)
    chosen = {path for path in lora_targets(cfg) if class_of(path, table[path]) != "router"}
    shaped = jax.tree_util.tree_map_with_path(
        lambda path, w: jax.eval_shape(lambda w: quantize(w, kind), w) if path_name(path) in chosen else w,
        params,
    )

    def leaf(path: tuple, w: Any, place: Any) -> Any:
        if path_name(path) not in chosen:
            return w
        quantized = jax.jit(lambda w: quantize(w, kind), out_shardings=place)(w)
        if take:
            jax.block_until_ready(quantized)
            w.delete()
        return quantized

    if mesh is None:
        return jax.tree_util.tree_map_with_path(lambda path, w: leaf(path, w, None), params)
    return jax.tree_util.tree_map_with_path(leaf, params, base_shardings(shaped, cfg, mesh))


def base_shardings(base: Params, cfg: ModelConfig, mesh: Mesh, rules: ShardingRules | None = None) -> Params:
    """`NamedSharding` at every array of a base model, some of whose matrices may be quantised.

    Scales lie as their matrices do, but are whole along a dimension whose blocks do not split over the mesh.

    Args:
      base: arrays or their shapes, `Quantized` where a matrix is quantised.
      rules: None for `DEFAULT_RULES`.
    """
    rules = rules or DEFAULT_RULES

    def place(x: Any, names: tuple[str | None, ...]) -> NamedSharding:
        full = to_sharding(names, mesh, rules).spec
        split = [axis if n % _ways(axis, mesh) == 0 else None for n, axis in zip(x.shape, full, strict=True)]
        return NamedSharding(mesh, PartitionSpec(*split))

    def leaf(s: ParamSpec, w: Any) -> Any:
        if isinstance(w, Quantized):
            return jax.tree.map(place, w, axes(w, s.axes))
        return to_sharding(s.axes, mesh, rules, w.shape)

    return jax.tree.map(leaf, spec(cfg), base)


def _ways(axis: Any, mesh: Mesh) -> int:
    return math.prod(mesh.shape[name] for name in ((axis,) if isinstance(axis, str) else axis or ()))
