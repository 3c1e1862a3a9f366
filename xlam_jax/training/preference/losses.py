"""Preference losses: pure functions of one pair's log-ratios.

c and j are log pi(answer) - log rho(answer), summed over the chosen and the rejected answer's tokens (end
token included); n_w and n_l how many tokens these are. Delta = c - j; with bars, c / n_w and j / n_l stand
for c and j. The reference rho is 0 everywhere where a loss goes without one.

| name | loss | source |
|---|---|---|
| `sigmoid` | -log s(b Delta) | Rafailov et al. 2023, arXiv:2305.18290 |
| `cdpo` | -(1-e) log s(b Delta) - e log s(-b Delta) | Mitchell 2023, "A note on DPO with noisy preferences" |
| `robust` | [-(1-e) log s(b Delta) + e log s(-b Delta)] / (1 - 2e); can be negative | arXiv:2403.00409 |
| `hinge` | max(0, 1 - b Delta) | SLiC-HF, arXiv:2305.10425 |
| `ipo` | (bar Delta - 1/(2b))^2 | arXiv:2310.12036, averages as its authors use them |
| `ipo_sum` | (Delta - 1/(2b))^2 | the same, sums |
| `normalised` | -log s(b bar Delta) | Tulu 3, arXiv:2411.15124 |
| `simpo` | -log s(b bar Delta - gamma), without reference | arXiv:2405.14734 |
| `nca` | -log s(b c) - log s(-b c)/2 - log s(-b j)/2 | arXiv:2402.05369 |
| `bco` | -log s(b c) - log s(-b j), no shift | arXiv:2404.04656 |
| `apo_zero` | 1 - s(b c) + s(b j) | arXiv:2408.06266 |
| `apo_down` | s(b c) + 1 - s(b Delta) | arXiv:2408.06266 |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

log_sigmoid = jax.nn.log_sigmoid


class LogRatios(NamedTuple):
    """Per pair, float32 `[...]`: summed log-ratios of the answers, and their numbers of tokens."""

    chosen: jax.Array
    rejected: jax.Array
    chosen_length: jax.Array
    rejected_length: jax.Array

    def averages(self) -> LogRatios:
        """Log-ratios per token; a pair without tokens has 0."""
        chosen = self.chosen / jnp.maximum(self.chosen_length, 1)
        rejected = self.rejected / jnp.maximum(self.rejected_length, 1)
        return LogRatios(chosen, rejected, self.chosen_length, self.rejected_length)


class Constants(NamedTuple):
    """`beta` > 0, `smoothing` e in [0, 0.5), `gamma` the margin that SimPO asks for."""

    beta: float = 0.1
    smoothing: float = 0.0
    gamma: float = 0.0


def preference_loss(name: str, ratios: LogRatios, constants: Constants) -> jax.Array:
    """The loss of each pair, float32 of the shape of the log-ratios; `name` is a key of `LOSSES`."""
    if name in ON_AVERAGES:
        ratios = ratios.averages()
    return LOSSES[name](ratios.chosen, ratios.rejected, constants)


def _smoothed(c: jax.Array, j: jax.Array, k: Constants) -> jax.Array:
    margin = k.beta * (c - j)
    return -(1 - k.smoothing) * log_sigmoid(margin) - k.smoothing * log_sigmoid(-margin)


def _robust(c: jax.Array, j: jax.Array, k: Constants) -> jax.Array:
    margin = k.beta * (c - j)
    clean, flipped = -log_sigmoid(margin), -log_sigmoid(-margin)
    return ((1 - k.smoothing) * clean - k.smoothing * flipped) / (1 - 2 * k.smoothing)


def _sigmoid(c: jax.Array, j: jax.Array, k: Constants) -> jax.Array:
    return -log_sigmoid(k.beta * (c - j))


def _squared(c: jax.Array, j: jax.Array, k: Constants) -> jax.Array:
    return (c - j - 1 / (2 * k.beta)) ** 2


def _nca(c: jax.Array, j: jax.Array, k: Constants) -> jax.Array:
    c, j = k.beta * c, k.beta * j
    return -log_sigmoid(c) - 0.5 * log_sigmoid(-c) - 0.5 * log_sigmoid(-j)


LOSSES: Mapping[str, Callable[[jax.Array, jax.Array, Constants], jax.Array]] = {
    "sigmoid": _sigmoid,
    "cdpo": _smoothed,
    "robust": _robust,
    "hinge": lambda c, j, k: jnp.maximum(0.0, 1 - k.beta * (c - j)),
    "ipo": _squared,
    "ipo_sum": _squared,
    "normalised": _sigmoid,
    "simpo": lambda c, j, k: -log_sigmoid(k.beta * (c - j) - k.gamma),
    "nca": _nca,
    "bco": lambda c, j, k: -log_sigmoid(k.beta * c) - log_sigmoid(-k.beta * j),
    "apo_zero": lambda c, j, k: 1 - jax.nn.sigmoid(k.beta * c) + jax.nn.sigmoid(k.beta * j),
    "apo_down": lambda c, j, k: jax.nn.sigmoid(k.beta * c) + 1 - jax.nn.sigmoid(k.beta * (c - j)),
}
ON_AVERAGES = frozenset({"ipo", "normalised", "simpo"})
# These tie the pairs of a batch together, so their value would change with accumulation and devices.
COUPLED = frozenset({"aot", "aot_unpaired", "aot_pair"})
