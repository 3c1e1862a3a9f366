"""Invented names of places and people, for worlds of our own."""

from __future__ import annotations

import random

PLACES = (
    "Aldermoor", "Brightwater", "Calder Bay", "Dunmarsh", "Eastfold", "Fenwick Cross", "Glasshaven", "Hollin Ridge",
    "Ironbrook", "Juniper Falls", "Kestrel Point", "Larkfield", "Mirefoot", "Northolme", "Osprey Landing", "Pinemouth",
    "Quarry Hill", "Rookwood", "Saltmere", "Thistledown", "Umberleigh", "Vexham", "Westerley", "Yarrow Gap",
)  # fmt: skip
PROVINCES = ("Vestria", "Norland", "Orvane", "Sundalia")

_FIRST = (
    "Adela", "Bruno", "Clarice", "Dario", "Elspeth", "Farid", "Greta", "Henrik", "Imogen", "Jorge", "Katya", "Lennart",
    "Mirela", "Nadim", "Odette", "Pavel", "Quilla", "Rosalind", "Soren", "Tamsin", "Ulrich", "Vesna", "Wendel", "Yusra",
)  # fmt: skip
_LAST = (
    "Abernath", "Brokaw", "Castellane", "Dovrin", "Ekholm", "Farrowby", "Grantley", "Hesketh", "Ivarsen", "Jessop",
    "Kallio", "Lindqvale", "Marchetti", "Novarro", "Okonjo", "Pellmore", "Quennell", "Rasmund", "Sablier", "Thorne",
    "Ustinov", "Varga", "Wexcombe", "Zeller",
)  # fmt: skip


def people(count: int, rng: random.Random) -> list[str]:
    """Different full names.

    Raises:
      ValueError: more than there are.
    """
    return rng.sample([f"{first} {last}" for first in _FIRST for last in _LAST], count)
