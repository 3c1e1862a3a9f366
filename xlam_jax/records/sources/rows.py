"""Files and folders -> rows, streaming: memory does not grow with the number of rows."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.extras import need
from xlam_jax.format.record import read_lines
from xlam_jax.records.sources.json_stream import stream_items
from xlam_jax.records.sources.values import Row

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow")

# What `datasets` writes beside its tables.
_ABOUT_TABLES = ("dataset_info.json", "state.json")
_HEAD = 4096
_BROKEN = (gzip.BadGzipFile, zlib.error, EOFError, OSError)


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a file, or of every data file below a folder, in the order of their paths.

    Files: JSONL (each line a row), JSON (each item of a top-level list a row, streamed; any other value is
    one row), Parquet, Arrow (as `datasets` keeps it on disk); each also with `.gz` behind its name. A `.json`
    file that holds one object a line is read as JSONL. A byte order mark is skipped.

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
        files = sorted(p for p in path.rglob("*") if p.is_file() and kind_of(p))
        tables = {p.parent for p in files if kind_of(p) == ".arrow"}
        files = [p for p in files if p.name not in _ABOUT_TABLES or p.parent not in tables]
        if not files:
            raise InputError("no data file in this folder", where=str(path), hint=", ".join(SUFFIXES))
        return files
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
    if kind in (".parquet", ".arrow"):
        yield from _read_table(path, kind)
    elif kind == ".json":
        yield from _read_json(path)
    else:
        yield from _read_lines(path)


def read_members(path: Path, key: str) -> Iterator[Row] | None:
    """Rows of a JSON file that holds one object of named rows, streamed; their names are `Row.extra`.

    Returns:
      None when it is no such file: the first member must be an object that has `key`.

    Raises:
      InputError: a broken file.
    """
    if kind_of(path) != ".json":
        return None
    members = _members(path)
    try:
        first = next(members, None)
    except InputError:  # whoever reads it in another way will say what is wrong
        return None
    if first is None or not isinstance(first.parsed, dict) or key not in first.parsed:
        return None
    return chain([first], members)


def _members(path: Path) -> Iterator[Row]:
    for name, value in _items(path):
        yield Row(f"{path}[{name!r}]", parsed=value, extra=name)


def _read_lines(path: Path) -> Iterator[Row]:
    try:
        for line, where in read_lines(path):
            line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield Row(where, raw=line)
    except (zlib.error, OSError) as e:
        raise InputError(f"cannot be read: {e}", where=str(path)) from e


def _open(path: Path) -> Any:
    """The file's bytes, unpacked, behind a byte order mark."""
    file: Any = gzip.GzipFile(path, "rb") if path.suffix == ".gz" else path.open("rb")
    try:
        if file.peek(3).startswith(codecs.BOM_UTF8):
            file.read(3)
    except _BROKEN as e:
        file.close()
        raise InputError(f"cannot be read: {e}", where=str(path)) from e
    return file


def _read_json(path: Path) -> Iterator[Row]:
    try:
        with _open(path) as file:
            first, then = _two_lines(file)
        if first.startswith(b"["):
            for number, (_, item) in enumerate(_items(path)):
                yield Row(f"{path}[{number}]", parsed=item)
        elif then.startswith(b"{") and _is_object(first):
            yield from _read_lines(path)
        elif first:
            with _open(path) as file:
                yield Row(str(path), raw=file.read())
    except _BROKEN as e:
        raise InputError(f"cannot be read: {e}", where=str(path)) from e


def _two_lines(file: Any) -> tuple[bytes, bytes]:
    """The first lines that are not blank; of a list and of the second line their beginning."""
    lines: list[bytes] = []
    while len(lines) < 2 and (line := file.readline(_HEAD)):
        line = line.lstrip()
        if line.startswith(b"{") and not lines:  # a row may be long: only the whole line tells
            line += b"" if line.endswith(b"\n") else file.readline()
        if line:
            lines.append(line)
        if line.startswith(b"["):
            break
    lines += [b"", b""]
    return lines[0], lines[1]


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        with _open(path) as file:
            for item in stream_items(file):
                yield item
                number += 1
    except (ValueError, *_BROKEN) as e:
        raise InputError(f"not valid JSON: {e}", where=f"{path}, after item {number}") from e


def _read_table(path: Path, kind: str) -> Iterator[Row]:
    need("pyarrow", "data", where=str(path))
    import pyarrow

    number = 0
    try:
        with _open(path) as file:
            for batch in _batches(file, kind):
                for value in batch.to_pylist():
                    yield Row(f"{path}[{number}]", parsed=value, typed=True)
                    number += 1
    except (pyarrow.ArrowException, *_BROKEN) as e:
        raise InputError(f"not valid {kind[1:].capitalize()}: {e}", where=str(path)) from e


def _batches(file: Any, kind: str) -> Iterator[Any]:
    import pyarrow

    if kind == ".parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(file) as table:
            yield from table.iter_batches(1024)
    elif file.peek(6).startswith(b"ARROW1"):  # the format with an index at its end (Feather)
        with pyarrow.ipc.open_file(file) as table:
            yield from (table.get_batch(i) for i in range(table.num_record_batches))
    else:
        with pyarrow.ipc.open_stream(file) as table:
            yield from table
