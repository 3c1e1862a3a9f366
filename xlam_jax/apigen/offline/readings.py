"""What a text may mean: every number, span of time, date and clock time in it, with its place.

The inverse of `written`: whatever that writes is read back here, and so is what people and language models write
in other ways. One span may have several readings (`5 %` is 5 and 0.05, `1/5/2024` is a day of January or of May);
a reader of a call asks whether one of them is the value.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xlam_jax.records.quality.spoken import MONTHS, WORD_NUMBERS

_UNITS = {  # seconds
    "millisecond": 0.001, "ms": 0.001, "second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "hour": 3600, "hr": 3600,
    "h": 3600, "day": 86400, "week": 604800, "fortnight": 1209600, "month": 2629746, "year": 31556952,
}  # fmt: skip
SECONDS = {
    unit: _UNITS[unit] for unit in ("millisecond", "second", "minute", "hour", "day", "week", "month", "year")
}
_SCALES = {
    "hundred": 100, "thousand": 1_000, "k": 1_000, "grand": 1_000, "million": 10**6, "m": 10**6, "mn": 10**6,
    "billion": 10**9, "b": 10**9, "bn": 10**9, "trillion": 10**12,
}  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
          "fifth": 5, "fifths": 5, "tenth": 10, "tenths": 10}  # fmt: skip
_COUNTS = {w: int(n) for w, n in WORD_NUMBERS.items() if n == int(n) and w not in ("both", "a", "an")}
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)\b", re.IGNORECASE)

_ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_CARDINALS = {w for w in (*_COUNTS, *_TENS) if w not in (*_PARTS, *_ORDINALS.split())}
_WORDS = "|".join(sorted(_CARDINALS, key=len, reverse=True))
_SPELLED = re.compile(
    rf"\b(?:an?(?=\s+(?:hundred|thousand|million|billion|dozen)\b)|(?:{_WORDS})\b)"
    rf"(?:(?:[\s-]+|(?:(?<=hundred)|(?<=thousand)|(?<=million))\s+and\s+)"
    rf"(?:{_WORDS}|dozen|hundred|thousand|million|billion|trillion)\b)*",
    re.IGNORECASE,
)
_DIGITS = re.compile(
    r"(?<![\w.])(?P<sign>[-−+])?(?P<money>[$€£¥])?(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<exp>e[-+]?\d+)?"
    r"(?:(?P<scale>[kKmMbB]|bn|mn)\b|\s+(?P<word>hundred|thousand|million|billion|trillion)\b)?"
    r"(?P<percent>\s?%|\s+percent\b|\s+per\s?cent\b)?",
)
_FRACTION = re.compile(
    rf"\b(?:(?P<whole>\d+|{_WORDS})\s+(?:and\s+)?)?(?:(?P<count>an?|one|two|three|four|\d+)[\s-]+)?"
    r"(?P<part>half|halves|thirds?|quarters?|fourths?|fifths?|tenths?)\b(?:\s+an?\b)?",
    re.IGNORECASE,
)
_SLASH = re.compile(r"(?<![\w/.-])(?:(\d+)\s+)?(\d+)/(\d+)(?![\w/])")
_UNIT = re.compile(
    r"[\s-]*(?:of\s+)?(?:an?\s+)?"
    r"(milliseconds?|ms|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|fortnights?|months?|years?|[sh])\b",
    re.IGNORECASE,
)
_ONE_UNIT = re.compile(
    r"\b(?:an?|the (?:next|last|past|coming))\s+(second|minute|hour|day|week|fortnight|month|year)\b",
    re.IGNORECASE,
)
_MONTH = "|".join([*MONTHS, *(m[:3] for m in MONTHS), "sept"])
_MONTH_FIRST = re.compile(
    rf"\b(?P<month>{_MONTH})\.?(?:\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?)?(?:,?\s+(?P<year>\d{{4}}))?\b",
    re.IGNORECASE,
)
_DAY_FIRST = re.compile(
    rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>{_MONTH})\b\.?(?:,?\s+(?P<year>\d{{4}}))?",
    re.IGNORECASE,
)
_ISO = re.compile(
    r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:?\d\d)?)?"
)
_SLASHED = re.compile(r"\b(\d{1,2})[/.](\d{1,2})[/.](\d{4}|\d\d)\b")
_COMPACT = re.compile(r"\b(?:19|20)\d{6}\b")
_TODAY = re.compile(r"\b(?:[Tt]oday is|[Tt]oday's date is|[Ii]t(?: is|'s))\s+([^.!?;]*\d{4}(?:-\d\d-\d\d)?)")
_RELATIVE = re.compile(
    r"\b(the day after tomorrow|the day before yesterday|today|tonight|tomorrow|yesterday)\b", re.IGNORECASE
)
_SHIFT = re.compile(
    rf"\b(?:in\s+)?(an?|\d+|{_WORDS})\s+(day|week|month|year)s?(?:'?\s+(from\s+(?:now|today)|ago|time))?\b",
    re.IGNORECASE,
)
_WEEKDAY = re.compile(rf"\b(?:(next|last|this|coming|on|past)\s+)?({'|'.join(_WEEKDAYS)})\b", re.IGNORECASE)
_PERIOD = re.compile(r"\b(this|next|last)\s+(year|month)\b", re.IGNORECASE)
_CLOCK = re.compile(
    r"\b(\d{1,2})(?::(\d\d))?(?::(\d\d))?\s*([ap])\.?m\b\.?|\b(\d{1,2}):(\d\d)(?::(\d\d))?", re.IGNORECASE
)
_SAID_CLOCK = re.compile(
    rf"\b(?:(noon|midday|midnight)|(half past|quarter past|quarter to)\s+(\d{{1,2}}|{_WORDS}))(?:\s+([ap])\.?m\b)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reading:
    """One meaning of `text[start:end]`.

    Attributes:
      value: a number; a `Duration`; a `datetime.date`; `(year, month)`; a `datetime.time`.
      form: how it is written, such as `digits`, `words`, `percent`, `duration`, `date`, `relative`.
    """

    start: int
    end: int
    value: Any
    form: str


@dataclass(frozen=True)
class Duration:
    """A span of time as said: `count` of `unit`."""

    count: float
    unit: str

    def in_unit(self, unit: str) -> float:
        """The same span in another unit; months and years by the calendar where both are such."""
        if {self.unit, unit} == {"month", "year"}:
            return self.count * 12 if unit == "month" else self.count / 12
        return self.count * SECONDS[self.unit] / SECONDS[unit]


@functools.lru_cache(maxsize=2048)
def readings(text: str, today: datetime.date | None = None) -> tuple[Reading, ...]:
    """All readings of a text; days named by their distance only where `today` is known, or the text says it."""
    numbers = [*_numbers(text)]
    if said := _TODAY.search(text):
        days = [r.value for r in _dates(said[1], None) if isinstance(r.value, datetime.date)]
        today = days[0] if days else today
    return (*numbers, *_durations(text, numbers), *_dates(text, today), *_times(text))


def _numbers(text: str) -> Iterator[Reading]:
    for match in _DIGITS.finditer(text):
        value = float(match["number"].replace(",", "") + (match["exp"] or ""))
        start, end = match.span()
        form = "separated" if "," in match["number"] else "digits"
        plain = match.end("exp") if match["exp"] else match.end("number")
        if scale := (match["scale"] or match["word"] or "").lower():
            yield Reading(
                start,
                match.end("scale") if match["scale"] else match.end("word"),
                value * _SCALES[scale],
                "scaled",
            )
        if match["percent"]:
            yield Reading(start, end, value / 100, "percent")
        yield Reading(start + bool(match["sign"]), plain, value, form)
        if match["sign"] in ("-", "−"):  # a minus, or the dash of a range
            yield Reading(start, plain, -value, form)
        if form == "separated":  # thousands, or a list without blanks: rgb(1,200,300)
            for part in re.finditer(r"\d+(?:\.\d+)?", match["number"]):
                at = match.start("number")
                yield Reading(at + part.start(), at + part.end(), float(part[0]), "digits")
    for match in re.finditer(r"(?<=[A-Za-z_#/:=-])\d+(?:\.\d+)?|\d+(?=[A-Za-z])", text):
        yield Reading(*match.span(), float(match[0]), "digits")
    for match in _ORDINAL.finditer(text):
        yield Reading(*match.span(), float(match[1]), "ordinal")
    for match in _SLASH.finditer(text):
        if int(match[3]):
            yield Reading(*match.span(), int(match[1] or 0) + int(match[2]) / int(match[3]), "fraction")
    for match in _FRACTION.finditer(text):
        count = _count(match["count"] or "one")
        whole = _count(match["whole"]) if match["whole"] and match["count"] else 0
        if match["whole"] and not match["count"]:  # "three quarters": the first word counts the parts
            count = _count(match["whole"])
            if "half" in match["part"].lower() and " and " in match[0].lower():
                whole, count = count, 1
        yield Reading(*match.span(), whole + count / _PARTS[match["part"].lower()], "fraction")
    for match in _SPELLED.finditer(text):
        yield Reading(*match.span(), _spelled(match[0]), "words")
    for match in re.finditer(
        r"\b(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)\b", text, re.IGNORECASE
    ):
        yield Reading(*match.span(), float(WORD_NUMBERS[match[0].lower()]), "ordinal")


def _count(word: str) -> int:
    word = word.lower()
    if word in ("a", "an"):
        return 1
    return int(word) if word.isdigit() else _TENS.get(word) or _COUNTS[word]


def _spelled(words: str) -> float:
    total = current = 0
    for word in re.findall(r"[a-z]+", words.lower()):
        if word in ("a", "an"):
            current = current or 1
        elif word == "hundred":
            current = (current or 1) * 100
        elif word in _SCALES:
            total, current = total + (current or 1) * _SCALES[word], 0
        elif word == "dozen":
            current = (current or 1) * 12
        elif word != "and":
            current += _TENS.get(word) or _COUNTS[word]
    return float(total + current)


def _durations(text: str, numbers: list[Reading]) -> Iterator[Reading]:
    for number in numbers:
        if unit := _UNIT.match(text, number.end):
            yield Reading(number.start, unit.end(), _duration(number.value, unit[1]), "duration")
    for match in _ONE_UNIT.finditer(text):
        yield Reading(*match.span(), _duration(1.0, match[1]), "duration")


def _duration(count: float, word: str) -> Duration:
    word = word.lower() if word.lower() in _UNITS else word.lower().rstrip("s")
    if word == "fortnight":
        return Duration(2 * count, "week")
    return Duration(count, next(name for name, seconds in SECONDS.items() if seconds == _UNITS[word]))


def _dates(text: str, today: datetime.date | None) -> Iterator[Reading]:
    for match in _ISO.finditer(text):
        yield from _date(match, int(match[1]), int(match[2]), int(match[3]), "date")
        if match[4] and int(match[4]) < 24 and int(match[5]) < 60 and int(match[6] or 0) < 60:
            clock = datetime.time(int(match[4]), int(match[5]), int(match[6] or 0))
            yield Reading(match.start(4), match.end(6 if match[6] else 5), clock, "time")
    for match in _COMPACT.finditer(text):
        yield from _date(match, int(match[0][:4]), int(match[0][4:6]), int(match[0][6:]), "date")
    for match in _SLASHED.finditer(text):
        year = int(match[3]) + (2000 if len(match[3]) == 2 else 0)
        yield from _date(match, year, int(match[1]), int(match[2]), "date")
        yield from _date(match, year, int(match[2]), int(match[1]), "date")
    for pattern in (_MONTH_FIRST, _DAY_FIRST):
        for match in pattern.finditer(text):
            month = next(i for i, name in enumerate(MONTHS, 1) if name.startswith(match["month"].lower()[:3]))
            year = int(match["year"]) if match["year"] else today.year if today else 0
            if match["day"] and year:
                yield from _date(match, year, month, int(match["day"]), "date")
            elif match["year"]:
                yield Reading(*match.span(), (year, month), "month")
            if (not match["day"] and match["month"].lower() != "may") or (
                match["month"] == "May" and not match["day"]
            ):
                yield Reading(*match.span("month"), float(month), "month")
    if today is None:
        return
    for match in _RELATIVE.finditer(text):
        days = {"the day after tomorrow": 2, "tomorrow": 1, "yesterday": -1, "the day before yesterday": -2}
        yield Reading(*match.span(), today + datetime.timedelta(days.get(match[1].lower(), 0)), "relative")
    for match in _SHIFT.finditer(text):
        said = match[0].lower()
        if said.startswith("in ") or match[3]:
            sign = -1 if (match[3] or "").lower() == "ago" else 1
            yield Reading(*match.span(), shift(today, sign * _count(match[1]), match[2].lower()), "relative")
    for match in _WEEKDAY.finditer(text):
        ahead = (_WEEKDAYS.index(match[2].lower()) - today.weekday()) % 7
        if (match[1] or "").lower() in ("last", "past"):
            yield Reading(*match.span(), today - datetime.timedelta(7 - ahead if ahead else 7), "relative")
        else:
            yield Reading(*match.span(), today + datetime.timedelta(ahead or 7), "relative")
    for match in _PERIOD.finditer(text):
        step = {"this": 0, "next": 1, "last": -1}[match[1].lower()]
        then = shift(today.replace(day=1), step, match[2].lower())
        yield Reading(
            *match.span(),
            float(then.year) if match[2].lower() == "year" else (then.year, then.month),
            "relative",
        )


def shift(day: datetime.date, count: int, unit: str) -> datetime.date:
    """The day `count` days, weeks, months or years later, the last of its month where the month is shorter."""
    if unit in ("day", "week"):
        return day + datetime.timedelta(count * (7 if unit == "week" else 1))
    months = day.year * 12 + day.month - 1 + count * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    last = (datetime.date(year + month // 11, (month + 1) % 12 + 1, 1) - datetime.timedelta(1)).day
    return datetime.date(year, month + 1, min(day.day, last))


def _date(match: re.Match[str], year: int, month: int, day: int, form: str) -> Iterator[Reading]:
    try:
        yield Reading(*match.span(), datetime.date(year, month, day), form)
    except ValueError:
        return


def _times(text: str) -> Iterator[Reading]:
    for match in _CLOCK.finditer(text):
        hour, minute = int(match[1] or match[5]), int(match[2] or match[6] or 0)
        second = int(match[3] or match[7] or 0)
        if match[4]:
            if not 1 <= hour <= 12:
                continue
            hour = hour % 12 + (12 if match[4].lower() == "p" else 0)
        if hour < 24 and minute < 60 and second < 60:
            yield Reading(*match.span(), datetime.time(hour, minute, second), "time")
    for match in _SAID_CLOCK.finditer(text):
        if match[1]:
            yield Reading(*match.span(), datetime.time(0 if match[1].lower() == "midnight" else 12), "time")
            continue
        hour = _count(match[3])
        if not 1 <= hour <= 24:
            continue
        minutes = hour * 60 + {"half past": 30, "quarter past": 15, "quarter to": -15}[match[2].lower()]
        for half in (0, 720):
            total = (minutes % 720 + half) % 1440
            if not match[4] or (match[4].lower() == "p") == (half == 720):
                yield Reading(*match.span(), datetime.time(total // 60, total % 60), "time")
