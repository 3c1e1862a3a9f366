"""What a run trains: the model, but for what is frozen of it, or adapters on it.

The one place that asks which: the rest of the trainer speaks to a `Trainable`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import optax
from jax.sharding import Mesh

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params
from xlam_jax.models.spec import decay_mask, shapes
from xlam_jax.training import partition
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.lora import Adapters
from xlam_jax.training.step import TrainState, init_state, state_spec


class Trainable(Protocol):
    """How a state is made of a base model, and a model of a state.

    Attributes:
      base: of whole parameters, the model that training began with; None where nothing keeps it.
    """

    base: Callable[[Params], Params] | None

    def decay_mask(self) -> Any:
        """A bool for each leaf that is trained: whether weight decay applies."""
        ...

    def state_spec(self, tx: optax.GradientTransformation) -> tuple[TrainState, TrainState]:
        """Shapes and shardings of the state; nothing is made."""
        ...

    def params_spec(self, state: TrainState) -> Params:
        """Shapes of the parameters that the objective is given, from those of the state."""
        ...

    def open(self) -> dict[str, Any]:
        """Reads what every start needs; returns what a checkpoint says of it."""
        ...

    def fresh(
        self, tx: optax.GradientTransformation, shardings: TrainState, seen: Callable[[Params], None]
    ) -> TrainState:
        """The state of step 0, once `open` was called.

        Args:
          seen: told the base model's parameters, before the state takes them over.
        """
        ...

    def restored(self, state: TrainState) -> TrainState:
        """A state as a checkpoint holds it, complete."""
        ...

    def whole(self, state: TrainState) -> Params:
        """All parameters of a state, frozen ones too, layers stacked."""
        ...

    def describe(self) -> str:
        """A line for the screen, or none."""
        ...


def trainable_of(config: TrainConfig, cfg: ModelConfig, mesh: Mesh) -> Trainable:
    """What `config.lora`, `freeze` and `freeze_layers` ask for.

    Args:
      mesh: may be an `AbstractMesh` where no arrays are made.

    Raises:
      InputError: they ask for nothing, or contradict each other.
    """
    return Adapters(config, cfg, mesh) if config.lora else Model(config, cfg, mesh)


class Model:
    """The model itself, without its frozen parameters.

    Raises:
      InputError: `freeze` or `freeze_layers` leave nothing to train, or name nothing.
    """

    base: Callable[[Params], Params] | None = None

    def __init__(self, config: TrainConfig, cfg: ModelConfig, mesh: Mesh):
        partition.check(cfg, config.freeze, config.freeze_layers)
        self._config, self._cfg, self._mesh = config, cfg, mesh
        self._merge = jax.jit(partition.merge) if config.freeze_layers else partition.merge

    def decay_mask(self) -> Any:
        """As the spec table says."""
        config = self._config
        whole = decay_mask(self._cfg)
        return partition.split_like(whole, self._cfg, config.freeze, config.freeze_layers)[0]

    def state_spec(self, tx: optax.GradientTransformation) -> tuple[TrainState, TrainState]:
        """As `step.state_spec`."""
        config = self._config
        dtype = config.precision.param_dtype
        return state_spec(self._cfg, tx, self._mesh, dtype, config.freeze, config.freeze_layers)

    def params_spec(self, state: TrainState) -> Params:
        """Of the whole model."""
        return shapes(self._cfg)

    def open(self) -> dict[str, Any]:
        """Nothing: a checkpoint holds the whole model."""
        return {}

    def fresh(
        self, tx: optax.GradientTransformation, shardings: TrainState, seen: Callable[[Params], None]
    ) -> TrainState:
        """The base model, which the state takes over."""
        from xlam_jax.weights import load_model

        config = self._config
        cfg, params = load_model(config.model, dtype=config.precision.param_dtype, mesh=self._mesh)
        assert cfg == self._cfg, "config.json changed while it was read"
        seen(params)
        return init_state(params, cfg, tx, self._mesh, config.freeze, config.freeze_layers)[0]

    def restored(self, state: TrainState) -> TrainState:
        """As it is."""
        return state

    def whole(self, state: TrainState) -> Params:
        """Layers that are frozen and layers that are not, in one stack again."""
        return self._merge(state.params, state.frozen)

    def describe(self) -> str:
        """None."""
        return ""
