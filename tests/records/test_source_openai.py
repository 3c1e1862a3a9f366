"""OpenAI chat messages: turns, results and their calls, and what is cut, refused, or noted."""

import json

import pytest

from tests.records.source_cases import WEATHER, WEATHER_JSON, made, refusal
from xlam_jax.format import get_codec
from xlam_jax.format.record import Record, Step
from xlam_jax.format.spellings import from_unified_v2, to_unified_v2
from xlam_jax.format.values import ToolCall
from xlam_jax.records.sources.convert import convert

TOOLS = [{"type": "function", "function": WEATHER_JSON}]
USER = {"role": "user", "content": "Weather in Oslo and Rome?"}
DONE = {"role": "assistant", "content": "Cold and warm."}


def calling(*calls, content=None):
    """An assistant message with calls `(id, city)`."""
    made_calls = [
        {
            "id": i,
            "type": "function",
            "function": {"name": "get_weather", "arguments": json.dumps({"city": c})},
        }
        for i, c in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": made_calls}


def result(id, content):
    return {"role": "tool", "tool_call_id": id, "content": content}


def row(*messages, **more):
    return {"id": "r1", "messages": list(messages), "tools": TOOLS, **more}


def weather(city):
    return ToolCall("get_weather", {"city": city})


def test_parallel_calls_find_their_results_by_id_in_any_order():
    got = made(
        "openai",
        row(
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Use metric units."},
            USER,
            calling(("a", "Oslo"), ("b", "Rome"), content="Two lookups."),
            result("b", "25 C"),
            result("a", "3 C"),
            DONE,
            {"role": "user", "content": "Thanks, and Bergen?"},
            calling(("c", "Bergen")),
            result("c", '{"t": 8}'),
            {"role": "assistant", "content": [{"type": "text", "text": "8"}, {"type": "text", "text": "C."}]},
        ),
    )
    assert got == Record(
        id="openai-r1",
        query="Weather in Oslo and Rome?",
        tools=(WEATHER,),
        steps=(
            Step("Two lookups.", (weather("Oslo"), weather("Rome")), ["3 C", "25 C"]),
            Step("Cold and warm.", (), "", "Thanks, and Bergen?"),
            Step("", (weather("Bergen"),), '{"t": 8}'),
            Step("8\nC."),
        ),
        task_instruction="Be brief.\n\nUse metric units.",
        source="openai",
    )


def test_legacy_functions_and_function_call():
    got = made(
        "openai",
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "get_weather", "arguments": "{}"},
                },
                {"role": "function", "name": "get_weather", "content": "sun"},
            ],
            "functions": [WEATHER_JSON],
        },
    )
    assert got.tools == (WEATHER,)
    assert got.steps == (Step("", (ToolCall("get_weather", {}),), "sun"),)
    assert got.id.startswith("openai-") and len(got.id) == len("openai-") + 16


def test_messages_of_a_role_in_a_row_are_one_turn_and_noted():
    got = made(
        "openai",
        row(
            USER,
            {"role": "user", "content": "Please."},
            {"role": "assistant", "content": "Let me look."},
            calling((None, "Oslo")),
            calling((None, "Rome")),
            {"role": "tool", "content": "3 C"},
            {"role": "tool", "content": "25 C"},
            DONE,
        ),
    )
    assert got.query == "Weather in Oslo and Rome?\nPlease."
    assert got.steps == (
        Step("Let me look.", (weather("Oslo"), weather("Rome")), ["3 C", "25 C"]),
        Step("Cold and warm."),
    )
    assert got.lineage == ("joined_turns",)


def test_words_after_calls_without_a_result_are_a_turn_of_their_own():
    got = made("openai", row(USER, calling(("a", "Oslo")), DONE))
    assert got.steps == (Step("", (weather("Oslo"),)), Step("Cold and warm."))
    assert got.lineage == ()


def test_one_result_for_all_calls_is_the_value_when_no_ids_tell():
    got = made(
        "openai", row(USER, calling((None, "Oslo"), (None, "Rome")), {"role": "tool", "content": [3, 25]})
    )
    assert got.steps[0].next_observation == [3, 25]


def test_results_find_their_calls_by_name():
    calls = [{"name": n, "arguments": {}} for n in ("f", "g")]
    results = [{"role": "tool", "name": n, "content": f"of {n}"} for n in ("g", "f")]
    got = made("openai", row(USER, {"role": "assistant", "tool_calls": calls}, *results))
    assert got.steps[0].next_observation == ["of f", "of g"]


@pytest.mark.parametrize(
    ("messages", "query", "steps", "note"),
    [
        (
            [{"role": "assistant", "content": "Hello!"}, USER, DONE],
            USER["content"],
            1,
            "cut_leading_assistant",
        ),
        ([USER, DONE, {"role": "user", "content": "Bye."}], USER["content"], 1, "cut_trailing_user"),
    ],
)
def test_what_is_left_out_is_noted(messages, query, steps, note):
    got = made("openai", row(*messages))
    assert (got.query, len(got.steps), got.lineage) == (query, steps, (note,))
    assert got.steps[-1] == Step("Cold and warm.")


@pytest.mark.parametrize(
    "reasoning",
    [
        {"reasoning_content": " Hm. "},
        {"reasoning": "Hm."},
        {"content": "<think>\nHm.\n</think>\n\n"},
        {"content": [{"type": "thinking", "thinking": "Hm."}]},
        {"content": [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": ""}]},
        {"thinking": "Hm."},
        {"reasoning_content": "Hm.", "content": "<think>Hm.</think>"},
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
    ],
)
def test_reasoning_becomes_the_thought(reasoning):
    """Before calls it is the thought; before a reply it stays apart from the words, in tags."""
    calls = {**calling(("a", "Oslo")), **reasoning}
    said = reasoning.get("content", "")
    words = [*said, {"type": "text", "text": "Cold."}] if isinstance(said, list) else said + "Cold."
    got = made(
        "openai", row(USER, calls, result("a", "3 C"), {"role": "assistant", **reasoning, "content": words})
    )
    assert got.steps[0].thought == "Hm." and got.lineage == ()
    assert "".join(got.steps[1].thought.split()) == "<think>Hm.</think>Cold."
    words = get_codec("hermes").render(got).text
    assert "Cold." in words and "Hm." not in words


def test_refusals_and_results_in_parts_are_read():
    parts = [{"type": "text", "text": "3 C", "cache_control": {"type": "ephemeral"}}]
    no = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    got = made("openai", row(USER, calling(("a", "Oslo")), result("a", parts), no))
    assert [s.next_observation for s in got.steps] == ["3 C", ""] and got.steps[1].thought == "I cannot."
    data = [{**parts[0], "id": 3}]
    assert (
        made("openai", row(USER, calling(("a", "Oslo")), result("a", data), DONE)).steps[0].next_observation
        == data
    )


def test_weights_of_turns_are_kept():
    got = made(
        "openai",
        row(USER, {**calling(("a", "Oslo")), "weight": 0}, result("a", "error"), {**DONE, "weight": 1}),
    )
    assert [step.weight for step in got.steps] == [0, 1]
    assert Record.from_json(got.to_json()) == got == from_unified_v2(to_unified_v2(got))
    spans = [s for s in get_codec().render(got).spans if s.kind == "assistant"]
    assert [s.weight for s in spans] == [0, 1]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ("no list", "bad_json"),
        ({"role": "user"}, "bad_message"),
        (["text"], "bad_message"),
        ([], "no_user_turn"),
        ([DONE], "no_user_turn"),
        ([calling(("a", "Oslo")), USER, DONE], "no_user_turn"),
        ([USER], "no_answer"),
        ([USER, {"role": "system", "content": "late"}, DONE], "late_system"),
        ([USER, {"role": "narrator", "content": "so"}], "unknown_role"),
        ([USER, result("a", "3 C"), DONE], "orphan_result"),
        ([USER, DONE, result("a", "3 C")], "orphan_result"),
        ([USER, calling(("a", "Oslo")), result("z", "3 C")], "orphan_result"),
        ([USER, calling(("a", "Oslo")), result("a", "3"), result("a", "4")], "orphan_result"),
        ([USER, calling(("a", "Oslo"), ("b", "Rome")), result("a", "3")], "missing_result"),
        ([USER, {"role": "assistant", "content": ""}], "empty_turn"),
        ([{"role": "user", "content": " "}, DONE], "empty_turn"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, DONE], "not_text"),
        ([USER, {**DONE, "weight": -1}], "bad_message"),
        ([USER, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}], "bad_call"),
        ([USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}], "bad_json"),
        ([USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}], "bad_call"),
    ],
)
def test_refusals(messages, code):
    assert refusal("openai", {"messages": messages, "tools": TOOLS}) == code


def test_bad_tools_are_refused():
    assert refusal("openai", row(USER, DONE, tools=[{"description": "no name"}])) == "bad_tool"
    other = {**WEATHER_JSON, "description": "Another."}
    assert refusal("openai", row(USER, DONE, tools=[WEATHER_JSON, other])) == "ambiguous_tool"


def test_a_refusal_may_quote_text_that_utf8_cannot_hold(tmp_path):
    lone = row(USER, calling(("a", "Oslo")), result("\ud800", "3 C"))
    (tmp_path / "in.jsonl").write_text(json.dumps(lone) + "\n")
    got = convert("openai", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert got["reasons"] == {"orphan_result": 1}
    assert "\\ud800" in json.loads((tmp_path / "out.jsonl.ledger.jsonl").read_text())["detail"]
