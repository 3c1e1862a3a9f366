"""Is a value grounded in what was said? The paper's second class of argument hallucination, as a score.

The paper leaves this to a judge, because comparing strings is not enough. The score here is what can be said
without one: 1 where a value stands in the text (or follows from it by a known way of writing), else the share
of its words that do.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from xlam_jax.records.quality.spoken import CURRENCIES, MONTHS, RELATIVE, SCALES, WORD_NUMBERS

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?|\.\d+")
_EXAMPLES = re.compile(r"\(?\b(?:e\.\s?g\.|for example|for instance|such as)[^.;)]*", re.IGNORECASE)
_RELATIVE_SCORE = 0.5
_TIME = re.compile(r"(\d\d?):(\d\d)(?::\d\d)?\s*(?:[ap]\.?m\.?)?\Z", re.IGNORECASE)
_DATE = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)(?:[T ]\d\d:\d\d.*)?\Z|(\d\d?)[/.](\d\d?)[/.](\d{4})\Z")


class Said:
    """Everything a value may come from, prepared for questions."""

    def __init__(self, text: str):
        self.lower = text.lower()

    @functools.cached_property
    def joined(self) -> str:
        """The words, one blank before and after each."""
        return f" {' '.join(_WORD.findall(self.lower))} "

    @functools.cached_property
    def words(self) -> frozenset[str]:
        return frozenset(self.joined.split())

    @functools.cached_property
    def stems(self) -> frozenset[str]:
        return frozenset(stem(word) for word in self.words)

    @functools.cached_property
    def initials(self) -> str:
        """The first letters of all words, for acronyms."""
        return "".join(word[0] for word in self.joined.split())

    @functools.cached_property
    def numbers(self) -> frozenset[float]:
        """Every number said: digits, words, with scales (2 million) and as percentages (5% is also 0.05)."""
        said: set[float] = set()
        for match in _NUMBER.finditer(self.lower):
            try:
                value = float(match[0].replace(",", ""))
            except ValueError:
                continue
            said.add(value)
            said.update(float(part) for part in match[0].split(",") if part.replace(".", "", 1).isdigit())
            rest = self.lower[match.end() : match.end() + 12].lstrip(" -").split(" ", 1)[0].strip(".,;?!")
            if rest.startswith(("%", "percent")):
                said.add(value / 100)
            if rest in SCALES:
                said.add(value * SCALES[rest])
        if not self.words.isdisjoint(WORD_NUMBERS):
            said.update(_spelled(self.joined.split()))
        return frozenset(said)


def _spelled(words: list[str]) -> Iterator[float]:
    """Numbers in words: `twenty five`, `three hundred`, `second`."""
    total, current, open_ = 0.0, 0.0, False
    for word in [*words, ""]:
        if word in WORD_NUMBERS:
            value = WORD_NUMBERS[word]
            yield value
            current = current + value if open_ and current % 10 == 0 and value < 10 else value
            open_ = True
        elif word in SCALES and open_:
            if word == "hundred":
                current *= 100
            else:
                total, current = total + current * SCALES[word], 0.0
            yield total + current
        elif word == "and" and open_:
            continue
        elif open_:
            yield total + current
            total, current, open_ = 0.0, 0.0, False


def stem(word: str) -> str:
    """A word without its commonest endings: enough to tell `kilometers` and `kilometer` apart from others."""
    for ending in ("ing", "ies", "ed", "es", "s", "ly", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def score(value: Any, schema: Mapping[str, Any], said: Said) -> float:
    """How well a value is grounded, in [0, 1]; of a list or object, its least grounded leaf.

    Choices of an enum, the default, booleans, null and the empty text need no ground; so does what the
    parameter's description names outside its examples (a default, or choices, given in words).
    """
    if value is None or isinstance(value, bool) or value == "" or "const" in schema:
        return 1.0
    if "enum" in schema or ("default" in schema and schema["default"] == value):
        return 1.0
    if isinstance(value, list):
        items = schema.get("items")
        items = items if isinstance(items, dict) else {}
        if isinstance(schema.get("description"), str):
            items = {"description": schema["description"], **items}
        return min((score(item, items, said) for item in value), default=1.0)
    if isinstance(value, dict):
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        return min((score(v, _inner(properties.get(k)), said) for k, v in value.items()), default=1.0)
    said_score = _scalar(value, said)
    if said_score == 1.0 or not isinstance(text := schema.get("description"), str):
        return said_score
    return 1.0 if _scalar(value, _described(text)) == 1.0 else said_score


def _inner(schema: Any) -> Mapping[str, Any]:
    return schema if isinstance(schema, dict) else {}


@functools.lru_cache(maxsize=4096)
def _described(text: str) -> Said:
    return Said(_EXAMPLES.sub(" ", text))


def _scalar(value: Any, said: Said) -> float:
    if isinstance(value, str):
        return _text(value, said)
    if f" {value} " in said.joined or value in said.numbers or -value in said.numbers:
        return 1.0
    # '19 says 2019.
    if type(value) is int and 1950 <= value < 2050 and f"'{value % 100:02d}" in said.lower:
        return 1.0
    return 0.0


def _text(value: str, said: Said) -> float:
    lower = value.lower()
    if lower in said.lower:
        # Inside a longer word it says nothing: "art" in "start". Scripts without blanks have no such words.
        at = said.lower.find(lower)
        around = (said.lower[at - 1 : at] + lower[0], lower[-1] + said.lower[at + len(lower) :][:1])
        if not any(len(pair) == 2 and pair.isascii() and pair.isalnum() for pair in around):
            return 1.0
    words = _WORD.findall(_CAMEL.sub(" ", value).lower())
    if not words:
        return 1.0 if lower.strip() in said.lower else 0.0
    if f" {' '.join(words)} " in said.joined:
        return 1.0
    if date := _DATE.match(value):
        return 1.0 if _is_date_said(date, said) else _RELATIVE_SCORE * (not said.words.isdisjoint(RELATIVE))
    if time := _TIME.match(value):
        return 1.0 if _is_time_said(time, said) else _RELATIVE_SCORE * (not said.words.isdisjoint(RELATIVE))
    known = sum(_word(word, said) for word in words)
    return known / len(words)


def _word(word: str, said: Said) -> float:
    if word in said.words or stem(word) in said.stems:
        return 1.0
    if word.isdigit():
        return 1.0 if float(word) in said.numbers else 0.0
    if word in WORD_NUMBERS and WORD_NUMBERS[word] in said.numbers:
        return 1.0
    if len(word) >= 4 and (word in said.lower or any(len(w) >= 4 and w in word for w in said.words)):
        return 0.75
    if word in CURRENCIES and any(sign in said.lower for sign in CURRENCIES[word]):
        return 1.0
    if 2 <= len(word) <= 5 and (word in said.initials or f" {word}" in said.joined):
        return 0.5
    return 0.0


def _is_date_said(date: re.Match[str], said: Said) -> bool:
    """Whether a date's day is said, and its month by number or name."""
    if date[1]:
        month, days = int(date[2]), (int(date[3]),)
    else:
        month, days = int(date[4]), (int(date[4]), int(date[5]))
        if not 1 <= month <= 12:
            month = int(date[5])
    if not 1 <= month <= 12:
        return False
    name = MONTHS[month - 1]
    named = name in said.words or name[:3] in said.words or float(month) in said.numbers
    return named and any(float(day) in said.numbers for day in days)


def _is_time_said(time: re.Match[str], said: Said) -> bool:
    hour, minute = int(time[1]), int(time[2])
    hours = {float(hour), float(hour % 12 or 12)}
    return not hours.isdisjoint(said.numbers) and (minute == 0 or float(minute) in said.numbers)


def words_of(*parts: Any) -> str:
    """The text of several parts; what is no text is written as JSON."""
    return "\n".join(
        part if isinstance(part, str) else json.dumps(part, ensure_ascii=False) for part in parts if part
    )
