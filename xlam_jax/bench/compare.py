"""The same step in torch: transformers' model, torch's AdamW, the same weights, tokens and loss mask, in one run."""

from __future__ import annotations

import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.bench import protocol
from xlam_jax.bench.compare_torch import Baseline, TorchSide
from xlam_jax.bench.profile import profile_if_possible
from xlam_jax.errors import InputError, WorkError
from xlam_jax.extras import need
from xlam_jax.models import decoder
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.flops import mean_keys, step_flops
from xlam_jax.models.spec import decay_mask, init, state_dict_from_params
from xlam_jax.parallel.mesh import make_mesh
from xlam_jax.shards.batch import Batch, stack
from xlam_jax.training.objectives import pick_targets, sft_objective
from xlam_jax.training.optimizer import OptimConfig, make_optimizer
from xlam_jax.training.step import init_state, make_step, micro_sharding


def bench_compare(
    cfg: ModelConfig,
    *,
    rows: int = 1,
    seq_len: int = 512,
    steps: int = 10,
    warmup: int = 3,
    threads: int = 2,
    dtype: str = "float32",
    remat: str = "dots",
    baseline: Baseline = "eager",
    documents: int = 1,
    trained: float = 1.0,
    profiled: bool = False,
) -> dict[str, Any]:
    """Times one optimizer step both ways: forward, backward, clipping, AdamW without decay.

    The two take turns, block by block, so that what else the machine does weighs on both.

    Args:
      threads: of torch; XLA takes the cores that the process may use.
      dtype: of the products. bfloat16 means autocast in torch.
      remat: what our backward pass keeps, see `models.decoder.forward`.
      baseline: how strong torch's side is, see `compare_torch.TorchSide`.
      documents: packed in every row, of uneven lengths.
      trained: share of each document, its end, that has a loss.
      profiled: run three more steps of ours under the profiler.

    Returns:
      for "xlam" and "torch": seconds of a step (median, p90), tokens/s, seconds of forward, backward and update,
      loss of the first step; their `ratio` (tokens/s of xlam over torch), what the `baseline` is, and
      `loss_difference`; `time_by_part` of ours (see `bench.profile`) if asked for.

    Raises:
      InputError: more documents than fit into a row, or torch is not installed.
      WorkError: torch cannot compile, or the two losses differ: not the same work.
    """
    need("torch", "torch", where="the other side of the comparison")
    import torch

    torch.set_num_threads(threads)
    batch = make_rows(cfg.vocab_size, rows, seq_len, documents, trained)
    params = init(cfg, jax.random.key(0))
    theirs = TorchSide(cfg, state_dict_from_params(params, cfg), batch, dtype, baseline)
    ours = _Jax(cfg, params, batch, dtype, remat)
    first = {"xlam": ours.step(), "torch": theirs.first_step()}
    difference = abs(first["xlam"] - first["torch"])
    if difference > (2e-3 if dtype == "float32" else 5e-2):
        raise WorkError(f"not the same work: losses {first['xlam']:.5f} and {first['torch']:.5f}")
    times: dict[str, list[float]] = {"xlam": [], "torch": []}
    for _ in range(warmup + steps):
        for name, side in (("xlam", ours), ("torch", theirs)):
            begun = time.perf_counter()
            side.step()
            times[name].append(time.perf_counter() - begun)
    result: dict[str, Any] = {}
    positions = rows * seq_len
    flops = step_flops(cfg)
    lengths = [int(n) for row in batch.segment_ids for n in np.bincount(row)[1:]]
    model_flops = flops.per_token * positions
    model_flops += flops.per_pair * sum(n * mean_keys(n, cfg.sliding_window) for n in lengths)
    for name, side in (("xlam", ours), ("torch", theirs)):
        taken = times[name][warmup:]
        median = float(np.median(taken))
        forward, both = side.parts(max(3, steps // 2))
        result[name] = {
            "step_seconds": median,
            "step_seconds_p90": float(np.percentile(taken, 90)),
            "tokens_per_second": positions / median,
            "tflops": model_flops / median / 1e12,
            "forward_seconds": forward,
            "backward_seconds": max(both - forward, 0.0),
            "update_seconds": max(median - both, 0.0),
            "first_loss": first[name],
        }
    return {
        "rows": rows,
        "seq_len": seq_len,
        "layers": cfg.num_layers,
        "dtype": dtype,
        "remat": remat,
        "threads": threads,
        "documents": documents,
        "trained_positions": int((batch.loss_weights > 0).sum()),
        "formula": flops.formula,
        "baseline": theirs.describe(),
        **result,
        "ratio": result["xlam"]["tokens_per_second"] / result["torch"]["tokens_per_second"],
        "loss_difference": difference,
        **({"time_by_part": ours.profile()} if profiled else {}),
        **protocol.environment(),
    }


def make_rows(vocab_size: int, rows: int, seq_len: int, documents: int, trained: float) -> Batch:
    """`[rows, seq_len]` of random tokens in so many documents a row, the end of each with a loss.

    Args:
      documents: of each row, of uneven lengths; lengths and tokens are the same in every call.
      trained: share of each document, its end, that has a loss.

    Raises:
      InputError: more documents than positions.
    """
    if documents > seq_len:
        raise InputError(
            f"{documents} documents do not fit into {seq_len} positions", where="--documents", hint="fewer"
        )
    rng = np.random.default_rng(0)
    packed = []
    for _ in range(rows):
        cuts = np.sort(rng.choice(np.arange(1, seq_len), documents - 1, replace=False))
        lengths = np.diff([0, *cuts, seq_len])
        texts = [rng.integers(0, vocab_size, n + 1, dtype=np.int32) for n in lengths]
        positions = [np.arange(n, dtype=np.int32) for n in lengths]
        packed.append(
            Batch(
                tokens=np.concatenate([text[:-1] for text in texts]),
                targets=np.concatenate([text[1:] for text in texts]),
                loss_weights=np.concatenate(
                    [p >= len(p) - math.ceil(trained * len(p)) for p in positions]
                ).astype(np.float32),
                segment_ids=np.repeat(np.arange(1, documents + 1, dtype=np.int32), lengths),
                positions=np.concatenate(positions),
            )
        )
    return stack(packed)


class _Jax:
    """Our step; every call waits for the loss."""

    def __init__(self, cfg: ModelConfig, params: Any, batch: Batch, dtype: str, remat: str):
        self.mesh = make_mesh()
        kind = protocol.need_dtype(dtype, "--dtype")
        segments, targets = int(batch.segment_ids.max()), int((batch.loss_weights > 0).sum(axis=1).max())
        attention = "cudnn" if jax.default_backend() == "gpu" and dtype == "bfloat16" else "xla"
        with jax.set_mesh(self.mesh):
            objective = sft_objective(
                cfg,
                compute_dtype=kind,
                attention=attention,
                max_segments=segments,
                max_targets=targets,
                remat=remat,
            )
            tx = make_optimizer(OptimConfig(), decay_mask(cfg))
            self.batch = jax.device_put(stack([batch]), micro_sharding(self.mesh))
            self.one = jax.tree.map(lambda x: x[0], self.batch)
            self.state, state_shardings = init_state(params, cfg, tx, self.mesh)
            step = make_step(objective, tx, state_shardings)
            self.run = step.lower(self.state, self.batch, jnp.float32(protocol.RATE)).compile()  # type: ignore[attr-defined]

        def loss(params: Any, batch: Batch) -> jax.Array:
            hidden, _ = decoder.forward(
                params,
                batch.tokens,
                batch.positions,
                batch.segment_ids,
                cfg,
                compute_dtype=kind,
                attention=attention,
                max_segments=segments,
                remat=remat,
            )
            picked = pick_targets(hidden, batch.targets, batch.loss_weights, targets)
            return chunked_cross_entropy(picked[0], decoder.head_matrix(params), *picked[1:])[0]

        self.loss, self.gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))

    def step(self) -> float:
        with jax.set_mesh(self.mesh):
            self.state, metrics = self.run(self.state, self.batch, jnp.float32(protocol.RATE))
            return float(metrics["loss"])

    def profile(self) -> list[dict[str, Any]] | None:
        """Where the time of `step` goes."""
        return profile_if_possible(self.run.as_text(), self.step)

    def parts(self, times: int) -> tuple[float, float]:
        """Seconds of the forward pass, and of forward and backward."""
        params = self.state.params
        with jax.set_mesh(self.mesh):
            forward = protocol.timed(lambda: self.loss(params, self.one), times, 2)["median"]
            both = protocol.timed(lambda: self.gradient(params, self.one), times, 2)["median"]
        return forward, both
