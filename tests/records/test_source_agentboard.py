"""AgentBoard logs -> Records."""

import json

from tests.records.native_data import outcomes
from xlam_jax.format import ToolCall
from xlam_jax.format.record import Step
from xlam_jax.records.quality.schema_check import check_call
from xlam_jax.records.sources.agentboard_tools import TOOLS


def turn(action, observation="ok"):
    return {"Action": action, "Observation": observation, "Progress Rate": 0.5}


def run(*turns, **more):
    return {
        "id": 4,
        "task_name": "weather",
        "goal": "How cold is it?",
        "difficulty": "easy",
        "is_done": True,
        "progress_rate": 1.0,
        "trajectory": {f"Interaction Turn {i}": t for i, t in enumerate(turns)},
        **more,
    }


DATE = turn("Action: get_user_current_date with Action Input: {}", "2023-01-01")
TEMP = turn(
    "Think: Now the temperature.\nAction: get_current_temp with Action Input: "
    "{'latitude': 1.5, 'longitude': -2, 'current_date': \"2023-01-01\"}",
    "{'temp': 3}",
)
FINISH = turn('Action: finish with Action Input: {"answer": 3}', "3")


def of(tmp_path, *rows, indent=2):
    (tmp_path / "tool-query.jsonl").write_text("\n".join(json.dumps(row, indent=indent) for row in rows))
    return outcomes("agentboard", tmp_path)


def test_indented_logs(tmp_path):
    # Ten and more turns: their order is that of numbers.
    first, second = of(tmp_path, run(*[DATE] * 10, TEMP, FINISH), run(DATE, FINISH, id=5))
    assert (first.id, first.query, first.license) == (
        "agentboard-weather-4",
        "How cold is it?",
        "GPL-2.0-only",
    )
    assert first.tools == TOOLS["weather"]
    assert first.steps[0] == Step("", (ToolCall("get_user_current_date", {}),), "2023-01-01")
    arguments = {"latitude": 1.5, "longitude": -2, "current_date": "2023-01-01"}
    assert first.steps[10:] == (
        Step("Now the temperature.", (ToolCall("get_current_temp", arguments),), "{'temp': 3}"),
        Step("", (ToolCall("finish", {"answer": 3}),), "3"),
    )
    assert len(second.steps) == 2
    offered = {tool.name: tool for tool in first.tools}
    assert not any(check_call(call, offered) for step in first.steps for call in step.tool_calls)


def test_trajectories_as_lists_and_tools_of_their_own(tmp_path):
    parts = [
        {"Goal": "How cold is it?", "id": 0},
        {"Observation": "Once you have finished ...", "id": 0},
        {"Action": DATE["Action"], "id": 0},
        {"Observation": "2023-01-01", "id": 0},
        {"Action": FINISH["Action"], "id": 1},
        {"Observation": "3", "id": 1},
    ]
    tools = [
        {"name": "get_user_current_date", "parameters": {}},
        {"name": "finish", "parameters": {"answer": {}}},
    ]
    plain, own = of(
        tmp_path, run(trajectory=parts), run(trajectory=parts, tools=tools, task_name="x"), indent=None
    )
    assert [step.next_observation for step in plain.steps] == ["2023-01-01", "3"]
    assert plain.steps == own.steps and [tool.name for tool in own.tools] == [
        "get_user_current_date",
        "finish",
    ]


def test_refusals(tmp_path):
    rows = [
        run(DATE, is_done=False),
        run(DATE, goal=""),
        run(),
        run(DATE, task_name="babyai"),
        run(turn("I do not know.")),
        run(turn("Action: finish with Action Input: {answer}")),
        run(turn("Action: finish with Action Input: {1: 2}")),
    ]
    (tmp_path / "z.jsonl").write_text('{"id": 1}\n{"id": ')
    codes = ["not_solved", "no_goal", "no_actions", "unknown_task", "bad_action", "bad_action", "bad_literal"]
    assert of(tmp_path, *rows) == [*codes, "no_goal", "bad_json"]


def test_the_environments_offer_what_they_are_known_to():
    assert {task: len(tools) for task, tools in TOOLS.items()} == {"weather": 20, "movie": 16, "academia": 9}
    for tools in TOOLS.values():
        assert {"finish", "check_valid_actions"} < {tool.name for tool in tools}
