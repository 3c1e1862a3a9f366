"""Compiling what runs once: kernels that are tried at start-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

# Choosing the fastest of many product kernels takes a GPU's compiler far longer than a trial runs.
_UNTUNED = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


def jit_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` that compiles quickly and does not look for the fastest code."""
    return jax.jit(function, compiler_options=_UNTUNED if jax.default_backend() == "gpu" else None)
