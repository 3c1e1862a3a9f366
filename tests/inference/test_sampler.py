"""Greedy, temperature, top-p and masks against computations by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.inference.sampler import Sampling, apply_bitmask, keep_nucleus, row_keys, sample

PROBS = np.array([0.05, 0.4, 0.1, 0.3, 0.15])


def kept(probs, top_p):
    out = keep_nucleus(jnp.log(jnp.asarray(probs))[None], top_p)
    return set(np.flatnonzero(np.isfinite(np.asarray(out[0]))))


@pytest.mark.parametrize(
    ("top_p", "want"),
    [
        (0.0, {1}),
        (0.39, {1}),
        (0.41, {1, 3}),
        (0.69, {1, 3}),
        (0.71, {1, 3, 4}),
        (0.86, {1, 2, 3, 4}),
        (1.0, {0, 1, 2, 3, 4}),
    ],
)
def test_nucleus_by_hand(top_p, want):
    assert kept(PROBS, top_p) == want


def test_nucleus_keeps_ties_whole():
    assert kept([0.25, 0.25, 0.25, 0.25], 0.3) == {0, 1, 2, 3}


def test_nucleus_equals_the_sorted_definition_on_random_rows():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (20, 1000)).astype(np.float32)
    got = np.isfinite(np.asarray(keep_nucleus(jnp.asarray(logits), 0.9)))
    probs = np.asarray(jax.nn.softmax(logits, -1), np.float64)
    for row in range(20):
        order = np.argsort(-probs[row])
        size = int(np.searchsorted(np.cumsum(probs[row][order]), 0.9)) + 1
        # One token more or less is rounding of the sum at the edge.
        assert abs(int(got[row].sum()) - size) <= 1
        assert set(order[: size - 1]) <= set(np.flatnonzero(got[row]))


def frequencies(sampling, rows=20000):
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(PROBS, jnp.float32)), (rows, 5))
    drawn = sample(logits, row_keys(0, jnp.arange(rows)), jnp.zeros(rows, jnp.int32), sampling)
    return np.bincount(np.asarray(drawn), minlength=5) / rows


@pytest.mark.parametrize(
    ("sampling", "want"),
    [
        (Sampling(1.0, 1.0), PROBS),
        (Sampling(0.5, 1.0), PROBS**2 / (PROBS**2).sum()),
        (Sampling(2.0, 1.0), PROBS**0.5 / (PROBS**0.5).sum()),
        (Sampling(1.0, 0.8), np.array([0, 0.4, 0, 0.3, 0.15]) / 0.85),
    ],
)
def test_distribution(sampling, want):
    # Three standard errors of a share at 20,000 draws are about 0.0106.
    np.testing.assert_allclose(frequencies(sampling), want, atol=0.0125)


def test_greedy_takes_the_first_of_the_largest():
    logits = jnp.asarray([[1.0, 3.0, 3.0], [5.0, 2.0, 1.0]])
    assert sample(logits, row_keys(0, jnp.arange(2)), jnp.zeros(2, jnp.int32)).tolist() == [1, 0]


def test_bitmask_words_and_bits():
    logits = jnp.zeros((2, 70))
    mask = np.zeros((2, 3), np.int32)
    mask[0, 0] = 1 << 5
    mask[0, 1] = np.int32(-(2**31))  # bit 31 of the second word: token 63
    mask[1, 2] = 1 << 5  # token 69
    finite = np.isfinite(np.asarray(apply_bitmask(logits, jnp.asarray(mask))))
    assert [np.flatnonzero(row).tolist() for row in finite] == [[5, 63], [69]]


def test_draws_depend_on_seed_number_and_count_only():
    logits = jnp.zeros((3, 1000))
    count = jnp.asarray([4, 4, 4], jnp.int32)
    hot = Sampling(1.0, 1.0)
    a = sample(logits, row_keys(7, jnp.asarray([0, 1, 2])), count, hot).tolist()
    b = sample(logits, row_keys(7, jnp.asarray([2, 5, 0])), count, hot).tolist()
    assert (a[0], a[2]) == (b[2], b[0]) and len(set(a)) == 3
    assert sample(logits, row_keys(8, jnp.asarray([0, 1, 2])), count, hot).tolist() != a
    assert sample(logits, row_keys(7, jnp.asarray([0, 1, 2])), count + 1, hot).tolist() != a
