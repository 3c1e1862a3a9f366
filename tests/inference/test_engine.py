"""The engine against transformers, and against itself in other batches."""

import dataclasses

import jsonschema
import numpy as np
import pytest
import tiny_decoders as tiny

from xlam_jax.errors import InputError
from xlam_jax.format import get_codec, normalise_tool
from xlam_jax.inference.batching import length_buckets
from xlam_jax.inference.engine import Engine

PROMPTS = [
    "<|im_start|>user\nWhat is the weather in Oslo?<|im_end|>\n<|im_start|>assistant\n",
    "short",
    "add 1.5 and [1, 2] " * 9,
    '{"tool_calls": [{"name": ',
    "tomorrow " * 4,
]


def engine(kind="llama", params=None, **kwargs):
    weights = tiny.params(kind) if params is None else params
    return Engine(weights, tiny.config(kind), tiny.tokenizer(), get_codec(), **{"max_len": 320, **kwargs})


@pytest.mark.parametrize("kind", ["llama", "linear", "mistral"])
def test_greedy_equals_transformers(kind):
    import torch

    ours = engine(kind, tiny.params_of_torch(kind), batch_size=4).generate(PROMPTS, max_new_tokens=20)
    for prompt, got in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([tiny.tokenizer()(prompt, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            want = (
                tiny.torch_model(kind)
                .generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=20,
                    do_sample=False,
                    eos_token_id=2,
                    pad_token_id=0,
                )[0, ids.shape[1] :]
                .tolist()
            )
        assert list(got.token_ids) == want
        assert got.finish_reason == ("stop" if want[-1] == 2 else "length")
        assert got.prompt_tokens == ids.shape[1]
        assert got.text == tiny.tokenizer().decode([t for t in want if t != 2])


def test_seeded_draws_do_not_depend_on_the_batch():
    how = {"max_new_tokens": 24, "temperature": 1.0, "top_p": 0.95, "seed": 5}
    wide, narrow = engine(batch_size=8), engine(batch_size=1)
    want = [g.token_ids for g in wide.generate(PROMPTS, **how)]
    assert [g.token_ids for g in narrow.generate(PROMPTS, **how)] == want
    assert [g.token_ids for g in wide.generate(PROMPTS[:2], **how)] == want[:2]
    assert [g.token_ids for g in wide.generate(PROMPTS, **{**how, "seed": 6})] != want
    repeated = wide.generate(["short"] * 4, **how)
    assert len({g.token_ids for g in repeated}) == 4


def test_more_prompts_than_rows_come_back_in_order():
    prompts = [f"{i} " * (1 + 7 * (i % 5)) for i in range(21)]
    alone = engine(batch_size=1).generate(prompts, max_new_tokens=9)
    together = engine(batch_size=8)
    seen = []
    got = together.generate(
        prompts, max_new_tokens=9, progress=lambda done, total: seen.append((done, total))
    )
    assert [g.token_ids for g in got] == [g.token_ids for g in alone]
    assert seen == [(i + 1, 21) for i in range(21)]
    assert together.stats.decode_tokens == sum(len(g.token_ids) - 1 for g in got)
    assert together.stats.prefill_tokens == sum(g.prompt_tokens for g in got)


def test_an_answer_ends_where_it_can_no_longer_become_one():
    """Against the codec's parser over every prefix: the same beginning, cut at the first hopeless token."""
    codec, prompts = get_codec(), [f"{i} " * (1 + 5 * (i % 4)) for i in range(12)]
    how = {"max_new_tokens": 30, "temperature": 1.0, "seed": 3}
    whole = engine(batch_size=4).generate(prompts, **how)
    for batch_size in (1, 8):
        for got, full in zip(
            engine(batch_size=batch_size).generate(prompts, until_broken=True, **how), whole, strict=True
        ):
            hopeless = [
                n
                for n in range(1, len(full.token_ids) + 1)
                if _is_hopeless(codec, tiny.tokenizer().decode(list(full.token_ids[:n])))
            ]
            if full.finish_reason == "stop" and hopeless[:1] == [len(full.token_ids)]:
                hopeless = []
            if not hopeless or hopeless[0] == 30:
                assert got.token_ids == full.token_ids and got.finish_reason == full.finish_reason
            else:
                assert got.token_ids == full.token_ids[: hopeless[0]]
                assert got.finish_reason == "broken"
    # A random model writes nonsense; a text that goes on being an answer is left alone.
    assert sum(g.finish_reason == "broken" for g in engine().generate(prompts, until_broken=True, **how)) > 6
    grammars = [codec.grammar([normalise_tool(t) for t in SCHEMA_TOOLS])] * 2
    for a, b in zip(
        engine().generate(prompts[:2], grammars=grammars, until_broken=True, **how),
        engine().generate(prompts[:2], grammars=grammars, **how),
        strict=True,
    ):
        assert a.token_ids == b.token_ids


def _is_hopeless(codec, text):
    stream = codec.stream(words=False)
    if not text.endswith("\ufffd"):
        stream.feed(text)
    return stream.broken


SCHEMA_TOOLS = [
    normalise_tool(
        {
            "name": "book",
            "description": "",
            "parameters": {
                "type": "object",
                "properties": {
                    "seats": {"type": "integer"},
                    "class": {"type": "string", "enum": ["economy", "first"]},
                    "window": {"type": "boolean"},
                },
                "required": ["seats", "class"],
            },
        }
    ),
    normalise_tool(
        {
            "name": "cancel",
            "description": "",
            "parameters": {"type": "object", "properties": {"all": {"type": "boolean"}}, "required": ["all"]},
        }
    ),
]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_constrained_text_of_a_random_model_parses_and_validates(temperature):
    codec = get_codec()
    by_name = {t.name: t.parameters for t in SCHEMA_TOOLS}
    grammar = codec.grammar(SCHEMA_TOOLS, 1, max_calls=2)  # a random model would go on calling
    free = engine(batch_size=4).generate(PROMPTS, max_new_tokens=30, temperature=temperature)
    got = engine(batch_size=4).generate(
        PROMPTS * 2,
        max_new_tokens=280,
        temperature=temperature,
        grammars=[grammar] * len(PROMPTS) + [None] * len(PROMPTS),
    )
    for generation in got[: len(PROMPTS)]:
        assert generation.finish_reason == "stop", generation.text
        answer = codec.parse(generation.text)
        assert 1 <= len(answer.tool_calls) <= 2
        for call in answer.tool_calls:
            jsonschema.validate(call.arguments, by_name[call.name])
        assert generation.text == codec.render_calls(answer.tool_calls)
    if temperature == 0.0:  # rows without a grammar are not touched by their neighbours' masks
        for generation, alone in zip(got[len(PROMPTS) :], free, strict=True):
            assert generation.token_ids[:30] == alone.token_ids


def test_budgets():
    e = engine(max_len=40)
    long, short = e.generate(["weather " * 40, "short"], max_new_tokens=500)
    assert (long.finish_reason, long.token_ids, long.text) == ("length", (), "")
    assert long.prompt_tokens > 40
    assert short.finish_reason == "stop" or short.prompt_tokens + len(short.token_ids) == 40


def test_wrong_inputs():
    with pytest.raises(InputError, match="empty prompt"):
        engine().generate(["fine", ""])
    with pytest.raises(InputError, match="2 prompts, but 1 grammars"):
        engine().generate(["a", "b"], grammars=[None])
    with pytest.raises(InputError, match="no token '</s>'"):
        Engine(tiny.params(), tiny.config(), tiny.tokenizer(), get_codec(template="mistral-v1"))
    assert "no grammar" in engine().grammar_error('answer: %json {"type": "nonsense"}')
    assert engine().grammar_error('answer: %json {"type": "string"}') == ""


def test_length_buckets_by_hand():
    assert length_buckets([3]) == [64]
    assert length_buckets([10, 70, 130]) == [64, 128, 192]
    # 64 x10, 128 x1, 192 x10, 256 x1: joining 128 to 192 and 192 to 256 costs 64 and 640.
    assert length_buckets([64] * 10 + [128] + [192] * 10 + [256]) == [64, 192, 256]


def test_generation_is_a_value():
    (got,) = engine().generate(["short"], max_new_tokens=3)
    assert dataclasses.is_dataclass(got) and got.seconds > 0
    assert np.asarray(got.token_ids).dtype.kind == "i"
