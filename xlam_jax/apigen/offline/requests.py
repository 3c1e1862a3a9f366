"""One request for one API: its call and the words that ask for it, in one of four registers."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from xlam_jax.apigen.functions.declare import Template
from xlam_jax.apigen.offline import written
from xlam_jax.apigen.offline.askable import Askable, Parameter
from xlam_jax.apigen.offline.draws import World
from xlam_jax.apigen.offline.kinds import Kind
from xlam_jax.apigen.offline.tables import words
from xlam_jax.apigen.wording import dress, fill, finish
from xlam_jax.format import ToolCall

REGISTERS = ("command", "question", "need", "story")
_ASK = ("Can you {}?", "Could you {}?", "Could you please {}?", "Would you {}?", "Can you please {}?")
_NEED = (
    "I need to {}.",
    "I'd like to {}.",
    "I want to {}.",
    "I have to {}.",
    "We need to {}.",
    "We'd like to {}.",
)
_NEED_YOU = ("I need you to {}.", "I'd like you to {}.", "I want you to {}.")
_STORIES = words("stories")
_COMMAND = (
    "{}.",
    "{}.",
    "{}.",
    "{}.",
    "Please {}.",
    "Please {}.",
    "Please {}, thanks.",
    "Quick one: {}.",
    "Next up: {}.",
)
_PLAIN = ("{}.", "Please {}.")
QUOTES = "\"'`"
# Kinds of which a value alone says what it is.
_SPEAKS = frozenset(words("speaks"))
# Verbs that want to know something, of which one says "for Paris".
ASKS = frozenset(words("asks"))
_VAGUE = re.compile(
    r" (?:for|of|in|about) (?:an?|the|any|multiple|one or more|several|all|your)(?: [\w-]+){1,2}$"
)
# Nobody says "on tomorrow".
_ON_DAY = re.compile(
    r"\bon (?=today|tomorrow|yesterday|the day |this |last |in |a week|\w+ (?:days|weeks) ago)"
)
_LEADS_ME = re.compile(r"(?:show|give|tell) me\b")
_FLAG_VERBS = [
    "include",
    "return",
    "show",
    "use",
    "allow",
    "enable",
    "skip",
    "ignore",
    "force",
    "keep",
    "add",
    "remove",
    "exclude",
    "hide",
    "open",
    "create",
    "overwrite",
    "follow",
    "expand",
    "send",
    "wait",
    "sort",
    "count",
    "load",
    "save",
    "delete",
    "preserve",
    "merge",
    "check",
    "verify",
    "disable",
]
_NEVER_SAID = frozenset(["get", "a", "an", "the", "is", "to", "of"])


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
      clause: in the imperative, without a stop.
      after: further sentences that give values.
      call: what answers it.
      today: the day on which a day is named by its distance.
      alone: the written value, where a single one varies and the clause holds it once.
    """

    clause: str
    after: str
    call: ToolCall
    alone: str = ""
    needs_you: bool = False
    whole: str = ""
    today: datetime.date | None = None


def ask(api: Askable, world: World, r: Random, leave_out: str = "", relative: bool = False) -> Asked:
    """Draws a call and words it.

    Args:
      leave_out: a parameter that is not said although the call needs it.
      relative: a day may be named by its distance from today.
    """
    if api.api.templates and not leave_out and (api.frame is None or r.random() < 0.55):
        return _templated(api, world, r)
    arguments = api.arguments(world, r)
    call, frame = ToolCall(api.name, arguments), api.frame
    assert frame is not None
    known = {p.name: p for p in api.parameters}
    said = {n: _say(known[n], v, r) for n, v in arguments.items() if n in known and n != leave_out}
    today = world.today if relative and _relative(said, arguments, known, world, r) else None
    verb, rest = r.choice(frame.verbs), frame.rest
    for name in frame.slots:
        rest = rest.replace("{" + name + "}", _in_place(known[name], said.get(name)))
    loose = [known[n] for n in said if n not in frame.slots]
    inline, sentences = _attach(
        loose, arguments, said, r, verb in ASKS, verb in ("search", "find", "look up")
    )
    if re.match(r" (?:for|in|about) ", inline):
        rest = _VAGUE.sub("", rest) or rest
    clause = re.sub(r"\s+", " ", f"{verb} {rest}{inline}").strip()
    alone = (
        next(iter(said.values()))
        if len(said) == 1 and isinstance(next(iter(arguments.values())), str)
        else ""
    )
    return Asked(
        clause,
        sentences,
        call,
        alone if clause.count(alone or "\0") == 1 else "",
        bool(_LEADS_ME.match(clause)),
        today=today,
    )


def _relative(
    said: dict[str, str],
    arguments: Mapping[str, Any],
    known: Mapping[str, Parameter],
    world: World,
    r: Random,
) -> bool:
    """Says days near today by their distance, half of the time; whether any is said so."""
    any_said = False
    for name in said:
        kind = known[name].kind
        if kind is not None and kind.name in ("date", "start_date", "end_date") and r.random() < 0.5:
            day = written.relative(datetime.date.fromisoformat(arguments[name]), world.today, r)
            if day and (kind.name == "date" or not day.startswith("in ")):
                said[name], any_said = day, True
    return any_said


def _templated(api: Askable, world: World, r: Random) -> Asked:
    """By one of the templates that an API brings, with an example of its own."""
    text, fixed = r.choice(api.api.templates)
    template = Template(text, fixed)
    properties = api.api.tool.parameters["properties"]
    values = {**world.r.choice(api.api.examples), **fixed}
    arguments = {n: values[n] for n in properties if n in template.arguments}
    choices = {n for n, s in properties.items() if "enum" in s}
    return Asked("", "", ToolCall(api.name, arguments), whole=fill(template, arguments, r, 0.0, choices))


def _in_place(parameter: Parameter, value: str | None) -> str:
    """What stands in a slot: the value where it says what it is, else with its label."""
    if value is None and len(parameter.label) <= 2:
        return "a number"
    if value is None:
        return f"{'an' if parameter.label[0].lower() in 'aeiou' else 'a'} {parameter.label}"
    if parameter.kind is None:  # of a formula: the letter's own value, a quantity with its unit
        plain = len(parameter.name) == 1 or bool(parameter.unit) or parameter.label == parameter.name
    else:
        plain = parameter.kind.name in _SPEAKS
    return value if plain else f"{'the ' if value[:1] in QUOTES else ''}{parameter.label} {value}"


def _say(parameter: Parameter, value: Any, r: Random) -> str:
    how = parameter.kind.how if parameter.kind else ""
    if not how and parameter.kind is None and isinstance(value, str):
        how = "raw" if re.fullmatch(r"[\w.-]+", value) and not value.islower() else ""
    if how == "datetime" and isinstance(value, str):
        return f"{value[11:16]} on {written.write(value[:10], {}, '', r)}"
    if how == "parts" and isinstance(value, str):
        return written.write(value.split(","), {}, "", r, "raw")
    if (
        parameter.label.startswith("number of ")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ):
        return written.number(value, "", r)
    if parameter.unit and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{written.write(value, {}, '', r, 'figure')} {parameter.unit}"
    return written.write(value, parameter.schema, parameter.name, r, how)


def _attach(
    loose: Sequence[Parameter],
    arguments: Mapping[str, Any],
    said: Mapping[str, str],
    r: Random,
    asks: bool,
    seeks: bool,
) -> tuple[str, str]:
    """What follows the frame inside the sentence, and the sentences after it."""
    inline, flags, rest = "", [], []
    for p in loose:
        if isinstance(arguments[p.name], bool):
            flags.append(p)
        elif p.kind and (ways := _ways(p.kind, asks, seeks)) and r.random() < 0.93:
            if said[p.name] in ("ascending", "descending"):
                ways = ("in {v} order",)
            way = _ON_DAY.sub("", r.choice(ways).format(v=said[p.name]))
            later = p.kind.name in ("limit", "offset") or way.startswith(("sorted", "page"))
            comma = "," if later else ""
            inline += f"{comma} {way}"
        else:
            rest.append(p)
    sentences: list[str] = []
    if rest:
        style = r.random()
        if style < 0.5 and len(rest) <= 3 and not any(_long(said[p.name]) for p in rest):
            parts = [_with(p, said[p.name], r) for p in rest]
            inline += f" with {_joined(parts)}"
        elif style < 0.85 or len(rest) > 3:
            sentences += (
                [_sentence(p, said[p.name], r) for p in rest] if len(rest) < 3 else [_listed(rest, said)]
            )
        else:
            sentences.append(_listed(rest, said))
    for p in flags:
        sentences.append(_flag(p, arguments[p.name], r))
    return inline, " ".join(sentences)


def _ways(kind: Kind, asks: bool, seeks: bool) -> tuple[str, ...]:
    """The ways to attach a value to this kind of request: who creates nothing shows no results."""
    if asks:
        return tuple(w for w in kind.says if seeks or not w.startswith("about "))
    return (
        ()
        if kind.name in ("limit", "page", "offset")
        else tuple(w for w in kind.says if not w.startswith("for "))
    )


def _long(text: str) -> bool:
    return len(text) > 48


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _with(p: Parameter, value: str, r: Random) -> str:
    if p.label == p.name and len(p.name) <= 4 and not p.name.islower():  # a symbol
        return f"{p.label} = {value}"
    article = "" if r.random() < 0.45 or p.label.split()[0] in ("number", "ID") else "the "
    return f"{article}{p.label} {r.choice(('', '', 'of ', 'set to ')) if value[:1].isdigit() else ''}{value}"


def _sentence(p: Parameter, value: str, r: Random) -> str:
    plural = p.label.endswith("s") and not p.label.endswith(("ss", "us", "is", "address"))
    verb = "are" if plural else "is"
    ways = (
        f"The {p.label} {verb} {value}.", f"Use {value} as the {p.label}.", f"The {p.label} should be {value}.",
        f"Set the {p.label} to {value}.",
    )  # fmt: skip
    return r.choice(ways)


def _listed(rest: Sequence[Parameter], said: Mapping[str, str]) -> str:
    text = ", ".join(f"{p.label}: {said[p.name]}" for p in rest)
    return f"{text[0].upper()}{text[1:]}."


def _flag(p: Parameter, value: bool, r: Random) -> str:
    """A switch in words: "Include adult content." or "Don't ..."; "Turn x on." where the label is no verb."""
    said = p.label.split()
    if said[0] in _FLAG_VERBS and len(said) > 1:
        phrase = " ".join(said)
        return (
            f"{phrase[0].upper()}{phrase[1:]}."
            if value
            else r.choice((f"Don't {phrase}.", f"Do not {phrase}."))
        )
    label = " ".join(w for w in said if w not in _NEVER_SAID) or p.label
    if label == "enabled":
        return "Enable it." if value else "Disable it."
    return r.choice((f"Set {label} to {'true' if value else 'false'}.", f"Turn {label} {'on' if value else 'off'}.",
                     f"Have {label} {'enabled' if value else 'disabled'}."))  # fmt: skip


def sentence(asked: Asked, register: str, r: Random, told: bool = False) -> str:
    """A request in a register, with what stands after it.

    Args:
      told: a sentence stands before it.
    """
    if asked.whole:
        return f"{r.choice(_STORIES)} {asked.whole}" if register == "story" else dress(asked.whole, r, 0.3)
    if asked.today:
        told_today = r.choice(("Today is {}.", "It's {} today.", "Today's date is {}.")).format(
            written.date(asked.today, r)
        )
        return f"{told_today} {sentence(replace(asked, today=None), register, r, told=True)}"
    clause, after = asked.clause, f" {asked.after}" if asked.after else ""
    if register == "question":
        text = r.choice(_ASK).format(clause)
    elif register == "need":
        text = r.choice(_NEED_YOU if asked.needs_you else _NEED).format(clause)
    elif register == "story":
        how = r.choice(("command", "question", "need"))
        return f"{r.choice(_STORIES)} {sentence(asked, how, r, told=True)}"
    else:
        ways = _PLAIN if told else [c for c in _COMMAND if not after or "thanks" not in c]
        text = r.choice(ways).format(clause)
    return text[0].upper() + text[1:] + after


_ALSO = ("Also {}.", "Then {}.", "After that, {}.", "I also need you to {}.", "And {}.", "Besides that, {}.")


def together(requests: Sequence[Asked], register: str, r: Random) -> str:
    """Several requests in one message; of one clause with several values where only one value differs."""
    first = requests[0]
    shapes = {a.clause.replace(a.alone, "\0") for a in requests if a.alone}
    if len(shapes) == 1 and all(a.alone and not a.after for a in requests) and r.random() < 0.6:
        values = [a.alone for a in requests]
        clause = first.clause.replace(first.alone, _joined(values))
        return sentence(Asked(clause, "", first.call, needs_you=first.needs_you), register, r)
    text = sentence(first, register, r)
    for following in requests[1:]:
        if following.whole:
            text = f"{finish(text)} {finish(following.whole)}"
        else:
            after = f" {following.after}" if following.after else ""
            text = f"{text} {r.choice(_ALSO).format(following.clause)}{after}"
    return text
