"""Published tables: their own arithmetic, and a run that stands where its columns put it."""

import json

import pytest
from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.evaluation.bfcl.aggregate import OVERALL
from xlam_jax.evaluation.published import published

V2 = published()["bfcl-v2"]


def shown(*args, code=0):
    done = CliRunner().invoke(app, ["eval", "published", *map(str, args)], env={"COLUMNS": "100"})
    assert done.exit_code == code, done.output
    return done.output


def test_the_overall_follows_from_the_ten_columns_in_all_55_rows():
    assert len(V2.rows) == 55
    for model, row in V2.rows:
        values = V2.values(row)
        assert OVERALL["v2"].combine(values) == pytest.approx(values["overall"], abs=0.015), model
    for model, row in published()["tau-bench"].rows:
        overall, retail, airline = row
        assert (retail + airline) / 2 == pytest.approx(overall, abs=0.051), model


def test_every_table_is_dated_sourced_and_whole():
    for table in published().values():
        assert table.source and len(table.date) == 10 and table.rows
        assert all(len(row) == len(table.columns) for _, row in table.rows)
        assert f"published {table.date}" in shown(table.name)


def test_columns_of_one_kind_are_shown_as_the_leaderboard_does():
    # The AST and exec summaries of the leaderboard's own page for this model: 82.76 and 92.39.
    (line,) = (text for text in shown("bfcl-v2").splitlines() if "xLAM-8x22b-r" in text)
    assert "82.76" in line and "92.39" in line and "87.31" in line


def run_of(folder, version="v2", **columns):
    folder.mkdir()
    board = {name: {"missing": ["x"]} for name in V2.columns[1:]}
    board |= {name: {"value": v, "low": v - 0.1, "high": v, "n": 9} for name, v in columns.items()}
    board["live"] = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 9}  # a sub-board, no column of the overall
    kept = {"version": version, "bfcl": {"columns": board}, "strict": {"columns": board}}
    (folder / "summary.json").write_text(json.dumps(kept))
    return folder


def test_a_run_stands_by_the_columns_that_it_has(tmp_path):
    run = run_of(tmp_path / "mine", ast_simple=0.7, relevance=0.9)
    shown("bfcl-v2", run, "--json", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["columns_alike"] == ["ast_simple", "relevance"]
    alike = {line["model"]: line["alike"] for line in result["alike"]}
    assert alike["mine (bfcl rules)"] == pytest.approx(80.0)
    assert alike["xLAM-7b-r (FC)"] == pytest.approx((69.85 + 92.68) / 2)
    order = [line["model"] for line in result["alike"]]
    above = [m for m, row in V2.rows if (row[1] + row[10]) / 2 > 80.0]
    assert order.index("mine (bfcl rules)") == len(above)
    assert [line["rank"] for line in result["alike"] if line["rank"]] == list(range(1, 56))


def test_two_runs_are_compared_by_what_both_have(tmp_path):
    one = run_of(tmp_path / "one", ast_simple=0.7, relevance=0.9)
    two = run_of(tmp_path / "two", ast_simple=0.6, irrelevance=0.5)
    shown("bfcl-v2", one, two, "--all", "--json", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["columns_alike"] == ["ast_simple"] and len(result["alike"]) == 57


def test_what_cannot_be_compared_is_refused(tmp_path):
    run = run_of(tmp_path / "v4", version="v4", ast_simple=0.7, relevance=0.9)
    for args, words in (
        (["bfcl-v2", run], "the run is of v4"),
        (["agents", run], "not measured as agents was"),
        (["bfcl-v2", run_of(tmp_path / "one", ast_simple=0.7)], "1 columns of the board"),
        (["bfcl-v2", tmp_path / "none"], "not found"),
        (["bfcl2"], "try:   bfcl-v2"),
    ):
        from xlam_jax.errors import InputError

        done = CliRunner().invoke(app, ["eval", "published", *map(str, args)])
        said = done.output + (str(done.exception) if isinstance(done.exception, InputError) else "")
        assert done.exit_code != 0 and words in said, (args, said)
