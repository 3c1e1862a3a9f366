"""What the assistant says in words, from raw chats through augment and build: in every format, none is lost."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny_run
from xlam_jax.errors import InputError
from xlam_jax.format import CALL_FORMATS, get_codec, read_records, write_records
from xlam_jax.format.presets import PRESETS
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.run import augment_file
from xlam_jax.records.sources.convert import convert
from xlam_jax.shards.build import BuildConfig, CodecConfig, build
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.tokenize import load_tokenizer

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": text,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "name of the city"}},
                "required": ["city"],
            },
        },
    }
    for name, text in (("get_weather", "Weather of a city."), ("stock_price", "Latest price of a share."))
]
CALL = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
# Ask, answer, refuse, call: the four decisions of When2Call.
SAID = {
    "ask": "Which city do you mean?",
    "answer": "It is 3 C (cold) in Oslo.",
    "refuse": "I have no tool that books flights.",
}


def user(text):
    return {"role": "user", "content": text}


ROWS = {
    "ask": [user("How warm is it?"), {"role": "assistant", "content": SAID["ask"]}],
    "answer": [
        user("Weather in Oslo?"),
        {"role": "assistant", "content": "One look-up.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": "3 C"},
        {"role": "assistant", "content": SAID["answer"]},
    ],
    "refuse": [user("Book me a flight."), {"role": "assistant", "content": SAID["refuse"]}],
    "call": [user("Weather in Oslo?"), {"role": "assistant", "tool_calls": [CALL]}],
}
ONLY = dict.fromkeys(AugmentConfig().rates.model_dump(), 0.0)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    raw = folder / "raw.jsonl"
    raw.write_text(
        "".join(json.dumps({"id": k, "messages": m, "tools": TOOLS}) + "\n" for k, m in ROWS.items())
    )
    convert("openai", raw, folder / "in.jsonl")
    rows = [replace(r, id=r.id.removeprefix("openai-")) for r in read_records(folder / "in.jsonl")]
    write_records(folder / "in.jsonl", rows)
    return folder / "in.jsonl"


def varied(source, target, formats, **settings):
    """The rows in these call formats, each under an id that names its own."""
    rows = []
    for name in formats:
        config = AugmentConfig(
            keep_original=False, rates={**ONLY, "call_format": 1.0}, call_formats={name: 1.0}, **settings
        )
        augment_file(source, target, config)
        rows += [replace(r, id=f"{name}/{r.id.split('#')[0]}") for r in read_records(target)]
    write_records(target, rows)
    return rows


def trained(folder, tokenizer):
    """`(id, text of the trained tokens)` of every document of a data folder."""
    source, tokenizer = PackedSource(folder), load_tokenizer(tokenizer)
    for i in range(len(source)):
        row, ids = source[i]
        for segment, id in enumerate(ids, 1):
            here = (row.segment_ids == segment) & (row.loss_weights > 0)
            yield id, tokenizer.decode(row.targets[here].tolist(), skip_special_tokens=False)


@pytest.mark.parametrize("thought", [False, True])
def test_all_word_turns_survive_augment_and_build_in_every_format(
    converted, tokenizer_folder, tmp_path, thought
):
    rows = varied(converted, tmp_path / "varied.jsonl", CALL_FORMATS, thought=thought)
    config = BuildConfig(
        inputs=[str(tmp_path / "varied.jsonl")],
        tokenizer=str(tokenizer_folder),
        out=str(tmp_path / "out"),
        seq_len=1024,
        codec=CodecConfig(thought=thought),
    )
    manifest = build(config)
    assert manifest["yields"][0]["out"] == len(rows) == len(CALL_FORMATS) * len(ROWS)
    survived: Counter = Counter()
    for id, text in trained(config.out, tokenizer_folder):
        form, kind = id.split("/")
        *_, last = text.removesuffix("<|im_end|>").split("<|im_end|>")
        answer = get_codec(form, thought=thought).parse(last)
        if kind == "call":
            assert [c.name for c in answer.tool_calls] == ["get_weather"]
            continue
        assert (answer.thought, answer.tool_calls) == (SAID[kind], ()), (id, text)
        survived[form] += 1
    print({form: f"{100 * n / len(SAID):.0f} %" for form, n in survived.items()})
    assert survived == dict.fromkeys(CALL_FORMATS, len(SAID))


def test_an_augmented_instruction_asks_for_what_the_build_writes(converted, tokenizer_folder, tmp_path):
    """Augmented without thoughts, built with them, as a recipe's preset may be: the prompts ask for thoughts."""
    varied(converted, tmp_path / "varied.jsonl", CALL_FORMATS)
    for record in read_records(tmp_path / "varied.jsonl"):
        codec = get_codec(thought=True).styled(record.style)
        prompt = codec.prompt(record)
        asked = [t for form in CALL_FORMATS.values() for t in form.instructions(False) if t in prompt]
        assert not asked and any(t in prompt for t in codec.format.instructions(True))
        assert codec.template_kwargs(record)["format_instruction"] in codec.format.instructions(True)
    # The stage itself can be told.
    for record in varied(converted, tmp_path / "r.jsonl", ["yaml"], preset="xlam-1-r"):
        assert record.format_instruction in CALL_FORMATS["yaml"].instructions(True)
    with pytest.raises(InputError, match="no choice of thought"):
        make({"preset": "xlam-1-r", "thought": False})


def make(values):
    from xlam_jax.config import make_config

    return make_config(AugmentConfig, values, [], where="test")


def test_a_mix_that_contradicts_itself_is_refused_by_name(tokenizer_folder, tmp_path):
    rows = tiny_run.records(8)
    rows[3] = replace(rows[3], format_instruction=PRESETS["xlam-1-fc-r"].format_instruction)
    rows[5] = replace(rows[5], format_instruction=CALL_FORMATS["yaml"].instructions(True)[1])
    write_records(tmp_path / "in.jsonl", rows)
    config = BuildConfig(
        inputs=[str(tmp_path / "in.jsonl")], tokenizer=str(tokenizer_folder), out=str(tmp_path / "out"),
        seq_len=512, codec=CodecConfig(thought=True),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"of 2 rows asks for other answers than theirs: r3, r5"):
        build(config)
    entries = [json.loads(line) for line in Path(f"{config.out}.ledger.jsonl").read_text().splitlines()]
    said = {e["id"]: e["detail"] for e in entries if e["reason"] == "contradictory_instruction"}
    assert said["r3"] == "asks for xlam-json without a thought, is written as xlam-json with a thought"
    assert "yaml" in said["r5"] and not Path(config.out).exists()


def test_histories_are_a_document_a_step_and_count_as_one_record(converted, tmp_path):
    specials = ("<｜begin▁of▁sentence｜>", "<|EOT|>", "<|endoftext|>")
    tokenizer = tiny_run.make_tokenizer(tmp_path / "t", specials)
    config = BuildConfig(
        inputs=[str(converted)], tokenizer=str(tokenizer), out=str(tmp_path / "out"), seq_len=2048,
        codec=CodecConfig(preset="xlam-1-fc-r"),
    )  # fmt: skip
    manifest = build(config)
    assert manifest["yields"][0] == {
        "stage": "tokenise", "in": 4, "out": 4, "repaired": 1, "dropped": 0, "reasons": {}
    }  # fmt: skip
    assert manifest["repaired"] == {"thought_left_out": 1}  # the thought beside the call of "answer"
    texts = [text for id, text in trained(config.out, tokenizer) if id == "answer"]
    assert len(texts) == 2 and sum(SAID["answer"] in text for text in texts) == 1
    assert sum(bool(re.search(r'"name": "get_weather"', text)) for text in texts) == 1
    # One step too long: the others stay, and the ledger says which.
    config = config.model_copy(update={"out": str(tmp_path / "short")})
    lengths = [len(load_tokenizer(tokenizer)(t.text)["input_ids"])
               for r in read_records(converted) if r.id == "answer" for t in config.codec.make().texts(r)]  # fmt: skip
    short = build(config.model_copy(update={"seq_len": sum(lengths) // 2}))
    assert short["yields"][0]["repaired"] == 1
    entries = [json.loads(line) for line in Path(f"{config.out}.ledger.jsonl").read_text().splitlines()]
    (entry,) = [e for e in entries if e["verdict"] == "repaired"]
    assert entry["reason"] == "too_long" and entry["detail"].startswith("1 of 2 steps")


def test_a_step_of_weight_nothing_is_context(converted, tokenizer_folder, tmp_path):
    """A failed call and its recovery: the recovery alone is trained, and half weights are halves."""
    (record,) = [r for r in read_records(converted) if r.id == "answer"]
    for weight, wanted in ((0, 0.0), (0.5, 0.5)):
        steps = (replace(record.steps[0], weight=weight), record.steps[1])
        write_records(tmp_path / "in.jsonl", [replace(record, steps=steps)])
        config = BuildConfig(
            inputs=[str(tmp_path / "in.jsonl")], tokenizer=str(tokenizer_folder), out=str(tmp_path / "out"),
            seq_len=1024,
        )  # fmt: skip
        build(config)
        row, _ = PackedSource(config.out)[0]
        text = load_tokenizer(tokenizer_folder).decode(row.targets[row.loss_weights == 1].tolist())
        assert text.startswith(SAID["answer"]) and "get_weather" not in text
        assert set(row.loss_weights.tolist()) == {0.0, wanted, 1.0}
