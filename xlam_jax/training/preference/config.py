"""The `objective:` section of a training config."""

from __future__ import annotations

from typing import Literal

import pydantic

from xlam_jax.config import Config
from xlam_jax.training.preference.losses import COUPLED, LOSSES, ON_AVERAGES, Constants

_ONLY_FOR = {"label_smoothing": ("cdpo", "robust"), "gamma": ("simpo",)}


class ObjectiveConfig(Config):
    """What is minimised. A key that the chosen objective or loss would not read is an error.

    Attributes:
      kind: "sft" (cross-entropy of the answers) or "dpo" (the rest of this section; preference data).
      loss: a key of `training.preference.losses.LOSSES`.
      beta: how strongly the policy is held to the reference; about 5 for `normalised`, 2 for `simpo`.
      label_smoothing: e of `cdpo` and `robust`, the share of pairs believed to be the wrong way round.
      gamma: margin of `simpo`, subtracted after beta.
      nll_weight: adds so many times the chosen answer's negative log-likelihood (RPO), which keeps its
        probability from falling.
      nll: "mean", each answer's mean over its tokens, then the mean over pairs; or "sum" over its tokens.
      ld_alpha: LD-DPO (arXiv:2409.06411): of both answers, tokens past the shorter one's length count this
        much; 1 for plain sums.
      reference: "precomputed" (`xlam data reference`), "copy" (a frozen second model, computed every step),
        "base" (the model without its adapters) or "none" (log-ratios are log-probabilities).
      chosen_drop_limit: warn when the chosen answers' log-probability has fallen by more, in nats an answer.
    """

    kind: Literal["sft", "dpo"] = "sft"
    loss: str = "sigmoid"
    beta: float = pydantic.Field(default=0.1, gt=0)
    label_smoothing: float = pydantic.Field(default=0.0, ge=0, lt=0.5)
    gamma: float = pydantic.Field(default=0.0, ge=0)
    nll_weight: float = pydantic.Field(default=0.0, ge=0)
    nll: str = "mean"
    ld_alpha: float = pydantic.Field(default=1.0, ge=0, le=1)
    reference: Literal["precomputed", "copy", "base", "none"] = "precomputed"
    chosen_drop_limit: float = pydantic.Field(default=10.0, gt=0)

    @pydantic.field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        if name in COUPLED:
            raise ValueError(
                "couples the pairs of a batch: its value would change with accumulation and devices"
            )
        if name not in LOSSES:
            raise ValueError("no such loss; one of " + ", ".join(LOSSES))
        return name

    @pydantic.field_validator("nll")
    @classmethod
    def _known_nll(cls, name: str) -> str:
        if name == "token_mean":
            raise ValueError(
                "a mean over a micro-batch's tokens changes with accumulation and devices; mean or sum"
            )
        if name not in ("mean", "sum"):
            raise ValueError("no such term; mean or sum")
        return name

    @pydantic.model_validator(mode="after")
    def _nothing_is_ignored(self) -> ObjectiveConfig:
        given = self.model_fields_set - {"kind"}
        if self.kind != "dpo":
            # A config that was written out holds every key, at its default.
            changed = sorted(k for k in given if getattr(self, k) != type(self).model_fields[k].default)
            if changed:
                raise ValueError(f"{', '.join(changed)}: only for kind: dpo")
            return self
        for key, losses in _ONLY_FOR.items():
            if getattr(self, key) and self.loss not in losses:
                raise ValueError(f"loss {self.loss!r} does not read {key}; {', '.join(losses)} would")
        if self.nll == "sum" and not self.nll_weight:
            raise ValueError("nll is not read while nll_weight is 0")
        if self.ld_alpha != 1 and self.loss in ON_AVERAGES:
            raise ValueError(f"loss {self.loss!r} takes averages, ld_alpha is for losses on sums")
        if self.loss == "simpo" and self.reference != "none":
            raise ValueError("simpo has no reference; set reference: none")
        return self

    @property
    def constants(self) -> Constants:
        """What the loss function takes."""
        return Constants(self.beta, self.label_smoothing, self.gamma)
