"""BFCL's native files as cases: shapes by hand, and the published files where they are at hand."""

import json
import os
from pathlib import Path

import pytest

from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl import CATEGORIES, bfcl_cases, category, chosen, find_data
from xlam_jax.evaluation.harness import sample
from xlam_jax.format import get_codec

CODEC = get_codec()


def published():
    """The folder of the published files of version 2; skips, saying where it looked."""
    root = Path(os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (root / "bfcl_v2").is_dir():
        pytest.skip(f"public data folder not found: {root / 'bfcl_v2'}")
    return root / "bfcl_v2"


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
    with pytest.raises(InputError, match="no BFCL files in the folder"):
        bfcl_cases(tmp_path, "simple", CODEC)
    with pytest.raises(InputError, match="BFCL folder not found"):
        bfcl_cases(tmp_path / "none", "simple", CODEC)
    with pytest.raises(InputError, match="no possible answer") as e:
        bfcl_cases(folder(tmp_path, id="simple_9"), "simple", CODEC)
    assert e.value.where.endswith("BFCL_v2_simple.json:1")
    with pytest.raises(InputError, match="no file of BFCL category 'live_simple'"):
        bfcl_cases(tmp_path, "live_simple", CODEC)
    (tmp_path / "BFCL_v2_simple.json").write_text('{"id": "simple_0", "question": 3, "function": []}\n')
    with pytest.raises(InputError, match="not a BFCL question") as e:
        bfcl_cases(tmp_path, "simple", CODEC)
    assert e.value.where.endswith("BFCL_v2_simple.json:1")


@pytest.mark.parametrize(
    ("words", "version", "count"),
    [
        (["all"], "v2", 13),
        (["all"], "v4", 17),
        (["single_turn"], "v4", 13),
        (["python"], "v2", 11),
        (["non_python", "simple_python"], "v4", 3),
        (["live,non_live"], "v2", 13),
        (["multi_turn"], "v3", 4),
    ],
)
def test_categories_by_name_list_and_set(words, version, count):
    assert len(chosen(words, version)) == count


def test_categories_that_are_not_run_say_why():
    with pytest.raises(InputError, match="is not run: web services that are gone"):
        chosen(["simple,exec_simple"], "v2")
    with pytest.raises(InputError, match="v2 has no 'multi_turn_base'") as e:
        chosen(["multi_turn_base"], "v2")
    assert e.value.hint == "--version v3 or v4"
    assert category("simple_java") is category("java") and category("java").v4_name == "simple_java"


def test_the_version_of_a_folder(tmp_path):
    folder(tmp_path)
    assert find_data(tmp_path).version == "v2"
    (tmp_path / "BFCL_v4_simple_python.json").write_text("")
    assert (find_data(tmp_path).version, find_data(tmp_path, "v2").version) == ("v4", "v2")
    with pytest.raises(InputError, match="no files of BFCL v3") as e:
        find_data(tmp_path, "v3")
    assert e.value.hint == "--version v2 or v4"
    with pytest.raises(InputError, match="unknown BFCL version"):
        find_data(tmp_path, "5")
    inside = tmp_path / "unpacked" / "bfcl_eval" / "data"
    inside.mkdir(parents=True)
    (inside / "BFCL_v4_multiple.json").write_text("")
    assert find_data(tmp_path / "unpacked").folder == inside


def test_files_that_were_changed_are_of_an_unknown_commit(tmp_path):
    data = find_data(folder(tmp_path))
    hashes = data.hashes([category("simple")])
    assert set(hashes) == {"BFCL_v2_simple.json", "possible_answer/BFCL_v2_simple.json"}
    assert data.source(hashes).startswith("files of an unknown commit (BFCL_v2_simple.json, ")


def test_a_sample_is_drawn_by_its_seed_and_keeps_the_order():
    cases = list(range(100))
    few = sample(cases, 10, 3)
    assert few == sorted(few) == sample(cases, 10, 3) and len(set(few)) == 10
    assert few != sample(cases, 10, 4) and sample(cases, 100, 3) is cases and sample(cases, None, 3) is cases


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("simple", 400),
        ("parallel_multiple", 200),
        ("irrelevance", 240),
        ("live_relevance", 41),
        ("java", 100),
    ],
)
def test_published_files(name, rows):
    cases = bfcl_cases(published(), name, CODEC)
    assert len(cases) == rows and len({c.id for c in cases}) == rows
    assert all(bool(c.answers) == CATEGORIES[name].has_answers for c in cases)
    assert len(bfcl_cases(published(), name, CODEC, 7)) == 7


def test_the_commit_of_the_published_files_is_known():
    data = find_data(published())
    assert data.source(data.hashes(chosen(["all"], "v2"))) == "BFCL v2 of gorilla 3f5ace7 (2024-09-15)"


def test_java_parameters_are_shown_as_source_text_and_judged_as_published():
    case = bfcl_cases(published(), "java", CODEC)[1]
    shown, judged = (t[0].parameters["properties"]["useShortName"] for t in (case.tools, case.judged))
    assert shown["type"] == "string" and shown["description"].endswith("Java source text of type boolean.")
    assert judged["type"] == "boolean" and case.language == "java"
