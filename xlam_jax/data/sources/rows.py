"""Files and folders -> rows, streaming: memory does not grow with the number of rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.data.sources.values import Row
from xlam_jax.errors import InputError
from xlam_jax.format.record import read_lines

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a file, or of every data file below a folder, in the order of their paths.

    Files: JSONL (each line a row), JSON (each item of a top-level list a row, streamed; any other value is
    one row), Parquet; each also with `.gz` behind its name. A `.json` file that holds one object a line is
    read as JSONL.

    Raises:
      InputError: nothing to read, an unknown suffix, or a broken file.
    """
    for file in data_files(path):
        yield from _read_file(file)


def data_files(path: Path) -> list[Path]:
    """The data files at `path`, sorted.

    Raises:
      InputError: there are none.
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and kind_of(p))
        if not found:
            raise InputError("no data file in this folder", where=str(path), hint=", ".join(SUFFIXES))
        return found
    if not path.is_file():
        raise InputError("input not found", where=str(path), hint="check the path")
    if not kind_of(path):
        raise InputError("not a file this reads", where=str(path), hint="one of " + ", ".join(SUFFIXES))
    return [path]


def kind_of(path: Path) -> str:
    """The suffix that tells how to read a file, "" when it is no data file."""
    name = path.name.removesuffix(".gz")
    return next((s for s in SUFFIXES if name.endswith(s)), "")


def _read_file(path: Path) -> Iterator[Row]:
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _read_parquet(path)
    elif kind == ".json":
        yield from _read_json(path)
    else:
        yield from (Row(where, raw=line) for line, where in read_lines(path))


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _read_json(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        head = file.read(4096).lstrip()
    if head.startswith(b"["):
        yield from _read_list(path)
    elif _is_json_lines(head):
        yield from (Row(where, raw=line) for line, where in read_lines(path))
    else:
        with _open(path) as file:
            yield Row(str(path), raw=file.read())


def _is_json_lines(head: bytes) -> bool:
    """Whether the first line is an object by itself and another follows."""
    first, newline, rest = head.partition(b"\n")
    if not newline:  # one long first line: an object that goes on for more than the head is judged by its end
        return False
    try:
        return isinstance(json.loads(first), dict) and rest.lstrip()[:1] == b"{"
    except ValueError:
        return False


def _read_list(path: Path) -> Iterator[Row]:
    try:
        import ijson
    except ImportError as e:
        hint = "pip install 'xlam-jax[data]'"
        raise InputError("reading a JSON list needs ijson", where=str(path), hint=hint) from e
    number = 0
    try:
        with _open(path) as file:
            for number, item in enumerate(ijson.items(file, "item", use_float=True), 1):
                yield Row(f"{path}[{number - 1}]", parsed=item)
    except (ijson.JSONError, UnicodeDecodeError, OSError, EOFError) as e:
        raise InputError(f"not valid JSON: {e}", where=f"{path}, after item {number}") from e


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as e:
        hint = "pip install 'xlam-jax[data]'"
        raise InputError("reading Parquet needs pyarrow", where=str(path), hint=hint) from e
    number = 0
    try:
        with _open(path) as file, pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(1024):
                for value in batch.to_pylist():
                    yield Row(f"{path}[{number}]", parsed=value)
                    number += 1
    except (pyarrow.ArrowException, OSError) as e:
        raise InputError(f"not valid Parquet: {e}", where=str(path)) from e
