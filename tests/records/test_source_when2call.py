"""When2Call: fine-tuning rows, preference rows that become pairs, and test rows."""

import json

import pytest

from tests.records.source_cases import WEATHER, WEATHER_JSON, made, refusal
from xlam_jax.format.pair import Pair
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import ToolCall

TOOLS = [json.dumps(WEATHER_JSON)]
ASKED = {"role": "user", "content": "Weather in Oslo?"}
OSLO = ToolCall("get_weather", {"city": "Oslo"})
CALL = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
WHERE = "For which city?"


def assistant(content):
    return {"role": "assistant", "content": content}


def preference(chosen, rejected):
    return {
        "tools": TOOLS,
        "messages": [ASKED],
        "chosen_response": assistant(chosen),
        "rejected_response": assistant(rejected),
        "chosen_reward": 1.0,
        "rejected_reward": 0.0,
    }


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (f"<TOOLCALL>[{CALL}]</TOOLCALL>", Step("", (OSLO,))),
        (f"<TOOLCALL>[{json.dumps(CALL)}]</TOOLCALL>", Step("", (OSLO,))),
        (f"<TOOLCALL>[{CALL}, {CALL}]</TOOLCALL>", Step("", (OSLO, OSLO))),
        (f"On it. <TOOLCALL>{CALL}</TOOLCALL>", Step("On it.", (OSLO,))),
        (WHERE, Step(WHERE)),
    ],
)
def test_fine_tuning_rows(content, step):
    got = made("when2call", {"tools": TOOLS, "messages": [ASKED, assistant(content)]})
    assert got == Record(
        id=got.id,
        query="Weather in Oslo?",
        tools=(WEATHER,),
        steps=(step,),
        source="when2call",
        license="CC-BY-4.0",
    )


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (f"<TOOLCALL>[{CALL}]</TOOLCALL>", WHERE, "missing_call"),
        (WHERE, f"<TOOLCALL>[{CALL}]</TOOLCALL>", "unneeded_call"),
        (WHERE, "I cannot.", "wrong_reply"),
        (
            f"<TOOLCALL>[{CALL}]</TOOLCALL>",
            '<TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>',
            "wrong_call",
        ),
    ],
)
def test_preference_rows_become_pairs(chosen, rejected, reason):
    pair = made("when2call", preference(chosen, rejected))
    assert isinstance(pair, Pair) and pair.reason == reason
    good = made("when2call", {"tools": TOOLS, "messages": [ASKED, assistant(chosen)]})
    bad = made("when2call", {"tools": TOOLS, "messages": [ASKED, assistant(rejected)]})
    assert (pair.chosen.steps, pair.rejected) == (good.steps, bad.steps[0])
    assert Pair.from_json(json.loads(json.dumps(pair.to_json()))) == pair


@pytest.mark.parametrize(
    ("right", "step"),
    [
        ("tool_call", Step("", (OSLO,))),
        ("request_for_info", Step(WHERE)),
        ("cannot_answer", Step("I cannot.")),
    ],
)
def test_test_rows_take_the_right_answer(right, step):
    answers = {"tool_call": CALL, "request_for_info": WHERE, "cannot_answer": "I cannot.", "direct": "3 C."}
    row = {
        "uuid": "u-1",
        "question": ASKED["content"],
        "answers": answers,
        "correct_answer": right,
        "tools": TOOLS,
    }
    got = made("when2call", row)
    assert (got.id, got.query, got.tools, got.steps) == (
        "when2call-u-1",
        ASKED["content"],
        (WEATHER,),
        (step,),
    )


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"tools": TOOLS, "messages": [ASKED]}, "no_answer"),
        ({"tools": ["{"], "messages": [ASKED, assistant(WHERE)]}, "bad_json"),
        ({"tools": {"name": "f"}, "messages": [ASKED, assistant(WHERE)]}, "bad_tool"),
        ({"tools": TOOLS, "messages": "Hi"}, "bad_json"),
        ({"tools": TOOLS, "messages": None}, "bad_message"),
        ({"tools": TOOLS, "messages": [ASKED, assistant("<TOOLCALL>[{}")]}, "bad_call"),
        ({"tools": TOOLS, "messages": [ASKED, assistant("<TOOLCALL>[{}]</TOOLCALL>")]}, "bad_call"),
        (preference(WHERE, WHERE), "equal_pair"),
        ({**preference(WHERE, "x"), "rejected_response": None}, "bad_message"),
        ({**preference(WHERE, "x"), "rejected_response": {"role": "user", "content": "x"}}, "no_answer"),
        (
            {"question": "Hi", "answers": {"direct": "x"}, "correct_answer": "tool_call", "tools": []},
            "no_answer",
        ),
        ({"question": "Hi", "answers": "x", "correct_answer": "direct", "tools": []}, "bad_json"),
    ],
)
def test_refusals(row, code):
    assert refusal("when2call", row) == code
