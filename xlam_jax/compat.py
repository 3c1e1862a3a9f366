"""The places where JAX has no public way, and the only ones that import `jax._src`.

Each is looked for when it is needed; what a caller does where it is gone is the caller's. tests/test_compat.py holds
that nothing else imports private names and that all are there in the installed JAX.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
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


@contextlib.contextmanager
def cudnn_of_target(version: int, capability: str) -> Iterator[None]:
    """Inside, JAX's cuDNN attention is told of a device that is only compiled for; it would ask the machine's driver.

    Args:
      version: as cuDNN's library gives it, 91000 for 9.10.
      capability: compute capability, "9.0".
    """
    from jax._src.cudnn import fused_attention_stablehlo as module

    def number(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    answers = {
        "check_cudnn_version": lambda: version,
        "check_compute_capability": lambda least: number(capability) >= number(least),
        "is_cuda_compute_capability_equal": lambda other: number(capability) == number(other),
    }
    before = {name: getattr(module, name) for name in answers}
    try:
        for name, answer in answers.items():
            setattr(module, name, answer)
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)
