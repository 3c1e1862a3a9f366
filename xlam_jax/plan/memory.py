"""Bytes on one device, part by part.

State (weights, moments) comes from the shapes and shardings of the real train state. What the backward pass
keeps comes from tracing the real objective at the shapes that one device sees: the residuals of its `vjp` are
what the chosen remat policy saves, in their own dtypes. Nothing is compiled and no device is needed.

What cannot be traced, the buffers that live for a moment, is a formula here (`working`), and is replaced by
the compiler's own number when `compiled.py` has measured a slice.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.experts.block import DEFAULT_SLACK
from xlam_jax.models.lora import LoraConfig, adapter_shapes
from xlam_jax.models.spec import leaves, shapes
from xlam_jax.parallel.mesh import AXES
from xlam_jax.plan.state import step_state
from xlam_jax.plan.work import Sizes, Work, ways
from xlam_jax.shards.batch import DTYPES, Batch
from xlam_jax.training import partition
from xlam_jax.training.objectives import sft_objective


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device while a step runs.

    Attributes:
      weights: stored parameters.
      optimizer: moments and counters.
      gradients: of the trained parameters; twice under accumulation.
      activations: kept from the forward to the backward pass.
      logits: chunk of logits and the gradient of the head.
      moe: gathered tokens of the expert exchange.
      working: gathered weights of a layer and the buffers of one layer's backward pass.
      batch: the packed rows.
    """

    weights: float
    optimizer: float
    gradients: float
    activations: float
    logits: float
    moe: float
    working: float
    batch: float

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self))

    @property
    def state(self) -> float:
        """What stays between steps."""
        return self.weights + self.optimizer

    @property
    def temporary(self) -> float:
        """What a compiler reports as temporaries."""
        return self.total - self.state - self.batch


def estimate(work: Work, sizes: Sizes) -> Memory:
    """Bytes of one device on a mesh of `sizes`, from traces and formulas alone.

    Raises:
      InputError: the mesh does not fit the model (a dimension that does not divide).
    """
    state = state_bytes(work, sizes)
    kept, once = activation_bytes(work, sizes)
    rows, t = work.micro_rows(sizes), sizes.get("tensor", 1)
    vocab, chunk = work.cfg.vocab_size // t, min(work.chunk, work.seq_len)
    logits = rows * chunk * vocab * 4 * _LOGIT_BUFFERS
    # The chunk of logits is gone before the first layer's backward pass begins; the head's gradient is not.
    layer = max(0.0, _working_bytes(work, sizes) - logits)
    return Memory(
        **state,
        activations=kept + once,
        logits=logits + (0 if work.lora else vocab * work.cfg.hidden_size * 4),
        moe=_exchange_bytes(work, sizes),
        working=layer,
        batch=5 * 4 * work.rows * work.seq_len / (ways(sizes) * sizes.get("context", 1)),
    )


_LOGIT_BUFFERS = 2  # the logits, and their gradient; exponentials are fused into it


@functools.lru_cache(maxsize=512)
def _state(work: Work, sizes: tuple[tuple[str, int], ...]) -> dict[str, float]:
    _, state, state_shardings = step_state(work, abstract_mesh(dict(sizes)))
    trained, frozen = (
        _on_device(state.params, state_shardings.params),
        _on_device(state.frozen, state_shardings.frozen),
    )
    copies = 2 if work.accumulation > 1 else 1
    return {
        "weights": trained + frozen,
        "optimizer": _on_device(state.opt_state, state_shardings.opt_state),
        "gradients": copies * trained,
    }


def state_bytes(work: Work, sizes: Sizes) -> dict[str, float]:
    """`weights`, `optimizer`, `gradients` of one device."""
    key = work.replace(rows=1, seq_len=1, remat="none", attention="xla", compute_dtype="float32", chunk=1)
    return _state(key, tuple(sizes.items()))


def activation_bytes(work: Work, sizes: Sizes) -> tuple[float, float]:
    """(bytes kept in stacks over layers, bytes kept once) of one device between forward and backward pass."""
    rows, t = work.micro_rows(sizes), sizes.get("tensor", 1)
    length = max(1, work.seq_len // sizes.get("context", 1))
    local = local_config(work.cfg, t)
    stacked, once, params = _residuals(
        local,
        length,
        work.remat,
        work.param_dtype,
        work.compute_dtype,
        work.chunk,
        work.lora,  # pyright: ignore[reportArgumentType]
    )
    fsdp, expert = sizes.get("fsdp", 1), sizes.get("expert", 1)
    routed = {s.shape for s in leaves(local).values() if s.per_expert}
    weights = Counter(params)
    kept = 0.0
    for shape, dtype in stacked:
        size = math.prod(shape) * _size(dtype)
        if weights[shape] == 0:
            kept += size * rows
            continue
        weights[shape] -= 1
        # A parameter itself is no copy of it; one cast for the products is, split as its parameter is.
        if dtype != work.param_dtype and not (work.lora and dtype == "float32"):
            kept += size / (fsdp * (expert if shape in routed else 1))
    if work.attention == "cudnn" and keeps_attention(work.remat):
        # Its statistics have a place for each document that a row may hold, where others have one for the row.
        kept += (work.max_segments - 1) * 4 * local.num_heads * length * local.num_layers * rows
    part = (work.cfg.num_layers - work.freeze_layers) / work.cfg.num_layers
    return kept * part, rows * sum(math.prod(shape) * _size(dtype) for shape, dtype in once)


def keeps_attention(remat: str) -> bool:
    """Whether a policy keeps what attention's backward pass wants."""
    return remat in ("none", "dots") or "attn_out" in remat


@functools.lru_cache(maxsize=256)
def _residuals(
    cfg: ModelConfig,
    length: int,
    remat: str,
    param_dtype: str,
    dtype: str,
    chunk: int,
    lora: LoraConfig | None,
) -> tuple[tuple, tuple, tuple]:
    """(shape, dtype) of what the objective's vjp keeps for one row: stacked over layers, and the others; then
    the shapes of the parameters themselves, which are among the first."""
    # Every attention backend keeps q, k, v, the output and the log-sum-exp.
    objective = sft_objective(cfg, remat=remat, compute_dtype=dtype, attention="xla", chunk=chunk)
    batch = Batch(*(jax.ShapeDtypeStruct((1, length), d) for d in DTYPES))
    base = shapes(cfg, param_dtype)
    trained = adapter_shapes(cfg, lora) if lora else base

    def pull(trained: Any, base: Any, batch: Batch) -> Any:
        def loss(trained: Any) -> Any:
            whole = partition.combine(trained, partition.Frozen(base)) if lora else trained
            total, *rest = objective(whole, batch)
            return total, rest

        return jax.vjp(loss, trained, has_aux=True)[1]

    traced = jax.eval_shape(pull, trained, base if lora else None, batch)
    kept = [(x.shape, x.dtype.name) for x in jax.tree.leaves(traced)]
    stacks = {s.shape[0] for s in leaves(cfg).values() if s.per_layer}
    stacked = [k for k in kept if len(k[0]) > 1 and k[0][0] in stacks and k[0][:2] != (1, length)]
    # The gradient of the head is counted with the logits.
    head = {(cfg.vocab_size, cfg.hidden_size), (cfg.hidden_size, cfg.vocab_size)}
    once = [k for k in kept if k not in stacked and k[0] not in head]
    params = [x.shape for x in jax.tree.leaves((trained, base) if lora else trained)]
    return tuple(stacked), tuple(once), tuple(params)


def local_config(cfg: ModelConfig, tensor: int) -> ModelConfig:
    """The model as one device of a tensor axis sees it: its share of heads, MLP width and vocabulary."""
    if tensor == 1:
        return cfg
    changes: dict[str, Any] = {
        "num_heads": max(1, cfg.num_heads // tensor),
        "num_kv_heads": max(1, cfg.num_kv_heads // tensor),
        "intermediate_size": max(1, cfg.intermediate_size // tensor),
        "vocab_size": max(1, cfg.vocab_size // tensor),
    }
    if cfg.moe:
        width = max(1, cfg.moe.intermediate_size // tensor)
        changes["moe"] = dataclasses.replace(cfg.moe, intermediate_size=width)
    return cfg.replace(**changes)


def _exchange_bytes(work: Work, sizes: Sizes) -> float:
    """Tokens gathered from the expert axis, and their gradient."""
    moe, peers = work.cfg.moe, sizes.get("expert", 1)
    if moe is None or peers == 1:
        return 0.0
    copies = {"gather": float(peers), "none": 0.0}.get(
        work.exchange_of(sizes), DEFAULT_SLACK * moe.experts_per_token
    )
    return 2 * copies * work.micro_tokens(sizes) * work.cfg.hidden_size * _size(work.compute_dtype)


def _working_bytes(work: Work, sizes: Sizes) -> float:
    """One layer's gathered weights and their gradients, and what its own backward pass holds."""
    b, t = _size(work.compute_dtype), sizes.get("tensor", 1)
    gathered = windows = 0.0
    if sizes.get("fsdp", 1) > 1 or work.param_dtype != work.compute_dtype:
        for s in leaves(work.cfg).values():
            if s.per_layer and len(s.shape) > 2:
                # Gradients of experts are whole before they are scattered; others are scattered by the product.
                part, copies = (sizes.get("expert", 1), 2) if s.per_expert else (1, 1)
                gathered += copies * math.prod(s.shape[1:]) / (t * part)
    if moe := work.cfg.moe:
        rows = DEFAULT_SLACK * moe.experts_per_token * work.micro_tokens(sizes)
        windows = rows * (work.cfg.hidden_size + 2 * moe.intermediate_size / t)
    whole, _ = activation_bytes(work.replace(remat="none"), sizes)
    # What the policy has kept stands in its stacks; where that is everything, gradients of it are as large.
    kept = 0.0 if work.remat == "none" else activation_bytes(work, sizes)[0]
    layer = (whole - kept) / max(1, work.cfg.num_layers - work.freeze_layers)
    return (gathered + windows) * b + layer


def abstract_mesh(sizes: Sizes) -> AbstractMesh:
    """A mesh of these sizes without devices."""
    shape = tuple(sizes.get(axis, 1) for axis in AXES)
    return AbstractMesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _on_device(tree: Any, placed: Any) -> float:
    leaves_, homes = jax.tree.leaves(tree), jax.tree.leaves(placed)
    pairs = zip(leaves_, homes, strict=True)
    return float(sum(math.prod(p.shard_shape(x.shape)) * x.dtype.itemsize for x, p in pairs))


def _size(dtype: str) -> int:
    return jnp.dtype(dtype).itemsize
