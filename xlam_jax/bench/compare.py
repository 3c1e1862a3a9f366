"""The same step in torch: transformers' model, torch's AdamW, the same weights and tokens, in the same run.

Rows hold one document each, because transformers packs by a dense mask only; that favours it.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.bench import protocol
from xlam_jax.bench.profile import profile_if_possible
from xlam_jax.data.batch import Batch
from xlam_jax.errors import WorkError
from xlam_jax.models import decoder
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.flops import flops_per_token
from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.models.spec import decay_mask, init, state_dict_from_params
from xlam_jax.parallel.mesh import make_mesh
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.optimizer import OptimConfig, make_optimizer
from xlam_jax.training.step import init_state, make_step, micro_sharding

_RATE = 1e-5


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
    profiled: bool = False,
) -> dict[str, Any]:
    """Times one optimizer step both ways: forward, backward, clipping, AdamW without decay.

    The two take turns, block by block, so that what else the machine does weighs on both.

    Args:
      threads: of torch; XLA takes the cores that the process may use.
      dtype: of the products. bfloat16 means autocast in torch.
      remat: what our backward pass keeps, see `models.decoder.forward`.
      profiled: run three more steps of ours under the profiler.

    Returns:
      for "xlam" and "torch": seconds of a step (median, p90), tokens/s, seconds of forward, backward and update,
      loss of the first step; their `ratio` (tokens/s of xlam over torch) and `loss_difference`; `time_by_part` of
      ours (see `bench.profile`) if asked for.

    Raises:
      WorkError: torch or transformers is not installed, or the two losses differ: not the same work.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as e:
        raise WorkError(f"{e.name} is not installed", hint="pip install torch transformers") from e
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, cfg.vocab_size, (rows, seq_len + 1), dtype=np.int64)
    params = init(cfg, jax.random.key(0))
    theirs = _Torch(cfg, state_dict_from_params(params, cfg), tokens, dtype)
    ours = _Jax(cfg, params, tokens, dtype, remat)
    first = {"xlam": ours.step(), "torch": theirs.step()}
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
    flops = flops_per_token(cfg, seq_len)
    for name, side in (("xlam", ours), ("torch", theirs)):
        taken = times[name][warmup:]
        median = float(np.median(taken))
        forward, both = side.parts(max(3, steps // 2))
        result[name] = {
            "step_seconds": median,
            "step_seconds_p90": float(np.percentile(taken, 90)),
            "tokens_per_second": positions / median,
            "tflops": positions * flops["total"] / median / 1e12,
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
        "formula": flops["formula"],
        **result,
        "ratio": result["xlam"]["tokens_per_second"] / result["torch"]["tokens_per_second"],
        "loss_difference": difference,
        **({"time_by_part": ours.profile()} if profiled else {}),
        **protocol.environment(),
    }


class _Jax:
    """Our step; every call waits for the loss."""

    def __init__(self, cfg: ModelConfig, params: Any, tokens: np.ndarray, dtype: str, remat: str):
        self.mesh = make_mesh()
        kind = protocol.need_dtype(dtype, "--dtype")
        shape = (1, tokens.shape[0], tokens.shape[1] - 1)
        batch = Batch(
            tokens[None, :, :-1].astype(np.int32),
            tokens[None, :, 1:].astype(np.int32),
            np.ones(shape, np.float32),
            np.ones(shape, np.int32),
            np.broadcast_to(np.arange(shape[2], dtype=np.int32), shape),
        )
        attention = "cudnn" if jax.default_backend() == "gpu" and dtype == "bfloat16" else "xla"
        with jax.set_mesh(self.mesh):
            objective = sft_objective(
                cfg, compute_dtype=kind, attention=attention, max_segments=1, remat=remat
            )
            tx = make_optimizer(OptimConfig(), decay_mask(cfg))
            self.batch = jax.device_put(batch, micro_sharding(self.mesh))
            self.one = jax.tree.map(lambda x: x[0], self.batch)
            self.state, places = init_state(params, cfg, tx, self.mesh)
            step = make_step(objective, tx, places)
            self.run = step.lower(self.state, self.batch, jnp.float32(_RATE)).compile()  # type: ignore[attr-defined]

        def loss(params: Any, batch: Batch) -> jax.Array:
            hidden, _ = decoder.forward(
                params,
                batch.tokens,
                batch.positions,
                batch.segment_ids,
                cfg,
                compute_dtype=kind,
                attention=attention,
                max_segments=1,
                remat=remat,
            )
            head = decoder.head_matrix(params)
            return chunked_cross_entropy(hidden, head, batch.targets, batch.loss_weights)[0]

        self.loss, self.gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))

    def step(self) -> float:
        with jax.set_mesh(self.mesh):
            self.state, metrics = self.run(self.state, self.batch, jnp.float32(_RATE))
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


class _Torch:
    """The same step with transformers and torch."""

    def __init__(self, cfg: ModelConfig, weights: dict[str, np.ndarray], tokens: np.ndarray, dtype: str):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        self.torch, self.autocast = torch, dtype == "bfloat16"
        self.device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
        values = config_to_hf(cfg)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(values.pop("model_type"), **values), attn_implementation="sdpa"
        )
        state = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
        missing = set(model.load_state_dict(state, strict=False).missing_keys) - {"lm_head.weight"}
        if missing:
            raise WorkError(f"transformers' model wants other weights: {sorted(missing)[:3]}")
        model.tie_weights()
        self.model = model.to(self.device).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
        )
        self.inputs = torch.from_numpy(tokens[:, :-1].copy()).to(self.device)
        self.targets = torch.from_numpy(tokens[:, 1:].copy()).to(self.device)

    def _loss(self) -> Any:
        torch = self.torch
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.autocast):
            logits = self.model(self.inputs, use_cache=False).logits
        flat = logits.float().reshape(-1, logits.shape[-1])
        return torch.nn.functional.cross_entropy(flat, self.targets.reshape(-1))

    def step(self) -> float:
        loss = self._loss()
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def parts(self, times: int) -> tuple[float, float]:
        """Seconds of the forward pass (with its graph), and of forward and backward."""

        def both() -> None:
            self._loss().backward()
            self.optimizer.zero_grad(set_to_none=True)
            self._wait()

        def forward() -> None:
            self._loss()
            self._wait()

        return protocol.timed(forward, times, 1)["median"], protocol.timed(both, times, 1)["median"]

    def _wait(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()
