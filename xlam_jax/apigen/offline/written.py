"""How people write a value: number words, thousands, percent, spans of time, days, lists in prose.

Whatever is written here, `provenance.trace` reads back (a test holds the two together).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from random import Random
from typing import Any

from xlam_jax.apigen.offline.provenance import code_names, unit_of
from xlam_jax.apigen.offline.readings import SECONDS
from xlam_jax.records.quality.spoken import ONES

_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SHORT = {"asc": "ascending", "desc": "descending"}


def write(value: Any, schema: Mapping[str, Any], name: str, r: Random, how: str = "") -> str:
    """One value in words.

    Args:
      how: `raw` leaves a text without quotes; `code` says what a code stands for at times; `figure` keeps a number
        in figures.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value, unit_of(name, schema), r, how == "figure")
    if isinstance(value, list):
        return _list(value, schema, name, r, how)
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if "enum" in schema:
        return choice(value)
    if (day := _iso_day(value)) is not None:
        return date(day, r)
    if (clock := _iso_clock(value)) is not None:
        return time(clock, r)
    if how == "code" and r.random() < 0.9 and (names := code_names(value)):
        return names[0]
    return value if how in ("raw", "code") else quoted(value, r)


def quoted(text: str, r: Random) -> str:
    """The text in quotes, double ones mostly."""
    quote = "'" if '"' in text or ("'" not in text and r.random() < 0.3) else '"'
    return f"{quote}{text}{quote}" if quote not in text else f"`{text}`"


def choice(value: str) -> str:
    """A choice as said: short codes in full, underscores open."""
    if value.lower() in _SHORT:
        return _SHORT[value.lower()]
    opened = value.replace("_", " ").strip()
    return opened.lower() if opened.isupper() and len(opened) > 4 else opened or value


def number(value: float, unit: str, r: Random, figure: bool = False) -> str:
    """A number; with a unit of time in whichever unit suits it.

    Args:
      unit: unit of time that the value counts, as `unit_of` names it; empty for none.
      figure: digits, never words, and no separators in a whole number; a span of time is written as ever.
    """
    if unit and value > 0:
        return span(value, unit, r)
    whole = int(value) if value == int(value) else None
    if whole is None:
        if value % 1 == 0.5 and 1 < value < 13 and not figure and r.random() < 0.3:
            return f"{words(int(value))} and a half"
        return f"{value:,}" if value >= 10000 and r.random() < 0.3 else repr(value)
    if not figure:
        for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand")):
            if whole >= size and whole % (size // 10) == 0 and whole < 1000 * size:
                if r.random() < 0.35:
                    return (
                        f"{_short(whole / size)} {name}"
                        if size > 1000 or r.random() < 0.5
                        else f"{_short(whole / size)}k"
                    )
                break
        if 1 < whole <= 12 and r.random() < 0.7:
            return words(whole)
        if 12 < whole < 100 and r.random() < 0.25:
            return words(whole)
    return f"{whole:,}" if abs(whole) >= 1000 and not figure and r.random() < 0.45 else str(whole)


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def words(value: int) -> str:
    """A whole number of 0 to 99 in words."""
    if value < 20:
        return ONES[value]
    return _TENS[value // 10] + (f"-{ONES[value % 10]}" if value % 10 else "")


def span(value: float, unit: str, r: Random) -> str:
    """A span of time: of its own unit, or of a longer one that it fills (14 days: two weeks)."""
    names = list(SECONDS)
    if r.random() < 0.6:
        for longer in reversed(names[names.index(unit) + 1 :]):
            if {unit, longer} & {"month", "year"} and {unit, longer} != {"month", "year"}:
                continue
            count = value * SECONDS[unit] / SECONDS[longer] if unit != "month" else value / 12
            if count >= 1 and count == int(count) and count <= 60:
                value, unit = count, longer
                break
    if value == 1 and unit != "millisecond" and r.random() < 0.5:
        return f"{'an' if unit == 'hour' else 'a'} {unit}"
    count_said = (
        words(int(value)) if value == int(value) and 1 <= value <= 12 and r.random() < 0.4 else _short(value)
    )
    return f"{count_said} {unit}{'' if value == 1 else 's'}"


def date(day: datetime.date, r: Random) -> str:
    """A day with its year."""
    month = day.strftime("%B")
    shapes = (
        day.isoformat(), f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}",
        f"{month} {_ordinal(day.day)}, {day.year}", f"{month[:3]} {day.day}, {day.year}",
        f"the {_ordinal(day.day)} of {month} {day.year}",
    )  # fmt: skip
    return r.choices(shapes, (22, 24, 15, 16, 14, 9))[0]


def relative(day: datetime.date, today: datetime.date, r: Random) -> str:
    """A day by its distance from today, where there is a short way to say it; else ''."""
    days = (day - today).days
    near = {0: "today", 1: "tomorrow", -1: "yesterday", 2: "the day after tomorrow"}
    ways = [near[days]] if days in near else []
    if 2 <= days <= 10:
        ways.append(f"in {words(days)} days")
    if -10 <= days <= -2:
        ways.append(f"{words(-days)} days ago")
    if days % 7 == 0 and 7 <= days <= 28:
        ways.append("in a week" if days == 7 else f"in {words(days // 7)} weeks")
    if days % 7 == 0 and -28 <= days <= -7:
        ways.append("a week ago" if days == -7 else f"{words(-days // 7)} weeks ago")
    if 1 <= days <= 6:
        ways.append(f"this {day.strftime('%A')}")
    if -6 <= days <= -1:
        ways.append(f"last {day.strftime('%A')}")
    return r.choice(ways) if ways else ""


def _ordinal(day: int) -> str:
    ending = "th" if 10 < day % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def time(clock: datetime.time, r: Random) -> str:
    """A clock time."""
    plain = clock.strftime("%H:%M")
    if clock.second:
        return clock.strftime("%H:%M:%S")
    half = "pm" if clock.hour >= 12 else "am"
    hour = clock.hour % 12 or 12
    twelve = f"{hour} {half}" if not clock.minute else f"{hour}:{clock.minute:02d} {half}"
    ways = [plain, twelve, twelve]
    if clock.minute in (15, 30) and r.random() < 0.5:
        ways.append(f"{'quarter' if clock.minute == 15 else 'half'} past {words(hour)} {half}")
    if clock == datetime.time(12):
        ways.append("noon")
    return r.choice(ways)


def _iso_day(value: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(value) if len(value) == 10 else None
    except ValueError:
        return None


def _iso_clock(value: str) -> datetime.time | None:
    if len(value) not in (5, 8) or value[2:3] != ":":
        return None
    try:
        return datetime.time.fromisoformat(value)
    except ValueError:
        return None


def _list(values: list, schema: Mapping[str, Any], name: str, r: Random, how: str) -> str:
    if not values or any(isinstance(v, list | dict | bool) or v is None for v in values):
        return json.dumps(values, ensure_ascii=False)
    numbers = all(isinstance(v, int | float) for v in values)
    if numbers and (len(values) > 6 or r.random() < 0.15):
        return json.dumps(values)
    items = schema.get("items")
    items = items if isinstance(items, dict) else {}
    if numbers:
        said = [str(v) for v in values]
    else:
        plain = how == "raw" or all(" " not in str(v) and "," not in str(v) for v in values)
        said = [write(v, items, "", r, "raw" if plain else "") for v in values]
    if len(said) == 1:
        return said[0]
    comma = "," if len(said) > 2 and r.random() < 0.4 else ""
    return f"{', '.join(said[:-1])}{comma} and {said[-1]}"
