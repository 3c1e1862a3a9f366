"""What a training run reads: `TrainConfig`, strict and frozen."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from xlam_jax.config import Config
from xlam_jax.models.lora import LoraConfig
from xlam_jax.parallel.mesh import MeshConfig
from xlam_jax.training.optimizer import OptimConfig
from xlam_jax.training.preference.config import ObjectiveConfig
from xlam_jax.training.spikes import SpikeConfig
from xlam_jax.training.watchdog import WatchdogConfig

Dtype = Literal["float32", "bfloat16"]


class DataConfig(Config):
    """Folders written by `xlam data build`.

    Attributes:
      eval: held-out rows whose loss is computed every `log.eval_every` steps; None for none.
      verify: check every shard's sha256 before training, not only its size.
      train: rows to train on.
    """

    train: str
    eval: str | None = None
    verify: bool = False


class BatchConfig(Config):
    """What one step trains on, over all devices: packed rows, or about so many samples.

    Attributes:
      rows: packed rows of one step, over all devices.
      samples: in place of `rows`: records of one step (or pairs), on average. Becomes the nearest number of packed
        rows that the mesh and the micro-batches divide, which a run then keeps.
      accumulation: micro-batches that a step is computed in; more need less memory.
    """

    rows: int = Field(default=4, ge=1)
    samples: int | None = Field(default=None, ge=1)
    accumulation: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.samples is not None and "rows" in self.model_fields_set:
            raise ValueError(
                "rows and samples are two ways to say one thing; for rows add batch.samples=null"
            )
        return self


class PrecisionConfig(Config):
    """Dtypes of the stored parameters and of the matrix products.

    Attributes:
      param_dtype: of the stored parameters.
      compute_dtype: of the matrix products; left out, bfloat16 on accelerators and float32 on the CPU.
    """

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
    """When checkpoints are written, and which stay.

    Attributes:
      every: save every so many steps (0: only at the end and when stopped).
      keep: how many of the newest stay.
      best: metric of an evaluation; each time it improves the run is saved, and the best checkpoint stays
        beside the newest ones. None for no best. Without evaluation there is none.
      best_mode: whether the smallest or the largest value is the best.
    """

    every: int = Field(default=100, ge=0)
    keep: int = Field(default=2, ge=1)
    best: str | None = "eval_loss"
    best_mode: Literal["min", "max"] = "min"


class CallsConfig(Config):
    """How often the model's calls are right while it trains: greedy, unconstrained answers to held-out
    records, scored by their syntax tree, logged as `eval_ast`.

    Attributes:
      records: records, JSON lines.
      rows: only the first so many.
      every: every so many steps and at the end; 0: whenever the loss is evaluated.
      max_new_tokens: longest answer.
      max_len: prompt and answer together.
      batch_size: answers written together.
    """

    records: str
    rows: int = Field(default=64, ge=1)
    every: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=256, ge=1)
    max_len: int = Field(default=1024, ge=2)
    batch_size: int = Field(default=32, ge=1)


class LogConfig(Config):
    """What is measured, and when.

    Attributes:
      every: write metrics every so many steps.
      eval_every: evaluate every so many steps (0: only at the end).
      norms_every: gradient and parameter norms by leaf and layer every so many steps (0: never).
      profile: "10:15" traces steps 10 to 15 into `RUN/profile`, for TensorBoard or Perfetto.
      calls: tool-call accuracy while training.
    """

    every: int = Field(default=1, ge=1)
    eval_every: int = Field(default=0, ge=0)
    norms_every: int = Field(default=0, ge=0)
    profile: str | None = Field(default=None, pattern=r"^[1-9]\d*:[1-9]\d*$")
    calls: CallsConfig | None = None


class TrainConfig(Config):
    """A training run.

    Attributes:
      objective: what is minimised; supervised fine-tuning when left out.
      model: folder of the base model (Hugging Face), or a training run.
      shape: a published model of that shape, such as mistral-7b-v0.2; `xlam plan` plans by it before `model` is there.
      out: the run folder.
      steps: total steps; "auto" fits them into `max_minutes` and `max_epochs`, whichever is shorter.
      max_minutes: wall time of the training command, start-up and compilation included, for steps "auto".
      max_epochs: at most this many passes over the data, for steps "auto".
      stop_at: save and stop at this step; the schedule still spans all steps.
      freeze: globs over parameter paths ("layers.attn.q", "embed", ...) that keep their values.
      freeze_layers: the lowest layers keep their values and gradients stop above them, so they cost a forward
        pass only; the input embedding below them is not trained either.
      lora: adapters, which are then all that is trained and saved; the model stays as it is.
      mesh: how the devices are laid out; left out, `fsdp: -1` over all accelerators, and one device of a CPU.
      remat: what the backward pass keeps, see `models.decoder.forward`; "auto": what the plan says they hold.
      spikes: what is done about a step whose loss or gradient stands out.
      watchdog: when a run is taken for hung.
      track: trackers beside metrics.jsonl; wandb is online where it has a key, else offline.
      track_project: what wandb and Trackio file the run under, by the name of its folder.
      resume_changed: resume although config, data or tokenizer differ from the checkpoint's.
      attention: how attention is computed, see `models.attention`; "auto" takes the fastest that this machine was seen
        to compute rightly.
      seed: of the order of rows, dropout, stochastic rounding and the adapters' start.
    """

    model: str
    shape: str = ""
    data: DataConfig
    out: str
    objective: ObjectiveConfig = ObjectiveConfig()
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
    attention: str = "auto"
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    spikes: SpikeConfig = SpikeConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    track_project: str = Field(default="xlam", pattern=r"^[A-Za-z0-9][\w.-]{0,99}$")
    seed: int = 0
    resume_changed: bool = False


# Keys that change where or how fast a run goes, not what it computes; data is compared by its fingerprint.
_FREE = frozenset(
    [
        "out",
        "shape",
        "data",
        "mesh",
        "log",
        "checkpoint",
        "watchdog",
        "track",
        "track_project",
        "resume_changed",
        "stop_at",
        "remat",
        "attention",
    ]
)


# What `steps: auto` is made of; without it these say nothing.
LENGTH = ("max_epochs", "max_minutes")


def binding(config: TrainConfig) -> dict[str, Any]:
    """Dotted key -> value of everything that must stay the same over a resume."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        return {k: v for key, child in value.items() for k, v in walk(f"{prefix}.{key}", child).items()}

    values = config.model_dump(mode="json")
    if config.batch.samples is None:
        del values["batch"]["samples"]
    free = _FREE if config.steps == "auto" else _FREE | set(LENGTH)
    return {k: v for key, value in values.items() if key not in free for k, v in walk(key, value).items()}
