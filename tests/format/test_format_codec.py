"""The codec: what is rendered is parsed back, prompts are prefixes, and spans point at what was written."""

import json
from dataclasses import replace

import pytest
from format_strategies import HOSTILE, calls, records, texts
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.cases import case
from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import TEMPLATES, Answer, Record, Step, ToolCall, get_codec, normalise_tool

codecs = st.builds(get_codec, template=st.sampled_from(sorted(TEMPLATES)), thought=st.booleans())
ADD = normalise_tool(
    {
        "name": "add",
        "description": "Adds two numbers",
        "parameters": {
            "a": {"type": "int"},
            "b": {"type": "float, optional"},
            "c": {"type": "str", "default": "k"},
        },
    }
)
RECORD = Record(
    id="1",
    query='Sum 1 and "2"',
    tools=(ADD,),
    steps=(
        Step("I add.", (ToolCall("add", {"a": 1, "b": 2.0}),), {"sum": 3}, "Thanks, é"),
        Step("Done."),
    ),
)


@examples(80)
@given(codecs, st.lists(calls, max_size=3).map(tuple), texts, st.sampled_from(["", "\n", " \t"]))
def test_parse_inverts_render(codec, made, thought, space):
    text = codec.render_calls(made, thought)
    in_words = bool(thought) and not made and not codec.thought
    # Plain words have no quotes around them: where they spell the stop marker, a reader of text sees the end.
    assume(not (in_words and codec.stop in thought))
    wanted = Answer(thought if codec.thought or in_words else "", made)
    for written in (
        text,
        text + codec.chat.before_stop + codec.stop,
        text + codec.chat.before_stop + codec.stop + codec.chat.after + "another turn",
        # Around plain words whitespace and a fence are words.
        *([] if in_words else [space + text + space, f"```json\n{text}\n```"]),
    ):
        answer = codec.parse(written)
        assert answer == wanted
        # 1 == 1.0 == True in Python: the types must survive too.
        assert repr(answer) == repr(wanted)


@examples(80)
@given(codecs, records)
def test_prompts_are_prefixes_and_spans_point_at_what_was_written(codec, record):
    rendered = codec.render(record)
    turns = [s for s in rendered.spans if s.kind == "assistant"]
    assert [s.step for s in turns] == list(range(len(record.steps)))
    for k, (turn, step) in enumerate(zip(turns, record.steps, strict=True)):
        assert codec.prompt(record, k) == rendered.text[: turn.start]
        inner = [s for s in rendered.spans if s.step == k and s.kind != "assistant"]
        assert all(turn.start <= s.start <= s.end <= turn.end for s in inner)
        cut = {
            kind: [rendered.text[s.start : s.end] for s in inner if s.kind == kind]
            for kind in ("content", "stop", "thought", "name", "arguments")
        }
        assert cut["stop"] == [codec.stop]
        assert rendered.text[turn.start : turn.end].endswith(codec.stop)
        if not (record.tools or record.format_instruction or step.tool_calls):  # an ordinary chat's reply
            assert cut["content"] == cut["thought"] == [step.thought]
            continue
        assert cut["content"] == [codec.render_calls(step.tool_calls, step.thought)]
        assert [json.loads(f'"{name}"') for name in cut["name"]] == [c.name for c in step.tool_calls]
        assert cut["arguments"] == [json.dumps(c.arguments, ensure_ascii=False) for c in step.tool_calls]
        if not codec.thought and not step.tool_calls and step.thought:  # plain words
            assert cut["thought"] == [step.thought] and cut["content"][0].endswith(step.thought)
            continue
        assert [json.loads(f'"{t}"') for t in cut["thought"]] == ([step.thought] if codec.thought else [])
    assert codec.prompt(record, len(record.steps)).startswith(rendered.text)
    # What comes later never changes an earlier prompt.
    alone = Record(**{**vars(record), "steps": ()})
    assert codec.prompt(alone) == codec.prompt(record)


def test_chatml_text_to_the_letter():
    assert get_codec(thought=True).render(RECORD).text == (
        "<|im_start|>user\n"
        "[BEGIN OF TASK INSTRUCTION]\n"
        "Answer the query by calling the tools. Call none if no tool fits.\n"
        "[END OF TASK INSTRUCTION]\n"
        "\n"
        "[BEGIN OF AVAILABLE TOOLS]\n"
        '[{"name": "add", "description": "Adds two numbers", "parameters": {"a": {"type": "integer"}, '
        '"b": {"type": "number", "required": false}, "c": {"type": "string", "default": "k"}}}]\n'
        "[END OF AVAILABLE TOOLS]\n"
        "\n"
        "[BEGIN OF FORMAT INSTRUCTION]\n"
        'Reply with JSON: {"thought": "why", "tool_calls": [{"name": "tool", "arguments": {"key": value}}]}\n'
        "[END OF FORMAT INSTRUCTION]\n"
        "\n"
        "[BEGIN OF QUERY]\n"
        'Sum 1 and "2"\n'
        "[END OF QUERY]<|im_end|>\n"
        "<|im_start|>assistant\n"
        '{"thought": "I add.", "tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2.0}}]}<|im_end|>\n'
        "<|im_start|>tool\n"
        '{"sum": 3}<|im_end|>\n'
        "<|im_start|>user\n"
        "Thanks, é<|im_end|>\n"
        "<|im_start|>assistant\n"
        '{"thought": "Done.", "tool_calls": []}<|im_end|>\n'
    )


@pytest.mark.parametrize(
    ("template", "head", "tail"),
    [
        (
            "deepseek-coder",
            "<｜begin▁of▁sentence｜>You are an AI programming assistant, utilizing the Deepseek Coder model, "
            "developed by Deepseek Company, and you only answer questions related to computer science. For "
            "politically sensitive questions, security and privacy issues, and other non-computer science "
            "questions, you will refuse to answer\n### Instruction:\n[BEGIN OF TASK INSTRUCTION]\n",
            "[END OF QUERY]\n### Response:\n"
            '{"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2.0}}]}\n<|EOT|>\n'
            '### Instruction:\n[BEGIN OF OBSERVATION]\n{"sum": 3}\n[END OF OBSERVATION]\n'
            "### Instruction:\nThanks, é\n### Response:\nDone.\n<|EOT|>\n",
        ),
        (
            "mistral-v1",
            "<s> [INST] [BEGIN OF TASK INSTRUCTION]\n",
            '[END OF QUERY] [/INST] {"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2.0}}]}</s>'
            ' [INST] [BEGIN OF OBSERVATION]\n{"sum": 3}\n[END OF OBSERVATION] [/INST]'
            " [INST] Thanks, é [/INST] Done.</s>",
        ),
        (
            "mistral-v3",
            "<s>[INST] [BEGIN OF TASK INSTRUCTION]\n",
            '[END OF QUERY][/INST] {"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2.0}}]}</s>'
            '[INST] [BEGIN OF OBSERVATION]\n{"sum": 3}\n[END OF OBSERVATION][/INST][INST] Thanks, é[/INST] '
            "Done.</s>",
        ),
        (
            "plain",
            "User: [BEGIN OF TASK INSTRUCTION]\n",
            '[END OF QUERY]\nAssistant: {"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2.0}}]}'
            '<|endoftext|>\nTool: {"sum": 3}\nUser: Thanks, é\nAssistant: Done.<|endoftext|>\n',
        ),
    ],
)
def test_other_templates(template, head, tail):
    codec = get_codec(template=template)
    text = codec.render(RECORD).text
    assert text.startswith(head) and text.endswith(tail)
    assert text.startswith(codec.bos)
    assert not codec.prompt(RECORD).endswith(" "), "a trailing space tokenises unlike the trained text"


def test_empty_sections_leave_no_trace():
    bare = Record(id="1", query="Hi", tools=(), steps=(), format_instruction="Reply with JSON.")
    text = get_codec().prompt(bare)
    assert "AVAILABLE TOOLS" not in text and "FEW-SHOT" not in text and "\n\n\n" not in text
    shots = replace(bare, few_shot_examples=("a", {"b": "é"}))
    wanted = '[BEGIN OF FEW-SHOT EXAMPLES]\na\n{"b": "é"}\n[END OF FEW-SHOT EXAMPLES]'
    assert wanted in get_codec().prompt(shots)


@pytest.mark.parametrize("observation", [0, False, [], {}])
def test_falsy_observations_are_observations(observation):
    text = get_codec().render(Record("1", "q", (), (Step(next_observation=observation),))).text
    assert f"<|im_start|>tool\n{json.dumps(observation)}<|im_end|>" in text


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_marker_text_in_the_query_moves_no_span(template):
    codec = get_codec(template=template)
    for hostile in HOSTILE:
        with case(hostile):
            record = Record(
                **{**vars(RECORD), "query": hostile + codec.stop + codec.bos, "steps": (RECORD.steps[0],)}
            )
            rendered = codec.render(record)
            turn = next(s for s in rendered.spans if s.kind == "assistant")
            assert codec.prompt(record) == rendered.text[: turn.start]
            assert hostile in codec.prompt(record)
            assert codec.parse(rendered.text[turn.start :]).tool_calls == record.steps[0].tool_calls


def test_names_and_unknown_names():
    assert get_codec(thought=True).name == "xlam-json/chatml/brackets+thought"
    assert get_codec() is get_codec()
    for kwargs, near in (
        ({"template": "chatlm"}, "chatml"),
        ({"call_format": "xlam_json"}, "xlam-json"),
        ({"layout": "bracket"}, "brackets"),
        ({"template": "zzz"}, "mistral-v1"),
    ):
        with pytest.raises(InputError, match="unknown") as caught:
            get_codec(**kwargs)
        assert near in caught.value.hint


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "\ud800", {1, 2}, 10**5000], ids=lambda v: type(v).__name__
)
def test_unwritable_arguments_name_the_record(value):
    record = Record("r7", "q", (ADD,), (Step(tool_calls=(ToolCall("add", {"a": value}),)),))
    with pytest.raises(InputError) as caught:
        get_codec().render(record)
    assert caught.value.where == "record r7, step 1"


def test_prompt_beyond_the_steps_is_refused():
    for step in (-1, 3):
        with pytest.raises(InputError):
            get_codec().prompt(RECORD, step)


def test_default_instructions_stay_short():
    """Every prompt pays for them: about 25 tokens each, and a token is at least three characters here."""
    from xlam_jax.format import TASK_INSTRUCTION

    assert len(TASK_INSTRUCTION) <= 75
    assert len(get_codec().format.instructions(False)[0]) <= 85
