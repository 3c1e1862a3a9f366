"""Random preference pairs of token ids, and batches of them."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import numpy as np

from tests import tiny
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params
from xlam_jax.shards.batch import PairBatch
from xlam_jax.shards.preference import PairLayout, fill_pairs, pair_document
from xlam_jax.shards.tokenize import Encoded
from xlam_jax.training.preference.objective import PairModel

CFG = ModelConfig("llama", 64, 32, 48, 2, 4, 2, 8, tie_embeddings=False)


class Ids(NamedTuple):
    """One pair: token ids of the prompt and of what follows it."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def pairs(count: int, seed: int = 0, vocab: int = 64) -> list[Ids]:
    """Answers of unequal lengths that begin alike for a while; the second pair differs at once."""
    rng = np.random.default_rng(seed)

    def some(low: int, high: int) -> list[int]:
        return rng.integers(1, vocab - 3, int(rng.integers(low, high))).tolist()

    made = []
    for i in range(count):
        same = [] if i == 1 else some(1, 4)
        made.append(Ids(some(2, 8), [*same, vocab - 2, *some(0, 5)], [*same, vocab - 1, *some(0, 9)]))
    return made


def encoded(prompt: list[int], answer: list[int]) -> Encoded:
    weights = np.array([0.0] * len(prompt) + [1.0] * len(answer), np.float32)
    return Encoded(np.array([*prompt, *answer], np.int32), weights)


def documents(found: list[Ids], layout: PairLayout):
    return [pair_document(encoded(p, c), encoded(p, r), layout) for p, c, r in found]


def batch(found: list[Ids], rows: list[int], layout: PairLayout = "separate", length: int = 64) -> PairBatch:
    """`[B, S]`: so many pairs in each row, in order; rows may be empty."""
    docs, filled = documents(found, layout), []
    assert sum(rows) == len(docs)
    for n in rows:
        filled.append(fill_pairs(docs[:n], length))
        docs = docs[n:]
    return PairBatch(*(np.stack(field) for field in zip(*filled, strict=True)))


@functools.cache
def initial(cfg: ModelConfig = CFG, seed: int = 0) -> Params:
    """Parameters with weights large enough that log-probabilities differ from pair to pair."""
    params = tiny.params(cfg, seed)
    return jax.device_get(jax.tree.map(lambda x: 4 * x if x.ndim > 1 else x, params))


def model(layout: PairLayout = "separate", cfg: ModelConfig = CFG, **changes) -> PairModel:
    return PairModel(cfg, shared=layout == "shared", max_targets=60, max_pairs=6, chunk=16)._replace(
        **changes
    )
