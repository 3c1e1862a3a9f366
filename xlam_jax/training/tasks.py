"""What a run trains on which data: the differences between objectives, in one place for the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.fingerprint import weights_key
from xlam_jax.models.params import Params
from xlam_jax.shards.batch import DTYPES, FORK_DTYPES, PAIR_DTYPES, Batch, ForkBatch, PairBatch
from xlam_jax.shards.loader import PackedSource
from xlam_jax.training import partition
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.objectives import Objective, sft_objective
from xlam_jax.training.preference.objective import dpo_objective, reference_logprobs
from xlam_jax.training.preference.reference import PreferenceSource, check_facts


class TrainingTask(Protocol):
    """One objective.

    Attributes:
      loss_label: what the loss is, on the axis of a plot.
    """

    loss_label: str

    def open(self, folder: str) -> PackedSource:
        """The rows of a data folder, checked to be of the right kind."""
        ...

    def objective(self, source: PackedSource) -> Objective:
        """The objective for rows of `source`."""
        ...

    def shapes(self, rows: int, source: PackedSource) -> Any:
        """`jax.ShapeDtypeStruct`s of a micro-batch of so many rows of `source`."""
        ...

    def facts(self) -> dict[str, Any]:
        """What beside the config must not change over a resume."""
        ...

    def start(self, params: Params) -> None:
        """Takes notice of a fresh run's parameters before anything is trained (and may refuse them)."""
        ...

    def prepare(self, batch: Any, state: Any) -> Any:
        """The batch on devices, `[A, B, S]` or `[B, S]`, with what the objective needs beside the rows."""
        ...

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        """What a line of metrics gives reason to say; each thing once a run."""
        ...


class Sft:
    """Supervised fine-tuning."""

    loss_label = "cross-entropy per trained token (nats)"

    def __init__(self, config: TrainConfig, cfg: ModelConfig):
        self._config, self._cfg = config, cfg

    def open(self, folder: str) -> PackedSource:
        source = PackedSource(folder, verify=self._config.data.verify)
        if source.manifest.get("kind", "sft") != "sft":
            raise InputError("the data holds preference pairs", where=folder, hint="objective.kind=dpo")
        return source

    def objective(self, source: PackedSource) -> Objective:
        config = self._config
        # Rounded up, so that data that differs a little compiles to the same program.
        most = -(-source.manifest["max_row_targets"] // 64) * 64
        return sft_objective(
            self._cfg,
            remat=config.remat,
            compute_dtype=config.precision.compute_dtype,
            attention=config.attention,
            moe=config.moe,
            max_targets=most,
            max_segments=most_segments(source),
        )

    def shapes(self, rows: int, source: PackedSource) -> Batch | ForkBatch:
        dtypes = FORK_DTYPES if source.manifest.get("share_prompts") else DTYPES
        return type(dtypes)(*(jax.ShapeDtypeStruct((rows, source.seq_len), dtype) for dtype in dtypes))

    def facts(self) -> dict[str, Any]:
        return {}

    def start(self, params: Params) -> None:
        pass

    def prepare(self, batch: Batch, state: Any) -> Batch:
        return batch

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        return []


class Dpo:
    """Preference optimisation.

    Args:
      load: gives the starting parameters again, for `reference: copy`.
      base: whole parameters -> the parameters without their adapters, for `reference: base`.
    """

    loss_label = "loss per pair"

    def __init__(
        self,
        config: TrainConfig,
        cfg: ModelConfig,
        *,
        load: Callable[[], Params],
        base: Callable[[Params], Params] | None = None,
    ):
        self._config, self._cfg, self._load, self._base = config, cfg, load, base
        self._settings = config.objective
        if self._settings.reference == "base" and base is None:
            raise InputError(
                "reference: base is the model without its adapters, and no adapters are trained",
                where="objective.reference",
                hint="precomputed or copy",
            )
        self._sources: list[PreferenceSource] = []
        self._copy: Params | None = None
        self._fill: dict[Any, Callable] = {}
        self._warned = False

    def open(self, folder: str) -> PackedSource:
        config = self._config
        stored = self._settings.reference == "precomputed"
        source = PreferenceSource(folder, verify=config.data.verify, reference=stored)
        if stored:
            check_facts(config.precision.model_dump(mode="json"), source.facts, Path(folder))
        self._sources.append(source)
        return source

    def objective(self, source: PackedSource) -> Objective:
        return dpo_objective(self._model(source), self._settings)

    def _model(self, source: PackedSource) -> Any:
        config = self._config
        assert isinstance(source, PreferenceSource)
        return source.pair_model(
            self._cfg,
            remat=config.remat,
            compute_dtype=config.precision.compute_dtype,
            attention=config.attention,
            moe=config.moe,
        )

    def shapes(self, rows: int, source: PackedSource) -> PairBatch:
        return PairBatch(*(jax.ShapeDtypeStruct((rows, source.seq_len), dtype) for dtype in PAIR_DTYPES))

    def facts(self) -> dict[str, Any]:
        stored = self._sources[0].facts if self._sources else {}
        return {"objective.reference_weights": stored["weights"]} if stored else {}

    def start(self, params: Params) -> None:
        if self._settings.reference == "precomputed":
            weights = weights_key(params)
            for source in self._sources:
                check_facts({"weights": weights}, source.facts, source.folder)

    def prepare(self, batch: PairBatch, state: Any) -> PairBatch:
        kind = self._settings.reference
        if kind not in ("copy", "base"):
            return batch
        if kind == "base":
            assert self._base
            params = self._base(partition.merge(state.params, state.frozen))
        else:
            if self._copy is None:
                self._copy = self._load()
            params = self._copy
        return self._filler(batch.tokens.ndim)(params, batch)

    def _filler(self, ndim: int) -> Callable:
        if ndim not in self._fill:
            models = [self._model(source) for source in self._sources]
            most = ("max_targets", "max_pairs", "max_segments")
            model = models[0]._replace(**{name: max(getattr(m, name) for m in models) for name in most})
            compute = reference_logprobs(model)

            def fill(params: Params, batch: PairBatch) -> PairBatch:
                if ndim == 2:
                    return batch._replace(reference=compute(params, batch))
                return batch._replace(reference=jax.lax.map(lambda micro: compute(params, micro), batch))

            self._fill[ndim] = jax.jit(fill)
        return self._fill[ndim]

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        limit, change = self._settings.chosen_drop_limit, row.get("chosen_change", 0.0)
        if self._warned or self._settings.reference == "none" or change >= -limit:
            return []
        self._warned = True
        return [
            f"the chosen answers became less likely by {-change:.1f} nats an answer (limit {limit:g}): "
            "objective.nll_weight=1 or a larger beta hold them"
        ]


def most_segments(source: PackedSource) -> int | None:
    """A bound on the segments of a row, padding counted; None for data written before it was counted."""
    most = source.manifest.get("max_row_segments")
    # Rounded up, so that data that differs a little compiles to the same program.
    return -(-most // 8) * 8 if most else None


def make_task(
    config: TrainConfig,
    cfg: ModelConfig,
    mesh: Mesh,
    base: Callable[[Params], Params] | None = None,
) -> TrainingTask:
    """The task that `config.objective` names.

    Args:
      base: whole parameters -> those without adapters, where adapters are trained.
    """
    if config.objective.kind == "sft":
        return Sft(config, cfg)

    def load() -> Params:
        from xlam_jax.weights import load_model

        return load_model(config.model, dtype=config.precision.param_dtype, mesh=mesh)[1]

    return Dpo(config, cfg, load=load, base=base)
