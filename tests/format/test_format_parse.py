"""The parser: what it forgives, what it refuses, and that nothing but ParseError ever comes out."""

import contextlib

import pytest
from format_strategies import HOSTILE, calls, texts
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.errors import XlamError
from xlam_jax.format import Answer, ParseError, ToolCall, get_codec

CODEC = get_codec()
ONE = '{"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}'
F = ToolCall("f", {"a": 1})


def nested(opening, depth, closing=""):
    return '{"tool_calls": [{"name": "f", "arguments": {"a": ' + opening * depth + closing * depth + "}}]}"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (ONE, Answer("", (F,))),
        (ONE + "<|im_end|>", Answer("", (F,))),
        (f" \n{ONE}\n<|im_end|>\n<|im_start|>user\nmore", Answer("", (F,))),
        (f"```json\n{ONE}\n```", Answer("", (F,))),
        (f"```\n{ONE}\n```<|im_end|>", Answer("", (F,))),
        (f"```json {ONE}```", Answer("", (F,))),
        ('{"thought": "why", "tool_calls": []}', Answer("why", ())),
        ('{"thought": null, "tool_calls": []}', Answer("", ())),
        ('[{"name": "f", "arguments": {"a": 1}}]', Answer("", (F,))),
        ("[]", Answer("", ())),
        ("I cannot do that.", Answer("I cannot do that.", ())),
        ("null", Answer("null", ())),
        (f"Sure: {ONE}", Answer("Sure:", (F,))),
        (f"{ONE} is the call", Answer("is the call", (F,))),
        (f"{ONE}\nAnd then:\n```json\n{ONE}\n```\n Done.", Answer("And then:\nDone.", (F, F))),
        (ONE + ONE, Answer("", (F, F))),
        (f"<think>{ONE}?</think>\n{ONE}", Answer(f"<think>{ONE}?</think>", (F,))),
        (f"<think>{ONE}", Answer(f"<think>{ONE}", ())),
        ('\\{"a": 1}', Answer('{"a": 1}', ())),
        ('[{"name": "f", "arguments": "{\\"a\\": 1}"}]', Answer("", (F,))),
        ('[{"name": "f", "arguments": {"a": 2, "a": 1}, "id": "x"}]', Answer("", (F,))),
        (
            '[{"name": "f", "arguments": {"a": "<|im_end|>"}}]',
            Answer("", (ToolCall("f", {"a": "<|im_end|>"}),)),
        ),
        (
            '[{"name": "f", "arguments": {"a": ' + "9" * 4000 + "}}]",
            Answer("", (ToolCall("f", {"a": int("9" * 4000)}),)),
        ),
    ],
)
def test_accepts(text, answer):
    assert CODEC.parse(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "<|im_end|>",
        ONE[:-1],
        "{}",
        '{"tool_calls": null}',
        '{"tool_calls": {}}',
        '{"tool_calls": [], "thought": 3}',
        '["f"]',
        "[null]",
        "[[]]",
        "[{}]",
        '[{"name": "", "arguments": {}}]',
        '[{"name": null, "arguments": {}}]',
        '[{"arguments": {}}]',
        '[{"name": "f", "arguments": []}]',
        '[{"name": "f", "arguments": "[1]"}]',
        '[{"name": "f", "arguments": "{} <|im_end|>"}]',
        '[{"name": "f", "arguments": "\\"{}\\""}]',
        '[{"name": "f", "arguments": {"a": NaN}}]',
        '[{"name": "f", "arguments": {"a": -Infinity}}]',
        '[{"name": "f", "arguments": {"a": 1e400}}]',
        '[{"name": "f", "arguments": "{\\"a\\": 1e400}"}]',
        '[{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}]",
        '[{"name": "f", "arguments": {"a": "\\ud800"}}]',
        '[{"name": "f", "arguments": {"\ud800": 1}}]',
        '[{"name": "\\udfff", "arguments": {}}]',
        "[{'name': 'f', 'arguments': {}}]",
        nested("[", 70, "]"),
        nested("[", 100_000),
        nested('{"a": ', 100_000),
        "[" * 1_000_000,
        "```json\n```",
        "\ud800",
    ],
    ids=lambda text: text[:40],
)
def test_refuses(text):
    with pytest.raises(ParseError) as caught:
        CODEC.parse(text)
    assert isinstance(caught.value, XlamError)
    assert len(str(caught.value)) < 600, "an error is one screen"


BARE = {
    "xlam-json": ['{"tool_calls": [%s]}', "[%s]"],
    "json-array": ["[%s]"],
    "json-lines": ["%s"],
    "hermes": ["<tool_call>\n%s\n</tool_call>"],
    "mistral": ["[TOOL_CALLS][%s]"],
    "markdown": ["```json\n[%s]\n```"],
    "openai": [
        '{"content": null, "tool_calls": [{"type": "function", "function": %s}]}',
        '{"tool_calls": [%s]}',
    ],
}
OBJECTS = [
    '{"name": "now"' + a + "}"
    for a in ("", *(f', "arguments": {v}' for v in ("{}", "null", '""', '" "', '"{}"')))
]
NO_ARGUMENTS = [
    *((form, text % call) for form, texts in BARE.items() for text in texts for call in OBJECTS),
    *(("yaml", f"tool_calls:\n- name: now\n{rest}...") for rest in (
        "", "  arguments:\n", "  arguments: {}\n", "  arguments: null\n", '  arguments: ""\n')),
    *(("toml", f'[[tool_calls]]\nname = "now"\n{rest}# end') for rest in (
        "", "[tool_calls.arguments]\n", "arguments = {}\n", 'arguments = ""\n')),
    *(("xml-elements", f"<tool_calls>\n<tool_call>\n<name>now</name>{rest}</tool_call></tool_calls>") for rest in (
        "", "<arguments/>", "<arguments></arguments>")),
    *(("xml-attributes", f"<calls>{c}</calls>") for c in ('<call name="now"/>', '<call name="now"></call>')),
    *(("react", f"Action: now{rest}") for rest in (
        "\nAction Input: {}", "\nAction Input: null", '\nAction Input: ""', "\nAction Input:<|im_end|>",
        "<|im_end|>", "\nObservation: 12:00", "\nAction Input:\nObservation: 12:00")),
    ("python-calls", "now()"), ("python-list", "[now()]"), ("key-value", "call: now\nend"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text"), NO_ARGUMENTS)
def test_a_call_without_arguments_in_every_spelling(form, text):
    assert get_codec(form).parse(text) == Answer("", (ToolCall("now", {}),))


def char_by_char(codec, text):
    stream = codec.stream()
    for c in text:
        stream.feed(c)
    return stream.close()


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in BARE.items() for text in texts])
def test_arguments_under_any_key_are_read_and_under_an_unknown_one_refused(form, text):
    codec = get_codec(form)
    for key in ("arguments", "parameters", "args", "input", "Arguments", "kwargs"):
        whole = text % f'{{"name": "f", "{key}": {{"a": "x"}}}}'
        answer = codec.parse(whole)
        assert answer == char_by_char(codec, whole) and answer.tool_calls == (ToolCall("f", {"a": "x"}),), key
    with pytest.raises(ParseError, match="unknown key 'payload'"):
        codec.parse(text % '{"name": "f", "payload": {"a": "x"}}')


def test_several_calls_in_one_pair_of_tags():
    codec = get_codec("hermes")
    one, other = '{"name": "f", "arguments": {"a": "x"}}', '{"name": "g", "arguments": {}}'
    for gap in ("\n", "", " "):
        text = f"<tool_call>\n{one}{gap}{other}\n</tool_call>"
        answer = codec.parse(text)
        assert (
            answer == char_by_char(codec, text) == Answer("", (ToolCall("f", {"a": "x"}), ToolCall("g", {})))
        )
    with pytest.raises(ParseError, match="no name"):
        codec.parse(f'<tool_call>\n{one}\n{{"a": 1}}\n</tool_call>')


@pytest.mark.parametrize(
    "text", ["Action: no", "Action: now\n", "Action: now\nAction Input:", "Action: now\nAct"]
)
def test_a_call_cut_off_before_its_input_is_not_guessed(text):
    with pytest.raises(ParseError):
        get_codec("react").parse(text)


texts_near_json = st.lists(
    st.one_of(
        st.sampled_from(
            [*HOSTILE, "{", "}", "[", "]", '"', ":", ",", "null", "1e999", "-", "\\u", "\\ud800", "NaN"]
        ),
        st.sampled_from(['"tool_calls"', '"name"', '"arguments"', '"f"', "{}", "[]", "1"]),
        texts,
        st.characters(),
    ),
    max_size=12,
).map("".join)


@examples(200)
@given(texts_near_json, st.sampled_from(["chatml", "deepseek-coder", "plain"]))
def test_any_text_parses_or_raises_parse_error(text, template):
    with contextlib.suppress(ParseError):
        assert isinstance(get_codec(template=template).parse(text), Answer)


@examples(200)
@given(st.data(), st.lists(calls, min_size=1, max_size=2).map(tuple))
def test_mutated_answers_parse_or_raise_parse_error(data, made):
    text = get_codec(thought=True).render_calls(made, "x")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 5)))
        text = (
            text[:at]
            + data.draw(st.one_of(st.sampled_from(['"', "{", "}", "\\", "e9999", ""]), texts))
            + text[end:]
        )
    try:
        answer = CODEC.parse(text)
    except ParseError:
        return
    # Whatever was understood can be written and read again.
    assert CODEC.parse(CODEC.render_calls(answer.tool_calls)).tool_calls == answer.tool_calls
