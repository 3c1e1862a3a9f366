"""Rows through the commands, and what the tests of strangers' rows share."""

import json

from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.format.record import Record, Step, read_records, write_records
from xlam_jax.format.tools import normalise_tool
from xlam_jax.format.values import ToolCall

TOOL = {
    "name": "search",
    "description": "Finds hotels in a town.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "the town"}, "stars": {"type": "integer"}},
        "required": [],
    },
}
NO_DUPLICATES = ("rules.actions.duplicate=off", "rules.actions.near_duplicate=off")


def command(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def converted(tmp_path, *rows, source="openai"):
    """Records by id and refusals by the number of their line."""
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command("data", "convert", source, path, out)
    ledger = [json.loads(line) for line in (tmp_path / "out.jsonl.ledger.jsonl").read_text().splitlines()]
    refused = [entry["reason"] for entry in ledger if entry["verdict"] == "dropped"]
    return {r.id.split("-", 1)[-1]: r for r in read_records(out)}, refused


def row(id, call, tool=TOOL, **more):
    messages = [{"role": "user", "content": "Find a hotel in Oslo"}]
    messages.append({"role": "assistant", "content": None, "tool_calls": [call], **more})
    return {"id": id, "tools": [{"type": "function", "function": tool}], "messages": messages}


def verified(tmp_path, *records, more=NO_DUPLICATES):
    """Ids of the rows that stay, and the reasons of all findings by id."""
    write_records(tmp_path / "in.jsonl", records)
    command("data", "verify", tmp_path / "in.jsonl", tmp_path / "kept.jsonl", *more)
    ledger = [json.loads(line) for line in (tmp_path / "kept.jsonl.ledger.jsonl").read_text().splitlines()]
    reasons = {}
    for entry in ledger:
        if entry.get("reason"):
            reasons.setdefault(entry["id"], []).append(entry["reason"])
    return [r.id for r in read_records(tmp_path / "kept.jsonl")], reasons


def record(id, query, *calls, tool=TOOL, words="", weight=1.0):
    calls = tuple(ToolCall(tool["name"], arguments) for arguments in calls)
    return Record(id, query, (normalise_tool(tool),), (Step(words, calls, weight=weight),))


def typed(name, schema):
    return {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {name: schema}}}
