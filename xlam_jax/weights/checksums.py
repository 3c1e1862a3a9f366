"""Digests of what was written: SHA-256 per file for people and resuming, XXH3 per tensor for the weights' identity."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xxhash

from xlam_jax.errors import InputError, WorkError
from xlam_jax.files import JOURNAL, MARKER, sha256_of

CHECKSUMS = "checksums.json"
SYNC_BYTES = 2**20
"""Files of at least this size are on the disk before a journal notes them."""
_BLOCK_BYTES = 4 * 2**20
_FORMAT = 3


class WeightsDigest:
    """XXH3-128 of a set of named tensors in Hugging Face orientation, whatever their order and sharding.

    It tells weights apart; what guards against forgery is the SHA-256 of the files. A second SHA-256 of every
    byte would slow conversions down, which the processor limits.
    """

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}

    def add(self, name: str, array: np.ndarray) -> None:
        """Counts one C-contiguous tensor in."""
        body = xxhash.xxh3_128_hexdigest(array.reshape(-1).view(np.uint8).data)
        self.lines[name] = f"{name} {array.dtype} {list(array.shape)} {body}\n"

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return xxhash.xxh3_128_hexdigest("".join(sorted(self.lines.values())).encode())


@dataclass
class Origin:
    """What a source says its weights are, against what was read of them.

    Attributes:
      folder: of the source.
      expected: digest of all tensors as the source stores them.
      seen: tensors that are written otherwise than they were read (another dtype, other rows); the rest are in the
        digest of what is written.
    """

    folder: Path
    expected: str
    seen: WeightsDigest = field(default_factory=WeightsDigest)

    def check(self, written: WeightsDigest) -> None:
        """Raises InputError when a byte of the source changed since its digest was taken."""
        whole = WeightsDigest()
        whole.lines = {**written.lines, **self.seen.lines}
        if whole.hexdigest() == self.expected:
            return
        what = "the weights are not those that weights_xxh3_128 of xlam.json says"
        if (self.folder / CHECKSUMS).is_file():
            try:
                check_files(self.folder)
            except WorkError as e:
                what = e.what
        raise InputError(
            what,
            where=str(self.folder),
            hint="copy or convert SRC again; if it was changed on purpose, delete weights_xxh3_128 from xlam.json",
        )


@dataclass
class Journal:
    """What is finished of a folder that is being written, one JSON line per unit (a shard, a tensor).

    A conversion that was killed leaves its folder and this journal; opened again for the same job, `done`
    tells which units need not be written again: those whose files still have the size and the modification time
    that were noted, or else their checksum.

    Raises:
      InputError: the journal is of another job.
    """

    folder: Path
    job: Mapping[str, Any]
    digest: WeightsDigest = field(default_factory=WeightsDigest)
    origin: Origin | None = None

    def __post_init__(self) -> None:
        self._files: dict[str, str] = {}
        self._found: dict[str, dict[str, Any]] = {}
        path = self.folder / JOURNAL
        # Through JSON, which makes lists of tuples, as in the file. Its format: what a version digests otherwise,
        # it must not go on with.
        first: Any = json.loads(json.dumps({"journal": _FORMAT, **self.job}))
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
        """Those units whose files are as they were noted; all cores read the files whose times do not tell."""
        lines = {unit: self._found[unit] for unit in units if unit in self._found}
        read = [n for line in lines.values() for n in line["files"] if not self._untouched(n, line["stats"])]
        hashes = dict(zip(read, _hashes([self.folder / name for name in read]), strict=True))
        for unit, line in lines.items():
            if all(hashes.get(name, digest) == digest for name, digest in line["files"].items()):
                self._files |= line["files"]
                self.digest.lines |= line["tensors"]
                if self.origin:
                    self.origin.seen.lines |= line["read"]
                yield unit

    def add(self, unit: str, files: Mapping[str, str], tensors: Iterable[str]) -> None:
        """Notes a finished unit: file name -> SHA-256, and the names of its tensors (digested before)."""
        stats = {name: _size_and_time(self.folder / name) for name in files}
        digests = {t: self.digest.lines[t] for t in tensors}
        seen = self.origin.seen.lines if self.origin else {}
        read = {t: seen[t] for t in digests if t in seen}
        line = {"unit": unit, "files": dict(files), "stats": stats, "tensors": digests, "read": read}
        with (self.folder / JOURNAL).open("a") as f:
            f.write(json.dumps(line) + "\n")
        self._files |= files

    def _untouched(self, name: str, stats: Mapping[str, list[int]]) -> bool:
        # A conversion that is not interrupted does not read its files back either, and these are known to be on
        # the disk. Small files may be lost with the machine.
        path = self.folder / name
        return stats[name][0] >= SYNC_BYTES and path.is_file() and _size_and_time(path) == stats[name]

    def seal(self) -> None:
        """Writes checksums.json over every file of the folder and removes the journal.

        Raises:
          InputError: what was read is not what the source's digest says.
        """
        if self.origin:
            self.origin.check(self.digest)
        (self.folder / JOURNAL).unlink()
        # Noted names may carry the suffix that they had while unfinished.
        write_checksums(
            self.folder, {name.removesuffix(".partial"): digest for name, digest in self._files.items()}
        )


def write_checksums(folder: Path, known: Mapping[str, str], names: Iterable[str] | None = None) -> None:
    """Writes checksums.json.

    Args:
      known: name -> SHA-256 that need not be read again.
      names: of the files that it covers; None is every file of a folder that was made here.
    """
    if names is None:
        names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {n: known.get(n) or sha256_of(folder / n) for n in sorted({*names} - {CHECKSUMS, MARKER})}
    (folder / CHECKSUMS).write_bytes(checksums_text(files))


def checksums_text(files: Mapping[str, str]) -> bytes:
    """The content of checksums.json for name -> SHA-256."""
    return (json.dumps({"algorithm": "sha256", "files": dict(files)}, indent=2) + "\n").encode()


def read_checksums(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of a folder's checksums.json.

    Raises:
      InputError: there is none that can be read, or it names what is not in the folder.
    """
    try:
        files = dict(json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        raise InputError(f"no readable {CHECKSUMS}: {e}", where=str(folder)) from e
    if not files:
        raise InputError(
            f"{CHECKSUMS} names no file", where=str(folder), hint="convert or copy the folder again"
        )
    for name in files:
        parts = PurePosixPath(name).parts if isinstance(name, str) else ()
        if not parts or ".." in parts or parts[0] == "/" or "\\" in name:
            raise InputError(
                f"{CHECKSUMS} names {name!r}, which is not in the folder", where=str(folder),
                hint="convert or copy the folder again",
            )  # fmt: skip
    return files


def _size_and_time(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _whole_lines(path: Path) -> list[Any]:
    entries = []
    for line in path.read_text().splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:  # the process was killed while it wrote this one
            break
    return entries


def _hashes(paths: Iterable[Path]) -> Iterator[str | None]:
    """SHA-256 of each file in turn, None where there is none; all cores read, up to 16."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        yield from threads.map(lambda path: sha256_of(path) if path.is_file() else None, paths)


def check_files(
    folder: Path,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
    files: Mapping[str, str] | None = None,
) -> int:
    """Reads every file that checksums.json names, or of `files` (name -> SHA-256); returns how many.

    Raises:
      InputError: no checksums.json, or an unreadable one.
      WorkError: files that are missing or changed.
    """
    files, bad = read_checksums(folder) if files is None else files, []
    for (name, expected), digest in zip(files.items(), _hashes([folder / n for n in files]), strict=True):
        if digest != expected:
            bad.append(name + (" (missing)" if digest is None else ""))
        progress(name, 0 if digest is None else (folder / name).stat().st_size)
    if bad:
        raise WorkError(
            f"{len(bad)} of {len(files)} files are not what was written: {', '.join(bad[:5])}",
            where=str(folder),
            hint="convert or copy the folder again",
        )
    return len(files)
