"""What a run does beside stepping: keeps the best, counts time, measures layers, traces, skips bad steps."""

import json
import os
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training.runs import (
    assert_same_arrays,
    checkpoints,
    config,
    events,
    exact_metrics,
    params_of,
    run,
)
from xlam_jax.errors import InputError, WorkError
from xlam_jax.shards.folder import write_shards
from xlam_jax.shards.loader import PackedSource, Steps, row_indices
from xlam_jax.training import progress
from xlam_jax.training.loop import train
from xlam_jax.training.progress import StepClock
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.training.spikes import SpikeConfig, SpikeRule

# -- exact resume ----

BFLOAT16 = ("precision.param_dtype=bfloat16", "precision.compute_dtype=bfloat16")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param((*BFLOAT16, "optim.moment_dtype=bfloat16"), id="adamw-bfloat16"),
        pytest.param((*BFLOAT16, "optim.name=adafactor"), id="adafactor-bfloat16", marks=pytest.mark.slow),
        pytest.param(("optim.name=muon",), id="muon", marks=pytest.mark.slow),
        pytest.param(("optim.name=sgd", "optim.lr=1"), id="sgd", marks=pytest.mark.slow),
    ],
)
def test_three_and_three_is_six_bitwise(settings, world, changes):
    """With accumulation, best checkpoints and spike limits; moments too, and all that decides later steps."""
    settings["data"]["eval"] = str(world / "eval")
    changes = (*changes, "steps=6", "batch.accumulation=2", "log.eval_every=2", "spikes.deviations=50")
    changes = (*changes, "spikes.action=skip", "log.norms_every=2")
    whole = f"{settings['out']}-whole"
    result = run(settings, *changes, f"out={whole}")
    run(settings, *changes, "stop_at=3", "checkpoint.every=2")
    second = run(settings, *changes, resume="must")
    assert second.resumed_from == 3 and second.finished
    assert exact_metrics(settings["out"]) == exact_metrics(whole)
    assert_same_arrays(f"{settings['out']}/checkpoints/6", f"{whole}/checkpoints/6")
    assert second.best == result.best and second.eval == result.eval
    metas = [
        json.loads((Path(out) / "checkpoints/6/meta/metadata").read_text())
        for out in (settings["out"], whole)
    ]
    assert metas[0]["spikes"] == metas[1]["spikes"] and len(metas[0]["spikes"]["history"]) == 6


def test_the_order_of_rows_is_reproducible_and_independent_of_hosts(world):
    """What a seed per process is for, every process its own rows in its own order, comes from one seed:
    epochs are different permutations, hosts read disjoint parts, and another number of hosts reads the same
    steps."""
    source = PackedSource(world / "data")
    n = len(source)
    stream = np.concatenate([row_indices(s, 4, n, seed=3) for s in range(n)])  # four epochs
    epochs = stream.reshape(4, n)
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    other = np.concatenate([row_indices(s, 4, n, seed=4) for s in range(n)])
    assert not np.array_equal(stream, other)
    np.testing.assert_array_equal(stream, np.concatenate([row_indices(s, 4, n, seed=3) for s in range(n)]))
    for step in (0, 1, n - 1):
        (whole,) = (Steps(source, 8, 2, 3, n)[step].tokens,)
        for hosts in (2, 4):
            parts = [Steps(source, 8, 2, 3, n, k, hosts)[step].tokens for k in range(hosts)]
            np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
        rows = Steps(source, 8, 2, 3, n).indices(step)
        assert len(set(rows.ravel())) == 8 or n < 16  # no row twice within a step of one epoch


# -- best and last ----


class Scores:
    """An evaluator with given results; may send signals."""

    def __init__(self, scores, every=1, signals=None):
        self.scores, self.every, self.signals, self.steps = scores, every, signals or {}, []

    def __call__(self, params, step):
        self.steps.append(step)
        for number in self.signals.get(step, ()):
            os.kill(os.getpid(), number)
        return {"score": self.scores[step]}


BEST = ("checkpoint.best=score", "checkpoint.best_mode=max", "checkpoint.keep=1", "checkpoint.every=1")


def test_the_best_checkpoint_outlives_newer_ones(settings):
    scores = Scores({1: 0.1, 2: 0.9, 3: 0.5, 4: 0.4, 5: 0.8, 6: 0.8, 7: 0.95, 8: 0.1})
    first = run(settings, *BEST, "steps=8", "stop_at=5", evaluators=[scores])
    assert checkpoints(settings["out"]) == [2, 5]
    assert first.best == {"step": 2, "metric": "score", "value": 0.9}
    assert json.loads((Path(settings["out"]) / "best.json").read_text()) == first.best
    second = run(settings, *BEST, "steps=8", evaluators=[scores])
    assert checkpoints(settings["out"]) == [7, 8]
    assert second.best == {"step": 7, "metric": "score", "value": 0.95}
    assert [e["step"] for e in events(settings["out"], "best")] == [1, 2, 7]
    assert params_of(Path(settings["out"]) / "checkpoints" / "7").layers.attn.q.shape == (2, 32, 32)


@pytest.mark.slow
def test_an_improvement_between_saves_is_saved(settings, world):
    settings["data"]["eval"] = str(world / "eval")
    result = run(settings, "steps=6", "log.eval_every=2", "checkpoint.every=0", "checkpoint.keep=1")
    losses = {r["step"]: r["eval_loss"] for r in read_metrics(settings["out"]) if "eval_loss" in r}
    best = min(losses, key=losses.__getitem__)
    assert result.best == {"step": best, "metric": "eval_loss", "value": losses[best]}
    assert checkpoints(settings["out"]) == sorted({best, 6})


def test_a_value_that_is_no_number_is_never_the_best(settings):
    scores = Scores({1: 0.2, 2: float("nan"), 3: 0.1, 4: 0.15})
    result = run(settings, *BEST, "steps=4", "stop_at=3", evaluators=[scores])
    assert result.best and result.best["step"] == 1
    assert [r["score"] for r in read_metrics(settings["out"]) if "score" in r] == [0.2, None, 0.1]


def test_evaluators_come_when_they_ask(settings):
    often, rare = Scores(dict.fromkeys(range(9), 0.0), every=0), Scores(dict.fromkeys(range(9), 0.0), every=3)
    run(settings, "steps=5", "log.eval_every=2", evaluators=[often, rare])
    assert (often.steps, rare.steps) == ([2, 4, 5], [3, 5])


# -- signals ----


@pytest.mark.parametrize(
    "sent",
    [
        (signal.SIGUSR1,),
        (signal.SIGUSR2,),
        # A scheduler that warns and then insists: neither cuts off the save.
        (signal.SIGUSR1, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR2),
    ],
)
def test_signals_save_and_stop(settings, sent):
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)}
    scores = Scores(dict.fromkeys(range(20), 0.0), signals={2: sent})
    result = run(settings, "log.eval_every=1", evaluators=[scores])
    assert (result.stopped, result.step) == (sent[0].name, 2)
    assert checkpoints(settings["out"])[-1] == 2
    assert events(settings["out"], "stopped")[-1]["why"] == sent[0].name
    assert before == {number: signal.getsignal(number) for number in before}


# -- spikes ----


def test_the_spike_rule_by_hand():
    rule = SpikeRule(SpikeConfig(deviations=4, window=8, action="skip", most_skipped=1))
    values = [1.0, 1.2, 0.9, 1.1, 1.0, 1.3, 0.8, 1.0]
    for step, value in enumerate(values):
        assert np.isinf(rule.limits(step)).all()
        assert rule.add(step, value, 10 * value, True)
    assert np.isinf(rule.limits(8)).all()  # step 7 is not known yet when step 8 starts
    limits = rule.limits(9)
    median, deviation = 1.0, 1.4826 * 0.1  # deviations 0, 0, 0, .1, .1, .2, .2, .3: their median is .1
    assert limits == pytest.approx([median + 4 * deviation, 10 * (median + 4 * deviation)], rel=1e-6)
    again = SpikeRule(rule.config, json.loads(json.dumps(rule.state())))
    np.testing.assert_array_equal(again.limits(9), limits)
    assert rule.add(9, 50.0, 1.0, False) and not rule.add(10, 50.0, 1.0, False)  # the second is one too many
    np.testing.assert_array_equal(rule.limits(11), limits)  # what was refused teaches nothing
    assert not SpikeRule(SpikeConfig()).add(0, float("nan"), 1.0, False)


def test_a_constant_loss_has_room():
    rule = SpikeRule(SpikeConfig(deviations=4, window=8))
    for step in range(8):
        rule.add(step, 2.0, 1.0, True)
    assert rule.limits(9) == pytest.approx([2.0 * 1.2, 1.2])


@pytest.fixture(scope="module")
def spiky(world, tmp_path_factory):
    """Data whose row of step 14 (one row a step, seed 0) is noise: (folder, ids of its records)."""
    folder = tmp_path_factory.mktemp("spiky") / "data"
    source = PackedSource(world / "data")
    rows = [source[i] for i in range(len(source))]
    bad = int(row_indices(14, 1, len(rows), 0)[0])
    batch, ids = rows[bad]
    noise = np.random.default_rng(0).integers(200, 400, len(batch.targets)).astype(np.int32)
    rows[bad] = (batch._replace(targets=noise), ids)
    write_shards(folder, rows, {k: source.manifest[k] for k in ("seq_len", "codec", "tokenizer")})
    return folder, ids


SPIKES = ("steps=20", "batch.rows=1", "optim.lr=0.005", "spikes.deviations=4", "spikes.window=8")


def test_a_spike_stops_the_run_and_names_the_records(settings, spiky):
    folder, ids = spiky
    settings["data"]["train"] = str(folder)
    with pytest.raises(WorkError, match=r"step 15: loss .* \(limits ") as error:
        run(settings, *SPIKES, "checkpoint.every=4")
    assert error.value.where.endswith("): " + ", ".join(ids))
    assert "checkpoint is of step 12" in error.value.hint
    assert events(settings["out"], "failed")[-1]["error"].startswith("step 15: loss")
    assert checkpoints(settings["out"]) == [8, 12]


@pytest.mark.slow
def test_a_spike_can_be_skipped_and_resume_stays_bitwise(settings, spiky):
    folder, ids = spiky
    settings["data"]["train"] = str(folder)
    whole = f"{settings['out']}-whole"
    result = run(settings, *SPIKES, "spikes.action=skip", f"out={whole}")
    assert result.finished and result.skipped == 1
    (event,) = events(whole, "skipped")
    assert event["step"] == 15 and event["records"] == ids
    assert [r["step"] for r in read_metrics(whole) if r.get("skipped")] == [15]
    for stop in (14, 15):
        out = f"{settings['out']}-{stop}"
        run(settings, *SPIKES, "spikes.action=skip", f"out={out}", f"stop_at={stop}")
        run(settings, *SPIKES, "spikes.action=skip", f"out={out}")
        assert_same_arrays(f"{out}/checkpoints/20", f"{whole}/checkpoints/20")


def test_a_skipped_step_leaves_parameters_and_moments_alone(settings, spiky):
    folder, _ = spiky
    settings["data"]["train"] = str(folder)
    run(settings, *SPIKES, "spikes.action=skip", "stop_at=15", "checkpoint.every=1")
    assert_same_arrays(f"{settings['out']}/checkpoints/14", f"{settings['out']}/checkpoints/15")


def test_rows_of_a_spike_are_ordered_by_their_loss(settings, world, spiky):
    from rich.console import Console

    from xlam_jax.training.setup import row_losses, set_up

    settings["data"]["train"] = str(spiky[0])
    work = set_up(config(settings, "batch.rows=4", "batch.accumulation=2"), Console(quiet=True), 0.0)
    steps = work.steps(20)
    bad = int(row_indices(14, 1, len(work.data), 0)[0])
    step = next(s for s in range(20) if bad in steps.indices(s))
    with jax.set_mesh(work.mesh):
        found = row_losses(work, work.fresh(), step)
    assert found.shape == (2, 2)
    # Each row alone, as its own step, has the loss that is said.
    single = set_up(config(settings, "batch.rows=1"), Console(quiet=True), 0.0)
    with jax.set_mesh(single.mesh):
        state = single.fresh()
        for (a, b), row in np.ndenumerate(steps.indices(step)):
            alone = next(s for s in range(100) if row_indices(s, 1, len(work.data), 0)[0] == row)
            assert found[a, b] == pytest.approx(row_losses(single, state, alone)[0, 0], rel=1e-5)


# -- norms, time, profile ----


def test_norms_by_layer_add_up_to_the_global_norm(settings):
    run(settings, "steps=4", "log.norms_every=2", "freeze=[embed]")
    rows = read_metrics(settings["out"])
    found = [r for r in rows if "grad_norms" in r]
    assert [r["step"] for r in found] == [2, 4]
    by_step = {r["step"]: r["grad_norm"] for r in rows if "loss" in r}
    for row in found:
        assert "embed" not in row["grad_norms"] and len(row["grad_norms"]["layers.attn.q"]) == 2
        total = np.sqrt(sum(np.sum(np.square(v)) for v in row["grad_norms"].values()))
        assert total == pytest.approx(by_step[row["step"]], rel=1e-5)
    params = params_of(settings["out"])
    wanted = [np.linalg.norm(params.layers.mlp.gate[i]) for i in range(2)]
    assert found[-1]["param_norms"]["layers.mlp.gate"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_goodput_counts_time_between_sessions(settings):
    first = run(settings, "steps=6", "stop_at=3")
    time.sleep(1.0)
    second = run(settings, "steps=6", "stop_at=6")
    meta = json.loads((Path(settings["out"]) / "checkpoints/6/meta/metadata").read_text())
    productive = meta["productive_seconds"]
    assert 0 < second.goodput <= productive / (productive + 1.0)  # the second between the sessions counts
    assert meta["productive_seconds"] > 3 * first.seconds_per_step
    assert [0 < r["goodput"] <= 1 for r in read_metrics(settings["out"]) if "loss" in r][1:] == [True] * 5


def test_a_clock_set_back_or_forward_keeps_goodput_a_share(monkeypatch):
    clock = StepClock(100.0, started=progress.time.time() - 200)
    clock.lap()
    now = progress.time.time()
    for jump in (-1e6, 0.0, 1e6):
        monkeypatch.setattr(progress.time, "time", lambda jump=jump: now + jump)
        assert 0 <= clock.goodput <= 1
    monkeypatch.setattr(progress.time, "time", lambda: now)
    assert clock.goodput == pytest.approx(0.5, abs=0.01)


def test_the_first_step_counts_as_the_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    clock = StepClock(10.0, started=0.0)
    laps = []
    for seconds in (60, 2, 4):
        now[0] += seconds
        laps.append(clock.lap())
    now[0] += 500  # an evaluation
    clock.mark()
    now[0] += 3
    laps.append(clock.lap())
    assert laps == [None, 2, 4, 3] and clock.productive == 10 + 2 + 2 + 4 + 3 and clock.mean == 3


def test_a_profile_of_the_steps_asked_for(settings):
    run(settings, "steps=4", "log.profile='2:3'")
    traces = list((Path(settings["out"]) / "profile").rglob("*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000
    with pytest.raises(InputError, match="ends before it begins"):
        train(config(settings, "log.profile='5:3'", f"out={settings['out']}-new"))
    assert not Path(f"{settings['out']}-new").exists()


def test_the_run_folder_says_what_ran(settings, world):
    run(settings, "steps=1")
    out = Path(settings["out"])
    manifest = json.loads((out / "data.manifest.json").read_text())
    assert manifest == json.loads((world / "data" / "manifest.json").read_text())
    git = json.loads((out / "versions.json").read_text())["git"]
    assert git is None or (len(git["commit"]) == 40 and git["dirty"] in (True, False))
    assert [e["event"] for kind in ("started", "saved", "finished") for e in events(out, kind)] == [
        "started",
        "saved",
        "finished",
    ]
