"""One stage of `data_memory.py` and its peak memory: a process that imports what the stage needs and no more."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def run_stage(stage: str, root: Path, tokenizer: str) -> None:
    """One stage on the files in `root`."""
    source = root / "records.jsonl"
    if stage == "convert":
        from xlam_jax.records.sources.convert import convert

        convert("xlam-60k", root / "raw.jsonl", root / "out.jsonl")
    elif stage.startswith("verify"):
        from xlam_jax.records.quality.verify import VerifyConfig, verify

        # These rows are alike on purpose of nothing but size: near duplicates are found and kept.
        near = "flag" if "near" in stage else "off"
        config = VerifyConfig.model_validate({"rules": {"actions": {"near_duplicate": near}}})
        verify(source, root / "out.jsonl", config)
    elif stage == "augment":
        from xlam_jax.records.augment.config import AugmentConfig
        from xlam_jax.records.augment.run import augment_file

        augment_file(source, root / "out.jsonl", AugmentConfig())
    else:
        from xlam_jax.shards.build import BuildConfig, build

        build(BuildConfig(inputs=[str(source)], tokenizer=tokenizer, out=str(root / "shards"), seq_len=2048))


def peak_mib() -> float:
    """This process's peak memory. Linux's `ru_maxrss` would also tell of the parent before the exec."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


if __name__ == "__main__":
    run_stage(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    print(peak_mib())
