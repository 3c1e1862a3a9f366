"""Speed of the training step against the matrix-product ceiling of the same machine, in one run."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.data.batch import Batch
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import count_params, decay_mask, init
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.optimizer import OptimConfig, make_optimizer
from xlam_jax.training.step import init_state, make_step, micro_sharding

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def bench_train(
    cfg: ModelConfig,
    *,
    rows: int = 1,
    seq_len: int = 1024,
    steps: int = 5,
    warmup: int = 2,
    remat: str = "none",
    compute_dtype: str = "float32",
    mesh: MeshConfig = MeshConfig(),
) -> dict[str, Any]:
    """Times the real train step (SFT objective, AdamW) on one synthetic packed batch.

    FLOPs per token follow 6 N + 6 L S heads head_dim, with N the parameters of matrix products (the input
    embedding is looked up, not multiplied; a tied table counts once, as the head) and attention counted
    causally. The ceiling is a [2048, hidden] x [hidden, intermediate] product in the compute dtype, measured
    right before, so that what else the machine does weighs on both.

    Returns:
      Tokens/s, seconds of a step (median and all), TFLOP/s achieved and at the ceiling, their ratio, seconds
      of compilation, MiB of temporaries that the compiler plans, device and versions.
    """
    device_mesh = make_mesh(mesh)
    with jax.set_mesh(device_mesh):
        ceiling = _matmul_flops(cfg, _DTYPES[compute_dtype])
        tx = make_optimizer(OptimConfig(), decay_mask(cfg))
        params = init(cfg, jax.random.key(0), mesh=device_mesh)
        state, places = init_state(params, cfg, tx, device_mesh)
        objective = sft_objective(cfg, remat=remat, compute_dtype=_DTYPES[compute_dtype])
        step = make_step(objective, tx, places)
        batch = jax.device_put(_batch(cfg, rows, seq_len), micro_sharding(device_mesh))
        rate = jnp.float32(1e-5)
        begun = time.perf_counter()
        compiled = step.lower(state, batch, rate).compile()  # type: ignore[attr-defined]
        compile_seconds = time.perf_counter() - begun
        memory = compiled.memory_analysis()
        times = []
        for _ in range(warmup + steps):
            begun = time.perf_counter()
            state, metrics = compiled(state, batch, rate)
            jax.block_until_ready(metrics["loss"])
            times.append(time.perf_counter() - begun)
    times = times[warmup:]
    tokens = rows * seq_len
    per_token = flops_per_token(cfg, seq_len)
    seconds = float(np.median(times))
    achieved = tokens * per_token / seconds
    return {
        "rows": rows,
        "seq_len": seq_len,
        "remat": remat,
        "compute_dtype": compute_dtype,
        "mesh": mesh.model_dump(),
        "parameters": count_params(cfg),
        "gflops_per_token": per_token / 1e9,
        "tokens_per_second": tokens / seconds,
        "step_seconds": seconds,
        "all_step_seconds": times,
        "tflops": achieved / 1e12,
        "ceiling_tflops": ceiling / 1e12,
        "of_ceiling": achieved / ceiling,
        "compile_seconds": compile_seconds,
        "temporaries_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "platform": platform.platform(terse=True),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax")},
    }


def flops_per_token(cfg: ModelConfig, seq_len: int) -> float:
    """Training FLOPs of one token: forward 2, backward 4 per weight of a matrix product, causal attention."""
    weights = count_params(cfg) - (0 if cfg.tie_embeddings else cfg.vocab_size * cfg.hidden_size)
    return 6 * weights + 6 * cfg.num_layers * seq_len * cfg.num_heads * cfg.head_dim


def _batch(cfg: ModelConfig, rows: int, seq_len: int) -> Batch:
    """`[1, rows, seq_len]`: two documents a row, uniform random ids."""
    rng = np.random.default_rng(0)
    shape = (1, rows, seq_len)
    half = seq_len // 2
    positions = np.concatenate([np.arange(half), np.arange(seq_len - half)])
    segments = np.where(np.arange(seq_len) < half, 1, 2)
    return Batch(
        tokens=rng.integers(0, cfg.vocab_size, shape, dtype=np.int32),
        targets=rng.integers(0, cfg.vocab_size, shape, dtype=np.int32),
        loss_weights=np.ones(shape, np.float32),
        segment_ids=np.broadcast_to(segments, shape).astype(np.int32),
        positions=np.broadcast_to(positions, shape).astype(np.int32),
    )


def _matmul_flops(cfg: ModelConfig, dtype: Any) -> float:
    """Best FLOP/s of one MLP-shaped product on one device."""
    m, k, n = 2048, cfg.hidden_size, cfg.intermediate_size
    a, b = jnp.ones((m, k), dtype), jnp.ones((k, n), dtype)
    return 2 * m * k * n / _best_seconds(lambda: jax.block_until_ready(_product(a, b)))


_product = jax.jit(jnp.matmul)


def _best_seconds(run: Callable[[], Any], times: int = 20) -> float:
    run()
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return best
