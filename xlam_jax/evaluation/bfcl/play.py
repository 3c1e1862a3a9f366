"""What runs behind the walls for multi-turn rows: BFCL's executable classes, and its checks of state and responses.

The classes are those of an installed bfcl-eval: simulators of a file system, trading, travel and so on, whose whole
state is in memory. Calls are made by name and argument; nothing that a model wrote is evaluated, as the original
does. Functions here take and give JSON values, for they are called across processes.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
from typing import Any

_CLASSES = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
# The file of each class, and of the documents of its functions.
MODULES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
_STATELESS = ("MathAPI",)

Call = list[Any]  # [name, positional arguments, named arguments]


class World:
    """The classes of one row in their first state."""

    def __init__(self, entry: dict[str, Any]):
        self.instances: dict[str, Any] = {}
        self._methods: dict[str, Any] = {}
        for name in entry["involved_classes"]:
            instance = getattr(importlib.import_module(f"{_CLASSES}.{MODULES[name]}"), name)()
            if name not in _STATELESS:
                config = copy.deepcopy(entry["initial_config"].get(name, {}))
                instance._load_scenario(config, long_context=entry["long_context"])
            self.instances[name] = instance
            public = inspect.getmembers(instance, predicate=inspect.ismethod)
            self._methods |= {method: call for method, call in public if not method.startswith("_")}

    def run(self, calls: list[Call]) -> list[str]:
        """The result of each call as text; what it raises is one, too."""
        return [self._run(*call) for call in calls]

    def _run(self, name: str, positional: list[Any], named: dict[str, Any]) -> str:
        try:
            if name not in self._methods:
                raise NameError(f"name '{name}' is not defined")
            value = self._methods[name](*positional, **named)
        except Exception as e:
            return f"Error during execution: {e}"
        if isinstance(value, str):
            return value
        if isinstance(value, dict):
            try:
                return json.dumps(value)
            except (TypeError, ValueError):
                return str(value)
        return str(value)


def step(entry: dict[str, Any], before: list[list[Call]], calls: list[Call]) -> list[str]:
    """The results of `calls` after all steps `before`, in a world made anew."""
    world = World(entry)
    for earlier in before:
        world.run(earlier)
    return world.run(calls)


def check(entry: dict[str, Any], turns: list[list[list[Call]]], gold: list[list[str]]) -> dict[str, Any]:
    """BFCL's verdict on the steps of each turn: `{"error", "detail", "unasked"}`, `error` empty where it passes.

    After every turn in which calls are due, the public attributes of every instance must be those that the published
    calls lead to, and the published calls' results must be among the results so far. `unasked` is the first turn
    with calls where none is due, -1 without: BFCL runs these and lets them pass if they change nothing.
    """
    unasked = next((i for i, due in enumerate(gold) if not due and any(turns[i : i + 1] or [[]])), -1)

    def verdict(error: str = "", detail: str = "") -> dict[str, Any]:
        return {"error": error, "detail": detail[:400], "unasked": unasked}

    if len(turns) != len(gold):
        return verdict("force_terminated", f"{len(turns)} of {len(gold)} turns")
    model, truth = World(entry), World(entry)
    said: list[str] = []
    for number, (steps, due) in enumerate(zip(turns, gold, strict=True)):
        for calls in steps:
            said += model.run(calls)
        expected = truth.run([parse_call(text) for text in due])
        if not due:
            continue
        if not any(steps):
            return verdict("empty_turn_model_response", f"no call in turn {number}")
        if differences := _differences(model, truth):
            return verdict("instance_state_mismatch", f"turn {number}: {', '.join(differences)}")
        left = list(said)
        for result in expected:
            if result not in left:
                return verdict("execution_response_mismatch", f"turn {number}: no {result}")
            left.remove(result)
    return verdict()


def parse_call(text: str) -> Call:
    """A published call, as Python writes it.

    Raises:
      ValueError: anything but one call with literal arguments.

    Example:
      >>> parse_call("mv('a', destination='b')")
      ['mv', ['a'], {'destination': 'b'}]
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as e:
        raise ValueError(f"not a call: {text!r}") from e
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"not a call: {text!r}")
    named = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    return [node.func.id, [ast.literal_eval(a) for a in node.args], named]


def _differences(model: World, truth: World) -> list[str]:
    return [
        f"{name}.{key}"
        for name, instance in truth.instances.items()
        for key, value in vars(instance).items()
        if not key.startswith("_") and getattr(model.instances[name], key) != value
    ]
