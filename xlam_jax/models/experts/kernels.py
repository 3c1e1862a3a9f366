"""Which grouped-GEMM kernels this machine has, tried before they are used.

Two operations are needed: rows times their group's matrix (forward pass, and backward pass to the rows), and the
weight gradient, which contracts over the rows of each group. `jax.lax.ragged_dot` is right everywhere but multiplies
every row with every expert on CUDA, so there only tokamax's kernels count.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.extras import need
from xlam_jax.models.trial import jit_once
from xlam_jax.parallel import target

_log = logging.getLogger(__name__)

# platform -> operation -> implementations, best first. On an H100 tokamax's own measurements have Triton ahead for
# few large experts and for every weight gradient, Mosaic for rows of many small experts.
_ORDER: dict[str, dict[str, tuple[str, ...]]] = {
    "gpu": {
        "rows": ("triton", "mosaic"),
        "rows of many experts": ("mosaic", "triton"),
        "weights": ("triton", "mosaic"),
    },
    "tpu": dict.fromkeys(("rows", "rows of many experts", "weights"), ("mosaic", "lax")),
    "cpu": dict.fromkeys(("rows", "rows of many experts", "weights"), ("lax", "xla")),
}
_MANY = 64

_CONTRACT_ROWS = jax.lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(([0], [0]), ([], [])), lhs_ragged_dimensions=[0], rhs_group_dimensions=[]
)


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Names of the implementations ("lax", or one of tokamax's) of the two operations."""

    for_rows: str
    for_weights: str

    def rows(self, x_RD: jax.Array, w_EDF: jax.Array, size_E: jax.Array) -> jax.Array:
        """[R, F] in the dtype of x; rows past the sum of `size_E` are undefined."""
        return _rows(self.for_rows, x_RD, w_EDF, size_E)

    def weights(self, x_RD: jax.Array, d_RF: jax.Array, size_E: jax.Array) -> jax.Array:
        """[E, D, F]: sum over each group's rows of x d."""
        return _weights(self.for_weights, x_RD, d_RF, size_E)


def choose_kernels(num_experts: int) -> Kernels:
    """The best implementation of each operation among those that pass `probe` on this machine; for a device that is
    only compiled for, the first of each, untried.

    Raises:
      InputError: there is none.
    """
    platform = target.platform()
    order = _ORDER.get(platform, _ORDER["cpu"])
    names = ("rows of many experts" if num_experts >= _MANY else "rows", "weights")
    if not target.is_here():
        return Kernels(*(order[name][0] for name in names))
    verdicts = probe(platform)
    picked = [next((i for i in order[name] if verdicts[i, name.split()[0]] == ""), None) for name in names]
    if None in picked:
        reasons = "; ".join(f"{i} {op}: {why}" for (i, op), why in verdicts.items() if why)
        if platform == "gpu":
            need("tokamax", "kernels", where="moe.backend", instead="moe.backend=batched")
        raise InputError(
            f"no grouped GEMM works on this {platform}: {reasons}",
            where="moe.backend",
            hint="moe.backend=batched",
        )
    return Kernels(*picked)  # pyright: ignore[reportArgumentType]


@functools.cache
def probe(platform: str) -> dict[tuple[str, str], str]:
    """(implementation, "rows" or "weights") -> "" where it is right on a small case, else what went wrong.

    Compiles and runs each once in a process. May be called while something else is traced.
    """
    names = dict.fromkeys(name for order in _ORDER.get(platform, _ORDER["cpu"]).values() for name in order)
    # In a thread of its own: tracing, meshes and the like are states of a thread.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        verdicts = {
            (name, op): pool.submit(_try, name, op).result() for name in names for op in ("rows", "weights")
        }
    for (name, op), why in verdicts.items():
        _log.info("grouped GEMM on %s, %s, %s: %s", platform, name, op, why or "works")
    return verdicts


def _try(name: str, op: str) -> str:
    E, R, D, F = 4, 512, 256, 128
    rng = np.random.default_rng(0)
    sizes = np.array([100, 0, 300, 50], np.int32)  # uneven, one empty, some rows of no group
    group_R = np.repeat(np.arange(E), sizes)
    x, w, d = (rng.standard_normal(s).astype(np.float32) for s in ((R, D), (E, D, F), (R, F)))
    low = [jnp.asarray(a, jnp.bfloat16) for a in (x, w, d)]
    x, w, d = (np.asarray(a, np.float32) for a in low)
    n = group_R.size
    try:
        if op == "rows":
            out = jit_once(functools.partial(_rows, name))(low[0], low[1], sizes)[:n]
            right = np.einsum("rd,rdf->rf", x[:n], w[group_R])
        else:
            out = jit_once(functools.partial(_weights, name))(low[0], low[2], sizes)
            right = np.stack([x[:n][group_R == e].T @ d[:n][group_R == e] for e in range(E)])
        worst = np.abs(np.asarray(out, np.float32) - right).max() / np.abs(right).max()
    except Exception as error:  # whatever a kernel's compiler raises: it cannot be used here
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error) else ''}"
    return "" if worst < 0.02 else f"wrong by {worst:.2g} of the largest value"


def _rows(name: str, x_RD: jax.Array, w_EDF: jax.Array, size_E: jax.Array) -> jax.Array:
    if name == "lax":
        return jax.lax.ragged_dot(x_RD, w_EDF, size_E)
    return _tokamax().ragged_dot(x_RD, w_EDF, size_E, implementation=name)


def _weights(name: str, x_RD: jax.Array, d_RF: jax.Array, size_E: jax.Array) -> jax.Array:
    if name == "lax":
        return jax.lax.ragged_dot_general(x_RD, d_RF, size_E, _CONTRACT_ROWS)
    out_EDF = _tokamax().ragged_dot_general(x_RD, d_RF, size_E, _CONTRACT_ROWS, implementation=name)
    # tokamax 0.0.12's Triton kernel gives a group of no rows the product of those before it.
    return jnp.where((size_E > 0)[:, None, None], out_EDF, 0)


def _tokamax() -> Any:
    from jax.experimental import pallas

    # tokamax 0.0.12, the last that runs on Python 3.11 and needs no profiler, calls what jax 0.11 took away.
    if not hasattr(pallas, "dot"):
        pallas.dot = _dot  # pyright: ignore[reportAttributeAccessIssue]
    import tokamax  # pyright: ignore[reportMissingImports]
    from absl import flags

    # tokamax reads absl's flags, which would otherwise take this program's arguments for its own and fail.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return tokamax


def _dot(
    a: jax.Array, b: jax.Array, trans_a: bool = False, trans_b: bool = False, **options: Any
) -> jax.Array:
    """The product of two matrices inside a kernel; floats add up in float32."""
    kind = jnp.int32 if jnp.issubdtype(a.dtype, jnp.integer) else jnp.float32
    contract = (((0 if trans_a else 1,), (1 if trans_b else 0,)), ((), ()))
    if (tf32 := options.pop("allow_tf32", None)) is not None:
        options["precision"] = jax.lax.Precision.HIGH if tf32 else jax.lax.Precision.HIGHEST
    return jax.lax.dot_general(a, b, contract, preferred_element_type=kind, **options)
