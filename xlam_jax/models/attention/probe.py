"""Which backend a run uses: the accelerator's own, once it has agreed with the reference on this machine."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.models.attention.backends import BY_PLATFORM, kernel, reason_against
from xlam_jax.models.attention.facts import Facts
from xlam_jax.models.trial import jit_once

log = logging.getLogger(__name__)

PROBE_LENGTH = 512
_CUT = (64, 200, 201, 430)  # where its documents end
TOLERANCE = 0.03  # of the largest value; bfloat16 keeps about three digits and sums many


class Choice(NamedTuple):
    """A backend's name and why it was chosen."""

    backend: str
    reason: str


def probe_attention(
    facts: Facts,
    *,
    asked: str = "auto",
    max_segments: int | None = None,
    candidate: str | None = None,
    device: Any = None,
) -> Choice:
    """Chooses the backend of a run, at its start and outside of any trace.

    The candidate of the platform compiles and runs a small packed batch, forward and backward, beside `xla`.
    When it is refused, fails or disagrees, the choice is `xla` and the reason says so. Processes of one run
    agree: one failure anywhere means `xla` everywhere.

    Args:
      facts: attention of the model; `seq_len` is the run's.
      asked: a backend's name is taken at its word; only "auto" is tried.
      max_segments: see `attend`.
      candidate: defaults to the platform's own kernel.
      device: defaults to this process's first.
    """
    if asked != "auto":
        return Choice(asked, "asked for")
    device = jax.local_devices()[0] if device is None else device
    candidate = candidate or BY_PLATFORM.get(device.platform, "xla")
    if candidate == "xla":
        return Choice("xla", f"no other backend for {device.platform}")
    reason = reason_against(candidate, facts, device)
    if not reason:
        reason = disagreement(kernel_of(candidate, facts, max_segments), facts, device)
    agreed = _everywhere(not reason)
    if not agreed:
        choice = Choice("xla", reason or f"{candidate} failed in another process")
        log.warning("attention: xla instead of %s: %s", candidate, choice.reason)
        return choice
    choice = Choice(candidate, f"agrees with xla on {getattr(device, 'device_kind', device.platform)}")
    log.info("attention: %s: %s", *choice)
    return choice


def kernel_of(name: str, facts: Facts, max_segments: int | None = None) -> Callable[..., jax.Array]:
    """Kernel `name` for attention of this kind: (q, k, v, segment_ids) -> out."""
    scale = facts.head_dim**-0.5 if facts.scale is None else facts.scale
    if max_segments is not None:  # of the run, whose rows may hold fewer than those it is tried on
        max_segments = max(max_segments, len(_CUT) + 1)
    return kernel(name, window=facts.window, scale=scale, max_segments=max_segments)


def disagreement(ours: Callable[..., jax.Array], facts: Facts, device: Any = None) -> str:
    """How `ours` differs from `xla` on a small packed batch, output and gradients; empty when it does not.

    The batch has several documents a row, one row without padding, and a window shorter than a document when
    the model has a window at all.
    """
    if facts.window is not None:
        facts = facts._replace(window=min(facts.window, PROBE_LENGTH // 4))
        if isinstance(ours, functools.partial):
            ours = functools.partial(ours, window=facts.window)
    segments = np.searchsorted(_CUT, np.arange(PROBE_LENGTH), side="right") + 1
    segments = np.stack(
        [np.where(segments == len(_CUT) + 1, 0, segments), np.where(segments > 2, 2, segments)]
    )
    random = np.random.default_rng(0)
    heads = ((facts.num_heads, facts.head_dim), (facts.num_kv_heads, facts.head_dim))
    shapes = (*heads, (facts.num_kv_heads, facts.v_head_dim), (facts.num_heads, facts.v_head_dim))
    q, k, v, ct = (random.standard_normal((2, PROBE_LENGTH, *s), np.float32) for s in shapes)

    def run(f: Callable[..., jax.Array], dtype: Any) -> list[np.ndarray]:
        def all_of(q, k, v, ct, seg):
            out, pull = jax.vjp(lambda q, k, v: f(q, k, v, seg), q, k, v)
            return out, *pull(ct)

        args = [jnp.asarray(np.asarray(x, facts.dtype), dtype) for x in (q, k, v, ct)]
        placed = jax.device_put((*args, jnp.asarray(segments, jnp.int32)), device)
        return [np.asarray(x.astype(jnp.float32)) for x in jit_once(all_of)(*placed)]

    try:
        actual = run(ours, facts.dtype)
        with jax.default_matmul_precision("float32"):
            right = run(kernel_of("xla", facts), jnp.float32)
    except Exception as e:
        return f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
    for name, a, b in zip(("output", "dq", "dk", "dv"), actual, right, strict=True):
        worst = float(np.abs(a - b).max() / np.abs(b).max())
        if not worst <= TOLERANCE:
            return f"{name} differs from xla by {worst:.3g} of its largest value"
    return ""


def _everywhere(fine: bool) -> bool:
    if jax.process_count() == 1:
        return fine
    from jax.experimental import multihost_utils

    return bool(np.asarray(multihost_utils.process_allgather(np.asarray(fine))).all())
