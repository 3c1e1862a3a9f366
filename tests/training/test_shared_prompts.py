"""Records that share the beginning of their prompts train as they would one by one."""

import jax
import numpy as np
import pytest

from tests import tiny
from xlam_jax.models.config import ModelConfig
from xlam_jax.shards.batch import Batch, ForkBatch
from xlam_jax.shards.forks import fill_forks
from xlam_jax.shards.pack import Document, fill
from xlam_jax.training.objectives import sft_objective

CFG = ModelConfig("llama", 64, 32, 48, 2, 4, 2, 8, tie_embeddings=True)


def records() -> list[list[Document]]:
    """Two groups of three records; in each group six tokens are common."""
    rng = np.random.default_rng(0)

    def one(common: np.ndarray) -> Document:
        n = int(rng.integers(8, 14))
        ids = np.concatenate([common, rng.integers(0, 64, n + 1 - len(common))]).astype(np.int32)
        return Document(ids[:-1], ids[1:], (np.arange(n) >= 7).astype(np.float32))

    return [[one(common) for _ in range(3)] for common in rng.integers(0, 64, (2, 6))]


def loss_and_gradient(batch, **kwargs):
    objective = sft_objective(CFG, **kwargs)

    def loss(params):
        total, weight, _ = objective(params, batch)
        return total / weight

    return jax.jit(jax.value_and_grad(loss))(tiny.params(CFG))


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_shared_equals_separate(remat):
    groups = records()
    alone = [fill([doc], 64) for members in groups for doc in members]
    apart = Batch(*(np.stack(field) for field in zip(*alone, strict=True)))
    shared = ForkBatch(*(field[None] for field in fill_forks(groups, 64)))
    assert int((shared.segment_ids > 0).sum()) < int((apart.segment_ids > 0).sum())
    want = loss_and_gradient(apart, remat=remat)
    got = loss_and_gradient(shared, remat=remat, max_targets=40)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got[1], want[1])
