"""The choice of a backend: taken at its word, tried, refused."""

import functools

import jax
import jax.numpy as jnp
import pytest

from xlam_jax.models.attention import Facts, attend, backends, probe, probe_attention
from xlam_jax.models.attention.blocked import blocked

FACTS = Facts(
    num_heads=2, num_kv_heads=1, head_dim=8, v_head_dim=8, seq_len=512, dtype=jnp.bfloat16, window=300
)


def test_a_name_is_taken_at_its_word():
    assert probe_attention(FACTS, asked="cudnn") == ("cudnn", "asked for")


def test_a_cpu_has_only_xla():
    assert probe_attention(FACTS) == ("xla", "no other backend for cpu")


def test_refused_with_the_reason(caplog):
    assert probe_attention(FACTS, candidate="cudnn") == ("xla", "cuDNN needs an NVIDIA GPU, this is cpu")
    assert "xla instead of cudnn: cuDNN needs an NVIDIA GPU" in caplog.text


def kernel(*args, window, scale, fault=""):
    if fault == "error":
        raise NotImplementedError("no such plan\nlong story")
    q, k, v, seg = args
    if fault == "leak":
        seg = jnp.minimum(seg, 1)
    if fault == "window":
        window = window + 1
    if fault == "nan":
        return blocked(*args, window=window, scale=scale).at[:, -1].set(jnp.nan)
    return blocked(q, k, v, seg, window=window, scale=scale)


@pytest.mark.parametrize(
    ("fault", "backend", "words"),
    [
        ("", "new", "agrees with xla on cpu"),
        ("leak", "xla", "output differs from xla"),
        ("window", "xla", "differs from xla"),
        ("nan", "xla", "output differs from xla by nan"),
        ("error", "xla", "NotImplementedError: no such plan"),
    ],
)
def test_tried_before_it_is_chosen(fault, backend, words, monkeypatch):
    monkeypatch.setitem(backends.KERNELS, "new", functools.partial(kernel, fault=fault))
    choice = probe_attention(FACTS, candidate="new")
    assert choice.backend == backend and words in choice.reason, choice


def test_one_process_that_fails_means_xla_everywhere(monkeypatch):
    monkeypatch.setitem(backends.KERNELS, "new", kernel)
    monkeypatch.setattr(probe, "_everywhere", lambda fine: False)
    assert probe_attention(FACTS, candidate="new") == ("xla", "new failed in another process")


def test_auto_inside_a_program_is_the_reference():
    q, k, v = (jnp.ones((1, 4, n, 8)) for n in (2, 1, 1))
    seg = jnp.ones((1, 4), jnp.int32)
    traced = [str(jax.make_jaxpr(lambda b=b: attend(q, k, v, seg, backend=b))()) for b in ("auto", "xla")]
    assert traced[0] == traced[1]
