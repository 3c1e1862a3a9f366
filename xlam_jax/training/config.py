"""What a training run reads: `TrainConfig`, strict and frozen."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from xlam_jax.config import Config
from xlam_jax.models.lora import LoraConfig
from xlam_jax.parallel.mesh import MeshConfig
from xlam_jax.training.optimizer import OptimConfig

Dtype = Literal["float32", "bfloat16"]


class DataConfig(Config):
    """Folders written by `xlam data build`.

    Attributes:
      eval: held-out rows whose loss is computed every `log.eval_every` steps; None for none.
      verify: check every shard's sha256 before training, not only its size.
    """

    train: str
    eval: str | None = None
    verify: bool = False


class BatchConfig(Config):
    """Packed rows of one step over all devices, and the micro-batches they are computed in."""

    rows: int = Field(default=4, ge=1)
    accumulation: int = Field(default=1, ge=1)


class PrecisionConfig(Config):
    """Dtypes of the stored parameters and of the matrix products."""

    param_dtype: Dtype = "float32"
    compute_dtype: Dtype = "float32"


class MoeOptions(Config):
    """Mixtures of experts.

    Attributes:
      experts: how a device computes its experts, see `models.experts.BACKENDS`.
      exchange: how tokens reach the devices that hold their experts, see `parallel.exchange`.
      aux_loss: weight of the load-balance loss; None takes the model's own.
    """

    experts: str = "batched"
    exchange: str = "auto"
    aux_loss: float | None = Field(default=None, ge=0)


class CheckpointConfig(Config):
    """Save every `every` steps (0: only at the end and when stopped), keep the newest `keep`."""

    every: int = Field(default=100, ge=0)
    keep: int = Field(default=2, ge=1)


class LogConfig(Config):
    """Write metrics every `every` steps; evaluate every `eval_every` (0: only at the end)."""

    every: int = Field(default=1, ge=1)
    eval_every: int = Field(default=0, ge=0)


class TrainConfig(Config):
    """A supervised fine-tuning run.

    Attributes:
      model: folder of the base model (Hugging Face or native).
      out: the run folder.
      steps: total steps; "auto" fits them into `max_minutes` and `max_epochs`, whichever is shorter.
      max_minutes: wall time of the training command, start-up and compilation included, for steps "auto".
      max_epochs: at most this many passes over the data, for steps "auto".
      stop_at: save and stop at this step; the schedule still spans all steps.
      freeze: globs over parameter paths ("layers.attn.q", "embed", ...) that keep their values.
      freeze_layers: the lowest layers keep their values and gradients stop above them, so they cost a forward
        pass only; the input embedding below them is not trained either.
      lora: adapters, which are then all that is trained and saved; the model stays as it is.
      remat: what the backward pass keeps, see `models.decoder.forward`.
      track: trackers beside metrics.jsonl.
      resume_changed: resume although config, data or tokenizer differ from the checkpoint's.
    """

    model: str
    data: DataConfig
    out: str
    steps: int | Literal["auto"] = "auto"
    max_minutes: float | None = Field(default=None, gt=0)
    max_epochs: float | None = Field(default=None, gt=0)
    stop_at: int | None = Field(default=None, ge=1)
    freeze: tuple[str, ...] = ()
    freeze_layers: int = Field(default=0, ge=0)
    lora: LoraConfig | None = None
    batch: BatchConfig = BatchConfig()
    optim: OptimConfig = OptimConfig()
    mesh: MeshConfig = MeshConfig()
    precision: PrecisionConfig = PrecisionConfig()
    moe: MoeOptions = MoeOptions()
    remat: str = "none"
    attention: str = "xla"
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    track: tuple[Literal["tensorboard"], ...] = ()
    seed: int = 0
    resume_changed: bool = False


# Keys that change where or how fast a run goes, not what it computes; data is compared by its fingerprint.
_FREE = frozenset(
    [
        "out",
        "data",
        "mesh",
        "log",
        "checkpoint",
        "track",
        "resume_changed",
        "max_minutes",
        "max_epochs",
        "stop_at",
        "remat",
        "attention",
    ]
)


def binding(config: TrainConfig) -> dict[str, Any]:
    """Dotted key -> value of everything that must stay the same over a resume."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        return {k: v for key, child in value.items() for k, v in walk(f"{prefix}.{key}", child).items()}

    values = config.model_dump(mode="json")
    return {k: v for key, value in values.items() if key not in _FREE for k, v in walk(key, value).items()}
