"""`xlam eval toolquery`: twins whose tasks are solved by their gold actions only, and agents with known scores."""

import json
import re

import pytest

from tests.cases import case
from tests.evaluation.agent_runs import scored
from xlam_jax.evaluation.agents.run import Benchmark
from xlam_jax.evaluation.agents.toolquery import NAMES, make_world, twin_tasks
from xlam_jax.evaluation.agents.toolquery.base import same
from xlam_jax.evaluation.agents.world import ERROR, Episode, Task
from xlam_jax.format import ToolCall, get_codec

TASKS = [task for name in NAMES for task in twin_tasks(name)]


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
        result, _ = scored(tmp_path / name, "toolquery", *args)
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
        result, rows = scored(tmp_path / str(len(ids)), "toolquery", *args, "--seed", seed, "--max-steps", 2)
        assert result["summary"]["errors"] == {"not_finished": 5} and result["summary"]["steps"] == 2.0
        ids.append([row["id"] for row in rows])
    assert ids[0] == ids[1] != ids[2]
    _, (row, *_) = scored(tmp_path / "empty", "toolquery", "--model", "scripted:empty", "--limit", 1)
    assert row["detail"].startswith(ERROR + "no action was taken") and row["outcome"] == "wrong"


def test_a_random_agent_gets_what_its_calls_are_worth(tmp_path):
    """Of calls with values out of the air only those without arguments, and the end, can be carried out."""
    result, rows = scored(tmp_path, "toolquery", "--model", "scripted:random", "--seed", 3)
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
