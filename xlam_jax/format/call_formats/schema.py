"""JSON Schemas of arguments, for grammars: what a grammar can say of a tool's parameters, and what it cannot."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import jsonschema_rs

from xlam_jax.format.schema_meaning import meaning, pattern_check
from xlam_jax.format.values import Tool

KINDS = ("string", "number", "boolean", "null", "array", "object")
# Of the words that constrain, those llguidance has no rules for.
_UNSAID = frozenset(
    ("uniqueItems", "contains", "minContains", "maxContains", "if", "then", "else", "propertyNames")
) | frozenset(("dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties"))
_LOOK = re.compile(r"\(\?(<?[=!])|\\[1-9bB]|\\k<")  # what no automaton can follow


@functools.lru_cache(maxsize=8192)
def _argument_schema(parameters: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    meant = meaning(json.loads(parameters))
    reader = _Reader(hashlib.blake2b(parameters.encode("utf-8", "replace"), digest_size=6).hexdigest())
    schema = {"type": "object", **meant.schema}
    # A function has no other parameters than its own, unless it says so.
    schema.setdefault("additionalProperties", False)
    schema["properties"] = schema.get("properties", {})
    shared = schema.pop("$defs", {})
    out = reader.read(schema, "#")
    defs = {reader.name(name): reader.read(s, f"#/$defs/{name}") for name, s in shared.items()}
    defs |= {name: _mended(rule, f"#/$defs/{name}", defs, reader.unsaid) for name, rule in defs.items()}
    out = _mended(out, "#", defs, reader.unsaid)
    if shared:
        out["$defs"] = defs
    return out, tuple(dict.fromkeys((*meant.unread, *reader.unsaid)))


def argument_schema(tool: Tool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A tool's arguments for llguidance's compiler, and `place: word` of all that it leaves out.

    Beyond JSON Schema, no argument is allowed that the tool does not name, unless `additionalProperties`
    allows it; names of `$defs` differ between tools. A value whose words contradict each other is free, and said to be.
    """
    return _argument_schema(json.dumps(tool.parameters))


@functools.lru_cache(maxsize=4096)
def _compiles(pattern: str) -> bool:
    """Whether llguidance's engine takes a regular expression; by a look at it where there is no llguidance."""
    if _LOOK.search(pattern):
        return False
    try:
        import llguidance
    except ImportError:
        return True
    text = json.dumps({"type": "string", "pattern": pattern})
    return not llguidance.LLMatcher.validate_grammar(f"start: %json {text}")


class _Reader:
    """Takes out what grammars cannot say."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.unsaid: list[str] = []

    def name(self, definition: str) -> str:
        return f"{definition}_{self.digest}"

    def read(self, node: Any, place: str) -> Any:
        if isinstance(node, bool):
            return node
        out: dict[str, Any] = {}
        for key, value in node.items():
            at = f"{place}/{key}"
            if key == "not" and value in ({}, True):
                return False
            if key == "not" or key in _UNSAID or (key == "pattern" and not _compiles(value)):
                self.unsaid.append(f"{at}: {json.dumps(value, ensure_ascii=False)[:60]}")
            elif key == "$ref":
                out[key] = f"#/$defs/{self.name(value.rpartition('/')[2])}"
            elif key == "oneOf":
                if not _disjoint(value):
                    self.unsaid.append(f"{at}: read as anyOf")
                options = [self.read(v, f"{at}/{i}") for i, v in enumerate(value)]
                if "anyOf" in node:
                    out.setdefault("allOf", []).append({"anyOf": options})
                else:
                    out["anyOf"] = options
            elif key in ("anyOf", "allOf", "prefixItems"):
                read = [self.read(v, f"{at}/{i}") for i, v in enumerate(value)]
                out[key] = [*out.get(key, []), *read] if key == "allOf" else read
            elif key in ("properties", "patternProperties"):
                out[key] = {name: self.read(v, f"{at}/{name}") for name, v in value.items()}
            elif key in ("items", "additionalProperties"):
                out[key] = self.read(value, at)
            else:
                out[key] = value
        for name in out.get("required", ()):
            if name not in out.get("properties", {}):
                rule = out.get("additionalProperties", True)
                out["properties"] = {**out.get("properties", {}), name: rule}
        return out


def _disjoint(options: list[Any]) -> bool:
    """Whether no value can be of two of these types, or equal two of these constants."""
    seen: list[str] = []
    for option in options:
        if not isinstance(option, dict):
            return False
        if "const" in option or "enum" in option:
            seen += [json.dumps(v) for v in option.get("enum", [option.get("const")])]
            continue
        kinds = option.get("type")
        if kinds is None:
            return False
        seen += ["number" if k == "integer" else k for k in ([kinds] if isinstance(kinds, str) else kinds)]
    return len(set(seen)) == len(seen) and len({s in KINDS for s in seen}) == 1


def _mended(schema: Any, place: str, defs: dict[str, Any], unsaid: list[str]) -> Any:
    """The schema with those inside it free that admit no value: a compiler would refuse the tool, and all with it."""
    if not isinstance(schema, dict):
        return schema

    def value(rule: Any, at: str) -> Any:
        rule = _mended(rule, at, defs, unsaid)
        if rule is False or _admits(rule, defs):
            return rule
        unsaid.append(f"{at}: admits no value: {json.dumps(rule, ensure_ascii=False)[:60]}")
        return True

    out = dict(schema)
    for key in ("properties", "patternProperties"):
        if key in out:
            out[key] = {name: value(rule, f"{place}/{key}/{name}") for name, rule in out[key].items()}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = value(out[key], f"{place}/{key}")
    for key in ("prefixItems", "allOf", "anyOf"):
        if key in out:
            read = value if key == "prefixItems" else lambda rule, at: _mended(rule, at, defs, unsaid)
            out[key] = [read(rule, f"{place}/{key}/{i}") for i, rule in enumerate(out[key])]
    if "anyOf" in out:  # of several ways one that is none changes nothing
        out["anyOf"] = [rule if _admits(rule, defs) else False for rule in out["anyOf"]]
    return out


def _admits(schema: Any, defs: dict[str, Any], depth: int = 0) -> bool:
    """Whether the words of a schema leave a value at all; patterns and what lies deep are taken to."""
    if isinstance(schema, bool) or depth > 5:
        return schema is not False
    for option in alternatives(schema, defs):
        choices = admitted_choices(option, defs)
        kinds = option.get("type", KINDS)
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if any(_has_values(k, option, defs, depth) for k in kinds) if choices is None else choices:
            return True
    return False


def _has_values(kind: str, schema: dict[str, Any], defs: dict[str, Any], depth: int) -> bool:
    def in_order(low: str, high: str) -> bool:
        return schema.get(low, 0) <= schema.get(high, math.inf)

    match kind:
        case "integer" | "number":
            return _has_numbers(kind, schema)
        case "string":
            return in_order("minLength", "maxLength")
        case "array":
            first, rest = schema.get("prefixItems", []), schema.get("items", True)
            fewest = schema.get("minItems", 0)
            wanted = [*first, *([rest] if fewest > len(first) else [])][:fewest]
            return in_order("minItems", "maxItems") and all(_admits(w, defs, depth + 1) for w in wanted)
        case "object":
            known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
            wanted = [known.get(name, others) for name in schema.get("required", ())]
            return in_order("minProperties", "maxProperties") and all(
                _admits(w, defs, depth + 1) for w in wanted
            )
    return True


def _has_numbers(kind: str, schema: dict[str, Any]) -> bool:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    if max(low, above) > min(high, below) or (
        max(low, above) == min(high, below) and (above >= low or below <= high)
    ):
        return False
    if math.inf in (min(high, below), -max(low, above)):
        return True
    step = Fraction(str(schema.get("multipleOf", 1 if kind == "integer" else 0)))
    if not step:
        return True
    first = math.ceil(Fraction(str(max(low, above))) / step)
    last = math.floor(Fraction(str(min(high, below))) / step)
    first += first * step == above
    last -= last * step == below
    return first <= last


def alternatives(schema: Any, defs: dict[str, Any]) -> list[dict[str, Any]]:
    """Schemas without references, `allOf` and `anyOf` that together admit what this one does; [] for nothing.

    `patterns` has the patterns of each, for there may be several.
    """
    if isinstance(schema, bool):
        return [{}] if schema else []
    base = {k: v for k, v in schema.items() if k not in ("$ref", "allOf", "anyOf", "$defs", "pattern")}
    if "pattern" in schema:
        base["patterns"] = [*base.get("patterns", ()), schema["pattern"]]
    # Properties come in the order in which their words stand, as llguidance takes them.
    sides = [] if "properties" in schema else [[base]]
    for key, value in schema.items():
        if key == "properties":
            sides.append([base])
        elif key == "$ref":
            sides.append(alternatives(defs[value.rpartition("/")[2]], defs))
        elif key == "allOf":
            sides += [alternatives(part, defs) for part in value]
    merged = sides[0]
    for side in sides[1:]:
        merged = list(_merged(merged, side))
    if "anyOf" in schema:
        options = [option for o in schema["anyOf"] for option in alternatives(o, defs)]
        merged = list(_merged(merged, options))
    return merged


def _merged(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for a in left:
        for b in right:
            if (both := _both(a, b)) is not None:
                yield both


def _both(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any] | None:
    """What both schemas admit; None where that is nothing."""
    out = {**a, **b}
    for key in a.keys() & b.keys():
        x, y = a[key], b[key]
        if x == y:
            continue
        if key == "type":
            kinds = _common(x, y)
            if not kinds:
                return None
            out[key] = kinds
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            out[key] = max(x, y)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            out[key] = min(x, y)
        elif key == "multipleOf":
            p, q = Fraction(str(x)), Fraction(str(y))
            common = Fraction(math.lcm(p.numerator, q.numerator), math.gcd(p.denominator, q.denominator))
            out[key] = int(common) if common.denominator == 1 else float(common)
        elif key == "enum":
            seen = [json.dumps(v) for v in y]
            out[key] = [v for v in x if json.dumps(v) in seen]
        elif key == "const":
            return None
        elif key in ("required", "patterns"):
            out[key] = list(dict.fromkeys([*x, *y]))
        elif key == "prefixItems":
            length = max(len(x), len(y))
            rest = [(s + [side.get("items", True)] * length)[:length] for s, side in ((x, a), (y, b))]
            out[key] = [{"allOf": [p, q]} for p, q in zip(*rest, strict=True)]
        elif key in ("items", "additionalProperties"):
            out[key] = False if x is False or y is False else {"allOf": [x, y]}
        elif key == "patternProperties":
            out[key] = {n: {"allOf": [s[n] for s in (x, y) if n in s]} for n in (x | y)}
    mine, its = a.get("properties", {}), b.get("properties", {})
    closing = [side["additionalProperties"] for side in (a, b) if "additionalProperties" in side]
    if (mine and its) or ((mine or its) and closing):
        names = {
            n: [
                mine.get(n, a.get("additionalProperties", True)),
                its.get(n, b.get("additionalProperties", True)),
            ]
            for n in (*mine, *(n for n in its if n not in mine))
        }
        out["properties"] = {n: False if False in s else {"allOf": s} for n, s in names.items()}
    return out


def _common(x: Any, y: Any) -> list[str]:
    left, right = ([k] if isinstance(k, str) else k for k in (x, y))
    kinds = [k for k in left if k in right]
    kinds += ["integer"] if "integer" in (*left, *right) and "number" in (*left, *right) else []
    return list(dict.fromkeys(kinds))


def admitted_choices(schema: dict[str, Any], defs: dict[str, Any]) -> list[Any] | None:
    """The values of `enum` or `const` that the rest of the schema admits; None where there is neither."""
    if "const" in schema:
        choices = [schema["const"]]
        choices = [c for c in choices if json.dumps(c) in map(json.dumps, schema.get("enum", choices))]
    elif "enum" in schema:
        choices = schema["enum"]
    else:
        return None
    rest = {k: v for k, v in schema.items() if k not in ("enum", "const", "patterns")}
    checks = [pattern_check(p) for p in schema.get("patterns", ())]
    check = jsonschema_rs.Draft202012Validator({**rest, "$defs": defs})
    return [
        choice
        for choice in choices
        if (not rest or check.is_valid(choice))
        and (not isinstance(choice, str) or all(c is None or c.is_valid(choice) for c in checks))
    ]


_MARKS = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|[\^$|()]", re.DOTALL)


def whole_pattern(pattern: str) -> str | None:
    """A regular expression for all of a text that `pattern` finds something in; None where there is none.

    Anchors may stand at the ends only.
    """
    if not _compiles(pattern):
        return None
    marks = list(_MARKS.finditer(pattern))
    depths = itertools.accumulate((m[0] == "(") - (m[0] == ")") for m in marks)
    bars = [m.start() for m, depth in zip(marks, depths, strict=True) if m[0] == "|" and depth == 0]
    if bars:
        starts, ends = [0, *(bar + 1 for bar in bars)], [*bars, len(pattern)]
        parts = [whole_pattern(pattern[a:b]) for a, b in zip(starts, ends, strict=True)]
        return None if None in parts else "|".join(f"({part})" for part in parts)
    anchors = [m.start() for m in marks if m[0] in "^$"]
    start, end = 0 in anchors, bool(anchors) and anchors[-1] == len(pattern) - 1 and pattern[-1] == "$"
    if len(anchors) > start + end:
        return None
    anything = "(?s:.*)"
    inner = pattern[start : len(pattern) - end]
    return f"{'' if start else anything}({inner}){'' if end else anything}"
