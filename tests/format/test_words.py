"""Words of the assistant survive in every call format: plain words, words around calls, malformed neighbours."""

import json

import pytest
from accepting import accepts
from format_strategies import texts
from hypothesis import given
from hypothesis import strategies as st
from test_call_formats import MARKS, TOOLS, exact, streamed

from tests.examples import examples
from xlam_jax.format import (
    CALL_FORMATS,
    Answer,
    ParseError,
    Record,
    Step,
    ToolCall,
    get_codec,
    normalise_tool,
)

STOP = "<|im_end|>"
F, G = ToolCall("f", {"a": "x"}), ToolCall("g", {})
every = pytest.mark.parametrize("form", list(CALL_FORMATS.values()), ids=lambda f: f.name)
spoken = st.one_of(
    texts, st.lists(st.sampled_from([*MARKS, "Sure.", " (b) ", "\nSo: "]), max_size=5).map("".join)
)
spoken = spoken.filter(lambda t: t and STOP not in t)
REPLIES = [
    "Which city do you mean?",
    "I have no tool that fits (sorry).",
    "It is 3 C in Oslo.\n\n- dry\n- cold\n\n```json\n{\"celsius\": 3}\n```",
    "Call me (later).",
    "thought: none, calls: none",
    "passing on\npass\nno calls",
    '{"tool_calls": []} is what I do not say',
    "<tool_calls> and <calls> are tags",
    "\\ begins it",
    " ",
]  # fmt: skip


def say(form, words):
    return (form.words.write(words) if form.words else form.render((), words)).text


@every
@examples(60)
@given(words=spoken)
def test_plain_words_come_back_as_they_are(form, words):
    for text in (say(form, words), say(form, words) + STOP + "more"):
        assert form.parse(text, STOP) == Answer(words, ())
        fed, closed = streamed(form, text, list(range(1, len(text))))
        assert fed == [] and closed == Answer(words, ())


@every
def test_replies_in_every_format_are_what_training_and_serving_see(form):
    codec = get_codec(form.name)
    tool = normalise_tool({"name": "w", "description": "Weather"})
    for words in REPLIES:
        rendered = codec.render(Record("1", "q", (tool,), (Step(words),)))
        (content,) = [rendered.text[s.start : s.end] for s in rendered.spans if s.kind == "content"]
        assert codec.parse(content) == Answer(words, ()), content
        bare = content.startswith("\\") or accepts(codec.grammar(TOOLS, 0), content)
        assert bare or form.name in ("openai", "react") or words == " ", content
    # Words that no format could take for calls need no mark.
    bare = [f for f in CALL_FORMATS.values() if f.name not in ("openai", "react")]
    assert all(
        say(f, text) == text for f in bare for text in REPLIES[:3] if f is not CALL_FORMATS["markdown"]
    )


SHOWN = [
    *((form, f"Sure.{gap}{{}}") for form in CALL_FORMATS for gap in ("\n", "\n\n")),
    *((form, f"<think>I need{{}}{gap}</think>{gap}{{}}") for form in CALL_FORMATS for gap in ("", "\n")),
    *((form, "{}\nThat is all.") for form in CALL_FORMATS),
    *((form, "Sure.\n{}\nThat is all.") for form in CALL_FORMATS),
    *(
        (form, f"Sure.{lead}{gap}{{}}")
        for form in CALL_FORMATS
        for gap in ("", "\n")
        for lead in ("</think>", "[TOOL_CALLS]", "<|python_tag|>")
        if form != "mistral"
    ),
    *(
        (form, lead + "{}")
        for form in CALL_FORMATS
        for lead in ("</think>", "[TOOL_CALLS]", "<|python_tag|>")
        if form != "mistral"
    ),
]


@pytest.mark.parametrize(("form", "shape"), SHOWN)
def test_words_around_calls_lose_nothing_whole_or_in_chunks(form, shape):
    made = CALL_FORMATS[form]
    calls = made.render((F, G), None).text
    text = shape.format(*[calls] * shape.count("{}"))
    answer = made.parse(text, STOP)
    assert answer.tool_calls == (F, G), answer
    assert all(
        words in answer.thought for words in ("Sure.", "That is all.", "<think>I need") if words in text
    )
    for size in (1, 2, 3, 5, 8, len(text)):
        stream, fed, shown = made.stream(STOP), [], ""
        for i in range(0, len(text), size):
            fed += stream.feed(text[i : i + size])
            shown += stream.words()
        assert fed == [F, G]
        closed = stream.close()
        assert exact(closed) == exact(answer) and shown + stream.words() == answer.thought


ITEMS = [json.dumps({"name": c.name, "arguments": c.arguments}) for c in (F, G)]
BROKEN = [
    '{"name": "bad", "arguments": [1]}',
    '{"name": 5, "arguments": {}}',
    '{"arguments": {}}',
    '{"name": "x", }',
    '{"name": "bad", "arguments": {"q": 7}',
    '{"name": "bad", "arguments": {"q": [7}}',
]
MALFORMED = [
    *(
        (form, text.format(a=ITEMS[0], b=bad, c=ITEMS[1]))
        for bad in BROKEN
        for form, text in {
            "xlam-json": '{{"tool_calls": [{a}, {b}, {c}]}}',
            "json-array": "[{a}, {b}, {c}]",
            "json-lines": "{a}\n{b}\n{c}",
            "hermes": "<tool_call>\n{a}\n</tool_call>\n<tool_call>\n{b}\n</tool_call>\n<tool_call>\n{c}\n</tool_call>",
            "mistral": "[TOOL_CALLS][{a}, {b}, {c}]",
            "markdown": "```json\n[{a}, {b}, {c}]\n```",
            "openai": '{{"content": null, "tool_calls": [{a}, {b}, {c}]}}',
        }.items()
    ),
    ("yaml", 'tool_calls:\n- name: f\n  arguments:\n    a: "x"\n- name: bad\n  arguments: [1]\n- name: g\n'
     "  arguments: {}\n..."),
    ("toml", '[[tool_calls]]\nname = "f"\n[tool_calls.arguments]\na = "x"\n[[tool_calls]]\nname = "bad"\na = \n'
     '[[tool_calls]]\nname = "g"\n[tool_calls.arguments]\n# end'),
    ("key-value", 'call: f\n  a = "x"\nend\ncall: bad\n  a = x\nend\ncall: g\nend'),
    ("react", 'Action: f\nAction Input: {"a": "x"}\nAction: bad\nAction Input: [1]\nAction: g\nAction Input: {}'),
    ("react", 'Action: f\nAction Input: {"a": "x"}\nAction: bad\nAction Input: {"q": 1\nAction: g\nAction Input: {}'),
    ("react", 'Action: f\nAction Input: {"a": "x"}\nAction: bad\nAction Input: {"q": "1}\nAction: g\nAction Input: {}'),
    ("json-lines", f'{ITEMS[0]}\n{{"name": "bad", "arguments": {{"q": "7}}}}\n{ITEMS[1]}'),
    ("hermes", f'<tool_call>{ITEMS[0]}</tool_call>\n<tool_call>{{"name": "b, "arguments": {{}}}}</tool_call>\n'
     f'<tool_call>{ITEMS[1]}</tool_call>'),
    ("python-calls", "f(a='x')\nbad(1)\ng()"),
    ("python-calls", "f(a='x')\nbad(q=isn't)\ng()"),
    ("python-list", "[f(a='x'), bad(1), g()]"),
    ("python-list", "Sure: [f(a='x'), bad(q=So so), g()]"),
    ("xml-elements", "<tool_calls><tool_call><name>f</name><arguments><argument><name>a</name><value>x</value>"
     "</argument></arguments></tool_call><tool_call><nome>bad</nome></tool_call><tool_call><name>g</name>"
     "</tool_call></tool_calls>"),
    ("xml-attributes", '<calls><call name="f"><arg name="a" value="x"/></call>'
     '<call nome="bad"></call><call name="g"/></calls>'),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text"), MALFORMED)
def test_a_malformed_call_keeps_its_neighbours_or_is_named(form, text):
    codec = get_codec(form)
    assert codec.parse(text, strict=False).tool_calls == (F, G)
    stream = codec.stream(strict=False)
    assert [c for char in text + STOP for c in stream.feed(char)] == [F, G]
    with pytest.raises(ParseError, match="call 2 of"):
        codec.parse(text)
    # A text that breaks off keeps the calls that were whole.
    assert codec.parse(text[: len(text) * 3 // 4], strict=False).tool_calls[:1] == (F,)


OTHERWISE = [
    ("json-array", 'Sure:\n[\n  {\n    "name": "f",\n    "arguments": {"a": "x"}\n  },\n  {"name": "g"}\n]'),
    ("json-array", "Sure: [ {\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}, {\"name\": \"g\"} ]"),
    ("json-array", f"Sure: <tool_call>{ITEMS[0]}</tool_call> and\n<tool_call>[{ITEMS[1]}]</tool_call>"),
    ("json-array", f"Sure: [TOOL_CALLS] {ITEMS[0]}\n[TOOL_CALLS][{ITEMS[1]}]"),
    ("hermes", f"<tool_call>[{ITEMS[0]}, {ITEMS[1]}]</tool_call>"),
    ("mistral", f"[TOOL_CALLS]{ITEMS[0]}[TOOL_CALLS]{ITEMS[1]}"),
    ("mistral", 'Sure.[TOOL_CALLS]f{"a": "x"}[TOOL_CALLS]g[ARGS]{}'),
    ("json-lines", '{"name": "f", "parameters": {"a": "x"}}\n{"name": "g", "parameters": null}'),
    ("react", 'Action: f\nAction Input: "{\\"a\\": \\"x\\"}"\nNow the next.\nAction: g\nAction Input: None'),
    ("toml", '[[tool_calls]]\r\nname = "f"\r\n[tool_calls.arguments]\r\na = "x"\r\n'
     '[[tool_calls]]\r\nname = "g"\r\n# end'),
    ("python-list", "See [docs](x) and [f(x) = 2] first. [f(a='x'), g()]"),
    ("python-list", "[f(a='x')]\nand then\n[g()]"),
    ("xml-elements", "<tool_calls><tool_call><name>f</name><arguments><argument><name>a</name><value>x</value>"
     "</argument></arguments></tool_call><tool_call><name>g</name><arguments>null</arguments></tool_call></tool_calls>"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text"), OTHERWISE)
def test_calls_as_other_models_write_them(form, text):
    codec = get_codec(form)
    assert codec.parse(text).tool_calls == (F, G)
    stream = codec.stream()
    assert [c for char in text + STOP for c in stream.feed(char)] == [F, G]
    assert stream.close() == codec.parse(text)


@every
def test_a_scorer_takes_no_words_where_the_format_has_no_place_for_them(form):
    codec = get_codec(form.name)
    written = form.render((F, G), None).text
    for text in (written, f" \n{written} ", f"```\n{written}\n```"):
        assert codec.parse(text, words=False).tool_calls == (F, G)
    for text in (
        "I think so.",
        f"Sure.\n{written}",
        f"{written}\nI am done.",
        f"<think>Well.</think>{written}",
    ):
        assert codec.parse(text).thought or not form.words
        if form.words:
            stream = codec.stream(words=False)
            with pytest.raises(ParseError):
                codec.parse(text, words=False)
            stream.feed(text + codec.stop)
            assert stream.broken
