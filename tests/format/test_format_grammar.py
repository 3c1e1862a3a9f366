"""The grammar of answers, by llguidance: what `render_calls` writes passes, anything else is stopped."""

import json

import pytest
from accepting import accepts

from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, ToolCall, get_codec, normalise_tool

TOOLS = [
    normalise_tool(
        {
            "name": "area",
            "parameters": {
                "type": "dict",
                "properties": {
                    "sides": {"type": "tuple", "items": {"type": "float"}},
                    "unit": {"type": "string", "enum": ["m", "ft"], "default": "m"},
                    "box": {"type": "dict", "properties": {"w": {"type": "integer"}}, "required": ["w"]},
                    "free": {"type": "any"},
                },
                "required": ["sides"],
            },
        }
    ),
    normalise_tool({"name": "ping"}),
]
GOOD = [
    (ToolCall("area", {"sides": [1, 2.5]}),),
    (
        ToolCall("area", {"sides": [], "unit": "ft", "box": {"w": -3}, "free": {"é": [None]}}),
        ToolCall("ping", {}),
    ),
]
BAD = [
    (ToolCall("aera", {"sides": []}),),
    (ToolCall("area", {}),),
    (ToolCall("area", {"sides": ["1"]}),),
    (ToolCall("area", {"sides": [1], "unit": "km"}),),
    (ToolCall("area", {"sides": [1], "more": 1}),),
    (ToolCall("area", {"sides": [1], "box": {"w": 1.5}}),),
    (ToolCall("ping", {"a": 1}),),
    (),
]


@pytest.mark.parametrize("thought", [False, True])
def test_exactly_what_is_rendered(thought):
    codec = get_codec(thought=thought)
    grammar = codec.grammar(TOOLS)
    for calls in GOOD:
        text = codec.render_calls(calls, 'because "é"\n')
        assert accepts(grammar, text), text
        compact = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
        assert not accepts(grammar, compact)
    for calls in BAD:
        assert not accepts(grammar, codec.render_calls(calls)), calls


def test_no_call_when_none_is_demanded():
    codec = get_codec()
    assert accepts(codec.grammar(TOOLS, min_calls=0), codec.render_calls(()))
    twice = codec.render_calls([*GOOD[0], *GOOD[0]])
    assert accepts(codec.grammar(TOOLS), twice)
    assert not accepts(codec.grammar(TOOLS, max_calls=1), twice)
    assert accepts(codec.grammar([], min_calls=0), codec.render_calls(()))
    assert not accepts(codec.grammar([], min_calls=0), codec.render_calls(GOOD[0]))
    with pytest.raises(InputError):
        codec.grammar([])


def test_rendered_records_of_public_shape_pass():
    record = Record("1", "q", tuple(TOOLS), (Step(tool_calls=GOOD[0]),))
    codec = get_codec(template="mistral-v3")
    turn = next(s for s in codec.render(record).spans if s.kind == "content")
    assert accepts(codec.grammar(record.tools), codec.render(record).text[turn.start : turn.end])
