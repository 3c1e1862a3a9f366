"""The mask audit: under every template's own real tokenizer exactly the assistant's parts and the stop token
train, one BOS stands at the head, and what inference sends is the prefix of what training saw."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_run
from tests.cases import long_but
from tests.real_tokenizers import counted, llama3, mistral, smollm2
from xlam_jax.format.call_formats import CALL_FORMATS
from xlam_jax.format.codec import get_codec
from xlam_jax.format.layout import LAYOUTS
from xlam_jax.format.record import Record, Step, Tool, ToolCall
from xlam_jax.format.templates import TEMPLATES
from xlam_jax.shards.tokenize import (
    EncodeError,
    Encoder,
    check_tokenizer,
    encode,
    load_tokenizer,
    special_token_in,
    special_tokens,
)

# Vocabularies that hold each template's control tokens.
TOKENIZERS = {
    "chatml": ("smollm2", "qwen-2.5"),
    "deepseek-coder": ("deepseek-coder-33b-base", "deepseek-coder-7b-base-v1.5"),
    "mistral-v1": ("v1",),
    "mistral-v3": ("v3",),
    "llama-3": ("llama-3",),
    "plain": ("qwen-2.5",),
}
HOSTILE = (
    'Say "hi" \\ {"tool_calls": []} ```json [1, {',
    # No ö or ý: DeepSeek-Coder's published vocabulary encodes them well and decodes them wrongly.
    "žluť 東京 🚲\u2028 \t end ",
    "<tool_call> Action: x\nAction Input: {} [f(a=1)] key = 'v' 1e400",
)


def folder(name: str, root: Path) -> Path:
    """The tokenizer of that name as a folder; skips when its package is not installed."""
    if name == "smollm2":
        return smollm2(root)
    if name == "llama-3":
        return llama3(root)
    if name in ("v1", "v3"):
        return mistral(name, root)
    return counted(name, root)


def records() -> list[Record]:
    tool = Tool("say", "", {"type": "object", "properties": {"x": {}, "city": {}}, "required": []})
    hostile = [
        Record(
            f"h{i}",
            f"{text} now?",
            (tool,),
            (
                Step(text, (ToolCall("say", {"x": text}), ToolCall("say", {})), [text], text),
                Step("Done."),
            ),
        )
        for i, text in enumerate(HOSTILE)
    ]
    chats = [Record("c", "Hello?", (), (Step("Hi, 你好!", user_input="Bye"), Step("Bye\n")))]
    return [*tiny_run.records(6, seed=3), *hostile, *chats]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Real tokenizers by name, each made and loaded once."""
    return functools.cache(lambda name: load_tokenizer(folder(name, tmp_path_factory.mktemp(name) / "t")))


@pytest.mark.real
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["half", "whole"])
@pytest.mark.parametrize(
    ("template", "name"),
    long_but(
        [("chatml", "smollm2"), ("mistral-v1", "v1")],
        [(t, n) for t, names in TOKENIZERS.items() for n in names],
    ),
)
def test_exactly_the_assistants_parts_train(template, name, whole, loaded):
    """Every call format, each with and without a thought; in the quick half each with one of both, in turns."""
    tokenizer = loaded(name)
    specials = special_tokens(tokenizer)
    layouts = cycle(LAYOUTS)
    audited = 0
    for i, call_format in enumerate(CALL_FORMATS):
        for thought in (False, True) if whole else (i % 2 == 1,):
            codec = get_codec(call_format, template, next(layouts), thought)
            check_tokenizer(tokenizer, codec)
            rows = [r for r in records() if special_token_in(r, specials) is None]
            rendered = [codec.render(r) for r in rows]
            encoded = Encoder(tokenizer)([(r, codec, "") for r in rendered])
            for record, text, row in zip(rows, rendered, encoded, strict=True):
                assert not isinstance(row, EncodeError), (codec.name, record.id, row)
                audit(codec, tokenizer, record, text, row)
                audited += len(record.steps)
    print(f"{template} with {name}: {audited} turns")
    assert audited > (20 if whole else 10) * len(CALL_FORMATS)


def audit(codec, tokenizer, record, rendered, row):
    """Against plain tokenisation of the text, and decoding: neither knows spans, offsets or weights."""
    whole = tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
    assert row.ids.tolist() == whole
    stop = tokenizer.convert_tokens_to_ids(codec.stop)
    if codec.bos:
        bos = tokenizer.convert_tokens_to_ids(codec.bos)
        assert whole[0] == bos and whole.count(bos) == 1
    edges = np.flatnonzero(np.diff(row.weights, prepend=0, append=0)).reshape(-1, 2)
    assert len(edges) == len(record.steps) and set(row.weights.tolist()) <= {0.0, 1.0}
    for step, (start, end) in enumerate(edges):
        # What inference sends is the prefix, and what trains is what comes next, up to the stop token.
        prompt = codec.prompt(record, step)
        assert tokenizer(prompt, add_special_tokens=False)["input_ids"] == whole[:start]
        assert whole[end - 1] == stop and stop not in whole[start : end - 1]
        answer = decode(tokenizer, whole[:end]).removeprefix(decode(tokenizer, whole[:start]))
        written = rendered.text[len(prompt) :]
        assert written.startswith(answer) and answer.endswith(codec.stop)
        said = record.steps[step]
        plain = not record.tools and not said.tool_calls
        found = codec.parse(answer) if not plain else None
        if found:
            assert found.tool_calls == said.tool_calls
        else:
            assert answer.removesuffix(codec.stop).strip() == said.thought.strip()


def decode(tokenizer, ids) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("seed", range(40))
def test_broken_rows_are_refused_with_their_codes(seed, tokenizer_folder, tmp_path_factory):
    """Sound rows, each broken in every way there is; both ways of encoding name the same fault."""
    rng = random.Random(seed)
    record = tiny_run.records(40, seed=seed)[seed]
    tokenizer = load_tokenizer(tokenizer_folder)
    codec = get_codec()
    sound = codec.render(record)
    assert np.any(encode(sound, tokenizer).weights)
    turn = rng.choice([s for s in sound.spans if s.kind == "assistant"])
    stop = next(s for s in sound.spans if s.kind == "stop" and s.end == turn.end)

    def moved(span, **edges):
        changed = [replace(s, **edges) if s == span else s for s in sound.spans]
        return replace(sound, spans=tuple(changed))

    offsets = tokenizer(sound.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    wide = [a for a, b in offsets if turn.start < a and b < stop.start and b - a > 1]
    broken = {
        "no_label": replace(sound, spans=()),
        "no_stop_token": moved(turn, end=stop.start),
        "seam": moved(turn, start=rng.choice(wide) + 1),
        "double_bos": replace(
            sound,
            text=codec.chat.user[0][:12] + sound.text,
            spans=tuple(replace(s, start=s.start + 12, end=s.end + 12) for s in sound.spans),
        ),
    }
    assert broken["double_bos"].text.startswith("<|im_start|>" * 2)
    for code, case in broken.items():
        assert refusals(tokenizer, codec, case) == {code}
    needed = len(encode(sound, tokenizer).ids)
    assert refusals(tokenizer, codec, sound, max_len=needed // 2) == {"too_long"}
    spelt = replace(record, query=record.query + rng.choice(tiny_run.SPECIALS))
    assert special_token_in(record, tiny_run.SPECIALS) is None
    assert special_token_in(spelt, tiny_run.SPECIALS) in tiny_run.SPECIALS


def refusals(tokenizer, codec, case, max_len=None) -> set[str]:
    with pytest.raises(EncodeError) as one:
        encode(case, tokenizer, bos=codec.bos, max_len=max_len)
    (many,) = Encoder(tokenizer)([(case, codec, "")], max_len)
    return {one.value.code, many.code if isinstance(many, EncodeError) else ""}


def test_every_template_is_audited():
    assert set(TOKENIZERS) == set(TEMPLATES)
