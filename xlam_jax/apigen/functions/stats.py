"""Descriptive statistics and distributions."""

from __future__ import annotations

import statistics
from random import Random
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import decimals, ints, lists, nums, pick

_DATA = lists(decimals(1, 120, 1), 4, 7)


def _paired(first: str, second: str):
    def draw(r: Random) -> dict[str, list[float]]:
        n, value = r.randint(4, 6), decimals(1, 60, 1)
        return {first: [value(r) for _ in range(n)], second: [value(r) for _ in range(n)]}

    return draw


@api(
    "What's the average of {values}?",
    "My last lap times were {values} seconds. What's the mean?",
    "mean of {values}",
    "Calculate the arithmetic mean of these readings: {values}.",
    name="statistics.mean",
    alike="average",
    give={"values": _DATA},
)
def mean(values: list[float]) -> float:
    """Compute the arithmetic mean of numbers.

    Args:
      values: Numbers to average.
    """
    return statistics.fmean(values)


@api(
    "Find the median of {values}.",
    "House prices on my street, in thousands: {values}. What's the median?",
    "median: {values}",
    "What is the middle value of {values} when sorted?",
    name="get_median",
    give={"values": _DATA},
)
def median(values: list[float]) -> float:
    """Compute the median of numbers.

    Args:
      values: Numbers to examine.
    """
    return statistics.median(values)


@api(
    "Which value occurs most often in {values}?",
    "Shoe sizes sold today: {values}. What's the mode, or modes?",
    "mode(s) of {values}",
    alike="tally",
    give={"values": lists(ints(3, 9), 6, 9)},
)
def find_modes(values: list[int]) -> list[int]:
    """List the most frequent values.

    Args:
      values: Values to count.
    """
    return statistics.multimode(values)


@api(
    "What's the sample standard deviation of {values}?",
    "Measured weights: {values}. How much do they spread, as a sample standard deviation?",
    "stdev of this sample: {values}",
    "Compute the sample std dev for {values}, please.",
    name="sample_stdev",
    alike="spread",
    give={"values": _DATA},
    edge={"values": [[4.5]]},
)
def sample_stdev(values: list[float]) -> float:
    """Compute the sample standard deviation.

    Args:
      values: Sample of at least two numbers.
    """
    return statistics.stdev(values)


@api(
    "Compute the population variance of {values}.",
    "These are all the scores in the class: {values}. What's the variance of the whole population?",
    "population variance, data {values}",
    name="populationVariance",
    alike="spread",
    give={"values": _DATA},
)
def population_variance(values: list[float]) -> float:
    """Compute the variance of a whole population.

    Args:
      values: All values of the population.
    """
    return statistics.pvariance(values)


@api(
    "What's the harmonic mean of {values}?",
    "I cycled equal distances at {values} km/h. What was my average speed, by the harmonic mean?",
    "harmonic mean: {values}",
    alike="average",
    give={"values": lists(decimals(5, 90, 1), 2, 5)},
    edge={"values": [[12.5, -3.5]]},
)
def harmonic_mean(values: list[float]) -> float:
    """Compute the harmonic mean of positive numbers.

    Args:
      values: Positive numbers.
    """
    return statistics.harmonic_mean(values)


@api(
    "Compute the geometric mean of {values}.",
    "Growth factors over the years were {values}. What's their geometric mean?",
    "geometric mean for {values}?",
    name="stats.geometric_mean",
    alike="average",
    give={"values": lists(decimals(0.8, 1.9, 2), 3, 6)},
    edge={"values": [[1.5, -0.5, 1.2]]},
)
def geometric_mean(values: list[float]) -> float:
    """Compute the geometric mean of positive numbers.

    Args:
      values: Positive numbers.
    """
    return statistics.geometric_mean(values)


@api(
    "What's the weighted average of the scores {values} with weights {weights}?",
    "My grades are {values} and count with weights {weights}. What's my weighted mean?",
    "weighted mean of {values}, weights {weights}",
    alike="average",
    joint=lambda r: (
        lambda n: {
            "values": [decimals(40, 99, 1)(r) for _ in range(n)],
            "weights": [r.randint(1, 5) for _ in range(n)],
        }
    )(r.randint(3, 4)),
)
def weighted_mean(values: list[float], weights: list[int]) -> float:
    """Compute the mean of numbers with weights.

    Args:
      values: Numbers to average.
      weights: Weight of each number.
    """
    return statistics.fmean(values, weights)


@api(
    "How strongly are {x} and {y} correlated?",
    "Hours studied were {x} and marks were {y}. What's the correlation coefficient?",
    "Pearson correlation between x = {x} and y = {y}",
    name="pearson_correlation",
    joint=_paired("x", "y"),
    edge={"y": [[3.5, 3.5, 3.5]]},
)
def correlation(x: list[float], y: list[float]) -> float:
    """Compute Pearson's correlation of two series.

    Args:
      x: First series.
      y: Second series, equally long.
    """
    return statistics.correlation(x, y)


@api(
    "Fit a straight line to x = {x} and y = {y}.",
    "Ad spend (x) was {x} and sales (y) were {y}. What slope and intercept does linear regression give?",
    "least-squares line, x {x}, y {y}",
    name="linearRegression.fit",
    joint=_paired("x", "y"),
)
def linear_regression(x: list[float], y: list[float]) -> dict[str, float]:
    """Fit a least-squares line to points.

    Args:
      x: Independent values.
      y: Dependent values.
    """
    slope, intercept = statistics.linear_regression(x, y)
    return {"slope": slope, "intercept": intercept}


@api(
    "Split {values} into {n} equal groups and tell me the cut points.",
    "What are the quartiles of {values}?",
    "cut {values} into {n} quantiles",
    "I'd like the quartile boundaries for these incomes: {values}.",
    give={"values": lists(decimals(5, 90, 1), 5, 8), "n": pick(3, 5, 10)},
    edge={"n": [0]},
)
def quantiles(values: list[float], n: int = 4) -> list[float]:
    """Compute cut points that divide data into equal groups.

    Args:
      values: Data to divide.
      n: Number of groups.
    """
    return statistics.quantiles(values, n=n)


@api(
    "Adult heights are normal with mean {mean} and standard deviation {stdev}. What share is below {x}?",
    "Normal distribution, mean {mean}, sigma {stdev}: probability of a value under {x}?",
    "What's the normal CDF at {x} for mean {mean} and standard deviation {stdev}?",
    "What's the standard normal CDF at {x}?",
    alike="normal",
    give={"x": nums(-2.5, 2.5, 2), "mean": nums(-2, 2, 1), "stdev": nums(1, 4, 1)},
    edge={"stdev": [-1.5]},
)
def normal_cdf(x: float, mean: float = 0.0, stdev: float = 1.0) -> float:
    """Compute the probability that a normal variable is at most x.

    Args:
      x: Upper bound.
      mean: Mean of the distribution.
      stdev: Standard deviation of the distribution.
    """
    return statistics.NormalDist(mean, stdev).cdf(x)


@api(
    "I scored {value} on a test with mean {mean} and standard deviation {stdev}. What's my z-score?",
    "z-score of {value} when the mean is {mean} and the standard deviation is {stdev}",
    "Standardize {value} given mean {mean} and sd {stdev}.",
    name="zScore",
    alike="normal",
    give={"value": nums(40, 160, 1), "mean": nums(50, 120, 1), "stdev": nums(4, 20, 1)},
)
def z_score(value: float, mean: float, stdev: float) -> float:
    """Compute how many standard deviations a value lies from the mean.

    Args:
      value: Value to standardize.
      mean: Mean of the distribution.
      stdev: Standard deviation.
    """
    return statistics.NormalDist(mean, stdev).zscore(value)


@api(
    "Rescale {values} to the range 0 to 1.",
    ("Normalize {values} with min-max scaling.", {"method": "minmax"}),
    ("Turn {values} into z-scores.", {"method": "zscore"}),
    ("Standardize the series {values} by the zscore method.", {"method": "zscore"}),
    name="normalize_values",
    give={"values": _DATA},
)
def normalize_values(values: list[float], method: Literal["minmax", "zscore"] = "minmax") -> list[float]:
    """Rescale a series of numbers.

    Args:
      values: Series to rescale.
      method: Scaling method.
    """
    if method == "zscore":
        center, spread = statistics.fmean(values), statistics.pstdev(values)
    else:
        center, spread = min(values), max(values) - min(values)
    return [(v - center) / spread for v in values]


@api(
    "Smooth {values} with a moving average over {window} points.",
    "Daily sales were {values}. Give me the {window}-day moving average.",
    "rolling mean of {values}, window size {window}",
    joint=lambda r: {"values": lists(decimals(5, 60, 1), 6, 8)(r), "window": r.randint(2, 4)},
    edge={"window": [0]},
)
def moving_average(values: list[float], window: int) -> list[float]:
    """Compute the moving average of a series.

    Args:
      values: Series to smooth.
      window: Number of points averaged.
    """
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]
