"""Where a value of a call stands in the query: the span of text that means it, read back by `readings`.

A value that no span means is not determined by the query; the format stage drops its row. What needs no span: a
default, a choice or a flag that can be said in any words, null.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xlam_jax.apigen.offline.readings import SECONDS, Duration, Reading, readings
from xlam_jax.apigen.signature import words_of
from xlam_jax.format import Tool, ToolCall

_DATE_SHAPES = (
    "%Y-%m-%d",
    "%Y%m%d",
    "%Y/%m/%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%B %d, %Y",
)
_TIME_SHAPES = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M%p", "%I %p")
_MEANINGS = {
    "asc": ("ascending", "lowest first", "oldest first"), "desc": ("descending", "highest first", "newest first"),
    "f": ("fahrenheit",), "c": ("celsius",), "k": ("kelvin",), "usd": ("dollar", "dollars", "$"),
    "eur": ("euro", "euros", "€"), "gbp": ("pound", "pounds", "£"), "jpy": ("yen", "¥"),
}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """`query[start:end]` means the argument at `path` (`name`, `name.key`, `name.0`)."""

    path: str
    start: int
    end: int
    form: str


def trace_call(call: ToolCall, tool: Tool, query: str) -> tuple[list[Span], list[str]]:
    """The spans of a call's values, and the paths of those that the query does not mean."""
    spans: list[Span] = []
    lost: list[str] = []
    for name, value in call.arguments.items():
        schema = tool.parameters.get("properties", {}).get(name)
        schema = schema if isinstance(schema, dict) else {}
        for path, leaf, inner in leaves(name, value, schema):
            if span := trace(leaf, inner, name, query):
                spans.append(Span(path, span.start, span.end, span.form))
            elif not needs_no_ground(leaf, inner):
                lost.append(path)
    return spans, lost


def leaves(path: str, value: Any, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every scalar of a value with its path and schema."""
    if needs_no_ground(value, schema) or not isinstance(value, list | dict):
        yield path, value, schema
    elif isinstance(value, list):
        items = schema.get("items")
        items = {"description": schema.get("description", ""), **items} if isinstance(items, dict) else schema
        for i, item in enumerate(value):
            yield from leaves(f"{path}.{i}", item, items)
    else:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        for key, item in value.items():
            inner = properties.get(key)
            yield from leaves(f"{path}.{key}", item, inner if isinstance(inner, dict) else {})


def needs_no_ground(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value may be chosen without being said."""
    if value is None or isinstance(value, bool) or value in ("", [], {}):
        return True
    return "enum" in schema or "const" in schema or ("default" in schema and schema["default"] == value)


def trace(value: Any, schema: Mapping[str, Any], name: str, query: str) -> Reading | None:
    """The first span of `query` that means a scalar `value`; None where there is none.

    Args:
      value: null, booleans, lists and objects have no span.
      schema: of the value.
      name: of the parameter; it, or else the schema's description, says the unit of time that a number counts.
    """
    if value is None or isinstance(value, bool | list | dict):
        return None
    if isinstance(value, int | float):
        return _number(float(value), unit_of(name, schema), query)
    if reading := _verbatim(value, query):
        return reading
    for other in _said_as(value):
        if reading := _verbatim(other, query):
            return Reading(reading.start, reading.end, value, "synonym")
    if reading := _moment(value, query):
        return reading
    if re.fullmatch(r"-?[\d.,]+", value):
        try:
            return _number(float(value.replace(",", "")), unit_of(name, schema), query)
        except ValueError:
            return None
    parts = [part for part in re.split(r"\s*[,;|]\s*", value) if part]
    if len(parts) > 1:
        found_parts = [trace(part, {}, "", query) for part in parts]
        if all(found_parts):
            inside = [p for p in found_parts if p]
            return Reading(min(p.start for p in inside), max(p.end for p in inside), value, "list")
    return None


def unit_of(name: str, schema: Mapping[str, Any]) -> str:
    """The unit of time that a number of this parameter counts, by its name or else its description.

    `days` counts days; `day` names one.
    """
    label, text = words_of(name), schema.get("description")
    text = text.lower() if isinstance(text, str) else ""
    if re.search(r"\b(?:ms|millis|milliseconds?)\b", label) or re.search(r"\b(?:ms|milliseconds?)\b", text):
        return "millisecond"
    if time_words := re.findall(
        r"\b(secs?|seconds|mins?|minutes|hours|hrs|days|weeks|months|years)\b", label
    ):
        named = {"secs": "second", "sec": "second", "mins": "minute", "min": "", "hrs": "hour"}
        word: str = time_words[-1]
        return named.get(word, word.removesuffix("s"))
    if label in ("year", "month", "day", "hour", "minute", "second", "week", "age"):
        return ""
    units = set(re.findall(r"\b(?:in|of|as|\() ?(seconds|minutes|hours|days|weeks|months|years)\b", text))
    return str(units.pop()).removesuffix("s") if len(units) == 1 else ""


def _number(value: float, unit: str, query: str) -> Reading | None:
    for reading in readings(query):
        if isinstance(reading.value, Duration):
            near = unit and _close(reading.value.in_unit(unit), value)
        else:
            near = isinstance(reading.value, float | int) and _close(float(reading.value), value)
        if near:
            return reading
    return None


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= 1e-9 * max(1.0, abs(first), abs(second))


def _verbatim(value: str, query: str) -> Reading | None:
    """The text itself, not as part of a longer word; in other cases of letters if need be."""
    text = value.strip()
    if not text:
        return None
    for where, what, form in ((query, text, "verbatim"), (query.lower(), text.lower(), "verbatim")):
        start = where.find(what)
        while start >= 0:
            end = start + len(what)
            around = (where[start - 1 : start] + what[0], what[-1] + where[end : end + 1])
            if not any(len(pair) == 2 and pair.isascii() and pair.isalnum() for pair in around):
                return Reading(start, end, value, form)
            start = where.find(what, start + 1)
    return None


_MOMENT_CHARS = 48


@functools.lru_cache(maxsize=8192)
def _said_as(value: str) -> tuple[str, ...]:
    """Other words for a token: open underscores and camel case, what a code stands for."""
    if len(value) > 60:
        return ()
    opened = re.sub(r"[_\-./]+", " ", value).strip()
    camel = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", opened)
    names = [opened, camel, *_MEANINGS.get(value.lower(), ())]
    if re.fullmatch(r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{2})?", value):
        names += code_names(value)
    return tuple(n for n in dict.fromkeys(names) if n and n != value)


@functools.lru_cache(maxsize=4096)
def code_names(code: str) -> tuple[str, ...]:
    """English names of a language, country or currency code; none where `babel` is not installed."""
    try:
        from babel import Locale
    except ImportError:
        return ()
    english = Locale("en")
    first, upper = re.split("[-_]", code)[0], code.upper()
    if len(first) == 3:
        names = [english.currencies.get(upper)]
    else:  # as they are written: fr is a language, FR a country
        names = [english.languages.get(first.lower()), english.territories.get(upper)]
        names = names[::-1] if code.isupper() else names
    return tuple(str(name) for name in names if name)


def _moment(value: str, query: str) -> Reading | None:
    """A day, a clock time, or both, in whichever shape the value has."""
    text = value.strip()
    if "T" in text or ":" in text:
        text = re.sub(r"(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?$", "", text)
    if days := _days(text):
        return _reading(query, *days)
    if (clock := _clock(text)) is not None:
        return _reading(query, clock)
    if both := re.fullmatch(r"(\S+)[T ](\d\d:\d\d(?::\d\d)?)", text):
        clock = _clock(both[2])
        days, times = _readings(query, *_days(both[1])), _readings(query, clock)
        pairs = [(min(d.start, t.start), max(d.end, t.end)) for d in days for t in times]
        # A day and a time of two requests are no moment.
        if pairs and (near := min(pairs, key=lambda p: p[1] - p[0]))[1] - near[0] <= _MOMENT_CHARS:
            return Reading(*near, value, "datetime")
        if clock == datetime.time(0) and days:
            return days[0]
    elif month := re.fullmatch(r"(\d{4})-(\d\d)", text):
        return _reading(query, (int(month[1]), int(month[2])))
    return None


def _reading(query: str, *values: Any) -> Reading | None:
    """The first reading that is one of the values."""
    return next(iter(_readings(query, *values)), None)


def _readings(query: str, *values: Any) -> list[Reading]:
    wanted = {(type(v), v) for v in values}
    return [r for r in readings(query) if (type(r.value), r.value) in wanted]


def _days(text: str) -> list[datetime.date]:
    """What a text may be as a day: 01/05/2024 is one of January or of May."""
    days = []
    for shape in _DATE_SHAPES:
        try:
            days.append(datetime.datetime.strptime(text, shape).date())
        except ValueError:
            continue
    return days


def _clock(text: str) -> datetime.time | None:
    for shape in _TIME_SHAPES:
        try:
            return datetime.datetime.strptime(text, shape).time()
        except ValueError:
            continue
    return None


__all__ = ["SECONDS", "Span", "code_names", "leaves", "needs_no_ground", "trace", "trace_call", "unit_of"]
