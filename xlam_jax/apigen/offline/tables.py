"""The tables of words.yaml: verbs, categories, topics, places."""

from __future__ import annotations

import functools
import importlib.resources
from dataclasses import dataclass
from typing import Any

import yaml


@functools.cache
def _tables() -> dict[str, Any]:
    text = (importlib.resources.files("xlam_jax.apigen.offline") / "words.yaml").read_text("utf-8")
    return yaml.safe_load(text)


def words(name: str) -> tuple[str, ...]:
    """The members of a list: words between blanks, parts between semicolons, or items."""
    value = _tables()[name]
    if isinstance(value, list):
        return tuple(value)
    return tuple(value.split("; ") if ";" in value else value.split())


def lists(name: str) -> dict[str, tuple[str, ...]]:
    """`words` of every entry of a mapping."""
    entries = _tables()[name]
    return {key: tuple(v.split("; ") if ";" in v else v.split()) for key, v in entries.items()}


def lines(name: str) -> tuple[tuple[str, ...], ...]:
    """Lines of fields between bars."""
    return tuple(tuple(line.split("|")) for line in _tables()[name].splitlines())


@dataclass(frozen=True)
class Place:
    """A city whose facts go together: country by name and ISO 3166 code, degrees, IANA time zone, ISO 4217 currency,
    ISO 639 language, IATA airport."""

    city: str
    country: str
    code: str
    latitude: float
    longitude: float
    timezone: str
    currency: str
    language: str
    airport: str


@functools.cache
def places() -> tuple[Place, ...]:
    """Every city of the table."""
    return tuple(
        Place(f[0], f[1], f[2], float(f[3]), float(f[4]), f[5], f[6], f[7], f[8]) for f in lines("places")
    )
