"""Confidence intervals for scores that are proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion, `z` standard deviations wide each way (default: 95 %).

    Unlike the normal interval it stays inside [0, 1] and keeps a width at 0 and at `n` successes, where
    small test sets often land. Formula: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.

    Returns:
      (low, high); (0.0, 1.0) when `n` is 0, since nothing is known.

    Raises:
      ValueError: successes outside 0..n.

    Example:
      >>> [round(x, 3) for x in wilson(8, 10)]
      [0.49, 0.943]
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return low, high


def bootstrap(values: Sequence[float], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, 95 %: for scores a task that are no yes or no.

    Formula: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. It has no width where
    all values are equal.

    Args:
      values: a score a task.
      draws: samples with replacement.
      seed: of the draws; equal values give equal intervals.

    Returns:
      (low, high).

    Raises:
      ValueError: no values.

    Example:
      >>> [round(x, 2) for x in bootstrap([0.0, 0.5, 1.0, 1.0])]
      [0.25, 1.0]
    """
    if not values:
        raise ValueError("no values")
    import numpy as np

    scores = np.asarray(values, dtype=np.float64)
    means = np.random.default_rng(seed).choice(scores, (draws, len(scores))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def weighted(parts: Sequence[tuple[float, int, int]]) -> tuple[float, float, float]:
    """A weighted sum of independent proportions, and its 95 % interval made of their Wilson intervals.

    Columns of a leaderboard are means of categories of very different sizes, to which no single n belongs. The
    distances from each proportion to its own limits add up as squares (MOVER: G. Y. Zou and A. Donner, Stat. Med.
    27 (2008), 1693-1702). One part of weight 1 gives Wilson's interval.

    Args:
      parts: (weight, successes, n), weights not below 0.

    Returns:
      (value, low, high).

    Raises:
      ValueError: no parts, n of 0, a negative weight, or successes outside 0..n.

    Example:
      >>> [round(x, 3) for x in weighted([(0.5, 8, 10), (0.5, 80, 100)])]
      [0.8, 0.639, 0.879]
    """
    if not parts or any(weight < 0 or n == 0 for weight, _, n in parts):
        raise ValueError(f"not parts of a weighted sum: {list(parts)}")
    value = below = above = 0.0
    for weight, successes, n in parts:
        low, high = wilson(successes, n)
        p = successes / n
        value += weight * p
        below += (weight * (p - low)) ** 2
        above += (weight * (high - p)) ** 2
    return value, value - math.sqrt(below), value + math.sqrt(above)
