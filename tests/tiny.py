"""Parameters of tiny models without XLA: compiling the program of `spec.init` costs as much as a gradient's.

`spec.init` itself is tested in tests/models/test_param_spec.py; other tests only need values of its kind.
"""

from __future__ import annotations

import functools
import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params, ParamSpec
from xlam_jax.models.spec import path_name, spec


def params(cfg: ModelConfig, seed: int = 0, dtype: Any = jnp.float32) -> Params:
    """What `spec.init` would draw, but by numpy: the same distributions and other values.

    The arrays are fresh ones, so that a test may donate them.
    """
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), host_params(cfg, seed))


@functools.cache
def host_params(cfg: ModelConfig, seed: int = 0) -> Params:
    """The same as numpy arrays of float32 that cannot be written to."""
    return jax.tree_util.tree_map_with_path(functools.partial(_draw, cfg, seed), spec(cfg))


def _draw(cfg: ModelConfig, seed: int, path: tuple[Any, ...], leaf: ParamSpec) -> np.ndarray:
    if leaf.init in ("ones", "zeros"):
        out = np.full(leaf.shape, float(leaf.init == "ones"), np.float32)
    else:
        scale = cfg.initializer_range
        if leaf.init == "normal_residual":
            scale /= math.sqrt(2 * cfg.num_layers)
        random = np.random.default_rng((seed, zlib.crc32(path_name(path).encode())))
        drawn = random.standard_normal(leaf.shape, np.float32)
        while (far := np.abs(drawn) > 3).any():
            drawn[far] = random.standard_normal(int(far.sum()), np.float32)
        out = np.float32(scale) * drawn
    out.flags.writeable = False
    return out
