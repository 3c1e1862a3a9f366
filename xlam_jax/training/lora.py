"""A run that trains adapters: its state, and the base model below them.

The state's `params` are a tree of adapters in float32, its `frozen` the whole base. Checkpoints hold the
former and name the latter by folder and `weights_key`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.fingerprint import weights_key
from xlam_jax.models.lora import adapter_shapes, base_places, init_adapters, quantize_base
from xlam_jax.models.quantized import need_qwix
from xlam_jax.models.spec import shapes
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.partition import Frozen
from xlam_jax.training.step import TrainState, opt_places


class LoraRun:
    """What `config.lora` asks for.

    Raises:
      InputError: targets that match nothing, `freeze` beside `lora`, or no qwix for a quantised base.
    """

    def __init__(self, config: TrainConfig, cfg: ModelConfig, mesh: Mesh):
        assert config.lora
        if config.freeze or config.freeze_layers:
            raise InputError(
                "the base model is frozen as a whole when adapters are trained",
                where="freeze" if config.freeze else "freeze_layers",
                hint="choose what is trained by lora.targets",
            )
        if config.lora.quantize:
            need_qwix()
        self.config, self.lora, self.cfg, self.mesh = config, config.lora, cfg, mesh
        self._shapes = adapter_shapes(cfg, self.lora, mesh=mesh)
        self._base: Any = None

    def decay_mask(self) -> Any:
        """Weight decay applies to every factor of an adapter."""
        return jax.tree.map(lambda _: True, self._shapes)

    def state_spec(self, tx: optax.GradientTransformation) -> tuple[TrainState, TrainState]:
        """As `step.state_spec`."""
        dtype, everywhere = self.config.precision.param_dtype, NamedSharding(self.mesh, P())
        adapters = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), self._shapes)
        places = jax.tree.map(lambda s: s.sharding, self._shapes)
        whole = jax.eval_shape(lambda p: quantize_base(p, self.cfg, self.lora), shapes(self.cfg, dtype))
        step = jax.ShapeDtypeStruct((), jnp.int32)
        state = TrainState(step, adapters, jax.eval_shape(tx.init, adapters), Frozen(whole))
        opt_state = opt_places(state, places, everywhere)
        frozen = Frozen(base_places(whole, self.cfg, self.mesh))
        return state, TrainState(everywhere, places, opt_state, frozen)

    def load_base(self) -> dict[str, Any]:
        """Reads the base; returns what a checkpoint says of it: `base` (its `weights_key`) and `lora`."""
        from xlam_jax.weights import load_model

        model, dtype = self.config.model, self.config.precision.param_dtype
        cfg, params = load_model(model, dtype=dtype, mesh=self.mesh)
        assert cfg == self.cfg, "config.json changed while it was read"
        key = weights_key(params)
        self._base = quantize_base(params, cfg, self.lora, self.mesh, take=True)
        about = {
            "config": self.lora.model_dump(mode="json"),
            "model": str(Path(model).absolute()),
            "dtype": dtype,
        }
        return {"base": key, "lora": about}

    def fresh(self, tx: optax.GradientTransformation, places: TrainState) -> TrainState:
        """The state of step 0, once `load_base` was called."""
        key = jax.random.key(self.config.seed)
        adapters = init_adapters(self.cfg, self.lora, key, mesh=self.mesh)
        opt_state = jax.jit(tx.init, out_shardings=places.opt_state)(adapters)
        step = jax.device_put(jnp.int32(0), places.step)
        return self.with_base(TrainState(step, adapters, opt_state, Frozen(None)))

    def with_base(self, state: TrainState) -> TrainState:
        """The state on the base that `load_base` read, whose arrays it takes over."""
        whole, self._base = self._base, None
        return dataclasses.replace(state, frozen=Frozen(whole))
