"""Frozen matrices in fewer bits, through qwix: int8 with a scale for each column, nf4 (QLoRA,
arXiv:2305.14314) with one for each block of 64 rows of a column.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from xlam_jax.extras import need
from xlam_jax.models.params import Quantized

Kind = Literal["int8", "nf4"]
BLOCK = 64  # rows that share a scale in nf4


def need_qwix() -> Any:
    """The qwix module.

    Raises:
      InputError: it is not installed.
    """
    need("qwix", "quant", where="lora.quantize")
    import qwix

    return qwix


def quantize(w: jax.Array, kind: Kind) -> Quantized:
    """[..., in, out] -> its quantised form, computed one layer (and expert) at a time.

    The largest error of an entry is, in units of the largest entry that shares its scale, 1/255 for int8 and
    0.152 (half the widest gap of the code) for nf4.
    """
    qwix = need_qwix()
    rows = w.shape[-2]
    options: dict[str, Any] = {"channelwise_axes": (1,), "scale_dtype": jnp.float32}
    if kind == "nf4":
        options |= {"channelwise_axes": (1,), "tiled_axes": {0: math.gcd(rows, BLOCK)}}

    @functools.partial(_over_leading, depth=w.ndim - 2)
    def one(matrix: jax.Array) -> Any:
        return qwix.quantize(matrix.astype(jnp.float32), jnp.int8 if kind == "int8" else kind, **options)

    return Quantized(one(w))


def dequantize(w: Quantized, dtype: Any) -> jax.Array:
    """[..., in, out] in `dtype`; the product with the scale is float32."""
    qwix = need_qwix()
    return qwix.dequantize(w.array.astype(jnp.float32)).astype(dtype)


def axes(w: Quantized, names: tuple[str | None, ...]) -> Quantized:
    """The same tree with the logical axes of every array, given those of the matrix; one scale for a whole
    dimension is not split."""
    return jax.tree.map(
        lambda x: tuple(n if size > 1 else None for n, size in zip(names, x.shape, strict=True)), w
    )


def _over_leading(f: Any, depth: int) -> Any:
    return f if depth == 0 else lambda w: jax.lax.map(_over_leading(f, depth - 1), w)
