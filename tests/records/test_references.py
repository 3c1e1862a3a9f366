"""References between calls in the spellings of public data sets: known, validated, never taken for wrong values."""

import json

import pytest

from xlam_jax.format.record import Record
from xlam_jax.records.quality.references import holds_reference, is_reference
from xlam_jax.records.quality.rules import Actions, RuleConfig, Rules
from xlam_jax.scoring.gold import score_against

# (first call's result, a call too far); of NESTFUL, plans, ReWOO, TaskBench, HuggingGPT, LLM pipelines.
SPELLINGS = [
    ("$var1.sum$", "$var7.sum$"),
    ("$var_1.sum$", "$var_7.sum$"),
    ("$var1.items[0].id$", "$var7.items[0].id$"),
    ("{{call_0.sum}}", "{{call_7.sum}}"),
    ("{{ steps[0].output.sum }}", "{{ steps[7].output.sum }}"),
    ("{{0.sum}}", "{{7.sum}}"),
    ("<<1.sum>>", "<<7.sum>>"),
    ("<<call_1.sum>>", "<<call_7.sum>>"),
    ("$.0.sum", "$.7.sum"),
    ("$.[0].sum", "$.[7].sum"),
    ("$.call_0.sum", "$.call_7.sum"),
    ("$[0].sum", "$[7].sum"),
    ("$.0[0].sum", "$.7[0].sum"),
    ("$tool_0_result", "$tool_7_result"),
    ("<result_0>", "<result_7>"),
    ("<tool_result-0.sum>", "<tool_result-7.sum>"),
    ("{call_0.sum}", "{call_7.sum}"),
    ("$call_1.result", "$call_7.result"),
    ("${step_1}", "${step_7}"),
    ("$1.sum", "$7.sum"),
    ("#E1", "#E7"),
    ("<node-0>", "<node-7>"),
    ("<GENERATED>-0", "<GENERATED>-7"),
    ("API_call_0", "API_call_77"),
    ("{{add.sum}}", "{{later.sum}}"),
    ("<<add.sum>>", "<<later.sum>>"),
    ("$add.sum$", "$later.sum$"),
    ("${sum from add}", "${sum from later}"),
]
NO_REFERENCES = [
    "$500", "$.50", "$5", "$HOME", "$1.5M", "{{1}}", "{{name}}", "{name}", "<b>1</b>", "<<", "1 << 2", "$x$", "#1",
    "&#E1;", "a@b.c", "costs $12.00. Then", "${HOME}", "call_1", "step 1", "$x_1$",
]  # fmt: skip


def rows(*values):
    """Raw rows of `add(a, b)`, the second call with this value for its integer and its list."""
    number = {"type": "integer", "description": "n"}
    tools = [
        {"name": "add", "description": "Adds", "parameters": {"a": number, "b": {"type": "int"}}},
        {"name": "later", "description": "Last", "parameters": {"a": number}},
    ]
    for value in values:
        calls = [
            {"name": "add", "arguments": {"a": 1, "b": 2}},
            {"name": "add", "arguments": {"a": value, "b": 2}},
        ]
        for steps in ([{"tool_calls": calls}], [{"tool_calls": [c], "next_observation": "3"} for c in calls]):
            yield json.dumps(
                {"id": "1", "query": "Add 1 and 2, then double it.", "tools": tools, "steps": steps}
            )


@pytest.mark.parametrize(("right", "dangling"), SPELLINGS)
def test_a_reference_is_kept_where_its_call_is_and_dropped_where_not(right, dangling):
    assert is_reference(right) and is_reference(dangling) and holds_reference(f"double {right} please")
    strict = Rules(RuleConfig(actions=Actions(ungrounded_argument="drop")))
    for line in rows(right):
        record = Record.from_json(json.loads(line))
        kept, entry = strict.apply(record)
        assert kept == record, entry
        # Scored as what it is: right to the letter, whatever type the parameter has.
        calls = [call for step in record.steps for call in step.tool_calls]
        assert score_against(record.tools, calls, calls).valid
        other = Record.from_json(json.loads(line.replace(json.dumps(right)[1:-1], "$var1.other$")))
        wrong = [call for step in other.steps for call in step.tool_calls]
        assert not score_against(record.tools, calls, wrong).valid
    for line in rows(dangling):
        kept, entry = strict.apply(Record.from_json(json.loads(line)))
        assert kept is None and entry.reason == "undefined_reference", entry


def test_references_inside_lists_and_objects():
    number = {"type": "integer"}
    either = {"anyOf": [{"type": "array", "items": number}, {"type": "object", "properties": {"k": number}}]}
    schema = {"type": "object", "properties": {"xs": {"type": "array", "items": number}, "o": either}}
    tools = [{"name": "add", "description": "d", "parameters": schema}]
    strict = Rules(RuleConfig(actions=Actions(ungrounded_argument="drop")))
    for second, reason in (
        ({"xs": ["$var1.sum$", 3], "o": {"k": "{{call_0.x}}"}}, ""),
        ({"xs": [3, "<<1.x>>"], "o": ["$.0.x"]}, ""),
        ({"xs": ["$var1.sum$", "three"]}, "wrong_type"),
        ({"xs": [3], "o": {"k": "three"}}, "wrong_type"),
        ({"xs": [3, "<<7.x>>"]}, "undefined_reference"),
    ):
        calls = [{"name": "add", "arguments": {"xs": [1, 2]}}, {"name": "add", "arguments": second}]
        row = {"id": "1", "query": "Add 1, 2 and 3.", "tools": tools, "steps": [{"tool_calls": calls}]}
        kept, entry = strict.apply(Record.from_json(row))
        assert (kept is None) == bool(reason) and entry.reason == reason, entry


@pytest.mark.parametrize("text", NO_REFERENCES)
def test_what_only_looks_like_one(text):
    assert not is_reference(text) and not holds_reference(f"pay {text} now")
