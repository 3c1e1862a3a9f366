"""The torch side of `bench.compare`: transformers' model in two strengths, on the same packed rows and loss mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from xlam_jax.bench import protocol
from xlam_jax.errors import WorkError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.shards.batch import Batch

Baseline = Literal["eager", "compile"]


class TorchSide:
    """One optimizer step by transformers and torch: forward, backward, clipping, AdamW without decay.

    `eager` is what a plain script does: logits of every position, torch's own choice of AdamW. `compile` is the
    strongest at hand: the whole loss through `torch.compile`, logits of the trained positions only, fused AdamW.
    Packed rows get a block-diagonal causal mask, made once before anything is timed, and positions that count from
    0 in every document.

    Args:
      weights: Hugging Face name -> array.
      batch: `[B, S]`, as our side gets it.
      dtype: bfloat16 means autocast.

    Raises:
      WorkError: transformers' model wants other weights.
    """

    def __init__(
        self, cfg: ModelConfig, weights: dict[str, np.ndarray], batch: Batch, dtype: str, baseline: Baseline
    ):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        self.torch, self.autocast, self.baseline = torch, dtype == "bfloat16", baseline
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
        fused = {"fused": True} if baseline == "compile" else {}
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=protocol.RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **fused
        )
        self._put(batch)
        plain: Callable[[], Any] = self._trained_only if baseline == "compile" else self._all_logits
        self._forward = torch.compile(plain, dynamic=False) if baseline == "compile" else plain

    def _put(self, batch: Batch) -> None:
        torch = self.torch

        def place(array: np.ndarray) -> Any:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

        self.inputs, targets = (
            place(batch.tokens.astype(np.int64)),
            batch.targets.astype(np.int64).reshape(-1),
        )
        weights = batch.loss_weights.reshape(-1)
        self.extra: dict[str, Any] = {}
        if batch.segment_ids.max() > 1:
            segments = batch.segment_ids
            causal = np.tril(np.ones((segments.shape[1],) * 2, bool))
            self.extra["attention_mask"] = place(
                ((segments[:, :, None] == segments[:, None]) & causal)[:, None]
            )
            self.extra["position_ids"] = place(batch.positions.astype(np.int64))
        # torch's cross-entropy leaves out targets of -100; every other weight is 1.
        self.targets = place(np.where(weights > 0, targets, -100))
        self.trained = place(np.flatnonzero(weights > 0))
        self.trained_targets = place(targets[weights > 0])

    def _all_logits(self) -> Any:
        logits = self.model(self.inputs, use_cache=False, **self.extra).logits.float()
        return self.torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), self.targets)

    def _trained_only(self) -> Any:
        hidden = self.model.model(self.inputs, use_cache=False, **self.extra)[0]
        picked = hidden.reshape(-1, hidden.shape[-1]).index_select(0, self.trained)
        logits = self.model.lm_head(picked).float()
        return self.torch.nn.functional.cross_entropy(logits, self.trained_targets)

    def describe(self) -> dict[str, Any]:
        """What the baseline is, so that a ratio says over what."""
        torch = self.torch
        compiled = self.baseline == "compile"
        return {
            "kind": self.baseline,
            "compiled": "torch.compile(inductor, dynamic=False) of the whole loss" if compiled else "no",
            "optimizer": "AdamW(fused=True)" if compiled else "AdamW, torch's default",
            "logits": "of trained positions" if compiled else "of all positions",
            "attention": "sdpa, block-diagonal mask" if "attention_mask" in self.extra else "sdpa, causal",
            "dtype": "bfloat16 autocast" if self.autocast else "float32",
            "matmul_precision": torch.get_float32_matmul_precision(),
            "device": self.device,
            "threads": torch.get_num_threads(),
            "gradient_checkpointing": "no",
        }

    def _loss(self) -> Any:
        with self.torch.autocast(self.device, dtype=self.torch.bfloat16, enabled=self.autocast):
            return self._forward()

    def first_step(self) -> float:
        """The step that compiles.

        Raises:
          WorkError: torch cannot compile here.
        """
        if self.baseline == "eager":
            return self.step()
        try:
            return self.step()
        except Exception as e:  # whatever the compilers below raise
            why = (str(e).strip().splitlines() or [""])[0][:200]
            raise WorkError(
                f"torch.compile failed: {type(e).__name__}: {why}",
                where="--baseline compile",
                hint="--baseline eager",
            ) from e

    def step(self) -> float:
        """A step; waits for its loss."""
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
