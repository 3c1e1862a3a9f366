"""The same decoder as a `flax.linen` module, for code that speaks linen; numbers equal `models.decoder`."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from xlam_jax.models import decoder
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params, ParamSpec
from xlam_jax.models.spec import draw, path_name, spec


class Decoder(nn.Module):
    """`apply(variables, tokens, positions, segment_ids)` -> float32 logits [B, S, V].

    Each leaf of `Params` is one linen parameter under its dotted path. Its logical axes ride along as
    `nn.LogicallyPartitioned`, so `nn.get_partition_spec` works on the result of `init`.

    Example:
      >>> module = Decoder(named_config("tiny-llama"))  # doctest: +SKIP
      >>> variables = module.init(jax.random.key(0), tokens)  # doctest: +SKIP
    """

    cfg: ModelConfig
    remat: str = "none"
    compute_dtype: Any = None
    attention: str = "xla"

    @nn.compact
    def __call__(
        self,
        tokens_BS: jax.Array,
        positions_BS: jax.Array | None = None,
        segment_ids_BS: jax.Array | None = None,
    ) -> jax.Array:
        if positions_BS is None:
            positions_BS = jnp.broadcast_to(jnp.arange(tokens_BS.shape[1]), tokens_BS.shape)
        if segment_ids_BS is None:
            segment_ids_BS = jnp.ones_like(tokens_BS)

        def leaf(path: tuple[Any, ...], s: ParamSpec) -> jax.Array:
            fresh = nn.with_logical_partitioning(lambda key: draw(self.cfg, s, key), s.axes)
            return self.param(path_name(path), fresh)  # pyright: ignore[reportReturnType]

        params = jax.tree_util.tree_map_with_path(leaf, spec(self.cfg))
        hidden, _ = decoder.forward(
            params,
            tokens_BS,
            positions_BS,
            segment_ids_BS,
            self.cfg,
            remat=self.remat,
            compute_dtype=self.compute_dtype,
            attention=self.attention,
        )
        return decoder.logits(params, hidden, self.cfg)


def to_variables(params: Params) -> dict[str, dict[str, jax.Array]]:
    """Stacked `Params` as the variables of `Decoder`."""
    return {"params": flatten(params)}


def from_variables(variables: Any, cfg: ModelConfig) -> Params:
    """Inverse of `to_variables`; also takes the boxed result of `Decoder.init`."""
    flat = nn.meta.unbox(variables)["params"]
    return jax.tree_util.tree_map_with_path(lambda path, _: flat[path_name(path)], spec(cfg))


def flatten(params: Params) -> dict[str, jax.Array]:
    """Dotted path -> leaf."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {path_name(path): leaf for path, leaf in flat}
