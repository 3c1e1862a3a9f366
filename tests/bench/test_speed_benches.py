"""The benches run the real thing and say what they ran; numbers that can be checked are."""

import json

import jax
import numpy as np
import pytest

from tests import tiny_run
from tests.cases import long_but
from xlam_jax.bench.accelerator import PARTS, bench_accelerator
from xlam_jax.bench.attention import bench_attention
from xlam_jax.bench.compare import bench_compare, make_rows
from xlam_jax.bench.compare_torch import TorchSide
from xlam_jax.bench.load import bench_load
from xlam_jax.bench.moe import bench_moe
from xlam_jax.bench.protocol import file_name, timed
from xlam_jax.bench.train import StepOptions, bench_train, cut_layers
from xlam_jax.errors import InputError
from xlam_jax.models.flops import flops_per_token
from xlam_jax.models.lora import LoraConfig
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import init, state_dict_from_params
from xlam_jax.parallel.mesh import MeshConfig

TINY = named_config("tiny-llama")
QUICK = {"steps": 2, "warmup": 1}


def test_timed_waits_and_orders():
    calls = []
    found = timed(lambda: calls.append(1), steps=5, warmup=2)
    assert len(calls) == 7 and len(found["all"]) == 5
    assert found["best"] <= found["median"] <= found["p90"]


def test_train_reports_its_own_arithmetic():
    found = bench_train(TINY, rows=2, seq_len=32, options=StepOptions(mesh=MeshConfig(fsdp=2)), **QUICK)
    assert found["tokens_per_second"] == pytest.approx(64 / found["step_seconds"])
    assert found["tokens_per_second_per_device"] == pytest.approx(found["tokens_per_second"] / 2)
    flops = flops_per_token(TINY, 32)["total"]
    assert found["tflops"] == pytest.approx(found["tokens_per_second_per_device"] * flops / 1e12)
    assert found["of_ceiling"] == pytest.approx(found["tflops"] / found["ceiling_tflops"])
    assert "causal" in found["formula"] and found["mfu"] is None and found["versions"]["jax"]


@pytest.mark.slow
def test_train_with_adapters_counts_them():
    lora = LoraConfig(rank=2)
    found = bench_train(TINY, rows=1, seq_len=32, options=StepOptions(lora=lora), **QUICK)
    assert found["gflops_per_token"] == flops_per_token(TINY, 32, lora=lora)["total"] / 1e9
    assert found["lora"]["rank"] == 2 and "rank 2" in found["formula"]


@pytest.mark.slow
def test_train_on_real_shards(tmp_path):
    tokenizer = tiny_run.make_tokenizer(tmp_path / "tokenizer")
    data = tiny_run.make_data(tmp_path / "data", tokenizer, count=12, seq_len=512)
    found = bench_train(TINY.replace(vocab_size=400), rows=1, data=data, **QUICK)
    assert found["seq_len"] == 512 and 0 < found["target_tokens"] < found["real_tokens"] <= 512
    with pytest.raises(InputError, match="token id"):
        bench_train(TINY.replace(vocab_size=16), rows=1, data=data, **QUICK)
    loaded = bench_load(data, rows=2, steps=4, step_seconds=1.0)
    assert loaded["steps"] == 4 and loaded["headroom"] == pytest.approx(loaded["rows_per_second"] / 2)


@pytest.mark.slow
def test_moe_by_pass():
    cfg = named_config("tiny-mixtral")
    found = bench_moe(cfg, [32], only=["batched", "dense"], **QUICK)
    assert [(r["backend"], r["pass"]) for r in found["rows"]] == [
        (b, p) for b in ("batched", "dense") for p in ("fwd", "dgrad", "wgrad", "fwd+bwd")
    ]
    with pytest.raises(InputError, match="no experts"):
        bench_moe(TINY, [32], **QUICK)


@pytest.mark.slow
def test_skewed_routing_takes_more_windows():
    cfg = named_config("tiny-mixtral")
    even, skewed = (bench_moe(cfg, [256], only=["batched"], skew=s, **QUICK)["rows"][0] for s in (0.0, 4.0))
    assert skewed["windows"] > even["windows"]


def test_a_backend_that_cannot_is_told_and_loses_nothing():
    found = bench_attention(TINY, [32], only=["xla", "cudnn"], **QUICK)
    assert [r["pass"] for r in found["rows"] if r["backend"] == "xla"] == ["fwd", "bwd"]
    (failed,) = [r for r in found["rows"] if r["backend"] == "cudnn"]
    assert failed["error"]


@pytest.mark.parametrize(
    ("baseline", "documents", "trained"),
    long_but([("eager", 3, 0.25)], [("eager", 1, 1.0), ("eager", 3, 0.25), ("compile", 3, 0.25)]),
)
def test_torch_does_the_same_work(baseline, documents, trained):
    pytest.importorskip("torch")
    more = {"baseline": baseline, "documents": documents, "trained": trained}
    found = bench_compare(TINY, rows=2, seq_len=32, threads=2, **more, **QUICK)
    assert found["loss_difference"] < 1e-4
    assert found["baseline"]["kind"] == baseline and found["baseline"]["optimizer"].startswith("AdamW")
    assert ("block" in found["baseline"]["attention"]) == (documents > 1)
    assert found["ratio"] == pytest.approx(found["torch"]["step_seconds"] / found["xlam"]["step_seconds"])


def test_both_baselines_lose_the_same_on_packed_rows():
    """Their gradients too; uncompiled, because compiling changes the speed alone."""
    torch = pytest.importorskip("torch")
    weights = state_dict_from_params(init(TINY, jax.random.key(0)), TINY)
    side = TorchSide(TINY, weights, make_rows(TINY.vocab_size, 2, 40, 3, 0.3), "float32", "eager")
    found = []
    for loss in (side._all_logits, side._trained_only):
        value = loss()
        found.append((value.item(), torch.autograd.grad(value, side.model.model.embed_tokens.weight)[0]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6, rtol=1e-4)


def test_rows_of_a_comparison():
    rows = make_rows(100, 3, 50, 4, 0.5)
    for tokens, targets, weights, segments, positions in zip(*rows, strict=True):
        assert sorted(set(segments)) == [1, 2, 3, 4]
        for segment in range(1, 5):
            here = segments == segment
            n = here.sum()
            assert (positions[here] == np.arange(n)).all() and (targets[here][:-1] == tokens[here][1:]).all()
            assert weights[here].sum() == -(-n // 2) and weights[here][-1] == 1
    with pytest.raises(InputError, match="do not fit"):
        make_rows(100, 1, 4, 5, 1.0)


def test_layers_are_cut_within_bounds():
    assert cut_layers(TINY, 1).num_layers == 1 and cut_layers(TINY, None) is TINY
    with pytest.raises(InputError):
        cut_layers(TINY, 3)


def test_file_names_are_plain():
    assert (
        file_name("train", "smollm2-135m", "NVIDIA H100 80GB HBM3")
        == "train-smollm2-135m-nvidia-h100-80gb-hbm3.json"
    )


def test_accelerator_keeps_what_was_done(tmp_path):
    rows = bench_accelerator(tmp_path, only=["attention"], rehearse=True, seconds=300)
    assert [r["status"] for r in rows] == ["done"], rows
    assert json.loads((tmp_path / "attention.json").read_text())["rows"]
    assert json.loads((tmp_path / "parts.json").read_text()) == rows
    (skipped,) = bench_accelerator(tmp_path, only=["compare-torch"], rehearse=True, seconds=1)
    assert skipped["status"] == "skipped"
    assert all(limit < 120 for _, limit, _ in PARTS)
