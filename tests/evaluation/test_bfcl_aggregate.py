"""The leaderboard's formulas: published rows, its own code, and numbers worked out by hand."""

import csv
import random

import pytest

from tests.official_bfcl import official
from xlam_jax.evaluation.bfcl.aggregate import OVERALL, Count, Score, board, total
from xlam_jax.scoring import wilson

AST = ("simple", "multiple", "parallel", "parallel_multiple")
V2 = {
    "simple": (380, 400), "java": (60, 100), "javascript": (35, 50), "multiple": (190, 200),
    "parallel": (180, 200), "parallel_multiple": (170, 200), "irrelevance": (120, 240),
    "live_simple": (129, 258), "live_multiple": (700, 1037), "live_parallel": (8, 16),
    "live_parallel_multiple": (12, 24), "live_irrelevance": (700, 875), "live_relevance": (41, 41),
    "exec_simple": (90, 100), "rest": (35, 70), "exec_multiple": (40, 50), "exec_parallel": (30, 50),
    "exec_parallel_multiple": (20, 40),
}  # fmt: skip
MULTI = {
    "multi_turn_base": (100, 200), "multi_turn_miss_func": (50, 200), "multi_turn_miss_param": (20, 200),
    "multi_turn_long_context": (30, 200),
}  # fmt: skip


def counts(found):
    return {name: Count(*pair) for name, pair in found.items()}


def test_v2_by_hand():
    columns = board("v2", counts(V2))
    values = {name: score.value for name, score in columns.items()}
    # Simple: the mean of Python, Java and JavaScript, then of non-live and live.
    assert values["ast_simple"] == pytest.approx(((0.95 + 0.6 + 0.7) / 3 + 0.5) / 2)
    assert values["ast_multiple"] == pytest.approx((0.95 + 700 / 1037) / 2)
    assert values["exec_simple"] == pytest.approx((0.9 + 0.5) / 2)
    assert values["irrelevance"] == pytest.approx((0.5 + 0.8) / 2) and values["relevance"] == 1.0
    assert values["non_live"] == pytest.approx((0.75 + 0.95 + 0.9 + 0.85 + 0.7 + 0.8 + 0.6 + 0.5 + 0.5) / 9)
    assert values["live"] == pytest.approx((129 + 700 + 8 + 12 + 700 + 41) / 2251)
    name, score = total("v2", counts(V2))
    ten = [v for c, v in values.items() if c not in ("non_live", "live")]
    assert name == "v2 overall" and score.value == pytest.approx(sum(ten) / 10) and len(ten) == 10
    # A column that is one category has that category's interval.
    relevance = columns["relevance"]
    assert (relevance.low, relevance.high) == pytest.approx(wilson(41, 41)) and relevance.n == 41


def test_without_a_category_there_is_a_partial_that_says_so():
    offline = {k: v for k, v in V2.items() if "exec" not in k and k != "rest"}
    columns = board("v2", counts(offline))
    assert columns["exec_simple"] == ("exec_simple", "rest")
    assert columns["non_live"] == (
        "exec_simple",
        "rest",
        "exec_multiple",
        "exec_parallel",
        "exec_parallel_multiple",
    )
    name, score = total("v2", counts(offline))
    six = [s.value for c, s in columns.items() if isinstance(s, Score) and c != "live"]
    assert name == "v2 partial, 6 of 10 columns" and len(six) == 6
    assert score.value == pytest.approx(sum(six) / 6)
    assert total("v2", counts({"live_relevance": (1, 2)})) is None and total("v2", {}) is None
    assert board("v2", counts({"live_relevance": (0, 0)}))["relevance"] == ("live_relevance",)


def test_v3_by_hand():
    found = counts({**V2, **MULTI})
    columns = {c: s.value for c, s in board("v3", found).items()}
    assert columns["non_live"] == pytest.approx((0.75 + 0.95 + 0.9 + 0.85 + 0.5) / 5)
    assert columns["multi_turn"] == pytest.approx(200 / 800)
    name, score = total("v3", found)
    assert name == "v3 overall" and score.value == pytest.approx(sum(columns.values()) / 3)


def test_v4_partial_keeps_the_weights():
    offline = counts({**V2, **MULTI})
    columns = {c: s.value for c, s in board("v4", offline).items() if isinstance(s, Score)}
    assert columns["live"] == pytest.approx((129 + 700 + 8 + 12) / (258 + 1037 + 16 + 24))
    name, score = total("v4", offline)
    weights = {"non_live": 10, "live": 10, "irrelevance": 10, "multi_turn": 30}
    assert name == "v4 partial, 4 of 5 columns"
    assert score.value == pytest.approx(sum(w * columns[c] for c, w in weights.items()) / 60)


def test_v4_is_what_the_official_code_writes(tmp_path):
    """Every published column of random scores, to its two decimals of a per cent."""
    helper = official("eval_checker.eval_runner_helper", tmp_path)
    rng = random.Random(3)
    names = {c: c for c in OVERALL["v4"].categories}
    names |= {"simple": "simple_python", "java": "simple_java", "javascript": "simple_javascript"}
    for trial in range(5):
        found = {c: (rng.randint(0, n), n) for c in names for n in [rng.randint(20, 300)]}
        scored = {names[c]: {"accuracy": right / n, "total_count": n} for c, (right, n) in found.items()}
        helper.generate_leaderboard_csv({"model": scored}, tmp_path)
        with (tmp_path / "data_overall.csv").open() as file:
            (theirs,) = csv.DictReader(file)
        columns = board("v4", counts(found))
        name, score = total("v4", counts(found))
        assert name == "v4 overall"
        for column, ours in (
            ("Overall Acc", score),
            ("Non-Live AST Acc", columns["non_live"]),
            ("Live Acc", columns["live"]),
            ("Irrelevance Detection", columns["irrelevance"]),
            ("Multi Turn Acc", columns["multi_turn"]),
        ):
            assert float(theirs[column].rstrip("%")) == pytest.approx(100 * ours.value, abs=0.00501), (
                trial,
                column,
            )
