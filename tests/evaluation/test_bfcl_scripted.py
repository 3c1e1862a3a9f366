"""`xlam eval bfcl` with models whose scores are known beforehand, on rows of our own and on the published ones."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cases import long_but
from tests.official_bfcl import official_data, official_verdict
from xlam_jax.cli import eval as eval_module
from xlam_jax.errors import InputError, WorkError
from xlam_jax.evaluation.bfcl import CATEGORIES, NOT_RUN
from xlam_jax.format import ToolCall
from xlam_jax.lease import Lease

# Rows that their published answer does not pass: the answer names another function or parameter, has no value, or
# holds what source text or a letter-by-letter comparison cannot give back.
UNREACHABLE = {
    "v2": {
        "simple_363", "parallel_multiple_179", "live_simple_106-63-0", "live_simple_112-68-0",
        "live_multiple_862-181-3", "live_multiple_964-207-0", "live_multiple_189-83-0",
        "java_36", "java_64", "java_65", "java_67", "java_68", "javascript_5", "javascript_41",
    },
    "v4": {
        "live_simple_106-63-0", "live_simple_112-68-0", "live_multiple_862-181-3", "live_multiple_964-207-0",
        "simple_java_36", "simple_java_64", "simple_java_65",
    },
}  # fmt: skip
SIZES = {
    "v2": {
        "simple": 400, "java": 100, "javascript": 50, "multiple": 200, "parallel": 200, "parallel_multiple": 200,
        "irrelevance": 240, "live_simple": 258, "live_multiple": 1037, "live_parallel": 16,
        "live_parallel_multiple": 24, "live_irrelevance": 875, "live_relevance": 41,
    },
}  # fmt: skip
SIZES["v4"] = SIZES["v2"] | {"live_multiple": 1053, "live_irrelevance": 884, "live_relevance": 16}


def folder_of(version):
    if version == "v4":
        return official_data()
    root = Path(os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (root / "bfcl_v2").is_dir():
        pytest.skip(f"public data folder not found: {root / 'bfcl_v2'}")
    return root / "bfcl_v2"


def run(*args):
    return CliRunner().invoke(eval_module.app, ["bfcl", *map(str, args)])


def scored(tmp_path, *args):
    """(result, rows) of a run."""
    result = run(*args, "--out", tmp_path / "out", "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    lines = (tmp_path / "out" / "generations.jsonl").read_text().splitlines()
    return json.loads((tmp_path / "r.json").read_text()), list(map(json.loads, lines))


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_published_answers_fail_exactly_the_known_rows(version, tmp_path):
    result, rows = scored(tmp_path, folder_of(version), "--version", version, "--model", "scripted:gold")
    assert {row["id"] for row in rows if not row["lenient"]} == UNREACHABLE[version]
    categories = result["summary"]["categories"]
    assert {name: found["n"] for name, found in categories.items()} == SIZES[version]
    ceilings = {name: found["bfcl"]["right"] for name, found in categories.items()}
    assert (ceilings["java"], ceilings["javascript"]) == {"v2": (95, 48), "v4": (97, 50)}[version]
    assert all(found["best"] == found["bfcl"]["value"] for found in categories.values())
    assert (
        result["summary"]["bfcl"]["total"]["name"]
        == {
            "v2": "v2 partial, 6 of 10 columns",
            "v4": "v4 partial, 3 of 5 columns",
        }[version]
    )


@pytest.mark.parametrize(
    ("version", "name", "limit"),
    long_but(
        [("v4", "mutated", 50)],
        [
            ("v4", "mutated", 50),
            ("v2", "mutated", 400),
            ("v4", "mutated", 400),
            ("v2", "random", 400),
            ("v4", "random", 400),
        ],
    ),
)
def test_every_verdict_is_the_official_one(version, name, limit, tmp_path):
    verdict = official_verdict(tmp_path)
    folder = folder_of(version)
    args = (
        "--category",
        "python,java,javascript",
        "--model",
        f"scripted:{name}",
        "--seed",
        7,
        "--limit",
        limit,
    )
    _, rows = scored(tmp_path, folder, "--version", version, *args)
    seen = Counter()
    for style in {row["style"] for row in rows}:
        category = CATEGORIES[style]
        if not category.has_answers:
            continue
        file = f"BFCL_{version}_{category.v4_name if version == 'v4' else style}.json"
        questions, answers = (
            {r["id"]: r for r in map(json.loads, (folder / part / file).read_text("utf-8").splitlines())}
            for part in (".", "possible_answer")
        )
        for row in (r for r in rows if r["style"] == style):
            calls = [ToolCall(c["name"], c["arguments"]) for c in row["calls"]]
            answer = answers[row["id"]]["ground_truth"]
            valid, _ = verdict(questions[row["id"]], calls, answer, category.kind, category.language)
            assert row["lenient"] == valid, row
            seen[valid] += 1
    assert sum(seen.values()) == sum(
        min(limit, n) for c, n in SIZES[version].items() if CATEGORIES[c].has_answers
    )
    assert seen[False] > sum(seen.values()) / 3 and (name == "random" or seen[True] > sum(seen.values()) / 3)


@pytest.mark.parametrize(
    ("name", "columns", "live"),
    long_but(
        [("empty", {"irrelevance"}, 875)], [("empty", {"irrelevance"}, 875), ("random", {"relevance"}, 41)]
    ),
)
def test_models_that_know_nothing_get_what_is_worked_out_by_hand(name, columns, live, tmp_path):
    result, rows = scored(tmp_path, folder_of("v2"), "--model", f"scripted:{name}")
    right = {"empty": ("irrelevance", "live_irrelevance"), "random": ("live_relevance",)}[name]
    assert all(row["lenient"] and row["strict"] for row in rows if row["style"] in right)
    # Numbers and texts out of the air meet no answer; a function without required parameters can be called by luck.
    lucky = [row for row in rows if row["style"] not in right and row["lenient"]]
    assert len(lucky) == {"empty": 0, "random": 2}[name]
    assert all(
        isinstance(v, bool) for row in lucky for call in row["calls"] for v in call["arguments"].values()
    )
    values = {c: s.get("value") for c, s in result["summary"]["bfcl"]["columns"].items()}
    assert {c for c, value in values.items() if value == 1.0} == columns
    assert {c for c, value in values.items() if value is None} == {
        "exec_simple", "exec_multiple", "exec_parallel", "exec_parallel_multiple", "non_live",
    }  # fmt: skip
    # The live board counts rows: 875 refusals, or 41 calls, of 2,251.
    assert values["live"] == pytest.approx((live + len(lucky)) / 2251)
    # A lucky row of live_simple is a half of 1/258 of its column, of live_multiple a half of 1/1,037.
    luck = (1 / 258 + 1 / 1037) / 2 if lucky else 0
    assert result["summary"]["bfcl"]["total"]["value"] == pytest.approx((1 + luck) / 6)


@pytest.mark.slow
def test_mutated_answers_lose_every_second_row_to_the_three_kinds_of_damage(tmp_path):
    result, rows = scored(tmp_path, folder_of("v2"), "--model", "scripted:mutated")
    found = result["summary"]["categories"]
    lost = Counter()
    for style, n in SIZES["v2"].items():
        order = [row["id"] for row in rows if row["style"] == style]
        lost[style] = sum(order.index(i) % 2 == 0 for i in UNREACHABLE["v2"] if i in order)
        assert found[style]["bfcl"]["right"] == (n + 1) // 2 - lost[style], style
    # Of even places: java_36, 64 and 68, live_simple 106 and 112, live_multiple 862 and 964.
    assert sum(lost.values()) == 7
    simple = Counter(row["error"] for row in rows if row["style"] == "simple")
    # 67, 67 and 66 of the 200 damaged; simple_363, due an argument too much, has a wrong name to begin with.
    assert simple == {"": 200, "wrong_func_name": 68, "unexpected_param": 66, "wrong_count": 66}


# -- rows of our own, wherever the tests run ----

FUNCTION = {
    "name": "area",
    "description": "Area of a square.",
    "parameters": {
        "type": "dict",
        "properties": {
            "side": {"type": "integer", "description": "Length."},
            "unit": {"type": "string", "description": "Unit."},
        },
        "required": ["side"],
    },
}


@pytest.fixture
def own(tmp_path):
    """Four rows of `simple` and two each of `irrelevance` and `live_relevance`."""
    folder = tmp_path / "bfcl"
    (folder / "possible_answer").mkdir(parents=True)
    for name, count in (("simple", 4), ("irrelevance", 2), ("live_relevance", 2)):
        rows = [
            {
                "id": f"{name}_{i}",
                "question": [{"role": "user", "content": f"Side {i}?"}],
                "function": [FUNCTION],
            }
            for i in range(count)
        ]
        (folder / f"BFCL_v2_{name}.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    answers = [
        {"id": f"simple_{i}", "ground_truth": [{"area": {"side": [i], "unit": ["m", ""]}}]} for i in range(4)
    ]
    text = "".join(json.dumps(a) + "\n" for a in answers)
    (folder / "possible_answer" / "BFCL_v2_simple.json").write_text(text)
    return folder


ALL = ("--category", "simple,irrelevance,live_relevance")


def test_own_rows(own, tmp_path):
    for name, right in [
        ("gold", (4, 2, 2)),
        ("empty", (0, 2, 0)),
        ("random", (0, 0, 2)),
        ("mutated", (2, 1, 1)),
    ]:
        result, rows = scored(tmp_path / name, own, "--model", f"scripted:{name}")
        found = result["summary"]["categories"]
        assert tuple(found[c]["bfcl"]["right"] for c in ("simple", "irrelevance", "live_relevance")) == right
        assert result["summary"]["bfcl"]["total"] is None  # relevance is the one column of the ten
        assert [row["id"] for row in rows][:4] == [f"simple_{i}" for i in range(4)]
        assert result["data"].startswith("files of an unknown commit")
    # Wilson at 1 of 2: (1/2 + z^2/4 +- z sqrt(1/8 + z^2/16)) / (1 + z^2/2) = 0.0945 and 0.9055
    share = result["summary"]["categories"]["irrelevance"]["bfcl"]
    assert (share["low"], share["high"]) == pytest.approx((0.0945, 0.9055), abs=1e-4)


def test_tables_fit_eighty_columns_and_say_what_is_left_out(own, monkeypatch):
    result = run(own, *ALL, "--model", "scripted:mutated", "--limit", 2)
    assert result.exception is None
    tables = [line for line in result.output.splitlines() if line[:1] in "┏┃┡│└"]
    assert len(tables) > 10 and max(map(len, tables)) <= 80
    assert (
        "exec_multiple, exec_parallel, exec_parallel_multiple (web services that are gone)" in result.output
    )
    assert (
        "no ast_simple, ast_multiple, " in result.output
        and "not among the rows: java, javascript" in result.output
    )
    assert "overall" not in result.output and "a sample of up to 2 rows a category, seed 0" in result.output


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(own, tmp_path):
    args = (own, *ALL, "--model", "scripted:mutated", "--out", tmp_path / "out")
    assert run(*args).exception is None
    file, summary = tmp_path / "out" / "generations.jsonl", tmp_path / "out" / "summary.json"
    whole, table = file.read_text(), summary.read_text()
    lines = whole.splitlines(keepends=True)
    file.write_text("".join(lines[2:5]) + lines[6][:40])  # some are missing, and a kill cut the last
    summary.unlink()
    result = run(*args)
    assert isinstance(result.exception, InputError) and "--resume" in result.exception.hint
    result = run(*args, "--resume")
    assert result.exception is None and "3 of 8 answers were there already" in result.output
    assert (file.read_text(), summary.read_text()) == (whole, table)


def test_a_run_goes_on_with_nothing_else(own, tmp_path):
    args = (own, *ALL, "--out", tmp_path / "out")
    assert run(*args, "--model", "scripted:gold").exception is None
    for more, what in [
        (("--model", "scripted:empty"), "another model"),
        (("--model", "scripted:gold", "--seed", 1), "another seed"),
        (("--model", "scripted:gold", "--limit", 1), "another limit"),
    ]:
        result = run(*args, *more, "--resume")
        assert isinstance(result.exception, InputError) and what in result.exception.what
    file = tmp_path / "out" / "generations.jsonl"
    whole = file.read_text()
    file.write_text(whole.replace('"outcome"', '"outcomes"', 3))
    result = run(*args, "--model", "scripted:gold", "--resume")
    assert isinstance(result.exception, InputError) and result.exception.where.endswith("generations.jsonl:1")
    file.write_text(whole)
    with (own / "BFCL_v2_simple.json").open("a") as file:
        file.write("\n")
    result = run(*args, "--model", "scripted:gold", "--resume")
    assert isinstance(result.exception, InputError) and "another files" in result.exception.what


def test_two_processes_do_not_write_into_one_folder(own, tmp_path):
    with Lease(tmp_path / "out" / "lease.json", "results folder"):
        result = run(own, *ALL, "--model", "scripted:gold", "--out", tmp_path / "out")
        assert isinstance(result.exception, WorkError) and "another process works" in result.exception.what
    assert run(own, *ALL, "--model", "scripted:gold", "--out", tmp_path / "out").exception is None


def test_bad_input(own, tmp_path):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "generations.jsonl").write_text("{}")
    for args, what in [
        ((own, *ALL, "--model", "scripted:golden"), "unknown scripted model"),
        ((own, "--model", "scripted:gold", "--constrained"), "takes no adapter and no grammar"),
        ((own, "--model", "scripted:gold", "--resume"), "--resume needs the folder"),
        ((own, "--model", "scripted:gold", "--version", "v9"), "unknown BFCL version"),
        ((own, "--model", "scripted:gold", "--category", "exec_simple"), "is not run"),
        ((own, "--model", "scripted:gold", "--category", "java"), "no file of BFCL category 'java'"),
        ((own, *ALL, "--model", "scripted:gold", "--out", tmp_path / "strange"), "without run.json"),
        ((own, *ALL, "--model", tmp_path / "none"), "model folder not found"),
        ((tmp_path / "none", "--model", "scripted:gold"), "BFCL folder not found"),
    ]:
        result = run(*args)
        assert isinstance(result.exception, InputError), result.output
        assert what in result.exception.what and result.exception.exit_code == 2


def test_what_is_not_run_says_why():
    assert all(reason and not reason.endswith(".") for names in NOT_RUN.values() for reason in names.values())
