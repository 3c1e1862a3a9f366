"""The example of docs/add-a-source.md, taken from the page and run."""

import json
import re
import sys
from pathlib import Path

from xlam_jax.data import sources
from xlam_jax.data.engine import LocalEngine
from xlam_jax.data.sources.convert import convert
from xlam_jax.format.record import Record, Step, read_records
from xlam_jax.format.values import Tool, ToolCall

PAGE = Path(__file__).parents[2] / "docs" / "add-a-source.md"


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return found


def test_the_example_works_as_written(tmp_path, monkeypatch):
    (tmp_path / "my_set.py").write_text(block("python"))
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    line = re.search(r'^"(my-set)": "(my_set)",$', PAGE.read_text("utf-8"), re.MULTILINE)
    monkeypatch.setitem(sources.SOURCES, line[1], line[2])
    row = json.loads(block("json"))
    broken = [{**row, "plan": "weather"}, {**row, "ask": ""}, {**row, "plan": [["weather", 3]]}, []]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [row, *broken]))
    try:
        result = convert("my-set", tmp_path / "rows.jsonl", tmp_path / "out.jsonl", engine=LocalEngine(1))
    finally:
        sys.modules.pop("xlam_jax.data.sources.my_set", None)
    assert (result["rows"], result["out"], result["calls"], result["valid"]) == (5, 1, 1, 1)
    assert result["reasons"] == {"bad_call": 2, "empty_turn": 1, "not_an_object": 1}
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert list(read_records(tmp_path / "out.jsonl")) == [
        Record(
            id="my-set-q7",
            query="Weather in Oslo?",
            tools=(Tool("weather", "", schema),),
            steps=(Step("", (ToolCall("weather", {"city": "Oslo"}),)), Step("3 C.")),
            source="my-set",
            license="MIT",
        )
    ]
