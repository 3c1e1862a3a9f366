"""The compiler's own account: the real train step, compiled for fake devices in a process of its own.

XLA's CPU compiler computes bf16 products in float32, so a slice is compiled in float32 and what it needs beyond
the traced parts is scaled to the dtype of the plan. Temporaries grow by the same number of bytes with every
layer, so slices of two and of four layers give those of all.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from typing import Any

from xlam_jax.errors import WorkError
from xlam_jax.plan.memory import Memory, estimate
from xlam_jax.plan.work import Sizes, Work

SLICES = (2, 4)
MAX_DEVICES = 64


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What XLA plans for one device, in bytes.

    Attributes:
      arguments: state and batch.
      temporaries: everything that lives inside the step.
      outputs: results that take no argument's place.
      seconds: of compilation, all slices together.
      layers: of the slices, or (all,) when nothing was extrapolated.
    """

    arguments: float
    temporaries: float
    outputs: float
    seconds: float
    layers: tuple[int, ...]

    @property
    def total(self) -> float:
        return self.arguments + self.temporaries + self.outputs


def measure(work: Work, sizes: Sizes, timeout: float = 300.0) -> Compiled:
    """Compiles slices of `work` in its own dtypes for as many fake CPU devices as the mesh has.

    Raises:
      WorkError: more than 64 devices, a compilation that failed or took longer than `timeout` seconds.
    """
    layers = work.cfg.num_layers
    counts = (layers,) if layers <= max(SLICES) else _slices(work)
    slices = _run([(_sliced(work, n), sizes) for n in counts], timeout)
    seconds = sum(r["seconds"] for r in slices)
    if len(counts) == 1:
        (one,) = slices
        return Compiled(one["arguments"], one["temporaries"], one["outputs"], seconds, counts)
    low, high = slices
    steps = (layers - counts[1]) / (counts[1] - counts[0])

    def extrapolate(key: str) -> float:
        return high[key] + steps * (high[key] - low[key])

    return Compiled(extrapolate("arguments"), extrapolate("temporaries"), high["outputs"], seconds, counts)


def refine(work: Work, sizes: Sizes, timeout: float = 300.0) -> tuple[Memory, Compiled]:
    """`memory.estimate` with its momentary buffers replaced by what the compiler needs.

    Raises:
      WorkError: as `measure`.
    """
    wide = work.replace(param_dtype="float32", compute_dtype="float32")
    compiled, traced, planned = measure(wide, sizes, timeout), estimate(wide, sizes), estimate(work, sizes)
    # Under a mesh the compiler merges some residuals, so the rest may be less than nothing.
    rest = compiled.temporaries - traced.gradients - traced.activations - traced.logits
    rest *= _NARROWER.get(work.compute_dtype, 1.0)
    moe = min(planned.moe, max(0.0, rest))
    kept = planned.activations + min(0.0, rest)
    return dataclasses.replace(planned, activations=kept, moe=moe, working=max(0.0, rest) - moe), compiled


_NARROWER = {"bfloat16": 0.5}


def compile_here(work: Work, sizes: Sizes) -> dict[str, float]:
    """Compiles the whole train step on this process's devices; bytes of one device and seconds."""
    from xlam_jax.parallel.mesh import MeshConfig, make_mesh
    from xlam_jax.plan.lowering import lower_step

    # Kernels of accelerators do not compile for the CPU; what they keep is the same.
    attention = work.attention if work.attention.startswith("context") else "xla"
    begun = time.perf_counter()
    lowered = lower_step(work.replace(attention=attention), make_mesh(MeshConfig(**sizes)))
    hlo = len(lowered.as_text())
    compiled = lowered.compile()
    seconds = time.perf_counter() - begun
    memory = compiled.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "seconds": seconds,
        "hlo_bytes": hlo,
    }


def _slices(work: Work) -> tuple[int, int]:
    # Layers of another kind at the bottom (dense ones below a mixture) must stand in both slices.
    first = max(work.cfg.dense_layers, work.freeze_layers)
    return SLICES[0] + first, SLICES[1] + first


def _sliced(work: Work, layers: int) -> Work:
    return work.replace(cfg=work.cfg.replace(num_layers=layers))


def _run(tasks: list[tuple[Work, Sizes]], timeout: float) -> list[dict[str, float]]:
    devices = math.prod(tasks[0][1].values())
    if devices > MAX_DEVICES:
        raise WorkError(f"{devices} devices are too many to compile for", hint=f"at most {MAX_DEVICES}")
    env: dict[str, Any] = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-m", "xlam_jax.plan.compiled"]
    try:
        ran = subprocess.run(
            command,
            input=b64encode(pickle.dumps(tasks)),
            env=env,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise WorkError(f"compiling took longer than {timeout:.0f} s", hint="--no-compile") from e
    if ran.returncode:
        last = ran.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise WorkError("the step did not compile on fake devices", where=" | ".join(last)[-600:])
    return json.loads(ran.stdout.splitlines()[-1])


if __name__ == "__main__":
    # The parent's own objects come back through pickle; nothing else ever writes to this stdin.
    print(json.dumps([compile_here(*task) for task in pickle.loads(b64decode(sys.stdin.read()))]))
