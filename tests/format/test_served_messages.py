"""A client's raw messages in the exported chat template: the text that training makes of them, or a refusal."""

import json

import jinja2
import pytest

from xlam_jax.format import get_codec, normalise_tool
from xlam_jax.records.sources.conversation import record_from_messages

render = pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template
CODECS = [
    get_codec("xlam-json", "chatml", "brackets", thought=True),
    get_codec("hermes", "llama-3", "xlam-2"),
    get_codec("openai", "mistral-v3", "markdown"),
    get_codec("python-calls", "chatml", "brackets"),
]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "w", "description": "Weather.", "parameters": CITY}}]
ASK = {"role": "user", "content": "Weather in Oslo?"}


def said(content, *arguments, **more):
    calls = [{"id": f"c{a}", "function": {"name": "w", "arguments": {"city": a}}} for a in arguments]
    return {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {}), **more}


def result(city, content="3 C"):
    return {"role": "tool", "tool_call_id": f"c{city}", "content": content}


def served(codec, messages, tools):
    return render([messages], tools=tools, chat_template=codec.jinja())[0][0]


def trained(codec, messages, tools):
    known = tuple(map(normalise_tool, tools or ()))
    return codec.render(record_from_messages(messages, id="1", source="s", tools=known)).text


TALKS = {
    "words, then words": [ASK, said("I look."), said("It is 3 C.")],
    "words, then a call": [ASK, said("I look."), said(None, "Oslo"), result("Oslo"), said("3 C.")],
    "a call a message": [
        ASK, said(None, "Oslo"), said(None, "Rome"), result("Rome", "9"), result("Oslo"), said("Done."),
    ],
    "a call, then words": [ASK, said(None, "Oslo"), said("It is 3 C.")],
    "a call, then words and a call": [ASK, said(None, "Oslo"), said("And Rome.", "Rome"), result("Rome")],
    "thoughts of two messages": [
        ASK, said("I look.", reasoning_content="Hm."), said(None, "Oslo", reasoning="So."), result("Oslo"),
    ],
    "a greeting first": [said("Hello! How can I help?"), ASK, said("Which day?")],
    "a greeting behind the system": [{"role": "system", "content": "Be kind."}, said("Hello!"), ASK, said("Hm?")],
}  # fmt: skip


@pytest.mark.parametrize("tools", [TOOLS, None], ids=["tools", "no tools"])
@pytest.mark.parametrize("messages", TALKS.values(), ids=TALKS)
def test_messages_of_one_role_in_a_row_are_served_as_trained(messages, tools):
    for codec in CODECS:
        assert served(codec, messages, tools) == trained(codec, messages, tools)


def test_a_blank_message_adds_nothing_to_the_turn_it_is_part_of():
    turn = [said("I look."), said(None, "Oslo"), result("Oslo"), said("3 C.")]
    for codec in CODECS:
        blank = served(codec, [ASK, turn[0], said(" \n"), *turn[1:]], TOOLS)
        assert blank == trained(codec, [ASK, *turn], TOOLS)


ARGUMENTS = [
    '{"n": 1e5, "m": 1.50, "z": -0.0, "y": 1e-7, "b": 123456789012345678901, "l": [true,null,{}, -5]}',
    '{"city": "O\\u0073lo, 1e5: {x}", "n":100000000000000000000.0}',
    "{}",
    " ",
]


@pytest.mark.parametrize("text", ARGUMENTS)
@pytest.mark.parametrize("key", ["arguments", "parameters", "input", "Arguments"])
def test_arguments_as_text_are_served_as_trained(text, key):
    for function in (
        {"name": "w", key: text},
        {"name": "w", key: json.loads(text) if text.strip() else None},
    ):
        messages = [ASK, {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}]
        for codec in CODECS[:3]:
            assert served(codec, messages, TOOLS) == trained(codec, messages, TOOLS)


def with_call(**function):
    return [
        ASK,
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "w", **function}}]},
    ]


REFUSED = {
    "no JSON": with_call(arguments="{'city': 'Oslo'}"),
    "no number": with_call(arguments='{"a": NaN}'),
    "too large": with_call(arguments='{"a": 1e999}'),
    "a list": with_call(arguments=[]),
    "under an unknown key": with_call(payload={"city": "Oslo"}),
    "no name": [ASK, {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "w"}}]}],
    "calls before a user": [said(None, "Oslo"), ASK, said("3 C.")],
    "a system behind a greeting": [said("Hello!"), {"role": "system", "content": "Be kind."}, ASK],
    "nobody but a greeting": [said("Hello!")],
    "a result behind words": [ASK, said(None, "Oslo"), said("Wait."), result("Oslo"), said("3 C.")],
    "a result behind a user": [ASK, said(None, "Oslo"), {"role": "user", "content": "So?"}, result("Oslo")],
}


@pytest.mark.parametrize("messages", REFUSED.values(), ids=REFUSED)
def test_what_training_refuses_the_template_refuses(messages):
    for codec in CODECS:
        with pytest.raises(jinja2.TemplateError):
            served(codec, messages, TOOLS)


def test_steps_of_a_record_stay_turns_of_their_own():
    """A record may have two steps with nothing between them; its messages say so."""
    from xlam_jax.format import Record, Step, ToolCall

    steps = [
        Step("I look."),
        Step("", (ToolCall("w", {"city": "Oslo"}),)),
        Step("", (ToolCall("w", {}),)),
        Step("x"),
    ]
    record = Record("r", "q", tuple(map(normalise_tool, TOOLS)), tuple(steps))
    for codec in CODECS:
        messages, tools = codec.messages(record)
        assert served(codec, messages, tools) == codec.render(record).text
