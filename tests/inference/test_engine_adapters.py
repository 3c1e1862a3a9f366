"""Several adapters on one model: each answers as the model it was merged into."""

import jax
import numpy as np
import pytest
import tiny_decoders as tiny

from xlam_jax.errors import InputError
from xlam_jax.format import get_codec
from xlam_jax.inference.engine import Engine
from xlam_jax.models.lora import LoraConfig, attach, init_adapters, is_adapted, merge


def adapters(seed):
    lora = LoraConfig(rank=2, targets=("attention", "down_proj"))
    tree = init_adapters(tiny.config(), lora, jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x.replace(b=rng.normal(size=x.b.shape).astype(np.float32)), tree, is_leaf=is_adapted
    )


def test_an_engine_switches_between_adapters():
    trees = {"one": adapters(1), "two": adapters(2)}

    def engine(params, **options):
        return Engine(
            params, tiny.config(), tiny.tokenizer(), get_codec(), max_len=64, batch_size=1, **options
        )

    def answer(engine):
        return engine.generate(["short"], max_new_tokens=8)[0].token_ids

    whole = engine(tiny.params("llama"), adapters=trees)
    assert whole.adapters == ("one", "two")
    found = {}
    for name in ("one", None, "two", "one"):
        whole.use(name)
        found[name] = answer(whole)
    params = tiny.params("llama")
    expected = {n: answer(engine(merge(attach(params, t)))) for n, t in trees.items()}
    assert found == {**expected, None: answer(engine(params))}
    assert len(set(found.values())) == 3
    with pytest.raises(InputError, match="three"):
        whole.use("three")
