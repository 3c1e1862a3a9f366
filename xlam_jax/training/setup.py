"""What a training run is made of, before its first step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console

from xlam_jax.errors import InputError
from xlam_jax.models.attention import Facts, probe_attention
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.rope import softmax_scale
from xlam_jax.parallel.mesh import MeshConfig, batch_share, make_mesh
from xlam_jax.parallel.rules import batch_sharding
from xlam_jax.shards.folder import read_manifest
from xlam_jax.shards.loader import PackedSource, Steps, to_device
from xlam_jax.training.checkpoint import state_bytes
from xlam_jax.training.checks import check_batch, check_context, check_data
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.optimizer import check_warmup, make_optimizer
from xlam_jax.training.samples import with_rows
from xlam_jax.training.step import Metrics, TrainState, make_eval, make_step, micro_sharding
from xlam_jax.training.tasks import TrainingTask, make_task
from xlam_jax.training.trainable import Trainable, trainable_of


def with_defaults(config: TrainConfig, backend: str) -> TrainConfig:
    """What nobody has set is chosen for the hardware: on accelerators all of them and products in bfloat16, on the
    CPU one device and float32."""
    if backend == "cpu":
        return config
    changes: dict[str, Any] = {}
    if "mesh" not in config.model_fields_set:
        changes["mesh"] = MeshConfig(fsdp=-1)
    if "compute_dtype" not in config.precision.model_fields_set:
        changes["precision"] = config.precision.model_copy(update={"compute_dtype": "bfloat16"})
    return config.model_copy(update=changes)


def describe(config: TrainConfig, mesh: jax.sharding.Mesh) -> str:
    """One line of what was chosen or told."""
    device = mesh.devices.flat[0]
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1) or "no mesh"
    kind = "cpu" if device.platform == "cpu" else device.device_kind
    return (
        f"{mesh.size} x {kind} ({axes}), {config.precision.param_dtype} parameters, {config.precision.compute_dtype} "
        f"products, attention {config.attention}, remat {config.remat}"
    )


@dataclasses.dataclass(frozen=True)
class Setup:
    """What `set_up` made of a config.

    Attributes:
      config: with what nobody had set filled in.
      micro: rows of a micro-batch.
      shapes, shardings: of the state.
      step_fn: `make_step`'s.
      began: `time.monotonic()` when the command began.
    """

    config: TrainConfig
    console: Console
    began: float
    cfg: ModelConfig
    mesh: jax.sharding.Mesh
    task: TrainingTask
    data: PackedSource
    eval_data: PackedSource | None
    micro: int
    trained: Trainable
    tx: optax.GradientTransformation
    shapes: TrainState
    shardings: TrainState
    objective: Any
    step_fn: Callable[..., tuple[TrainState, Metrics]]

    @property
    def out(self) -> Path:
        """The run folder."""
        return Path(self.config.out)

    def say(self, text: str) -> None:
        """A line for the person at the screen."""
        self.console.print(text, highlight=False, markup=False)

    def steps(self, num_steps: int) -> Steps:
        """The rows of each step."""
        batch = self.config.batch
        share = batch_share(self.mesh)
        return Steps(self.data, batch.rows, batch.accumulation, self.config.seed, num_steps, *share)

    def fresh(self) -> TrainState:
        """The state of step 0."""
        if text := self.trained.describe():
            self.say(text)
        return self.trained.fresh(self.tx, self.shardings, self.task.start)

    def put(self, batch: Any, state: TrainState, sharding: Any = None) -> Any:
        """This process's rows of a batch on the devices, with what the objective needs beside them.

        Args:
          sharding: of the rows; by default that of a step, `[A, B, S]`.
        """
        place = sharding or micro_sharding(self.mesh)
        return self.task.prepare(to_device(batch, place, batch_share(self.mesh)[1]), state)

    def seconds(self) -> float:
        """Since the command began."""
        return round(time.monotonic() - self.began, 2)


# (config, model, mesh, positions of a row, segments of a row at most) -> (policy, why); `plan.remat.choose` is one.
ChooseRemat = Callable[[TrainConfig, ModelConfig, jax.sharding.Mesh, int, int | None], tuple[str, str]]


def set_up(
    config: TrainConfig, console: Console, began: float, choose_remat: ChooseRemat | None = None
) -> Setup:
    """Everything of a run before its first step. Nothing is written, so that bad input leaves no trace.

    Args:
      choose_remat: decides where the config says `remat: auto`; without it that is "full", which needs least memory.

    Raises:
      InputError: bad config, data or model, or a disk that is too small.
    """
    from xlam_jax.files import check_space
    from xlam_jax.weights.hf_in import read_config

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    config = with_defaults(config, jax.default_backend())
    cfg = read_config(config.model)
    if Path(config.out).resolve() == Path(config.model).resolve():
        raise InputError(
            "the run would write into the folder of its own base model",
            where=f"out: {config.out}",
            hint="another `out`",
        )
    manifest = read_manifest(Path(config.data.train))
    mesh = make_mesh(config.mesh)
    config = with_rows(config, manifest, mesh, say)
    config = _with_attention(config, cfg, manifest, say)
    config = _with_remat(config, cfg, manifest, mesh, choose_remat, say)
    say(describe(config, mesh))
    trained = trainable_of(config, cfg, mesh)
    task = make_task(config, cfg, mesh, trained.base)
    data = task.open(config.data.train)
    eval_data = task.open(config.data.eval) if config.data.eval else None
    for source in filter(None, (data, eval_data)):
        check_data(source, cfg, config.model)
    micro = check_batch(config, mesh)
    if config.steps != "auto":
        check_warmup(config.optim, config.steps)
    check_context(data.seq_len, mesh)
    tx = make_optimizer(config.optim, trained.decay_mask(), config.seed)
    shapes, shardings = trained.state_spec(tx)
    objective = task.objective(data)
    with jax.set_mesh(mesh):  # a bad `remat` or `attention` is found before anything is written
        jax.eval_shape(objective, trained.params_spec(shapes), task.shapes(micro, data))
    check_space(Path(config.out), state_bytes(shapes))
    step_fn = make_step(objective, tx, shardings, config.optim.rounding, config.seed)
    return Setup(
        config, console, began, cfg, mesh, task, data, eval_data, micro, trained, tx, shapes, shardings, objective,
        step_fn,
    )  # fmt: skip


def _with_remat(
    config: TrainConfig,
    cfg: ModelConfig,
    manifest: Mapping[str, Any],
    mesh: jax.sharding.Mesh,
    choose_remat: ChooseRemat | None,
    say: Callable[[str], None],
) -> TrainConfig:
    """`remat: auto` becomes the policy that computes least again of those that fit."""
    if config.remat != "auto":
        return config
    policy, reason = "full", "nobody here judges what fits"
    if choose_remat:
        policy, reason = choose_remat(
            config, cfg, mesh, manifest["seq_len"], manifest.get("max_row_segments")
        )
    say(f"remat: {policy} ({reason})")
    return config.model_copy(update={"remat": policy})


def _with_attention(
    config: TrainConfig, cfg: ModelConfig, manifest: Mapping[str, Any], say: Callable[[str], None]
) -> TrainConfig:
    """`attention: auto` becomes the backend that this machine was seen to compute rightly."""
    if config.attention != "auto":
        return config
    if manifest.get("share_prompts"):
        say("attention: xla (the records of this data share prompts)")
        return config.model_copy(update={"attention": "xla"})
    facts = Facts(
        cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, cfg.v_head_dim,
        manifest["seq_len"], config.precision.compute_dtype, cfg.sliding_window, softmax_scale(cfg),
    )  # fmt: skip
    choice = probe_attention(facts)
    say(f"attention: {choice.backend} ({choice.reason})")
    return config.model_copy(update={"attention": choice.backend})


def describe_model(run: Setup) -> None:
    """config.json, tokenizer, licences and origin of the model, so that the run folder explains its parameters when
    the base is gone."""
    from xlam_jax.files import write_json
    from xlam_jax.weights.carried import carry
    from xlam_jax.weights.generation import read_generation
    from xlam_jax.weights.hf_out import write_configs
    from xlam_jax.weights.provenance import BASE_PROVENANCE, base_facts
    from xlam_jax.weights.tokenizer_files import copy_tokenizer

    if jax.process_index() == 0:
        model = Path(run.config.model)
        write_configs(run.out, run.cfg, run.config.precision.param_dtype, read_generation(model))
        if (model / "tokenizer.json").is_file():
            copy_tokenizer(model, run.out)
        carry((run.out, model), run.out)
        write_json(run.out / BASE_PROVENANCE, base_facts(model))


def row_losses(run: Setup, state: TrainState, number: int) -> np.ndarray:
    """Loss of each row of step `number` by the parameters of `state`: [A, B]; one forward pass a row, for reports."""
    evaluate, params, sharding = make_eval(run.objective), run.trained.whole(state), batch_sharding(run.mesh)
    batch = run.steps(number + 1)[number]
    a, mine, _ = batch.tokens.shape
    part_index, parts = batch_share(run.mesh)
    losses = np.zeros((a, mine * parts))
    for micro, row in np.ndindex(*losses.shape):
        here = np.arange(mine) + mine * part_index == row
        part = type(batch)(*(field[micro] for field in batch))
        part = part._replace(loss_weights=np.where(here[:, None], part.loss_weights, np.float32(0)))
        sums = jax.device_get(evaluate(params, run.put(part, state, sharding)))
        losses[micro, row] = sums["loss_sum"] / max(float(sums["weight_sum"]), 1e-6)
    return losses
