"""A trajectory with a mask over its turns trains what one row per turn trains: equal loss and gradients."""

import numpy as np

from tests import tiny_run
from tests.training.test_step import assert_equal, batch_of, loss_and_grads
from xlam_jax.format.codec import get_codec
from xlam_jax.models.config import ModelConfig
from xlam_jax.shards.pack import document
from xlam_jax.shards.tokenize import encode, load_tokenizer, one_row_per_turn

CFG = ModelConfig("llama", 400, 32, 48, 2, 4, 2, 8, tie_embeddings=True)


def test_trajectories_train_what_one_row_per_turn_trains(world):
    tokenizer = load_tokenizer(world / "tokenizer")
    codec = get_codec()
    several = [r for r in tiny_run.records(80, seed=3) if len(r.steps) > 1][:8]
    whole = [encode(codec.render(r), tokenizer, bos=codec.bos) for r in several]
    turns = [row for encoded in whole for row in one_row_per_turn(encoded)]
    # What makes the comparison one: more rows, a turn in each, and the same targets in all.
    assert len(turns) == sum(len(r.steps) for r in several) > len(whole)
    assert sum(r.weights.sum() for r in turns) == sum(r.weights.sum() for r in whole)
    length = max(len(e.ids) for e in whole)
    trajectories = loss_and_grads(batch_of([[document(e)] for e in whole], length), CFG)
    separate = loss_and_grads(batch_of([[document(e)] for e in turns], length), CFG)
    assert_equal(trajectories, separate)
    # And it can fail: with one turn left out the loss is another.
    fewer = loss_and_grads(batch_of([[document(e)] for e in turns[1:]], length), CFG)
    assert not np.isclose(fewer[0], separate[0], rtol=1e-5)
    # Packed together, trajectories beside trajectories, nothing changes either.
    packed = loss_and_grads(
        batch_of([[document(e) for e in whole[i : i + 2]] for i in range(0, 8, 2)], 2 * length), CFG
    )
    assert_equal(packed, separate)
