"""`xlam doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, out, print_table, write_json


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: xlam doctor --nodes --mib 1")(doctor)


def doctor(
    folder: Annotated[Path, typer.Option(help="Where a run would write; its disk is looked at.")] = Path("."),
    nodes: Annotated[
        bool,
        typer.Option("--nodes", help="Join the other processes and time an all-reduce over all devices."),
    ] = False,
    mib: Annotated[
        float, typer.Option(min=0.001, help="MiB that each device gives to the all-reduce.")
    ] = 256,
    link_gbps: Annotated[
        float, typer.Option(min=0, help="Gbit/s of one host's network, all ports; 0 for what RDMA ports say.")
    ] = 0,
    json_file: JsonOption = None,
) -> None:
    """Look at the machine, and with --nodes at the network between the hosts, before a run is started.

    Started as `xlam train` is, for example: srun --nodes=4 --ntasks-per-node=1 --gpus-per-node=8 xlam doctor --nodes.
    Ends with status 1 where the network is so slow that it must have fallen back to TCP.
    """
    from xlam_jax.cli.train import use_flag_profile
    from xlam_jax.errors import WorkError
    from xlam_jax.parallel import distributed

    use_flag_profile()
    if nodes:
        distributed.start(f"doctor {mib}")
    first = not nodes or distributed.is_first()
    machine = _machine(folder)
    if first:
        print_table("machine", [{"what": key, "found": value} for key, value in machine.items()])
    result: dict[str, Any] = {"machine": machine}
    if nodes:
        result["network"] = network = _network(mib, link_gbps)
        if first:
            print_table("all-reduce over all devices", [network])
    if first:
        write_json(json_file, result)
    if nodes and (why := result["network"]["verdict"]) not in ("", "fine"):
        raise WorkError(
            why, where="all-reduce over all devices",
            hint="NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET says which network NCCL took and why; docs/launch.md",
        )  # fmt: skip
    if nodes and first:
        out.print("the devices reach each other and agree on the sum", highlight=False)


def _network(mib: float, given: float) -> dict[str, Any]:
    import dataclasses

    from xlam_jax.parallel import probe

    speed = probe.all_reduce_speed(mib)
    link = (given or (probe.link_gbps() if speed.processes > 1 else 0)) / 8  # bits to bytes
    share = speed.gb_per_s / link if link and speed.devices > 1 else None
    verdict = ""
    if share is not None:
        verdict = "fine"
        if share < probe.FAR_BELOW:
            told = f"{speed.gb_per_s:.3g} GB/s is {share:.1%} of the link's {link:.4g}"
            verdict = f"{told}: as slow as a fall back to TCP"
    return {**dataclasses.asdict(speed), "link_gb_per_s": link or None, "share": share, "verdict": verdict}


def _machine(folder: Path) -> dict[str, str]:
    import os
    import platform
    import resource
    import shutil
    from importlib.metadata import version

    import jax
    import psutil

    kinds: dict[str, int] = {}
    for device in jax.local_devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    here = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    shm = Path("/dev/shm")
    names = sorted(k for k in os.environ if k.startswith(("NCCL_", "FI_", "XLAM_")) or k == "XLA_FLAGS")
    # No values: a variable may hold what is nobody else's business.
    return {
        **{name: version(name) for name in ("xlam-jax", "jax", "jaxlib")},
        "Python": platform.python_version(),
        "devices here": ", ".join(f"{count} x {kind}" for kind, count in kinds.items()),
        "platform": jax.default_backend(),
        "processes": str(jax.process_count()),
        "cores": str(os.cpu_count()),
        "memory": _gib(psutil.virtual_memory().total),
        "disk": f"{_gib(shutil.disk_usage(here).free)} free of {_gib(shutil.disk_usage(here).total)} at {here}",
        "/dev/shm": _gib(shutil.disk_usage(shm).total) if shm.exists() else "none",
        "locked memory": _limit(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0], "too little for RDMA"),
        "open files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        "variables": ", ".join(names) or "none",
    }


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _limit(count: int, low: str) -> str:
    import resource

    if count == resource.RLIM_INFINITY:
        return "unlimited"
    return f"{count / 2**20:.0f} MiB" + (f": {low}" if count < 2**30 else "")
