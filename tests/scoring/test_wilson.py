"""Wilson's interval against published values and its own definition, that of weighted sums, and a bootstrap one."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlam_jax.scoring import weighted, wilson
from xlam_jax.scoring.intervals import bootstrap


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(k, n, low, high):
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.1, 5))
def test_the_bounds_are_where_the_score_test_turns(kn, z):
    k, n = kn
    low, high = wilson(k, n, z)
    assert 0 <= low <= k / n <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            assert abs(k / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), rel=1e-6)
    mirrored = wilson(n - k, n, z)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)


def test_edges():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 5)[0] == 0.0 and wilson(5, 5)[1] == 1.0
    for k, n in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError):
            wilson(k, n)


def test_a_weighted_sum_of_one_part_has_wilson_s_interval():
    assert weighted([(1.0, 8, 10)]) == pytest.approx((0.8, *wilson(8, 10)))


def test_a_weighted_sum_covers_its_value_as_often_as_it_says():
    """Two categories of 100 and 16 rows, drawn 4,000 times: the interval holds the true mean in 93 to 97 of 100."""
    rng = random.Random(5)
    truth, covered = 0.5 * 0.9 + 0.5 * 0.6, 0
    for _ in range(4000):
        counts = [sum(rng.random() < p for _ in range(n)) for p, n in ((0.9, 100), (0.6, 16))]
        _, low, high = weighted([(0.5, counts[0], 100), (0.5, counts[1], 16)])
        covered += low <= truth <= high
    assert 0.93 <= covered / 4000 <= 0.97


@pytest.mark.parametrize("parts", [[], [(1.0, 0, 0)], [(-1.0, 1, 2)], [(1.0, 3, 2)]])
def test_what_is_no_weighted_sum(parts):
    with pytest.raises(ValueError):
        weighted(parts)


def test_a_bootstrap_interval_of_shares_is_near_wilson_s():
    values = [1.0] * 60 + [0.0] * 140
    assert bootstrap(values) == pytest.approx(wilson(60, 200), abs=0.01)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap([0.25] * 7) == (0.25, 0.25)
    # Of two values the mean of a draw is 0 or 1 in a quarter of the draws each.
    assert bootstrap([0.0, 1.0]) == (0.0, 1.0)
    with pytest.raises(ValueError):
        bootstrap([])
