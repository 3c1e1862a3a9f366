"""Realistic example values: each maker returns a sampler, a function of a `random.Random`."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Sampler = Callable[[Random], Any]


def ints(low: int, high: int, step: int = 1) -> Sampler:
    """Whole numbers of [low, high], multiples of `step` away from `low`."""
    return lambda r: r.randrange(low, high + 1, step)


def nums(low: float, high: float, places: int = 1) -> Sampler:
    """Decimal numbers; a whole one comes as an int, as a person would write it."""

    def draw(r: Random) -> float | int:
        value = round(r.uniform(low, high), places)
        return int(value) if value == int(value) else value

    return draw


def decimals(low: float, high: float, places: int = 1) -> Sampler:
    """Decimal numbers that are never whole, so that their JSON type is beyond doubt inside a list."""

    def draw(r: Random) -> float:
        while (value := round(r.uniform(low, high), places)) == int(value):
            pass
        return value

    return draw


def money(low: int, high: int) -> Sampler:
    """Amounts: round sums mostly, cents at times."""
    unit = 5 if high < 1000 else 50 if high < 20000 else 500

    def draw(r: Random) -> float | int:
        if r.random() < 0.3:
            return nums(low, high, 2)(r)
        return max(low, round(r.uniform(low, high) / unit) * unit)

    return draw


def pick(*values: Any) -> Sampler:
    """One of the given values."""
    return lambda r: r.choice(values)


def lists(of: Sampler, low: int, high: int, unique: bool = False) -> Sampler:
    """Lists of draws.

    Args:
      of: draws one element.
      low, high: fewest and most elements; `low` is 1 or more.
      unique: elements differ; where `of` has too few values, a list may be shorter than `low`.
    """

    def draw(r: Random) -> list:
        wanted, values = r.randint(low, high), []
        for _ in range(100):
            value = of(r)
            if not unique or value not in values:
                values.append(value)
            if len(values) == wanted:
                break
        return values

    return draw


def some(pool: Sequence[Any], low: int, high: int) -> Sampler:
    """Lists of different members of a pool."""
    return lambda r: r.sample(pool, r.randint(low, min(high, len(pool))))


def dates(first: int = 1965, last: int = 2034) -> Sampler:
    """ISO dates of the years first..last."""

    def draw(r: Random) -> str:
        start = datetime.date(first, 1, 1)
        return (
            start + datetime.timedelta(r.randrange((datetime.date(last, 12, 31) - start).days))
        ).isoformat()

    return draw


def times(step: int = 5) -> Sampler:
    """Clock times HH:MM."""
    return lambda r: f"{r.randrange(24):02d}:{r.randrange(0, 60, step):02d}"


def datetimes(first: int = 1995, last: int = 2030) -> Sampler:
    """ISO timestamps without zone, whole minutes."""
    day = dates(first, last)
    return lambda r: f"{day(r)}T{times(1)(r)}:00"


def ordered(first: Sampler, names: tuple[str, ...]) -> Callable[[Random], dict[str, Any]]:
    """Joint sampler: different values of one sampler, ascending, under the given names."""

    def draw(r: Random) -> dict[str, Any]:
        values: set[Any] = set()
        while len(values) < len(names):
            values.add(first(r))
        return dict(zip(names, sorted(values), strict=True))

    return draw


def ipv4(r: Random) -> str:
    """IPv4 addresses: private ranges half of the time."""
    if r.random() < 0.5:
        head = r.choice((f"10.{r.randrange(256)}", "192.168", f"172.{r.randrange(16, 32)}"))
    else:
        head = f"{r.choice((8, 23, 52, 81, 93, 104, 141, 185, 203))}.{r.randrange(256)}"
    return f"{head}.{r.randrange(256)}.{r.randrange(1, 255)}"


def ipv6(r: Random) -> str:
    """Compressed IPv6 addresses of common prefixes."""
    prefix = r.choice(("2001:db8", "fd00", "fe80", "2a02:26f0"))
    return f"{prefix}::{r.randrange(1, 65536):x}:{r.randrange(1, 65536):x}"


def cidr(low: int = 16, high: int = 29) -> Sampler:
    """IPv4 networks in CIDR notation with clear host bits."""

    def draw(r: Random) -> str:
        prefix = r.randint(low, high)
        value = (r.choice((10, 172, 192, 203)) << 24) | r.randrange(1 << 24)
        value &= ~((1 << (32 - prefix)) - 1)
        return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0)) + f"/{prefix}"

    return draw


def hexcolor(r: Random) -> str:
    """Hex colours: famous ones and any."""
    if r.random() < 0.4:
        return r.choice(
            ("#FF5733", "#1E90FF", "#2E8B57", "#FFD700", "#8A2BE2", "#DC143C", "#708090", "#F5F5DC")
        )
    return f"#{r.randrange(1 << 24):06X}"


def channel(r: Random) -> int:
    """A colour channel of 0 to 255."""
    return r.choice((0, 255, 128)) if r.random() < 0.2 else r.randrange(256)
