"""Rows as strangers write them, through the commands: nothing that was meant is lost, nothing else is kept."""

import json

import pytest

from tests.records.commands import TOOL, command, converted, record, row, typed, verified
from xlam_jax.format.record import Record, Step, read_records
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.augment.masking import mask_functions
from xlam_jax.records.augment.wordings import TASK_WORDINGS


@pytest.mark.parametrize("key", ["args", "kwargs", "params", "input", "Arguments", "parameters", "arguments"])
def test_arguments_under_any_key(tmp_path, key):
    given = {"city": "Oslo"}
    calls = [
        {"name": "search", key: given},
        {"type": "function", "function": {"name": "search", key: json.dumps(given)}},
        {"type": "function", "function": {"name": "search"}, key: given},
    ]
    found, refused = converted(tmp_path, *(row(f"r{i}", call) for i, call in enumerate(calls)))
    assert refused == []
    assert [r.steps[0].tool_calls[0].arguments for r in found.values()] == [given] * 3
    sets = {
        "xlam-60k": {"id": 1, "query": "q", "tools": [TOOL], "answers": [{"name": "search", key: given}]},
        "hermes": {
            "tools": json.dumps([TOOL]),
            "conversations": [
                {"from": "human", "value": "q"},
                {
                    "from": "gpt",
                    "value": f"<tool_call>{json.dumps({'name': 'search', key: given})}</tool_call>",
                },
            ],
        },
    }
    for source, one in sets.items():
        (record,), refused = (lambda got: (list(got[0].values()), got[1]))(
            converted(tmp_path, one, source=source)
        )
        assert record.steps[0].tool_calls[0].arguments == given, source


def test_arguments_under_a_key_that_nobody_knows_are_refused(tmp_path):
    found, refused = converted(tmp_path, row("r", {"name": "search", "payload": {"city": "Oslo"}}))
    assert found == {} and refused == ["bad_call"]


@pytest.mark.parametrize("written", [None, "", "null", {}, "{}"])
def test_a_call_without_arguments(tmp_path, written):
    found, refused = converted(tmp_path, row("r", {"function": {"name": "search", "arguments": written}}))
    assert refused == [] and found["r"].steps[0].tool_calls[0].arguments == {}


def test_required_beside_the_function(tmp_path):
    one = row("r", {"name": "search", "arguments": {"city": "Oslo"}})
    one["tools"][0]["required"] = ["city"]
    one["tools"][0]["function"] = {
        **TOOL,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    found, _ = converted(tmp_path, one)
    assert found["r"].tools[0].parameters["required"] == ["city"]


def test_a_thought_under_its_own_name(tmp_path):
    found, _ = converted(
        tmp_path, row("r", {"name": "search", "arguments": {"city": "Oslo"}}, thought="Oslo it is.")
    )
    assert found["r"].steps[0].thought == "Oslo it is."


@pytest.mark.parametrize(
    ("weight", "kept"), [(0, 0.0), (1, 1.0), (0.5, 0.5), (2, None), (1e999, None), (-1, None)]
)
def test_weights_are_from_nothing_to_all(tmp_path, weight, kept):
    found, refused = converted(tmp_path, row("r", {"name": "search", "arguments": {}}, weight=weight))
    assert refused == ([] if kept is not None else ["bad_message"])
    assert [r.steps[0].weight for r in found.values()] == ([] if kept is None else [kept])


def test_rows_that_differ_by_a_sign_a_type_or_a_word_are_no_duplicates(tmp_path):
    rows = [
        record("cpp", "search for C++ jobs", {"city": "C++"}), record("cs", "search for C# jobs", {"city": "C#"}),
        record("minus", "set it to -5 degrees please", {"stars": -5}),
        record("plus", "set it to 5 degrees please", {"stars": 5}),
        record("int", "take 5", {"x": 5}, tool=typed("x", {"type": "integer"})),
        record("list", "take 5", {"x": [5]}, tool=typed("x", {"type": "array", "items": {"type": "integer"}})),
        record("text", "take 5", {"x": "5"}, tool=typed("x", {"type": "string"})),
        record("untrained", "find a hotel in Oslo", {"city": "Oslo"}, weight=0.0),
        record("trained", "find a hotel in Oslo", {"city": "Oslo"}),
        record("ask", "book me a room", words="Which town should the room be in, and for how many nights?"),
        record("refuse", "book me a room", words="I am sorry, I can only search hotels, booking is beyond me."),
        record("again", "Find a hotel in OSLO!", {"city": "Oslo"}),
    ]  # fmt: skip
    kept, reasons = verified(tmp_path, *rows, more=())
    assert kept == [r.id for r in rows[:-1]]
    assert reasons["again"] in (["duplicate"], ["near_duplicate"])


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "number", "multipleOf": 0.01}, [0.07, 19.99, 1.15, 3, -0.01, 1e22], [0.075, 1e-3]),
        ({"type": "number", "multipleOf": 0.1}, [0.3, 0.7, 1e15], [0.35]),
        ({"type": "integer", "multipleOf": 5}, [10, 0], [7]),
        ({"type": "List[Optional[int]]"}, [[1, None], []], [["a"]]),
        ({"type": "Dict[str, Optional[int]]"}, [{"x": 1, "y": None}], [{"x": "a"}]),
        ({"type": "Optional[List[Optional[int]]]"}, [[None], None], [["a"]]),
        ({"type": "List[Literal['a', None]]"}, [["a", None]], [["b"]]),
        ({"type": "List[int]"}, [[1]], [[None]]),
        ({"type": "int?[]"}, [[1, None]], [["a"]]),
        ({"type": "List[Union[int, str, None]]"}, [[1, "a", None]], [[[1]]]),
    ],
)
def test_values_of_a_schema(tmp_path, schema, good, bad):
    tool = typed("x", schema)
    rows = [record(f"good{i}", f"take number {i}", {"x": v}, tool=tool) for i, v in enumerate(good)]
    rows += [record(f"bad{i}", f"take the other {i}", {"x": v}, tool=tool) for i, v in enumerate(bad)]
    kept, _ = verified(tmp_path, *rows)
    assert kept == [f"good{i}" for i in range(len(good))]


def test_to_ask_to_answer_and_to_refuse_are_three_rows(tmp_path):
    question = (
        "I am planning a trip to Norway with my family in the second week of July and we would like to stay "
        "near the harbour for five nights; could you look whether there is a quiet place with breakfast?"
    )
    words = {
        "ask": "Which town?",
        "answer": "Yes, the Harbour Inn.",
        "refuse": "I cannot do that; no tool fits.",
        "again": "I cannot do that, no tool fits!",
    }
    rows = [record(id, question, words=text) for id, text in words.items()]
    rows += [record("near", question + " Thanks!", words=words["refuse"])]
    kept, reasons = verified(tmp_path, *rows, more=())
    assert kept == ["ask", "answer", "refuse"]
    assert reasons["again"] == ["duplicate"] and reasons["near"] == ["near_duplicate"]


def test_masking_renames_references_and_leaves_names_that_thoughts_spell_otherwise():
    import numpy as np

    weather = Tool(
        "get_weather", "The weather.", {"type": "object", "properties": {"place": {"type": "string"}}}
    )
    tell = Tool("tell_user", "Tells.", {"type": "object", "properties": {"text": {"type": "string"}}})
    calls = (
        ToolCall("get_weather", {"place": "Oslo"}),
        ToolCall("tell_user", {"text": "$get_weather.city$"}),
    )
    one = Record("r", "weather?", (weather, tell), (Step("", calls),))
    masked = mask_functions(one, np.random.default_rng(0), None)  # type: ignore[arg-type]
    new = masked.tools[0].name
    assert new != "get_weather" and masked.steps[0].tool_calls[1].arguments == {"text": f"${new}.city$"}
    spelled = Record("r", "weather?", (weather, tell), (Step("I use getWeather now.", calls),))
    assert mask_functions(spelled, np.random.default_rng(0), None).tools[0].name == "get_weather"  # type: ignore[union-attr,arg-type]


def test_a_reference_to_nothing_in_a_number_is_found(tmp_path):
    tool = typed("x", {"type": "number"})
    rows = [
        record(f"r{i}", f"take {i}", {"x": v}, tool=tool)
        for i, v in enumerate(("$nosuch.temp$", "<<nosuch.x>>"))
    ]
    rows.append(record("mail", "send it", {"x": "{{user.name}}"}, tool=typed("x", {"type": "string"})))
    _, reasons = verified(tmp_path, *rows)
    assert "undefined_reference" in reasons["r0"] and "undefined_reference" in reasons["r1"]
    assert "undefined_reference" not in reasons.get("mail", [])


def test_secrets_in_headers_and_addresses(tmp_path):
    secret = "9f86d081884c7d659a2f"
    texts = (
        f"Authorization: Bearer {secret}",
        f"https://x.example/v1?city=Oslo&api_key={secret}",
        f"api_key={secret}",
        "hf_" + secret * 2,
        "glpat-" + secret,
    )
    tool = typed("headers", {"type": "string"})
    rows = [record(f"r{i}", f"ask service {i}", {"headers": t}, tool=tool) for i, t in enumerate(texts)]
    rows.append(record("said", f"use {secret}", {"headers": texts[0]}, tool=tool))
    rows.append(record("plain", "open it", {"headers": "https://x.example/?token=abc&page=2"}, tool=tool))
    kept, reasons = verified(tmp_path, *rows)
    assert kept == ["said", "plain"], reasons


def test_an_error_in_a_plug_in_costs_its_row(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from xlam_jax.records.sources.base import Source\n"
        "from xlam_jax.format.record import Record, Step\n"
        "def convert(row):\n"
        "    1 / row.obj['n']\n"
        "    return Record(str(row.obj['n']), 'q', (), (Step('words'),))\n"
        "SOURCE = Source('mine', 'm', '', '', convert)\n"
    )
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 0}\n{"n": 2}\n')
    out = command(
        "data", "convert", "--source", tmp_path / "mine.py", tmp_path / "rows.jsonl", tmp_path / "o.jsonl"
    )
    assert "unexpected_shape" in out
    assert [r.id for r in read_records(tmp_path / "o.jsonl")] == ["1", "2"]


def test_the_same_question_under_another_policy_stays(tmp_path):
    """Our own wordings of the task are one policy; somebody's system text is one of its own."""
    row = {
        "query": "Cancel my order A12, please, it is too late now.",
        "tools": [],
        "steps": [{"thought": "Done."}],
    }
    policies = (
        "",
        TASK_WORDINGS[0],
        TASK_WORDINGS[1],
        "You may cancel orders.",
        "You may not cancel orders.",
    )
    rows = [{**row, "id": str(i), "task_instruction": text} for i, text in enumerate(policies)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command("data", "verify", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert [r.id for r in read_records(tmp_path / "out.jsonl")] == ["0", "3", "4"]
