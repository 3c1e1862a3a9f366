"""Unified 2.0 trajectories and 60k rows: read and written without loss, or refused by name."""

import json
from dataclasses import replace

import pytest
from format_strategies import calls, names, records, texts, tools
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, ToolCall
from xlam_jax.format.spellings import SPELLINGS, from_60k, from_unified_v2, to_60k, to_unified_v2

TEMP = {
    "type": "function",
    "function": {
        "name": "get_temp",
        "description": "Temperature of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "default": "c"}},
            "required": ["city"],
        },
    },
}


def call(id_, city):
    return {"type": "function", "function": {"name": "get_temp", "arguments": {"city": city}}, "id": id_}


def result(id_, content):
    return {"role": "tool", "name": "get_temp", "content": content, "tool_call_id": id_}


def trajectory(*messages, **rest):
    return {
        "unique_trajectory_id": "t-1",
        "task_instruction": "",
        "tools": [TEMP],
        "conversation": list(messages),
        **rest,
    }


USER = {"role": "user", "content": "Oslo or Bergen?"}
BOTH = {
    "role": "assistant",
    "content": "Two queries.",
    "tool_calls": [call("call_1_1", "Oslo"), call("call_1_2", "Bergen")],
}
ONE = {"role": "assistant", "content": "", "tool_calls": [call("call_1_1", "Oslo")]}
CANONICAL = {
    "parallel results": trajectory(
        USER,
        BOTH,
        result("call_1_1", {"temp": 4.1}),
        result("call_1_2", "7.8"),
        {"role": "assistant", "content": "Bergen."},
        {"role": "user", "content": "Thanks"},
        {"role": "assistant", "content": "Welcome."},
        task_instruction="Help.",
    ),
    "one result for two calls": trajectory(USER, BOTH, result("call_1_1", "4.1 and 7.8")),
    "one result missing of three": trajectory(
        USER,
        {**BOTH, "tool_calls": [*BOTH["tool_calls"], call("call_1_3", "Rome")]},
        result("call_1_3", 1),
        result("call_1_1", 2),
    ),
    "more results than calls": trajectory(USER, ONE, result("call_1_1", "a"), result("x", "b")),
    "results without calls": trajectory(
        USER, {"role": "assistant", "content": "Hm."}, {"role": "tool", "content": "env: ok"}
    ),
    "list content": trajectory(USER, ONE, result("call_1_1", [{"temp": 4.1}, {"temp": 5}])),
    "falsy content": trajectory(USER, ONE, result("call_1_1", 0)),
    "consecutive assistant turns": trajectory(
        USER,
        {"role": "assistant", "content": "Let me look."},
        {**ONE, "tool_calls": [call("call_2_1", "Rome")]},
    ),
    "assistant first": trajectory({"role": "assistant", "content": "Hello!"}, USER),
    "question only": trajectory(USER),
    "the record's other fields": trajectory(
        USER, format_instruction="JSON.", few_shot_examples=["a", {"b": 1}], source="s", lineage=["x"]
    ),
}


@pytest.mark.parametrize("shape", CANONICAL)
def test_canonical_trajectories_come_back(shape):
    row = CANONICAL[shape]
    assert to_unified_v2(from_unified_v2(json.loads(json.dumps(row)))) == row


def test_parallel_results_are_a_list_observation():
    record = from_unified_v2(CANONICAL["parallel results"])
    assert record == Record(
        "t-1",
        "Oslo or Bergen?",
        record.tools,
        (
            Step(
                "Two queries.",
                (ToolCall("get_temp", {"city": "Oslo"}), ToolCall("get_temp", {"city": "Bergen"})),
                [{"temp": 4.1}, "7.8"],
            ),
            Step("Bergen.", user_input="Thanks"),
            Step("Welcome."),
        ),
        task_instruction="Help.",
    )


def test_what_is_found_in_the_wild_is_read():
    text = {"name": "get_temp", "arguments": '{"city": "Oslo"}'}
    row = trajectory(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Oslo"}, {"type": "text", "text": "or Rome?"}]},
        {"role": "user", "content": "Quick"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": text, "id": "b"}, {**call("a", "Rome")}],
        },
        result("a", "second"),
        result("b", "first"),
        {"role": "assistant", "content": "Done.", "tool_calls": None},
        task_instruction="Help.",
    )
    record = from_unified_v2(row)
    assert record.task_instruction == "Help.\nBe brief."
    assert record.query == "Oslo\nor Rome?\nQuick"
    step = record.steps[0]
    assert [c.arguments for c in step.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert step.next_observation == ["first", "second"], "results belong to calls by id, not by order"
    assert record.steps[1] == Step("Done.")
    assert from_unified_v2(to_unified_v2(record)) == record


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (trajectory(result("x", "y")), "follows no turn"),
        (trajectory(USER, ONE, USER, result("call_1_1", "y")), "follows no turn"),
        (trajectory(USER, {"role": "system", "content": "late"}), "role 'system'"),
        (trajectory({"role": "bot", "content": "x"}), "role 'bot'"),
        (trajectory("hello"), "role None"),
        (trajectory({"role": "user", "content": 5}), "no text"),
        (trajectory(USER, {"role": "assistant", "content": "", "tool_calls": [{"id": "x"}]}), "no name"),
        (trajectory(USER, score=3), "unknown field"),
        ({"unique_trajectory_id": "x"}, "conversation"),
        ([], "conversation"),
    ],
)
def test_bad_trajectories_are_refused(row, said):
    with pytest.raises(InputError, match=said) as caught:
        from_unified_v2(row, "f:3")
    assert caught.value.where.startswith("f:3")


@examples(150)
@given(records)
def test_trajectories_hold_every_record(record):
    row = to_unified_v2(record)
    assert from_unified_v2(json.loads(json.dumps(row))) == record
    assert to_unified_v2(from_unified_v2(row)) == row


def test_what_unified_v2_cannot_hold_is_named():
    regular = [{"role": "tool", "content": "a"}]
    step = Step("", (ToolCall("get_temp", {}),), regular)
    with pytest.raises(InputError, match=r"Unified 2.0 spelling cannot hold this record's steps"):
        to_unified_v2(Record("r", "q", (), (step,)))


def row_60k(**changes):
    tool = {
        "name": "live_giveaways",
        "description": "Giveaways by type",
        "parameters": {
            "type": {"description": "game or loot", "type": "str", "default": "game"},
            "limit": {"description": "how many", "type": "int, optional"},
            "ids": {"description": "which", "type": "List[int]"},
            "ratio": {"type": "Union[int, float]"},
            "extra": {"type": "Any"},
            "raw": {"type": "dict"},
            "tags": {"type": "list", "default": []},
        },
    }
    answers = [
        {"name": "live_giveaways", "arguments": {"type": "beta é", "ids": [1]}},
        {"name": "live_giveaways", "arguments": {}},
    ]
    dump = lambda v: json.dumps(v, ensure_ascii=False)  # noqa: E731
    return {"id": 17, "query": "Beta?", "answers": dump(answers), "tools": dump([tool]), **changes}


@pytest.mark.parametrize(
    "changes", [{}, {"id": "apigen-1"}, {"id": "007"}, {"answers": "[]"}, {"source": "x", "license": "cc"}]
)
def test_canonical_60k_rows_come_back(changes):
    row = row_60k(**changes)
    assert to_60k(from_60k(row)) == row


def test_60k_optionality_and_types():
    properties = from_60k(row_60k()).tools[0].parameters
    assert properties["required"] == ["ids", "ratio", "extra", "raw"]
    assert properties["properties"]["ids"] == {
        "description": "which",
        "type": "array",
        "items": {"type": "integer"},
    }


def test_60k_rows_of_the_wild_are_read():
    """Arguments as JSON text, lists that are no text, and an optional parameter that also has a default."""
    tool = {"name": "f", "description": "d", "parameters": {"a": {"type": "str, optional", "default": "x"}}}
    row = {"id": 0, "query": "q", "answers": [{"name": "f", "arguments": '{"a": "y"}'}], "tools": [tool]}
    record = from_60k(row)
    assert record.id == "0" and record.steps == (Step(tool_calls=(ToolCall("f", {"a": "y"}),)),)
    assert record.tools[0].parameters["required"] == []
    assert from_60k(to_60k(record)) == record


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answers": "[{"}, "answers: not valid JSON"),
        ({"tools": "{}"}, "tools is no list"),
        ({"id": None}, "id is neither"),
        ({"answers": '[{"name": "f", "arguments": [1]}]'}, "no mapping"),
        ({"answer": "[]"}, "unknown field"),
    ],
)
def test_bad_60k_rows_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        from_60k(row_60k(**changes), "f:1")


PLAIN = Record("1", "q", (), (Step(),))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (replace(PLAIN, steps=()), "one step, not 0"),
        (replace(PLAIN, steps=(Step(), Step())), "one step, not 2"),
        (replace(PLAIN, steps=(Step(next_observation=0),)), "next_observation"),
        (replace(PLAIN, steps=(Step(thought="t"),)), "thought"),
        (replace(PLAIN, steps=(Step(user_input="u"),)), "user_input"),
        (replace(PLAIN, task_instruction="t"), "task_instruction"),
        (replace(PLAIN, few_shot_examples=("t",)), "few_shot_examples"),
    ],
)
def test_what_60k_cannot_hold_is_named(record, said):
    with pytest.raises(InputError, match=said):
        to_60k(record)


rows = st.builds(
    Record,
    id=names | st.integers(0, 10**20).map(str),
    query=texts,
    tools=st.lists(tools(), max_size=3).map(tuple),
    steps=st.builds(Step, tool_calls=st.lists(calls, max_size=3).map(tuple)).map(lambda s: (s,)),
)


@examples(150)
@given(rows)
def test_60k_rows_hold_every_single_turn_or_say_why_not(record):
    defaults = [
        p
        for t in record.tools
        for p in t.parameters["required"]
        if "default" in t.parameters["properties"][p]
    ]
    assert not defaults, "the strategy writes none, so that every record is expressible"
    row = to_60k(record)
    assert from_60k(json.loads(json.dumps(row))) == record
    assert to_60k(from_60k(row)) == row


def test_table():
    assert sorted(SPELLINGS) == ["60k", "unified-v2", "v1"]
    for spelling in SPELLINGS.values():
        assert spelling.read(spelling.write(PLAIN), "") == PLAIN
