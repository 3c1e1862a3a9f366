"""API-Bank dialogues and tasks -> Records."""

import json

import pytest

from tests.records.native_data import converted, folder, outcomes
from xlam_jax.errors import InputError
from xlam_jax.format import Tool, ToolCall
from xlam_jax.format.record import Step

HEAD = "id,a,b,c,d,e,name,f,g,api_info"
BOOK = """description = "Books a room."
input_parameters = {
    'hotel': {'type': 'str', 'description': 'Its name.'},
    'nights': {'type': 'int', 'description': 'How many.'},
}
output_parameters = {'status': {'type': 'str', 'description': 'ok'}}"""
TODAY = "description = 'Today.'\ninput_parameters = {\n    None\n}"
BOOK_TOOL = Tool(
    "Book",
    "Books a room.",
    {
        "type": "object",
        "properties": {
            "hotel": {"type": "string", "description": "Its name."},
            "nights": {"type": "integer", "description": "How many."},
        },
        "required": ["hotel", "nights"],
    },
)
TODAY_TOOL = Tool("Today", "Today.", {"type": "object", "properties": {}, "required": []})


def write(root, files):
    infos = {"Book": BOOK, "Today": TODAY, "Broken": "."}
    quoted = [
        f'{i},,,,,,{name},,,"{info.replace(chr(34), chr(34) * 2)}"'
        for i, (name, info) in enumerate(infos.items())
    ]
    (root / "all_apis.csv").write_text("\n".join([HEAD, *quoted]), "utf-8-sig")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text if isinstance(text, str) else "\n".join(map(json.dumps, text)))
    return root


def api(name, written, executed, output, exception=None):
    result = {"api_name": name, "input": executed, "output": output, "exception": exception}
    return {"role": "API", "api_name": name, "param_dict": written, "result": result}


def said(role, text):
    return {"role": role, "text": text}


def test_a_dialogue_becomes_steps(tmp_path):
    turns = [
        said("User", "A room, please."),
        said("AI", "Which hotel?"),
        said("User", "The 12."),
        said("AI", "I will book it."),
        api("Book", {"hotel": "12", "nights": "2"}, {"hotel": 12, "nights": 2}, "success"),
        api("Today", {}, None, None, "no clock"),
        said("User", "And?"),
        said("AI", "Done."),
        said("AI", "Anything else?"),
    ]
    write(tmp_path, {"level-1-given-desc/Today-Book-level-1-1.jsonl": turns})
    (record,) = outcomes("api-bank", tmp_path)
    assert record.id == "api-bank-level-1-given-desc/Today-Book-level-1-1"
    assert (record.query, record.license) == ("A room, please.", "MIT")
    assert record.tools == (TODAY_TOOL, BOOK_TOOL)
    assert record.steps == (
        Step("Which hotel?", user_input="The 12."),
        # Text as written where the API takes text, else the value it was executed with.
        Step("I will book it.", (ToolCall("Book", {"hotel": "12", "nights": 2}),), "success"),
        Step("", (ToolCall("Today", {}),), {"exception": "no clock"}, "And?"),
        Step("Done.\nAnything else?"),
    )


def test_what_the_tool_searcher_says_comes_before_the_table(tmp_path):
    found = [{"name": "Book", "description": "New.", "input_parameters": {"room": {"type": "str"}}}]
    turns = [
        said("User", "Book 7."),
        api("ToolSearcher", {"keywords": "book"}, {"keywords": "book"}, found),
        api("Book", {"room": "7"}, {"room": "7"}, "success"),
    ]
    write(tmp_path, {"level-2-toolsearcher/Book-level-3-1.jsonl": turns})
    (record,) = outcomes("api-bank", tmp_path / "level-2-toolsearcher" / "Book-level-3-1.jsonl")
    book, searcher = record.tools
    schema = {"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]}
    assert (book, searcher.name) == (Tool("Book", "New.", schema), "ToolSearcher")
    assert record.steps[0].next_observation == found


def test_a_task_is_one_step_with_its_facts_in_the_query(tmp_path):
    text = """Scene: Trip

First Utterence: Plan my trip.

Key Info:
- Hotel: 12

GT API Calls:
Book(hotel="12", nights=2): two nights
Today()
"""
    (record,) = outcomes("api-bank", write(tmp_path, {"lv3-samples/Trip.txt": text}))
    assert (record.id, record.query) == (
        "api-bank-lv3-samples/Trip",
        "Plan my trip.\n\nKey Info:\n- Hotel: 12",
    )
    assert record.steps == (
        Step("", (ToolCall("Book", {"hotel": "12", "nights": 2}), ToolCall("Today", {}))),
    )


def test_refusals(tmp_path):
    files = {
        "a-1.jsonl": "",
        "b-1.jsonl": [said("User", "Hi.")],
        "c-1.jsonl": [said("User", "Hi."), api("Broken", {}, {}, "")],
        "d-1.jsonl": "{",
        "e.txt": "no task",
    }
    codes = ["empty_dialogue", "no_answer", "unknown_api", "bad_json", "bad_task"]
    assert outcomes("api-bank", write(tmp_path, files)) == codes
    (tmp_path / "all_apis.csv").unlink()
    with pytest.raises(InputError, match=r"all_apis\.csv not found"):
        outcomes("api-bank", tmp_path)


def test_published_files(tmp_path):
    root = folder("api_bank")
    summary, records = converted("api-bank", root, tmp_path)
    files = [p for p in root.rglob("*") if p.suffix in (".jsonl", ".txt")]
    assert summary["rows"] == len(files) == 214 + 50 + 8
    # One file is empty; one API (ImageCaption) is described by a dot; in four the assistant speaks its calls.
    assert summary["reasons"] == {"bad_call": 4, "empty_dialogue": 1, "unknown_api": 1}
    assert len({record.id for record in records}) == summary["out"] == 266
    # The table describes other parameters than the dialogues used; the searcher describes 27 APIs of 50.
    assert (summary["calls"], summary["valid"]) == (539, 432)
    assert summary["faults"] == {"undefined_argument": 92, "missing_required": 91, "wrong_type": 1}
    lines = sum(line.count('"role": "API"') for f in files for line in f.read_text("utf-8").splitlines())
    made = [c for r in records if "lv3" not in r.id for s in r.steps for c in s.tool_calls]
    assert len(made) == lines - 3  # the call of the API without description, and two beside spoken ones
