"""Accelerators to compile for without having one: what their compilers ask about them, from `targets.json`."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import re
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, WorkError, unknown

_DATA = json.loads(Path(__file__).with_name("targets.json").read_text(encoding="utf-8"))

# What keeps the compilers' libraries from looking for devices, or for the cloud that would have them.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_CUDA = ("jax_cuda12_plugin", "jax_cuda13_plugin")


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device.

    Attributes:
      platform: "gpu" or "tpu".
      hardware: its name in `parallel.hardware`.
      extra: of this package, that brings the compiler.
      values: the rest of its entry.
    """

    name: str
    platform: str
    hardware: str
    extra: str
    values: dict[str, Any]

    @property
    def profile(self) -> str:
        """The flag profile that a run on it would use."""
        return "h100" if self.platform == "gpu" else "none"


def names() -> list[str]:
    """Names that `target` knows."""
    return list(_DATA["devices"])


def target(name: str) -> Target:
    """The device called `name`.

    Raises:
      InputError: an unknown name; the hint is the nearest known one.
    """
    if name not in _DATA["devices"]:
        raise unknown("device to compile for", name, names(), where="--compile-for", cutoff=0.4)
    values = dict(_DATA["devices"][name])
    platform, hardware, extra = (values.pop(k) for k in ("platform", "hardware", "extra"))
    return Target(name, platform, hardware, extra, values)


def need_compiler(asked: Target) -> None:
    """Checks that the compiler of `asked` is installed beside this interpreter's JAX.

    Raises:
      WorkError: it is not; the hint says what to install.
    """
    packages = _CUDA if asked.platform == "gpu" else ("libtpu",)
    if not any(importlib.util.find_spec(name) for name in packages):
        raise WorkError(
            f"no compiler for {asked.name} beside this Python: none of {', '.join(packages)} is installed",
            where="--compile-for",
            hint=f"pip install 'xlam-jax[{asked.extra}]', which needs Python 3.12 and no device",
        )


def topology_name(asked: Target, topology: str | None, devices: int) -> str:
    """What JAX is told: "NODESx1xDEVICES" of GPUs, "v5p:2x2x1" of TPUs.

    Args:
      topology: as typed: "2x8", nodes and devices of one, for GPUs; "2x2x2", the torus, for TPUs. None for the
        smallest usual one that holds `devices`.

    Raises:
      InputError: it is written otherwise, or holds fewer devices.
    """
    if topology is None:
        if asked.platform == "gpu":
            node = asked.values["node"]
            topology = f"1x{devices}" if devices <= node else f"{-(-devices // node)}x{node}"
        else:
            known = asked.values["topologies"]
            fitting = [text for size, text in known.items() if int(size) >= devices]
            if not fitting:
                raise InputError(
                    f"no topology of {devices} {asked.name} is known",
                    where="--topology",
                    hint=max(known, key=int),
                )
            topology = fitting[0]
    ranks = (2,) if asked.platform == "gpu" else (2, 3)
    sizes = [int(part) for part in str(topology).split("x") if part.isdigit()]
    if "x".join(map(str, sizes)) != topology or len(sizes) not in ranks or 0 in sizes:
        how = "2x8: nodes x devices of a node" if asked.platform == "gpu" else "2x2x1: the torus of a slice"
        raise InputError(f"topology {topology!r} of {asked.name}", where="--topology", hint=how)
    if math.prod(sizes) < devices:
        raise InputError(
            f"topology {topology} holds {math.prod(sizes)} devices, the mesh {devices}", where="--topology"
        )
    return f"{sizes[0]}x1x{sizes[1]}" if asked.platform == "gpu" else f"{asked.values['name']}:{topology}"


def nodes_of(asked: Target, name: str) -> int:
    """Groups of devices that a topology joins by the slower network; its own devices do not say."""
    return int(name.split("x")[0]) if asked.platform == "gpu" else 1


def topology_devices(asked: Target, name: str) -> list[Any]:
    """Devices of a topology, for the compiler alone; in a process that has `ENVIRONMENT`.

    Raises:
      WorkError: the compiler's library does not start or does not know the topology.
    """
    from jax.experimental import topologies

    try:
        if asked.platform == "tpu":
            return list(topologies.get_topology_desc(name, "tpu").devices)
        text = target_text(asked)
        return list(
            topologies.get_topology_desc(asked.name, "cuda", target_config=text, topology=name).devices
        )
    except Exception as e:  # whatever a plugin raises
        raise WorkError(f"no topology {name} of {asked.name}: {type(e).__name__}: {str(e)[:300]}") from e


def target_text(asked: Target) -> str:
    """XLA's `GpuTargetConfigProto` of an NVIDIA device, as text."""
    common = _DATA["nvidia"]
    info = {**common["gpu_device_info"], **asked.values["gpu_device_info"]}
    return _proto({**common, "gpu_device_info": info, "device_description_str": info["name"]})


def _proto(values: dict[str, Any], indent: str = "") -> str:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{key} {{\n{_proto(value, indent + '  ')}{indent}}}\n")
            continue
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, str) and not re.fullmatch(
            r"[A-Z]+(_[A-Z]+)+", value
        ):  # names of an enumeration
            value = json.dumps(value)
        lines.append(f"{indent}{key}: {value}\n")
    return "".join(lines)


def cudnn_of(asked: Target) -> tuple[int, str]:
    """(cuDNN's version as its library counts, compute capability) that a step is made with; "0.0" for a TPU."""
    version = _DATA["nvidia"]["dnn_version_info"]
    return version["major"] * 10000 + version["minor"] * 100, asked.values.get("capability", "0.0")
