"""Typed tables give the Records of the JSONL that they were made of: their padding is no argument."""

import json

import pytest

from xlam_jax.format.record import read_records
from xlam_jax.records.quality.rules import RuleConfig, Rules
from xlam_jax.records.sources.convert import convert
from xlam_jax.records.sources.padding import NOTE

pyarrow = pytest.importorskip("pyarrow")


def tool(name, properties, required):
    schema = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
PAIR = {"type": "object", "properties": {"k": TEXT, "v": NUMBER}}
TOOLS = {
    "weather": tool("weather", {"city": TEXT, "days": NUMBER}, ["city"]),
    "mail": tool(
        "mail", {"to": {"type": "object", "properties": {"name": TEXT, "at": TEXT}}, "cc": TEXT}, ["to"]
    ),
    "list": tool("list", {"rows": {"type": "array", "items": PAIR}}, []),
    "erase": tool("erase", {"until": {"type": ["string", "null"]}}, ["until"]),
    "now": tool("now", {}, []),
}
CALLS = [
    ("weather", {"city": "Oslo"}),
    ("weather", {"city": "Oslo", "days": 3}),
    ("mail", {"to": {"name": "Ann"}}),
    ("mail", {"to": {"at": "home"}, "cc": "Bo"}),
    ("list", {"rows": [{"k": "a"}, {"v": 1}]}),
    ("erase", {"until": None}),
    ("now", {}),
]


def rows():
    for i, (name, arguments) in enumerate(CALLS):
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
        yield {
            "id": i,
            "messages": [
                {"role": "user", "content": f"Question {i}"},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "ok"},
                {"role": "assistant", "content": f"Answer {i}"},
            ],
            "tools": [TOOLS[name]],
        }


def written(folder, kind, table):
    if kind == "parquet":
        from pyarrow import parquet

        parquet.write_table(table, folder / "rows.parquet")
        return folder / "rows.parquet"
    if kind == "json of a table":
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        return folder / "rows.jsonl"
    if kind == "datasets":
        import datasets

        datasets.Dataset(table).save_to_disk(str(folder / "disk"))
        return folder / "disk"
    name = folder / "rows.arrow"
    opened = pyarrow.ipc.new_file if kind == "feather" else pyarrow.ipc.new_stream
    with opened(str(name), table.schema) as sink:
        sink.write_table(table, max_chunksize=3)
    return name


@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather", "datasets", "json of a table"])
def test_a_table_gives_the_records_of_its_rows(tmp_path, kind):
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    table = pyarrow.Table.from_pylist(list(rows()))
    # The table did pad: all calls have the arguments of all functions.
    padded = table.to_pylist()[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert set(padded) == {"city", "days", "to", "cc", "rows", "until"}
    convert("openai", tmp_path / "plain.jsonl", tmp_path / "a.jsonl")
    result = convert("openai", written(tmp_path, kind, table), tmp_path / "b.jsonl")
    assert result["out"] == len(CALLS) == result["valid"], result
    plain, read = (list(read_records(tmp_path / name)) for name in ("a.jsonl", "b.jsonl"))
    for i, (one, other) in enumerate(zip(plain, read, strict=True)):
        # A lone null of a row's own, which the JSON of a table cannot tell from padding, stays as well.
        assert other.steps == one.steps and other.query == one.query, i
        assert Rules(RuleConfig()).apply(other)[0] is not None
    assert sum(NOTE in record.lineage for record in read) >= 6 and not any(r.lineage for r in plain)


def test_nulls_that_somebody_wrote_stay(tmp_path):
    """In rows of JSON a null for an argument of the function is a value, until verification looks at it."""
    call = {"name": "weather", "arguments": {"city": "Oslo", "days": None}}
    row = {"query": "Oslo?", "answers": json.dumps([call]), "tools": json.dumps([TOOLS["weather"]])}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    convert("xlam-60k", tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    (record,) = read_records(tmp_path / "out.jsonl")
    assert record.steps[0].tool_calls[0].arguments == call["arguments"] and not record.lineage
