"""From a template and arguments to the words of a query: how people write values, and how they talk."""

from __future__ import annotations

import datetime
import json
import re
import string
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

from xlam_jax.apigen.functions.declare import Template
from xlam_jax.apigen.signature import words_of

NUMBER_WORDS = {
    2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten",
    11: "eleven", 12: "twelve",
}  # fmt: skip
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")
_TOKEN = re.compile(r"[^\s'\"]*[\d@#/][^\s'\"]*\Z")

_OPENERS = (
    "Hi!", "Hello,", "Hey there.", "Quick question:", "Good morning!", "One thing:", "Need some help here.",
    "Using the tools you have:", "Please help me with this:", "Could you do this for me?",
)  # fmt: skip
# A query that tells a story has a context already.
_CONTEXTS = (
    "For a report:", "I'm stuck on this one.", "Just for my notes:", "This is for work.", "My teacher asks:",
    "For a quiz:", "I'm checking some homework.",
)  # fmt: skip
_STORY = re.compile(r"\b(?:I|I'm|[Mm]y|[Ww]e|[Oo]ur)\b")
_CLOSERS = (
    "Thanks!", "Thank you.", "Please.", "Use a tool for that.", "No need to explain.", "I'd appreciate it.",
    "Much obliged!", "Just the result, please.", "Cheers.",
)  # fmt: skip
_LINKS = ("Also,", "And", "Then", "Next,", "Besides that,", "After that,", "Plus:", "I also need this:")
_SAME = ("Same for {}.", "And for {}?", "Also {}.", "Then do it for {} as well.", "Now the same with {}.")
_TURN_LINKS = ("Now", "Next:", "OK.", "Thanks.", "Great.", "And now:", "Good, another one:")


def fill(
    template: Template,
    arguments: Mapping[str, Any],
    r: Random,
    typos: float = 0.0,
    choices: Collection[str] = (),
) -> str:
    """Words a template: every placeholder becomes a written value.

    Args:
      typos: chance that two letters of the template's own words (never of a value) are swapped.
      choices: parameters whose value is one of a few words, which nobody puts in quotes.
    """
    lists = sum(isinstance(arguments[name], list) for name in set(template.placeholders))
    parts = list(string.Formatter().parse(template.text))
    typo_at = r.randrange(len(parts)) if r.random() < typos else -1
    text = ""
    for i, (literal, name, spec, _) in enumerate(parts):
        text += _with_typo(literal, r) if i == typo_at else literal
        if name:
            following = parts[i + 1][0] if i + 1 < len(parts) else ""
            alone = (not text or text[-1] == " ") and following.startswith(" ")
            text += write_value(
                arguments[name], r, spec or _spec(name, arguments[name], choices, lists), alone
            )
    return text


def _spec(name: str, value: Any, choices: Collection[str], lists: int) -> str:
    if name in choices:
        return "choice"
    # Where one list ends and the next begins would be guesswork without brackets.
    return "json" if lists > 1 and isinstance(value, list) else ""


def write_value(value: Any, r: Random, spec: str = "", alone: bool = False) -> str:
    """Writes one value as a person might.

    Args:
      spec: `raw` leaves a text unquoted, `choice` also opens its underscores, `plain` leaves a number
        without separators, `json` writes a list with brackets.
      alone: the value stands between blanks, so that a small number may be spelled out.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if alone and spec != "plain" and value in NUMBER_WORDS and r.random() < 0.05:
            return NUMBER_WORDS[value]
        if spec != "plain" and abs(value) >= 10000 and r.random() < 0.25:
            return f"{value:,}"
        return str(value)
    if isinstance(value, float):
        return f"{value:,}" if spec != "plain" and abs(value) >= 10000 and r.random() < 0.25 else repr(value)
    if isinstance(value, str):
        if spec in ("raw", "choice"):
            return value.replace("_", " ") if spec == "choice" else value
        return _write_text(value, r)
    if (
        isinstance(value, list)
        and value
        and spec != "json"
        and not any(isinstance(v, list | dict) for v in value)
    ):
        return _write_list(value, r)
    return json.dumps(value, ensure_ascii=False)


def _write_text(value: str, r: Random) -> str:
    if _DATE.match(value):
        return write_date(value, r)
    if _TOKEN.match(value) and not value.endswith(("?", ".", ",", "!")) and r.random() < 0.92:
        return value
    quote = '"' if "'" in value or r.random() < 0.6 else "'"
    if quote in value:
        quote = "'" if quote == '"' and "'" not in value else "`"
    return f"{quote}{value}{quote}"


def write_date(value: str, r: Random) -> str:
    """An ISO date, spelled out at times; a date that does not exist stays as it is."""
    try:
        day = datetime.date.fromisoformat(value)
    except ValueError:
        return value
    style = r.random()
    if style < 0.7:
        return value
    month = day.strftime("%B")
    return f"{month} {day.day}, {day.year}" if style < 0.86 else f"{day.day} {month} {day.year}"


def _write_list(values: list, r: Random) -> str:
    style = r.random()
    if style < 0.25 or len(values) < 2:
        return json.dumps(values, ensure_ascii=False)
    if isinstance(values[0], str):
        plain = all(re.match(r"[\w'-]+\Z", v) for v in values)
        items = values if plain and style < 0.75 else [f'"{v}"' for v in values]
    else:
        items = [str(v) for v in values]
    if style < 0.6:
        return ", ".join(items)
    comma = "," if style > 0.9 and len(items) > 2 else ""
    return f"{', '.join(items[:-1])}{comma} and {items[-1]}"


def join_clauses(clauses: Sequence[str], r: Random) -> str:
    """Puts independent requests into one message."""
    text = finish(clauses[0])
    for clause in clauses[1:]:
        if r.random() < 0.6:
            clause = f"{r.choice(_LINKS)} {lower_first(clause)}"
        text += " " + finish(clause)
    return text


def repeat_clause(
    template: Template, arguments: Mapping[str, Any], r: Random, choices: Collection[str] = ()
) -> str:
    """A short follow-up that asks for the same with other values.

    One value stands alone; several are named, since their order alone would be guesswork.

    Args:
      template: wording of the request before; its placeholders are the values that are said.
      arguments: values of the new call, those of all placeholders at least.
      choices: parameters whose value is one of a few words, which nobody puts in quotes.
    """
    names = template.placeholders
    told = {
        n: write_value(arguments[n], r, _spec(n, arguments[n], choices, len(set(names))) or "plain")
        for n in names
    }
    if len(told) == 1:
        text = told[names[0]]
    else:
        text = ", ".join(f"{words_of(name)} {value}" for name, value in told.items())
    return r.choice(_SAME).format(text)


def dress(query: str, r: Random, share: float, later: bool = False) -> str:
    """Adds a greeting, a context or a word of thanks to a share of the queries.

    Args:
      later: the message comes later in a conversation: it is linked to what went before, without greeting.
    """
    if r.random() >= max(share, 0.4 * later):
        return query
    if later or r.random() < 0.65:
        openers = _OPENERS if _STORY.search(query) else _OPENERS + _CONTEXTS
        opener = r.choice(_TURN_LINKS if later else openers)
        return f"{opener} {query if opener[-1] in '.!?' else lower_first(query)}"
    return f"{finish(query)} {r.choice(_CLOSERS)}"


def finish(text: str) -> str:
    """Ends a clause with a stop if it has none."""
    return text if text.endswith((".", "?", "!")) else text + "."


def lower_first(text: str) -> str:
    """Lower-cases the first word where that is safe: a plain capitalised word, not a name or I."""
    word = re.match(r"[A-Z][a-z']*(?=[ ,])", text)
    if not word or word.group() in _KEEP:
        return text
    return text[0].lower() + text[1:]


_KEEP = frozenset(("I", "I'm", "I'd", "I've", "Adult", "Grandpa", "Monthly", "February", "Gold"))


def _with_typo(text: str, r: Random) -> str:
    """Swaps two inner letters of one long word."""
    words = list(re.finditer(r"[a-z]{5,}", text))
    if not words:
        return text
    word = r.choice(words)
    i = r.randrange(word.start() + 1, word.end() - 2)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
