"""Typed corruptions: a clean Record with one named error, to measure the verifier and to build pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.quality.corrupt_places import (
    Place,
    Pool,
    Rng,
    arguments_of,
    calls_of,
    folded,
    json_type,
    pick,
    with_call,
    with_schema,
    with_value,
)
from xlam_jax.records.quality.corrupt_texts import (
    contamination,
    duplicate,
    error_observation,
    low_quality_thought,
    near_duplicate,
    pii,
    repeated_turn,
    too_long,
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


def undefined_function(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A call names a function that is not offered: another record's, or a near miss of its own name."""
    place = pick(rng, calls_of(record))
    if place is None:
        return None
    call, offered = place.of(record), {tool.name for tool in record.tools}
    others = [n for n in (pick(rng, pool.functions) for _ in range(4)) if n and n not in offered]
    near = [n for n in (f"{call.name}_v2", f"get_{call.name}") if n not in offered]
    name = pick(rng, others if others and rng.random() < 0.5 else near)
    return with_call(record, place, replace(call, name=name)) if name else None


def undefined_argument(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A call passes an argument that its function does not define."""
    places = [p for p in calls_of(record) if not _open(record, p)]
    place = pick(rng, places)
    if place is None:
        return None
    call = place.of(record)
    known = next((t.parameters.get("properties", {}) for t in record.tools if t.name == call.name), {})
    named = [name for name in pool.names if name not in known and name not in call.arguments]
    name = pick(rng, named) or "extra_option"
    value = pick(rng, pool.names.get(name, ("yes",)))
    return with_call(record, place, replace(call, arguments={**call.arguments, name: value}))


def _open(record: Record, place: Place) -> bool:
    name = place.of(record).name
    return any(t.name == name and t.parameters.get("additionalProperties") for t in record.tools)


def missing_required(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A required argument is left out."""
    required = {tool.name: tool.parameters.get("required", ()) for tool in record.tools}
    places = [p for p in arguments_of(record) if p.name in required[p.of(record).name]]
    place = pick(rng, places)
    if place is None:
        return None
    call = place.of(record)
    rest = {name: value for name, value in call.arguments.items() if name != place.name}
    return with_call(record, place, replace(call, arguments=rest))


def castable_type(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value in the wrong type whose meaning is beyond doubt: `"5"` for 5, `"[1, 2]"` for a list."""
    places = []
    for place in arguments_of(record):
        kind, value = (place.schema or {}).get("type"), place.value(record)
        if kind in ("integer", "number", "boolean") and json_type(value) in ("integer", "number", "boolean"):
            places.append((place, json.dumps(value)))
            if kind == "integer" and isinstance(value, int) and abs(value) < 2**53:
                places.append((place, float(value)))
        elif (kind == "array" and isinstance(value, list)) or (kind == "object" and isinstance(value, dict)):
            places.append((place, json.dumps(value, ensure_ascii=False)))
    chosen = pick(rng, places)
    return with_value(record, *chosen) if chosen else None


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
    places = [p for p in arguments_of(record) if str((p.schema or {}).get("type")) in wrong]
    # A list is no scalar's wrong type where a single value may be wrapped; None may be left out.
    place = pick(rng, places)
    if place is None:
        return None
    assert place.schema is not None
    value = pick(rng, wrong[place.schema["type"]])
    required = next(t.parameters.get("required", ()) for t in record.tools if t.name == place.of(record).name)
    if value is None and place.name not in required:
        value = {"text": "x"}
    return with_value(record, place, value)


def not_in_enum(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value outside the declared choices; a text parameter without choices is given some first."""
    places = [p for p in arguments_of(record) if isinstance(p.value(record), str) and p.value(record).strip()]
    declared = [p for p in places if (p.schema or {}).get("enum")]
    place = pick(rng, declared or places)
    if place is None:
        return None
    assert place.schema is not None
    texts = [v for v in pool.values.get("string", ()) if isinstance(v, str) and v.strip()]
    if not declared:
        others = [pick(rng, texts) for _ in range(3)] if texts else []
        choices = list(dict.fromkeys([place.value(record), *others]))
        record = with_schema(record, place, {"enum": choices})
    else:
        choices = place.schema["enum"]
    taken = {folded(c) for c in choices}
    free = [v for v in (pick(rng, texts) for _ in range(8)) if v is not None and folded(v) not in taken]
    return with_value(record, place, pick(rng, free) or "none of these")


def out_of_bounds(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value beyond a declared bound; one without bounds gets some that its value keeps."""
    places = [
        p for p in arguments_of(record)
        if "enum" not in (p.schema or {}) and (p.schema or {}).get("type") in ("integer", "number", "string")
        and json_type(p.value(record)) in ("integer", "number", "string")
        and (json_type(p.value(record)) == "string") == ((p.schema or {}).get("type") == "string")
    ]  # fmt: skip
    place = pick(rng, places)
    if place is None:
        return None
    value = place.value(record)
    if isinstance(value, str):
        record = with_schema(record, place, {"maxLength": len(value) + 2})
        return with_value(record, place, value + " and then some")
    bounds = {"minimum": value - 10, "maximum": value + 10}
    return with_value(with_schema(record, place, bounds), place, value + int(rng.integers(11, 99)))


def hallucinated_argument(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value of the right type that somebody else asked for: nothing said in this record leads to it."""
    said = folded(record.query + record.task_instruction)
    places = [p for p in arguments_of(record) if _replaceable(p, record)]
    order = rng.permutation(len(places))
    for index in order:
        place = places[index]
        value = place.value(record)
        named = pool.names.get(place.name, ())
        same = named if len(named) > 1 and rng.random() < 0.7 else pool.values.get(json_type(value), ())
        for _ in range(20):
            other = pick(rng, same)
            if json_type(other) == json_type(value) and other != value and _foreign(other, said):
                return with_value(record, place, other)
    return None


def _replaceable(place: Place, record: Record) -> bool:
    schema = place.schema or {}
    rules = {"enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "format", "const"}
    return not rules & schema.keys() and json_type(place.value(record)) in ("string", "integer", "number")


def _foreign(value: Any, said: str) -> bool:
    """Whether no word of a value stands in the folded text."""
    words = str(value).casefold().replace("_", " ").replace("-", " ").replace(",", " ").split()
    words = list(filter(None, map(folded, words)))
    return bool(words) and not any(word in said for word in words)


def undefined_reference(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A value refers to the result of a call that does not exist."""
    places = [
        p for p in arguments_of(record) if "enum" not in (p.schema or {}) and _takes_text(p.schema or {})
    ]
    place = pick(rng, places)
    if place is None:
        return None
    # Beyond all values that the calls may return, where one call returns several.
    number = 20 * len(calls_of(record)) + int(rng.integers(20))
    styles = (f"API_call_{number}", f"$call_{number}.result", f"${{step_{number}}}", f"#E{number}")
    return with_value(record, place, pick(rng, styles))


def _takes_text(schema: dict[str, Any]) -> bool:
    rules = {"pattern", "maxLength", "format", "const"}
    return schema.get("type") == "string" and not rules & schema.keys()


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
