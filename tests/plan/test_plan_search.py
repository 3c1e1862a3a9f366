"""Meshes, traffic and time by hand, and the command."""

import dataclasses
import json
import math

import pytest

from xlam_jax.errors import InputError
from xlam_jax.models.lora import LoraConfig
from xlam_jax.models.named import named_config
from xlam_jax.parallel.hardware import hardware, names
from xlam_jax.parallel.mesh import AXES
from xlam_jax.plan.memory import Memory
from xlam_jax.plan.search import factorisations, refusal, search
from xlam_jax.plan.speed import speed
from xlam_jax.plan.traffic import Flow, flows, seconds
from xlam_jax.plan.work import Work, find_model, parse_mesh
from xlam_jax.training.config import MoeOptions

MIXTRAL = named_config("mixtral-8x7b")
TINY = named_config("tiny-mixtral")


def mesh(**sizes):
    return {axis: sizes.get(axis, 1) for axis in AXES}


def test_factorisations_are_all_of_them_once():
    found = [tuple(s.values()) for s in factorisations(12)]
    assert len(found) == len(set(found)) and all(math.prod(s) == 12 for s in found)
    # 12 = 2^2 x 3: the exponents are spread over the axes.
    n = len(AXES)
    assert len(found) == math.comb(2 + n - 1, n - 1) * math.comb(1 + n - 1, n - 1)


@pytest.mark.parametrize(
    ("cfg", "sizes", "rows", "said"),
    [
        (named_config("tiny-llama"), mesh(expert=2), 8, "no experts"),
        (MIXTRAL, mesh(expert=16), 16, "8 experts do not split 16"),
        (MIXTRAL, mesh(tensor=16), 16, "heads do not split 16"),
        (MIXTRAL, mesh(fsdp=8), 12, "12 rows in 1 micro-batches do not split 8"),
        (MIXTRAL, mesh(fsdp=4, expert=2), 8, ""),
    ],
)
def test_reasons(cfg, sizes, rows, said):
    found = refusal(Work(cfg, 4096, rows), sizes)
    assert said in found and bool(found) == bool(said)


def test_exchange_moves_what_the_algebra_says():
    # T = 8192, D = 4096, bf16, P = 8: one gather receives 7 T D b = 470 MB in each direction of each layer.
    work = Work(MIXTRAL, 8192, 8, compute_dtype="bfloat16", moe=MoeOptions(exchange="gather"))
    (flow,) = [f for f in flows(work, mesh(expert=8)) if f.axis == "expert" and not f.hidden]
    assert flow.received / 32 / 4 == 7 * 8192 * 4096 * 2 == pytest.approx(470e6, rel=1e-3)
    moved = [
        f for f in flows(work.replace(moe=MoeOptions(exchange="all_to_all")), mesh(expert=8)) if not f.hidden
    ]
    # The ratio of the two is P / k.
    assert flow.received / moved[0].received == pytest.approx(8 / 2)


@pytest.mark.parametrize("tied", [False, True])
def test_fsdp_moves_a_layer_twice_the_head_once_and_rows_instead_of_the_embedding(tied):
    cfg = named_config("tiny-llama").replace(tie_embeddings=tied)
    work = Work(cfg, 64, 8, accumulation=2, compute_dtype="bfloat16")
    from xlam_jax.models.spec import count_params

    got = {f.what: f.received for f in flows(work, mesh(fsdp=4))}
    table = cfg.vocab_size * cfg.hidden_size
    layers = count_params(cfg) - table * (1 if tied else 2)
    part, micro = 3 / 4, 2
    tokens = 64 * 8 / micro / 4
    assert got == {
        "gather weights": pytest.approx(micro * part * 2 * (2 * layers + table)),
        "scatter gradients": pytest.approx(micro * part * (2 * layers + 4 * table)),
        "look tokens up": pytest.approx(micro * part * 2 * 2 * tokens * cfg.hidden_size),
    }
    frozen = {f.what: f.received for f in flows(work.replace(lora=LoraConfig(rank=8)), mesh(fsdp=4))}
    assert frozen["gather weights"] == got["gather weights"]
    assert frozen["look tokens up"] == got["look tokens up"] / 2


def test_links_inside_and_between_nodes():
    hw = hardware("h100-sxm")
    inside = seconds(Flow("x", "fsdp", 450e9, True), mesh(fsdp=8), hw)
    assert inside == pytest.approx(1.0)
    # 16 ways over two nodes: 8 of 15 shares come in over 8 cards of 50 GB/s, slower than 15 shares inside.
    across = seconds(Flow("x", "fsdp", 450e9, True), mesh(fsdp=16), hw)
    assert across == pytest.approx(max(1.0, 450e9 * 8 / 15 / (8 * 50e9)))
    # The outer axis finds no neighbour in its node: every byte comes over its own card.
    alone = seconds(Flow("x", "data", 50e9, True), mesh(data=2, fsdp=8), hw)
    assert alone == pytest.approx(1.0)


def test_time_of_a_single_device_is_flops_over_the_ceiling():
    hw = hardware("h100-sxm", efficiency=0.5)
    work = Work(named_config("mistral-7b-v0.3"), 4096, 1, compute_dtype="bfloat16")
    found = speed(work, mesh(), hw, Memory(0, 0, 0, 0, 0, 0, 0, 0))
    assert found.compute == pytest.approx(45.902e9 * 4096 / 798e12, rel=1e-3)
    assert found.expected == pytest.approx(2 * found.floor)
    assert found.mfu == pytest.approx(0.5 * 798 / 989.4)


def test_a_full_remat_computes_a_third_more():
    hw, zero = hardware(), Memory(0, 0, 0, 0, 0, 0, 0, 0)
    none, full = (
        speed(Work(MIXTRAL, 4096, 8, remat=r, compute_dtype="bfloat16"), mesh(), hw, zero)
        for r in ("none", "full")
    )
    assert 1.30 < full.compute / none.compute < 1.34


def test_search_ranks_what_fits_before_what_does_not():
    hw, work = hardware("h100-sxm"), Work(TINY, 64, 8)
    needs = sorted(c.memory.total for c in search(work, 4, hw) if c.memory)
    small = dataclasses.replace(hw, memory=needs[len(needs) // 2] / hw.usable)
    found = search(work, 4, small)
    fits = [c.memory.total <= small.budget for c in found if c.memory]
    assert any(fits) and not all(fits) and fits == sorted(fits, reverse=True)
    assert [bool(c.refused) for c in found] == sorted(bool(c.refused) for c in found)


def test_hardware_names():
    for name in names():
        hw = hardware(name)
        assert hw.ceiling <= hw.peak and hw.source and hw.budget < hw.memory
    assert hardware("h100").name == "h100-sxm"
    with pytest.raises(InputError) as e:
        hardware("h300")
    assert e.value.hint.startswith("h")


def test_mesh_as_typed():
    assert parse_mesh("fsdp=8, expert=2").expert == 2
    with pytest.raises(InputError):
        parse_mesh("fdsp=8")


def test_a_folder_that_is_not_here_is_known_by_name(tmp_path):
    assert find_model(str(tmp_path / "bases" / "Mixtral-8x7B")) == MIXTRAL
    with pytest.raises(InputError):
        find_model("no/such/model-at-all")


def run(args):
    from typer.testing import CliRunner

    from xlam_jax.cli.main import app

    return CliRunner().invoke(app, ["plan", *args])


def test_command_writes_the_whole_plan(tmp_path):
    target = tmp_path / "plan.json"
    args = ["--model", "tiny-mixtral", "--mesh", "fsdp=2,expert=2", "--rows", "16", "--seq-len", "64"]
    got = run([*args, "--no-compile", "--tokens", "1e6", "--price", "3", "--json", str(target)])
    assert got.exit_code == 0, got.output
    plan = json.loads(target.read_text())
    assert plan["devices"] == 4 and plan["fits"] and plan["mesh"]["expert"] == 2
    parts = {k: v for k, v in plan["memory"].items() if k not in ("total", "budget")}
    assert plan["memory"]["total"] == pytest.approx(sum(parts.values()))
    assert plan["cost"]["dollars"] == pytest.approx(plan["cost"]["device_hours"] * 3)
    assert plan["refused"] and all(row["reason"] for row in plan["refused"])


def test_command_refuses_an_impossible_mesh():
    got = run(["--model", "tiny-llama", "--mesh", "expert=2", "--rows", "8", "--no-compile"])
    assert isinstance(got.exception, InputError) and "no experts" in got.exception.what


def test_command_reads_a_config():
    got = run(
        ["configs/demo/sft.yaml", "--model", "smollm2-135m", "--gpus", "1", "--seq-len", "64", "--no-compile"]
    )
    assert got.exit_code == 0, got.output


def test_before_the_data_is_built_its_config_says_how_long_rows_are(tmp_path):
    recipe = (
        "{model: nowhere, data: {train: runs/here/shards}, out: runs/here/run, steps: 10, batch: {rows: 2}}"
    )
    (tmp_path / "sft.yaml").write_text(recipe)
    asked = [str(tmp_path / "sft.yaml"), "--model", "tiny-llama", "--gpus", "1", "--no-compile"]
    got = run(asked)
    assert isinstance(got.exception, InputError) and got.exception.hint == "--seq-len N"
    (tmp_path / "other.yaml").write_text("{inputs: [a], tokenizer: t, out: runs/other/shards, seq_len: 512}")
    (tmp_path / "data.yaml").write_text("{inputs: [a], tokenizer: t, out: runs/here/shards, seq_len: 96}")
    got = run([*asked, "--json", str(tmp_path / "plan.json")])
    assert got.exit_code == 0 and "2 rows of 96 positions a step" in got.output, got.output
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["step"]["compute_dtype"] == "bfloat16"  # what an accelerator would be given
    assert plan["tokens_from"] == "recipe" and plan["cost"]["tokens"] == 10 * 2 * 96
