"""What an answer says is what is trained: an absent one is no answer, thinking is a thought, a call is a call."""

import json

import pytest

from tests.records.commands import TOOL, converted

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
