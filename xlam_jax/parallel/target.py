"""The device that programs are made for: this process's first, or one that is not here and is only compiled for.

Whoever chooses a kernel, an exchange or a flag by the platform asks here and not JAX's default backend, so that the
same step can be compiled for an accelerator on a machine that has none (`plan.device_compile`).
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax

_absent: contextvars.ContextVar[Any] = contextvars.ContextVar("xlam_target", default=None)


@contextlib.contextmanager
def compiling_for(device: Any) -> Iterator[None]:
    """Inside, programs are made for `device`, one of a topology (`jax.experimental.topologies`)."""
    token = _absent.set(device)
    try:
        yield
    finally:
        _absent.reset(token)


def device() -> Any:
    """What is compiled for: a device, or one of a topology."""
    absent = _absent.get()
    return jax.devices()[0] if absent is None else absent


def platform() -> str:
    """ "cpu", "gpu" or "tpu"; NVIDIA's devices of a topology call themselves "cuda"."""
    absent = _absent.get()
    name = jax.default_backend() if absent is None else absent.platform
    return "gpu" if name in ("cuda", "rocm") else name


def is_here() -> bool:
    """Whether what is compiled can run in this process."""
    return _absent.get() is None
