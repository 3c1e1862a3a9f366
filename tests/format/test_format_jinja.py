"""`tokenizer.apply_chat_template` of transformers writes, byte for byte, what the codec writes."""

import json

import pytest
from format_strategies import HOSTILE, records
from hypothesis import given, settings
from hypothesis import strategies as st

from xlam_jax.format import TEMPLATES, Record, Step, ToolCall, get_codec, normalise_tool

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


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TEMPLATES)), st.booleans(), records)
def test_equal_text(tokenizer, template, thought, record):
    codec = get_codec(template=template, thought=thought)
    assert applied(tokenizer, codec, record, prompt=False) == codec.render(record).text
    for k in range(len(record.steps) + 1):
        before = Record(**{**vars(record), "steps": record.steps[:k]})
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


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_the_hard_record(tokenizer, template):
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
    codec = get_codec(template=template, thought=True)
    assert applied(tokenizer, codec, record, prompt=False) == codec.render(record).text


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
