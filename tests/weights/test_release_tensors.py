"""Turning tensors: what the fast copies write is what numpy's own assignment writes."""

import ml_dtypes
import numpy as np
import pytest

from xlam_jax.weights.tensors import contiguous, copy_strips

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Rows that are and are not whole units of eight, strips of 64, and less than either.
SHAPES = [(8, 3), (7, 5), (64, 40), (72, 33), (136, 1), (1, 136), (200, 70)]


def bits(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Every kind of bit pattern, NaNs with payloads among them."""
    raw = np.random.default_rng(0).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return raw.view(dtype)[..., 0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float16), np.dtype(np.float32)], ids=str)
def test_turned_copies_keep_every_bit(shape, dtype):
    source = bits(shape, dtype)
    whole = np.zeros((shape[1], shape[0] + 5), dtype)
    # Neither beginning nor width of the part is a multiple of sixteen bytes.
    copy_strips(whole[:, 3 : 3 + shape[0]].T, source)
    assert whole[:, 3 : 3 + shape[0]].tobytes() == source.T.tobytes()
    assert not whole[:, :3].view(np.uint8).any() and not whole[:, -2:].view(np.uint8).any()
    turned = contiguous(source.T, dtype)
    assert turned.flags.c_contiguous and turned.tobytes() == source.T.tobytes()
    straight = np.empty(shape, dtype)
    copy_strips(straight, source)
    assert straight.tobytes() == source.tobytes()


def test_turned_copies_cast():
    source = np.random.default_rng(0).normal(size=(64, 24)).astype(np.float32)
    assert contiguous(source.T, BFLOAT16).tobytes() == source.T.astype(BFLOAT16).tobytes()
    vector, out = bits((16,), BFLOAT16), np.empty(16, BFLOAT16)
    copy_strips(out, vector)
    assert out.tobytes() == vector.tobytes()
