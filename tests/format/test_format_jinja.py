"""`tokenizer.apply_chat_template` of transformers writes, byte for byte, what the codec writes."""

import json
from dataclasses import replace

import pytest
from format_strategies import HOSTILE, records
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.format import (
    LAYOUTS,
    TEMPLATES,
    Record,
    Step,
    ToolCall,
    get_codec,
    legal_orders,
    normalise_tool,
)
from xlam_jax.format.tool_views import TOOL_VIEWS, ToolList

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    )


def applied(tokenizer, codec, record, *, prompt):
    """The text by transformers: of all steps, or of the prompt after them."""
    messages, tools = codec.messages(record)
    return tokenizer.apply_chat_template(
        messages,
        tools=tools,
        tokenize=False,
        chat_template=codec.jinja(),
        add_generation_prompt=prompt,
        **codec.template_kwargs(record),
    )


@st.composite
def codecs(draw):
    """Any template, layout and legal order; a format that knows plain replies, and one that does not."""
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    return get_codec(
        draw(st.sampled_from(["xlam-json", "json-array"])),
        template=draw(st.sampled_from(sorted(TEMPLATES))),
        layout=layout,
        thought=draw(st.booleans()),
        sections=draw(st.sampled_from(legal_orders(layout))),
    )


def plain(record):
    return replace(record, tools=(), format_instruction="")


@examples(150)
@given(codecs(), records | records.map(plain))
def test_equal_text(tokenizer, codec, record):
    assert applied(tokenizer, codec, record, prompt=False) == codec.render(record).text
    for k in range(len(record.steps) + 1):
        before = replace(record, steps=record.steps[:k])
        assert applied(tokenizer, codec, before, prompt=True) == codec.prompt(record, k)


TOOL = normalise_tool(
    {
        "name": "search.items",
        "description": "Finds <b>things</b> & 'more' \"stuff\" — 東京 🚲",
        "parameters": {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": {"type": "string"}},
                "keys": {"type": "object", "properties": {"get": {"type": "any"}}, "required": ["get"]},
                "values": {},
                "x": {"type": "number", "default": 1e-07, "enum": [1e-07, 1.0, 10000000000000000000000.0]},
            },
            "required": ["items"],
        },
    }
)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_the_hard_record(tokenizer, template, layout):
    record = Record(
        id="1",
        query="".join(HOSTILE),
        tools=(TOOL, normalise_tool({"name": "now"})),
        steps=(
            Step(
                "think <&>",
                (ToolCall("search.items", {"items": ["é", "\n"]}), ToolCall("now", {})),
                [{"a": 1}],
                "go",
            ),
            Step("", (), "", ""),
            Step("", (ToolCall("now", {}),), 0, "{{ 1 + 1 }}"),
        ),
        task_instruction="Do it, 'please' {% if %}",
        format_instruction='As "JSON" <only>\n',
        few_shot_examples=("Q: é", {"query": "q", "tool_calls": [{"name": "f", "arguments": {}}]}, ["a"]),
    )
    for thought in (True, False):
        for call_format in ("xlam-json", "json-array"):
            codec = get_codec(call_format, template, layout, thought)
            for shown in (record, plain(record)):
                assert applied(tokenizer, codec, shown, prompt=False) == codec.render(shown).text


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("view", sorted(TOOL_VIEWS))
def test_tool_views(tokenizer, view, ascii):
    codec = get_codec()
    codec = replace(codec, sections=replace(codec.sections, tools=ToolList(view, ascii=ascii)))
    record = Record("1", "q", (TOOL, normalise_tool({"name": "now"})), ())
    text = codec.prompt(record)
    assert applied(tokenizer, codec, record, prompt=True) == text
    assert ("東京" in text) != ascii


def test_openai_spellings_are_understood(tokenizer):
    """Arguments as JSON text, null content, and a conversation without tools: what servers send."""
    codec = get_codec()
    record = Record("1", "q", (), (Step("", (ToolCall("f", {"a": 1}),), "", ""),))
    messages, _ = codec.messages(record)
    messages[1]["content"] = None
    messages[1]["tool_calls"][0]["function"]["arguments"] = json.dumps({"a": 1})
    text = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=codec.jinja())
    assert text == codec.render(record).text


def test_saved_with_a_tokenizer_and_loaded_again(tokenizer, tmp_path):
    codec = get_codec(template="deepseek-coder")
    record = Record("1", "q é", (TOOL,), (Step("", (ToolCall("now", {}),)),))
    tokenizer.chat_template = codec.jinja()
    tokenizer.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages, tools = codec.messages(record)
    assert loaded.apply_chat_template(messages, tools=tools, tokenize=False) == codec.render(record).text
