"""Whole runs on a tiny model: resume, stop, refuse, and what lies in the run folder."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tests import tiny_run
from xlam_jax.cli.train import register
from xlam_jax.config import make_config
from xlam_jax.errors import InputError, WorkError
from xlam_jax.shards.folder import MANIFEST, fingerprint, write_shards
from xlam_jax.shards.loader import PackedSource, Steps
from xlam_jax.training import length, loop
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import train
from xlam_jax.training.notice import notice_seconds
from xlam_jax.training.run_folder import read_lines, read_metrics
from xlam_jax.weights import load_model

EXACT = ("step", "loss", "accuracy", "grad_norm", "lr")


def config(settings, *overrides) -> TrainConfig:
    return make_config(TrainConfig, settings, overrides)


def params_of(run, mesh=None):
    return jax.device_get(load_model(run)[1])


def exact_metrics(run):
    return [{k: row[k] for k in EXACT} for row in read_metrics(run) if "loss" in row]


@pytest.fixture(scope="module")
def reference(world, tmp_path_factory):
    """An uninterrupted run of ten steps: (folder, result)."""
    out = tmp_path_factory.mktemp("reference") / "run"
    values = {
        "model": str(world / "model"),
        "data": {"train": str(world / "data"), "eval": str(world / "eval")},
    }
    values |= {"out": str(out), "steps": 10, "batch": {"rows": 4}, "optim": {"lr": 1e-2, "weight_decay": 0.1}}
    values |= {"checkpoint": {"every": 0}, "track": ["tensorboard"]}
    return out, train(make_config(TrainConfig, values), console=Console(quiet=True))


def test_the_run_folder(reference, world):
    out, result = reference
    assert result.finished and result.step == result.total_steps == 10 and result.stopped == ""
    rows = [r for r in read_metrics(out) if "loss" in r]
    assert [r["step"] for r in rows] == list(range(1, 11))
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]
    assert (
        rows[0]["padded_tokens_per_second"]
        > rows[0]["tokens_per_second"]
        > rows[0]["target_tokens_per_second"]
    )
    assert result.eval["eval_loss"] == pytest.approx(rows[-1]["loss"], rel=0.4)
    assert (out / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert list((out / "tensorboard").iterdir())
    assert json.loads((out / "versions.json").read_text())["jax"] == jax.__version__
    written = make_config(TrainConfig, yaml.safe_load((out / "config.yaml").read_text()))
    assert written.steps == 10 and written.optim.beta2 == 0.999
    assert (out / "tokenizer.json").read_bytes() == (world / "model" / "tokenizer.json").read_bytes()
    assert not list(out.rglob("*.partial")) and not list(out.rglob("*orbax-checkpoint-tmp*"))
    assert load_model(out)[0].num_layers == 2
    (saved,) = [e for e in read_lines(out / "events.jsonl") if e["event"] == "complete"]
    assert 0 < saved["seconds"] < result.seconds and notice_seconds(out) >= 60


def test_eval_loss_is_that_of_the_objective_by_hand(reference, world):
    """One row at a time through the plain forward pass."""
    from xlam_jax.models.decoder import forward, head_matrix

    out, result = reference
    cfg, params = load_model(out)
    total = weight = 0.0
    source = PackedSource(world / "eval")
    for i in range(len(source)):
        row = source[i][0]
        hidden, _ = forward(params, row.tokens[None], row.positions[None], row.segment_ids[None], cfg)
        log_probs = np.asarray(jax.nn.log_softmax(hidden[0] @ head_matrix(params)))
        total -= (log_probs[np.arange(len(row.targets)), row.targets] * row.loss_weights).sum()
        weight += row.loss_weights.sum()
    assert result.eval["eval_loss"] == pytest.approx(total / weight, rel=1e-4)


def test_five_and_five_is_ten_bitwise(reference, settings):
    """Also in steps that go on while a checkpoint is being written."""
    out, _ = reference
    first = train(config(settings, "stop_at=5", "checkpoint.every=2"))
    assert first.stopped == "stop_at" and first.step == 5 and not first.finished
    second = train(config(settings), resume="must")
    assert second.resumed_from == 5 and second.finished
    assert exact_metrics(settings["out"]) == exact_metrics(out)
    jax.tree.map(np.testing.assert_array_equal, params_of(settings["out"]), params_of(out))


def test_the_command_resumes_bitwise_too(reference, settings, tmp_path):
    """And a batch of samples trains as the rows do that it comes to."""
    out, _ = reference
    manifest = PackedSource(settings["data"]["train"]).manifest
    settings["batch"] = {"samples": round(4 * manifest["records"] / manifest["rows"])}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(settings))
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)

    def xlam(*args):
        return CliRunner().invoke(app, ["train", str(path), *args], catch_exceptions=False)

    assert xlam("stop_at=5").exit_code == 0
    with pytest.raises(InputError, match="holds checkpoints"):
        xlam("--resume", "never")
    report = tmp_path / "r.json"
    assert xlam("--resume", "must", "--json", str(report)).exit_code == 0
    assert json.loads(report.read_text())["tokens_per_second"] > 0
    jax.tree.map(np.testing.assert_array_equal, params_of(settings["out"]), params_of(out))
    written = make_config(TrainConfig, yaml.safe_load((Path(settings["out"]) / "config.yaml").read_text()))
    assert written.batch.samples == settings["batch"]["samples"]


def test_resume_on_another_mesh(settings):
    """With frozen layers, which are saved as one stack with the trained ones."""
    freeze_layers = 1
    changes = (f"freeze_layers={freeze_layers}", "steps=4")
    whole = config(settings, *changes, f"out={settings['out']}-whole")
    train(whole)
    train(config(settings, *changes, "stop_at=2", "mesh.fsdp=2", "mesh.tensor=2"))
    result = train(config(settings, *changes, "mesh.data=4", "batch.accumulation=1"))
    assert result.resumed_from == 2 and result.finished
    ours, wanted = params_of(settings["out"]), params_of(whole.out)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), ours, wanted)
    base = jax.device_get(load_model(settings["model"])[1])
    np.testing.assert_array_equal(ours.layers.attn.q[:freeze_layers], base.layers.attn.q[:freeze_layers])
    assert not np.array_equal(ours.layers.attn.q[freeze_layers:], base.layers.attn.q[freeze_layers:])


def test_must_resume_needs_a_checkpoint(settings):
    with pytest.raises(InputError, match="no checkpoint"):
        train(config(settings), resume="must")
    assert not Path(settings["out"]).exists()


def test_sigterm_saves_and_the_same_command_goes_on(settings, reference, tmp_path):
    """A real process, a real signal."""
    path = tmp_path / "c.yaml"
    settings["optim"]["warmup"] = 0.0
    path.write_text(yaml.safe_dump({**settings, "steps": 5000, "log": {"every": 1}}))
    code = (
        "import typer, sys; from xlam_jax.cli.train import register; from xlam_jax.errors import XlamError\n"
    )
    code += "app = typer.Typer(); register(app); app.command('x')(lambda: None)\n"
    code += "try: app()\nexcept XlamError as e: print(e); sys.exit(e.exit_code)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", str(path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while (
            len(read_metrics(settings["out"])) < 3 and time.monotonic() < deadline and process.poll() is None
        ):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, output
    assert "stopped by SIGTERM, saved at step" in output
    stopped = max(int(p.name) for p in (Path(settings["out"]) / "checkpoints").iterdir())
    assert f"saved at step {stopped} of 5000" in output
    result = train(config(yaml.safe_load(path.read_text()), f"stop_at={stopped + 2}"), resume="must")
    assert (result.resumed_from, result.step) == (stopped, stopped + 2)
    assert [r["step"] for r in read_metrics(settings["out"])] == list(range(1, stopped + 3))


def poisoned_model(world, folder: Path, token: int) -> Path:
    """The model with a NaN in the input embedding of one token: only rows that hold the token go bad."""
    shutil.copytree(world / "model", folder)
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = np.nan
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_nan_stops_the_run_and_names_the_records(world, settings, tmp_path):
    source = PackedSource(world / "data")
    steps = Steps(source, 4, 1, 0, 10)
    counts = [
        {t: np.sum([(steps[s].tokens[0, b] == t).any() for b in range(4)]) for t in range(3, 400)}
        for s in range(3)
    ]
    # A token that is in no row of the first two steps, and in some rows, not all, of the third.
    token = next(t for t in range(3, 400) if counts[0][t] == counts[1][t] == 0 and 0 < counts[2][t] < 4)
    settings["model"] = str(poisoned_model(world, tmp_path / "poisoned", token))
    # A frozen table, so that the decay and the moments of the first two steps do not spread the NaN.
    settings["checkpoint"] = {"every": 1}
    with pytest.raises(WorkError, match=r"step 3: loss nan") as error:
        train(config(settings, "freeze=[embed]"))
    rows = [b for b in range(4) if (steps[2].tokens[0, b] == token).any()]
    named = [i for b in rows for i in steps.record_ids(2)[0][b]]
    assert error.value.where == "records: " + ", ".join(named)
    assert "checkpoint is of step 2" in error.value.hint
    folders = sorted(p.name for p in (Path(settings["out"]) / "checkpoints").iterdir())
    assert folders == ["1", "2"]
    assert all(np.isfinite(r["loss"]) for r in read_metrics(settings["out"]))


def test_nan_weights_in_the_data_name_the_row(world, settings, tmp_path):
    source = PackedSource(world / "data")
    rows = [source[i] for i in range(len(source))]
    rows[2][0].loss_weights[5] = np.nan
    manifest = {k: source.manifest[k] for k in ("seq_len", "codec", "tokenizer")}
    write_shards(tmp_path / "bad", rows, manifest)
    settings["data"]["train"] = str(tmp_path / "bad")
    with pytest.raises(WorkError) as error:
        train(config(settings, "max_epochs=1", "steps=auto"))
    assert error.value.where == "records: " + ", ".join(rows[2][1])


def started(settings, *changes):
    train(config(settings, "steps=4", "stop_at=1", *changes))


def test_a_changed_config_is_refused_by_key(settings):
    started(settings)
    with pytest.raises(InputError, match=r"optim\.lr was 0\.01, is 0\.02"):
        train(config(settings, "steps=4", "optim.lr=0.02"))
    with pytest.raises(InputError, match="freeze_layers was 0, is 1"):
        train(config(settings, "steps=4", "freeze_layers=1"))
    result = train(config(settings, "steps=4", "optim.lr=0.02", "resume_changed=true", "stop_at=2"))
    assert result.resumed_from == 1
    # What says where and how fast, not what, may change.
    assert train(config(settings, "steps=4", "optim.lr=0.02", "log.every=2", "remat=full")).finished


def test_changed_data_is_refused(world, settings, tmp_path):
    started(settings)
    other = tiny_run.make_data(tmp_path / "other", world / "tokenizer", seed=4, seq_len=320)
    with pytest.raises(InputError, match=r"training data \(data\.train\) changed"):
        train(config(settings, "steps=4", f"data.train={other}"))
    # The same data in another place is the same data.
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in (world / "data").iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert train(config(settings, "steps=4", "stop_at=2", f"data.train={moved}")).resumed_from == 1


def test_a_checkpoint_of_another_model_is_refused(world, settings, tmp_path):
    started(settings)
    other = tiny_run.make_model(tmp_path / "other", world / "tokenizer", intermediate_size=64)
    with pytest.raises(InputError, match="another model: intermediate_size was 48, is 64") as error:
        train(config(settings, "steps=4", f"model={other}"))
    assert error.value.exit_code == 2


def test_an_unreadable_checkpoint_falls_back(settings):
    train(config(settings, "steps=6", "stop_at=4", "checkpoint.every=2", "checkpoint.keep=3"))
    folder = Path(settings["out"]) / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["2", "4"]
    for file in (folder / "4" / "params").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(b"\0" * 10)
    with pytest.warns(UserWarning, match="checkpoint 4 is damaged"):
        result = train(config(settings, "steps=6", "checkpoint.every=2", "checkpoint.keep=3"))
    assert result.resumed_from == 2 and result.finished
    assert [r["step"] for r in read_metrics(settings["out"])] == [1, 2, 3, 4, 5, 6]
    assert (Path(settings["out"]) / "checkpoints.unreadable" / "4").is_dir()


def test_a_checkpoint_that_was_cut_off_is_invisible(settings):
    """What a killed process leaves: a folder under a temporary name."""
    started(settings)
    folder = Path(settings["out"]) / "checkpoints"
    (folder / "3.orbax-checkpoint-tmp-7").mkdir()
    (folder / "3.orbax-checkpoint-tmp-7" / "params").mkdir()
    assert train(config(settings, "steps=4", "stop_at=2")).resumed_from == 1


def test_only_the_newest_checkpoints_stay(settings):
    train(config(settings, "steps=5", "checkpoint.every=1", "checkpoint.keep=2"))
    assert sorted(p.name for p in (Path(settings["out"]) / "checkpoints").iterdir()) == ["4", "5"]


# -- how many steps ----


def test_measured_steps_leave_the_run_as_it_was(settings):
    """The number of steps comes from the clock; a run that is told the same number is the same run."""
    measured = train(config(settings, "steps=auto", "max_minutes=0.1", "max_epochs=2"))
    assert measured.finished
    told = config(settings, f"steps={measured.total_steps}", f"out={settings['out']}-told")
    train(told)
    assert exact_metrics(settings["out"]) == exact_metrics(told.out)
    jax.tree.map(np.testing.assert_array_equal, params_of(settings["out"]), params_of(told.out))


@pytest.mark.slow
def test_measured_steps_are_kept_on_resume(settings):
    auto = ("steps=auto", "max_epochs=1")
    first = train(config(settings, *auto, "stop_at=1"))
    assert first.total_steps == -(-len(PackedSource(settings["data"]["train"])) // 4)
    run_json = Path(settings["out"]) / "run.json"
    facts = json.loads(run_json.read_text())
    assert facts["total_steps"] == first.total_steps and 0 < time.time() - facts["started"] < 600
    # Another budget means another schedule, which nobody gets without a word.
    with pytest.raises(InputError, match=r"max_epochs was 1\.0, is 2\.0"):
        train(config(settings, "steps=auto", "max_epochs=2"))
    second = train(config(settings, *auto, "stop_at=2"))
    assert second.total_steps == first.total_steps
    assert json.loads(run_json.read_text()) == facts  # also when it was first started
    third = train(config(settings, "steps=auto", "max_epochs=2", "resume_changed=true"))
    assert third.resumed_from == 2 and third.finished
    assert third.total_steps == -(-2 * len(PackedSource(settings["data"]["train"])) // 4)


@pytest.mark.slow
def test_more_minutes_more_steps(settings, monkeypatch):
    # A clock that moves a tenth of a second each time it is read: a step takes 0.1 s on every machine.
    ticks = itertools.count(100_000)
    clock = types.SimpleNamespace(monotonic=lambda: next(ticks) / 10)
    monkeypatch.setattr(length, "time", clock)
    monkeypatch.setattr(loop, "time", clock)
    half, two = (
        train(
            config(settings, "steps=auto", f"max_minutes={m}", "stop_at=1", f"out={settings['out']}{m}")
        ).total_steps
        for m in (0.5, 2)
    )
    assert 100 < half < 300 and two == half + 900


# -- bad input ----


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps=auto"], "nothing says how long"),
        (["batch.rows=6", "batch.accumulation=4"], "6 rows a step"),
        (["mesh.data=8"], "4 rows a step"),
        (["freeze=[nothing]"], "no parameter matches"),
        (["model=nowhere"], "model folder not found"),
        (["data.train=nowhere"], r"manifest\.json is missing"),
        (["remat=some"], "unknown remat policy"),
    ],
)
def test_bad_input_leaves_no_trace(settings, overrides, message):
    with pytest.raises(InputError, match=message):
        train(config(settings, *overrides))
    assert not Path(settings["out"]).exists()


def test_data_of_another_tokenizer_is_refused(world, settings, tmp_path):
    tokenizer = tmp_path / "t"
    tiny_run.make_tokenizer(tokenizer, specials=(*tiny_run.SPECIALS, "<|more|>"))
    settings["data"]["train"] = str(tiny_run.make_data(tmp_path / "d", tokenizer))
    with pytest.raises(InputError, match="another tokenizer"):
        train(config(settings))


def test_a_vocabulary_that_is_too_small_is_refused(world, settings, tmp_path):
    folder = world / "data"
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((copy / MANIFEST).read_text())
    changed = {**manifest, "max_token_id": 400}
    (copy / MANIFEST).write_text(json.dumps({**changed, "fingerprint": fingerprint(changed)}))
    with pytest.raises(InputError, match="token id 400"):
        train(config(settings, f"data.train={copy}"))


def test_evaluators_are_called_with_whole_parameters(settings):
    seen = []

    def evaluator(params, step):
        seen.append((step, params.layers.attn.q.shape))
        return {"calls_right": step / 10}

    result = train(config(settings, "steps=4", "log.eval_every=2", "freeze_layers=1"), evaluators=[evaluator])
    assert seen == [(2, (2, 32, 32)), (4, (2, 32, 32))]
    assert result.eval == {"calls_right": 0.4}
    assert [r["calls_right"] for r in read_metrics(settings["out"]) if "calls_right" in r] == [0.2, 0.4]


@pytest.mark.slow
def test_bfloat16_compute_and_parameters(settings):
    precision = ("precision.compute_dtype=bfloat16", "precision.param_dtype=bfloat16", "remat=full")
    result = train(config(settings, *precision))
    rows = exact_metrics(settings["out"])
    assert result.finished and rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert str(params_of(settings["out"]).layers.attn.q.dtype) == "bfloat16"


def test_a_full_disk_is_found_before_writing(settings, monkeypatch):
    free = [10**12]
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free[0]))

    def fills(params, step):
        free[0] = 1000
        return {}

    changes = ("steps=4", "checkpoint.every=1", "log.eval_every=1")
    with pytest.raises(InputError, match="disk is full"):
        train(config(settings, *changes), evaluators=[fills])
    checkpoints = Path(settings["out"]) / "checkpoints"
    assert [p.name for p in checkpoints.iterdir()] == ["1"]
    with pytest.raises(InputError, match="disk is full"):
        train(config(settings, *changes, f"out={settings['out']}-new"))
    assert not Path(f"{settings['out']}-new").exists()
    free[0] = 10**12
    assert train(config(settings, *changes)).resumed_from == 1
