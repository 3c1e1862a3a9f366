"""How every benchmark here measures: warm-up, blocks that wait for the device, median and 90th percentile, and the
machine, versions and flags beside every number."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.errors import InputError

RATE = 1e-5  # learning rate of steps that are timed
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def need_dtype(name: str, where: str) -> Any:
    """The dtype called `name`.

    Raises:
      InputError: another name.
    """
    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r}", where=where, hint=", ".join(DTYPES))
    return DTYPES[name]


def timed(run: Callable[[], Any], steps: int = 30, warmup: int = 10) -> dict[str, Any]:
    """Seconds of `run`, whose result is waited for: `median`, `p90`, `best`, and `all`."""
    for _ in range(warmup):
        jax.block_until_ready(run())
    times = []
    for _ in range(steps):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begun)
    return {
        "median": float(np.median(times)),
        "p90": float(np.percentile(times, 90)),
        "best": min(times),
        "all": times,
    }


def ceiling(dtype: Any, size: int | None = None) -> float:
    """FLOP/s of the best square matrix product on one device, measured now.

    Args:
      size: rows and columns; None for 8192 on an accelerator, 1024 on a CPU.
    """
    n = size or (1024 if jax.default_backend() == "cpu" else 8192)
    # Random: a device draws less power on constants, and its clock runs higher than any real product lets it.
    a, b = (jax.random.normal(key, (n, n), dtype) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(jnp.matmul)
    return 2.0 * n**3 / timed(lambda: product(a, b), steps=10, warmup=3)["best"]


def peak_memory() -> float | None:
    """Bytes of the fullest device since the process began; None where the backend does not tell."""
    peaks = [(d.memory_stats() or {}).get("peak_bytes_in_use") for d in jax.local_devices()]
    known = [x for x in peaks if x is not None]
    return float(max(known)) if known else None


def environment() -> dict[str, Any]:
    """Device, platform, versions, and the flags that this process runs under."""
    versions = {}
    for name in ("jax", "jaxlib", "flax", "optax", "tokamax", "torch", "transformers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "backend": device.platform,
        "platform": platform.platform(terse=True),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": versions,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "profile": os.environ.get("XLAM_XLA_PROFILE", ""),
        "optimization_level": os.environ.get("JAX_OPTIMIZATION_LEVEL", ""),
    }


def file_name(kind: str, name: str = "", device: str | None = None) -> str:
    """train-smollm2-135m-cpu.json: one file for each benchmark, subject and device."""
    parts = (kind, name, device or jax.devices()[0].device_kind)
    clean = ("".join(c if c.isalnum() or c == "." else "-" for c in part.lower()) for part in parts if part)
    return "-".join(clean) + ".json"


def keep(folder: Path | None, kind: str, name: str, result: dict[str, Any]) -> Path | None:
    """Writes the result into `folder` under `file_name`; None when there is no folder.

    Args:
      folder: made where it is missing; None writes nothing.
      kind: the benchmark, such as "train".
      name: what was measured; "" leaves it out of the file's name.
      result: of it, "device" ends the file's name; without it the name of this process's first device.
    """
    import json

    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(kind, name, result.get("device"))
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path
