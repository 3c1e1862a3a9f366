"""`xlam eval toolquery`: twins whose tasks are solved by their gold actions only, and agents with known scores."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from tests.cases import case
from tests.records.chat_server import ChatServer
from tests.tiny_run import make_model, make_tokenizer
from xlam_jax.cli import eval as eval_module
from xlam_jax.errors import InputError
from xlam_jax.evaluation.agents.benchmarks import toolquery_twin
from xlam_jax.evaluation.agents.run import Agents, Benchmark
from xlam_jax.evaluation.agents.toolquery import NAMES, make_world, twin_tasks
from xlam_jax.evaluation.agents.toolquery.base import same
from xlam_jax.evaluation.agents.world import ERROR, Episode, Task
from xlam_jax.evaluation.harness import Raw
from xlam_jax.format import ToolCall, get_codec

TASKS = [task for name in NAMES for task in twin_tasks(name)]


def run(*args):
    return CliRunner().invoke(eval_module.app, ["toolquery", *map(str, args)])


def scored(tmp_path, *args):
    """(result, rows) of a run."""
    result = run(*args, "--out", tmp_path / "out", "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    lines = (tmp_path / "out" / "generations.jsonl").read_text().splitlines()
    return json.loads((tmp_path / "r.json").read_text()), list(map(json.loads, lines))


def score(task, calls):
    episode = Episode(make_world(task.world), task, 20)
    for call in calls:
        episode.step([call])
    return episode.score()


def test_the_twins_are_the_same_everywhere():
    assert [len(twin_tasks(name)) for name in NAMES] == [72, 72, 72]
    assert len({task.id for task in TASKS}) == 216
    assert all(any(t.level == level for t in twin_tasks(n)) for n in NAMES for level in ("easy", "hard"))
    for template in (TASKS[i : i + 6] for i in range(0, 216, 6)):
        assert len({repr(task.subgoals[-1]) for task in template}) > 1, template[0].goal
    prints = {name: Benchmark("", twin_tasks(name), make_world).fingerprint for name in NAMES}
    assert prints == {
        "weather": "b540376a3496b640",
        "movie": "fb9c14fbf09ae7fe",
        "academia": "19621403bc318aa3",
    }


def test_every_task_is_solved_by_its_gold_actions_and_by_nothing_less():
    for task in TASKS:
        with case(task.id):
            found = score(task, task.gold)
            assert found.success and found.progress == 1.0 and found.metrics["grounding"] == 1.0
            assert not score(task, ()).success
            for left_out in range(len(task.gold)):
                rest = [call for i, call in enumerate(task.gold) if i != left_out]
                assert not score(task, rest).success, task.gold[left_out]


@pytest.mark.parametrize("prompt", ["unified", "react"])
def test_scripted_agents_get_the_scores_worked_out_by_hand(tmp_path, prompt):
    # In every second task the answer, one of n sub-goals, is not given.
    shares = [(n - i % 2) / n for i, n in enumerate(len(task.subgoals) for task in TASKS)]
    expected = {
        "gold": (216, 1.0, 1.0, {}),
        "empty": (0, 0.0, 0.0, {"not_finished": 216}),
        "lazy": (0, 0.0, 1.0, {"wrong_answer": 216}),
        "mutated": (108, sum(shares) / 216, 1.0, {"not_finished": 108}),
    }
    for name, (right, progress, grounding, errors) in expected.items():
        args = ("--model", f"scripted:{name}", "--prompt", prompt)
        result, _ = scored(tmp_path / name, *args)
        summary = result["summary"]
        assert summary["success"]["right"] == right and summary["n"] == 216, name
        assert summary["progress"]["value"] == pytest.approx(progress), name
        assert summary["grounding"]["value"] == grounding, name
        assert summary["errors"] == errors, name
        assert sum(summary[level]["n"] for level in ("easy", "hard")) == 216
        assert sum(summary[level]["success"]["right"] for level in ("easy", "hard")) == right


def test_a_budget_ends_a_task_and_a_seed_draws_the_sample(tmp_path):
    args = ("--model", "scripted:gold", "--world", "movie", "--limit", 5)
    ids = []
    for seed in (0, 0, 1):
        result, rows = scored(tmp_path / str(len(ids)), *args, "--seed", seed, "--max-steps", 2)
        assert result["summary"]["errors"] == {"not_finished": 5} and result["summary"]["steps"] == 2.0
        ids.append([row["id"] for row in rows])
    assert ids[0] == ids[1] != ids[2]
    _, (row, *_) = scored(tmp_path / "empty", "--model", "scripted:empty", "--limit", 1)
    assert row["detail"].startswith(ERROR + "no action was taken") and row["outcome"] == "wrong"


def test_a_random_agent_gets_what_its_calls_are_worth(tmp_path):
    """Of calls with values out of the air only those without arguments, and the end, can be carried out."""
    result, rows = scored(tmp_path, "--model", "scripted:random", "--seed", 3)
    by_id = {task.id: task for task in TASKS}
    grounding, progress = [], []
    for row in rows:
        names, facts = [], []
        for text in json.loads(row["text"]):
            for call in get_codec().parse(text).tool_calls:
                if "finish" not in names:
                    names.append(call.name)
                    if call.name.startswith("get_user_"):
                        facts.append(by_id[row["id"]].setting[call.name.removeprefix("get_user_")])
        free = [n for n in names if n.startswith(("load", "get_user_", "check_valid_actions", "finish"))]
        grounding.append(len(free) / len(names))
        subgoals = by_id[row["id"]].subgoals
        progress.append(sum(goal in facts for goal in subgoals[:-1]) / len(subgoals))
    summary = result["summary"]
    assert summary["success"]["right"] == 0
    assert summary["grounding"]["value"] == pytest.approx(sum(grounding) / 216)
    assert summary["progress"]["value"] == pytest.approx(sum(progress) / 216)
    assert 0 < summary["progress"]["value"] < 0.1 < summary["grounding"]["value"] < 0.6


def test_answers_follow_from_the_tables():
    """Gold answers, worked out again from the tables without the functions."""

    def one(world, query, *values):
        return make_world(world).rows(query, *values)[0][0]

    def elevation(goal, task):
        places = re.search(r"Which of (.+) and (.+) lies", goal).groups()
        return max(places, key=lambda p: one("weather", "SELECT elevation FROM place WHERE name = ?", p))

    def rainy(goal, task):
        count, place = re.search(r"last (\d+) days.*rain in (.+)\?", goal).groups()
        query = (
            "SELECT sum(rain > 0) FROM day JOIN place ON place.id = place WHERE name = ? "
            "AND date < ?2 AND date >= date(?2, ?3)"
        )
        return one("weather", query, place, task.setting["current_date"], f"-{count} days")

    def profit(goal, task):
        title = re.search(r"revenue of (.+) exceed", goal)[1]
        return one("movie", "SELECT revenue - budget FROM film WHERE title = ?", title)

    def edited(goal, task):
        name, verb = re.search(r"films did (\S+ \S+) (\w+)", goal).groups()
        job = {"direct": "Director", "write": "Screenplay", "edit": "Editor", "compose": "Composer"}[verb]
        query = "SELECT count(*) FROM crew JOIN person ON id = person WHERE name = ? AND job = ?"
        return one("movie", query, name, job)

    def mutual(goal, task):
        names = re.search(r"with (\S+ \S+) and with (\S+ \S+)\?", goal).groups()
        query = "SELECT author FROM wrote WHERE paper IN (SELECT paper FROM wrote WHERE author = ?)"
        both = [{a for (a,) in make_world("academia").rows(query, name)} - {name} for name in names]
        return len(both[0] & both[1])

    def linked(goal, task):
        title = re.search(r"papers is '(.+)' linked", goal)[1]
        query = "SELECT count(*) FROM cites WHERE paper = ?1 OR cited = ?1"
        return one("academia", query, title)

    kinds = {
        "lies higher": elevation, "did it rain": rainy, "exceed its budget": profit, "How many films did": edited,
        "written papers both": mutual, "linked by a citation": linked,
    }  # fmt: skip
    for words, answer in kinds.items():
        found = [task for task in TASKS if words in task.goal]
        assert len(found) == 6, words
        for task in found:
            assert answer(task.goal, task) == task.subgoals[-1], task.goal


def test_an_episode_is_counted_as_agentboard_counts_it():
    setting = {"current_date": "2025-06-10", "current_location": "Larkfield"}
    place = {"name": "Larkfield", "latitude": -8.0, "longitude": 0.0}
    world = make_world("weather")
    known = world.rows("SELECT latitude, longitude FROM place WHERE name = 'Larkfield'")[0]
    place |= dict(zip(("latitude", "longitude"), known, strict=True))
    near = {"latitude": round(known[0] + 0.3, 2), "longitude": known[1]}  # 33 km off
    (height,) = world.rows("SELECT elevation FROM place WHERE name = 'Larkfield'")[0]
    subgoals = (place, {**{k: place[k] for k in near}, "elevation_m": height}, height)
    task = Task("t", "weather", "How high?", subgoals, (), setting)
    episode = Episode(world, task, 5)

    assert episode.step([])[0].startswith(ERROR)  # words alone
    assert episode.score().progress == 0.0
    seen = episode.step([ToolCall("get_latitude_longitude", {"name": "Larkfield"}), ToolCall("fly", {})])
    assert json.loads(seen[0]) == place and seen[1].startswith(ERROR + "there is no function 'fly'")
    assert episode.score().progress == pytest.approx(1 / 3)
    (seen,) = episode.step([ToolCall("get_elevation", near)])
    assert json.loads(seen)["elevation_m"] == height and json.loads(seen)["latitude"] == near["latitude"]
    assert episode.score().progress == pytest.approx(2 / 3)
    done = ToolCall("finish", {"answer": height})
    assert len(episode.step([done, ToolCall("get_elevation", near)])) == 1  # nothing after the end
    found = episode.score()
    assert found.success and found.metrics == {"grounding": 3 / 5, "steps": 4.0} and episode.over

    episode = Episode(world, task, 5)
    episode.step([ToolCall("get_latitude_longitude", {"name": "Larkfield"})])
    episode.step([done])
    assert (episode.score().error, episode.score().progress) == ("missed_subgoals", pytest.approx(2 / 3))

    # The same result twice is two sub-goals, and an answer counts where it is given to finish.
    twice = Task("t", "weather", "When?", ("2025-06-10", "2025-06-10", "2025-06-10"), (), setting)
    today, wrong = ToolCall("get_user_current_date", {}), ToolCall("finish", {"answer": "tomorrow"})
    assert score(twice, [today]).progress == pytest.approx(1 / 3)
    assert score(twice, [today] * 3).progress == pytest.approx(2 / 3)
    found = score(twice, [today, today, wrong])
    assert (found.error, found.progress) == ("wrong_answer", pytest.approx(2 / 3))
    assert score(twice, [today, today, ToolCall("finish", {"answer": "2025-06-10"})]).success
    for wanted, given, right in (
        (["a", "b"], ["b", "a"], True), (["a", "b"], ["a"], False), (5, 5.0, True), (5, "5", False), (1, True, False),
        ("Yes", "yes", False), (None, "", False),
    ):  # fmt: skip
        answer = Task("t", "weather", "?", (wanted,), (), setting)
        assert score(answer, [ToolCall("finish", {"answer": given})]).success is right, (wanted, given)
    far = {**place, "latitude": known[0] + 0.6}  # 67 km off
    assert same(place, {**place, **near}) and not same(place, far)
    assert "no place is known there" in world.call("get_elevation", {k: far[k] for k in near})


def test_what_cannot_be_carried_out_says_why():
    world = make_world("weather")
    world.reset(Task("t", "weather", "", (1,), (), {"current_date": "2025-06-10", "current_location": ""}))
    at = {"latitude": 5.0, "longitude": 5.0}
    days = {"start_date": "2025-06-10", "end_date": "2025-06-12"}
    wrong = {
        ("get_elevation", "takes latitude, longitude"): {"latitude": 1},
        ("get_user_current_date", "takes no arguments"): {"x": 1},
        ("get_elevation", "must be a number"): {"latitude": "1", "longitude": True},
        ("get_elevation", "from -90 to 90"): {"latitude": 91, "longitude": 0},
        ("get_latitude_longitude", "no place is called 'Oslo'"): {"name": "Oslo"},
        ("get_temp_forecast", "after 2025-06-10"): {**at, **days},
        ("get_historical_temp", "before today"): {**at, "start_date": "2025-06-01", "end_date": "2025-06-10"},
        ("get_current_temp", "not today"): {**at, "current_date": "2025-06-11"},
        ("convert_zipcode_to_address", "no place has"): {"zipcode": "1"},
        ("get_air_quality_level", "0 to 500"): {"air_quality_index": 501},
    }
    for (name, words), arguments in wrong.items():
        seen = world.call(name, arguments)
        assert seen.startswith(ERROR) and words in seen, seen
    academia = make_world("academia")
    academia.reset(Task("t", "academia", "", (1,), ()))
    assert "call loadPaperNet first" in academia.call("paperNodeCheck", {"node": "x"})
    movie = make_world("movie")
    movie.reset(Task("t", "movie", "", (1,), ()))
    assert "is no id" in movie.call("get_movie_cast", {"movie_id": "The Last Letter"})
    found = json.loads(movie.call("get_search_movie", {"movie_name": "the last letter"}))
    by_text = movie.call("get_movie_cast", {"movie_id": str(found["id"])})
    assert by_text == movie.call("get_movie_cast", {"movie_id": found["id"]}) and "Role" in by_text


def message(*calls):
    made = [
        {
            "id": f"c{i}",
            "type": "function",
            "function": {"name": c.name, "arguments": json.dumps(c.arguments)},
        }
        for i, c in enumerate(calls)
    ]
    return {"content": None, "tool_calls": made}


def gold_server(delay=0.0, faults=()):
    """An endpoint that does the gold actions; for tasks of movies it answers in words."""
    gold = {task.goal: task for task in TASKS if task.world != "weather"}

    def answer(text):
        messages = server.requests[-1]["messages"]
        task = next(gold[m["content"]] for m in messages if m["role"] == "user" and m["content"] in gold)
        if task.world == "movie":
            return {"content": "I do not know."}
        return message(task.gold[sum(m["role"] == "assistant" for m in messages)])

    server = ChatServer(answer, faults=faults, delay=delay)
    return server


def test_an_endpoint_plays_step_by_step(tmp_path):
    args = ("--world", "academia,movie", "--limit", 2, "--concurrency", 1, "--max-steps", 6)
    with gold_server() as server:
        result, rows = scored(tmp_path, *args, "--model", f"{server.url}#served")
        asked = len(server.requests)
        first = server.requests[0]
    worlds = result["summary"]["worlds"]
    assert worlds["academia"]["success"]["right"] == 2 and worlds["academia"]["grounding"]["value"] == 1.0
    assert worlds["movie"]["success"]["right"] == 0 and worlds["movie"]["steps"] == 6
    gold = [task for task in TASKS if task.id in {r["id"] for r in rows if r["style"] == "academia"}]
    assert asked == sum(len(t.gold) for t in gold) + 2 * 6
    assert first["tools"][0]["function"]["name"] == "loadPaperNet"
    assert first["messages"][0]["role"] == "system" and "End with finish" in first["messages"][0]["content"]


def test_a_killed_run_goes_on_to_the_same_table(tmp_path):
    args = ("--world", "academia", "--limit", 8, "--concurrency", 1)
    with gold_server() as server:
        whole, _ = scored(tmp_path / "whole", *args, "--model", f"{server.url}#m")
    with gold_server(delay=0.1) as server:
        out = tmp_path / "killed" / "out"
        command = [
            sys.executable,
            "-m",
            "xlam_jax.cli.main",
            "eval",
            "toolquery",
            "--model",
            f"{server.url}#m",
        ]
        child = subprocess.Popen([*command, *map(str, args), "--out", str(out)], stderr=subprocess.DEVNULL)
        kept, end = out / "generations.jsonl", time.monotonic() + 120
        while not (kept.is_file() and kept.read_text().count("\n")) and time.monotonic() < end:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        before = kept.read_text().count("\n")
        assert 0 < before < 8
        refused = run(*args, "--model", f"{server.url}#m", "--out", out)
        assert isinstance(refused.exception, InputError) and "--resume" in str(refused.exception)
        other = run(*args, "--model", f"{server.url}#m", "--out", out, "--resume", "--max-steps", 3)
        assert isinstance(other.exception, InputError) and "max_steps" in str(other.exception)
        again, rows = scored(tmp_path / "killed", *args, "--model", f"{server.url}#m", "--resume")
    assert again["summary"] == whole["summary"] and len(rows) == 8


def test_kept_answers_are_judged_again(tmp_path):
    args = ("--world", "movie", "--limit", 5, "--model", "scripted:mutated", "--prompt", "react")
    result, _ = scored(tmp_path, *args)
    (tmp_path / "out" / "summary.json").unlink()
    rescore = ["rescore", str(tmp_path / "out"), "--json", str(tmp_path / "again.json")]
    again = CliRunner().invoke(eval_module.app, rescore)
    assert again.exception is None and "twin of ToolQuery, scripted:mutated; 5 tasks" in again.output
    assert json.loads((tmp_path / "again.json").read_text())["summary"] == result["summary"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == result["summary"]
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    (tmp_path / "out" / "run.json").write_text(json.dumps({**about, "tasks": "0123"}))
    other = CliRunner().invoke(eval_module.app, rescore).exception
    assert isinstance(other, InputError) and "the answers are to tasks 0123" in str(other)


def test_an_answer_that_cannot_be_read_is_told_apart_from_one_without_calls():
    task = twin_tasks("movie")[0]
    agents = Agents(toolquery_twin(["movie"], "unified"), [task], get_codec(), 5)
    for text, words in (
        ('{"tool_calls": [{"name": "finish", "argu', "the answer could not be read: "),
        ('{"tool_calls": []}', "no action was taken"),
    ):
        row = agents.judge(agents.cases[0], Raw(json.dumps([text]), "length", new_tokens=9))
        assert row.detail.startswith(ERROR + words) and row.metrics["steps"] == 1.0
        assert (row.error, row.metrics["grounding"], row.finish_reason) == ("not_finished", 0.0, "length")
    assert (
        agents.judge(agents.cases[0], Raw(refused="HTTP 400", finish_reason="endpoint")).outcome == "not_run"
    )


@pytest.mark.slow  # compiles a model for long prompts
def test_a_model_folder_plays_under_the_grammar_and_free(tmp_path):
    """A random model gets nowhere, but its answers are kept, its prompts grow, and one too long is told apart."""
    model = make_model(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"))
    args = ("--world", "academia", "--limit", 1, "--max-steps", 2, "--max-new-tokens", 8, "--model", model)
    result, (row,) = scored(tmp_path / "free", *args, "--max-len", 8192)
    assert len(json.loads(row["text"])) == 2 and row["metrics"]["steps"] == 2.0
    assert result["summary"]["errors"] == {"not_finished": 1} and row["prompt_tokens"] > 2000
    react, _ = scored(tmp_path / "react", *args, "--max-len", 8192, "--prompt", "react")
    assert react["codec"] == {**result["codec"], "call_format": "react", "thought": True}
    assert (react["dataset"], result["dataset"]) == ("twin of ToolQuery", "twin of ToolQuery-Unified")
    assert row["detail"].startswith(ERROR + "the answer could not be read: ")
    result, (row,) = scored(tmp_path / "short", *args, "--max-len", 64)
    assert result["summary"]["not_run"] == {"prompt_too_long": 1} and row["metrics"] == {}
    held = (*args, "--max-len", 8192, "--constrained", "--max-new-tokens", 60)
    result, (row,) = scored(tmp_path / "held", *held)
    assert all(text.startswith('{"tool_calls": [') for text in json.loads(row["text"]))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--model", "scripted:golden"), "try: gold"),
        (("--model", "scripted:gold", "--world", "wether"), "try: weather"),
        (("--model", "scripted:gold", "--prompt", "raw"), "unknown prompt 'raw'"),
        (("--model", "scripted:gold", "--resume"), "--resume --out DIR"),
        (("--model", "scripted:gold", "--constrained"), "takes no adapter and no grammar"),
        (("--model", "http://localhost:1/v1#m", "--prompt", "react"), "leave --prompt out"),
        (("--model", "no/such/folder"), "model folder not found"),
    ],
)
def test_bad_input_is_one_clear_error(args, words):
    error = run(*args).exception
    assert isinstance(error, InputError) and error.exit_code == 2
    assert words in re.sub(r"\s+", " ", str(error))


def test_worlds_start_without_jax():
    code = (
        "import sys; from typer.testing import CliRunner; from xlam_jax.cli import eval as e; "
        "r = CliRunner().invoke(e.app, ['toolquery', '--model', 'scripted:gold', '--limit', '1']); "
        "assert r.exception is None, r.output; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
