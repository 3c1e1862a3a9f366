"""Every loss against numbers computed elsewhere in double precision, and options that would be ignored."""

import math

import jax
import numpy as np
import pytest

from xlam_jax.config import make_config
from xlam_jax.errors import InputError
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.preference.config import ObjectiveConfig
from xlam_jax.training.preference.losses import LOSSES, Constants, LogRatios, preference_loss

# s_w, s_l, r_w, r_l, n_w, n_l
PAIRS = {
    "A": (-10, -12, -11, -11.5, 5, 6),
    "B": (-50, -30, -48, -33, 40, 20),
    "C": (-20, -20, -20, -20, 10, 10),
    "D": (-5, -80, -25, -40, 8, 30),
}
NAMES = (
    "sigmoid",
    "cdpo",
    "robust",
    "hinge",
    "ipo_sum",
    "ipo",
    "normalised",
    "free",
    "apo_zero",
    "nca",
    "bco",
)
# fmt: off
GOLDEN = {
    (0.1, "A"): (
        0.620957, 0.635957, 0.602207, 0.85, 12.25, 22.246944, 0.679081, 0.598139, 0.962523, 1.350825, 1.312856
    ),
    (0.1, "B"): (
        0.974077, 0.924077, 1.036577, 1.5, 100, 27.04, 0.703197, 2.126928, 1.124277, 1.524386, 1.652494
    ),
    (0.1, "C"): (
        0.693147, 0.693147, 0.693147, 1, 25, 25, 0.693147, 0.693147, 1, 1.386294, 1.386294
    ),
    (0.1, "D"): (
        0.002476, 0.602476, -0.747524, 0, 3025, 1.361111, 0.519737, 0.000553, 0.137189, 1.199467, 0.145078
    ),
    (0.5, "A"): (
        0.386871, 0.461871, 0.293121, 0.25, 0.25, 0.513611, 0.62482, 0.313262, 0.815364, 1.249085, 1.050016
    ),
    (0.5, "B"): (
        2.57889, 2.32889, 2.89139, 3.5, 36, 1.44, 0.744397, 10.000045, 1.548633, 2.320599, 3.014675
    ),
}
# fmt: on
GRADIENT = {
    (0.1, "A"): -0.046257,
    (0.1, "B"): -0.062246,
    (0.1, "C"): -0.05,
    (0.1, "D"): -0.000247,
    (0.5, "A"): -0.160411,
    (0.5, "B"): -0.462071,
}  # fmt: skip
SIMPO = {"A": 1.313262, "B": 0.974077, "C": 1.313262, "D": 0.044788}


def ratios(pair: str, reference: bool = True) -> LogRatios:
    s_w, s_l, r_w, r_l, n_w, n_l = map(np.float32, PAIRS[pair])
    return LogRatios(s_w - r_w, s_l - r_l, n_w, n_l) if reference else LogRatios(s_w, s_l, n_w, n_l)


@pytest.mark.parametrize(("beta", "pair"), GOLDEN)
def test_golden_numbers(beta, pair):
    for name, wanted in zip(NAMES, GOLDEN[beta, pair], strict=True):
        k = Constants(beta, 0.1 if name in ("cdpo", "robust") else 0.0)
        found = preference_loss("sigmoid" if name == "free" else name, ratios(pair, name != "free"), k)
        assert float(found) == pytest.approx(wanted, rel=2e-6, abs=6e-7), name


@pytest.mark.parametrize(("beta", "pair"), GRADIENT)
def test_gradient_in_the_margin(beta, pair):
    r = ratios(pair)
    slope = jax.grad(lambda c: preference_loss("sigmoid", r._replace(chosen=c), Constants(beta)))(r.chosen)
    assert float(slope) == pytest.approx(GRADIENT[beta, pair], rel=1e-4, abs=6e-7)


@pytest.mark.parametrize("pair", SIMPO)
def test_simpo(pair):
    found = preference_loss("simpo", ratios(pair, reference=False), Constants(2.0, gamma=1.0))
    assert float(found) == pytest.approx(SIMPO[pair], rel=2e-6, abs=6e-7)


@pytest.mark.parametrize("pair", PAIRS)
def test_apo_down_by_hand(pair):
    s_w, s_l, r_w, r_l, *_ = PAIRS[pair]
    c, delta = s_w - r_w, (s_w - r_w) - (s_l - r_l)
    wanted = 1 / (1 + math.exp(-0.1 * c)) + 1 - 1 / (1 + math.exp(-0.1 * delta))
    assert float(preference_loss("apo_down", ratios(pair), Constants(0.1))) == pytest.approx(wanted, rel=1e-6)


def test_no_loss_is_another_under_its_name():
    """A margin of 6 at beta 0.1: asked for hinge or IPO, a trainer gave sigmoid's 0.4375."""
    r = LogRatios(np.float32(6), np.float32(0), np.float32(1), np.float32(1))
    found = {name: float(preference_loss(name, r, Constants(0.1))) for name in ("sigmoid", "hinge", "ipo")}
    assert found == pytest.approx({"sigmoid": 0.437488, "hinge": 0.4, "ipo": 1.0}, abs=1e-6)


def test_ipo_is_on_averages_and_its_sums_have_another_name():
    assert float(preference_loss("ipo", ratios("A"), Constants(0.1))) == pytest.approx(22.246944, rel=1e-6)
    assert float(preference_loss("ipo_sum", ratios("A"), Constants(0.1))) == pytest.approx(12.25, rel=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_are_finite_far_out_and_so_are_their_gradients(name):
    for far in (-1e4, 1e4):
        r = LogRatios(np.float32(far), np.float32(-far), np.float32(7), np.float32(9))
        loss = lambda c, r=r: preference_loss(name, r._replace(chosen=c), Constants(0.5, 0.1, 0.5))  # noqa: E731
        value, slope = jax.value_and_grad(loss)(r.chosen)
        assert np.isfinite(value) and np.isfinite(slope)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "aot"}, "accumulation"),
        ({"loss": "aot_unpaired"}, "accumulation"),
        ({"nll": "token_mean", "nll_weight": 1}, "accumulation"),
        ({"loss": "ippo"}, "one of"),
        ({"label_smoothing": 0.1}, "does not read label_smoothing"),
        ({"gamma": 1.0}, "does not read gamma"),
        ({"nll": "sum"}, "nll_weight is 0"),
        ({"loss": "ipo", "ld_alpha": 0.5}, "averages"),
        ({"loss": "simpo"}, "reference: none"),
        ({"kind": "sft", "beta": 0.3}, "only for kind: dpo"),
        ({"beta": 0}, "beta"),
    ],
)
def test_what_would_be_ignored_or_change_with_the_batch_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        make_config(ObjectiveConfig, {"kind": "dpo", **values})


def test_a_written_config_reads_back():
    for objective in ({}, {"kind": "dpo", "loss": "cdpo", "label_smoothing": 0.1}):
        config = make_config(
            TrainConfig, {"model": "m", "data": {"train": "d"}, "out": "o", "objective": objective}
        )
        assert make_config(TrainConfig, config.model_dump(mode="json")) == config
