"""ToolAlpaca: golden answers and simulated runs -> Records."""

import json
from collections import Counter

from tests.records.native_data import converted, folder, outcomes
from xlam_jax.format import Tool, ToolCall
from xlam_jax.format.record import Step
from xlam_jax.records.sources.tool_alpaca import ASK

DOCUMENT = {
    "openapi": "3.0.0",
    "info": {"title": "Pets"},
    "paths": {
        "/find": {
            "get": {
                "description": "Finds.",
                "parameters": [
                    {"name": "name", "in": "query", "required": True, "schema": {"type": "string"}}
                ],
            }
        }
    },
}
FIND = Tool(
    "findPet",
    "Finds.",
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
)


def api(**more):
    return {
        "Name": "Pets",
        "Documentation": json.dumps(DOCUMENT),
        "Function_Projection": {"findPet": ["find", "GET"]},
        **more,
    }


def golden(*calls):
    return [{"Action": name, "Action_Input": text} for name, text in calls]


def write(root, *apis):
    (root / "eval.json").write_text(json.dumps(apis))
    (root / "public_apis.json").write_text('{"count": 1, "entries": [{"API": "Pets"}]}')
    return root


def test_golden_answers(tmp_path):
    answers = [
        golden(("findPet", '{"name": "Rex"}'), ("findPet", '{"name": ${owner from findPet}}')),
        golden(("findPet", '{"name": "Rex"}'), ("[Optional]findPet", "{}")),
        golden(("findPet", '{"name": ${some name}}')),
        golden(("findPet", '{"name": "{some name}"}')),
        golden(("findPet", '{"name": ')),
        [],
    ]
    instructions = [f"Instruction {i}" for i in range(len(answers))]
    first, second, *refused = outcomes(
        "tool-alpaca", write(tmp_path, api(Instructions=instructions, Golden_Answers=answers))
    )
    assert (first.query, first.license, first.tools) == ("Instruction 0", "Apache-2.0", (ASK, FIND))
    assert first.steps == (
        Step(
            tool_calls=(
                ToolCall("findPet", {"name": "Rex"}),
                ToolCall("findPet", {"name": "${owner from findPet}"}),
            )
        ),
    )
    assert second.steps == (Step(tool_calls=(ToolCall("findPet", {"name": "Rex"}),)),)
    assert refused == ["open_value", "open_value", "bad_json", "no_answer"]


def test_simulated_runs(tmp_path):
    log = ' I look for Rex.\nAction: findPet\nAction Input: {"name": "Rex"}'
    run = {
        "input": "Where is Rex?\nHint: findPet",
        "intermediate_steps": [[["findPet", '{"name": "Rex"}', log], "Status Code: 200."]],
        "Final Thought": "I know.",
        "output": "Here.",
    }
    failed = {"input": "Where is Rex?", "error": "too long"}
    record, refused = outcomes("tool-alpaca", write(tmp_path, api(Instances=[run, failed])))
    assert record.query == "Where is Rex?"
    assert record.steps == (
        Step("I look for Rex.", (ToolCall("findPet", {"name": "Rex"}),), "Status Code: 200."),
        Step("Here."),
    )
    assert refused == "no_answer"


def test_refusals_of_apis(tmp_path):
    some = {"Instructions": ["a"], "Golden_Answers": [golden(("findPet", "{}"))]}
    apis = [api(), api(**some, Documentation="{}"), api(**some, Function_Projection={"f": ["/no", "get"]})]
    assert outcomes("tool-alpaca", write(tmp_path, *apis)) == ["no_instructions", "bad_document", "bad_tool"]


def test_published_files(tmp_path):
    root = folder("tool_alpaca")
    summary, records = converted("tool-alpaca", root, tmp_path)
    files = [root / "eval_real.json", root / "eval_simulated.json"]
    instructions = [i for f in files for a in json.loads(f.read_text("utf-8")) for i in a["Instructions"]]
    assert summary["rows"] == len(instructions) == 114 + 100
    # Broken JSON in four answers; values left open in fourteen.
    assert summary["reasons"] == {"open_value": 14, "bad_json": 4}
    assert len({record.id for record in records}) == 196
    assert not Counter(r.query for r in records) - Counter(instructions)
    assert (summary["calls"], summary["valid"]) == (268, 246)
