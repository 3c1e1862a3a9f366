"""glaive-function-calling-v2: transcripts, arguments in single quotes, broken turns."""

import json

import pytest

from tests.records.source_cases import WEATHER, WEATHER_JSON, made, refusal
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall

NEWS_JSON = {"name": "get_news", "description": "", "parameters": {"type": "object", "properties": {}}}
INTRO = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
SYSTEM = INTRO + json.dumps(WEATHER_JSON, indent=4) + "\n"


def test_a_whole_transcript():
    chat = (
        "USER: Weather in Oslo?\n\n\n"
        "ASSISTANT: Let me look. <functioncall> "
        '{"name": "get_weather", "arguments": \'{"city": "Oslo"}\'} <|endoftext|>\n\n\n'
        'FUNCTION RESPONSE: {"t": 3, "text": "cold:\n very"}\n\n\n'
        "ASSISTANT: It is 3 C.\nDress warmly. <|endoftext|>\n\n\n"
        "USER: Thanks! Which USER: am I?\n\n\n"
        "ASSISTANT: The first. <|endoftext|>\n\n\n"
    )
    got = made("glaive", {"system": SYSTEM, "chat": chat})
    assert got == Record(
        id=got.id,
        query="Weather in Oslo?",
        tools=(WEATHER,),
        steps=(
            Step(
                "Let me look.",
                (ToolCall("get_weather", {"city": "Oslo"}),),
                '{"t": 3, "text": "cold:\n very"}',
            ),
            Step("It is 3 C.\nDress warmly.", (), "", "Thanks! Which USER: am I?"),
            Step("The first."),
        ),
        source="glaive",
        license="Apache-2.0",
        lineage=("cut_native_prompt",),
    )


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("'{}'", {}),
        ("{}", {}),
        ('{"a": {"b": [1, null, true]}}', {"a": {"b": [1, None, True]}}),
        ('\'{"a": {"b": [1, -2.5]}, "c": "it\\\'s"}\'', {"a": {"b": [1, -2.5]}, "c": "it's"}),
        ('\'{"a": "it\'s {so}", "b": "\\n"}\'', {"a": "it's {so}", "b": "\n"}),
        ("'{\n  \"a\": 1\n}'", {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
    ],
)
def test_arguments_in_quotes_and_without(written, arguments):
    chat = f'USER: Go\n\n\nASSISTANT: <functioncall> {{"name": "f", "arguments": {written}}} <|endoftext|>'
    assert made("glaive", {"system": SYSTEM, "chat": chat}).steps[0].tool_calls == (ToolCall("f", arguments),)


def test_arguments_before_the_name_and_two_calls():
    chat = (
        'USER: Go\n\n\nASSISTANT: <functioncall> {"arguments": \'{"a": 1}\', "name": "f"}\n'
        '<functioncall> {"name": "g", "arguments": \'{"b": 2}\'} <|endoftext|>'
    )
    calls = (ToolCall("f", {"a": 1}), ToolCall("g", {"b": 2}))
    assert made("glaive", {"system": SYSTEM, "chat": chat}).steps == (Step("", calls),)


def test_several_tools_and_none():
    chat = "USER: Hi\n\n\nASSISTANT: Ho <|endoftext|>"
    two = made("glaive", {"system": SYSTEM + "\n" + json.dumps(NEWS_JSON), "chat": chat})
    news = Tool("get_news", "", {"type": "object", "properties": {}, "required": []})
    assert two.tools == (WEATHER, news)
    system = "SYSTEM: You are a helpful assistant, with no access to external functions."
    none = made("glaive", {"system": system, "chat": chat})
    assert (none.tools, none.lineage) == ((), ())
    assert none.task_instruction == "You are a helpful assistant, with no access to external functions."


def ask(answer):
    return f"USER: Hi\n\n\nASSISTANT: {answer}"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"system": SYSTEM, "chat": None}, "bad_message"),
        ({"system": 3, "chat": "USER: Hi"}, "bad_message"),
        ({"system": SYSTEM, "chat": ""}, "no_user_turn"),
        ({"system": SYSTEM, "chat": "Hello\nUSER: Hi"}, "bad_message"),
        ({"system": SYSTEM, "chat": "USER: Hi"}, "no_answer"),
        ({"system": SYSTEM, "chat": "USER: Hi\n\n\nFUNCTION RESPONSE: 3"}, "orphan_result"),
        ({"system": SYSTEM, "chat": ask("a <|endoftext|> b")}, "bad_message"),
        ({"system": SYSTEM, "chat": ask("<|endoftext|>")}, "empty_turn"),
        ({"system": INTRO + '{"name": "f", ', "chat": ask("Ho")}, "bad_tool"),
        ({"system": INTRO + '{"description": "f"}', "chat": ask("Ho")}, "bad_tool"),
        ({"system": SYSTEM + "{'name': 'f'}", "chat": ask("Ho")}, "bad_tool"),
        ({"system": SYSTEM, "chat": ask("<functioncall>")}, "bad_call"),
        ({"system": SYSTEM, "chat": ask('<functioncall> {"name": "f"')}, "bad_call"),
        (
            {"system": SYSTEM, "chat": ask('<functioncall> {"name": "f", "arguments": \'{"a": \'}')},
            "bad_call",
        ),
        ({"system": SYSTEM, "chat": ask("<functioncall> {\"arguments\": '{}'}")}, "bad_call"),
    ],
)
def test_refusals(row, code):
    assert refusal("glaive", row) == code
