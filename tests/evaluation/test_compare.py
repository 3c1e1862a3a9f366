"""`xlam eval compare` on evaluations whose verdicts are known."""

import json

import pytest
import scipy.stats
from typer.testing import CliRunner

from xlam_jax.cli.eval import app
from xlam_jax.errors import InputError
from xlam_jax.evaluation.paired import paired


def run(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Gold and lazy agents on the same tasks, and gold on others."""
    folder = tmp_path_factory.mktemp("kept")
    for name, model, world in (
        ("gold", "gold", "movie"),
        ("empty", "empty", "movie"),
        ("other", "gold", "weather"),
    ):
        run(
            "toolquery",
            "--world",
            world,
            "--limit",
            5,
            "--model",
            f"scripted:{model}",
            "--out",
            folder / name,
        )
    return folder


def test_rows_that_changed_are_counted_and_shown(kept, tmp_path):
    said = run("compare", kept / "gold", kept / "empty", "--json", tmp_path / "c.json", "--show", 1)
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["all"]["only_first"] == 5 and found["all"]["only_second"] == found["all"]["both"] == 0
    assert found["all"]["p"] == 2 / 2**5 and len(found["lost"]) == 5 and not found["won"]
    assert said.count("right before, wrong now") == 1
    same = run("compare", kept / "gold", kept / "gold")
    assert "+0.0" in same and "right before" not in same


@pytest.mark.parametrize(
    "counts", [(30, 4, 11, 5), (0, 3, 0, 7), (12, 0, 0, 8), (5, 9, 9, 0), (200, 31, 60, 9)]
)
def test_against_scipy_s_exact_binomial_test(counts):
    both, lost, won, neither = counts
    verdicts = (
        [(True, True)] * both + [(True, False)] * lost + [(False, True)] * won + [(False, False)] * neither
    )
    found = paired(verdicts)
    wanted = scipy.stats.binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert found.p == pytest.approx(wanted) and found.neither == neither
    assert -1 <= found.low <= found.difference <= found.high <= 1


def test_the_interval_of_a_published_example():
    """Newcombe (1998), table II: 36, 12, 2, 0 of 50 (method 10): 0.2000 with 0.0569 to 0.3404."""
    found = paired([(True, True)] * 36 + [(False, True)] * 12 + [(True, False)] * 2)
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=2e-4)


def test_what_cannot_be_compared_is_said(kept, tmp_path):
    with pytest.raises(InputError, match="no row in common"):
        run("compare", kept / "gold", kept / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no generations\.jsonl"):
        run("compare", kept / "gold", tmp_path / "empty")
    with pytest.raises(InputError, match="not found"):
        run("compare", kept / "gold", tmp_path / "nowhere")
