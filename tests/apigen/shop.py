"""A shop's functions, as somebody who never heard of us writes them."""

import enum
import time
from dataclasses import dataclass
from typing import Any, Literal, Optional

import numpy as np

PRICES = {"tea": 4.5, "mug": 12.0, "pot": 30.0}


@dataclass
class Basket:
    items: list


class Colour(enum.Enum):
    RED = 1


def price(item: str, currency: Literal["EUR", "USD"] = "EUR") -> float:
    """Price of an item.

    Args:
        item: What is bought.
        currency: Of the price.

    >>> price("tea")
    4.5
    >>> price("mug", currency="USD")
    13.2
    >>> price("nothing")
    Traceback (most recent call last):
    KeyError: 'nothing'
    """
    return PRICES[item] * (1.1 if currency == "USD" else 1)


def total(prices: list[float], discount: Optional[float] = None) -> float:  # noqa: UP045
    """Sum of prices.

    Parameters
    ----------
    prices : list of float
        What is added.
    discount : float, optional
        Percent taken off.

    Examples
    --------
    >>> total([1, 2.5])
    3.5
    """
    return float(np.sum(prices)) * (1 - (discount or 0) / 100)


def ship(weight, days=3):
    """Cost of sending a parcel.

    :param weight: kilograms
    :type weight: float
    :param days: how long it may take
    """
    return round(weight * 2 + 6 / days, 2)


def wait(seconds: int) -> str:
    """Waits for the shop to open.

    Args:
        seconds: How long.
    """
    time.sleep(seconds)
    return "open"


def catalogue(copies: int) -> str:
    """Prints the catalogue.

    Args:
        copies: How many.
    """
    return "tea, mug, pot. " * copies


def check_out(basket: Basket) -> float:
    """Pays a basket."""
    return 0.0


def paint(colour: Colour) -> str:
    """Paints."""
    return ""


def opening_hours() -> str:
    """When the shop is open."""
    return "9 to 5"


def undescribed(x: int):
    return x


async def later(x: int) -> int:
    """Comes later."""
    return x


def anything(*items: Any, **more: Any) -> int:
    """Takes whatever comes."""
    return len(items)


def at(position, /) -> int:
    """Looks at a place."""
    return position


def _private(x: int) -> int:
    """Not for others."""
    return x
