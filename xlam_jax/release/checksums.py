"""SHA-256 of what was written: per file for people and resuming, per tensor for the identity of weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError, WorkError
from xlam_jax.release.folders import JOURNAL

CHECKSUMS = "checksums.json"
_BLOCK_BYTES = 4 * 2**20


class WeightsDigest:
    """SHA-256 of a set of named tensors in Hugging Face orientation, whatever their order and sharding."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}

    def add(self, name: str, array: np.ndarray) -> None:
        """Counts one C-contiguous tensor in."""
        body = hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()
        self.lines[name] = f"{name} {array.dtype} {list(array.shape)} {body}\n"

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256("".join(sorted(self.lines.values())).encode()).hexdigest()


@dataclass
class Journal:
    """What is finished of a folder that is being written, one JSON line per unit (a shard, a tensor).

    A conversion that was killed leaves its folder and this journal; opened again for the same job, `done`
    tells which units need not be written again, after reading their files back.

    Raises:
      InputError: the journal is of another job.
    """

    folder: Path
    job: Mapping[str, Any]
    digest: WeightsDigest = field(default_factory=WeightsDigest)
    verified_bytes: int = 0

    def __post_init__(self) -> None:
        self._files: dict[str, str] = {}
        self._found: dict[str, dict[str, Any]] = {}
        path = self.folder / JOURNAL
        first: Any = json.loads(json.dumps(self.job))  # tuples become lists, as in the file
        if path.is_file():
            lines = _whole_lines(path)
            if lines and lines[0] != first:
                odd = sorted(k for k in {*lines[0], *first} if lines[0].get(k) != first.get(k))
                raise InputError(
                    f"the unfinished folder is of another conversion: {', '.join(odd)} differs",
                    where=str(self.folder),
                    hint="repeat the command as it was, or leave out --resume to start anew",
                )
            self._found = {line["unit"]: line for line in lines[1:]}
        # Written anew, which also drops a line that was torn.
        path.write_text("".join(json.dumps(x) + "\n" for x in (first, *self._found.values())))

    def done(self, units: Iterable[str]) -> Iterator[str]:
        """Those units whose files are there and have the checksums that were noted; all cores read them."""
        lines = {unit: self._found[unit] for unit in units if unit in self._found}
        hashes = _hashes([self.folder / name for line in lines.values() for name in line["files"]])
        for unit, line in lines.items():
            if {name: next(hashes) for name in line["files"]} == line["files"]:
                self.verified_bytes += sum((self.folder / name).stat().st_size for name in line["files"])
                self._files |= line["files"]
                self.digest.lines |= line["tensors"]
                yield unit

    def add(self, unit: str, files: Mapping[str, str], tensors: Iterable[str]) -> None:
        """Notes a finished unit: file name -> SHA-256, and the names of its tensors (digested before)."""
        line = {"unit": unit, "files": dict(files), "tensors": {t: self.digest.lines[t] for t in tensors}}
        with (self.folder / JOURNAL).open("a") as f:
            f.write(json.dumps(line) + "\n")
        self._files |= files

    def seal(self) -> None:
        """Writes checksums.json over every file of the folder and removes the journal."""
        (self.folder / JOURNAL).unlink()
        # Noted names may carry the suffix that they had while unfinished.
        known = {name.removesuffix(".partial"): digest for name, digest in self._files.items()}
        names = sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file())
        files = {n: known.get(n) or file_sha256(self.folder / n) for n in names}
        text = json.dumps({"algorithm": "sha256", "files": files}, indent=2) + "\n"
        (self.folder / CHECKSUMS).write_text(text, encoding="utf-8")


def _whole_lines(path: Path) -> list[Any]:
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # the process was killed while it wrote this one
            break
    return found


def file_sha256(path: Path) -> str:
    """64 hexadecimal digits, as `sha256sum` prints."""
    digest, block = hashlib.sha256(), bytearray(_BLOCK_BYTES)
    with path.open("rb", buffering=0) as f:
        while count := f.readinto(block):
            digest.update(memoryview(block)[:count])
        # The pages were read once; keeping them would only push others out.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest.hexdigest()


def _hashes(paths: Iterable[Path]) -> Iterator[str | None]:
    """SHA-256 of each file in turn, None where there is none; all cores read, up to 16."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        yield from threads.map(lambda path: file_sha256(path) if path.is_file() else None, paths)


def check_files(folder: Path, progress: Callable[[str, int], None] = lambda name, nbytes: None) -> int:
    """Reads every file that checksums.json names; returns how many.

    Raises:
      InputError: no checksums.json, or an unreadable one.
      WorkError: files that are missing or changed.
    """
    path = folder / CHECKSUMS
    try:
        files = dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"no readable {CHECKSUMS}: {e}", where=str(folder)) from e
    bad = []
    for (name, expected), found in zip(files.items(), _hashes([folder / n for n in files]), strict=True):
        if found != expected:
            bad.append(name + (" (missing)" if found is None else ""))
        progress(name, 0 if found is None else (folder / name).stat().st_size)
    if bad:
        raise WorkError(
            f"{len(bad)} of {len(files)} files are not what was written: {', '.join(bad[:5])}",
            where=str(folder),
            hint="convert or copy the folder again",
        )
    return len(files)
