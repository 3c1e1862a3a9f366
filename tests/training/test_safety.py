"""What must not be lost, and what must not go wrong without a word."""

import errno
import io
import json
import random
import shutil
import signal
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from rich.console import Console

from tests.cases import long_but
from tests.training.runs import assert_same_arrays, checkpoints, config, events, run, start
from xlam_jax.errors import FinalError, InputError, WorkError
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.parallel.mesh import MeshConfig
from xlam_jax.plan.remat import choose
from xlam_jax.training import checkpoint
from xlam_jax.training.kept import complete_steps
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.training.setup import with_defaults

# -- checkpoints ----


def flip(folder: Path, rng: random.Random) -> Path:
    """Turns one bit of one file, whichever has some."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size]
    file = rng.choice([p for p in files if p.name not in ("_CHECKPOINT_METADATA", "checksums.json")])
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_one_flipped_bit_anywhere_is_seen(settings, seed):
    run(settings, "steps=3", "checkpoint.every=1", "stop_at=2")
    changed = flip(Path(settings["out"]) / "checkpoints" / "2", random.Random(seed))
    with pytest.warns(
        UserWarning, match=f"checkpoint 2 is damaged: .*{changed.name} is not what was written"
    ):
        assert run(settings, "steps=3", "checkpoint.every=1").resumed_from == 1
    run(settings, "steps=3", f"out={settings['out']}-whole")
    assert_same_arrays(f"{settings['out']}/checkpoints/3", f"{settings['out']}-whole/checkpoints/3")


@pytest.mark.parametrize("where", long_but(["orbax"], ["checksums", "orbax"]))
def test_storage_that_fails_for_a_moment_costs_nothing(settings, monkeypatch, where):
    """A stale NFS handle, met when the checksums are read or later: nothing is moved, the status is one that is
    tried again, and the next try goes on."""
    run(settings, "steps=3", "checkpoint.every=1", "stop_at=2")
    stale = OSError(errno.ESTALE, "Stale file handle")

    def fails(self, *args, **kwargs):
        raise stale if where == "checksums" else ValueError(f"UNAVAILABLE: Error opening: {stale}")

    with monkeypatch.context() as patch:
        if where == "checksums":
            opened = Path.open
            inside = lambda p, *a, **k: (fails if "/checkpoints/2/" in str(p) else opened)(p, *a, **k)  # noqa: E731
            patch.setattr(Path, "open", inside)
        else:
            patch.setattr(checkpoint.Store, "read_item", fails)
        with pytest.raises(WorkError, match=r"checkpoint 2 could not be read: .*Stale file handle") as error:
            run(settings, "steps=3")
    assert error.value.exit_code == 1 and "nothing was changed" in error.value.hint
    assert checkpoints(settings["out"]) == [1, 2]
    assert not Path(settings["out"], "checkpoints.unreadable").exists()
    assert run(settings, "steps=3").resumed_from == 2


def test_nothing_is_trained_anew_over_lost_checkpoints(settings):
    run(settings, "steps=3", "checkpoint.every=1", "stop_at=2")
    for step in (1, 2):
        flip(Path(settings["out"]) / "checkpoints" / str(step), random.Random(step))
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(FinalError, match="all of 2 checkpoints are damaged") as error,
    ):
        run(settings, "steps=3")
    assert error.value.exit_code == 3
    before = read_metrics(settings["out"])
    for _ in range(2):  # what a scheduler would do
        with pytest.raises(FinalError, match="saved checkpoints, and none is left"):
            run(settings, "steps=3")
    assert read_metrics(settings["out"]) == before
    assert run(settings, "steps=3", "stop_at=1", resume="never").resumed_from == 0
    shutil.rmtree(Path(settings["out"]) / "checkpoints")
    with pytest.raises(FinalError, match="none is left"):
        run(settings, "steps=3")


@pytest.mark.slow
def test_a_start_that_saved_nothing_may_be_repeated(settings):
    """Killed before the first checkpoint there is nothing to lose."""
    process = start({**settings, "steps": 5000})
    try:
        deadline = time.monotonic() + 120
        while len(read_metrics(settings["out"])) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert run(settings, "steps=2").resumed_from == 0


def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(settings):
    settings |= {"steps": 5000, "log": {"every": 1}}
    process = start(settings)
    try:
        deadline = time.monotonic() + 120
        while len(read_metrics(settings["out"])) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(
            WorkError, match=f"another process works in this run folder: process {process.pid}"
        ):
            run(settings)
        seen = len(read_metrics(settings["out"]))
        while len(read_metrics(settings["out"])) <= seen and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, output  # saved and stopped, which is no error of `train`
    steps = [row["step"] for row in read_metrics(settings["out"])]
    assert steps == list(range(1, steps[-1] + 1)) and complete_steps(settings["out"]) == [steps[-1]]
    assert not Path(settings["out"], "lease.json").exists()


def _fill(file):
    while True:
        file.write(b"x" * 4096)


@pytest.mark.slow
def test_a_disk_that_is_full_when_metrics_are_written(settings, tmp_path):
    """The whole command: one line with the path, its own status, and no traceback."""
    import subprocess
    import sys

    import yaml

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("cannot mount a small file system here (needs root)")
    try:
        settings |= {"out": str(disk / "run"), "steps": 20000, "checkpoint": {"every": 0}}
        path = tmp_path / "c.yaml"
        path.write_text(yaml.safe_dump(settings))
        filler = (disk / "filler").open("wb", buffering=0)
        process = subprocess.Popen(
            [sys.executable, "-m", "xlam_jax.cli.main", "train", str(path)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 120
        while len(read_metrics(settings["out"])) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(OSError, match="No space left"), filler:
            _fill(filler)
        output, _ = process.communicate(timeout=120)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert process.returncode == 4, output
    assert "the disk is full" in output and str(disk / "run") in output.replace("\n", "")
    assert "Traceback" not in output and "complete checkpoints: none" in output.replace("\n", " ")


# -- what a run says of itself ----


def test_an_evaluation_that_was_due_is_made_up_for(settings):
    """A run that ends between a save and its evaluation, in the middle and at the end."""
    changes = ("steps=4", "checkpoint.every=2", "log.eval_every=2")

    def ends(at):
        def evaluator(params, step):
            if step == at:
                raise KeyboardInterrupt
            return {"score": float(step)}

        return evaluator

    for at in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            run(settings, *changes, evaluators=[ends(at)])
        assert complete_steps(settings["out"])[-1] == at
    result = run(settings, *changes, evaluators=[ends(None)])
    assert result.finished and result.resumed_from == 4 and result.eval == {"score": 4.0}
    scores = [(row["step"], row["score"]) for row in read_metrics(settings["out"]) if "score" in row]
    assert scores == [(2, 2.0), (4, 4.0)]
    run(settings, *changes, evaluators=[ends(4)])  # not again


def test_metrics_stay_json_whatever_is_measured(settings):
    odd = {"nan": float("nan"), "inf": np.float32("inf"), "array": np.float64(2.0)}
    run(settings, "steps=1", evaluators=[lambda params, step: odd])

    def refuse(constant):
        raise AssertionError(constant)

    lines = (Path(settings["out"]) / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert {"step": 1, "nan": None, "inf": None, "array": 2.0} in rows


def test_logits_that_say_nothing_predict_nothing():
    hidden, head = jnp.zeros((2, 5, 8)), jnp.ones((8, 16))
    targets, weights = jnp.zeros((2, 5), jnp.int32), jnp.ones((2, 5))
    loss, weight, found = chunked_cross_entropy(hidden, head, targets, weights)
    assert float(loss / weight) == pytest.approx(np.log(16)) and float(found["correct_sum"]) == 0
    sure = jnp.zeros((8, 16)).at[:, 0].set(1.0)
    assert float(chunked_cross_entropy(hidden + 1, sure, targets, weights)[2]["correct_sum"]) == 10


def test_parameters_that_are_not_finite_are_never_saved(settings):
    """The loss and the gradient of the step are fine; what it makes of the parameters is not."""
    settings["optim"] = {"name": "sgd", "lr": 1e35, "weight_decay": 1e10, "warmup": 0}
    with pytest.raises(FinalError, match="step 1: loss") as error:
        run(settings, "steps=2", "checkpoint.every=1")
    assert "the updated parameters are not finite" in error.value.where and error.value.exit_code == 3
    assert complete_steps(settings["out"]) == [] and not events(settings["out"], "saved")


def test_a_run_does_not_write_into_its_base_model(settings):
    before = sorted(Path(settings["model"]).iterdir())
    with pytest.raises(InputError, match="the folder of its own base model"):
        run(settings, f"out={settings['model']}/../model")
    assert sorted(Path(settings["model"]).iterdir()) == before


def test_what_nobody_set_fits_the_hardware(settings):
    plain = with_defaults(config(settings), "gpu")
    assert plain.mesh == MeshConfig(fsdp=-1) and plain.precision.compute_dtype == "bfloat16"
    assert plain.precision.param_dtype == "float32"
    told = config(settings, "mesh.data=2", "precision.compute_dtype=float32")
    assert with_defaults(told, "gpu") == told
    half = with_defaults(config(settings, "precision.param_dtype=bfloat16"), "tpu").precision
    assert (half.param_dtype, half.compute_dtype) == ("bfloat16", "bfloat16")
    assert with_defaults(config(settings), "cpu") == config(settings)


def test_one_line_says_what_was_chosen(settings):
    console = Console(record=True, width=200, file=io.StringIO())
    run(settings, "steps=1", "mesh.data=2", "mesh.fsdp=2", console=console)
    line = "4 x cpu (data 2 x fsdp 2), float32 parameters, float32 products, attention xla, remat none"
    assert line in console.export_text()


def test_remat_auto_is_settled_said_and_written_down(settings):
    console = Console(record=True, width=200, file=io.StringIO())
    run(settings, "steps=1", "remat=auto", console=console, choose_remat=choose)
    said = console.export_text()
    assert "remat: dots (nobody says how much memory a cpu has)" in said and ", remat dots" in said
    assert yaml.safe_load((Path(settings["out"]) / "config.yaml").read_text())["remat"] == "dots"


def test_a_warm_up_as_long_as_the_run_is_refused(settings):
    with pytest.raises(InputError, match="10 steps of warm-up in a run of 10"):
        run(settings, "optim.warmup_steps=10")
    with pytest.raises(InputError, match=r"50 steps of warm-up in a run of \d"):
        run(settings, "steps=auto", "max_epochs=1", "optim.warmup_steps=50")
    assert config(settings, "optim.warmup_steps=9").optim.warmup_steps == 9
