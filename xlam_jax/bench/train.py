"""Speed of the training step against the matrix-product ceiling of the same machine, in one run."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.bench import protocol
from xlam_jax.bench.profile import profile_if_possible
from xlam_jax.errors import InputError
from xlam_jax.models.attention import most_segments
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.flops import count, flops_per_token
from xlam_jax.models.lora import LoraConfig, init_adapters
from xlam_jax.models.spec import init
from xlam_jax.parallel.hardware import known_hardware
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.plan.state import step_state
from xlam_jax.plan.work import Work
from xlam_jax.shards.batch import Batch, stack
from xlam_jax.training.config import MoeOptions
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.optimizer import OptimConfig
from xlam_jax.training.partition import Frozen
from xlam_jax.training.step import TrainState, init_state, make_step, micro_sharding


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How the step is computed, as in a training config."""

    remat: str = "none"
    param_dtype: str = "float32"
    compute_dtype: str = "float32"
    moment_dtype: str = "float32"
    lora: LoraConfig | None = None
    attention: str = "xla"
    mesh: MeshConfig = dataclasses.field(default=MeshConfig())
    moe: MoeOptions = dataclasses.field(default=MoeOptions())


def cut_layers(cfg: ModelConfig, layers: int | None) -> ModelConfig:
    """The lowest `layers` of a model: what a single device can hold of a large one.

    Raises:
      InputError: fewer layers than its dense ones need, or more than there are.
    """
    if layers is None:
        return cfg
    if not cfg.dense_layers < layers <= cfg.num_layers:
        span = f"{cfg.dense_layers + 1} to {cfg.num_layers}"
        raise InputError(f"{layers} layers of a model with {cfg.num_layers}", where="--layers", hint=span)
    return cfg.replace(num_layers=layers)


def bench_train(
    cfg: ModelConfig,
    *,
    rows: int = 1,
    seq_len: int = 1024,
    steps: int = 30,
    warmup: int = 10,
    options: StepOptions = StepOptions(),
    data: Path | None = None,
    profiled: bool = False,
) -> dict[str, Any]:
    """Times the real train step (SFT objective, AdamW) on one packed batch.

    A LoRA base is not quantised here.

    Args:
      data: folder of packed shards whose first rows are the batch; None: two documents a row, random ids.
      profiled: run three more steps under the profiler.

    Returns:
      Tokens/s and tokens/s of a device, seconds of a step (median, 90th percentile, all), FLOPs with their
      formula, MFU against the data sheet (None for a CPU), the measured matmul ceiling and what part of it was
      reached, seconds of compilation, bytes that the compiler plans and the device reports, `time_by_part` (see
      `bench.profile`) if asked for, machine and versions.

    Raises:
      InputError: data that the model cannot read, or a mesh that does not fit.
    """
    dtype = protocol.need_dtype(options.compute_dtype, "--compute-dtype")
    device_mesh = make_mesh(options.mesh)
    batch, seq_len = _real(data, rows, cfg) if data else (synthetic(cfg, rows, seq_len), seq_len)
    with jax.set_mesh(device_mesh):
        best = protocol.ceiling(dtype)
        work = Work(
            cfg,
            seq_len,
            rows,
            param_dtype=options.param_dtype,
            optim=OptimConfig(moment_dtype=options.moment_dtype),  # type: ignore[arg-type]
            lora=options.lora,
        )
        tx, state_shardings, state = _state(work, device_mesh)
        objective = sft_objective(
            cfg,
            remat=options.remat,
            compute_dtype=dtype,
            attention=options.attention,
            moe=options.moe,
            max_segments=most_segments(batch.segment_ids),
        )
        step = make_step(objective, tx, state_shardings)
        on_device = jax.device_put(batch, micro_sharding(device_mesh))
        rate = jnp.float32(1e-5)
        begun = time.perf_counter()
        compiled = step.lower(state, on_device, rate).compile()  # type: ignore[attr-defined]
        compile_seconds = time.perf_counter() - begun
        memory = compiled.memory_analysis()
        held = [state]

        def run() -> Any:
            held[0], metrics = compiled(held[0], on_device, rate)
            return metrics["loss"]

        took = protocol.timed(run, steps, warmup)
        parts = profile_if_possible(compiled.as_text(), run) if profiled else None
    tokens, devices = rows * seq_len, device_mesh.size
    flops = flops_per_token(cfg, seq_len, lora=options.lora)
    achieved = tokens * flops["total"] / took["median"] / devices
    sheet = known_hardware()
    return {
        "rows": rows,
        "seq_len": seq_len,
        "layers": cfg.num_layers,
        "real_tokens": int((batch.segment_ids > 0).sum()),
        "target_tokens": int((batch.loss_weights > 0).sum()),
        "data": str(data) if data else "synthetic, two documents a row",
        **{k: v for k, v in dataclasses.asdict(options).items() if k not in ("mesh", "moe", "lora")},
        "mesh": options.mesh.model_dump(),
        "lora": options.lora.model_dump() if options.lora else None,
        "moe": options.moe.model_dump() if cfg.moe else None,
        "parameters": count(cfg).total,
        "active_matmul_parameters": count(cfg).active_matmul,
        "gflops_per_token": flops["total"] / 1e9,
        "formula": flops["formula"],
        "tokens_per_second": tokens / took["median"],
        "tokens_per_second_per_device": tokens / took["median"] / devices,
        "step_seconds": took["median"],
        "step_seconds_p90": took["p90"],
        "all_step_seconds": took["all"],
        "tflops": achieved / 1e12,
        "mfu": achieved / sheet.peak if sheet else None,
        "peak_tflops": sheet.peak / 1e12 if sheet else None,
        "ceiling_tflops": best / 1e12,
        "of_ceiling": achieved / best,
        "compile_seconds": compile_seconds,
        "temporaries_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
        "arguments_mib": memory.argument_size_in_bytes / 2**20 if memory else None,
        "peak_device_mib": peak / 2**20 if (peak := protocol.peak_memory()) else None,
        **({"time_by_part": parts} if parts is not None else {}),
        **protocol.environment(),
    }


def _state(work: Work, mesh: Any) -> tuple[Any, TrainState, TrainState]:
    """(optimizer, shardings, a fresh state): random weights, and adapters where there are some."""
    tx, _, state_shardings = step_state(work, mesh)
    key, dtype = jax.random.key(0), protocol.need_dtype(work.param_dtype, "--param-dtype")
    params = init(work.cfg, key, mesh=mesh, dtype=dtype)
    if not work.lora:
        state, state_shardings = init_state(params, work.cfg, tx, mesh)
        return tx, state_shardings, state
    adapters = init_adapters(work.cfg, work.lora, key, mesh=mesh)
    moments = jax.jit(tx.init, out_shardings=state_shardings.opt_state)(adapters)
    step = jax.device_put(jnp.int32(0), state_shardings.step)
    return tx, state_shardings, TrainState(step, adapters, moments, Frozen(params))


def synthetic(cfg: ModelConfig, rows: int, seq_len: int) -> Batch:
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


def _real(folder: Path, rows: int, cfg: ModelConfig) -> tuple[Batch, int]:
    from xlam_jax.shards.loader import PackedSource

    source = PackedSource(folder)
    if source.manifest["max_token_id"] >= cfg.vocab_size:
        raise InputError(
            f"the data holds token id {source.manifest['max_token_id']}, the vocabulary has {cfg.vocab_size}",
            where="--data",
            hint="data built with this model's tokenizer",
        )
    packed = [source[i % len(source)][0] for i in range(rows)]
    return stack([stack(packed)]), source.seq_len
