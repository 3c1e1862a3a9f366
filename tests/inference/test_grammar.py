"""What the grammar lets through is what the codec writes, and nothing else."""

import numpy as np
import pytest
import tiny_decoders as tiny

from xlam_jax.errors import InputError
from xlam_jax.format import ToolCall, get_codec, normalise_tool
from xlam_jax.inference.grammar import Grammars

STOP = 2
TOOLS = [
    normalise_tool(
        {
            "name": "geo.area",
            "description": "Area.",
            "parameters": {
                "type": "object",
                "properties": {
                    "sides": {"type": "array", "items": {"type": "number"}},
                    "unit": {"type": "string", "enum": ["m", "ft"]},
                    "note": {"type": "string"},
                },
                "required": ["sides"],
            },
        }
    ),
    normalise_tool(
        {
            "name": "ping",
            "description": "",
            "parameters": {"type": "object", "properties": {}, "required": []},
        }
    ),
]
CALLS = [
    [ToolCall("geo.area", {"sides": [1, 2.5]})],
    [ToolCall("geo.area", {"sides": [], "unit": "ft", "note": 'é "quoted"\n\u0001'}), ToolCall("ping", {})],
    [],
]


def grammars(around=("", "")):
    return Grammars(tiny.tokenizer(), tiny.config().vocab_size, STOP, around)


def allowed(g, matcher):
    mask = g.allocate(1)
    g.fill([matcher], mask)
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")))


def ids(text):
    return tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("around", [("", ""), (" ", "\n")])
@pytest.mark.parametrize("calls", CALLS)
def test_rendered_answers_pass_and_only_the_stop_token_follows(calls, around):
    g, codec = grammars(around), get_codec()
    matcher = g.matcher(codec.grammar(TOOLS, 0))
    tokens = ids(around[0] + codec.render_calls(calls) + around[1])
    for token in tokens:
        options = allowed(g, matcher)
        assert token in options and STOP not in options
        assert matcher.consume_token(token)
    assert allowed(g, matcher) == {STOP}


@pytest.mark.parametrize(
    "text",
    [
        '{"tool_calls":[]}',
        '{"tool_calls":  []}',
        '{"tool_calls": [{"name": "geo.area", "arguments": {}}]}',
        '{"tool_calls": [{"name": "geo.area", "arguments": {"sides": [1,2]}}]}',
        '{"tool_calls": [{"name": "geo.area", "arguments": {"sides": ["a"]}}]}',
        '{"tool_calls": [{"name": "geo.area", "arguments": {"sides": [], "unit": "km"}}]}',
        '{"tool_calls": [{"name": "ping", "arguments": {"x": 1}}]}',
        '{"tool_calls": [{"name": "pong", "arguments": {}}]}',
        '{"tool_calls": []} and more',
        "Sure!",
    ],
)
def test_other_texts_are_cut_off(text):
    matcher = grammars().matcher(get_codec().grammar(TOOLS, 0, words=False))
    tokens = ids(text)
    assert matcher.validate_tokens(tokens) < len(tokens)


def test_words_may_stand_in_place_of_a_call_but_no_broken_call_may():
    g, grammar = grammars(), get_codec().grammar(TOOLS, 0)
    for text, whole in (("Sure!", True), ('{"tool_calls": [{"name": "pong", "arguments": {}}]}', False)):
        tokens = ids(text)
        assert (g.matcher(grammar).validate_tokens(tokens) == len(tokens)) == whole


def test_a_call_can_be_demanded():
    tokens = ids('{"tool_calls": []}')
    assert grammars().matcher(get_codec().grammar(TOOLS, 1)).validate_tokens(tokens) < len(tokens)


def test_ids_beyond_the_tokenizer_are_never_allowed_and_none_allows_all():
    g = grammars()
    beyond = set(range(len(tiny.tokenizer()), tiny.config().vocab_size))
    matcher = g.matcher('answer: %json {"type": "string"}')
    matcher.consume_tokens(ids('"a'))
    options = allowed(g, matcher)
    assert len(options) > 200 and not options & beyond and STOP not in options
    assert beyond <= allowed(g, None)


def test_each_grammar_is_compiled_once_and_matchers_are_independent():
    g = grammars()
    first, second = (g.matcher(get_codec().grammar(TOOLS, 0)) for _ in range(2))
    assert g.compiled == 1
    first.consume_tokens(ids('{"tool'))
    assert second.validate_tokens(ids('{"tool_calls": []}')) == len(ids('{"tool_calls": []}'))
    g.matcher(get_codec().grammar(TOOLS, 1))
    assert g.compiled == 2


def test_bad_grammar_and_foreign_tokenizer_are_input_errors():
    with pytest.raises(InputError, match="no grammar"):
        grammars().matcher('answer: %json {"type": "nonsense"}')
    with pytest.raises(InputError, match="tokens, the model 100"):
        Grammars(tiny.tokenizer(), 100, STOP)
