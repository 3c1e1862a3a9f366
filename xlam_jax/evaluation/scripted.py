"""Models without weights whose scores are known beforehand: they test a harness from end to end in seconds.

- `gold` gives the published answer: what it does not reach, no sensible answer reaches;
- `empty` never calls: right where no call is due, and nowhere else;
- `random` calls an offered function with values out of the air: right where any call is;
- `mutated` gives the published answer, and a damaged one in every second row of a category. The damage (another name,
  an argument too much, a call too much; a call where none is due, none where one is) is wrong by every rule.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from xlam_jax.errors import unknown
from xlam_jax.evaluation.harness import Case, Raw
from xlam_jax.format import Codec, ToolCall

SCRIPTS = ("gold", "empty", "random", "mutated")
PREFIX = "scripted:"
Calls = tuple[ToolCall, ...]


def scripted_answers(
    name: str, cases: Sequence[Case], codec: Codec, gold: Callable[[Case], Calls], seed: int = 0
) -> list[Raw]:
    """What the model says to each case; the same for a case whatever other samples it stands in, but for `mutated`.

    Args:
      gold: the calls that a case's answer describes.

    Raises:
      InputError: unknown name.
    """
    if name not in SCRIPTS:
        raise unknown("scripted model", name, SCRIPTS)
    if name == "mutated":
        answers = _mutated(cases, gold)
    else:
        script: dict[str, Callable[[Case], Calls]] = {
            "gold": gold,
            "empty": lambda case: (),
            "random": lambda case: random_calls(case, random.Random(f"{seed} {case.key}")),
        }
        answers = [script[name](case) for case in cases]
    return [Raw(codec.render_calls(calls), "stop", new_tokens=1) for calls in answers]


def small_call(case: Case, value: Callable[[dict[str, Any]], Any]) -> ToolCall:
    """A call of the first function with `value(schema)` for every required argument."""
    return _call(case, lambda count: 0, value)


def small_value(schema: dict[str, Any]) -> Any:
    """The simplest value of a type; the first of an enumeration."""
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    values: dict[Any, Any] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    kind = schema.get("type")
    return values.get(kind, "x") if isinstance(kind, str) else "x"


def _call(case: Case, choose: Callable[[int], int], value: Callable[[dict[str, Any]], Any]) -> ToolCall:
    if not case.tools:  # some rows offer none
        return ToolCall("no_such_function", {})
    tool = case.tools[choose(len(case.tools))]
    properties = tool.parameters.get("properties", {})
    names = tool.parameters.get("required") or ()
    return ToolCall(tool.name, {name: value(properties.get(name, {})) for name in names})


def random_calls(case: Case, rng: random.Random) -> Calls:
    """One or two calls of offered functions with values out of the air."""

    def value(schema: dict[str, Any]) -> Any:
        kinds: dict[Any, Callable[[], Any]] = {
            "integer": lambda: rng.randrange(10**6, 10**9),
            "number": lambda: rng.uniform(1e6, 1e9),
            "boolean": lambda: rng.random() < 0.5,
            "array": lambda: [value(schema.get("items", {}))],
            "object": lambda: {"k": rng.randrange(10**6)},
        }
        kind = schema.get("type")
        make = kinds.get(kind) if isinstance(kind, str) else None
        return make() if make else f"x{rng.randrange(10**6)}"

    return tuple(_call(case, rng.randrange, value) for _ in range(rng.choice((1, 1, 2))))


def _mutated(cases: Sequence[Case], gold: Callable[[Case], Calls]) -> list[Calls]:
    seen: Counter[str] = Counter()
    out = []
    for case in cases:
        calls = gold(case)
        number = seen[case.style]
        seen[case.style] += 1
        out.append(_damaged(case, calls, number // 2) if number % 2 else calls)
    return out


def _damaged(case: Case, calls: Calls, number: int) -> Calls:
    if case.category == "relevance":
        return ()
    if not calls:
        return (small_call(case, small_value),)
    first, rest = calls[0], calls[1:]
    if number % 3 == 0:
        return (ToolCall(first.name + "_x", first.arguments), *rest)
    if number % 3 == 1:
        return (ToolCall(first.name, {**first.arguments, "x_extra": 1}), *rest)
    return (*calls, first)
