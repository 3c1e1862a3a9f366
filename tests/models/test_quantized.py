"""Frozen matrices in 8 and 4 bits: how far from float32, and that a missing qwix is explained."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.errors import InputError
from xlam_jax.models.adapted import product
from xlam_jax.models.params import Adapted
from xlam_jax.models.quantized import BLOCK, dequantize, quantize

W = np.random.default_rng(0).normal(size=(2, 3, 128, 16)).astype(np.float32)


def test_without_qwix_the_hint_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(InputError) as e:
        quantize(jnp.ones((4, 4)), "int8")
    assert "xlam-jax[quant]" in e.value.hint


@pytest.mark.parametrize(("kind", "rows", "bound"), [("int8", 128, 1 / 255), ("nf4", BLOCK, 0.152)])
def test_the_error_is_within_its_bound(kind, rows, bound):
    pytest.importorskip("qwix", reason="pip install 'xlam-jax[quant]'")
    found = jax.jit(lambda w: dequantize(quantize(w, kind), jnp.float32))(W)
    blocks = np.abs(W).reshape(2, 3, 128 // rows, rows, 16).max(axis=3, keepdims=True)
    error = np.abs(found - W).reshape(2, 3, 128 // rows, rows, 16) / blocks
    assert error.max() <= bound * 1.001
    assert error.max() > bound / 2  # the bound is near


def test_a_product_with_an_adapter_on_a_quantised_matrix():
    pytest.importorskip("qwix", reason="pip install 'xlam-jax[quant]'")
    w = jax.jit(lambda w: quantize(w, "int8"))(W[0, 0])
    rng = np.random.default_rng(1)
    x, a, b = (rng.normal(size=s).astype(np.float32) for s in ((5, 128), (128, 2), (2, 16)))
    found = product(jnp.matmul, jnp.asarray(x), Adapted(w, a, b, 0.5))
    expected = x @ (np.asarray(dequantize(w, jnp.float32)) + 0.5 * a @ b)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert w.array.qvalue.dtype == jnp.int8 and w.array.scale.shape == (1, 16)
