"""Corruptions: jsonschema itself refuses what they spoil, the clean record stays as it was, seeds decide."""

import copy
import json

import jsonschema
import numpy as np
import pytest

from tests.records.test_quality_verify import make
from xlam_jax.format import Record, Step
from xlam_jax.records.quality.corrupt import CORRUPTIONS
from xlam_jax.records.quality.corrupt_places import Pool
from xlam_jax.records.quality.rules import Actions

CLEAN = [make(i) for i in range(40)]
POOL = Pool.of(CLEAN, [make(1000).query])
SCHEMA_CLASSES = (
    "undefined_function", "undefined_argument", "missing_required", "castable_type", "wrong_type",
    "not_in_enum", "out_of_bounds",
)  # fmt: skip


def apply(name, record, seed=0):
    return CORRUPTIONS[name].apply(record, np.random.default_rng([seed, 1]), POOL)


def is_valid(record):
    """By jsonschema, with 5.0 no integer and nothing allowed beyond the declared."""
    checker = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, v: type(v) is int)
    strict = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=checker)
    schemas = {tool.name: {**tool.parameters, "additionalProperties": False} for tool in record.tools}
    return all(
        call.name in schemas and strict(schemas[call.name]).is_valid(call.arguments)
        for step in record.steps
        for call in step.tool_calls
    )


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_input_is_kept_and_the_seed_decides(name):
    for i, record in enumerate(CLEAN[:8]):
        before = copy.deepcopy(record)
        bad = apply(name, record, i)
        assert record == before and repr(record) == repr(before)
        assert bad is not None and repr(bad) != repr(record)
        assert repr(apply(name, record, i)) == repr(bad)
        # It travels as any record does.
        assert Record.from_json(json.loads(json.dumps(bad.to_json()))) == bad
    assert CORRUPTIONS[name].name == name and CORRUPTIONS[name].code in Actions.model_fields


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_schema_classes_are_invalid_and_all_others_valid(name):
    assert all(map(is_valid, CLEAN))
    for i, record in enumerate(CLEAN):
        assert is_valid(apply(name, record, i)) is (name not in SCHEMA_CLASSES), (name, i)


def test_no_place_no_corruption():
    chat = Record("1", "Hello", (), (Step("Hi, what can I do for you?"),))
    for name, corruption in CORRUPTIONS.items():
        if corruption.calls or name in ("error_observation", "repeated_turn", "low_quality_thought"):
            assert apply(name, chat) is None
    assert CORRUPTIONS["contamination"].apply(chat, np.random.default_rng(0), Pool.of([])) is None


def test_a_hallucinated_value_is_nowhere_in_its_record():
    for i, record in enumerate(CLEAN):
        bad = apply("hallucinated_argument", record, i)
        old, new = (r.steps[0].tool_calls[0].arguments for r in (record, bad))
        (name,) = [key for key in old if old[key] != new[key]]
        assert type(new[name]) is type(old[name]) and str(new[name]).lower() not in record.query.lower()
