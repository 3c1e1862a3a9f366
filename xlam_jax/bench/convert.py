"""A large checkpoint converted both ways: speed against the disk's own, memory, killed and resumed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from xlam_jax.errors import InputError, WorkError
from xlam_jax.files import JOURNAL
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import count_params, hf_entries
from xlam_jax.weights.checksums import CHECKSUMS
from xlam_jax.weights.hf_out import HfOptions, write_hf
from xlam_jax.weights.safetensors_io import to_disk

_BLOCK_BYTES = 16 * 2**20


def bench_convert(
    cfg: ModelConfig,
    folder: Path,
    *,
    max_shard_bytes: int = 2 * 10**9,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Writes a synthetic bfloat16 checkpoint of `cfg`, then runs the command line on it.

    1. A plain copy of the shards, cold, with fsync, the faster of two: the disk's own speed.
    2. `xlam convert from-hf`, whole.
    3. `xlam convert to-hf`, whole.
    4. The same, killed with SIGKILL once half of its shards are noted, then `--resume`.

    The shards of 3 and 4 must have the checksums of the first ones. Rates are bytes of weights per second of wall
    time from typing the command, imports included. Everything written is deleted.

    Args:
      folder: where to write; needs about three times the weights.

    Raises:
      InputError: not enough free disk.
      WorkError: a command failed, or the checksums differ.
    """
    total = 2 * count_params(cfg)
    free = shutil.disk_usage(folder).free
    if free < 3.2 * total:
        raise InputError(
            f"{3.2 * total / 1e9:.0f} GB are needed, {free / 1e9:.0f} GB are free",
            where=str(folder),
            hint="--layers 1, or another --folder",
        )
    work = folder / f"xlam-bench-convert-{os.getpid()}"
    source, base, again = work / "source", work / "base", work / "again"
    size = ("--max-shard-size", str(max_shard_bytes))
    work.mkdir()
    try:
        progress("writing a synthetic checkpoint")
        _synthetic(cfg, source, max_shard_bytes)
        progress("measuring the disk")
        copies = [_copy_rate(source, work / "copy", total) for _ in range(2)]
        disk = max(copies, key=lambda copy: copy["copy_MB_per_second"])
        progress("from-hf")
        inward = _command("from-hf", source, base, *size)
        progress("to-hf")
        outward = _command("to-hf", base, again, *size)
        whole = _weights(again)
        shutil.rmtree(again)
        progress("to-hf, to be killed")
        shards = len(list(source.glob("*.safetensors")))
        resumed = _killed_and_resumed(base, again, str(max_shard_bytes), shards, progress)
        same = _weights(source) == whole == _weights(again)
        if not same:
            raise WorkError("the conversion and back wrote other bytes", where=str(again))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for stage in (inward, outward, resumed):
        stage["MB_per_second"] = total / 1e6 / stage["seconds"]
        stage["of_disk"] = stage["MB_per_second"] / disk["copy_MB_per_second"]
    return {
        "parameters": count_params(cfg),
        "bytes": total,
        "tensors": len(hf_entries(cfg)),
        "largest_tensor_bytes": max(2 * int(np.prod(e.shape)) for e in hf_entries(cfg).values()),
        "disk": disk,
        "from_hf": inward,
        "to_hf": outward,
        "to_hf_resumed": resumed,
        "checksums_equal": same,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }


def _synthetic(cfg: ModelConfig, dst: Path, max_shard_bytes: int) -> None:
    entries = hf_entries(cfg)
    rng = np.random.default_rng(0)
    # Clearing the exponent's highest bit leaves finite numbers below 2.
    pool = rng.integers(0, 2**16, 2**24 + 2**16, np.uint16) & np.uint16(0xBFFF)

    def read(name: str, dtype: np.dtype) -> np.ndarray:
        count = int(np.prod(entries[name].shape))
        bits = np.resize(pool[zlib.crc32(name.encode()) % 2**16 :], count)
        return bits.view(dtype).reshape(entries[name].shape)

    stored = dict.fromkeys(entries, np.dtype(ml_dtypes.bfloat16))
    write_hf(read, stored, cfg, dst, HfOptions(dtype=None, max_shard_bytes=max_shard_bytes))


def _weights(folder: Path) -> dict[str, str]:
    files = json.loads((folder / CHECKSUMS).read_text())["files"]
    return {name: digest for name, digest in files.items() if name.endswith(".safetensors")}


def _copy_rate(source: Path, dst: Path, total: int) -> dict[str, float]:
    """What dd would do with these files: read cold, write, fsync each; and the reading alone."""
    files = sorted(source.glob("*.safetensors"))
    dst.mkdir()
    block = bytearray(_BLOCK_BYTES)
    for file in files:
        to_disk(file)
    start = time.perf_counter()
    for file in files:
        with file.open("rb", buffering=0) as read, (dst / file.name).open("wb", buffering=0) as write:
            while count := read.readinto(block):
                write.write(memoryview(block)[:count])
            os.fsync(write.fileno())
        to_disk(dst / file.name)
        to_disk(file)
    copied = time.perf_counter() - start
    start = time.perf_counter()
    for file in files:
        with (dst / file.name).open("rb", buffering=0) as read:
            while read.readinto(block):
                pass
    seconds = time.perf_counter() - start
    shutil.rmtree(dst)
    for file in files:
        to_disk(file)
    return {"copy_MB_per_second": total / 1e6 / copied, "read_MB_per_second": total / 1e6 / seconds}


def _start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xlam_jax.cli.main", "convert", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _command(*arguments: Any) -> dict[str, Any]:
    """Runs `xlam convert` to its end: seconds, and memory as the command reports it."""
    report = Path(f"{arguments[2]}.json")
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    running = _start(*map(str, arguments), "--json", str(report))
    _, said = running.communicate()
    seconds = time.perf_counter() - start
    if running.returncode:
        raise WorkError(f"xlam convert {arguments[0]} failed: {said[-500:]}", where=str(arguments[2]))
    reported = json.loads(report.read_text())
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "conversion_seconds": reported["seconds"],
        "cpu_seconds": children.ru_utime + children.ru_stime - before.ru_utime - before.ru_stime,
        "peak_bytes": reported["peak_bytes"],
        "largest_process_bytes": children.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def _killed_and_resumed(
    src: Path, dst: Path, shard: str, shards: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    arguments = ("to-hf", str(src), str(dst), "--max-shard-size", shard)
    journal = dst.with_name(dst.name + ".partial") / JOURNAL
    start = time.perf_counter()
    running = _start(*arguments)
    try:
        while running.poll() is None and _lines(journal) - 1 < (shards + 1) // 2:
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        said = running.communicate()[1]
    killed = time.perf_counter() - start
    if running.returncode == 0:  # too small to be caught: converted whole, so nothing was resumed
        shutil.rmtree(dst)
        return {**_command(*arguments), "killed_after_seconds": None}
    if running.returncode != -signal.SIGKILL:
        raise WorkError(f"xlam convert to-hf failed: {said[-500:]}", where=str(dst))
    kept = _lines(journal) - 1
    progress(f"to-hf --resume after {kept} of {shards} shards")
    resumed = _command(*arguments, "--resume")
    return {
        **resumed,
        "seconds": killed + resumed["seconds"],
        "killed_after_seconds": killed,
        "shards": shards,
        "shards_kept": kept,
    }


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0
