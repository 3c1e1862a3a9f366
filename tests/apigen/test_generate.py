"""Rows: reproducible, split by function, grounded in the query, of the style they claim."""

from random import Random

import pytest

from xlam_jax.apigen import wording
from xlam_jax.apigen.functions.declare import Template
from xlam_jax.apigen.generate import STYLES, GenerateConfig, Generator, MixConfig, mask_names, unrelated
from xlam_jax.apigen.library import load_library
from xlam_jax.apigen.verify import check_format, check_grounding, queries_of
from xlam_jax.config import make_config
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Tool, ToolCall, get_codec
from xlam_jax.scoring.bfcl import answers_of, score

LIBRARY = load_library()
BY_NAME = {api.name: api for api in LIBRARY}
CLEAN = GenerateConfig(edge_cases=0.0)


def rows(split="train", n=300, seed=0, **keys):
    generator = Generator(LIBRARY, make_config(GenerateConfig, {"edge_cases": 0.0, **keys}), split, seed)
    return [generator.row(i) for i in range(n)]


def only(style):
    return {name: float(name == style) for name in STYLES}


def test_row_depends_on_seed_split_and_index_alone():
    generator = Generator(LIBRARY, CLEAN, "train", seed=3)
    assert generator.row(17) == Generator(LIBRARY, CLEAN, "train", seed=3).row(17)
    assert [generator.row(i) for i in (5, 2, 5)] == [rows(seed=3, n=6)[i] for i in (5, 2, 5)]
    assert generator.row(17) != Generator(LIBRARY, CLEAN, "train", seed=4).row(17)


def test_no_heldout_function_in_any_training_row_and_the_other_way_round():
    for split in ("train", "dev", "heldout"):
        for record in rows(split, 400, turns=[1, 3]):
            assert {BY_NAME[tool.name].split for tool in record.tools} == {split}
            for step in record.steps:
                assert {call.name for call in step.tool_calls} <= {tool.name for tool in record.tools}


def test_every_function_gets_its_turn():
    called = {c.name for record in rows(n=2 * 190) for step in record.steps for c in step.tool_calls}
    trained = {api.name for api in LIBRARY if api.split == "train"}
    assert len(trained - called) < 0.1 * len(trained)


@pytest.mark.parametrize("style", STYLES)
def test_styles_are_what_they_say(style):
    for record in rows(n=150, mix=only(style)):
        calls = record.steps[0].tool_calls
        names = {call.name for call in calls}
        assert f"style:{style}" in record.lineage
        expected = {
            "simple": len(calls) == 1 and len(record.tools) == 1,
            "multiple": len(calls) == 1 and 2 <= len(record.tools) <= 4,
            "parallel": len(calls) >= 2 and len(names) == 1,
            "parallel_multiple": len(calls) >= 2 and len(names) == len(calls),
            "irrelevance": not calls,
        }
        assert expected[style], record
        assert len({(c.name, str(c.arguments)) for c in calls}) == len(calls)


def test_clean_rows_pass_the_format_check_grounding_included():
    for split in ("train", "heldout"):
        for record in rows(split, 400, turns=[1, 3], typos=0.5, wrappers=0.5):
            assert check_format(record) is None, (check_format(record), record)


def test_offered_tools_never_answer_each_others_queries():
    for record in rows(n=400):
        groups = [BY_NAME[tool.name].alike for tool in record.tools if BY_NAME[tool.name].alike]
        assert len(groups) == len(set(groups))


def test_irrelevant_queries_come_from_unrelated_domains():
    assert (
        unrelated("colors", "finance")
        and not unrelated("stats", "finance")
        and not unrelated("dates", "dates")
    )


def test_turns_share_one_tool_list_and_chain_through_user_input():
    records = rows(n=200, turns=[2, 4])
    assert {len(r.steps) for r in records} == {2, 3, 4}
    for record in records:
        assert all(step.user_input for step in record.steps[:-1]) and not record.steps[-1].user_input
        assert len(queries_of(record)) == len(record.steps)
    assert all(len(r.steps) == 1 for r in rows("heldout", 50, turns=[2, 4]))


def test_records_survive_json_and_render_with_the_codec():
    codec = get_codec()
    for record in rows(n=60, turns=[1, 3]):
        assert Record.from_json(record.to_json()) == record
        rendered = codec.render(record)
        spans = [s for s in rendered.spans if s.kind == "assistant"]
        assert len(spans) == len(record.steps)
        for step, span in zip(record.steps, spans, strict=True):
            assert codec.parse(rendered.text[span.start : span.end]).tool_calls == step.tool_calls


def test_gold_calls_are_right_by_the_scoring_rules_and_spoiled_ones_wrong():
    for record in rows("heldout", 300):
        style = next(part[6:] for part in record.lineage if part.startswith("style:"))
        calls = record.steps[0].tool_calls
        answers = answers_of(record.tools, calls)
        assert score(record.tools, calls, answers, category=style).valid, record
        if calls:
            assert not score(record.tools, calls[1:], answers, category=style).valid


def test_lookalike_raises_the_share_of_distractors_of_the_same_domain():
    def share(p):
        same = [
            BY_NAME[r.steps[0].tool_calls[0].name].category == BY_NAME[tool.name].category
            for r in rows(n=300, mix=only("multiple"), lookalike=p)
            for tool in r.tools
            if tool.name != r.steps[0].tool_calls[0].name
        ]
        return sum(same) / len(same)

    assert share(1.0) > 0.9 > 0.6 > share(0.5) > 0.4 > 0.3 > share(0.0)


def test_masking_is_consistent():
    for i, record in enumerate(rows(n=80, turns=[1, 3])):
        masked = mask_names(record, Random(i))
        known = {old.name for old in record.tools}
        assert not known & {tool.name for tool in masked.tools}
        assert len({tool.name for tool in masked.tools}) == len(record.tools)
        assert check_format(masked) is None
        for old, new in zip(record.steps, masked.steps, strict=True):
            assert [list(c.arguments.values()) for c in old.tool_calls] == [
                list(c.arguments.values()) for c in new.tool_calls
            ]
        assert "rename:mask" in masked.lineage


@pytest.mark.parametrize(
    "values",
    [
        {"turns": [3, 2]},
        {"turns": [0, 2]},
        {"mix": dict.fromkeys(STYLES, 0.0)},
        {"typos": 2},
        {"mix": {"smple": 1}},
    ],
)
def test_bad_config_is_refused(values):
    with pytest.raises(InputError):
        make_config(GenerateConfig, values)


def test_mix_is_kept():
    records = rows(
        n=600, mix={"simple": 1.0, "multiple": 0, "parallel": 0, "parallel_multiple": 0, "irrelevance": 3.0}
    )
    share = sum("style:irrelevance" in r.lineage for r in records) / 600
    assert abs(share - 0.75) < 0.07
    assert MixConfig().weights() == [0.3, 0.3, 0.15, 0.15, 0.1]


def test_values_are_written_in_several_ways_and_always_found_again():
    values = [
        7,
        12,
        45000,
        0.25,
        1234567.5,
        -8,
        "10.0.0.1",
        "2021-03-05",
        "two words",
        [3, 5, 8],
        ["a b", "c"],
        [[1.5, 2]],
    ]
    for value in values:
        texts = {wording.write_value(value, Random(i), alone=True) for i in range(60)}
        for text in texts:
            call = ToolCall("f", {"v": value})
            assert (
                check_grounding(call, Tool("f", "", {"properties": {"v": {}}}), f"About {text} then.") is None
            ), text
        if not isinstance(value, float) and value not in (-8, [[1.5, 2]]):
            assert len(texts) > 1, value
    assert {wording.write_value("2021-03-05", Random(i)) for i in range(60)} >= {
        "March 5, 2021",
        "5 March 2021",
    }


def test_two_lists_in_one_sentence_keep_their_brackets():
    template = Template("Compare {a} and {b}.")
    for i in range(40):
        text = wording.fill(template, {"a": [1, 2], "b": [3, 4]}, Random(i))
        assert text == "Compare [1, 2] and [3, 4]."


def test_typos_never_touch_a_value():
    template = Template("Somebody asked whether {word} resembles another expression.")
    texts = {wording.fill(template, {"word": "parallel"}, Random(i), typos=1.0) for i in range(50)}
    assert len(texts) > 5 and all("parallel" in text for text in texts)
