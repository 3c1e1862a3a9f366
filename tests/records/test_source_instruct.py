"""General instruction data in every manner it is written in, and Unified 2.0 rows."""

import json

import pytest

from tests.records.source_cases import WEATHER, WEATHER_JSON, made, refusal
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import ToolCall
from xlam_jax.records.sources import get_source

HI, HO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "system", "content": "Be kind."}, HI, HO]},
        {"messages": json.dumps([{"role": "system", "content": "Be kind."}, HI, HO])},
        {
            "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}],
            "system": "Be kind.",
        },
        {"instruction": "Hi", "input": "", "output": "Ho", "system": "Be kind."},
        {"prompt": "Hi", "response": "Ho", "system": "Be kind."},
        {"question": "Hi", "answer": "Ho", "system": "Be kind.", "tools": []},
    ],
)
def test_the_same_chat_in_many_manners(row):
    got = made("instruct", {"id": 5, **row})
    assert got == Record(
        "instruct-5", "Hi", (), (Step("Ho"),), task_instruction="Be kind.", source="instruct"
    )


def test_alpaca_input_and_history():
    row = {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day", "history": [["Hi", "Ho"]]}
    got = made("instruct", row)
    assert (got.query, got.steps) == ("Hi", (Step("Ho", (), "", "Translate.\n\nGuten Tag"), Step("Good day")))


def test_dialogstudio():
    row = {
        "original dialog id": "d1",
        "new dialog id": "SET--train--1",
        "dialog index": 1,
        "original dialog info": {},
        "log": [
            {
                "turn id": 1,
                "user utterance": "A table for two.",
                "system response": "Where?",
                "dialog history": "",
            },
            {
                "turn id": 2,
                "user utterance": "Oslo",
                "system response": "Booked.",
                "external knowledge": "...",
            },
            {"turn id": 3, "user utterance": "Bye", "system response": ""},
        ],
        "external knowledge": "restaurant: Mat",
        "prompt": ["Help to book.", "Another wording."],
    }
    assert made("instruct", row) == Record(
        id="instruct-SET--train--1",
        query="A table for two.",
        tools=(),
        steps=(Step("Where?", (), "", "Oslo"), Step("Booked.")),
        task_instruction="Help to book.\n\nrestaurant: Mat",
        source="instruct",
        lineage=("cut_other_prompts", "cut_external_knowledge", "cut_trailing_user"),
    )


def test_dialogstudio_files_are_objects_of_dialogues(tmp_path):
    dialog = {"original dialog info": {}, "log": [{"user utterance": "Hi", "system response": "Ho"}]}
    (tmp_path / "a.json").write_text(json.dumps({"SET--train--1": dialog, "SET--train--2": {"log": []}}))
    (tmp_path / "b.json").write_text(json.dumps({"instruction": "Hi", "output": "Ho"}))
    source = get_source("instruct")
    rows = list(source.rows(tmp_path))
    assert [r.extra for r in rows] == ["SET--train--1", "SET--train--2", None]
    assert source.convert(rows[0]).id == "instruct-SET--train--1"
    assert source.convert(rows[2]).query == "Hi"


def provenance(*items):
    keys = ("from", "text", "parent", "score")
    return [dict(zip(keys, item, strict=False)) for item in items]


def test_data_provenance_follows_the_best_reply():
    row = provenance(
        ("user", "Hi", "set-1"),
        ("assistant", "Go away", 0, 0),
        ("assistant", "Ho", 0, 1),
        ("user", "And?", 2),
        ("assistant", "Nothing.", 3),
    )
    got = made("instruct", row)
    assert (got.query, got.steps) == ("Hi", (Step("Ho", (), "", "And?"), Step("Nothing.")))
    assert got.lineage == ("cut_other_replies",)
    straight = made("instruct", {"messages": [row[0], {**row[2], "parent": 0}]})
    assert (straight.steps, straight.lineage) == ((Step("Ho"),), ())


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "Hi"}, "unknown_shape"),
        ({}, "unknown_shape"),
        ([], "unknown_shape"),
        (["Hi"], "unknown_shape"),
        ("Hi", "not_an_object"),
        ({"instruction": "Hi", "output": ""}, "unknown_shape"),
        ({"instruction": "Hi", "input": {"a": 1}, "output": "Ho"}, "not_text"),
        ({"instruction": "Hi", "output": "Ho", "history": ["x"]}, "bad_message"),
        ({"log": []}, "no_user_turn"),
        ({"log": ["x"]}, "bad_message"),
        ({"messages": [HI, HO], "tools": [WEATHER_JSON]}, "has_tools"),
        (
            {"messages": [HI, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]},
            "has_tools",
        ),
        (provenance(("user", "Hi", "set")), "no_answer"),
        (provenance(("narrator", "Hi", "set")), "unknown_role"),
    ],
)
def test_refusals(row, code):
    assert refusal("instruct", row) == code


UNIFIED = {
    "unique_trajectory_id": "t1",
    "task_instruction": "Help.",
    "tools": [{"type": "function", "function": WEATHER_JSON}],
    "conversation": [
        {"role": "user", "content": "Oslo?"},
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [
                {
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": {"city": "Oslo"}},
                    "id": "c",
                }
            ],
        },
        {"role": "tool", "name": "get_weather", "content": {"t": 3}, "tool_call_id": "c"},
        {"role": "assistant", "content": "3 C."},
    ],
}


def test_unified_v2():
    assert made("unified-v2", UNIFIED) == Record(
        id="t1",
        query="Oslo?",
        tools=(WEATHER,),
        steps=(Step("Looking.", (ToolCall("get_weather", {"city": "Oslo"}),), {"t": 3}), Step("3 C.")),
        task_instruction="Help.",
        source="unified-v2",
    )
    assert made("unified-v2", {**UNIFIED, "source": "mine"}).source == "mine"
    assert refusal("unified-v2", {**UNIFIED, "conversation": UNIFIED["conversation"][:1]}) == "no_answer"
    assert refusal("unified-v2", {**UNIFIED, "conversation": []}) == "no_user_turn"
