"""The two places where JAX has no public way, and the only ones that import `jax._src`.

Each is looked for when it is needed; what a caller does where it is gone is the caller's. tests/test_compat.py holds
that nothing else imports private names and that both are there in the installed JAX.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any


def wrap_compile(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> bool:
    """Replaces the function by which JAX compiles a lowered program: `(backend, computation, ...) -> executable`.

    No public hook lies between lowering and compiling (see `parallel.fake_devices`, which needs one). What is wrapped
    once stays so, whoever asks again.

    Returns:
      False where JAX has no such function any more.
    """
    try:
        from jax._src import compiler

        compiles = compiler.compile_or_get_cached
    except (ImportError, AttributeError):
        return False
    if not hasattr(compiles, "wrapped_by_xlam"):
        wrapped = functools.wraps(compiles)(wrap(compiles))
        wrapped.wrapped_by_xlam = True  # type: ignore[attr-defined]
        compiler.compile_or_get_cached = wrapped
    return True


def cudnn_attention(parameters: Sequence[str]) -> Any:
    """The module of JAX's cuDNN attention. The public `jax.nn.dot_product_attention` has no packed layout.

    Args:
      parameters: that its `dot_product_attention` must take.

    Raises:
      ImportError: it is gone, or takes other parameters; with what is missing.
    """
    try:
        from jax._src.cudnn import fused_attention_stablehlo as module

        known = inspect.signature(module.dot_product_attention).parameters
    except (ImportError, AttributeError) as e:
        raise ImportError(f"no cuDNN attention where it was: {e}") from e
    missing = [name for name in parameters if name not in known]
    if missing or not hasattr(module.MaskType, "PADDING_CAUSAL"):
        raise ImportError(f"lacks {', '.join(missing or ['PADDING_CAUSAL'])} of cuDNN attention")
    return module
