"""Rows of the two message interfaces beside chat completions: Anthropic's Messages, OpenAI's Responses."""

import pytest

from tests.records.source_cases import WEATHER, made, refusal
from xlam_jax.format.record import Step
from xlam_jax.format.values import ToolCall

SCHEMA = WEATHER.parameters


def text(words, **more):
    return {"type": "text", "text": words, **more}


def use(id, city):
    return {"type": "tool_use", "id": id, "name": "get_weather", "input": {"city": city}}


ANTHROPIC = {
    "id": "msg-1",
    "model": "claude",
    "system": [text("Be brief.", cache_control={"type": "ephemeral"})],
    "tools": [{"name": "get_weather", "description": "Weather now.", "input_schema": SCHEMA}],
    "messages": [
        {"role": "user", "content": "Oslo and Rome?"},
        {"role": "assistant", "content": [text("Two look-ups."), use("a", "Oslo"), use("b", "Rome")]},
        {
            "role": "user",
            "content": [
                # Results out of order, one of them a failure, and the user's next words in the same message.
                {"type": "tool_result", "tool_use_id": "b", "is_error": True, "content": "no such city"},
                {"type": "tool_result", "tool_use_id": "a", "content": [text("3 C")]},
                text("And Bergen?"),
            ],
        },
        {"role": "assistant", "content": [use("c", "Bergen")]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "5 C"}]},
    ],
    "response": {"role": "assistant", "content": [text("5 C in Bergen.")]},
}
STEPS = (
    Step(
        "Two look-ups.",
        (ToolCall("get_weather", {"city": "Oslo"}), ToolCall("get_weather", {"city": "Rome"})),
        ["3 C", {"error": "no such city"}],
        "And Bergen?",
    ),
    Step("", (ToolCall("get_weather", {"city": "Bergen"}),), "5 C"),
    Step("5 C in Bergen."),
)


def called(id, city):
    return {
        "type": "function_call",
        "call_id": id,
        "name": "get_weather",
        "arguments": f'{{"city": "{city}"}}',
    }


def gave(id, output):
    return {"type": "function_call_output", "call_id": id, "output": output}


def said(role, words):
    return {"type": "message", "role": role, "content": [{"type": f"{'out' if role == 'assistant' else 'in'}put_text",
                                                          "text": words}]}  # fmt: skip


RESPONSES = {
    "id": "resp-1",
    "instructions": "Be brief.",
    "tools": [
        {"type": "function", "name": "get_weather", "description": "Weather now.", "parameters": SCHEMA}
    ],
    "input": [
        {"role": "user", "content": "Oslo and Rome?"},
        said("assistant", "Two look-ups."),
        called("a", "Oslo"),
        called("b", "Rome"),
        gave("b", '{"error": "no such city"}'),
        gave("a", [{"type": "input_text", "text": "3 C"}]),
        said("user", "And Bergen?"),
        called("c", "Bergen"),
        gave("c", "5 C"),
    ],
    "output": [said("assistant", "5 C in Bergen.")],
}


@pytest.mark.parametrize(("source", "row"), [("anthropic", ANTHROPIC), ("openai-responses", RESPONSES)])
def test_a_whole_conversation(source, row):
    record = made(source, row)
    assert record.query == "Oslo and Rome?" and record.task_instruction == "Be brief."
    assert record.tools == (WEATHER,) and record.id == f"{source}-{row['id']}" and record.lineage == ()
    steps = list(record.steps)
    if source == "openai-responses":  # an output is text there
        steps[0] = Step(steps[0].thought, steps[0].tool_calls, STEPS[0].next_observation, steps[0].user_input)
        assert record.steps[0].next_observation == ["3 C", '{"error": "no such city"}']
    assert tuple(steps) == STEPS


def test_logs_of_requests_and_answers():
    request = {k: v for k, v in RESPONSES.items() if k not in ("output", "id")}
    logged = {"id": "resp-1", "request": request, "response": {"output": RESPONSES["output"]}}
    assert made("openai-responses", logged) == made("openai-responses", RESPONSES)
    request = {k: v for k, v in ANTHROPIC.items() if k not in ("response", "id")}
    logged = {"id": "msg-1", "request": request, "response": ANTHROPIC["response"]}
    assert made("anthropic", logged) == made("anthropic", ANTHROPIC)


def test_short_forms():
    record = made("openai-responses", {"input": "Hi", "output": [said("assistant", "Hello.")]})
    assert (record.query, record.steps) == ("Hi", (Step("Hello."),))
    refused = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert made("openai-responses", {"input": "Hi", "output": [refused]}).steps == (Step("No."),)
    record = made(
        "anthropic",
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
    )
    assert (record.query, record.steps) == ("Hi", (Step("Hello."),))


@pytest.mark.parametrize(
    ("source", "change", "code"),
    [
        ("anthropic", {"messages": "Hi"}, "bad_json"),
        ("anthropic", {"messages": [3]}, "bad_message"),
        ("anthropic", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "not_text"),
        ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "server_tool"),
        ("anthropic", {"response": {"content": [{"type": "server_tool_use"}]}}, "server_tool"),
        ("anthropic", {"response": {"content": [{"type": "tool_use", "input": {}}]}}, "bad_call"),
        ("anthropic", {"messages": ANTHROPIC["messages"][:2]}, "missing_result"),
        ("openai-responses", {"input": 3}, "bad_message"),
        ("openai-responses", {"input": [{"type": "web_search_call"}]}, "server_tool"),
        ("openai-responses", {"tools": [{"type": "file_search"}]}, "server_tool"),
        ("openai-responses", {"output": [{**called("z", "Oslo"), "arguments": "{"}]}, "bad_json"),
        ("openai-responses", {"input": "Hi", "output": []}, "no_answer"),
        ("openai-responses", {"input": [gave("z", "1")]}, "orphan_result"),
    ],
)
def test_refusals(source, change, code):
    row = {"anthropic": ANTHROPIC, "openai-responses": RESPONSES}[source]
    if code == "missing_result":  # a result for one of two calls
        half = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "3 C"}]}
        change = {"messages": [*change["messages"], half]}
    assert refusal(source, {**row, **change}) == code
