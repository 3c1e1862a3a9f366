"""Typed corruptions: a clean Record with one named error, to measure the verifier and to build pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall

Rng = np.random.Generator


@dataclass(frozen=True)
class Pool:
    """What corruptions borrow from other records.

    Attributes:
      values: JSON type name -> argument values seen, each once.
      names: argument name -> values seen under that name, each once.
      functions: names of functions.
      evaluation: queries of evaluation sets.
    """

    values: dict[str, tuple[Any, ...]]
    names: dict[str, tuple[Any, ...]]
    functions: tuple[str, ...]
    evaluation: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Iterable[Record], evaluation: Iterable[str] = (), limit: int = 5000) -> Pool:
        """Collects from clean records, at most `limit` values of a type and 50 of a name."""
        values: dict[str, dict[str, Any]] = {}
        names: dict[str, dict[str, Any]] = {}
        functions: dict[str, None] = {}
        for record in records:
            functions.update(dict.fromkeys(tool.name for tool in record.tools))
            for step in record.steps:
                for call in step.tool_calls:
                    for name, value in call.arguments.items():
                        key = json.dumps(value, sort_keys=True)
                        kind, named = values.setdefault(json_type(value), {}), names.setdefault(name, {})
                        if len(kind) < limit:
                            kind[key] = value
                        if len(named) < 50:
                            named[key] = value
        return cls(
            {kind: tuple(found.values()) for kind, found in values.items()},
            {name: tuple(found.values()) for name, found in names.items()},
            tuple(functions),
            tuple(evaluation),
        )


@dataclass(frozen=True)
class Corruption:
    """One class of error.

    Attributes:
      name: key of `CORRUPTIONS`.
      code: reason code under which the verifier must find it.
      apply: `(record, rng, pool)` -> a record with that error, or None where the record offers no place for
        it. The input is never changed.
      calls: whether the error stands in a call of the record (so that it can spoil the rejected answer of a
        preference pair), and not in its texts or its neighbours.
    """

    name: str
    code: str
    apply: Callable[[Record, Rng, Pool], Record | None]
    calls: bool = True


def json_type(value: Any) -> str:
    """JSON Schema's name of a value's type; integral floats are numbers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


@dataclass(frozen=True)
class Place:
    """An argument (or, with an empty name, a call) of a record; `schema` is the argument's."""

    step: int
    call: int
    name: str = ""
    schema: dict[str, Any] | None = None

    def value(self, record: Record) -> Any:
        return self.of(record).arguments[self.name]

    def of(self, record: Record) -> ToolCall:
        return record.steps[self.step].tool_calls[self.call]


def _calls(record: Record) -> list[Place]:
    return [Place(i, j) for i, step in enumerate(record.steps) for j in range(len(step.tool_calls))]


def _arguments(record: Record) -> list[Place]:
    """Every argument whose tool and parameter are known."""
    tools = {tool.name: tool.parameters.get("properties", {}) for tool in record.tools}
    return [
        replace(place, name=name, schema=schema)
        for place in _calls(record)
        for name in place.of(record).arguments
        if isinstance(schema := tools.get(place.of(record).name, {}).get(name), dict)
    ]


def _pick(rng: Rng, items: Any) -> Any:
    return items[int(rng.integers(len(items)))] if len(items) else None


def _with_call(record: Record, place: Place, call: ToolCall) -> Record:
    step = record.steps[place.step]
    calls = (*step.tool_calls[: place.call], call, *step.tool_calls[place.call + 1 :])
    return _with_step(record, place.step, replace(step, tool_calls=calls))


def _with_step(record: Record, index: int, *steps: Step) -> Record:
    return replace(record, steps=(*record.steps[:index], *steps, *record.steps[index + 1 :]))


def _with_value(record: Record, place: Place, value: Any) -> Record:
    call = place.of(record)
    return _with_call(record, place, replace(call, arguments={**call.arguments, place.name: value}))


def _with_schema(record: Record, place: Place, extra: dict[str, Any]) -> Record:
    """The record with more said about one parameter of one tool."""
    name = place.of(record).name

    def changed(tool: Tool) -> Tool:
        properties = tool.parameters["properties"]
        properties = {**properties, place.name: {**properties[place.name], **extra}}
        return replace(tool, parameters={**tool.parameters, "properties": properties})

    return replace(record, tools=tuple(changed(t) if t.name == name else t for t in record.tools))


def undefined_function(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A call names a function that is not offered: another record's, or a near miss of its own name."""
    place = _pick(rng, _calls(record))
    if place is None:
        return None
    call, offered = place.of(record), {tool.name for tool in record.tools}
    others = [n for n in (_pick(rng, pool.functions) for _ in range(4)) if n and n not in offered]
    near = [n for n in (f"{call.name}_v2", f"get_{call.name}") if n not in offered]
    name = _pick(rng, others if others and rng.random() < 0.5 else near)
    return _with_call(record, place, replace(call, name=name)) if name else None


def undefined_argument(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A call passes an argument that its function does not define."""
    places = [p for p in _calls(record) if not _open(record, p)]
    place = _pick(rng, places)
    if place is None:
        return None
    call = place.of(record)
    known = next((t.parameters.get("properties", {}) for t in record.tools if t.name == call.name), {})
    named = [name for name in pool.names if name not in known and name not in call.arguments]
    name = _pick(rng, named) or "extra_option"
    value = _pick(rng, pool.names.get(name, ("yes",)))
    return _with_call(record, place, replace(call, arguments={**call.arguments, name: value}))


def _open(record: Record, place: Place) -> bool:
    name = place.of(record).name
    return any(t.name == name and t.parameters.get("additionalProperties") for t in record.tools)


def missing_required(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A required argument is left out."""
    required = {tool.name: tool.parameters.get("required", ()) for tool in record.tools}
    places = [p for p in _arguments(record) if p.name in required[p.of(record).name]]
    place = _pick(rng, places)
    if place is None:
        return None
    call = place.of(record)
    rest = {name: value for name, value in call.arguments.items() if name != place.name}
    return _with_call(record, place, replace(call, arguments=rest))


def castable_type(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value in the wrong type whose meaning is beyond doubt: `"5"` for 5, `"[1, 2]"` for a list."""
    places = []
    for place in _arguments(record):
        kind, value = (place.schema or {}).get("type"), place.value(record)
        if kind in ("integer", "number", "boolean") and json_type(value) in ("integer", "number", "boolean"):
            places.append((place, json.dumps(value)))
            if kind == "integer" and isinstance(value, int) and abs(value) < 2**53:
                places.append((place, float(value)))
        elif (kind == "array" and isinstance(value, list)) or (kind == "object" and isinstance(value, dict)):
            places.append((place, json.dumps(value, ensure_ascii=False)))
    chosen = _pick(rng, places)
    return _with_value(record, *chosen) if chosen else None


def wrong_type(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value in the wrong type that no cast can save."""
    wrong = {
        "integer": ("several", [1], 2.5, {"value": 1}),
        "number": ("a lot", ["x"], {"value": 1}),
        "boolean": ("perhaps", 2, ["yes"]),
        "string": ({"text": "x"}, ["x", 1], None),
        "array": ({"items": 1}, True),
        "object": ("plain words", [1], 3),
    }
    places = [p for p in _arguments(record) if (p.schema or {}).get("type") in wrong]
    # A list is no scalar's wrong type where a single value may be wrapped; None may be left out.
    place = _pick(rng, places)
    if place is None:
        return None
    assert place.schema is not None
    value = _pick(rng, wrong[place.schema["type"]])
    required = next(t.parameters.get("required", ()) for t in record.tools if t.name == place.of(record).name)
    if value is None and place.name not in required:
        value = {"text": "x"}
    return _with_value(record, place, value)


def not_in_enum(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value outside the declared choices; a text parameter without choices is given some first."""
    places = [p for p in _arguments(record) if isinstance(p.value(record), str) and p.value(record).strip()]
    declared = [p for p in places if (p.schema or {}).get("enum")]
    place = _pick(rng, declared or places)
    if place is None:
        return None
    assert place.schema is not None
    texts = [v for v in pool.values.get("string", ()) if isinstance(v, str) and v.strip()]
    if not declared:
        others = [_pick(rng, texts) for _ in range(3)] if texts else []
        choices = list(dict.fromkeys([place.value(record), *others]))
        record = _with_schema(record, place, {"enum": choices})
    else:
        choices = place.schema["enum"]
    taken = {_folded(c) for c in choices}
    free = [v for v in (_pick(rng, texts) for _ in range(8)) if v is not None and _folded(v) not in taken]
    return _with_value(record, place, _pick(rng, free) or "none of these")


def _folded(value: Any) -> str:
    return "".join(c for c in str(value).casefold() if c.isalnum())


def out_of_bounds(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value beyond a declared bound; one without bounds gets some that its value keeps."""
    places = [
        p for p in _arguments(record)
        if "enum" not in (p.schema or {}) and (p.schema or {}).get("type") in ("integer", "number", "string")
        and json_type(p.value(record)) in ("integer", "number", "string")
        and (json_type(p.value(record)) == "string") == ((p.schema or {}).get("type") == "string")
    ]  # fmt: skip
    place = _pick(rng, places)
    if place is None:
        return None
    value = place.value(record)
    if isinstance(value, str):
        record = _with_schema(record, place, {"maxLength": len(value) + 2})
        return _with_value(record, place, value + " and then some")
    bounds = {"minimum": value - 10, "maximum": value + 10}
    return _with_value(_with_schema(record, place, bounds), place, value + int(rng.integers(11, 99)))


def hallucinated_argument(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value of the right type that somebody else asked for: nothing said in this record leads to it."""
    said = _folded(record.query + record.task_instruction)
    places = [p for p in _arguments(record) if _replaceable(p, record)]
    order = rng.permutation(len(places))
    for index in order:
        place = places[index]
        value = place.value(record)
        named = pool.names.get(place.name, ())
        same = named if len(named) > 1 and rng.random() < 0.7 else pool.values.get(json_type(value), ())
        for _ in range(20):
            other = _pick(rng, same)
            if json_type(other) == json_type(value) and other != value and _foreign(other, said):
                return _with_value(record, place, other)
    return None


def _replaceable(place: Place, record: Record) -> bool:
    schema = place.schema or {}
    rules = {"enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "format", "const"}
    return not rules & schema.keys() and json_type(place.value(record)) in ("string", "integer", "number")


def _foreign(value: Any, said: str) -> bool:
    """Whether no word of a value stands in the folded text."""
    words = str(value).casefold().replace("_", " ").replace("-", " ").replace(",", " ").split()
    words = [folded for word in words if (folded := _folded(word))]
    return bool(words) and not any(word in said for word in words)


def undefined_reference(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value refers to the result of a call that does not exist."""
    places = [p for p in _arguments(record) if "enum" not in (p.schema or {}) and _takes_text(p.schema or {})]
    place = _pick(rng, places)
    if place is None:
        return None
    number = len(_calls(record)) + int(rng.integers(20, 40))
    styles = (f"API_call_{number}", f"$call_{number}.result", f"${{step_{number}}}", f"#E{number}")
    return _with_value(record, place, _pick(rng, styles))


def _takes_text(schema: dict[str, Any]) -> bool:
    rules = {"pattern", "maxLength", "format", "const"}
    return schema.get("type") == "string" and not rules & schema.keys()


def error_observation(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The last calls come back as an error, and the record goes on as if nothing had happened."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    if not steps:
        return None
    errors = (
        {"error": "Invalid API key."},
        "Error: request timed out",
        {"status": "error", "message": "city not found"},
        json.dumps({"error": "Rate limit exceeded", "response": ""}),
        "Traceback (most recent call last):\n  ...\nValueError: bad input",
        {"status_code": 500, "body": "Internal Server Error"},
    )
    step = replace(record.steps[steps[-1]], next_observation=_pick(rng, errors))
    return _with_step(record, steps[-1], step)


def repeated_turn(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A step is taken twice in a row, with the same calls and the same result."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    index = _pick(rng, steps)
    if index is None:
        return None
    step = replace(record.steps[index], user_input="")
    return _with_step(record, index, step, record.steps[index])


def low_quality_thought(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A thought that says nothing, goes in circles, or contradicts the calls it stands before."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    index = _pick(rng, steps)
    if index is None:
        return None
    called = {call.name for call in record.steps[index].tool_calls}
    thoughts = [
        "ok",
        "N/A",
        "...",
        "I need to call the tool. " * 4,
        "None of the available tools is needed for this request, so I will not call any of them.",
        "As an AI language model, I cannot access real-time data, so the answer is unknown to me.",
    ]
    others = [tool.name for tool in record.tools if tool.name not in called]
    if others:
        thoughts.append(f"The right function here is {_pick(rng, others)}, so I will call it.")
    return _with_step(record, index, replace(record.steps[index], thought=_pick(rng, thoughts)))


def too_long(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A query that goes on for more than any context holds."""
    words = [str(_pick(rng, pool.functions) or "word") + str(int(rng.integers(1e6))) for _ in range(500)]
    return replace(record, query=record.query + " " + " ".join(words * (1 + 300_000 // len(" ".join(words)))))


def pii(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The query gives away a person or a secret."""
    n = [int(d) for d in rng.integers(0, 10, 20)]
    digits = "".join(map(str, n))
    card = _luhn_complete("4" + digits[:14])
    secrets = (
        f"My address is jane.doe{digits[:3]}@fastmail.com.",
        f"Call me at (415) {2 + n[0] % 8}{n[1]}{n[2]}-{digits[3:7]}.",
        f"You can charge {card[:4]} {card[4:8]} {card[8:12]} {card[12:]}.",
        f"My SSN is {100 + n[0] * 10 + n[1]}-{10 + n[2]}-{1000 + int(digits[3:6])}.",
        f"Use the key AKIA{''.join(chr(65 + d) for d in n[:16])}.",
        f"My token is ghp_{''.join(chr(97 + d) for d in n)}{''.join(chr(65 + d) for d in n[:16])}.",
    )
    return replace(record, query=f"{record.query} {_pick(rng, secrets)}")


def _luhn_complete(digits: str) -> str:
    total = 0
    for i, c in enumerate(reversed(digits)):
        d = int(c) * (2 if i % 2 == 0 else 1)
        total += d - 9 if d > 9 else d
    return digits + str(-total % 10)


def duplicate(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The same row under another id, its spacing and capitals aside."""
    query = record.query if rng.random() < 0.5 else "  ".join(record.query.split(" ")).upper()
    return replace(record, id=f"{record.id}-copy", query=query)


def near_duplicate(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The same row with a word of courtesy; None where the query is too short to stay near."""
    if len(record.query.split()) < 12:
        return None
    query = f"{record.query} Thanks!" if rng.random() < 0.5 else f"Please: {record.query}"
    return replace(record, id=f"{record.id}-near", query=query)


def contamination(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The query of an evaluation set, as it is or inside a longer one."""
    query = _pick(rng, pool.evaluation)
    if query is None:
        return None
    if len(query.split()) >= 13 and rng.random() < 0.5:
        query = f"Here is what I want. {query} That is all."
    return replace(record, query=query)


CORRUPTIONS: dict[str, Corruption] = {
    c.name: c
    for c in (
        Corruption("undefined_function", "undefined_function", undefined_function),
        Corruption("undefined_argument", "undefined_argument", undefined_argument),
        Corruption("missing_required", "missing_required", missing_required),
        Corruption("castable_type", "wrong_type", castable_type),
        Corruption("wrong_type", "wrong_type", wrong_type),
        Corruption("not_in_enum", "not_in_enum", not_in_enum),
        Corruption("out_of_bounds", "out_of_bounds", out_of_bounds),
        Corruption("hallucinated_argument", "ungrounded_argument", hallucinated_argument),
        Corruption("undefined_reference", "undefined_reference", undefined_reference),
        Corruption("error_observation", "error_observation", error_observation, calls=False),
        Corruption("repeated_turn", "repeated_turn", repeated_turn, calls=False),
        Corruption("low_quality_thought", "low_quality_thought", low_quality_thought, calls=False),
        Corruption("too_long", "too_long", too_long, calls=False),
        Corruption("pii", "pii", pii, calls=False),
        Corruption("duplicate", "duplicate", duplicate, calls=False),
        Corruption("near_duplicate", "near_duplicate", near_duplicate, calls=False),
        Corruption("contamination", "contaminated", contamination, calls=False),
    )
}
"""Every class of error, by name."""
