"""The example of docs/add-a-source.md, taken from the page and run."""

import json
import re
import sys
from pathlib import Path

import pytest

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, Step, read_records
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.engine import LocalEngine
from xlam_jax.records.sources import get_source
from xlam_jax.records.sources.convert import convert

PAGE = Path(__file__).parents[2] / "docs" / "add-a-source.md"


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_the_example_works_as_written(tmp_path, workers):
    (tmp_path / "my_set.py").write_text(block("python"))
    row = json.loads(block("json"))
    broken = [{**row, "plan": "weather"}, {**row, "ask": ""}, {**row, "plan": [["weather", 3]]}, []]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [row, *broken]))
    mine = str(tmp_path / "my_set.py")
    result = convert(mine, tmp_path / "rows.jsonl", tmp_path / "out.jsonl", engine=LocalEngine(workers))
    assert result["source"] == "my-set"
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


def test_a_package_offers_its_source_by_an_entry_point(tmp_path, monkeypatch):
    """As pip leaves it: the module, and the metadata with the lines of the page's pyproject.toml."""
    package, info = tmp_path / "my_package", tmp_path / "my_package-1.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "my_set.py").write_text(block("python"))
    lines = block("toml").splitlines()
    group, point = re.search(r'"(.+)"', lines[0])[1], lines[1].replace('"', "")
    more = (
        "broken = my_package.nothing:SOURCE\nother = my_package:__name__\nopenai = my_package.my_set:SOURCE"
    )
    (info / "entry_points.txt").write_text(f"[{group}]\n{point}\n{more}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert get_source("my-set").license == "MIT" and get_source("openai").name == "openai"
        with pytest.raises(InputError, match="cannot be imported"):
            get_source("broken")
        with pytest.raises(InputError, match="no SOURCE here but str"):
            get_source("other")
        with pytest.raises(InputError) as e:
            get_source("my-sett")
        assert e.value.hint == "my-set"
    finally:
        for name in [n for n in sys.modules if n.startswith("my_package")]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("SOURCE = 3", "no SOURCE here but int"),
        ("x = (", "SyntaxError"),
        (None, "not found"),
    ],
)
def test_files_that_are_no_sources_say_so(tmp_path, code, said):
    if code:
        (tmp_path / "bad.py").write_text(code)
    with pytest.raises(InputError, match=said) as e:
        get_source(str(tmp_path / "bad.py"))
    assert e.value.where == str(tmp_path / "bad.py")
