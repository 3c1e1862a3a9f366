"""A whole run: files, yields that add up, reproducible bytes, and the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xlam_jax.apigen.library import load_library
from xlam_jax.apigen.run import RunConfig, run
from xlam_jax.apigen.sandbox import run_calls
from xlam_jax.cli.apigen import app
from xlam_jax.config import load_config, make_config
from xlam_jax.errors import InputError, WorkError
from xlam_jax.format import read_records

REPO = Path(__file__).parents[2]
FILES = ("train.jsonl", "dev.jsonl", "heldout.jsonl", "rejected.jsonl", "ledger.jsonl", "library.json")
SMALL = {"rows": 120, "dev_rows": 20, "heldout_rows": 40, "generate": {"turns": [1, 3], "edge_cases": 0.2}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("apigen") / "run"
    seen = []
    report = run(make_config(RunConfig, SMALL), out, lambda *args: seen.append(args))
    return out, report, seen


def test_files_and_progress(made):
    out, _, seen = made
    assert sorted(p.name for p in out.iterdir()) == sorted(FILES)
    assert not out.with_name("run.partial").exists()
    assert len(list(read_records(out / "train.jsonl"))) == 120
    assert len(list(read_records(out / "heldout.jsonl"))) == 40
    assert seen[-1] == ("heldout", 40, 40) and ("train", 120, 120) in seen


def test_yields_add_up_and_match_the_ledger(made):
    out, report, _ = made
    entries = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    for row in report.yields:
        assert row["generated"] == sum(
            row[k] for k in ("verified", "fail_format", "fail_execution", "duplicates")
        )
        assert row["pass_rate"] == round(row["verified"] / row["generated"], 4)
        mine = [e for e in entries if e["id"].startswith(f"apigen-{row['split']}-")]
        assert len({e["id"] for e in mine}) == row["generated"]
        dropped = [e for e in mine if e["verdict"] == "dropped"]
        assert len(dropped) == row["generated"] - row["verified"]
        assert all(e["reason"] for e in dropped)
        for stage, key in (
            ("format", "fail_format"),
            ("execution", "fail_execution"),
            ("duplicates", "duplicates"),
        ):
            assert sum(e["stage"] == stage for e in dropped) == row[key]
    train = report.yields[0]
    # A fifth of the calls is careless on purpose: an honest table shows failures of both kinds.
    assert train["fail_execution"] > 0 and train["pass_rate"] < 0.97
    assert sum(report.reasons.values()) == sum(r["generated"] - r["verified"] for r in report.yields)


def test_no_name_of_one_split_in_the_file_of_another(made):
    for split in ("train", "dev", "heldout"):
        text = (made[0] / f"{split}.jsonl").read_text()
        names = {tool.name for r in read_records(made[0] / f"{split}.jsonl") for tool in r.tools}
        assert names and names <= {api.name for api in load_library() if api.split == split}
        for api in load_library():
            assert api.split == split or f'"name": "{api.name}"' not in text


def test_every_kept_call_executes_again(made):
    targets = {api.name: api.target for api in load_library()}
    for name in ("train.jsonl", "dev.jsonl", "heldout.jsonl"):
        calls = [c for r in read_records(made[0] / name) for step in r.steps for c in step.tool_calls]
        outcomes = run_calls([(targets[c.name], c.arguments) for c in calls])
        assert {o.status for o in outcomes} == {"ok"}


def test_lineage_names_style_and_checks(made):
    for record in read_records(made[0] / "heldout.jsonl"):
        assert record.source == "apigen/stdlib" and len(record.steps) == 1
        assert sum(part.startswith("style:") for part in record.lineage) == 1
        assert record.lineage[-2:] == ("check:format", "check:execution")


def test_two_runs_are_equal_byte_for_byte(made, tmp_path):
    run(make_config(RunConfig, SMALL), tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (made[0] / name).read_bytes(), name


def test_more_rows_begin_with_the_same_rows(made, tmp_path):
    run(make_config(RunConfig, SMALL, ["rows=150", "heldout_rows=0"]), tmp_path / "more")
    first = (made[0] / "train.jsonl").read_text().splitlines()
    assert (tmp_path / "more" / "train.jsonl").read_text().splitlines()[: len(first)] == first


def test_options(tmp_path):
    keys = ["rows=40", "heldout_rows=10", "rename=0.5", "observations=short"]
    run(make_config(RunConfig, SMALL, keys), tmp_path / "o")
    records = list(read_records(tmp_path / "o" / "train.jsonl"))
    masked = [r for r in records if "rename:mask" in r.lineage]
    assert 5 < len(masked) < 35
    assert all(s.next_observation for r in records for s in r.steps if s.tool_calls)
    assert not any("rename:mask" in r.lineage for r in read_records(tmp_path / "o" / "heldout.jsonl"))


def test_too_few_rows_is_said_and_nothing_is_left(tmp_path):
    config = make_config(
        RunConfig, {"rows": 300, "heldout_rows": 0, "attempts": 1.0, "generate": {"edge_cases": 1.0}}
    )
    with pytest.raises(WorkError, match="passed verification"):
        run(config, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_config_errors_name_the_key():
    with pytest.raises(InputError) as e:
        make_config(RunConfig, {"generate": {"typo": 0.1}})
    assert e.value.hint == "generate.typos"
    with pytest.raises(InputError):
        make_config(RunConfig, {"library": "nope"}) and run(
            make_config(RunConfig, {"library": "nope"}), "unused"
        )


def test_demo_config_is_valid():
    assert load_config(RunConfig, REPO / "configs/demo/apigen.yaml").generate.turns[1] > 1


def test_command_line(tmp_path):
    result = CliRunner().invoke(
        app,
        ["run", str(REPO / "configs/demo/apigen.yaml"), "rows=30", "heldout_rows=10", f"out={tmp_path / 'o'}",
         "--json", str(tmp_path / "r.json")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["yields"][0]["verified"] == 30
    assert (tmp_path / "o" / "train.jsonl").exists()


def test_command_line_lists_the_library(tmp_path):
    result = CliRunner().invoke(app, ["library", "list", "--heldout", "--json", str(tmp_path / "l.json")])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "l.json").read_text())
    assert {r["name"] for r in rows} == {api.name for api in load_library() if api.heldout}
    wrong = CliRunner().invoke(app, ["library", "list", "--category", "datess"])
    assert isinstance(wrong.exception, InputError) and wrong.exception.hint == "dates"


def test_the_room_starts_without_jax():
    code = (
        "import sys, xlam_jax.apigen.run, xlam_jax.cli.apigen; print(*({'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
    assert done.stdout.split() == []


def test_rejected_rows_are_records_again(made, tmp_path):
    """What the ledger says was dropped is in the file, and a training row of it is a Record with its reason."""
    out, report, _ = made
    kept = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert len(kept) == sum(report.reasons.values()) > 0
    wanted = [row["id"] for row in kept if row["stage"] == "execution" and "-train-" in row["id"]]
    done = CliRunner().invoke(
        app, ["rejected", str(out), str(tmp_path / "rows.jsonl"), "--stage", "execution"]
    )
    assert done.exit_code == 0, done.output
    records = list(read_records(tmp_path / "rows.jsonl"))
    assert [record.id for record in records] == wanted and wanted
    assert all(record.lineage[-1].startswith("rejected:execution/") for record in records)
    passed = {record.id for record in read_records(out / "train.jsonl")}
    assert not passed & set(wanted)


@pytest.mark.parametrize(
    ("stage", "said"), [("exectuion", "unknown stage"), ("semantic", "no training row failed there")]
)
def test_rejected_rows_of_no_stage(made, tmp_path, stage, said):
    done = CliRunner().invoke(app, ["rejected", str(made[0]), str(tmp_path / "rows.jsonl"), "--stage", stage])
    assert isinstance(done.exception, InputError) and said in str(done.exception)
    assert not (tmp_path / "rows.jsonl").exists()
