"""BFCL's native files as cases: shapes by hand, and the published files where they are at hand."""

import json
import os
from pathlib import Path

import pytest

from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl import CATEGORIES, bfcl_cases
from xlam_jax.format import get_codec

CODEC = get_codec()
FUNCTION = {
    "name": "geo.area",
    "description": "Area.",
    "parameters": {
        "type": "dict",
        "properties": {"r": {"type": "float", "description": "Radius"}},
        "required": ["r"],
    },
}
ANSWER = {"id": "simple_0", "ground_truth": [{"geo.area": {"r": [2.0]}}]}


def folder(tmp_path, name="BFCL_v2_simple.json", **changes):
    row = {
        "id": "simple_0",
        "question": [{"role": "user", "content": "Area?"}],
        "function": [FUNCTION],
        **changes,
    }
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / name).write_text(json.dumps(row) + "\n")
    (tmp_path / "possible_answer" / name).write_text(json.dumps(ANSWER) + "\n")
    return tmp_path


def test_a_case(tmp_path):
    (case,) = bfcl_cases(folder(tmp_path), "simple", CODEC)
    assert (case.id, case.style, case.category, case.answers) == (
        "simple_0",
        "simple",
        "simple",
        ANSWER["ground_truth"],
    )
    assert case.tools[0].parameters["properties"]["r"]["type"] == "number"
    assert "Area?" in case.prompt and case.prompt.endswith("<|im_start|>assistant\n")


def test_later_versions_nest_their_turns_and_system_words_join_the_task(tmp_path):
    turns = [[{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Area?"}]]
    (case,) = bfcl_cases(folder(tmp_path, "BFCL_v4_simple_python.json", question=turns), "simple", CODEC)
    assert case.prompt.index("Answer the query") < case.prompt.index("Be terse.") < case.prompt.index("Area?")


def test_errors_name_the_place(tmp_path):
    with pytest.raises(InputError, match="unknown BFCL category") as e:
        bfcl_cases(tmp_path, "simpel", CODEC)
    assert e.value.hint == "simple"
    with pytest.raises(InputError, match="no file of BFCL category"):
        bfcl_cases(tmp_path, "simple", CODEC)
    with pytest.raises(InputError, match="no possible answer") as e:
        bfcl_cases(folder(tmp_path, id="simple_9"), "simple", CODEC)
    assert e.value.where.endswith("BFCL_v2_simple.json:1")


@pytest.mark.parametrize(
    ("category", "rows"),
    [("simple", 400), ("parallel_multiple", 200), ("irrelevance", 240), ("live_relevance", 41)],
)
def test_published_files(category, rows):
    root = Path(os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (root / "bfcl_v2").is_dir():
        pytest.skip(f"public data folder not found: {root / 'bfcl_v2'}")
    cases = bfcl_cases(root / "bfcl_v2", category, CODEC)
    assert len(cases) == rows and len({c.id for c in cases}) == rows
    assert all(
        bool(c.answers) == (CATEGORIES[category][0] not in ("irrelevance", "relevance")) for c in cases
    )
    assert len(bfcl_cases(root / "bfcl_v2", category, CODEC, 7)) == 7
