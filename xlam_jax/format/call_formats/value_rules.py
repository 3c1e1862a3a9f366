"""Rules for the arguments of calls: JSON by llguidance's own compiler, other spellings by rules of ours.

What a JSON Schema says about a value these rules say too, in the order of its properties; what they cannot
say stands as a comment in the grammar, a line a place, see `unsaid`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.call_formats.lark import (
    INTEGER,
    NUMBER,
    Spelling,
    json_value,
    literal,
    repeated,
)
from xlam_jax.format.call_formats.schema import (
    KINDS,
    admitted_choices,
    alternatives,
    argument_schema,
    whole_pattern,
)
from xlam_jax.format.values import Tool

_REFERENCE = re.compile(r'"\$ref": "#/\$defs/(d\d+_[0-9a-f]+)"')
_UNSAID = "// not said: "
_NUMBER_WORDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_TOGETHER = ("anyOf", "allOf", "minProperties", "maxProperties", "patternProperties")
MOST_CHOICES = 20_000  # of one grammar: its compiler takes seconds and gigabytes for more
MOST_ALTERNATIVES = 200  # of one value, by anyOf within allOf
_FEW = 200  # alternatives that a parser follows side by side without cost
_LONGEST = 1000  # characters that a bound on a text counts; a regular expression grows with it


def unsaid(grammar: str) -> list[str]:
    """What the schemas of a grammar's tools say that the grammar does not: `tool: place: word`."""
    marked = (line.removeprefix(_UNSAID) for line in grammar.splitlines() if line.startswith(_UNSAID))
    return list(dict.fromkeys(json.loads(text) for text in marked))


def callable_tools(tools: Sequence[Tool], demanded: bool) -> tuple[list[Tool], str]:
    """The tools that can be called at all, and the lines of a grammar that name the others.

    Raises:
      InputError: a call is demanded, and the tools that there are cannot be called.
    """
    kept, lines, what = [], "", ""
    for tool in tools:
        schema = argument_schema(tool)[0]
        never = [n for n in schema.get("required", ()) if schema["properties"].get(n) is False]
        if never:
            what = f"{tool.name}: parameter {never[0]!r} is required, but no value is allowed"
            lines += _UNSAID + json.dumps(f"{what}: left out") + "\n"
        else:
            kept.append(tool)
    if what and demanded and not kept:
        raise InputError(what, hint="tools that can be called")
    return kept, lines


class Values:
    """Collects rules; `text` is the fragment of all of them."""

    def __init__(self, spelling: Spelling | None) -> None:
        """`spelling` None stands for JSON itself."""
        self._spelling = spelling
        self._rules: list[str] = []
        self._names: dict[str, str] = {}
        self._defs: dict[str, Any] = {}
        self._tool = ""
        self._choices = 0

    @property
    def text(self) -> str:
        return "".join(f"{rule}\n" for rule in self._rules)

    def add(self, name: str, body: str) -> str:
        self._rules.append(f"{name}: {body}")
        return name

    def miss(self, what: str) -> None:
        self._rules.append(_UNSAID + json.dumps(f"{self._tool}: {what}"))

    def arguments(self, tool: Tool) -> str:
        """Name of the rule for all arguments of a call as one object."""
        return self.value(self._schema(tool))

    def parameters(self, tool: Tool) -> list[tuple[str, dict[str, Any], bool]]:
        """`(name, schema, required)` of a tool's parameters in order."""
        schema = self._schema(tool)
        for word in _TOGETHER:
            if word in schema:
                self.miss(f"#/{word}: {json.dumps(schema[word], ensure_ascii=False)[:60]}")
        if schema["additionalProperties"] is not False:
            self.miss("#/additionalProperties: only the parameters that have names are written")
        required = schema.get("required", ())
        listed = []
        for name, rule in schema["properties"].items():
            if rule is not False:
                listed.append((name, {} if rule is True else rule, name in required))
        return listed

    def _schema(self, tool: Tool) -> dict[str, Any]:
        schema, missed = argument_schema(tool)
        self._tool = tool.name
        for what in missed:
            self.miss(what)
        self._defs.update(schema.get("$defs", {}))
        self._choices += _count_choices(schema)
        if self._choices > MOST_CHOICES:
            raise InputError(
                f"the tools list more than {MOST_CHOICES} choices, the most of one grammar",
                where=f"tool {tool.name}",
                hint="fewer tools, or shorter enums",
            )
        return schema

    def choice(self, name: str, options: list[tuple[str, str]]) -> None:
        """Adds the rule `name`: one of the texts, each with the Lark expression that follows it.

        A parser looks at all alternatives of a place at once, and stops at some two thousand; many are
        written as a tree of their letters.
        """
        if len(options) > _FEW:
            self.add(name, self._tree(sorted(options)))
        elif options:
            rules = [self.add(f"{name}_{i}", f"{literal(o)} {rest}") for i, (o, rest) in enumerate(options)]
            self.add(name, " | ".join(rules))

    def _tree(self, options: list[tuple[str, str]]) -> str:
        if len(options) == 1:
            return f"{literal(options[0][0])} {options[0][1]}"
        ends = zip(options[0][0], options[-1][0], strict=False)
        shared = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))
        branches: dict[str, list[tuple[str, str]]] = {}
        for text, rest in options:
            text = text[len(shared) :]
            branches.setdefault(text[:1], []).append((text, rest))
        names = []
        for letter, inner in branches.items():
            # Of equal texts, which no two tools should have, each is an alternative.
            body = self._tree(inner) if letter else " | ".join(f'"" {rest}' for _, rest in inner)
            names.append(self.add(f"c_{len(self._rules)}", body))
        return f"{literal(shared)} ({' | '.join(names)})"

    def value(self, schema: Any) -> str:
        """Name of the rule for the values of a schema, as `argument_schema` and `parameters` give it."""
        key = json.dumps(schema, ensure_ascii=False)
        if key not in self._names:
            self._names[key] = f"v_{len(self._names)}"
            self.add(self._names[key], self._body(schema))
        return self._names[key]

    def regex(self, pattern: str) -> str:
        return f"/{pattern}/"

    def sequence(self, items: list[tuple[str, bool]], between: str) -> str:
        """Lark expression for items in order, `(expression, required)`, optional ones left out or not."""
        more = ""
        fresh = '""'
        for expression, required in reversed(items):
            if more:
                more = self.add(f"s_{len(self._rules)}", more)
            if required:
                fresh = f"{expression} {more}"
                more = f"{between} {expression} {more}"
            else:
                fresh = self.add(f"s_{len(self._rules)}", fresh)
                fresh = f"{expression} {more} | {fresh}"
                more = f"({between} {expression})? {more}"
        return f"({fresh})"

    def split(self, schema: Any) -> tuple[list[dict[str, Any]], list[Any]]:
        """The texts that a schema admits, as plain schemas of texts, and the schemas of its other values."""
        texts: list[dict[str, Any]] = []
        others: list[Any] = []
        for option in self._alternatives(schema):
            choices = admitted_choices(option, self._defs)
            if choices is not None:
                said = [c for c in choices if isinstance(c, str)]
                texts += [{"enum": said}] if said else []
                rest = [c for c in choices if not isinstance(c, str)]
                others += [{"enum": rest}] if rest else []
                continue
            kinds = _kinds(option)
            texts += [{**option, "type": "string"}] if "string" in kinds else []
            rest = [kind for kind in kinds if kind != "string"]
            others += [{**option, "type": rest}] if rest else []
        return texts, others

    def texts(self, texts: list[str]) -> str:
        """Lark expression for one of these texts; many are one lexeme."""
        expression = " | ".join(map(literal, texts))
        return expression if len(texts) <= _FEW else self.add(f"T_{len(self._rules)}", expression)

    def characters(self, schema: dict[str, Any], character: str, quote: str) -> str:
        """Lark expression for the texts of a plain schema, written with these characters and quotes."""
        low, high = schema.get("minLength", 0), schema.get("maxLength")
        if low > _LONGEST or (high or 0) > _LONGEST:
            self.miss(f"lengths beyond {_LONGEST} characters")
            low, high = min(low, _LONGEST), None
        count = f"{{{low},{'' if high is None else high}}}" if low or high is not None else "*"
        expression = f"/{quote}({character}){count}{quote}/"
        parts = []
        for pattern in schema.get("patterns", ()):
            whole = whole_pattern(pattern)
            if whole is None:
                self.miss(f"pattern: {pattern[:60]}")
                continue
            # Characters that must be escaped stand for others than a pattern sees: such texts are left out.
            whole = whole.replace("\\/", "/").replace("/", "\\/")
            parts.append(f"/{quote}({whole}){quote}/")
        if not parts:
            return expression
        plain = character.partition("|")[0]
        expression = f"/{quote}({plain}){count}{quote}/"
        return self.add(f"T_{len(self._rules)}", " & ".join([expression, *parts]))

    def _alternatives(self, schema: Any) -> list[dict[str, Any]]:
        admitted = alternatives(schema, self._defs)
        if not admitted:
            raise InputError("a parameter admits no value at all", where=f"tool {self._tool}")
        if len(admitted) > MOST_ALTERNATIVES:
            raise InputError(
                f"a value has {len(admitted)} alternatives, more than {MOST_ALTERNATIVES}",
                where=f"tool {self._tool}",
            )
        return admitted

    def _body(self, schema: Any) -> str:
        spelling = self._spelling
        if spelling is None:
            if isinstance(schema, bool):
                schema = {} if schema else {"not": {}}
            shared = self._reached(schema)
            return json_value({**schema, "$defs": shared} if shared else schema)
        options = []
        for option in self._alternatives(schema):
            choices = admitted_choices(option, self._defs)
            if choices is not None:
                options += [self.texts([spelling.write(value) for value in choices])] if choices else []
            else:
                options += [self._kind(kind, option, spelling) for kind in _kinds(option)]
        if not options:
            raise InputError("a parameter admits no value at all", where=f"tool {self._tool}")
        return " | ".join(dict.fromkeys(options))

    def _reached(self, schema: Any) -> dict[str, Any]:
        """The definitions that a schema's references lead to."""
        reached: dict[str, Any] = {}
        left = [schema]
        while left:
            text = json.dumps({k: v for k, v in left.pop().items() if k != "$defs"})
            for name in _REFERENCE.findall(text):
                if name not in reached:
                    reached[name] = self._defs[name]
                    left.append({"": reached[name]})
        return reached

    def _kind(self, kind: str, schema: dict[str, Any], spelling: Spelling) -> str:
        match kind:
            case "string":
                return self.characters(schema, spelling.character, spelling.quote)
            case "integer" | "number":
                words = {word: schema[word] for word in _NUMBER_WORDS if word in schema}
                if words:  # digits are written alike everywhere
                    return json_value({"type": kind, **words})
                return self.regex(INTEGER if kind == "integer" else NUMBER)
            case "boolean":
                return f"{literal(spelling.true)} | {literal(spelling.false)}"
            case "null":
                return literal(spelling.null)
            case "array":
                return self._array(schema)
            case _:
                return self._object(schema, spelling)

    def _array(self, schema: dict[str, Any]) -> str:
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        first, rest = schema.get("prefixItems", []), schema.get("items", True)
        if rest is False:
            high = len(first) if high is None else min(high, len(first))
        first = first[:high] if high is not None else first
        if high is not None and high < low:
            raise InputError(f"a list has at least {low} items, and at most {high}", where=self._tool)
        comma = literal(", ")
        tail = ""
        if rest is not False and (high is None or high > len(first)):
            item = self.value(rest)
            most = None if high is None else high - len(first)
            if not first:
                return f'"[" {repeated(item, comma, low, most)} "]"'
            fewest = max(low - len(first), 0)
            tail = f"({comma} {item}){{{fewest},{'' if most is None else most}}}"
        for i in reversed(range(len(first))):
            tail = f"{comma if i else ''} {self.value(first[i])} {tail}"
            tail = tail if i < low else f"({tail})?"
        return f'"[" {tail} "]"'

    def _object(self, schema: dict[str, Any], spelling: Spelling) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        others, patterns = schema.get("additionalProperties", True), schema.get("patternProperties", {})
        items = [
            (f"{literal(spelling.write(k) + spelling.between)} {self.value(v)}", k in required)
            for k, v in properties.items()
            if v is not False
        ]
        pairs = []
        known = [literal(spelling.write(name)) for name in properties]
        for pattern, rule in patterns.items():
            if whole_pattern(pattern) is None:
                self.miss(f"patternProperties: {pattern[:60]}")
                continue
            names = self.characters({"patterns": [pattern]}, spelling.character, spelling.quote)
            if rule is not False:
                pairs.append(self._pair(names, known, rule, spelling))
            known.append(names)
        if others is not False:
            pairs.append(self._pair(self.regex(spelling.string), known, others, spelling))
        pair = f"({' | '.join(pairs)})"
        low, high = schema.get("minProperties", 0), schema.get("maxProperties")
        if not items:
            return f'"{{" {repeated(pair, literal(", "), low, high) if pairs else ""} "}}"'
        if low or high is not None:
            self.miss("minProperties and maxProperties beside named properties")
        if pairs:
            items.append((f"{pair} ({literal(', ')} {pair})*", False))
        return f'"{{" {self.sequence(items, literal(", "))} "}}"'

    def _pair(self, names: str, known: list[str], rule: Any, spelling: Spelling) -> str:
        """A name that is none of the known ones, and its value."""
        if known:
            names = self.add(f"T_{len(self._rules)}", f"{names} & ~({' | '.join(known)})")
        return f"{names} {literal(spelling.between)} {self.value(rule)}"


def _kinds(schema: dict[str, Any]) -> list[str]:
    kinds = schema.get("type", KINDS)
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _count_choices(schema: Any) -> int:
    if isinstance(schema, list):
        return sum(map(_count_choices, schema))
    if not isinstance(schema, dict):
        return 0
    inner = (v for k, v in schema.items() if k not in ("enum", "const"))
    return len(schema.get("enum", ())) + sum(map(_count_choices, inner))
