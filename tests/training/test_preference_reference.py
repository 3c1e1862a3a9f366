"""Stored reference log-probabilities: equal to live ones, resumable, and refused when stale."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from tests import tiny_run
from tests.cases import long_but
from xlam_jax.config import make_config
from xlam_jax.errors import InputError
from xlam_jax.format.record import write_records
from xlam_jax.models.fingerprint import weights_key
from xlam_jax.models.spec import shardings
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.records.pairs import NEGATIVES, build_pairs
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import train
from xlam_jax.training.preference import reference
from xlam_jax.training.preference.precompute import precompute
from xlam_jax.training.preference.reference import PreferenceSource, done_rows
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.training.tasks import Dpo
from xlam_jax.weights import load_model, save_hf


@pytest.fixture(scope="module")
def pairs(world, tmp_path_factory):
    """Packed pairs of few rows, without a reference."""
    root = tmp_path_factory.mktemp("pairs")
    write_records(root / "records.jsonl", tiny_run.records(12))
    build_pairs(root / "records.jsonl", root / "pairs.jsonl", corruptions=sorted(NEGATIVES))
    return make_data(root / "data", root / "pairs.jsonl", world)


def make_data(out, pairs_file, world, **changes):
    values = {"inputs": [str(pairs_file)], "tokenizer": str(world / "tokenizer"), "out": str(out)}
    values |= {"kind": "preference", "pair_layout": "shared", "seq_len": 384, **changes}
    build(BuildConfig(**values))
    return out


@pytest.fixture
def settings(world, pairs, tmp_path):
    """Values of a DPO config on a copy of the data."""
    shutil.copytree(pairs, tmp_path / "data")
    return {
        "model": str(world / "model"), "out": str(tmp_path / "run"),
        "data": {"train": str(tmp_path / "data")},
        "objective": {"kind": "dpo", "beta": 0.5}, "steps": 2, "batch": {"rows": 2}, "optim": {"lr": 1e-3},
        "checkpoint": {"every": 0},
    }  # fmt: skip


def config(settings, *overrides):
    return make_config(TrainConfig, settings, overrides)


def run(settings, *overrides, **kwargs):
    return train(config(settings, *overrides), console=Console(quiet=True), **kwargs)


def metrics(folder):
    keep = ("loss", "accuracy", "margin", "grad_norm", "chosen_change", "nll")
    return [{k: row[k] for k in keep} for row in read_metrics(folder) if "loss" in row]


def test_precomputed_equals_live(settings, tmp_path):
    """Two steps with stored log-probabilities and with a frozen copy of the model: the same run."""
    (stored,) = precompute(config(settings))
    assert stored["computed"] == stored["rows"] == len(PreferenceSource(settings["data"]["train"]))
    run(settings)
    run(settings, "objective.reference=copy", f"out={tmp_path / 'live'}")
    ours, live = metrics(tmp_path / "run"), metrics(tmp_path / "live")
    assert len(ours) == 2 and ours[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    for a, b in zip(ours, live, strict=True):
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5)


def test_the_base_of_adapters_is_a_reference(settings):
    """`reference: base` takes the parameters that a function makes of the trained ones."""
    base = load_model(settings["model"])[1]
    task = Dpo(config(settings, "objective.reference=base"), load_model(settings["model"])[0],
               load=lambda: pytest.fail("no second copy is needed"), base=lambda params: base)  # fmt: skip
    source = task.open(settings["data"]["train"])
    row = jax.tree.map(lambda x: jnp.asarray(x)[None], source[0][0])

    class State:
        params = jax.tree.map(lambda x: x + 0.1, base)
        frozen = None

    from xlam_jax.training import partition

    State.frozen = partition.split(State.params, load_model(settings["model"])[0], (), 0)[1]
    found = task.prepare(row, State)
    model = source.pair_model(load_model(settings["model"])[0], compute_dtype="float32")
    wanted = reference.reference_logprobs(model)(base, row)
    np.testing.assert_allclose(found.reference, wanted, atol=1e-5)
    assert np.abs(wanted).sum() > 1
    with pytest.raises(InputError, match="no adapters are trained"):
        run(settings, "objective.reference=base")


@pytest.mark.slow
def test_adapters_off_equal_stored_log_probabilities(settings, tmp_path):
    """LoRA with dropout: the reference has neither adapters nor dropout, so both runs are the same."""
    lora = "lora={rank: 4, alpha: 8, targets: [q_proj, v_proj], dropout: 0.1}"
    precompute(config(settings, lora))
    run(settings, lora)
    run(settings, lora, "objective.reference=base", f"out={tmp_path / 'base'}")
    ours, live = metrics(tmp_path / "run"), metrics(tmp_path / "base")
    assert ours[0]["loss"] == pytest.approx(np.log(2), abs=1e-6) and abs(ours[1]["chosen_change"]) > 1e-6
    for a, b in zip(ours, live, strict=True):
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5)


def test_it_goes_on_where_it_was_cut_off(settings, monkeypatch):
    monkeypatch.setattr(reference, "PART_ROWS", 2)
    folder = PreferenceSource(settings["data"]["train"]).folder
    rows = len(PreferenceSource(folder))
    assert rows >= 5

    class Cut(Exception):
        pass

    def cut(done, total, what):
        if done >= 4:
            raise Cut

    with pytest.raises(Cut):
        precompute(config(settings), cut)
    assert done_rows(folder) == 4
    with pytest.raises(InputError, match=f"of 4 of {rows} rows"):
        run(settings)
    (rest,) = precompute(config(settings))
    assert rest["computed"] == rows - 4 and rest["rows"] == rows
    parts = [np.load(p) for p in sorted((folder / "reference").glob("part-*.npy"))]
    (again,) = precompute(config(settings))
    assert again["computed"] == 0
    shutil.rmtree(folder / "reference")
    precompute(config(settings, "batch.rows=1"))
    whole = [np.load(p) for p in sorted((folder / "reference").glob("part-*.npy"))]
    np.testing.assert_allclose(np.concatenate(parts), np.concatenate(whole), atol=1e-5)


def test_there_is_none(settings):
    with pytest.raises(InputError, match="no reference log-probabilities here") as e:
        run(settings)
    assert "xlam data reference" in e.value.hint


@pytest.mark.parametrize("what", long_but(["weights", "template"], ["weights", "pairs", "template", "dtype"]))
def test_a_stale_reference_is_refused(what, settings, world, pairs, tmp_path):
    precompute(config(settings))
    folder = tmp_path / "data"
    message, overrides = "the weights of the model", []
    if what == "weights":
        cfg, params = load_model(world / "model")
        params = params.replace(final_norm=params.final_norm.at[3].add(1e-6))
        save_hf(params, cfg, tmp_path / "other", tokenizer=world / "tokenizer")
        overrides = [f"model={tmp_path / 'other'}"]
    elif what == "dtype":
        message, overrides = "precision.compute_dtype", ["precision.compute_dtype=bfloat16"]
    else:
        message = "the pairs, their template or their tokenizer"
        changes = {"seed": 7} if what == "pairs" else {"codec": {"layout": "markdown"}}
        other = make_data(tmp_path / "rebuilt", pairs.parent / "pairs.jsonl", world, **changes)
        shutil.copytree(folder / "reference", other / "reference")
        overrides = [f"data.train={other}"]
    with pytest.raises(InputError, match=f"stale: {message}"):
        run(settings, *overrides)
    # The command computes it anew, and does not go on with what is stale.
    (again,) = precompute(config(settings, *overrides))
    assert again["computed"] == again["rows"]


def test_a_resumed_run_notices_another_reference(settings, world, tmp_path):
    precompute(config(settings))
    run(settings, "stop_at=1")
    path = tmp_path / "data" / "reference" / "facts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights": "0" * 64}))
    with pytest.raises(InputError, match=r"objective\.reference_weights"):
        run(settings)


def test_the_key_of_weights_knows_no_mesh_and_every_bit(world):
    cfg, params = load_model(world / "model")
    key = weights_key(params)
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    assert weights_key(jax.tree.map(jax.device_put, params, shardings(cfg, mesh))) == key
    swapped = params.replace(embed=params.embed[jnp.array([1, 0, *range(2, params.embed.shape[0])])])
    changed = params.replace(head=jnp.nextafter(params.head, jnp.inf))
    cast = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    assert len({key, *map(weights_key, (swapped, changed, cast))}) == 4


def test_kinds_do_not_mix(settings, world):
    with pytest.raises(InputError, match="holds preference pairs"):
        run(settings, "objective={kind: sft}")
    with pytest.raises(InputError, match="holds no preference pairs"):
        run(settings, f"data.train={world / 'data'}")
