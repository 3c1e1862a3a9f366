"""ShareGPT rows and their kin: roles by many names, calls as JSON text, policies, Hermes' tags."""

import json

import pytest

from tests.records.source_cases import WEATHER, WEATHER_JSON, made, refusal
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall

TOOLS = json.dumps([WEATHER_JSON])
OSLO = ToolCall("get_weather", {"city": "Oslo"})
ROME = ToolCall("get_weather", {"city": "Rome"})


def call(city):
    return {"name": "get_weather", "arguments": {"city": city}}


def said(*turns):
    return [{"from": role, "value": value} for role, value in turns]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"loss": False}, {"train": False}])
def test_turns_that_are_not_to_be_learned_have_no_weight(mark):
    turns = said(
        ("human", "Weather?"),
        ("function_call", json.dumps(call("Oslo"))),
        ("observation", "error"),
        ("gpt", "Hm."),
    )
    turns = [{**turn, **mark} if turn["from"] == "function_call" else turn for turn in turns]
    got = made("sharegpt", {"conversations": turns, "tools": TOOLS})
    assert [step.weight for step in got.steps] == [0, 1] and got.steps[0].tool_calls == (OSLO,)


def test_messages_in_conversations_keep_calls_and_reasoning():
    turns = [
        {"role": "user", "content": "Weather in both?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": c, "type": "function", "function": call(c)} for c in ("Oslo", "Rome")],
        },
        {"role": "tool", "tool_call_id": "Rome", "content": "25"},
        {"role": "tool", "tool_call_id": "Oslo", "content": "3"},
        {"role": "assistant", "content": "3 and 25.", "reasoning_content": "Hm."},
    ]
    got = made("sharegpt", {"conversations": turns, "tools": TOOLS, "system": "Be brief."})
    assert got.steps[0] == Step(tool_calls=(OSLO, ROME), next_observation=["3", "25"])
    assert got.steps[1].thought == "<think>\nHm.\n</think>\n3 and 25."


def test_sharegpt_dialogue():
    got = made(
        "sharegpt",
        {
            "id": 7,
            "conversations": said(
                ("human", "Weather in Oslo?"),
                ("function_call", json.dumps(call("Oslo"))),
                ("observation", '{"t": 3}'),
                ("gpt", "3 C."),
                ("human", "And Rome, twice?"),
                ("function_call", json.dumps([call("Rome"), call("Rome")])),
                ("observation", "25"),
                ("observation", "26"),
                ("gpt", "25 to 26 C."),
            ),
            "system": "Be brief.",
            "tools": TOOLS,
        },
    )
    assert got == Record(
        id="sharegpt-7",
        query="Weather in Oslo?",
        tools=(WEATHER,),
        steps=(
            Step("", (OSLO,), '{"t": 3}'),
            Step("3 C.", (), "", "And Rome, twice?"),
            Step("", (ROME, ROME), ["25", "26"]),
            Step("25 to 26 C."),
        ),
        task_instruction="Be brief.",
        source="sharegpt",
    )


@pytest.mark.parametrize(
    ("asks", "answers", "calls", "observes"),
    [
        ("human", "gpt", "function_call", "observation"),
        ("user", "assistant", "tool_call", "tool"),
        ("User", "ChatGPT", "function-call", "function_response"),
    ],
)
def test_roles_by_other_names(asks, answers, calls, observes):
    turns = [("system", "Be brief."), (asks, "Hi"), (calls, call("Oslo")), (observes, "3"), (answers, "3 C.")]
    spoken = {"conversations": said(*turns), "tools": TOOLS}
    written = {"conversation": [{"role": r, "content": v} for r, v in turns], "tools": [WEATHER_JSON]}
    for native in (spoken, written):
        got = made("sharegpt", native)
        assert got.task_instruction == "Be brief." and got.tools == (WEATHER,)
        assert got.steps == (Step("", (OSLO,), "3"), Step("3 C."))


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"conversations": None}, "bad_message"),
        ({"conversations": ["Hi"]}, "bad_message"),
        ({"conversations": said(("narrator", "Once"))}, "unknown_role"),
        ({"conversations": said(("human", "Hi"))}, "no_answer"),
        ({"conversations": said(("gpt", "Hi"))}, "no_user_turn"),
        ({"conversations": said(("human", "Hi"), ("observation", "3"))}, "orphan_result"),
        ({"conversations": said(("human", "Hi"), ("function_call", "{'name'"))}, "bad_json"),
        ({"conversations": said(("human", "Hi"), ("function_call", "[]"))}, "empty_turn"),
        ({"conversations": said(("human", "Hi"), ("gpt", "Ho")), "tools": "[{"}, "bad_json"),
    ],
)
def test_sharegpt_refusals(row, code):
    assert refusal("sharegpt", row) == code


def test_apigen_mt_keeps_the_policy():
    got = made(
        "apigen-mt",
        {
            "conversations": said(
                ("human", "Cancel order #W1."),
                ("gpt", "Do you confirm?"),
                ("human", "Yes"),
                (
                    "function_call",
                    '{"name": "cancel", "arguments": {"order_id": "#W1", "items": [{"id": 1, "n": null}]}}',
                ),
                ("observation", "Error: not found"),
                ("gpt", "It does not exist."),
            ),
            "tools": '[{"name": "cancel", "parameters": {"type": "object", "properties": {}}}]',
            "system": "# Retail policy\nConfirm first.",
        },
    )
    assert got.task_instruction == "# Retail policy\nConfirm first."
    assert (got.source, got.license) == ("apigen-mt", "CC-BY-NC-4.0")
    assert got.tools == (Tool("cancel", "", {"type": "object", "properties": {}, "required": []}),)
    assert got.query == "Cancel order #W1."
    assert got.steps == (
        Step("Do you confirm?", (), "", "Yes"),
        Step(
            "",
            (ToolCall("cancel", {"order_id": "#W1", "items": [{"id": 1, "n": None}]}),),
            "Error: not found",
        ),
        Step("It does not exist."),
    )


HERMES_SYSTEM = (
    "You call functions. Signatures stand within <tools> </tools> tags.\n<tools>\n"
    + str([{"type": "function", "function": WEATHER_JSON}])
    + "\n</tools>\nWrite <tool_call>\n{'arguments': <args-dict>, 'name': <function-name>}\n</tool_call>"
)


def test_hermes_python_and_json_in_tags():
    got = made(
        "hermes",
        {
            "id": "abc",
            "conversations": said(
                ("system", HERMES_SYSTEM),
                ("human", "Oslo and Rome?"),
                (
                    "gpt",
                    "<scratch_pad>two</scratch_pad>\n"
                    "<tool_call>\n{'arguments': {'city': 'Oslo'}, 'name': 'get_weather'}\n</tool_call>\n"
                    '<tool_call>\n{"name": "get_weather", "arguments": '
                    '{"city": "Rome", "deep": {"a": [true, null]}}}\n'
                    "</tool_call>\n",
                ),
                (
                    "tool",
                    '<tool_response>\n{"name": "get_weather", "content": {"t": 3}}\n</tool_response>\n'
                    "<tool_response>\n{'t': 25}\n</tool_response>\n",
                ),
                ("gpt", "3 and 25 C."),
            ),
            "category": "Weather",
            "task": "Look it up",
        },
    )
    deep = ToolCall("get_weather", {"city": "Rome", "deep": {"a": [True, None]}})
    assert got == Record(
        id="hermes-abc",
        query="Oslo and Rome?",
        tools=(WEATHER,),
        steps=(
            Step("<scratch_pad>two</scratch_pad>", (OSLO, deep), [{"t": 3}, "{'t': 25}"]),
            Step("3 and 25 C."),
        ),
        source="hermes",
        license="Apache-2.0",
        lineage=("cut_native_prompt",),
    )


def test_hermes_field_tools_and_json_mode():
    plain = said(("system", "Answer in JSON: <schema>{}</schema>"), ("human", "Hi"), ("gpt", "{}"))
    got = made("hermes", {"conversations": plain})
    assert (got.task_instruction, got.tools, got.lineage) == ("Answer in JSON: <schema>{}</schema>", (), ())
    got = made("hermes", {"conversations": plain, "tools": TOOLS})
    assert got.tools == (WEATHER,)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<tool_call>{'name': 'f', 'arguments': {}}", "bad_call"),
        ("{'name': 'f', 'arguments': {}}</tool_call>", "bad_call"),
        ("<tool_call>{'name': 'f', 'arguments': {</tool_call>", "bad_call"),
        ("<tool_call>{'name': f(), 'arguments': {}}</tool_call>", "bad_call"),
        ("<tool_call>{'name': 'f', 'arguments': {1: 2}}</tool_call>", "bad_call"),
        ("<tool_call>{'name': 'f', 'arguments': {'a': 1e400}}</tool_call>", "bad_call"),
        ("<tool_call>{'name': 'f', 'arguments': {'a': {1, 2}}}</tool_call>", "bad_call"),
        ("<tool_call>{'arguments': {}}</tool_call>", "bad_call"),
        ("<tool_call>" + "[" * 5000 + "</tool_call>", "bad_call"),
        ("<tool_call></tool_call>", "bad_call"),
        (" ", "empty_turn"),
    ],
)
def test_hermes_refusals(text, code):
    row = {"conversations": said(("system", HERMES_SYSTEM), ("human", "Hi"), ("gpt", text))}
    assert refusal("hermes", row) == code


def test_hermes_refuses_broken_tools():
    system = "<tools>[{'name': 'f'</tools>"
    assert (
        refusal("hermes", {"conversations": said(("system", system), ("human", "Hi"), ("gpt", "Ho"))})
        == "bad_tool"
    )
