"""Tokenizer files, and the real tokenizers of the released families."""

import json
import random

import pytest
from tiny_hf import write_tokenizer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests import tiny
from tests.cases import long_but
from tests.real_tokenizers import MISTRAL, counted, mistral, package, smollm2
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Tool, ToolCall, get_codec
from xlam_jax.models.named import named_config
from xlam_jax.weights import save_hf
from xlam_jax.weights.sentencepiece_bpe import read_sentencepiece
from xlam_jax.weights.tokenizer_files import copy_tokenizer

RECORD = Record(
    id="r",
    query="What is the weather in Zürich, and 17 * 23? 漢字 😀",
    tools=(
        Tool(
            "get_weather",
            "Weather of a city.",
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        ),
    ),
    steps=(
        Step(tool_calls=(ToolCall("get_weather", {"city": "Zürich"}),), next_observation={"celsius": 3}),
        Step(tool_calls=(ToolCall("get_weather", {"city": "Genève"}),)),
    ),
)


def test_copy_is_readable_by_old_transformers_and_stays_the_same(tmp_path):
    write_tokenizer(tmp_path / "a")
    before = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    assert before["tokenizer_class"] == "TokenizersBackend"  # transformers 4 refuses this name
    for source, name in (("a", "b"), ("b", "c")):
        (tmp_path / name).mkdir()
        copy_tokenizer(tmp_path / source, tmp_path / name)
    after = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    assert after["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert after["chat_template"] == (tmp_path / "b" / "chat_template.jinja").read_text()
    for file in (tmp_path / "b").iterdir():
        assert file.read_bytes() == (tmp_path / "c" / file.name).read_bytes()
        assert file.stat().st_mode & 0o777 == 0o644
    loaded = AutoTokenizer.from_pretrained(str(tmp_path / "b"))
    assert loaded.eos_token == "<eos>"
    assert loaded.apply_chat_template([{"role": "user", "content": "w1"}], tokenize=False) == "w1<eos>"


def test_given_template_and_stop_token_reach_every_file(tmp_path):
    cfg = named_config("tiny-llama")
    write_tokenizer(tmp_path / "t")
    params = tiny.params(cfg)
    save_hf(params, cfg, tmp_path / "m", tokenizer=tmp_path / "t", chat_template="{{ 1 }}", stop="<eos>")
    assert AutoTokenizer.from_pretrained(str(tmp_path / "m")).chat_template == "{{ 1 }}"
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "m" / name).read_text())["eos_token_id"] == [18, 2]


@pytest.mark.parametrize("spelled", [str, lambda token: {"content": token, "special": True}])
def test_a_stop_token_of_its_own_is_the_one_that_all_files_name(spelled, tmp_path):
    """A base model that ends texts with one token and pads with what now ends an answer."""
    cfg = named_config("tiny-llama")
    write_tokenizer(tmp_path / "t", pad_token="w3")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = tmp_path / "t" / name
        found = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(found | {"eos_token": spelled("<eos>"), "pad_token": spelled("w3")}))
    save_hf(tiny.params(cfg), cfg, tmp_path / "m", tokenizer=tmp_path / "t", stop="w3")
    loaded = AutoTokenizer.from_pretrained(str(tmp_path / "m"))
    assert (loaded.eos_token, loaded.eos_token_id, loaded.pad_token) == ("w3", 3, "<eos>")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        assert json.loads((tmp_path / "m" / name).read_text())["eos_token"] == "w3"
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "m" / name).read_text())["eos_token_id"] == [3, 2]


def test_tokenizers_that_do_not_fit_are_refused(tmp_path):
    cfg = named_config("tiny-llama")
    params = tiny.params(cfg)
    write_tokenizer(tmp_path / "t")
    write_tokenizer(tmp_path / "large", size=cfg.vocab_size + 1)
    write_tokenizer(tmp_path / "full", size=cfg.vocab_size)
    (tmp_path / "none").mkdir()
    for folder, stop, word in (
        ("t", "<|EOT|>", "EOT"),
        ("large", None, "256"),
        ("none", None, "no tokenizer"),
    ):
        with pytest.raises(InputError, match=word):
            save_hf(params, cfg, tmp_path / "m", tokenizer=tmp_path / folder, stop=stop)
        assert not (tmp_path / "m").exists()
    save_hf(params, cfg, tmp_path / "m", tokenizer=tmp_path / "full")


def test_no_sentencepiece_model(tmp_path):
    (tmp_path / "m").write_bytes(b"\xff\xfe not a model")
    with pytest.raises(InputError, match="not a SentencePiece model"):
        read_sentencepiece(tmp_path / "m")
    with pytest.raises(InputError, match="not found"):
        read_sentencepiece(tmp_path / "nothing")


# -- real tokenizers from the package index --


def strings(count: int = 240) -> list[str]:
    fixed = [
        *(
            "Hello world",
            "  leading spaces",
            "trailing  ",
            " ",
            "",
            "\n",
            "  \n  x",
            "tabs\tand\nnewlines\n\n\r\n",
        ),
        *(
            "def f(x):\n    return x**2\n",
            "Ünïcödé ñ 漢字 かな 한국어",
            "😀👩\u200d👩\u200d👧 🏳️\u200d🌈 flag",
            "العربية",
        ),
        *(
            "\u00a0nbsp",
            "zero\u200bwidth",
            "e\u0301 combining",
            "ｆｕｌｌ　ｗｉｄｔｈ",
            "1234567890 3.14159 1e-5",
            "a" * 60,
        ),
        *("\x00\x01control", "▁underscore ▁▁", '[{"name": "get_weather", "arguments": {"city": "Paris"}}]'),
        *("<tool_call>", "[INST] x [/INST]", "<0x0A>"),
    ]
    rng = random.Random(0)
    alphabet = " \n\tabcXYZ0189{}[]\"':,_-é漢😀"
    return fixed + ["".join(rng.choices(alphabet, k=rng.randint(1, 60))) for _ in range(count - len(fixed))]


@pytest.mark.real
@pytest.mark.parametrize("version", MISTRAL)
def test_mistral_ids_equal_mistral_common(tmp_path, version):
    folder = mistral(version, tmp_path / "t")
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    file = package("mistral_common") / "data" / MISTRAL[version]
    reference = MistralTokenizer.from_file(str(file)).instruct_tokenizer.tokenizer
    ours = AutoTokenizer.from_pretrained(str(folder))
    for text in strings():
        # Text that spells a special token is data for the reference, a token for Hugging Face tokenizers.
        if any(t in text for t in ours.all_special_tokens) or (version == "v3" and "[INST]" in text):
            continue
        expected = reference.encode(text, bos=False, eos=False)
        # As the codec writes it: after a special token, with the space that SentencePiece would add.
        chat = ours(f"<s> {text}", add_special_tokens=False)["input_ids"]
        assert chat == [ours.bos_token_id, *expected] or not text, repr(text)
        if not text.startswith((" ", "▁")):  # Hugging Face adds no space where one stands
            assert ours(text, add_special_tokens=False)["input_ids"] == expected, repr(text)
        if "\x00" not in text and text:
            assert ours.decode(expected, clean_up_tokenization_spaces=False) == reference.decode(expected)
    assert ours("hi")["input_ids"] == reference.encode("hi", bos=True, eos=False)
    assert ours.pad_token_id not in (None, ours.eos_token_id)


DEEPSEEK = {"deepseek-coder-33b-base": 32256, "deepseek-coder-7b-base-v1.5": 102400}


@pytest.mark.real
@pytest.mark.parametrize("name", DEEPSEEK)
def test_deepseek_coder_loads_and_round_trips(tmp_path, name):
    source = counted(name, tmp_path / "source")
    (tmp_path / "copy").mkdir()
    copy_tokenizer(source, tmp_path / "copy")
    raw = Tokenizer.from_file(str(source / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(str(tmp_path / "copy"))
    assert len(loaded) < DEEPSEEK[name]  # released models pad their embeddings
    # The published tokenizer has thirteen letters as added tokens; its decoder takes them for bytes.
    lossy = {t.content for t in raw.get_added_tokens_decoder().values() if len(t.content) == 1}
    assert len(lossy) <= 13
    for text in strings():
        ids = loaded(text, add_special_tokens=False)["input_ids"]
        assert ids == raw.encode(text, add_special_tokens=False).ids
        decoded = loaded.decode(ids, clean_up_tokenization_spaces=False)
        assert decoded == raw.decode(ids, skip_special_tokens=False)
        assert decoded == text or lossy & set(text)


CHATS = {
    "smollm2": ("chatml", smollm2, ""),
    "deepseek-coder-33b-base": ("deepseek-coder", None, "<｜begin▁of▁sentence｜>"),
    "mistral-v1": ("mistral-v1", None, "<s>"),
    "mistral-v3": ("mistral-v3", None, "<s>"),
}


@pytest.mark.real
@pytest.mark.parametrize("name", long_but(["smollm2", "mistral-v1"], CHATS))
def test_codec_text_has_one_bos_and_a_single_stop_token(tmp_path, name):
    template, loader, bos = CHATS[name]
    if loader is None:
        loader = (
            (lambda f: mistral(name[-2:], f)) if name.startswith("mistral") else (lambda f: counted(name, f))
        )
    folder = loader(tmp_path / "t")
    codec = get_codec(template=template)
    (tmp_path / "copy").mkdir()
    copy_tokenizer(folder, tmp_path / "copy", chat_template=codec.jinja())
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "copy"))
    rendered = codec.render(RECORD)
    ids = tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
    assert codec.bos == bos
    if bos:
        assert tokenizer.bos_token == bos
        assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    stop = tokenizer(codec.stop, add_special_tokens=False)["input_ids"]
    stop = (
        stop[-1:] if template.startswith("mistral") else stop
    )  # SentencePiece may lead with its space piece
    assert len(stop) == 1 and tokenizer.convert_ids_to_tokens(stop) == [codec.stop]
    turns = sum(text.kind == "assistant" for text in rendered.spans)
    others = 0 if template != "chatml" else 3  # ChatML ends user and tool turns with the same token
    assert ids.count(stop[0]) in (turns, turns + others - 1, turns + others)
    messages, tools = codec.messages(RECORD)
    assert tokenizer.apply_chat_template(messages, tools=tools, tokenize=False) == rendered.text
