"""Cached decoding is the full forward pass, position by position."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_decoders as tiny

from tests.cases import long_but
from xlam_jax.inference.decode import decode, new_cache, pad_prompts, prefill, take_rows
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.params import unstack

LENGTHS = [1, 7, 4, 12]
TOTAL = 20
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def full_logits(kind, tokens):
    cfg, params = tiny.config(kind), tiny.params(kind)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = forward(params, jnp.asarray(tokens), positions, jnp.ones_like(positions), cfg)
    return np.asarray(logits(params, hidden, cfg))


def sequences(kind):
    rng = np.random.default_rng(0)
    return rng.integers(0, tiny.config(kind).vocab_size, (len(LENGTHS), TOTAL)).astype(np.int32)


FAMILIES = ["qwen2", "qwen3", "llama3", "mixtral", "qwen3-moe", "deepseek-v2", "deepseek-v3"]
KINDS = ["llama", "linear", "mistral", "tied", *FAMILIES]


@pytest.mark.parametrize("kind", long_but(("mistral", "tied", "mixtral", "deepseek-v3"), KINDS))
def test_every_position_equals_forward_for_rows_of_different_lengths(kind):
    cfg, params, tokens = tiny.config(kind), unstack(tiny.params(kind)), sequences(kind)
    want = full_logits(kind, tokens)
    cache = new_cache(cfg, 4, 24)
    padded, lengths = pad_prompts([list(t[:n]) for t, n in zip(tokens, LENGTHS, strict=True)], 4, 16)
    padded[:, :] = np.where(np.arange(16) < lengths[:, None], padded, 99)  # padding may be anything
    rows = np.asarray([2, 0, 3, 1], np.int32)
    got, cache = prefill(params, cache, padded, lengths, rows, cfg)
    for i, n in enumerate(LENGTHS):
        np.testing.assert_allclose(got[i], want[i, n - 1], **TOLERANCE)
    for step in range(TOTAL - max(LENGTHS)):
        at = np.asarray(LENGTHS) + step
        given = np.zeros((2, 4), np.int32)
        given[:, rows] = tokens[np.arange(4), at], at
        got, cache = decode(params, cache, given[0], given[1], cfg)
        for i in range(4):
            np.testing.assert_allclose(
                got[rows[i]], want[i, at[i]], **TOLERANCE, err_msg=f"row {i} step {step}"
            )


def test_a_row_is_reused_without_a_trace_of_its_former_sequence():
    kind, cfg = "mistral", tiny.config("mistral")
    params, tokens = unstack(tiny.params(kind)), sequences(kind)
    want = full_logits(kind, tokens)
    cache = new_cache(cfg, 2, 24)
    long, long_lengths = pad_prompts([list(tokens[3])], 1, 24)
    _, cache = prefill(params, cache, long, long_lengths, np.asarray([1], np.int32), cfg)
    short, lengths = pad_prompts([list(tokens[1, :6])], 1, 8)
    _, cache = prefill(params, cache, short, lengths, np.asarray([1], np.int32), cfg)
    for at in range(6, TOTAL):
        given = np.asarray([0, tokens[1, at]], np.int32)
        got, cache = decode(params, cache, given, np.asarray([24, at], np.int32), cfg)
        np.testing.assert_allclose(got[1], want[1, at], **TOLERANCE)


def test_padding_prompts_write_nothing_and_idle_rows_only_where_none_looks():
    cfg, params = tiny.config(), unstack(tiny.params())
    cache = new_cache(cfg, 2, 16)
    tokens, lengths = pad_prompts([[5, 6, 7]], 2, 8)
    _, cache = prefill(params, cache, tokens, lengths, np.asarray([0, 2], np.int32), cfg)
    _, cache = decode(params, cache, np.asarray([8, 9], np.int32), np.asarray([3, 16], np.int32), cfg)
    for keys, values in cache:
        assert float(jnp.abs(keys[0, :, :, :4]).min()) > 0
        # The idle row stood beyond its slots: its last slot alone was written, which is overwritten before it is seen.
        assert not keys[1, :, :, :15].any() and not values[1, :, :15].any()


@pytest.mark.optimised
def test_a_decode_step_never_copies_the_cache():
    """XLA's CPU copies a whole cache for a dynamic-update-slice with two readers: 40 of 56 ms for one row."""
    cfg, params = tiny.config(), unstack(tiny.params())
    for rows in (1, 4):
        at = np.zeros(rows, np.int32)
        compiled = decode.lower(params, new_cache(cfg, rows, 64), at, at, cfg).compile()
        shapes = {f"f32[{','.join(map(str, a.shape))}]" for pair in new_cache(cfg, rows, 64) for a in pair}
        copies = re.findall(r"= (f32\[[\d,]*\])\S* copy\(", compiled.as_text())
        assert not shapes & set(copies)


def test_take_rows_keeps_order():
    cache = new_cache(tiny.config(), 4, 8)
    cache = jax.tree.map(lambda a: a + jnp.arange(4.0)[:, None, None, None], cache)
    kept = take_rows(cache, np.asarray([3, 1], np.int32))
    assert [float(kept[0][0][i, 0, 0, 0]) for i in range(2)] == [3.0, 1.0]


def test_prefill_never_makes_logits_of_all_positions():
    cfg, params = tiny.config(), unstack(tiny.params())
    args = (params, new_cache(cfg, 2, 64), np.zeros((2, 64), np.int32), np.ones(2, np.int32), np.arange(2))
    shapes = {
        tuple(v.aval.shape)
        for e in walk(jax.make_jaxpr(prefill, static_argnums=5)(*args, cfg).jaxpr)
        for v in e
    }
    assert (2, cfg.vocab_size) in shapes
    assert not any(cfg.vocab_size in s and 64 in s for s in shapes)


def walk(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.outvars
        for sub in subjaxprs(eqn):
            yield from walk(sub)


def subjaxprs(eqn):
    for value in eqn.params.values():
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            yield inner
