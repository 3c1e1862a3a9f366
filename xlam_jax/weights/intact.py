"""Whether a checkpoint is what was written: an XXH3 of each of its files, in a file that appears with them.

Costs one reading of the checkpoint each way. After a save the pages are still in memory, and another thread reads
while the training goes on; before a restore the reading that follows finds them in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

CHECKSUMS = "checksums.json"
_BLOCK_BYTES = 4 * 2**20
# Orbax writes the time of its commit into this one after everything else.
_CHANGES = "_CHECKPOINT_METADATA"


def seal(folder: Path) -> None:
    """Writes the checksums of all files under `folder`, a checkpoint that is not visible yet."""
    names = sorted(
        str(p.relative_to(folder))
        for p in folder.rglob("*")
        if p.is_file() and p.name not in (CHECKSUMS, _CHANGES)
    )
    sums = dict(zip(names, _sums(folder / name for name in names), strict=True))
    text = json.dumps({"algorithm": "xxh3_128", "files": sums}, indent=0) + "\n"
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")


def damage(folder: Path, part: int = 0, parts: int = 1, under: str = "") -> str | None:
    """What of a checkpoint is not as it was written; "" when all of it is, None when it was never sealed.

    Args:
      part: of `parts`; this process looks at every `parts`-th file.
      under: only files whose path in `folder` begins so.

    Raises:
      OSError: the files could not be read, which says nothing about them.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        return None
    try:
        files = dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError):
        return f"{CHECKSUMS} is not readable"
    mine = [name for name in sorted(files) if name.startswith(under)][part::parts]
    missing = [name for name in mine if not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    for name, digest in zip(mine, _sums(folder / name for name in mine), strict=True):
        if digest != files[name]:
            return f"{name} is not what was written"
    return ""


def size(folder: Path) -> int:
    """Bytes of all files under `folder`."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _sums(paths: Iterable[Path]) -> Iterator[str]:
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        yield from threads.map(_sum, paths)


def _sum(path: Path) -> str:
    digest, block = xxhash.xxh3_128(), bytearray(_BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
    return digest.hexdigest()
