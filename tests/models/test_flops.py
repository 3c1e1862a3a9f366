"""Counts against sizes and FLOPs that were worked out by hand from the models' public shapes."""

import pytest

from xlam_jax.models.flops import count, flops_per_token, mean_keys, step_flops
from xlam_jax.models.lora import LoraConfig
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import count_active_params, count_params

# (name, total G, active matmul G, GFLOP a token at S = 4096): table C.0 of published sizes.
KNOWN = [
    ("deepseek-coder-1.3b", 1.35, 1.28, 8.9),
    ("deepseek-coder-7b-v1.5", 6.91, 6.49, 42.0),
    ("mistral-7b-v0.3", 7.25, 7.11, 45.9),
    ("mixtral-8x7b", 46.70, 12.75, 79.7),
    ("mixtral-8x22b", 140.6, 38.96, 242.2),
]


@pytest.mark.parametrize(("name", "total", "active", "gflop"), KNOWN)
def test_known_sizes(name, total, active, gflop):
    cfg = named_config(name)
    found = count(cfg)
    assert found.total / 1e9 == pytest.approx(total, abs=0.06)
    assert found.active_matmul / 1e9 == pytest.approx(active, abs=0.006)
    assert flops_per_token(cfg, 4096)["total"] / 1e9 == pytest.approx(gflop, abs=0.06)
    assert (found.total, found.active) == (count_params(cfg), count_active_params(cfg))


def test_by_hand_on_a_tiny_model():
    cfg = named_config("tiny-llama")
    D, F, V, N, K, H, S = 64, 128, 256, 4, 2, 16, 32
    layer = D * (N + 2 * K) * H + N * H * D + 3 * D * F
    weights = 2 * layer + D * V
    attention = 2 * 6 * S * N * H  # 2 layers; forward QK and AV of S / 2 keys, twice that backward
    assert flops_per_token(cfg, S)["total"] == 6 * weights + attention
    # A frozen base needs no weight gradients; the pairs of rank 3 are trained.
    pairs = 2 * 3 * (D + N * H + 2 * (D + K * H) + N * H + D + 2 * (D + F) + F + D)
    assert flops_per_token(cfg, S, lora=LoraConfig(rank=3))["total"] == 4 * weights + 6 * pairs + attention
    # The lower layer costs its forward pass only.
    half = flops_per_token(cfg, S, freeze_layers=1)["total"]
    assert half == 2 * layer + 6 * (layer + D * V) + attention / 2 + attention / 6


def test_tied_table_is_multiplied_once():
    plain, tied = named_config("tiny-llama"), named_config("tiny-llama-tied")
    assert count(plain).active_matmul == count(tied).active_matmul


@pytest.mark.parametrize(("length", "window"), [(16, None), (16, 16), (64, 8), (4096, 100)])
def test_mean_keys_is_the_mean_of_a_mask(length, window):
    seen = sum(min(i + 1, window or length) for i in range(length)) / length
    assert abs(mean_keys(length, window) - seen) <= 0.5  # S / 2 by convention, not (S + 1) / 2


def test_latent_attention_counts_both_widths():
    cfg = named_config("deepseek-v2-lite")
    short, long = (flops_per_token(cfg, s)["attention"] for s in (1024, 2048))
    assert long == 2 * short == 3 * 27 * 2048 * 16 * (192 + 128)


@pytest.mark.parametrize("window", [None, 8])
def test_a_step_is_the_sum_of_its_documents(window):
    cfg = named_config("tiny-mistral").replace(sliding_window=window)
    for options in ({}, {"freeze_layers": 1}, {"lora": LoraConfig(rank=3)}):
        step, alone = step_flops(cfg, **options), [flops_per_token(cfg, n, **options) for n in (16, 48)]
        keys = 16 * mean_keys(16, window) + 48 * mean_keys(48, window)
        found = step.per_token * 64 + step.per_pair * keys
        assert found == pytest.approx(16 * alone[0]["total"] + 48 * alone[1]["total"])
    # A reference computed in the step is a forward pass more.
    more, plain = step_flops(cfg, more_forward=1), step_flops(cfg)
    assert more.per_token - plain.per_token == plain.forward == plain.per_token / 3
    assert more.per_pair - plain.per_pair == plain.forward_pair == plain.per_pair / 3


def test_the_formula_of_a_step_by_hand():
    cfg = named_config("tiny-llama")
    found = step_flops(cfg)
    # 2 layers, forward and twice backward, 4 heads of 16 + 16: 768 for every len^2.
    assert found.formula == (
        "6 x 0.000 G active matmul parameters x tokens + 6 x N (d_qk + d_v) = 768 x sum of len^2 over documents, causal"
    )
    assert found.per_pair == 2 * 768
