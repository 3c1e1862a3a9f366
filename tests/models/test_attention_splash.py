"""Splash without a TPU: its kernels interpreted on the CPU, and its program made for TPU."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from tests.models.attention_cases import assert_near, inputs, run
from xlam_jax.models.attention import Facts, attend, reason_against
from xlam_jax.models.attention.splash import splash
from xlam_jax.models.decoder import remat_policy


@pytest.mark.parametrize(
    ("window", "sizes"),
    [(None, {"N": 2, "K": 1}), (50, {"N": 2, "K": 2, "H": 24, "J": 16})],
    ids=["grouped", "window-mla"],
)
def test_kernels_equal_the_reference(window, sizes):
    case = inputs(256, B=1, **sizes)
    ours = run(functools.partial(splash, interpret=True), *case, window=window, scale=0.3)
    assert_near(ours, run(attend, *case, window=window, scale=0.3))


def test_program_for_tpu_holds_the_kernels():
    q, k, v, seg, ct = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs(256, H=64, dtype=jnp.bfloat16))

    def both(q, k, v, ct, seg):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, seg, window=100, backend="splash"), q, k, v)
        return out, *pull(ct)

    text = jax.jit(both).trace(q, k, v, ct, seg).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("@tpu_custom_call") >= 3  # forward, dq, dkv


def test_the_forward_kernel_is_not_run_again_where_attention_is_kept():
    q, k, v, seg, _ = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs(256, H=64, dtype=jnp.bfloat16))

    def kernels(remat):
        def loss(q, k, v, seg):
            inner = lambda q: attend(jnp.sin(q), k, v, seg, backend="splash").astype(jnp.float32)  # noqa: E731
            return jnp.sin(jax.checkpoint(inner, policy=remat_policy(remat))(q)).sum()

        text = jax.jit(jax.grad(loss)).trace(q, k, v, seg).lower(lowering_platforms=("tpu",)).as_text()
        return text.count("@tpu_custom_call")

    # Two kernels go backwards, of the queries and of the keys and values, or one of both, by JAX's version.
    again = kernels("full")
    assert again in (3, 4) and kernels("names:attn_out") == kernels("dots") == again - 1


@pytest.mark.parametrize(
    ("platform", "changes", "words"),
    [
        ("tpu", {}, ""),
        ("cpu", {}, "needs a TPU, this is cpu"),
        ("tpu", {"seq_len": 1000}, "multiple of 128, found 1000"),
        ("tpu", {"dtype": jnp.float16}, "not float16"),
    ],
)
def test_reasons(platform, changes, words):
    facts = Facts(num_heads=8, num_kv_heads=2, head_dim=64, v_head_dim=64, seq_len=1024)._replace(**changes)
    reason = reason_against("splash", facts, SimpleNamespace(platform=platform))
    assert words in reason and bool(words) == bool(reason)
