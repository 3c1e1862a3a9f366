"""WebShop trajectories -> Records."""

import json

from tests.records.native_data import outcomes
from xlam_jax.format import ToolCall
from xlam_jax.format.record import Step
from xlam_jax.records.sources.webshop import TOOLS

START = (
    "WebShop\nInstruction:\nFind me a red cup, and price lower than 9.00 dollars\n[button] Search [button_]"
)


def of(tmp_path, *rows):
    (tmp_path / "il_trajs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return outcomes("webshop", tmp_path)


def test_demonstrations(tmp_path):
    row = {
        "states": [START, "results", "cup page"],
        "actions": ["search[red cup]", "click[B01[x]]", "click[Buy Now]"],
        "available_actions": [[], ["click[B01[x]]"], ["click[Buy Now]"]],
        "action_idxs": [-1, 0, 0],
        "images": [0, 0, 0],
    }
    (record,) = of(tmp_path, row)
    assert record.query == "Find me a red cup, and price lower than 9.00 dollars"
    assert (record.tools, record.license) == (TOOLS, "MIT")
    assert record.steps == (
        Step("", (ToolCall("search", {"keywords": "red cup"}),), "results"),
        Step("", (ToolCall("click", {"value": "B01[x]"}),), "cup page"),
        Step("", (ToolCall("click", {"value": "Buy Now"}),), ""),
    )


def test_traces_with_thoughts(tmp_path):
    row = {
        "id": 3,
        "goal": "A cup.",
        "actions": ["think[First I search.]", "search[cup]", "click[Buy Now]"],
        "observations": ["OK.", "results", "Your score: 1.0"],
        "thoughts": ["", "Now.", ""],
        "reward": 1.0,
    }
    (record,) = of(tmp_path, row)
    assert (record.id, record.query) == ("webshop-3", "A cup.")
    assert record.steps == (
        Step("First I search.\nNow.", (ToolCall("search", {"keywords": "cup"}),), "results"),
        Step("", (ToolCall("click", {"value": "Buy Now"}),), "Your score: 1.0"),
    )
    (again,) = of(tmp_path, {**row, "observations": ["start", *row["observations"]]})
    assert again.steps == record.steps


def test_choices_stand_for_actions(tmp_path):
    row = {"goal": "A cup.", "states": ["a", "b"], "available_actions": [["click[x]", "click[y]"]] * 2}
    record, refused = of(tmp_path, {**row, "action_idxs": [1, 0]}, {**row, "action_idxs": [-1, 0]})
    assert [c.arguments["value"] for s in record.steps for c in s.tool_calls] == ["y", "x"]
    assert refused == "bad_action"


def test_refusals(tmp_path):
    row = {"goal": "A cup.", "actions": ["search[cup]"], "states": ["a"]}
    rows = [
        {**row, "actions": []},
        {**row, "goal": " "},
        {**row, "actions": ["buy[cup]"]},
        {**row, "states": ["a", "b", "c", "d"]},
        {**row, "reward": 0.5},
        {**row, "goal": None},
    ]
    codes = ["no_actions", "no_goal", "bad_action", "uneven", "low_reward", "no_goal"]
    assert of(tmp_path, *rows) == codes


def page(name, reward=None, **content):
    url = f"http://shop/{name}/s/B1/%5B%27red%27%5D/1/Description/%7B%7D"
    return {
        "page": name,
        "url": url,
        "goal": {"instruction_text": "A red cup."},
        "content": content or None,
    } | ({"reward": reward} if reward is not None else {})


def test_logs_of_pages_are_trajectories(tmp_path):
    found = {"keywords": ["red", "cup"], "page": 1}
    log = [
        page("index"),
        page("index"),
        page("search_results", **found),
        page("search_results", **{**found, "page": 2}),
        page("item_page", asin="B1", options={}),
        page("item_sub_page", asin="B1", options={}),
        page("item_page", asin="B1", options={}),
        page("item_page", asin="B1", options={"color": "red"}),
        page("done", 1.0, asin="B1", options={"color": "red"}),
    ]
    low = [*log[:3], page("item_page", asin="B2", options={}), page("done", 0.5, asin="B2")]
    odd = [page("search_results", page="x"), page("search_results", page="y"), log[-1]]
    record, *refused = of(tmp_path, *log, *low, log[-1], *odd, *log[:3])
    assert [next(iter(c.arguments.values())) for s in record.steps for c in s.tool_calls] == [
        "red cup", "Next >", "B1", "Description", "< Prev", "red", "Buy Now",
    ]  # fmt: skip
    assert record.query == "A red cup." and record.steps[0].next_observation["keywords"] == ["red", "cup"]
    assert [r.split(":")[0] if isinstance(r, str) else r[0] for r in refused] == [
        "low_reward",
        "no_actions",
        "bad_action",
        "unfinished",
    ]
