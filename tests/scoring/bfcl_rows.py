"""Rows of the published BFCL v2 files, and the calls their answers describe."""

import json
import os
from pathlib import Path

import pytest

from xlam_jax.format import Tool, ToolCall

# File suffix -> category of our scorer. The Java and JavaScript answers are values, not source text.
FILES = {
    "simple": "simple",
    "multiple": "multiple",
    "parallel": "parallel",
    "parallel_multiple": "parallel_multiple",
    "live_simple": "simple",
    "live_multiple": "multiple",
    "live_parallel": "parallel",
    "live_parallel_multiple": "parallel_multiple",
}


def folder():
    """The folder of the files; skips, saying where it looked."""
    root = Path(os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (root / "bfcl_v2").is_dir():
        pytest.skip(f"public data folder not found: {root / 'bfcl_v2'}")
    return root / "bfcl_v2"


def rows(name):
    """(row, answers) of one file, joined by id."""
    lines = (folder() / f"BFCL_v2_{name}.json").read_text("utf-8").splitlines()
    path = folder() / "possible_answer" / f"BFCL_v2_{name}.json"
    answers = {r["id"]: r["ground_truth"] for r in map(json.loads, path.read_text("utf-8").splitlines())}
    return [(row, answers[row["id"]]) for row in map(json.loads, lines)]


def raw_tools(row):
    """The functions with BFCL's own type names, which the rules are about."""
    functions = row["function"] if isinstance(row["function"], list) else [row["function"]]
    return [Tool(f["name"], f["description"], f["parameters"]) for f in functions]


def gold_calls(row, answers):
    """The best output the published answers allow: the first accepted value of every parameter.

    What may be left out is left out when it has no value or the schema does not know it (some answers
    misspell a parameter); a required one whose only accepted value is "" is given as that.
    """
    schemas = {tool.name: tool.parameters for tool in raw_tools(row)}
    return [
        ToolCall(name, _arguments(accepted, schemas.get(name, {})) if isinstance(accepted, dict) else {})
        for answer in answers
        for name, accepted in answer.items()
    ]


def _arguments(accepted, schema):
    out = {}
    for name, values in accepted.items():
        if _chosen(values) is not None:
            if "" not in values or name in schema.get("properties", {}):
                out[name] = _first(values)
        elif name in schema.get("required", ()) and "" in values:
            out[name] = ""
    return out


def _chosen(values):
    return next((v for v in values if v != ""), None)


def _first(values):
    return _plain(_chosen(values))


def _plain(value):
    """Dicts inside answers hold lists of accepted values; a dict of anything else is already plain."""
    if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()):
        return {k: _first(v) for k, v in value.items() if _chosen(v) is not None}
    if isinstance(value, list):
        return [_plain(v) if isinstance(v, dict) else v for v in value]
    return value
