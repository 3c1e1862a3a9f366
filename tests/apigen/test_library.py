"""The library: described from its own text, typed both ways, executable, and split by whole functions."""

import importlib
import json
import typing
from collections import Counter
from random import Random
from typing import Literal

import jsonschema
import pytest

from tests.cases import case
from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.heldout import DEV, HELDOUT
from xlam_jax.apigen.library import load_library
from xlam_jax.apigen.run import probe_library
from xlam_jax.apigen.sandbox import run_calls
from xlam_jax.apigen.signature import (
    hint_from_schema,
    hints_from_schema,
    schema_from_hint,
    tool_from_function,
)
from xlam_jax.errors import InputError
from xlam_jax.format import normalise_tool, python_type, xlam_view

LIBRARY = load_library()
IDS = [item.name for item in LIBRARY]


def function_of(item):
    module, _, name = item.target.partition(":")
    return getattr(importlib.import_module(module), name)


def test_size_and_domains():
    assert len(LIBRARY) >= 150
    assert len(IDS) == len(set(IDS))
    assert len({item.category for item in LIBRARY}) >= 12
    arity = Counter(len(item.tool.parameters["properties"]) for item in LIBRARY)
    assert set(arity) >= {1, 2, 3, 4, 5}


def test_every_json_type_and_kind_of_parameter_occurs():
    schemas = [s for item in LIBRARY for s in item.tool.parameters["properties"].values()]
    assert {s["type"] for s in schemas} == {"integer", "number", "string", "boolean", "array", "object"}
    assert any("enum" in s for s in schemas) and any("default" in s for s in schemas)


def test_some_of_every_domain_serves_development():
    assert set(IDS) >= DEV and not DEV & HELDOUT
    dev = Counter(item.category for item in LIBRARY if item.split == "dev")
    assert dev.total() == len(DEV) and set(dev) == {item.category for item in LIBRARY}


def test_a_fifth_of_every_domain_is_held_out():
    assert set(IDS) >= HELDOUT
    total = Counter(item.category for item in LIBRARY)
    held = Counter(item.category for item in LIBRARY if item.heldout)
    assert 0.15 <= held.total() / total.total() <= 0.25
    for category, n in total.items():
        assert 1 <= held[category] <= n / 3, category


def test_types_survive_the_round_trip():
    for item in LIBRARY:
        with case(item.name):
            hints = typing.get_type_hints(function_of(item))
            hints.pop("return")
            assert hints_from_schema(item.tool.parameters) == hints


def test_normalised_tools_are_what_the_format_room_makes_of_them():
    for item in LIBRARY:
        assert normalise_tool(item.tool) == item.tool
        assert normalise_tool(json.loads(json.dumps(xlam_view(item.tool)))).name == item.name
        assert all(python_type(s) for s in item.tool.parameters["properties"].values())


def test_samples_fit_the_schema_and_templates_the_parameters():
    for item in LIBRARY:
        with case(item.name):
            check_samples_and_templates(item)


def check_samples_and_templates(item):
    r = Random(1)
    jsonschema.Draft202012Validator.check_schema(item.tool.parameters)
    validator = jsonschema.Draft202012Validator(
        item.tool.parameters
    )  # once: making it costs more than using it
    for _ in range(20):
        values = item.sample(r)
        assert set(values) == set(item.tool.parameters["properties"])
        validator.validate(values)
        for name, schema in item.tool.parameters["properties"].items():
            if schema["type"] == "array" and schema["items"]["type"] == "number":
                # A whole number inside a list of floats would make the right JSON type a matter of taste.
                assert all(isinstance(v, float) and v != int(v) for v in values[name]), name
    assert 3 <= len(item.templates) <= 6
    optional = set(item.tool.parameters["properties"]) - set(item.tool.parameters["required"])
    used = set().union(*(template.arguments for template in item.templates))
    assert used >= optional, "an optional parameter that no wording ever mentions"


def test_examples_run_and_most_functions_are_deterministic():
    probed = probe_library(LIBRARY)
    assert {item.deterministic for item in probed} == {True}


def test_real_results():
    """Spot checks against values worked out by hand or taken from the standards."""
    t = "xlam_jax.apigen.functions."
    cases = [
        (t + "arithmetic:greatest_common_divisor", {"a": 84, "b": 36}, 12),
        (t + "dates:get_weekday", {"date": "1969-07-20"}, "Sunday"),
        (t + "dates:next_weekday", {"date": "2024-03-01", "weekday": "Friday"}, "2024-03-08"),
        (t + "dates:count_business_days", {"start_date": "2024-03-01", "end_date": "2024-03-11"}, 7),
        (t + "dates:calculate_age", {"birth_date": "2000-05-10", "on_date": "2020-05-09"}, 19),
        (
            t + "calendars:nth_weekday",
            {"year": 2024, "month": 11, "weekday": "Thursday", "n": 4},
            "2024-11-28",
        ),
        (t + "calendars:get_quarter", {"month": 1, "fiscal_start": 10}, 2),
        (t + "encoding:crc32_checksum", {"text": "123456789"}, "cbf43926"),
        (t + "encoding:rot13", {"text": "Hello"}, "Uryyb"),
        (t + "colors:contrast_ratio", {"foreground": "#000000", "background": "#FFFFFF"}, 21.0),
        (t + "colors:rgb_to_hex", {"red": 255, "green": 87, "blue": 51}, "#FF5733"),
        (t + "fractions_:to_mixed_number", {"fraction": "17/5"}, "3 2/5"),
        (t + "geometry:polygon_area", {"points": [[0, 0], [4, 0], [4, 3]]}, 6.0),
        (t + "numerals:to_base", {"number": 255, "base": 16}, "ff"),
        (t + "network:count_hosts", {"network": "10.0.0.0/29"}, 6),
        (t + "science:running_pace", {"distance": 10, "minutes": 50}, "5:00"),
        (t + "text:caesar_cipher", {"text": "Xyz", "shift": 3}, "Abc"),
        (
            t + "units:convert_temperature",
            {"value": 100, "from_unit": "Celsius", "to_unit": "Fahrenheit"},
            212.0,
        ),
        (t + "units:format_bytes", {"size": 1536, "binary": True}, "1.5 KiB"),
    ]
    outcomes = run_calls([(target, arguments) for target, arguments, _ in cases])
    for (target, arguments, wanted), outcome in zip(cases, outcomes, strict=True):
        assert (outcome.status, outcome.value) == ("ok", wanted), (target, arguments, outcome)


def test_description_comes_from_signature_and_docstring():
    def move(
        x: float, names: list[list[str]], mode: Literal["a", "b"] = "a", limit: int | None = None
    ) -> str:
        """Move things about.

        Args:
          x: How far,
            in meters.
          names: What to move.
          mode: Way of moving.
          limit: Most things.
        """
        return ""

    tool = tool_from_function(move, "things.move")
    assert tool.name == "things.move" and tool.description == "Move things about."
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "x": {"type": "number", "description": "How far, in meters"},
            "names": {
                "type": "array",
                "items": {"type": "array", "items": {"type": "string"}},
                "description": "What to move",
            },
            "mode": {"type": "string", "enum": ["a", "b"], "description": "Way of moving", "default": "a"},
            "limit": {"type": "integer", "description": "Most things"},
        },
        "required": ["x", "names"],
    }


@pytest.mark.parametrize(
    "hint",
    [
        int,
        float,
        str,
        bool,
        list[int],
        list[list[float]],
        dict[str, int],
        dict[str, list[str]],
        Literal["x", "y"],
    ],
)
def test_hint_round_trip(hint):
    assert hint_from_schema(schema_from_hint(hint)) == hint


@pytest.mark.parametrize("hint", [tuple[int, int], set[str], dict[int, str], bytes, Literal[1, 2], int | str])
def test_hint_without_schema_is_refused(hint):
    with pytest.raises(InputError, match="no JSON Schema"):
        schema_from_hint(hint)


def test_undescribed_functions_are_refused():
    def bare(x: int) -> int:
        return x

    def untold(x: int) -> int:
        """Does."""
        return x

    def untyped(x) -> int:
        """Does.

        Args:
          x: X.
        """
        return x

    for function, text in ((bare, "docstring"), (untold, "not described"), (untyped, "no type hint")):
        with pytest.raises(InputError, match=text):
            tool_from_function(function)


def test_template_must_fit_the_signature():
    from xlam_jax.apigen.library import _describe

    @api("Do {y}.")
    def first(x: int) -> int:
        """Does.

        Args:
          x: X.
        """
        return x

    with pytest.raises(InputError, match="unknown parameter 'y'"):
        _describe(first, first.__api__, "demo")

    @api("Do it.")
    def second(x: int) -> int:
        """Does.

        Args:
          x: X.
        """
        return x

    with pytest.raises(InputError, match="required parameter 'x'"):
        _describe(second, second.__api__, "demo")


def test_unknown_library_names_the_known_one():
    with pytest.raises(InputError) as e:
        load_library("stdlb")
    assert e.value.hint == "stdlib"
