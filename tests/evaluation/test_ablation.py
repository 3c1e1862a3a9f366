"""Ablations through the command: stages made once, killed and gone on with, compared as counted by hand."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.config import load_config, make_config
from xlam_jax.errors import InputError, XlamError
from xlam_jax.evaluation.ablation.compare import compare, mean
from xlam_jax.evaluation.ablation.config import AblationConfig
from xlam_jax.evaluation.ablation.plan import plan
from xlam_jax.evaluation.harness import CaseResult

REPO = Path(__file__).resolve().parents[2]
EVAL = "eval toolquery --model {model} --limit {tasks} --seed {seed} --out {here}"
SETTINGS = {
    "seeds": [0, 1],
    "training": "",
    "variables": {"tasks": 2},
    "stages": {"eval": EVAL},
    "arms": {"empty": {"model": "scripted:empty"}, "gold": {"model": "scripted:gold"}},
}


def write(folder, **changes):
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "out": str(folder / "out"), **changes}))
    return path


def xlam(*words):
    """(exit status, what was said), in this process; the stages are processes of their own."""
    done = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "200"})
    if isinstance(done.exception, XlamError):
        return done.exception.exit_code, done.output + str(done.exception)
    return done.exit_code, done.output


def report(folder):
    return json.loads((folder / "out" / "report.json").read_text())


def made(said):
    """How many stages a run made."""
    return sum(line.startswith("[") for line in said.splitlines())


def test_arms_come_to_what_scripted_models_come_to_and_only_what_changed_is_made_again(tmp_path):
    path = write(tmp_path)
    status, said = xlam("ablate", path)
    assert status == 0 and made(said) == 4
    empty, gold = report(tmp_path)["arms"]
    # Three worlds of two tasks, twice; empty finishes none and gold all.
    assert (empty["rows"], empty["score"]["value"], empty["difference"]) == (12, 0.0, None)
    assert gold["seeds"] == [1.0, 1.0] and gold["difference"] == pytest.approx(
        {"value": 1.0, "low": 1.0, "high": 1.0}
    )
    assert (gold["better"], gold["worse"]) == (12, 0) and gold["outcomes"] == {"right": 12}
    # No width would say that twelve rows settle it: Wilson's interval of 0 of 12.
    assert empty["score"]["high"] == pytest.approx(0.2425, abs=1e-4)
    page = (tmp_path / "out" / "report.html").read_text()
    links = [part.split('"')[0] for part in page.split('<a href="')[1:]]
    assert len(links) == 8 and all((tmp_path / "out" / link).is_file() for link in links) and "<svg" in page
    before = (tmp_path / "out" / "report.json").read_bytes()

    status, said = xlam("ablate", path)
    assert status == 0 and made(said) == 0 and (tmp_path / "out" / "report.json").read_bytes() == before
    assert made(xlam("ablate", path, "arms.lazy={model: 'scripted:lazy'}")[1]) == 2
    assert "progress" in xlam("ablate", path, "score=nosuch")[1]  # the scores that there are
    status, said = xlam("ablate", path, "score=progress")
    assert status == 0 and made(said) == 0 and report(tmp_path)["arms"][1]["score"]["value"] == 1.0


def test_a_killed_ablation_goes_on_to_the_same_report_and_leaves_no_command_at_work(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    path = write(killed, seeds=[0, 1, 2])
    assert xlam("ablate", write(whole, seeds=[0, 1, 2]))[0] == 0
    command = [sys.executable, "-m", "xlam_jax.cli.main", "ablate", str(path)]
    process = subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stages = killed / "out" / "stages"
    deadline = time.monotonic() + 120
    while len(list(stages.glob("*.log"))) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(stages.glob("eval-????????????.json")))
    assert 2 <= there < 6
    while at_work(str(stages)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status, said = xlam("ablate", path)
    assert status == 0 and made(said) == 6 - there
    one, other = report(whole), report(killed)
    assert [one.pop("folders"), other.pop("folders")] and one == other


def test_a_command_that_outlived_its_ablation_is_waited_for(tmp_path, monkeypatch):
    """Training takes a step and a save to end after its parent was killed."""
    path = write(tmp_path, seeds=[0], arms={"gold": {"model": "scripted:gold"}})
    lease = plan(load_config(AblationConfig, path), "gold", 0).folder / "lease.json"
    holding = (
        "import sys; from pathlib import Path; from xlam_jax.lease import Lease\n"
        "with Lease(Path(sys.argv[1]), 'run folder'): print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holding, str(lease)]
    with subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline()

        def end_it(seconds):
            holder.communicate()

        # Of this module alone: a lease sleeps, too.
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=end_it)
        monkeypatch.setattr("xlam_jax.evaluation.ablation.run.time", clock)
        status, said = xlam("ablate", path)
        assert holder.poll() == 0
    assert status == 0 and "waiting for the one before" in said and "another process works" in said


def at_work(text):
    """Whether a process has `text` in its command."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_text("utf-8", "replace"):
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


def test_a_command_that_fails_says_so_and_the_rest_stays(tmp_path):
    path = write(
        tmp_path, arms={"gold": {"model": "scripted:gold"}, "none": {"model": "scripted:nosuch"}}, seeds=[0]
    )
    status, said = xlam("ablate", path)
    assert status == 1 and "stage eval failed with exit status 2" in said and "nosuch" in said
    status, said = xlam("ablate", path, "arms.none.model='scripted:empty'")
    assert status == 0 and made(said) == 1


def test_stages_are_shared_and_named_by_the_content_of_their_files(tmp_path):
    """A file of records is a stage's input, another stage reads it, and both arms stand on one of them."""
    source = tmp_path / "rows.jsonl"
    source.write_text((REPO / "configs/demo/records.jsonl").read_text())
    changes = {
        "stages": {
            "clean": f"data verify {source} {{here}}/rows.jsonl",
            "more": ["data", "augment", "{rows}", "{here}/o.jsonl"],
        },
        "arms": {"plain": {}, "varied": {}},
        "variables": {"rows": "{clean}/rows.jsonl"},
        "result": "more",
    }
    config = make_config(AblationConfig, {**SETTINGS, "out": str(tmp_path / "out"), **changes})
    first = plan(config, "plain", 0)
    assert first == plan(config, "varied", 1)  # neither the arm nor the seed stands in its command
    assert [stage.name for stage in first.ancestry().values()] == ["clean", "more"]
    assert first.command[2] == str(first.needs[0].folder / "rows.jsonl")
    source.write_text(source.read_text() + "\n")
    second = plan(config, "plain", 0)
    assert second.key != first.key and second.needs[0].key != first.needs[0].key
    assert second.command[-1] == f"{second.folder}/o.jsonl"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": {"eval": "eval {modle}"}}, "model"),
        ({"stages": {"eval": "eval {model}", "train": "train {eval}"}, "result": "trian"}, "train"),
        ({"stages": {"eval": "eval {a}", "a": "data {b}", "b": "data {a}"}}, "eval -> a -> b -> a"),
        ({"variables": {"x": "{y}", "y": "{x}"}, "stages": {"eval": "eval {x}"}}, "x -> y -> x"),
        ({"stages": {"eval": "xlam eval"}}, "words behind"),
        ({"stages": {"eval": "eval 'x"}}, "quotation"),
        ({"baseline": "nobody"}, "unknown arm"),
        ({"seeds": [1, 1]}, "twice"),
        ({"arms": {}}, "arms"),
    ],
)
def test_what_does_not_hold_together_is_said(tmp_path, changes, said):
    status, text = xlam("ablate", write(tmp_path, **changes), "--dry-run")
    assert status == 2 and said in text and "Traceback" not in text
    assert not (tmp_path / "out").exists()


def row(id, right, style="one"):
    return CaseResult(
        id,
        style,
        0,
        "right" if right else "wrong",
        "" if right else "name",
        "",
        False,
        [],
        "",
        "stop",
        1,
        1,
        0.1,
    )


def rows(*verdicts):
    return [row(str(i), right) for i, right in enumerate(verdicts)]


def test_differences_are_within_rows_and_counted_by_hand():
    found = compare(
        {"a": [rows(1, 1, 0, 0), rows(1, 0, 0, 0)], "b": [rows(1, 0, 1, 1), rows(1, 1, 1, 0)]}, "a", "ast"
    )
    a, b = found
    assert a.score.value == 3 / 8 and b.score.value == 6 / 8 and b.seeds == [0.75, 0.75]
    assert b.difference and b.difference.value == 3 / 8 and (b.better, b.worse) == (4, 1)
    assert b.outcomes == {"right": 6, "name": 2}
    assert b.difference.low < 3 / 8 < b.difference.high


def test_an_arm_is_no_different_from_itself_however_the_rows_lie():
    table = [rows(1, 0, 1), rows(0, 0, 1)]
    turned = [list(reversed(of_seed)) for of_seed in table]
    _, same = compare({"a": table, "b": turned}, "a", "ast")
    assert same.difference and (same.difference.low, same.difference.value, same.difference.high) == (0, 0, 0)


def test_arms_that_answered_other_rows_are_refused():
    with pytest.raises(InputError, match="other rows"):
        compare({"a": [rows(1, 0)], "b": [rows(1, 0, 1)]}, "a", "ast")
    other = [replace(r, id=f"x{r.id}") for r in rows(1, 0)]
    with pytest.raises(InputError, match="other rows"):
        compare({"a": [rows(1, 0)], "b": [other]}, "a", "ast")


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Rows of their own ease and seeds of their own luck: so many intervals hold the mean they were drawn from."""
    draw, hits, trials = np.random.default_rng(0), 0, 120
    for trial in range(trials):
        ease, luck = draw.normal(0, 0.2, 40), draw.normal(0, 0.05, 12)
        table = [0.5 + ease + shift + draw.normal(0, 0.2, 40) for shift in luck]
        found = mean(table, True, seed=trial)
        hits += found.low <= 0.5 <= found.high
    assert 0.9 <= hits / trials <= 1.0


def test_the_ablations_of_the_page_can_be_planned():
    for name in ("data", "filter"):
        status, said = xlam("ablate", f"configs/ablate/{name}.yaml", "--dry-run")
        assert status == 0 and "eval-" in said
