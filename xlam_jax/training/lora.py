"""A run that trains adapters: its state, and the base model below them.

The state's `params` are a tree of adapters in float32, its `frozen` the whole base. Checkpoints hold the
former and name the latter by folder and `weights_key`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
from xlam_jax.models.lora import adapter_shapes, base_shardings, count_adapters, init_adapters, quantize_base
from xlam_jax.models.lora import base as without_adapters
from xlam_jax.models.params import Params
from xlam_jax.models.quantized import need_qwix
from xlam_jax.models.spec import count_params, shapes
from xlam_jax.training import partition
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.partition import Frozen
from xlam_jax.training.step import TrainState, opt_state_shardings


class Adapters:
    """What `config.lora` asks for; a `trainable.Trainable`.

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
        self.base: Callable[[Params], Params] | None = without_adapters
        self._config, self._lora, self._cfg, self._mesh = config, config.lora, cfg, mesh
        self._shapes = adapter_shapes(cfg, self._lora, mesh=mesh)
        self._read: Any = None

    def decay_mask(self) -> Any:
        """Weight decay applies to every factor of an adapter."""
        return jax.tree.map(lambda _: True, self._shapes)

    def state_spec(self, tx: optax.GradientTransformation) -> tuple[TrainState, TrainState]:
        """As `step.state_spec`."""
        dtype, everywhere = self._config.precision.param_dtype, NamedSharding(self._mesh, P())
        adapters = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), self._shapes)
        shardings = jax.tree.map(lambda s: s.sharding, self._shapes)
        whole = jax.eval_shape(lambda p: quantize_base(p, self._cfg, self._lora), shapes(self._cfg, dtype))
        step = jax.ShapeDtypeStruct((), jnp.int32)
        state = TrainState(step, adapters, jax.eval_shape(tx.init, adapters), Frozen(whole))
        opt_state = opt_state_shardings(state, shardings, everywhere)
        frozen = Frozen(base_shardings(whole, self._cfg, self._mesh))
        return state, TrainState(everywhere, shardings, opt_state, frozen)

    def params_spec(self, state: TrainState) -> Params:
        """Of the base with its adapters."""
        return partition.combine(state.params, state.frozen)

    def open(self) -> dict[str, Any]:
        """Reads the base; a checkpoint names it: `base` (its `weights_key`) and `lora`."""
        from xlam_jax.weights import load_model

        model, dtype = self._config.model, self._config.precision.param_dtype
        cfg, params = load_model(model, dtype=dtype, mesh=self._mesh)
        assert cfg == self._cfg, "config.json changed while it was read"
        key = weights_key(params)
        self._read = quantize_base(params, cfg, self._lora, self._mesh, take=True)
        about = {
            "config": self._lora.model_dump(mode="json"),
            "model": str(Path(model).absolute()),
            "dtype": dtype,
        }
        return {"base": key, "lora": about}

    def fresh(
        self, tx: optax.GradientTransformation, shardings: TrainState, seen: Callable[[Params], None]
    ) -> TrainState:
        """Adapters that change nothing yet, on the base."""
        key = jax.random.key(self._config.seed)
        adapters = init_adapters(self._cfg, self._lora, key, mesh=self._mesh)
        opt_state = jax.jit(tx.init, out_shardings=shardings.opt_state)(adapters)
        step = jax.device_put(jnp.int32(0), shardings.step)
        state = self.restored(TrainState(step, adapters, opt_state, Frozen(None)))
        seen(without_adapters(self.whole(state)))
        return state

    def restored(self, state: TrainState) -> TrainState:
        """On the base that `open` read, whose arrays it takes over."""
        whole, self._read = self._read, None
        return dataclasses.replace(state, frozen=Frozen(whole))

    def whole(self, state: TrainState) -> Params:
        """The base with its adapters beside it."""
        return partition.merge(state.params, state.frozen)

    def describe(self) -> str:
        """How many parameters are trained."""
        trained, whole = count_adapters(self._cfg, self._lora), count_params(self._cfg)
        return f"{trained} adapter parameters, {trained / whole:.2%} of the model's {whole}"
