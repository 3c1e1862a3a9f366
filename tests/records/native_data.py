"""Public data in its native formats, and sources run on it."""

import json
import os
from pathlib import Path

import pytest

from xlam_jax.format.record import Record, read_json_lines, read_records
from xlam_jax.records.sources import get_source
from xlam_jax.records.sources.convert import convert
from xlam_jax.records.sources.values import Refused


def folder(name):
    """The folder of a public data set; skips, saying where it looked."""
    root = Path(os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (root / name).is_dir():
        pytest.skip(f"public data folder not found: {root / name}")
    return root / name


def converted(source, path, tmp_path):
    """(the summary of `convert`, the Records)."""
    summary = convert(source, path, tmp_path / "out.jsonl")
    assert summary["rows"] == summary["out"] + summary["refused"]
    return summary, list(read_records(tmp_path / "out.jsonl"))


def converted_tools(source, path, tmp_path):
    """(the summary of `convert`, the tool descriptions)."""
    summary = convert(source, path, tmp_path / "out.jsonl")
    assert summary["rows"] == summary["out"] + summary["refused"]
    return summary, [value for value, _ in read_json_lines(tmp_path / "out.jsonl")]


def outcomes(source, path):
    """What each row becomes, in order: a Record, a tool, or the code of its refusal."""
    found = get_source(source)
    out = []
    for row in found.rows(path):
        try:
            made = found.convert(row)
        except Refused as e:
            out.append(e.code)
            continue
        if isinstance(made, Record):  # it travels as a line, and reads back as it was
            assert Record.from_json(json.loads(json.dumps(made.to_json()))) == made
        out.append(made)
    return out
