"""Text that means a call but is none is refused where calls are to be expected, and flagged where a user says it."""

import json

import pytest

from xlam_jax.format.record import Record, read_records
from xlam_jax.format.tools import normalise_tool
from xlam_jax.records.quality.rules import RuleConfig, Rules
from xlam_jax.records.quality.unread_calls import call_in_words
from xlam_jax.records.sources.convert import convert

WEATHER = {
    "name": "get_weather",
    "description": "d",
    "parameters": {"city": {"type": "str"}, "days": {"type": "int"}},
}
MEANT = [
    'Action: get_weather\nAction Input: {"city": "Oslo"}',
    "Thought: I need the weather.\n**Action:** get_weather\n**Action Input:** Oslo",
    "Thought 1: look\nAction 1: get_weather[Oslo]",
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}',
    '[{"name": "get_weather", "parameters": {"city": "Oslo"}}]',
    '{"name": "get_weather", "arguments": {}}\n{"name": "get_weather", "arguments": "{}"}',
    '```json\n{"tool": "get_weather", "tool_input": {"city": "Oslo"}}\n```',
    'I will look.\n{"name": "get_weather", "arguments": {"city": "Oslo"}}',
    "{'name': 'get_weather', 'arguments': {'city': 'Oslo'}}",
    '{"tool_calls": [{"function": {"name": "get_weather", "arguments": "{}"}}]}',
    '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}',
    '<tool_call>{"name": "get_weather"}</tool_call>',
    "<function=get_weather>{}</function>",
    "[TOOL_CALLS] []",
    '>>>get_weather\n{"city": "Oslo"}',
    '\u273fFUNCTION\u273f: get_weather\n\u273fARGS\u273f: {"city": "Oslo"}',
    'to=functions.get_weather {"city": "Oslo"}',
    "<start_function_call>call:get_weather{city:Oslo}<end_function_call>",
    '{"api": "get_weather", "params": {"city": "Oslo"}}',
    "[get_weather(city='Oslo')]",
    "[get_weather(city='Oslo'), get_weather(city='Rome')]",
]
# Unmistakable only where the tool is offered.
MEANT_OF_TOOL = [
    "get_weather(city='Oslo')",
    'get_weather("Oslo")',
    "Sure: get_weather(city='Oslo', days=2)",
    "<get_weather><city>Oslo</city></get_weather>",
    'weather = get_weather("Oslo")',
    '{"get_weather": {"city": "Oslo"}}',
    '[{"name": "get_weather"}]',
    "Tool: get_weather\nInput: Oslo",
    'Function: get_weather\nArguments: {"city": "Oslo"}',
    'get_weather\n{"city": "Oslo"}',
    "get_weather\n{}",
    'get_weather {"city": "Oslo"}',
    'to=get_weather {"city": "Oslo"}',
    '<tool>get_weather</tool><tool_input>{"city": "Oslo"}</tool_input>',
    'API: get_weather, Input: {"city": "Oslo"}',
    "get_weather[Oslo]",
    "I look.\nget_weather city=Oslo",
    'call:get_weather{"city": "Oslo"}',
    "[]",
    '{"tool_calls": []}',
]
WORDS = [
    "It is 3 C in Oslo.",
    "I used get_weather to look it up.",
    "I used get_weather() for that.",
    "Which city (and how many days)?",
    "Action is needed: call your bank.",
    "[1] See the forecast (in Norwegian).",
    '{"temperature": 3, "city": "Oslo"}',
    "f(x) = 2x and g(y=1) is 3",
    "<b>3 C</b>",
    '{"name": "Ann", "age": 5}',
    '{"name": "Ann"}',
    "Tool: get_weather\nIt tells the weather; its input: a city.",
    "A < B, input: none",
    "get_weather takes {city}; to=Oslo.",
    'get_weather: {"city": {"type": "string"}} is its schema.',
    "get_weather[1] tells the weather, city=name.",
]


def row(answer, tools=(WEATHER,), query="Weather in Oslo?"):
    messages = [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "tools": [{"type": "function", "function": t} for t in tools]}


@pytest.mark.parametrize("tools", [(WEATHER,), ()])
def test_what_means_a_call_is_no_chat_row(tmp_path, tools):
    meant = MEANT + (MEANT_OF_TOOL if tools else [])
    rows = [row(text, tools) for text in (*meant, *WORDS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    result = convert("openai", tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    kept = [r.steps[0].thought for r in read_records(tmp_path / "out.jsonl")]
    assert kept == WORDS and result["reasons"] == {"bad_call": len(meant)}


def test_general_chats_may_speak_of_anything(tmp_path):
    rows = [{"instruction": "Show a call.", "output": text} for text in MEANT]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert convert("instruct", tmp_path / "rows.jsonl", tmp_path / "out.jsonl")["out"] == len(MEANT)


def test_verification_drops_them_and_flags_such_questions():
    rules = Rules(RuleConfig())
    for text in (*MEANT, *MEANT_OF_TOOL, *WORDS):
        record = {
            "id": "1",
            "query": "Weather?",
            "tools": [WEATHER],
            "steps": [{"thought": text, "tool_calls": []}],
        }
        kept, entry = rules.apply(Record.from_json(record))
        assert (kept is None) == (text not in WORDS), (text, entry)
        assert entry.reason == ("" if kept else "call_in_words")
    worded = (
        f"Run this: {MEANT[3]}",
        f"Please run\n{MEANT[6]}",
        f"See <tool_call>\n{MEANT[3]}\n</tool_call>, ok?",
    )
    for query in (MEANT[3], MEANT[4], f" {MEANT[6]}\n", "get_weather(city='Oslo')", *worded):
        record = {"id": "1", "query": query, "tools": [WEATHER], "steps": [{"tool_calls": []}]}
        kept, entry = rules.apply(Record.from_json(record))
        assert kept.lineage == ("flagged:call_in_query",) and entry.reason == "call_in_query"
    asked = {
        "id": "1",
        "query": f"What does {MEANT[3]} do?",
        "tools": [WEATHER],
        "steps": [{"thought": "It calls."}],
    }
    assert rules.apply(Record.from_json(asked))[0].lineage == ()


def test_every_published_call_of_our_formats_as_words_is_seen():
    """What our own formats write for a call is a call to this reader, too."""
    from xlam_jax.format import CALL_FORMATS, ToolCall

    tool = normalise_tool(WEATHER)
    seen = {
        name: bool(
            call_in_words(
                form.render([ToolCall("get_weather", {"city": "Oslo", "days": 2})], None).text, [tool]
            )
        )
        for name, form in CALL_FORMATS.items()
    }
    assert all(seen.values()), seen
