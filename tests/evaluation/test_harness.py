"""The harness on scripted engines: every number below is counted by hand."""

import json
from dataclasses import dataclass

import pytest

from xlam_jax.errors import InputError
from xlam_jax.evaluation import evaluate
from xlam_jax.evaluation.harness import parse_code
from xlam_jax.evaluation.report import error_table, table, write_report
from xlam_jax.format import ParseError, Record, Step, Tool, ToolCall, get_codec

CODEC = get_codec()


def tool(name, **types):
    properties = {k: {"type": t, "description": k} for k, t in types.items()}
    return Tool(name, name, {"type": "object", "properties": properties, "required": list(properties)})


ADD, ECHO = tool("add", a="integer", b="integer"), tool("echo", text="string")


def record(id, style, tools, *calls, steps=()):
    return Record(id, f"query {id}", tools, (Step(tool_calls=calls), *steps), lineage=(f"style:{style}",))


RECORDS = [
    record("s", "simple", (ADD,), ToolCall("add", {"a": 1, "b": 2})),
    record("m", "multiple", (ECHO, ADD), ToolCall("add", {"a": 3, "b": 4})),
    record("p", "parallel", (ADD,), ToolCall("add", {"a": 1, "b": 1}), ToolCall("add", {"a": 2, "b": 2})),
    record(
        "pm",
        "parallel-multiple",
        (ADD, ECHO),
        ToolCall("add", {"a": 1, "b": 1}),
        ToolCall("echo", {"text": "x"}),
    ),
    record("i", "irrelevance", (ECHO,)),
]


@dataclass
class Scripted:
    """An engine that answers by rule; it keeps what it was asked."""

    answer: object
    finish_reason: str = "stop"
    refuse: str = ""
    too_long: str = "\0"

    def grammar_error(self, grammar):
        return "no grammar" if self.refuse and self.refuse in grammar else ""

    def generate(self, prompts, *, grammars=None, **kwargs):
        self.prompts, self.grammars, self.kwargs = list(prompts), grammars, kwargs
        return [self._one(p) for p in prompts]

    def _one(self, prompt):
        fits = self.too_long not in prompt
        text = (self.answer(prompt) if callable(self.answer) else self.answer) if fits else ""
        return Generated(text, (5, 6) if fits else (), self.finish_reason if fits else "length", 11, 0.5)


@dataclass
class Generated:
    text: str
    token_ids: tuple
    finish_reason: str
    prompt_tokens: int
    seconds: float


def gold(prompt):
    found = next(r for r in RECORDS if f"query {r.id}\n" in prompt)
    return CODEC.render_calls(found.steps[0].tool_calls) + CODEC.stop


def test_a_perfect_engine():
    report = evaluate(Scripted(gold), RECORDS, CODEC)
    s = report.summary
    assert (s["n"], s["parsable"], s["ast"], s["ast_bfcl"]) == (5, 1.0, 1.0, 1.0)
    # Wilson at 5 of 5: low = 1 / (1 + 1.959964^2 / 5) = 0.56552
    assert s["ast_low"] == pytest.approx(0.56552, abs=1e-5) and s["ast_high"] == 1.0
    assert list(s["by_category"]) == ["irrelevance", "multiple", "parallel", "parallel_multiple", "simple"]
    assert all(g["n"] == 1 and g["ast"] == 1.0 for g in s["by_category"].values())
    assert (s["errors"], s["decoder_errors"], s["not_run"]) == ({}, {}, {})
    assert s["new_tokens"] == 10 and s["seconds_per_call"] == pytest.approx(s["seconds"] / 5)
    assert [r.id for r in report.rows] == ["s", "m", "p", "pm", "i"]


def test_an_engine_that_never_calls():
    report = evaluate(Scripted('{"tool_calls": []}'), RECORDS, CODEC)
    assert (report.summary["parsable"], report.summary["ast"]) == (1.0, 0.2)
    assert report.summary["errors"] == {"wrong_count": 4}
    assert report.summary["by_category"]["irrelevance"]["ast"] == 1.0


def test_garbage_is_no_refusal_but_bfcl_counts_it_as_one():
    s = evaluate(Scripted("I think so"), RECORDS, CODEC).summary
    assert (s["parsable"], s["ast"], s["ast_bfcl"]) == (0.0, 0.0, 0.2)
    assert s["decoder_errors"] == {"not_json": 5} and s["errors"] == {}
    assert s["ast_low"] == 0.0


def test_one_answer_for_all_mixes_right_and_wrong():
    answer = '{"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}]}'
    report = evaluate(Scripted(answer), RECORDS, CODEC)
    assert [r.outcome for r in report.rows] == ["right", "wrong", "wrong", "wrong", "wrong"]
    assert report.summary["ast"] == 0.2
    assert sum(report.summary["errors"].values()) == 4
    assert report.summary["errors"]["wrong_count"] == 2  # the two parallel ones
    assert report.summary["errors"]["unexpected_call"] == 1


def test_cut_off_text_and_prompts_that_do_not_fit_are_apart():
    report = evaluate(Scripted('{"tool_calls": [', "length", too_long="query p\n"), RECORDS, CODEC)
    assert report.summary["decoder_errors"] == {"cut_off": 4}
    assert report.summary["not_run"] == {"prompt_too_long": 1}
    assert report.summary["ast_bfcl"] == 0.2  # the irrelevance row, by BFCL's rule
    assert error_table(report) == [
        {"kind": "unparsable", "error": "cut_off", "rows": 4},
        {"kind": "not run", "error": "prompt_too_long", "rows": 1},
    ]


def test_constrained_evaluation_lets_the_list_be_empty_unless_a_call_is_required():
    engine = Scripted(gold)
    evaluate(engine, RECORDS, CODEC, constrained=True, max_new_tokens=9)
    assert engine.grammars == [CODEC.grammar(r.tools, 0, words=False) for r in RECORDS]
    assert engine.kwargs["max_new_tokens"] == 9
    evaluate(engine, RECORDS, CODEC, constrained=True, tool_choice="required")
    assert engine.grammars == [CODEC.grammar(r.tools, 1) for r in RECORDS]
    evaluate(engine, RECORDS, CODEC)
    assert engine.grammars is None


def test_a_grammar_that_is_refused_fails_its_rows_only():
    report = evaluate(Scripted(gold, refuse="echo"), RECORDS, CODEC, constrained=True)
    assert [r.outcome for r in report.rows] == ["right", "not_run", "right", "not_run", "not_run"]
    assert report.summary["not_run"] == {"grammar": 3} and report.summary["ast"] == 0.4


def test_every_step_is_asked_after_the_recorded_history():
    later = Step(tool_calls=(ToolCall("add", {"a": 3, "b": 3}),))
    first = Step(tool_calls=(ToolCall("add", {"a": 1, "b": 2}),), next_observation=3)
    both = Record("two", "add", (ADD,), (first, later), lineage=("style:parallel",))
    engine = Scripted('{"tool_calls": [{"name": "add", "arguments": {"a": 3, "b": 3}}]}')
    report = evaluate(engine, [both], CODEC, all_steps=True)
    assert engine.prompts == [CODEC.prompt(both, 0), CODEC.prompt(both, 1)]
    assert [(r.step, r.style, r.valid) for r in report.rows] == [(0, "parallel", False), (1, "simple", True)]
    assert evaluate(engine, [both], CODEC).summary["n"] == 1


def test_the_report_on_disk_and_as_a_table(tmp_path):
    report = evaluate(Scripted("Sorry"), RECORDS[:2], CODEC)
    write_report(report, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()]
    assert [(r["id"], r["text"], r["error"]) for r in lines] == [
        ("s", "Sorry", "not_json"),
        ("m", "Sorry", "not_json"),
    ]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == report.summary
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"generations.jsonl", "summary.json"}
    assert [(r["style"], r["rows"], r["AST accuracy %"]) for r in table(report)] == [
        ("multiple", 1, 0.0),
        ("simple", 1, 0.0),
        ("all", 2, 0.0),
    ]


def test_nothing_to_evaluate_is_an_input_error():
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(Scripted(""), [Record("x", "q", (), ())], CODEC)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("not JSON: Expecting value: line 1", "not_json"),
        ('the object has no key "tool_calls"', "the_object_has_no_key"),
        ("a call has no name", "a_call_has_no_name"),
        ("arguments of f: x are no object", "arguments_are_no_object"),
    ],
)
def test_parse_codes(message, code):
    assert parse_code(ParseError(message)) == code
