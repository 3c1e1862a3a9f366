"""Likelihoods of given answers against transformers, one answer at a time."""

import numpy as np
import pytest
import tiny_decoders as tiny

from xlam_jax.errors import InputError
from xlam_jax.format import get_codec
from xlam_jax.inference.engine import Engine
from xlam_jax.inference.likelihood import answer_likelihoods

QUESTIONS = [
    (
        "What is the weather in Oslo?\n",
        ["It is cold.", '{"name": "get_weather"}', "Which day?<|im_end|>", "x"],
    ),
    ("add ", ["1 and 2"]),
    ("tomorrow " * 12, ["yes", "no " * 9]),
]


def theirs(kind, prompt, answer):
    import torch

    encode = lambda text: tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    ids, more = encode(prompt), encode(answer)
    with torch.no_grad():
        logits = tiny.torch_model(kind)(torch.tensor([ids + more])).logits[0].double()
    rows = torch.log_softmax(logits, dim=-1)[len(ids) - 1 : -1]
    return sum(rows[i, token].item() for i, token in enumerate(more)), len(more)


@pytest.mark.parametrize("kind", ["llama", "mistral"])  # the window of mistral is shorter than these rows
def test_each_answer_equals_transformers(kind):
    engine = Engine(
        tiny.params_of_torch(kind),
        tiny.config(kind),
        tiny.tokenizer(),
        get_codec(),
        max_len=320,
        batch_size=2,
    )
    seen = []
    found = answer_likelihoods(engine, QUESTIONS, progress=seen.append)
    for (prompt, answers), values in zip(QUESTIONS, found, strict=True):
        want = [theirs(kind, prompt, answer) for answer in answers]
        assert [value.tokens for value in values] == [n for _, n in want]
        np.testing.assert_allclose([value.logprob for value in values], [v for v, _ in want], rtol=2e-5)
    assert seen == sorted(seen) and seen[-1] == (3 if kind == "llama" else 7)


def test_what_does_not_fit_has_none_and_nothing_has_no_likelihood():
    engine = Engine(tiny.params(), tiny.config(), tiny.tokenizer(), get_codec(), max_len=40)
    assert answer_likelihoods(engine, [("tomorrow " * 40, ["yes"])]) == [None]
    for question in (("", ["yes"]), ("a", ["yes", ""])):
        with pytest.raises(InputError, match="empty"):
            answer_likelihoods(engine, [question])
