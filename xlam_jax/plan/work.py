"""What is planned: a model, a batch and the choices that decide memory and time; all of it hashable."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.experts.block import DEFAULT_SLACK
from xlam_jax.models.flops import flops_per_token
from xlam_jax.models.lora import LoraConfig
from xlam_jax.models.named import BASES, NAMED, named_config
from xlam_jax.parallel.exchange.entry import choose_exchange
from xlam_jax.parallel.mesh import AXES, BATCH_AXES, MeshConfig, mesh_shape
from xlam_jax.training.config import MoeOptions, TrainConfig
from xlam_jax.training.optimizer import OptimConfig

Sizes = dict[str, int]  # mesh axis -> size, in the order of AXES


@dataclasses.dataclass(frozen=True)
class Work:
    """One training step.

    Attributes:
      rows: packed rows of a whole step over all devices and micro-batches.
      lora: the base is frozen and adapters are trained.
      chunk: positions of a row that are projected on the vocabulary at once.
      max_segments: documents of a row at most, padding counted as one; for the attention that keeps statistics of each.
      dtypes: names, as in `PrecisionConfig`.
    """

    cfg: ModelConfig
    seq_len: int
    rows: int
    accumulation: int = 1
    remat: str = "none"
    attention: str = "xla"
    param_dtype: str = "float32"
    compute_dtype: str = "float32"
    optim: OptimConfig = dataclasses.field(default=OptimConfig())
    freeze: tuple[str, ...] = ()
    freeze_layers: int = 0
    lora: LoraConfig | None = None
    chunk: int = 256
    max_segments: int = 8
    moe: MoeOptions = dataclasses.field(default=MoeOptions())

    def replace(self, **changes: Any) -> Work:
        """A copy with `changes`."""
        return dataclasses.replace(self, **changes)

    def flops(self) -> dict[str, Any]:
        """Model FLOPs of one position, see `models.flops.flops_per_token`."""
        return flops_per_token(
            self.cfg, self.seq_len, freeze=self.freeze, freeze_layers=self.freeze_layers, lora=self.lora
        )

    @property
    def tokens(self) -> int:
        """Positions of a step, padding included."""
        return self.rows * self.seq_len

    def micro_rows(self, sizes: Sizes) -> int:
        """Rows of a micro-batch on one device, at least one."""
        return max(1, self.rows // (self.accumulation * ways(sizes)))

    def micro_tokens(self, sizes: Sizes) -> int:
        """Positions of a micro-batch on one device."""
        return self.micro_rows(sizes) * max(1, self.seq_len // sizes.get("context", 1))

    def exchange_of(self, sizes: Sizes) -> str:
        """How tokens come to their experts on this mesh: none, gather, all_to_all or ragged."""
        peers = sizes.get("expert", 1)
        if self.cfg.moe is None or peers == 1:
            return "none"
        if self.moe.exchange != "auto":
            return self.moe.exchange
        k = self.cfg.moe.experts_per_token
        return choose_exchange(self.micro_tokens(sizes), k, peers, DEFAULT_SLACK)


def ways(sizes: Sizes) -> int:
    """How many devices the rows of a batch are split over."""
    return math.prod(sizes.get(axis, 1) for axis in BATCH_AXES)


def sizes_of(mesh: MeshConfig, devices: int) -> Sizes:
    """Axis -> size, the -1 filled in.

    Raises:
      InputError: as `parallel.mesh.mesh_shape`.
    """
    return dict(zip(AXES, mesh_shape(mesh, devices), strict=True))


def name_mesh(sizes: Sizes) -> str:
    """For tables: "fsdp=8,expert=8"; "1 device" when nothing is split."""
    return ",".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1) or "1 device"


def parse_mesh(text: str) -> MeshConfig:
    """ "fsdp=8,expert=8" -> MeshConfig.

    Raises:
      InputError: an unknown axis, or a size that is no number.
    """
    values: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        axis, _, size = part.partition("=")
        if axis not in AXES or not size.lstrip("-").isdigit():
            raise InputError(
                f"mesh {part!r} is not AXIS=SIZE", where="--mesh", hint=f"axes: {', '.join(AXES)}"
            )
        values[axis] = int(size)
    return MeshConfig(**values)


def find_model(name: str) -> ModelConfig:
    """The shape of a model folder, of a released name, or of a folder that is not here but is called like one.

    Raises:
      InputError: neither.
    """
    if (Path(name) / "config.json").is_file():
        from xlam_jax.weights.hf_in import read_config

        return read_config(name)
    key = Path(name).name.lower()
    return named_config(key if key in NAMED or key in BASES else name)


def find_shape(config: TrainConfig) -> ModelConfig:
    """The shape of a training config's model: of its folder, or of the name that the config gives while there is none.

    Raises:
      InputError: neither is there, or an unknown name.
    """
    if config.shape and not Path(config.model).exists():
        return named_config(config.shape)
    try:
        return find_model(config.model)
    except InputError as e:
        if Path(config.model).exists():
            raise
        hint = "--model NAME, or shape: NAME in the config, such as mistral-7b-v0.2"
        raise InputError(
            f"the model is not there, and its shape is not named: {e.what}", where=config.model, hint=hint
        ) from e


def work_of(config: TrainConfig, cfg: ModelConfig, seq_len: int) -> Work:
    """The step of a training config, whose `batch.rows` counts."""
    return Work(
        cfg=cfg,
        seq_len=seq_len,
        rows=config.batch.rows,
        accumulation=config.batch.accumulation,
        remat=config.remat,
        attention=config.attention,
        param_dtype=config.precision.param_dtype,
        compute_dtype=config.precision.compute_dtype,
        optim=config.optim,
        freeze=config.freeze,
        freeze_layers=config.freeze_layers,
        moe=config.moe,
        lora=config.lora,
    )
