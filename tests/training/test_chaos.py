"""Kills, signals, failing storage and double starts at random moments of adapter, preference and mixture runs.

Whatever happens, the end is that of a run that was left alone, bit for bit, or a clean refusal with nothing lost.
XLAM_CHAOS=N sets the number of events of each kind of run; `pytest -s` prints what they were.
"""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests import tiny, tiny_run
from tests.training.runs import assert_same_arrays, exact_metrics, run, start
from xlam_jax.cli.main import app
from xlam_jax.format.record import write_records
from xlam_jax.models.named import named_config
from xlam_jax.training.kept import complete_steps
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.weights.hf_out import save_hf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
EVENTS = int(os.environ.get("XLAM_CHAOS", "12"))
STEPS = 400

# The storage fails for a moment under a path: half of the calls, for as long as the process lives.
FAULT = """
import errno, pathlib, random
_open, _rng = pathlib.Path.open, random.Random({seed})
def _fails(self, mode="r", *args, **kwargs):
    if {part!r} in str(self) and mode.startswith({modes!r}) and _rng.random() < 0.5:
        raise OSError(errno.{code}, "injected", str(self))
    return _open(self, mode, *args, **kwargs)
pathlib.Path.open = _fails
"""
FAULTS = {
    "stale": {"part": "/checkpoints/", "modes": "r", "code": "ESTALE"},
    "full": {"part": "events.jsonl", "modes": "a", "code": "ENOSPC"},
}


@pytest.fixture(scope="module")
def places(world, tmp_path_factory):
    """Settings of the three kinds of run."""
    root = tmp_path_factory.mktemp("chaos")
    base = {
        "model": str(world / "model"), "data": {"train": str(world / "data")}, "steps": STEPS,
        "batch": {"rows": 2}, "optim": {"lr": 1e-3}, "checkpoint": {"every": 7, "keep": 2},
        "log": {"every": 1}, "seed": 3,
    }  # fmt: skip
    save_hf(tiny.params(moe := named_config("tiny-mixtral").replace(vocab_size=400)), moe, root / "moe-base",
            tokenizer=world / "tokenizer")  # fmt: skip
    write_records(root / "records.jsonl", tiny_run.records(16))
    build = {"inputs": [str(root / "pairs.jsonl")], "kind": "preference", "pair_layout": "shared"}
    build |= {"tokenizer": str(world / "tokenizer"), "out": str(root / "pairs"), "seq_len": 512}
    (root / "pairs.yaml").write_text(yaml.safe_dump(build))
    dpo = {**base, "data": {"train": str(root / "pairs")}, "objective": {"kind": "dpo", "beta": 0.5}}
    (root / "dpo.yaml").write_text(yaml.safe_dump({**dpo, "out": str(root / "none")}))
    for words in (
        ["data", "pairs", root / "records.jsonl", root / "pairs.jsonl", "--corruptions", "all"],
        ["data", "build", root / "pairs.yaml"],
        ["data", "reference", root / "dpo.yaml"],
    ):
        CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    lora = {"rank": 4, "alpha": 8.0, "targets": ["attention"], "dropout": 0.1}
    return root, {
        "lora": {**base, "lora": lora},
        "dpo": dpo,
        "moe": {**base, "model": str(root / "moe-base")},
    }


@pytest.mark.parametrize("kind", ["lora", "dpo", "moe"])
def test_nothing_is_lost(places, kind):
    root, settings = places
    settings = {**settings[kind], "out": str(root / kind)}
    whole = {**settings, "out": str(root / f"{kind}-whole")}
    run(whole)
    rng, happened, out = random.Random(kind), Counter(), Path(settings["out"])
    for _ in range(EVENTS):
        event = rng.choice(["kill", "kill", "TERM", "USR1", "stale", "full", "double"])
        before = complete_steps(out)
        if before and before[-1] == STEPS:
            break
        code = FAULT.format(seed=rng.random(), **FAULTS[event]) if event in FAULTS else ""
        process = start(settings, code)
        try:
            _let_it_go_on(process, out, rng.choice([0.0, 1.0, rng.uniform(0, 4)]))
            if event == "double":
                second = start(settings)
                output, _ = second.communicate(timeout=300)
                refused = second.returncode == 1 and "another process works" in output
                assert refused or process.poll() is not None, output
            number = {"TERM": signal.SIGTERM, "USR1": signal.SIGUSR1}.get(event, signal.SIGKILL)
            if event not in FAULTS:
                process.send_signal(number)
            elif event == "stale":
                time.sleep(rng.uniform(0, 5))
                process.send_signal(signal.SIGKILL)
            output, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        happened[event] += 1
        assert process.returncode in {-9, 0, 1, 4}, output
        assert process.returncode != 4 or event == "full", output
        after = complete_steps(out)
        assert not before or (after and after[-1] >= before[-1]), (event, before, after)
        assert not (out / "checkpoints.unreadable").exists(), event
    print(kind, dict(happened), "at step", complete_steps(out)[-1:])
    assert run(settings).finished
    assert_same_arrays(out / "checkpoints" / str(STEPS), Path(whole["out"]) / "checkpoints" / str(STEPS))
    assert exact_metrics(out) == exact_metrics(whole["out"])


def _let_it_go_on(process, out, seconds):
    """Until it makes steps, and so many seconds more; or until it ends."""
    seen, deadline = len(read_metrics(out)), time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline and len(read_metrics(out)) == seen:
        time.sleep(0.02)
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
