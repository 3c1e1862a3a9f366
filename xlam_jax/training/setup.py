"""What a training run is made of, before its first step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from xlam_jax.errors import InputError
from xlam_jax.models.attention import Facts, probe_attention
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import base as without_adapters
from xlam_jax.models.lora import count_adapters
from xlam_jax.models.params import Params
from xlam_jax.models.rope import softmax_scale
from xlam_jax.models.spec import count_params, decay_mask, shapes
from xlam_jax.parallel.mesh import MeshConfig, batch_share, make_mesh
from xlam_jax.parallel.rules import batch_sharding
from xlam_jax.shards.folder import read_manifest
from xlam_jax.shards.loader import Steps, to_device
from xlam_jax.training import partition
from xlam_jax.training.checkpoint import state_bytes
from xlam_jax.training.checks import check_batch, check_context, check_data
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.lora import LoraRun
from xlam_jax.training.optimizer import check_warmup, make_optimizer
from xlam_jax.training.samples import with_rows
from xlam_jax.training.step import TrainState, init_state, make_eval, make_step, micro_sharding, state_spec
from xlam_jax.training.tasks import make_task


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


class Work:
    """One run's objects. Built before anything is written, so that bad input leaves no trace."""

    def __init__(self, config: TrainConfig, console: Console, began: float):
        from xlam_jax.files import check_space
        from xlam_jax.weights.hf_in import read_config

        config = with_defaults(config, jax.default_backend())
        self.config, self.console, self.began = config, console, began
        self.out = Path(config.out)
        self.cfg: ModelConfig = read_config(config.model)
        if self.out.resolve() == Path(config.model).resolve():
            raise InputError(
                "the run would write into the folder of its own base model",
                where=f"out: {config.out}",
                hint="another `out`",
            )
        self.mesh = make_mesh(config.mesh)
        config = self.config = self._with_attention(config)
        self._say(describe(config, self.mesh))
        self.task = make_task(config, self.cfg, self.mesh, without_adapters if config.lora else None)
        self.data = self.task.open(config.data.train)
        self.eval_data = self.task.open(config.data.eval) if config.data.eval else None
        for source in filter(None, (self.data, self.eval_data)):
            check_data(source, self.cfg, config.model)
        config = self.config = with_rows(config, self.data.manifest, self.mesh, self._say)
        micro = check_batch(config, self.mesh)
        if config.steps != "auto":
            check_warmup(config.optim, config.steps)
        check_context(self.data.seq_len, self.mesh)
        partition.check(self.cfg, config.freeze, config.freeze_layers)
        self.lora = LoraRun(config, self.cfg, self.mesh) if config.lora else None
        cut = (self.cfg, config.freeze, config.freeze_layers)
        mask = self.lora.decay_mask() if self.lora else partition.split_like(decay_mask(self.cfg), *cut)[0]
        self.tx = make_optimizer(config.optim, mask, config.seed)
        self.shapes, self.places = (
            self.lora.state_spec(self.tx)
            if self.lora
            else state_spec(self.cfg, self.tx, self.mesh, config.precision.param_dtype, *cut[1:])
        )
        self.objective = self.task.objective(self.data)
        self.step_fn = make_step(self.objective, self.tx, self.places, config.optim.rounding, config.seed)
        self.sharding = micro_sharding(self.mesh)
        self.parts = batch_share(self.mesh)[1]
        self.micro = micro
        self._trace()
        check_space(self.out, state_bytes(self.shapes))
        self._merge = jax.jit(partition.merge) if config.freeze_layers else partition.merge
        self._row_fn: Any = None

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    def _with_attention(self, config: TrainConfig) -> TrainConfig:
        """`attention: auto` becomes the backend that this machine was seen to compute rightly."""
        if config.attention != "auto":
            return config
        manifest = read_manifest(Path(config.data.train))
        if manifest.get("share_prompts"):
            self.console.print("attention: xla (the records of this data share prompts)", highlight=False)
            return config.model_copy(update={"attention": "xla"})
        cfg, dtype = self.cfg, config.precision.compute_dtype
        facts = Facts(
            cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, cfg.v_head_dim,
            manifest["seq_len"], dtype, cfg.sliding_window, softmax_scale(cfg),
        )  # fmt: skip
        choice = probe_attention(facts)
        self.console.print(f"attention: {choice.backend} ({choice.reason})", highlight=False)
        return config.model_copy(update={"attention": choice.backend})

    def _trace(self) -> None:
        """Traces the objective, so that a bad `remat` or `attention` is found before anything is written."""
        batch = self.task.shapes(self.micro, self.data)
        params = shapes(self.cfg)
        if self.lora:
            params = partition.combine(self.shapes.params, self.shapes.frozen)
        with jax.set_mesh(self.mesh):
            jax.eval_shape(self.objective, params, batch)

    def describe_model(self, run: Path) -> None:
        """config.json, tokenizer, licences and origin of the model, so that the run folder explains its parameters
        when the base is gone."""
        from xlam_jax.files import write_json
        from xlam_jax.weights.carried import carry
        from xlam_jax.weights.generation import read_generation
        from xlam_jax.weights.hf_out import write_configs
        from xlam_jax.weights.provenance import BASE_PROVENANCE, base_facts
        from xlam_jax.weights.tokenizer_files import copy_tokenizer

        if jax.process_index() == 0:
            model = Path(self.config.model)
            write_configs(run, self.cfg, self.config.precision.param_dtype, read_generation(model))
            if (model / "tokenizer.json").is_file():
                copy_tokenizer(model, run)
            carry((run, model), run)
            write_json(run / BASE_PROVENANCE, base_facts(model))

    def steps(self, num_steps: int) -> Steps:
        batch = self.config.batch
        share = batch_share(self.mesh)
        return Steps(self.data, batch.rows, batch.accumulation, self.config.seed, num_steps, *share)

    def fresh(self) -> TrainState:
        """The state of step 0."""
        if self.lora:
            trained, whole = count_adapters(self.cfg, self.lora.lora), count_params(self.cfg)
            text = f"{trained} adapter parameters, {trained / whole:.2%} of the model's {whole}"
            self.console.print(text, highlight=False)
            state = self.lora.fresh(self.tx, self.places)
            self.task.start(without_adapters(self.whole(state)))
            return state
        from xlam_jax.weights import load_model

        cfg, params = load_model(self.config.model, dtype=self.config.precision.param_dtype, mesh=self.mesh)
        assert cfg == self.cfg, "config.json changed while it was read"
        self.task.start(params)
        state, _ = init_state(params, cfg, self.tx, self.mesh, self.config.freeze, self.config.freeze_layers)
        return state

    def put(self, batch: Any, sharding: Any, state: TrainState) -> Any:
        """This process's rows of a batch on the devices, with what the objective needs beside them."""
        return self.task.prepare(to_device(batch, sharding, self.parts), state)

    def whole(self, state: TrainState) -> Params:
        """All parameters of a state, frozen ones too, layers stacked."""
        return self._merge(state.params, state.frozen)

    def seconds(self) -> float:
        """Since the command began."""
        return round(time.monotonic() - self.began, 2)

    def row_losses(self, state: TrainState, number: int) -> np.ndarray:
        """Loss of each row of a step by the parameters of `state`: [A, B]; one forward pass a row, for
        reports."""
        self._row_fn = self._row_fn or make_eval(self.objective)
        params, place = self.whole(state), batch_sharding(self.mesh)
        batch = self.steps(number + 1)[number]
        a, mine, _ = batch.tokens.shape
        part_index, parts = batch_share(self.mesh)
        found = np.zeros((a, mine * parts))
        for micro, row in np.ndindex(*found.shape):
            here = np.arange(mine) + mine * part_index == row
            part = type(batch)(*(field[micro] for field in batch))
            part = part._replace(loss_weights=np.where(here[:, None], part.loss_weights, np.float32(0)))
            sums = jax.device_get(self._row_fn(params, self.put(part, place, state)))
            found[micro, row] = sums["loss_sum"] / max(float(sums["weight_sum"]), 1e-6)
        return found
