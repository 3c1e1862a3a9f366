"""Confidence intervals for scores that are proportions."""

from __future__ import annotations

import math


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
