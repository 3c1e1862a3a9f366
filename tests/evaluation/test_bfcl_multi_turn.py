"""Multi-turn rows behind the walls: published answers, the official checker's verdicts, and a model that plays."""

import copy
import json
import random
from collections import Counter

import pytest
from typer.testing import CliRunner

from tests.apigen.walled import require_walls
from tests.official_bfcl import counts_in, official, official_counts, official_data
from xlam_jax.cli import eval as eval_module
from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl import category, find_data
from xlam_jax.evaluation.bfcl.multi_turn import MOST_STEPS, gold_turns, judge_play, play_all, plays, walls
from xlam_jax.evaluation.bfcl.official import MODEL
from xlam_jax.evaluation.bfcl.play import parse_call
from xlam_jax.evaluation.harness import Raw
from xlam_jax.format import get_codec

CODEC = get_codec()
NAMES = ("base", "miss_func", "miss_param", "long_context")
EMPTY = CODEC.render_calls(())


def rows_of(name, count=None):
    official_data()
    return plays(find_data(None), category(f"multi_turn_{name}"))[:count]


@pytest.fixture
def sandbox():
    official_data()
    require_walls()
    with walls(False) as made:
        yield made


def scored(tmp_path, *args):
    args = ("bfcl", *args, "--json", tmp_path / "r.json")
    result = CliRunner().invoke(eval_module.app, list(map(str, args)))
    assert result.exception is None, result.output
    return json.loads((tmp_path / "r.json").read_text())["summary"]


SHARES = {"gold": 1.0, "empty": 0.0, "random": 0.0, "mutated": 0.5}


def check_scripts(tmp_path, names, *limit):
    official_data()
    require_walls()
    for name in names:
        share = SHARES[name]
        summary = scored(tmp_path, "--category", "multi_turn", "--model", f"scripted:{name}", *limit)
        found = summary["categories"]
        assert len(found) == 4
        for rule in ("bfcl", "strict"):
            assert {c: f[rule]["value"] for c, f in found.items()} == dict.fromkeys(found, share), name
        assert summary["bfcl"]["columns"]["multi_turn"]["value"] == share
        yield name, summary


def test_scripted_models_on_a_sample(tmp_path):
    errors = {name: summary["errors"] for name, summary in check_scripts(tmp_path, SHARES, "--limit", 2)}
    # A row whose first turn is due a call fails there; `mutated` leaves out the last turn of every second row.
    assert errors["gold"] == {} and errors["empty"] == {"empty_turn_model_response": 8}
    assert errors["mutated"] == {"empty_turn_model_response": 4}
    assert sum(errors["random"].values()) == 8 and "instance_state_mismatch" not in errors["gold"]


def test_the_official_runner_gives_our_files_our_scores(tmp_path):
    official_data()
    require_walls()
    out = tmp_path / "out"
    args = ("--category", "multi_turn", "--limit", 5, "--out", out, "--model")
    scored(tmp_path, *args, "scripted:mutated")
    names = [f"multi_turn_{name}" for name in NAMES]
    theirs = official_counts(out / "result", tmp_path / "theirs", MODEL, names, tmp_path)
    assert theirs == counts_in(out / "score") == {f"BFCL_v4_{name}_score.json": (3, 5) for name in names}
    result = CliRunner().invoke(
        eval_module.app, ["rescore", str(out / "result"), "--json", str(tmp_path / "again.json")]
    )
    assert result.exception is None, result.output
    again = json.loads((tmp_path / "again.json").read_text())["summary"]
    assert {name: found["bfcl"]["right"] for name, found in again["categories"].items()} == dict.fromkeys(
        names, 3
    )


@pytest.mark.slow
def test_published_answers_pass_in_all_800_rows(tmp_path):
    whole = dict(check_scripts(tmp_path, ("gold", "mutated")))
    assert whole["gold"]["n"] == 800 and whole["gold"]["bfcl"]["columns"]["multi_turn"]["n"] == 800


def mutated(rng, turns):
    """Turns with one to three small changes: a call dropped, repeated, moved, or with another argument."""
    turns = copy.deepcopy(turns)
    for _ in range(rng.randint(1, 3)):
        turn = rng.choice([t for t in turns if t] or [[[]]])
        if not turn or not turn[0]:
            continue
        calls, i = turn[0], rng.randrange(len(turn[0]))
        kind = rng.choice(["drop", "repeat", "shuffle", "value", "name", "later"])
        if kind == "drop":
            calls.pop(i)
        elif kind == "repeat":
            calls.append(calls[i])
        elif kind == "shuffle":
            rng.shuffle(calls)
        elif kind == "name":
            calls[i] = ["no_such_function", *calls[i][1:]]
        elif kind == "value" and calls[i][2]:
            key = rng.choice(sorted(calls[i][2]))
            calls[i][2][key] = rng.choice(["x", 7, True, [], None])
        elif kind == "later":
            turns[-1] = [*turns[-1], [calls[i]]]
    return [[calls for calls in turn if calls] for turn in turns]


def compared(sandbox, tmp_path, name, count, seed):
    """Our verdicts beside the official checker's on mutated answers; counts of (valid, error)."""
    checker = official("eval_checker.multi_turn_eval.multi_turn_checker", tmp_path)
    file = f"BFCL_v4_multi_turn_{name}.json"
    entries = {r["id"]: r for r in map(json.loads, (official_data() / file).read_text("utf-8").splitlines())}
    rng, seen = random.Random(seed), Counter()
    for number, play in enumerate(rows_of(name, count)):
        gold = [[[[c.name, [], c.arguments] for c in calls] for calls in turn] for turn in gold_turns(play)]
        turns = mutated(rng, gold)
        texts = [[CODEC.render_calls([call(c) for c in calls]) for calls in turn] for turn in turns]
        row = judge_play(play, Raw(json.dumps(texts), "stop", new_tokens=1), CODEC, sandbox)
        written = [[[python(c) for c in calls] for calls in turn] for turn in turns]
        theirs = checker.multi_turn_checker(
            written, play.gold, entries[play.case.id], name, f"m{seed}_{name}_{number}"
        )
        assert row.lenient == theirs["valid"], (play.case.id, turns, row.error, theirs)
        if not theirs["valid"]:
            assert theirs["error_type"] == f"multi_turn:{row.error}", play.case.id
        seen[row.lenient, row.error] += 1
    return seen


def call(made):
    from xlam_jax.format import ToolCall

    return ToolCall(made[0], made[2])


def python(made):
    return f"{made[0]}({','.join(f'{k}={v!r}' for k, v in made[2].items())})"


def test_mutated_answers_get_the_official_verdicts_on_a_sample(sandbox, tmp_path):
    seen = sum((compared(sandbox, tmp_path, name, 15, 1) for name in ("base", "miss_func")), Counter())
    assert {valid for valid, _ in seen} == {True, False} and len(seen) >= 3, seen


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_mutated_answers_get_the_official_verdicts(sandbox, tmp_path, name):
    seen = compared(sandbox, tmp_path, name, None, 2)
    assert sum(seen.values()) == 200 and len(seen) == 4, seen
    assert min(seen.values()) >= 3, seen


class Player:
    """Answers with the steps of a script, each row on its own, and keeps its prompts."""

    def __init__(self, scripts):
        self.scripts = {name: list(texts) for name, texts in scripts.items()}
        self.prompts = {name: [] for name in scripts}

    def __call__(self, cases):
        out = []
        for case in cases:
            self.prompts[case.id].append((case.prompt, {tool.name for tool in case.tools}))
            texts = self.scripts[case.id]
            text = texts.pop(0) if texts else EMPTY
            out.append(text if isinstance(text, Raw) else Raw(text, "stop", 7, 3, 0.5))
        return out


def steps_of(play):
    """Each call of the published answer as a step of its own, and the words that end each turn."""
    turns = gold_turns(play)
    return [t for turn in turns for t in (*(CODEC.render_calls([c]) for calls in turn for c in calls), EMPTY)]


def test_a_model_that_plays_sees_results_later_turns_and_new_functions(sandbox):
    rows = [rows_of("base", 1)[0], rows_of("miss_func", 1)[0]]
    player = Player({play.case.id: steps_of(play) for play in rows})
    raws = play_all(rows, player, CODEC, sandbox)
    for play, raw in zip(rows, raws, strict=True):
        row = judge_play(play, raw, CODEC, sandbox)
        assert row.lenient and row.strict, row.detail
        steps = steps_of(play)
        assert (raw.new_tokens, raw.prompt_tokens, raw.seconds) == (
            3 * len(steps),
            7 * len(steps),
            0.5 * len(steps),
        )
        prompts = player.prompts[play.case.id]
        assert len(prompts) == len(steps)
        assert all(text in prompts[-1][0] for text in play.said)
        assert play.said[1] not in prompts[0][0] and '"current_working_directory": "document"' in prompts[1][
            0
        ].replace("\\", "")
    base, held = rows
    assert all("sort" in tools for _, tools in player.prompts[base.case.id])
    offered = ["sort" in tools for _, tools in player.prompts[held.case.id]]
    assert offered == sorted(offered) and not offered[0] and offered[-1]
    assert held.said[3].startswith("There are more functions now") and held.gold[2] == []


def test_a_model_that_never_ends_its_turn_is_stopped(sandbox):
    (play,) = rows_of("base", 1)
    one = CODEC.render_calls([call(["pwd", [], {}])])
    (raw,) = play_all([play], Player({play.case.id: [one] * 99}), CODEC, sandbox)
    row = judge_play(play, raw, CODEC, sandbox)
    assert len(json.loads(raw.text)) == 1 and len(play.gold) == 4
    assert row.error == "force_terminated" and raw.new_tokens == 3 * (MOST_STEPS + 1)
    # In its last turn that costs nothing more: bfcl-eval judges what was done.
    (raw,) = play_all([play], Player({play.case.id: [*steps_of(play)[:-1], *[one] * 99]}), CODEC, sandbox)
    assert judge_play(play, raw, CODEC, sandbox).lenient and len(json.loads(raw.text)[-1]) == MOST_STEPS + 1


def test_a_conversation_that_outgrows_the_model_ends_there(sandbox):
    (play,) = rows_of("base", 1)
    script = [steps_of(play)[0], Raw("", "length", 9000)]
    (raw,) = play_all([play], Player({play.case.id: script}), CODEC, sandbox)
    row = judge_play(play, raw, CODEC, sandbox)
    assert (row.error, row.lenient, row.prompt_tokens) == ("force_terminated", False, 9007)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (Raw("", "length", 9000), "prompt_too_long"),
        (Raw(refused="HTTP 400", finish_reason="endpoint"), "endpoint"),
    ],
)
def test_a_row_whose_first_prompt_is_not_answered_is_not_run(sandbox, said, error):
    (play,) = rows_of("base", 1)
    (raw,) = play_all([play], Player({play.case.id: [said]}), CODEC, sandbox)
    row = judge_play(play, raw, CODEC, sandbox)
    assert (row.outcome, row.error, row.lenient, row.strict) == ("not_run", error, False, False)
    assert row.raw == said


def test_calls_where_none_is_due_pass_bfcl_and_not_the_strict_rule(sandbox):
    play = rows_of("miss_func", 1)[0]
    idle = play.gold.index([])
    texts = [[CODEC.render_calls(calls) for calls in turn] for turn in gold_turns(play)]
    texts[idle] = [CODEC.render_calls([call(["pwd", [], {}])])]
    row = judge_play(play, Raw(json.dumps(texts), "stop", new_tokens=1), CODEC, sandbox)
    assert (row.lenient, row.strict, row.strict_error) == (True, False, "unexpected_call")


def test_hostile_calls_are_contained(sandbox):
    play = rows_of("base", 1)[0]
    for name, arguments in [
        ("__import__", {"name": "os"}),
        ("_load_scenario", {"scenario": {}}),
        ("grep", {"file_name": "x" * 10**6, "pattern": {}}),
        ("cd", {"folder": {"a": [1] * 1000}}),
        ("eval", {"x": "1"}),
    ]:
        texts = [[CODEC.render_calls([call([name, [], arguments])])] for _ in play.gold]
        row = judge_play(play, Raw(json.dumps(texts), "stop", new_tokens=1), CODEC, sandbox)
        assert not row.lenient and row.error in ("execution_response_mismatch", "instance_state_mismatch"), (
            row
        )


@pytest.mark.parametrize("text", ["f", "f(x)", "a.b()", "f(1)(2)", "1 + 1", "f(", "f(open('x'))"])
def test_what_is_no_published_call(text):
    with pytest.raises(ValueError):
        parse_call(text)


def test_without_walls_nothing_is_run_unless_trusted(monkeypatch, tmp_path):
    official_data()
    from xlam_jax.apigen.walls import kinds

    kinds.bubblewrap.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kinds, "_bundled", lambda: "")
    try:
        args = ["bfcl", "--category", "multi_turn_base", "--limit", "1", "--model", "scripted:gold"]
        result = CliRunner().invoke(eval_module.app, args)
        assert isinstance(result.exception, InputError) and "not done without walls" in result.exception.what
        assert "--trust" in result.exception.hint
        assert scored(tmp_path, *args[1:], "--trust")["categories"]["multi_turn_base"]["bfcl"]["right"] == 1
    finally:
        kinds.bubblewrap.cache_clear()
