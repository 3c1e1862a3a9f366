"""Prose that looks like calls, as strangers' models write it: no word of it is lost, whole or streamed."""

import random

import pytest

from xlam_jax.format import CALL_FORMATS, ParseError, ToolCall, get_codec
from xlam_jax.format.delta_stream import DeltaStream

PROSE = [
    'The config you asked for:\n```json\n{"a": 1}\n```\nSave it as x.json.',
    "Like this:\n```json\n[1, 2, 3]\n```\nOk?",
    '```json\n{"a": 1}\n```',
    "```\n[1, 2]\n```\nis a list.",
    "[1, 2, 3] is the list.",
    "[x] done, [call me](http://a.b/c)",
    '{"a": 1}',
    '[{"a": 1}, {"b": 2}] are the rows.',
    '{"parameters": {"type": "object"}} is a schema.',
    '[{"input": "a.txt"}, {"arguments": 1}]',
    '```json\n{"input": "a.txt", "name": "x", "size": 3}\n```',
    'Here:\n{"name": "Bob", "age": 3}\nThat is Bob.',
    '{"name": "Bob", "age": 3}\nThat is Bob.',
    "Class Action: a film.\nAction: movie\nIt was released in 1999.",
    "Action: get_weather\nI think this is wrong.",
    "Action: what we need.",
    "Action:=\nmetool_calls",
    '```python\nprint("hi")\n```\nRun it.',
    'print("hi")\nRun it.',
    "# A title\n\nAnd a text.",
    "call: me later\nend",
    "call: me\nwhen you arrive",
    "no calls were made",
    "nullable types are fine",
    "- name your price\n- name it twice",
    "Use the <tool_call> tag, or [TOOL_CALLS] as a mark, to call.",
    "Use <b>bold</b> & <call> tags.",
    "\u200b```json```````json_o",
    "<think>{</think>[TOOL_CALLS]{}",
    "Use:\n```yaml\na: 1\n```\nok",
]
CALLS = (ToolCall("get_weather", {"city": "Oslo é", "n": [1, {}]}), ToolCall("ping", {}))


def sent(codec, text, size):
    """Words and calls that a server sends of a text in chunks of `size`."""
    stream = DeltaStream(codec.stream(strict=False))
    words = "".join(stream.feed(text[i : i + size])[0] for i in range(0, len(text), size))
    words += stream.close()[0]
    return words, [(call.name, call.arguments) for call in stream.calls]


def letters(text):
    """Without white space: words from two places stand on lines of their own."""
    return "".join(text.split())


@pytest.mark.parametrize("name", CALL_FORMATS)
@pytest.mark.parametrize("stopped", [False, True])
def test_what_is_no_call_stays_words(name, stopped):
    codec = get_codec(name)
    for text in PROSE:
        whole = text + codec.stop * stopped
        for size in (len(whole), 1, 2, 5):
            words, calls = sent(codec, whole, size)
            assert not calls and letters(words.removesuffix(codec.stop)) == letters(text), (text, size, words)
        try:
            answer = codec.parse(whole, strict=False)
        except ParseError:
            continue
        assert answer.tool_calls == () and letters(answer.thought) == letters(text)


@pytest.mark.parametrize("name", CALL_FORMATS)
def test_calls_behind_prose_that_looks_like_them_are_found(name):
    codec = get_codec(name)
    for text in (
        'The config:\n```json\n{"a": 1}\n```\nNow:\n',
        "Action: movie\nIt is old.\n",
        "call: me later\n",
    ):
        words, calls = sent(codec, text + codec.render_calls(CALLS), 1)
        assert [name for name, _ in calls] == ["get_weather", "ping"] and letters(words) == letters(text), (
            text
        )


@pytest.mark.parametrize("name", CALL_FORMATS)
def test_a_thought_of_several_lines_is_no_prose(name):
    codec = get_codec(name, thought=True)
    text = codec.render_calls(CALLS, "I look.\nAnd again.\nSo.")
    for form in (text, f"```\n{text}\n```"):
        assert codec.parse(form, strict=False).tool_calls == CALLS
        for size in (1, 5, len(form)):
            assert [call for call, _ in sent(codec, form, size)[1]] == ["get_weather", "ping"]


BITS = [
    *("Sure. ", "<", "<tool", "<tool_call>", "<think>", "</think>", "[", "[TOOL_CALLS]", "{", "```json\n", "```"),
    *("Action: ", "Action Input:", "Thought: ", "\nFinal Answer: ", "Observation:", " \n", "\r\n", "[]", "{}", "()"),
    *("name", "#", "call: ", "end", "pass", "null", "- name", "tool_calls", "<|im_end|>", "<|im", "\ud83d", "🌞", "\\"),
    *('{"name": "Bob", ', '"age": 3}', "f(a=1)", "[f(", '{"a": 1}', "s", ": ", "\u200b"),
]  # fmt: skip


@pytest.mark.parametrize("name", CALL_FORMATS)
def test_streamed_is_whole_for_prose(name):
    codec, rng = get_codec(name), random.Random(name)
    good = codec.render_calls(CALLS)
    for _ in range(250):
        parts = [rng.choice(BITS) for _ in range(rng.randint(1, 8))]
        if rng.random() < 0.3:
            parts.insert(rng.randint(0, len(parts)), good)
        text = "".join(parts)
        whole = sent(codec, text, len(text))
        for size in (1, 2, 5, 12):
            words, calls = sent(codec, text, size)
            words.encode()  # no half of a character
            if len(calls) == len(whole[1]):  # a malformed call in chunks is sent up to where it breaks
                assert (words, calls) == whole, (text, size)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("json-lines", '{"name": "Bob", "age": 3}'),
        ("key-value", "call: me later\nend"),
        ("react", "Action: f\nI think"),
    ],
)
def test_strictly_read_it_is_an_error(name, text):
    with pytest.raises(ParseError):
        get_codec(name).parse(text)
