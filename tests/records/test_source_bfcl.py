"""BFCL files -> Records: hand-written rows, and the published files counted by category."""

import json
from collections import Counter

import pytest

from tests.records.native_data import converted, folder, outcomes
from xlam_jax.errors import InputError
from xlam_jax.format import Tool, ToolCall
from xlam_jax.format.codec import TASK_INSTRUCTION
from xlam_jax.scoring.bfcl import score

F = {
    "name": "geo.area",
    "description": "Area.",
    "parameters": {
        "type": "dict",
        "properties": {
            "side": {"type": "float", "description": "Length."},
            "unit": {"type": "string", "default": "m"},
            "corners": {"type": "array", "items": {"type": "tuple"}},
            "style": {"type": "dict"},
        },
        "required": ["side"],
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "side": {"type": "number", "description": "Length."},
        "unit": {"type": "string", "default": "m"},
        "corners": {"type": "array", "items": {"type": "array"}},
        "style": {"type": "object"},
    },
    "required": ["side"],
}


def write(path, category, rows, answers=None):
    name = f"BFCL_v2_{category}.json"
    (path / name).write_text("\n".join(map(json.dumps, rows)))
    if answers is not None:
        (path / "possible_answer").mkdir(exist_ok=True)
        (path / "possible_answer" / name).write_text("\n".join(map(json.dumps, answers)))
    return path / name


def row(id, **extra):
    return {"id": id, "question": [{"role": "user", "content": "Area?"}], "function": [F], **extra}


def test_published_answers_become_calls(tmp_path):
    accepted = {"side": [2.0, 3], "unit": ["m", ""], "style": [{"fill": ["red", "blue"], "line": ["", 1]}]}
    write(
        tmp_path,
        "simple",
        [row("simple_0"), row("simple_1")],
        [{"id": "simple_0", "ground_truth": [{"geo.area": accepted}]}],
    )
    record, refused = outcomes("bfcl", tmp_path)
    assert (record.id, record.query, record.license) == ("bfcl-simple_0", "Area?", "Apache-2.0")
    assert record.tools == (Tool("geo.area", "Area.", SCHEMA),)
    # The first accepted value; what may be left out is left out, also inside a dict.
    assert record.steps[0].tool_calls == (ToolCall("geo.area", {"side": 2.0, "style": {"fill": "red"}}),)
    assert refused == "no_answer"


@pytest.mark.parametrize(
    ("said", "value", "stands"),
    [
        ("Area in Metres?", "metres", True),
        ("Area at 120 bpm", 120, True),
        ("Area of metresque", "metres", False),
        ("Take all of 2 areas", "all", False),
        ("Take 2 areas", 2, False),
        ("Area 1.120", 120, False),
        ("Is it True?", True, False),
        ("Area?", "metres", False),
        ("A radius of 5cm", "cm", True),
        ("A radius of 5 cm.", "cm", True),
    ],
)
def test_an_optional_argument_that_the_question_names_is_given(tmp_path, said, value, stands):
    """parallel_65 and parallel_135 name their unit, and their calls left it out."""
    question = {**row("simple_0"), "question": [{"role": "user", "content": said}]}
    truth = [{"id": "simple_0", "ground_truth": [{"geo.area": {"side": [2.0], "unit": ["", "km", value]}}]}]
    properties = {
        **SCHEMA["properties"],
        "unit": {"type": {str: "string", int: "integer"}.get(type(value), "boolean")},
    }
    question["function"] = [{**F, "parameters": {**F["parameters"], "properties": properties}}]
    record = outcomes("bfcl", write(tmp_path, "simple", [question], truth))[0]
    assert record.steps[0].tool_calls[0].arguments == {"side": 2.0, **({"unit": value} if stands else {})}


def test_system_turns_follow_the_task_instruction_and_users_turns_are_the_query(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, *({"role": "user", "content": t} for t in "ab")]
    write(tmp_path, "irrelevance", [{**row("irrelevance_0"), "question": [turns], "function": F}])
    (record,) = outcomes("bfcl", tmp_path)
    assert (record.query, record.task_instruction) == ("a\nb", f"{TASK_INSTRUCTION}\nBe brief.")
    assert len(record.steps) == 1 and not record.steps[0].tool_calls


def test_exec_answers_are_python_calls(tmp_path):
    truth = ["geo.area(side=-2.5, corners=[(0, 1), (2, 3)])", "geo.area(side=3/8)", "geo.area(500*500, 'km')"]
    bad = ["geo.area(1, 'm', [], {}, 5)", "geo.area(1, side=1)", "geo.area(side=1/0)", "geo.area(side=a*2)"]
    rows = [
        row(f"exec_parallel_{i}", ground_truth=calls) for i, calls in enumerate((truth, *([b] for b in bad)))
    ]
    record, *refused = outcomes("bfcl", write(tmp_path, "exec_parallel", rows))
    assert record.steps[0].tool_calls == (
        ToolCall("geo.area", {"side": -2.5, "corners": [[0, 1], [2, 3]]}),
        ToolCall("geo.area", {"side": 0.375}),
        ToolCall("geo.area", {"side": 250000, "unit": "km"}),
    )
    assert refused == ["bad_call"] * 4


def test_answers_that_fail_the_rules_are_refused(tmp_path):
    answers = [{"other": {"side": [1.0]}}, {"geo.area": {"side": []}}, {"geo.area": {}}, {"geo.area": [1]}]
    rows = [row(f"simple_{i}") for i in range(4)]
    truth = [{"id": f"simple_{i}", "ground_truth": [a]} for i, a in enumerate(answers)]
    assert outcomes("bfcl", write(tmp_path, "simple", rows, truth)) == ["bad_answer"] * 4


def test_java_arguments_are_source_text(tmp_path):
    f = {
        "name": "run",
        "description": "Runs.",
        "parameters": {
            "type": "dict",
            "properties": {
                "n": {"type": "long", "description": "How often."},
                "names": {"type": "ArrayList", "items": {"type": "String"}},
                "options": {"type": "HashMap"},
            },
            "required": ["n", "names", "options"],
        },
    }
    accepted = {"n": [5], "names": [["a", "b"]], "options": [{"x": [1], "y": ["z"]}]}
    truth = [{"id": "java_0", "ground_truth": [{"run": accepted}]}]
    path = write(tmp_path, "java", [{**row("java_0"), "function": [f]}], truth)
    (record,) = outcomes("bfcl", path)
    (call,) = record.steps[0].tool_calls
    assert call.arguments == {
        "n": "5L",
        "names": 'new ArrayList<String>(Arrays.asList("a", "b"))',
        "options": 'new HashMap<String, Object>() {{ put("x", 1); put("y", "z"); }}',
    }
    n = record.tools[0].parameters["properties"]["n"]
    assert n == {"type": "string", "description": "How often. Java source text of type long."}
    raw = [Tool(f["name"], "", f["parameters"])]
    assert score(raw, [call], truth[0]["ground_truth"], category="simple", language="java").valid

    name = "BFCL_v4_simple_java.json"  # as version 4 has it
    for inside in (tmp_path, tmp_path / "possible_answer"):
        (inside / "BFCL_v2_java.json").rename(inside / name)
    assert outcomes("bfcl", tmp_path / name) == [record]


def test_files_of_other_names_are_no_input(tmp_path):
    (tmp_path / "questions.json").write_text("{}")
    with pytest.raises(InputError, match="not a BFCL file"):
        outcomes("bfcl", tmp_path)


def test_a_folder_of_bfcl_eval_has_other_files_below_and_beside(tmp_path):
    write(tmp_path, "irrelevance", [row("irrelevance_0")])
    for name in (
        "memory_prereq_conversation/memory_customer.json",
        "multi_turn_func_doc/math_api.json",
        "x.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [record.id for record in outcomes("bfcl", tmp_path)] == ["bfcl-irrelevance_0"]


ROWS = {
    **{"simple": 400, "multiple": 200, "parallel": 200, "parallel_multiple": 200, "irrelevance": 240},
    **{"java": 100, "javascript": 50, "live_simple": 258, "live_multiple": 1037, "live_parallel": 16},
    **{"live_parallel_multiple": 24, "live_irrelevance": 875, "live_relevance": 41, "rest": 70},
    **{"exec_simple": 100, "exec_multiple": 50, "exec_parallel": 50, "exec_parallel_multiple": 40},
}
# Published answers that no output can meet: five kinds of slips in the answers themselves, and Java and
# JavaScript values (maps of plain values, mixed lists) that the reading of source text cannot give back.
UNREACHABLE = {
    **{"simple": 1, "parallel_multiple": 1, "live_simple": 2, "live_multiple": 3},
    **{"java": 5, "javascript": 2},
}


def test_published_files(tmp_path):
    summary, records = converted("bfcl", folder("bfcl_v2"), tmp_path)
    assert summary["rows"] == sum(ROWS.values()) == 3951
    assert summary["reasons"] == {"no_answer": 111, "bad_answer": 14}
    assert (summary["calls"], summary["valid"]) == (3719, 3691)
    ids = {record.id for record in records}
    assert len(ids) == summary["out"] == 3826
    out = Counter(record.id.removeprefix("bfcl-").rsplit("_", 1)[0] for record in records)
    lost = {category: n - out[category] for category, n in ROWS.items() if n != out[category]}
    assert lost == {"live_relevance": 41, "rest": 70, **UNREACHABLE}
    for record in records:
        assert bool(record.steps[0].tool_calls) != ("irrelevance" in record.id)


def test_one_published_file_is_read_alone_with_its_answers(tmp_path):
    summary, _ = converted("bfcl", folder("bfcl_v2") / "BFCL_v2_parallel.json", tmp_path)
    assert (summary["rows"], summary["out"]) == (200, 200)
