"""The table of backends, and what each of them refuses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from xlam_jax.models.attention.blocked import blocked
from xlam_jax.models.attention.cudnn import cudnn, cudnn_reason
from xlam_jax.models.attention.facts import Facts
from xlam_jax.models.attention.splash import splash, splash_reason
from xlam_jax.parallel import target

# A backend of one kind of device is one function here: (q, k, v, segment_ids, *, window, scale) -> out.
KERNELS: dict[str, Callable[..., jax.Array]] = {"xla": blocked, "cudnn": cudnn, "splash": splash}
REASONS: dict[str, Callable[..., str]] = {"cudnn": cudnn_reason, "splash": splash_reason}
BY_PLATFORM = {"gpu": "cudnn", "cuda": "cudnn", "tpu": "splash"}

CONTEXT_BACKENDS = ("context_gather", "context_ring", "context_heads")
BACKENDS = ("auto", *KERNELS, *CONTEXT_BACKENDS)


def kernel(
    name: str, *, window: int | None, scale: float, max_segments: int | None
) -> Callable[..., jax.Array]:
    """The function (q, k, v, segment_ids) -> out of one device.

    Args:
      name: a key of `KERNELS`.
      window: a position sees itself and the `window - 1` before it; None for no limit.
      scale: of the scores.
      max_segments: as in `models.attention.attend`; only "cudnn" takes it.
    """
    more: dict[str, Any] = {"max_segments": max_segments} if name == "cudnn" else {}
    return functools.partial(KERNELS[name], window=window, scale=scale, **more)


def own_backend() -> str:
    """The kernel of the platform that is compiled for; "xla" where it has none."""
    return BY_PLATFORM.get(target.platform(), "xla")


def reason_against(name: str, facts: Facts, device: Any = None) -> str:
    """Why kernel `name` cannot do attention of this kind on `device`; empty when it can."""
    return REASONS[name](facts, device) if name in REASONS else ""
