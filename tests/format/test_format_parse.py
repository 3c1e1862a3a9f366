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
        "I cannot do that.",
        f"Sure: {ONE}",
        f"{ONE} is the call",
        ONE[:-1],
        ONE + ONE,
        "null",
        "3",
        '"[]"',
        "{}",
        '{"tool_calls": null}',
        '{"tool_calls": {}}',
        '{"tool_calls": [], "thought": 3}',
        '["f"]',
        "[null]",
        "[[]]",
        "[{}]",
        '[{"name": "f"}]',
        '[{"name": "", "arguments": {}}]',
        '[{"name": null, "arguments": {}}]',
        '[{"arguments": {}}]',
        '[{"name": "f", "arguments": []}]',
        '[{"name": "f", "arguments": null}]',
        '[{"name": "f", "arguments": ""}]',
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
        "\x00",
        "\ud800",
    ],
    ids=lambda text: text[:40],
)
def test_refuses(text):
    with pytest.raises(ParseError) as caught:
        CODEC.parse(text)
    assert isinstance(caught.value, XlamError)
    assert len(str(caught.value)) < 600, "an error is one screen"


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
