"""Reproducible chance: every function takes a seed."""

from __future__ import annotations

import random
import string

from xlam_jax.apigen.functions import pools
from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import ints, ordered, pick, some

_SEED = ints(1, 999)


@api(
    "Roll {count} dice using seed {seed}.",
    "Roll {count} dice with {sides} sides each, seed {seed}.",
    "For our game night, throw {count} {sides}-sided dice with random seed {seed}.",
    name="roll_dice",
    give={"count": ints(2, 8), "sides": pick(4, 8, 10, 12, 20), "seed": _SEED},
    edge={"sides": [0]},
)
def roll_dice(count: int, seed: int, sides: int = 6) -> list[int]:
    """Roll dice reproducibly.

    Args:
      count: Number of dice.
      seed: Random seed.
      sides: Sides of each die.
    """
    rng = random.Random(seed)
    return [rng.randint(1, sides) for _ in range(count)]


@api(
    "Shuffle {items} with seed {seed}.",
    "Put the presenters {items} into a random order, using seed {seed}.",
    "random order of {items}, seed {seed}",
    name="random.shuffle",
    give={"items": some(pools.FIRST_NAMES, 4, 6), "seed": _SEED},
)
def shuffle_items(items: list[str], seed: int) -> list[str]:
    """Shuffle a list reproducibly.

    Args:
      items: Items to shuffle.
      seed: Random seed.
    """
    return random.Random(seed).sample(items, len(items))


@api(
    "Draw {count} winners from {entrants} with seed {seed}.",
    "The raffle has {entrants} in it. Pick {count} of them, random seed {seed}.",
    "pick {count} at random from {entrants}, seed {seed}",
    name="draw_winners",
    give={"entrants": some(pools.FIRST_NAMES, 5, 7), "count": ints(2, 4), "seed": _SEED},
    edge={"count": [12, 30]},
)
def draw_winners(entrants: list[str], count: int, seed: int) -> list[str]:
    """Draw distinct winners from a list.

    Args:
      entrants: Names in the draw.
      count: Number of winners.
      seed: Random seed.
    """
    return random.Random(seed).sample(entrants, count)


@api(
    "Give me a random integer between {low} and {high}, seed {seed}.",
    "With seed {seed}, what random number do I get from {low} to {high}?",
    "random int from {low} to {high}, seed {seed}",
    name="randomInteger",
    joint=lambda r: {**ordered(ints(1, 500), ("low", "high"))(r), "seed": _SEED(r)},
)
def random_integer(low: int, high: int, seed: int) -> int:
    """Draw a random integer reproducibly.

    Args:
      low: Smallest possible value.
      high: Largest possible value.
      seed: Random seed.
    """
    return random.Random(seed).randint(low, high)


@api(
    "Make a random code of {length} characters from seed {seed}.",
    ("Generate a {length}-character code with digits only, seed {seed}.", {"digits_only": True}),
    ("I need a numeric code of {length} digits, generated with seed {seed}.", {"digits_only": True}),
    "random code, length {length}, seed {seed}",
    name="generate_code",
    give={"length": ints(6, 24), "seed": _SEED},
)
def generate_code(length: int, seed: int, digits_only: bool = False) -> str:
    """Generate a random code.

    Args:
      length: Number of characters.
      seed: Random seed.
      digits_only: Whether to use digits alone.
    """
    alphabet = string.digits if digits_only else string.ascii_uppercase + string.digits
    return "".join(random.Random(seed).choices(alphabet, k=length))


@api(
    "Flip a coin {times} times with seed {seed} and count the heads.",
    "How many heads come up in {times} coin tosses, random seed {seed}?",
    "coin flips: {times}, seed {seed}",
    name="coin.flip",
    give={"times": ints(5, 500), "seed": _SEED},
)
def flip_coins(times: int, seed: int) -> int:
    """Count heads in simulated coin flips.

    Args:
      times: Number of flips.
      seed: Random seed.
    """
    rng = random.Random(seed)
    return sum(rng.random() < 0.5 for _ in range(times))


@api(
    "Draw {count} normal values with mean {mean} and standard deviation {stdev}, using seed {seed}.",
    "Draw {count} standard normal numbers with seed {seed}.",
    "{count} gaussian samples, mean {mean}, sd {stdev}, seed {seed}",
    name="sample_normal",
    give={"count": ints(2, 20), "mean": ints(10, 100), "stdev": ints(2, 15), "seed": _SEED},
)
def sample_normal(count: int, seed: int, mean: float = 0.0, stdev: float = 1.0) -> list[float]:
    """Draw numbers from a normal distribution.

    Args:
      count: Number of values.
      seed: Random seed.
      mean: Mean of the distribution.
      stdev: Standard deviation.
    """
    rng = random.Random(seed)
    return [round(rng.gauss(mean, stdev), 4) for _ in range(count)]
