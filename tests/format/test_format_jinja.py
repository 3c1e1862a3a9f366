"""`tokenizer.apply_chat_template` of transformers writes, byte for byte, what the codec writes."""

import itertools
import json
from dataclasses import replace

import pytest
from format_strategies import HOSTILE, records
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import long_but
from tests.examples import examples
from xlam_jax.format import (
    CALL_FORMATS,
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
from xlam_jax.records.sources.conversation import record_from_messages
from xlam_jax.records.sources.values import Refused

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


# Compiling the templates is what takes the time: each template and each layout in the quick suite, every pair in the
# long proofs.
PAIRS = [
    pytest.param(template, layout, marks=[] if (i - j) % 8 == 0 else pytest.mark.slow)
    for i, template in enumerate(sorted(TEMPLATES))
    for j, layout in enumerate(sorted(LAYOUTS))
]


@pytest.mark.parametrize(("template", "layout"), PAIRS)
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


PARAMETERS = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": []}
NOW = {"type": "function", "function": {"name": "now", "description": "d", "parameters": PARAMETERS}}
USER, ASKED = {"role": "user", "content": "Time?"}, {"role": "assistant", "content": "Which day?"}
FORMS = [
    ("chatml", "brackets", "hermes"),
    ("llama-3", "xlam-2", "json-array"),
    ("mistral-v3", "brackets", "yaml"),
]


def calling(*arguments, **function):
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": "now", "arguments": a, **function}}
        for i, a in enumerate(arguments)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def raw(tokenizer, codec, messages):
    return tokenizer.apply_chat_template(
        messages, tools=[NOW], tokenize=False, chat_template=codec.jinja(), add_generation_prompt=True
    )


@pytest.mark.parametrize(("template", "layout", "form"), FORMS)
def test_raw_messages_read_as_training_reads_them(tokenizer, template, layout, form):
    """What a client sends, and the record that the source of chat rows makes of the same messages."""
    codec = get_codec(form, template, layout)
    text = {"type": "text", "text": "a"}
    heads = [
        [{"role": "developer", "content": "Speak Dutch."}],
        [{"role": "system", "content": "Speak Dutch."}, {"role": "developer", "content": "Be brief."}],
        [
            {"role": "system", "content": [text, {"type": "text", "text": " b "}]},
            {"role": "system", "content": " "},
        ],
        [{"role": "system", "content": " \n"}],
        [],
    ]
    results = [
        ["3 C"],
        [[text, {"type": "text", "text": "b"}]],
        [{"celsius": 3}],
        [[1, 2]],
        [[]],
        [""],
        [None],
        ["x", {"a": "é"}],
        [[text], None, 0],
    ]
    for head in heads:
        for contents in results:
            made = calling(*({} for _ in contents))
            came = [{"role": "tool", "tool_call_id": f"c{i}", "content": c} for i, c in enumerate(contents)]
            after = [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "now?"}],
                }
            ]
            for order in (came, came[::-1]):
                messages = [*head, USER, made, *order, ASKED, *after]
                record = record_from_messages(
                    [*messages, ASKED], id="1", source="s", tools=(normalise_tool(NOW),)
                )
                assert raw(tokenizer, codec, messages) == codec.prompt(record, 2), (head, contents)


@pytest.mark.parametrize(("template", "layout", "form"), FORMS)
def test_what_training_refuses_is_refused(tokenizer, template, layout, form):
    late = {"role": "system", "content": "Be brief."}
    image = {"type": "image_url", "image_url": {"url": "x"}}
    result = {"role": "tool", "content": "1"}
    for messages, words in (
        ([USER, ASKED, late, USER], "head of a conversation"),
        ([USER, ASKED, {**late, "role": "developer"}, USER], "head of a conversation"),
        ([{"role": "user", "content": [image]}], "parts of text"),
        ([USER, {"role": "narrator", "content": "so"}], "narrator"),
        ([USER, calling({}, {}, {}), result, result], "2 results for 3 calls"),
        ([late], "needs a message of the user"),
    ):
        with pytest.raises(Exception, match=words):
            raw(tokenizer, get_codec(form, template, layout), messages)


@pytest.mark.parametrize(
    ("form", "thought"),
    long_but(
        [(f, i % 2 == 0) for i, f in enumerate(CALL_FORMATS)],
        [*itertools.product(CALL_FORMATS, (True, False))],
    ),
)
def test_reasoning_reads_as_training_reads_it(tokenizer, form, thought):
    codec = get_codec(form, thought=thought)
    for more in (
        {"reasoning_content": " Hm. "},
        {"reasoning": "Hm."},
        {"content": "<think>\nHm.\n</think>\n\n"},
        {"content": "Hm.\n</think>\n\n"},
        {"content": "<thinking>Hm.</thinking>"},
        {"content": "<think>Hm.</think>\n<think></think> <thinking>So.</thinking>\n"},
        {"reasoning_content": "Hm.", "content": "Hm.</think><think>So.</think>"},
        {"content": [{"type": "thinking", "thinking": "Hm."}]},
        {"content": [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": ""}]},
        {"thinking": "Hm."},
        {"reasoning_content": "Hm.", "content": "<think>Hm.</think>"},
        {"reasoning_content": "Hm.", "content": "<think>\nSo.\n</think>\n"},
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "refusal", "refusal": "I cannot."}]},
    ):
        said = more.get("content", "")
        words = [*said, {"type": "text", "text": "Noon."}] if isinstance(said, list) else said + "Noon."
        part = {"type": "text", "text": "12", "cache_control": {}}
        result = {"role": "tool", "tool_call_id": "c0", "content": [part]}
        messages = [USER, {**calling({}), **more}, result, {"role": "assistant", **more, "content": words}]
        record = record_from_messages(messages, id="1", source="s", tools=(normalise_tool(NOW),))
        text = codec.render(record).text
        assert (
            tokenizer.apply_chat_template(messages, tools=[NOW], tokenize=False, chat_template=codec.jinja())
            == text
        )
        assert "Noon." in text and ("Hm." in text) == thought


@pytest.mark.parametrize("form", CALL_FORMATS)
def test_calls_without_arguments_in_every_spelling(tokenizer, form):
    codec = get_codec(form)
    known = raw(tokenizer, codec, [USER, calling({}), ASKED])
    for arguments in ("", " ", None, "{}", "null"):
        assert raw(tokenizer, codec, [USER, calling(arguments), ASKED]) == known
    bare = calling({})
    del bare["tool_calls"][0]["function"]["arguments"]
    assert raw(tokenizer, codec, [USER, bare, ASKED]) == known


def test_saved_with_a_tokenizer_and_loaded_again(tokenizer, tmp_path):
    codec = get_codec(template="deepseek-coder")
    record = Record("1", "q é", (TOOL,), (Step("", (ToolCall("now", {}),)),))
    tokenizer.chat_template = codec.jinja()
    tokenizer.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages, tools = codec.messages(record)
    assert loaded.apply_chat_template(messages, tools=tools, tokenize=False) == codec.render(record).text


ARGUMENTS = [
    '{"zone":"a, b: {c}","n":[1,2.5,true,null],"o":{"é":"\\u00e9\\ud83d\\ude00"}}',
    '{ "zone" : "a \\"b\\" \\\\" ,\n "path":"C:\\\\u0041\\\\","tail":"\\\\\\"," }',
    '{"url":"http:\\/\\/x\\/y","line":"a\\nb\\tc","quote":"\\u0022\\u005c"}',
]


@pytest.mark.parametrize("form", ["hermes", "xlam-json", "openai", "react"])
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments_as_text_are_spelled_as_training_spells_them(tokenizer, form, arguments):
    codec = get_codec(form)
    known = raw(tokenizer, codec, [USER, calling(json.loads(arguments)), ASKED])
    assert raw(tokenizer, codec, [USER, calling(arguments), ASKED]) == known


def test_older_and_odd_messages_are_read_alike(tokenizer):
    codec = get_codec("hermes")
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": "{}"}}
    result = {"role": "function", "name": "now", "content": "12"}
    parts = [{"type": "input_text", "text": "And"}, {"type": "text", "text": "now?"}]
    for messages in (
        [USER, legacy, result, ASKED],
        [USER, {"role": "user", "content": "Now!"}, ASKED],
        [USER, ASKED, {"role": "user", "content": parts}, {"role": "user", "content": "Well?"}, ASKED],
        [USER, {"role": "assistant", "content": [{"type": "output_text", "text": "Noon."}]}],
    ):
        record = record_from_messages(messages, id="1", source="s", tools=(normalise_tool(NOW),))
        text = raw(tokenizer, codec, messages)
        assert text == codec.render(record).text + "<|im_start|>assistant\n"
    for arguments in ('{"zone": ', "[1]", [1], 5):
        with pytest.raises(Exception, match="the arguments of now are no"):
            raw(tokenizer, codec, [USER, calling(arguments), ASKED])


def test_parallel_results_stand_in_the_order_of_the_calls(tokenizer):
    """However they arrive; a result that belongs to no call, or is missing, is refused as training refuses it."""
    calls = (ToolCall("now", {"zone": "a"}), ToolCall("now", {"zone": "b"}), ToolCall("later", {}))
    came = ["1 h", {"h": 2}, 3]
    codec = get_codec("hermes")
    record = Record("r", "Time?", (normalise_tool(NOW),), (Step("", calls, list(came)), Step("So.", ())))
    messages, tools = codec.messages(record)
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool", "tool", "assistant"]
    results = messages[2:5]
    by_name = [{"role": "tool", "name": c.name, "content": v} for c, v in zip(calls, came, strict=True)]
    sent = [{**m, "content": text} for m, text in zip(by_name, ("1 h", '{"h": 2}', "3"), strict=True)]
    orders = [results, results[::-1], [results[i] for i in (1, 2, 0)], [by_name[i] for i in (2, 0, 1)]]
    orders.append(sent)  # the content of a client's message is a text, whatever the tool gave
    for order in orders:
        made = tokenizer.apply_chat_template(
            [*messages[:2], *order, messages[5]], tools=tools, tokenize=False, chat_template=codec.jinja()
        )
        assert made == codec.render(record).text
    stranger = {**results[1], "tool_call_id": "call_9"}
    for order, words in (
        ([results[0], stranger, results[2]], "no call waits for the result call_9"),
        ([results[0], results[0], results[2]], "no call waits for the result call_1_1"),
        (results[:1], "1 results for 3 calls"),
        ([by_name[0], by_name[2], by_name[2]], "no call waits for the result later"),
    ):
        with pytest.raises(Exception, match=words):
            raw(tokenizer, codec, [*messages[:2], *order])
        with pytest.raises(Refused):
            record_from_messages([*messages[:2], *order, ASKED], id="1", source="s", tools=record.tools)
