"""The real step, compiled by the real compiler of an accelerator that is not here, in a process of its own.

XLA's compilers for NVIDIA's GPUs and for TPUs need a description of the device and no device. What they give is what a
run would get, but for what is measured on the device itself: the choice among equal kernels, cuDNN's own plan (its
workspace is missing from the memory) and everything that takes time.
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
import warnings
from base64 import b64decode, b64encode
from typing import Any

from xlam_jax.errors import InputError, WorkError
from xlam_jax.plan.targets import (
    ENVIRONMENT,
    Target,
    cudnn_of,
    need_compiler,
    nodes_of,
    topology_devices,
    topology_name,
)
from xlam_jax.plan.work import Sizes, Work


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be compiled.

    Attributes:
      topology: JAX's name of it, see `targets.topology_name`.
      profile: of XLA's flags, see `parallel.xla_flags`.
      hlo: where the optimised program is kept; empty: nowhere.
    """

    work: Work
    sizes: Sizes
    target: Target
    topology: str
    profile: str
    hlo: str = ""


def order(
    work: Work,
    sizes: Sizes,
    target: Target,
    topology: str | None = None,
    profile: str | None = None,
    hlo: str = "",
) -> Order:
    """An order, checked as far as it can be before anything is compiled.

    Args:
      sizes: of the mesh, by axis.
      topology: as typed, see `targets.topology_name`; None for the smallest usual one that holds the mesh.
      profile: of XLA's flags; None for the target's own.
      hlo: the file that the optimised program is written to; empty: none.

    Raises:
      InputError: a topology that does not hold the mesh.
      WorkError: the compiler is not installed.
    """
    need_compiler(target)
    name = topology_name(target, topology, math.prod(sizes.values()))
    return Order(work, sizes, target, name, profile or target.profile, hlo)


def compile_for(asked: Order, timeout: float = 1800.0) -> dict[str, Any]:
    """Compiles in a process of its own.

    Returns:
      `attention` and why, `seconds` {lower, compile}, `memory` of one device in bytes {arguments, temporaries,
      outputs, total}, and what `account.account` says of the program.

    Raises:
      WorkError: it did not compile, or took longer than `timeout` seconds.
    """
    command = [sys.executable, "-m", "xlam_jax.plan.device_compile"]
    try:
        ran = subprocess.run(
            command,
            input=b64encode(pickle.dumps(asked)),
            env=_environment(asked),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise WorkError(f"compiling for {asked.target.name} took longer than {timeout:.0f} s") from e
    lines = ran.stdout.decode(errors="replace").splitlines()
    if ran.returncode or not lines:
        said = [line for line in ran.stderr.decode(errors="replace").strip().splitlines() if line.strip()][
            -4:
        ]
        raise WorkError(f"the step did not compile for {asked.target.name}", where=" | ".join(said)[-900:])
    return json.loads(lines[-1])


def _environment(asked: Order) -> dict[str, str]:
    from xlam_jax.parallel.xla_flags import profile, profile_flags

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said in `flags` of the answer
        flags = profile_flags(asked.profile)
    # Flags of the surroundings are for their own devices; settings of tests unpolish what is looked at here.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return {**kept, **profile(asked.profile).env, **ENVIRONMENT, "XLA_FLAGS": flags}


def compile_here(asked: Order) -> dict[str, Any]:
    """As `compile_for`, in this process, whose environment is that of `targets.ENVIRONMENT`."""
    from xlam_jax.compat import cudnn_of_target
    from xlam_jax.parallel.hardware import hardware
    from xlam_jax.parallel.mesh import MeshConfig, make_mesh
    from xlam_jax.parallel.target import compiling_for
    from xlam_jax.plan.account import account
    from xlam_jax.plan.lowering import lower_step

    devices = topology_devices(asked.target, asked.topology)
    begun = time.perf_counter()
    with compiling_for(devices[0]), cudnn_of_target(*cudnn_of(asked.target)):
        work, why = _with_attention(asked.work)
        mesh = MeshConfig(**asked.sizes, nodes=nodes_of(asked.target, asked.topology))
        lowered = lower_step(work, make_mesh(mesh, devices))
        lowering = time.perf_counter() - begun
        compiled = lowered.compile()
    seconds = {"lower": lowering, "compile": time.perf_counter() - begun - lowering}
    text, memory = compiled.as_text(), compiled.memory_analysis()
    if asked.hlo:
        with open(asked.hlo, "w", encoding="utf-8") as f:
            f.write(text)
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    if asked.target.platform == "tpu":  # whose temporaries are not all there at one time, as its peak says
        temporaries = memory.peak_memory_in_bytes - arguments - outputs
    return {
        "device": devices[0].device_kind,
        "topology": asked.topology,
        "profile": asked.profile,
        "flags": os.environ.get("XLA_FLAGS", ""),
        "attention": {"backend": work.attention, "reason": why},
        "seconds": seconds,
        "memory": {
            "arguments": arguments,
            "temporaries": temporaries,
            "outputs": outputs,
            "total": arguments + temporaries + outputs,
        },
        **account(text, needed(work, asked.sizes), hardware(asked.target.hardware), turns(work)),
    }


def turns(work: Work) -> dict[str, float]:
    """Of loops that the data decides, in a step whose positions are all trained and whose routing is even."""
    length = work.seq_len
    return {"loss": -(-length // min(work.chunk, length)), "experts": 0.0, "rest": work.accumulation}


def needed(work: Work, sizes: Sizes) -> Any:
    """What the model asks of one device in a step of `work`."""
    from xlam_jax.plan.account import Needed

    flops, tokens = work.flops(), work.tokens / math.prod(sizes.values())
    share = flops["forward_attention"] * tokens
    return Needed((flops["weights"] + flops["adapters"]) * tokens, share)


def _with_attention(work: Work) -> tuple[Work, str]:
    """`attention: auto` becomes the target's own kernel where that takes the model, else `xla`; untried."""
    from xlam_jax.models.attention import Facts, own_backend, reason_against
    from xlam_jax.models.rope import softmax_scale

    if work.attention != "auto":
        return work, "asked for"
    cfg, own = work.cfg, own_backend()
    facts = Facts(
        cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, cfg.v_head_dim,
        work.seq_len, work.compute_dtype, cfg.sliding_window, softmax_scale(cfg),
    )  # fmt: skip
    if reason := reason_against(own, facts):
        return work.replace(attention="xla"), reason
    return work.replace(attention=own), "the platform's own"


if __name__ == "__main__":
    # The parent's own objects come back through pickle; nothing else ever writes to this stdin.
    try:
        print(json.dumps(compile_here(pickle.loads(b64decode(sys.stdin.read())))))
    except (InputError, WorkError) as e:
        print(e, file=sys.stderr)
        sys.exit(1)
