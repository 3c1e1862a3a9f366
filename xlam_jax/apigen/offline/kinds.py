"""What a parameter means: by format, enum, example, name and description.

A parameter of no known meaning has no value; an API that requires one is left out.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import yaml

from xlam_jax.apigen.offline.draws import DRAWS, Draw, World, pick
from xlam_jax.apigen.offline.draws import whole as draw_whole


@dataclass(frozen=True)
class Kind:
    """A meaning of parameters.

    Attributes:
      draw: a value.
      how: how it is written, see `written.write`.
      says: ways to attach it to a request, `{v}` for the written value; empty: by its label.
    """

    name: str
    draw: Draw
    how: str = ""
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rule:
    """A line of meanings.yaml."""

    names: re.Pattern[str]
    about: re.Pattern[str]
    type: str
    kind: Kind


@functools.cache
def _rules() -> tuple[_Rule, ...]:
    text = (importlib.resources.files("xlam_jax.apigen.offline") / "meanings.yaml").read_text("utf-8")
    return tuple(_rule(**line) for line in yaml.safe_load(text))


def _rule(
    kind: str, names: str, about: str = "", type: str = "string", values: tuple = (), whole: tuple = (), draw: str = "",
    how: str = "", says: tuple = (),
) -> _Rule:  # fmt: skip
    drawn = pick(*values) if values else draw_whole(*whole) if whole else DRAWS[draw]
    return _Rule(
        re.compile(names), re.compile(about, re.IGNORECASE), type, Kind(kind, drawn, how, tuple(says))
    )


# Parameters that no user states in a request.
_UNSPOKEN = re.compile(
    r"(api|access|auth|secret|private|custom|client|encryption|license|consumer|bearer)[ _-]?(key|token|secret|id)|"
    r"\b(key|token|secret|password|passphrase|credential|cookie|session|cursor|after|before|page token|next|nonce|"
    r"headers|"
    r"user agent|jwt|signature|callback|mnemonic|thought.*|cert|connection string|random string|dummy|unused)\b"
)
_EXAMPLE = re.compile(
    r"(?:e\.?\s?g\.?,?|for example,?|examples?:|for instance,?|such as|like)[\s:(]*(.{1,120})", re.IGNORECASE
)
_QUOTED = re.compile(r"""["'`“‘]([^"'`“”‘’]{1,60})["'`”’]""")


def kind_of(name: str, label: str, schema: Mapping[str, Any]) -> Kind | None:
    """What a parameter means, with values; None where nothing is known of it.

    Args:
      label: the parameter's name in words.
    """
    if _UNSPOKEN.search(label):
        return None
    kind, text = _type(schema), _text(schema)
    if "enum" in schema:
        values = [
            v
            for v in schema["enum"]
            if isinstance(v, str | int | float) and not isinstance(v, bool) and re.match(r"\w", str(v))
        ]
        says = ("sorted by {v}", "ordered by {v}") if re.fullmatch(r"(sort|order)( by)?", label) else ()
        return (
            Kind("choice", pick(*values), "raw", says)
            if values and all(len(str(v)) < 40 for v in values)
            else None
        )
    if kind == "boolean":
        return Kind("flag", lambda w: w.r.random() < 0.65)
    if isinstance(shape := schema.get("format"), str) and kind == "string":
        formats = {
            "date": "date",
            "email": "email",
            "uri": "url",
            "url": "url",
            "uuid": "uuid",
            "ipv4": "ip",
            "time": "time",
        }
        if (
            shape == "date"
            and (named := _by_name(label, "date", kind))
            and named.name in ("start_date", "end_date")
        ):
            return named
        if shape in formats:
            return next(rule.kind for rule in _rules() if rule.kind.name == formats[shape])
        if shape in ("date-time", "datetime"):
            if re.match(r"(?:end|to|until|before|max)\b", label):
                return Kind("datetime", DRAWS["end_datetime"], "datetime", ("until {v}",))
            starts = re.match(r"(?:start|from|begin|since|after|min)\b", label)
            return Kind("datetime", DRAWS["datetime"], "datetime", ("from {v}",) if starts else ("at {v}",))
        return None
    if (
        "pattern" in schema
        or kind == "object"
        or (kind == "array" and _items(schema) not in ("string", "number", "integer", ""))
    ):
        return None
    items = schema.get("items")
    if kind == "array" and isinstance(items, dict) and ("format" in items or "pattern" in items):
        one = kind_of(name, label, items)
        return (
            None
            if one is None
            else replace(one, name=f"{one.name}s", draw=lambda w: [one.draw(w), one.draw(w)])
        )
    if values := examples_in(schema, kind):
        by_name = _by_name(label, text, kind)
        how = by_name.how if by_name else "raw" if kind == "string" else ""
        return Kind("example", pick(*values), how, by_name.says if by_name else ())
    if kind == "array":
        return _by_name(label, text, "array") or _many(label, text, schema)
    by_name = _by_name(label, text, kind)
    return _bounded(by_name, schema) if by_name else None


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "")
    for union in ("anyOf", "oneOf"):
        if not kind and isinstance(schema.get(union), list):
            kinds = [s.get("type") for s in schema[union] if isinstance(s, dict)]
            kind = next((k for k in kinds if k != "null" and isinstance(k, str)), "")
    return kind if isinstance(kind, str) else ""


def _text(schema: Mapping[str, Any]) -> str:
    text = schema.get("description")
    return text if isinstance(text, str) else ""


def _items(schema: Mapping[str, Any]) -> str:
    items = schema.get("items")
    return _type(items) if isinstance(items, dict) else ""


def _by_name(label: str, text: str, kind: str) -> Kind | None:
    wide = "number" if kind == "integer" else kind
    for rule in _rules():
        if rule.type == wide and rule.names.fullmatch(label) and rule.about.search(text or label):
            return rule.kind
    return None


def _many(label: str, text: str, schema: Mapping[str, Any]) -> Kind | None:
    """Several values of what the singular of the label means."""
    one = _by_name(
        re.sub(r"ies$", "y", label) if label.endswith("ies") else label.removesuffix("s"),
        text,
        _items(schema) or "string",
    )
    if one is None or one.name in ("text", "sql", "limit", "page"):
        return None

    def draw(w: World) -> list[Any]:
        values = [one.draw(World(w.r, w.category, w.about)) for _ in range(w.r.randint(2, 3))]
        return list(dict.fromkeys(values))

    return Kind(f"{one.name}s", draw, one.how, one.says)


def _bounded(kind: Kind, schema: Mapping[str, Any]) -> Kind | None:
    """The kind, kept within the schema's bounds; None where it never is."""
    low, high = schema.get("minimum"), schema.get("maximum")
    short, long = schema.get("minLength"), schema.get("maxLength")
    if _type(schema) == "integer":
        kind = replace(kind, draw=_integral(kind.draw))
    if low is None and high is None and short is None and long is None:
        return kind

    def fits(value: Any) -> bool:
        size = len(value) if isinstance(value, str) else value
        least, most = (short, long) if isinstance(value, str) else (low, high)
        return (least is None or size >= least) and (most is None or size <= most)

    if not any(fits(kind.draw(World(Random(i), ""))) for i in range(20)):
        return None

    def draw(w: World) -> Any:
        for _ in range(50):
            if fits(value := kind.draw(w)):
                return value
        return next(v for i in range(20) if fits(v := kind.draw(World(Random(i), ""))))

    return replace(kind, draw=draw)


def _integral(draw: Draw) -> Draw:
    def whole(w: World) -> Any:
        value = draw(w)
        return round(value) if isinstance(value, float) else value

    return whole


def examples_in(schema: Mapping[str, Any], kind: str) -> list[Any]:
    """Values that the schema or its description gives as examples, of the right type."""
    examples: list[Any] = []
    given = schema.get("examples")
    examples += given if isinstance(given, list) else []
    examples += [schema["example"]] if "example" in schema else []
    if kind in ("string", "integer", "number"):
        for match in _EXAMPLE.finditer(_text(schema)):
            quoted = _QUOTED.findall(match[1])
            examples += quoted or (re.findall(r"-?\d+(?:\.\d+)?", match[1]) if kind != "string" else [])
    return [v for v in (_cast(value, kind) for value in examples) if v is not None][:8]


def _cast(value: Any, kind: str) -> Any:
    if kind == "string":
        good = isinstance(value, str) and 1 < len(value.strip()) <= 60 and value.isprintable()
        bad = good and re.search(
            r"[{}<>|\\]|\.\.\.|your|YOUR|[A-Z]+_[A-Z]+|xxx|placeholder|example|string\b|_id$", value
        )
        return value.strip() if good and not bad else None
    if kind in ("integer", "number"):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if kind == "integer" or number == int(number):
            return int(number) if number == int(number) else None
        return number
    try:
        return (
            value
            if kind == "array" and isinstance(value, list) and value and len(json.dumps(value)) < 200
            else None
        )
    except (TypeError, ValueError):
        return None
