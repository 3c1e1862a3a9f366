"""Injected faults: every corrupted row is dropped, with the right reason; every clean one passes."""

from dataclasses import replace
from random import Random

import pytest

from xlam_jax.apigen.generate import GenerateConfig, Generator
from xlam_jax.apigen.library import load_library
from xlam_jax.apigen.sandbox import Limits, Sandbox
from xlam_jax.apigen.verify import Deduplicator, Executor, Rejection, check_format, check_grounding
from xlam_jax.format import Record, Step, Tool, ToolCall

LIBRARY = load_library()
BY_NAME = {api.name: api for api in LIBRARY}


@pytest.fixture(scope="module")
def clean():
    generator = Generator(LIBRARY, GenerateConfig(edge_cases=0.0, turns=(1, 3)), "train", 11)
    return [r for r in (generator.row(i) for i in range(400)) if any(s.tool_calls for s in r.steps)]


def with_call(record, change):
    """The record with its last call changed by `change(call, tool)`; None where that is not possible."""
    k = max(i for i, step in enumerate(record.steps) if step.tool_calls)
    *calls, last = record.steps[k].tool_calls
    tool = next(t for t in record.tools if t.name == last.name)
    changed = change(last, tool)
    if changed is None:
        return None
    step = replace(record.steps[k], tool_calls=(*calls, changed))
    return replace(record, steps=(*record.steps[:k], step, *record.steps[k + 1 :]))


def misspell(call, tool):
    return replace(call, name=call.name + "s")


def drop_required(call, tool):
    name = tool.parameters["required"][0]
    return replace(call, arguments={k: v for k, v in call.arguments.items() if k != name})


def add_unknown(call, tool):
    return replace(call, arguments={**call.arguments, "verbose": True})


def change_type(call, tool):
    for name, value in call.arguments.items():
        kind = tool.parameters["properties"][name]["type"]
        if "enum" not in tool.parameters["properties"][name]:
            wrong = {
                "integer": 2.0,
                "number": str(value),
                "string": 5,
                "array": str(value),
                "boolean": "true",
            }
            return replace(call, arguments={**call.arguments, name: wrong.get(kind, [value])})
    return None


def leave_enum(call, tool):
    for name in call.arguments:
        if "enum" in tool.parameters["properties"][name]:
            return replace(call, arguments={**call.arguments, name: "sideways"})
    return None


def invent_value(call, tool):
    for name, value in call.arguments.items():
        schema = tool.parameters["properties"][name]
        if "enum" in schema or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            return replace(call, arguments={**call.arguments, name: 987654321})
        if isinstance(value, str):
            return replace(call, arguments={**call.arguments, name: "never mentioned"})
    return None


@pytest.mark.parametrize(
    ("corrupt", "reason"),
    [
        (misspell, "unknown_function"),
        (drop_required, "missing_required"),
        (add_unknown, "unknown_parameter"),
        (change_type, "wrong_type"),
        (leave_enum, "not_in_enum"),
        (invent_value, "ungrounded_value"),
    ],
)
def test_injected_faults_have_the_right_code(clean, corrupt, reason):
    corrupted = [c for c in (with_call(r, corrupt) for r in clean) if c is not None]
    assert len(corrupted) > 20
    for record in corrupted:
        fault = check_format(record)
        assert fault is not None and fault.reason == reason, (fault, record)


@pytest.fixture(scope="module")
def box():
    with Sandbox() as sandbox:
        yield sandbox


def test_clean_rows_pass_every_stage(clean, box):
    executor, seen = Executor(LIBRARY, box), Deduplicator()
    executor.run(clean)
    for record in clean:
        assert check_format(record) is None
        assert executor.check(record) is None
        assert seen.check(record) is None


def one(name, query, **arguments):
    call = ToolCall(name, arguments)
    return Record("x", query, (BY_NAME[name].tool,), (Step(tool_calls=(call,)),), lineage=("style:simple",))


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("divide_with_remainder", {"dividend": 7, "divisor": 0}, "ZeroDivisionError"),
        ("is_private_ip", {"address": "256.1.2.3"}, "ValueError"),
        ("get_weekday", {"date": "2023-02-30"}, "ValueError"),
        ("logarithm", {"value": -3}, "math domain error"),
        ("base64.decode", {"data": "abcde"}, "Error"),
    ],
)
def test_calls_that_fail_when_run_are_dropped(name, arguments, error, box):
    record = one(name, " ".join(map(str, arguments.values())), **arguments)
    assert check_format(record) is None
    executor = Executor(LIBRARY, box)
    executor.run([record])
    fault = executor.check(record)
    assert fault is not None and fault.reason == "raised" and error in fault.detail


def test_hanging_and_outsized_calls_have_their_own_codes():
    long = one("base64_encode", "encode " + "x" * 300, text="x" * 300)
    slow = one("factorial", "1000000", n=1000000)
    with Sandbox(Limits(seconds=0.3, result_bytes=128)) as box:
        executor = Executor(LIBRARY, box)
        executor.run([long, slow])
    assert executor.check(long).reason == "too_large"
    assert executor.check(slow).reason == "timeout"


def test_counts_must_match_the_style(clean):
    record = next(r for r in clean if "style:simple" in r.lineage)
    call = record.steps[0].tool_calls[0]
    for calls, style in (
        ((), "simple"),
        ((call, call), "multiple"),
        ((call,), "parallel"),
        ((call, call), "parallel_multiple"),
        ((call,), "irrelevance"),
    ):
        step = replace(record.steps[0], tool_calls=calls)
        bad = replace(record, steps=(step, *record.steps[1:]), lineage=(f"style:{style}",))
        assert check_format(bad).reason == "wrong_count"
    assert check_format(replace(record, query="  ")).reason == "empty_query"


def test_duplicates():
    seen = Deduplicator()
    record = one("factorial", "What is 5 factorial?", n=5)
    assert seen.check(record) is None
    assert seen.check(replace(record, id="other")) == Rejection("duplicate")
    assert seen.check(replace(record, query="what is  5 FACTORIAL")).reason == "near_duplicate"
    assert seen.check(one("factorial", "What is 6 factorial?", n=6)) is None


@pytest.mark.parametrize(
    ("query", "value", "said"),
    [
        ("Add 12,500 to it", 12500, True),
        ("rgb(1,2,300)", 300, True),
        ("rgb(1,200,300)", 200, True),
        ("seven cats", 7, True),
        ("seventeen cats", 7, False),
        ("from -5 up", -5, True),
        ("from 5 up", -5, False),
        ("5.0 meters", 5, True),
        ("15 meters", 5, False),
        ("on March 5, 2021", "2021-03-05", True),
        ("on 5 March 2021", "2021-03-05", True),
        ("on March 6, 2021", "2021-03-05", False),
        ("say 'Hello'", "Hello", True),
        ("say 'Hello'", "Goodbye", False),
        ("values 1.5 and 2.5", [1.5, 2.5], True),
        ("values 1.5 and 2.5", [1.5, 3.5], False),
        ('{"a": 3}', {"a": 3}, True),
        ('{"a": 3}', {"a": 4}, False),
    ],
)
def test_grounding(query, value, said):
    fault = check_grounding(ToolCall("f", {"v": value}), Tool("f", "", {"properties": {"v": {}}}), query)
    assert (fault is None) is said


def test_observations_hold_results_and_are_short(clean, box):
    executor = Executor(LIBRARY, box)
    executor.run(clean[:50])
    for record in clean[:50]:
        observed = executor.observe(record, max_chars=40)
        for step in observed.steps:
            assert bool(step.next_observation) == bool(step.tool_calls)
            assert len(step.next_observation) <= 43
    record = one("factorial", "5!", n=5)
    executor.run([record])
    assert executor.observe(record).steps[0].next_observation == "[120]"


def test_corruption_by_chance_is_caught_at_some_stage(clean):
    """Swapping the arguments of two rows leaves calls that fit the schema but not the words."""
    r = Random(0)
    caught = tried = 0
    for record in clean:
        other = r.choice(clean)
        swapped = with_call(
            record, lambda call, tool, o=other: o.steps[0].tool_calls[0] if o.steps[0].tool_calls else None
        )
        if swapped is None or swapped == record:
            continue
        tried += 1
        caught += check_format(swapped) is not None
    assert tried > 100 and caught / tried > 0.97
