"""Rows of a library without a model, from strangers' files to training rows, as typed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import jsonschema
import pytest

from tests.apigen.own_tools import SHOP, invoke
from tests.apigen.strangers import SERVERS
from tests.apigen.walled import require_walls
from xlam_jax.apigen.api import read_library
from xlam_jax.apigen.offline.askable import askable
from xlam_jax.apigen.offline.measure import skeletons
from xlam_jax.apigen.offline.provenance import trace
from xlam_jax.files import JOURNAL
from xlam_jax.format.record import read_records

FILES = ("train.jsonl", "heldout.jsonl", "provenance.jsonl", "rejected.jsonl", "ledger.jsonl", "report.json")
ROWS = 260


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    require_walls()
    folder = tmp_path_factory.mktemp("offline")
    (folder / "servers.jsonl").write_text("\n".join(json.dumps(s, ensure_ascii=False) for s in SERVERS))
    invoke(
        *("apigen", "library", "build", f"python={SHOP}", "standard=dates", f"mcp={folder}/servers.jsonl"),
        *("--out", folder / "library", "--heldout", 0.2),
    )
    return folder / "library"


def config(folder, library, rows=ROWS):
    (folder / "c.yaml").write_text(
        f"library: {library}\nout: {folder}/rows\nrows: {rows}\nheldout_rows: 30\nlimits: {{seconds: 1.0}}\n"
    )
    return ["apigen", "run", folder / "c.yaml"]


@pytest.fixture(scope="module")
def made(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    said = invoke(*config(folder, library), "--json", folder / "report.json")
    return folder / "rows", json.loads((folder / "report.json").read_text()), said


def test_every_row_is_right_by_the_schemas_and_by_its_spans(made):
    folder, _, _ = made
    spans = {row["id"]: row["calls"] for row in map(json.loads, (folder / "provenance.jsonl").open())}
    records = list(read_records(folder / "train.jsonl"))
    assert len(records) == ROWS
    leaves = 0
    for record in records:
        tools = {tool.name: tool for tool in record.tools}
        assert len(tools) == len(record.tools)
        for call, found in zip(record.steps[0].tool_calls, spans[record.id], strict=True):
            jsonschema.validate(call.arguments, tools[call.name].parameters)
            for span in found:
                name, _, item = span["path"].partition(".")
                value = call.arguments[name]
                value = value[int(item)] if item else value
                words = record.query[span["start"] : span["end"]]
                schema = tools[call.name].parameters["properties"][name]
                # The words alone mean the value: nothing else of the query is needed, but for today's date.
                today = record.query.partition(". ")[0] if span["form"] == "relative" else ""
                assert trace(value, schema, name, f"{today}. {words}" if today else words), (
                    record.query,
                    span,
                )
                leaves += 1
    assert leaves > ROWS


def test_yields_add_up_and_what_failed_is_kept(made):
    folder, report, said = made
    for row in report["yields"]:
        failed = sum(row[k] for k in ("fail_format", "fail_execution", "fail_semantic", "duplicates"))
        assert row["generated"] == failed + row["verified"]
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").open()]
    assert Counter(f"{r['stage']}/{r['reason']}" for r in rejected) == Counter(report["reasons"])
    assert sum(report["categories"].values()) == ROWS + 30
    assert {"python", "mock"} <= set(report["executors"])
    assert "no_sensible_value" in said and "no_sentence" in said
    ledger = Counter(
        (row["stage"], row["verdict"]) for row in map(json.loads, (folder / "ledger.jsonl").open())
    )
    assert ledger["duplicates", "pass"] == ROWS + 30


def test_styles_are_what_they_say(made):
    folder, _, _ = made
    kinds = Counter()
    for record in read_records(folder / "train.jsonl"):
        style = record.lineage[0].removeprefix("style:")
        calls = record.steps[0].tool_calls
        names = {c.name for c in calls}
        kinds[style] += 1
        if style == "irrelevance":
            kinds[record.lineage[1]] += 1
            assert not calls
            if record.lineage[1] == "abstain:argument_missing":
                assert (
                    "?" in record.steps[0].thought
                    or "need" in record.steps[0].thought
                    or "give" in record.steps[0].thought
                )
        else:
            assert {"simple": (1, 1), "multiple": (1, 1), "parallel": (len(calls), 1),
                    "parallel_multiple": (len(calls), len(names))}[style] == (len(calls), len(names))  # fmt: skip
            assert len({json.dumps(c.arguments, sort_keys=True) + c.name for c in calls}) == len(calls)
    assert all(kinds[s] for s in ("simple", "multiple", "parallel", "parallel_multiple"))
    assert all(kinds[f"abstain:{k}"] for k in ("far_domain", "tool_missing", "argument_missing"))


def test_held_out_functions_are_never_seen_in_training(made, library):
    folder, _, _ = made
    heldout = {api.tool.name for api in read_library(library) if api.split == "heldout"}
    assert heldout
    for record in read_records(folder / "train.jsonl"):
        assert not heldout & {tool.name for tool in record.tools}
    for record in read_records(folder / "heldout.jsonl"):
        assert {tool.name for tool in record.tools} <= heldout


def test_secrets_and_what_has_no_sense_are_never_asked_for(made):
    folder, _, _ = made
    text = (folder / "train.jsonl").read_text()
    names = {tool.name for record in read_records(folder / "train.jsonl") for tool in record.tools}
    assert not names & {"blob", "ohne", "login"}
    for record in map(json.loads, text.splitlines()):
        for call in record["steps"][0]["tool_calls"]:
            assert "api_key" not in call["arguments"]


def test_the_same_bytes_from_two_workers(made, library, tmp_path):
    invoke(*config(tmp_path, library), "--workers", 2)
    for name in FILES:
        assert (tmp_path / "rows" / name).read_bytes() == (made[0] / name).read_bytes(), name


@pytest.mark.slow
def test_the_same_bytes_from_ray(made, library, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'xlam-jax[ray]'")
    invoke(*config(tmp_path, library), "--engine", "ray", "--workers", 2)
    for name in FILES:
        assert (tmp_path / "rows" / name).read_bytes() == (made[0] / name).read_bytes(), name


def test_a_kill_at_any_point_costs_nothing_but_time(made, library, tmp_path):
    words = [sys.executable, "-m", "xlam_jax.cli.main", *map(str, config(tmp_path, library))]
    partial = tmp_path / "rows.partial"
    for size in (1, 250_000):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = partial / "train.jsonl"
        while process.poll() is None and not (path.is_file() and path.stat().st_size >= size):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if partial.is_dir():  # a write that was cut in its middle
            with path.open("ab") as file:
                file.write(b'{"id": "half a li')
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    for name in FILES:
        assert (tmp_path / "rows" / name).read_bytes() == (made[0] / name).read_bytes(), name
    assert not partial.exists()


def test_an_unfinished_run_of_another_configuration_is_not_gone_on_with(library, tmp_path):
    words = config(tmp_path, library, rows=5000)
    command = [sys.executable, "-m", "xlam_jax.cli.main", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "rows.partial" / JOURNAL
    while not (journal.is_file() and b"\n" in journal.read_bytes()):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    said = invoke(*words, "seed=9", code=2)
    assert "another configuration" in said and "rows.partial" in said


def test_what_is_not_ours_stays(library, tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/notes.txt").write_text("mine")
    assert "notes.txt" in invoke(*config(tmp_path, library), code=2)
    assert (tmp_path / "rows/notes.txt").read_text() == "mine"
    (tmp_path / "rows").rename(tmp_path / "rows.partial")
    for words in (
        config(tmp_path, library),
        ("apigen", "run", "configs/demo/apigen.yaml", f"out={tmp_path}/rows"),
    ):
        assert "rows.partial" in invoke(*words, code=2)
    assert (tmp_path / "rows.partial/notes.txt").read_text() == "mine"


def test_a_library_that_cannot_be_asked_says_why(tmp_path):
    odd = {"tools": [t for t in SERVERS[3]["tools"] if t["name"] in ("blob", "ohne")]}
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    invoke("apigen", "library", "build", f"mcp={tmp_path}/odd.json", "--out", tmp_path / "library")
    said = invoke(*config(tmp_path, tmp_path / "library"), code=2)
    assert "no_sensible_value" in said and "no_sentence" in said


def test_measure_counts_what_the_rows_hold(made):
    folder, _, _ = made
    out = folder.parent / "measures.json"
    invoke("apigen", "measure", folder, "--json", out)
    found = json.loads(out.read_text())
    assert found["rows"] == ROWS
    calls = [c for r in read_records(folder / "train.jsonl") for c in r.steps[0].tool_calls]
    assert found["leaves"] == sum(
        len(v) if isinstance(v, list) else 1 for c in calls for v in c.arguments.values()
    )
    assert 10 < found["derived_pct"] < 60
    assert found["near_duplicates_pct"] <= found["near_duplicates_blanked_pct"]


def test_shipped_functions_are_asked_for_in_many_ways(library):
    shipped = [api for api in read_library(library) if api.door == "standard"]
    assert min(skeletons(shipped, draws=80).values()) >= 12


def test_every_askable_has_words_for_what_it_requires(library):
    for api in read_library(library):
        made = askable(api)
        if hasattr(made, "parameters") and not api.examples:
            required = set(api.tool.parameters.get("required", ()))
            assert required <= {p.name for p in made.parameters if p.kind and p.label}


@pytest.mark.parametrize(
    "damage", ["not json\n", "{}x\n", '{"plan": "p", "sizes": {"train.jsonl": 9}, "counts": {}}\n']
)
def test_a_damaged_unfinished_run_is_named(library, tmp_path, damage):
    (tmp_path / "rows.partial").mkdir()
    (tmp_path / "rows.partial" / JOURNAL).write_text(damage)
    assert "damaged" in invoke(*config(tmp_path, library), code=2)
    assert (tmp_path / "rows.partial" / JOURNAL).read_text() == damage


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate.turns=[1,3]"], "without effect"),
        (["calls.mcp=[nobody]"], "unknown group of the library 'nobody'"),
    ],
)
def test_keys_without_effect_are_refused(library, tmp_path, words, says):
    assert says in invoke(*config(tmp_path, library), *words, code=2)
