"""What an answer says is what is trained: an absent one is no answer, thinking is a thought, a call is a call."""

import json

import pytest

from tests.records.commands import TOOL, converted, row
from xlam_jax.format import CALL_FORMATS, Record, Step, get_codec, normalise_tool

CALL = {"name": "search", "arguments": {"city": "Oslo"}}


def xlam(**answer):
    return {"id": 1, "query": "Find a hotel in Oslo", "tools": json.dumps([TOOL]), **answer}


@pytest.mark.parametrize("key", ["answers", "answer", "tool_calls"])
def test_only_an_empty_list_says_that_no_tool_fits(tmp_path, key):
    for given in ("[]", []):
        found, _ = converted(tmp_path, xlam(**{key: given}), source="xlam-60k")
        assert [r.steps[0].tool_calls for r in found.values()] == [()]
    for given in (None, "", "null"):
        assert converted(tmp_path, xlam(**{key: given}), source="xlam-60k") == ({}, ["no_answer"])
    assert converted(tmp_path, xlam(), source="xlam-60k") == ({}, ["no_answer"])
    for given in ([CALL], json.dumps([CALL])):
        found, _ = converted(tmp_path, xlam(**{key: given}), source="xlam-60k")
        assert [r.steps[0].tool_calls[0].arguments for r in found.values()] == [{"city": "Oslo"}]


def test_a_list_without_calls_is_no_word(tmp_path):
    talk = [{"from": "user", "value": "Find a hotel"}, {"from": "assistant", "value": "[]"}]
    one = {"system": f"Functions:\n{json.dumps([TOOL])}", "conversations": talk}
    assert converted(tmp_path, one, source="toolace") == ({}, ["empty_turn"])


def talk(*answers, tool=TOOL):
    """A call, its result, and words after it; `answers` are the content of both turns."""
    one = row("r", {"id": "c", "function": CALL}, tool)
    one["messages"][1]["content"] = answers[0]
    one["messages"] += [{"role": "tool", "tool_call_id": "c", "content": "3"}]
    one["messages"] += [{"role": "assistant", "content": answers[1]}]
    return one


@pytest.mark.parametrize(
    "written",
    [
        "Hm.\n</think>\n\n{}",
        "<thinking>Hm.</thinking>{}",
        "<think>Hm.</think>\n<thinking>\n</thinking>{}",
        "<think></think><think>Hm.</think>\n\n{}",
    ],
)
def test_thinking_is_a_thought_however_it_is_tagged(tmp_path, written):
    found, _ = converted(tmp_path, talk(written.format(""), written.format("It is 3.")))
    assert [s.thought for s in found["r"].steps] == ["Hm.", "<think>\nHm.\n</think>\nIt is 3."]
    native = Record("n", "q", (normalise_tool(TOOL),), (Step(written.format("It is 3.")),))
    for one in (found["r"], native):
        for form in CALL_FORMATS:
            assert "Hm." not in get_codec(form).render(one).text
            assert "</think" not in get_codec(form).render(one).text


def test_a_tag_that_words_speak_of_is_no_thinking(tmp_path):
    words = "Write <think>x</think> to think."
    found, _ = converted(tmp_path, talk(None, words))
    assert found["r"].steps[1].thought == words and words in get_codec("hermes").render(found["r"]).text


def test_thinking_may_name_the_tag_of_a_call(tmp_path):
    said = f"<think>\nI use <tool_call> here\n</think>\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
    turns = [{"from": "human", "value": "Find a hotel in Oslo"}, {"from": "gpt", "value": said}]
    found, refused = converted(
        tmp_path, {"tools": json.dumps([TOOL]), "conversations": turns}, source="hermes"
    )
    (step,) = next(iter(found.values())).steps
    assert refused == [] and step.thought == "I use <tool_call> here"
    assert step.tool_calls[0].arguments == {"city": "Oslo"}


@pytest.mark.parametrize("key", ["images", "image", "videos", "audios"])
def test_a_row_with_media_is_no_text(tmp_path, key):
    turns = [{"from": "human", "value": "<image>What is it?"}, {"from": "gpt", "value": "A cat."}]
    chat = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}]
    for source, one in (("sharegpt", {"conversations": turns}), ("openai", {"messages": chat})):
        assert converted(tmp_path, {**one, key: ["a.png"]}, source=source) == ({}, ["not_text"])
        for nothing in (None, []):
            assert converted(tmp_path, {**one, key: nothing}, source=source)[1] == []
