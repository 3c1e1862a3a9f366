"""Files of WebShop, AgentBoard and AgentGym, where a user has them; the shop here is ours in WebShop's spelling."""

import json
import re

import pytest

from tests.evaluation.agent_runs import run
from tests.records import native_data
from xlam_jax.errors import InputError
from xlam_jax.evaluation.agents.webshop.files import read_shop

MUG = {
    "asin": "B00000MUG1",
    "name": "Tarnbrook Stoneware Mug",
    "query": " Coffee Mugs ",
    "category": "home",
    "product_category": "Home › Kitchen › Mugs",
    "small_description": ["Dishwasher safe", "Holds heat"],
    "full_description": "A mug for every morning.",
    "pricing": "$12.50",
    "customization_options": {
        "Color": [{"value": " Blue/White ", "image": None}, {"value": "Red", "image": None}],
        "Size": None,
    },
    "images": ["x"],
}
BOWL = {
    **MUG,
    "asin": "B0000BOWL1",
    "name": "Quenby Soup Bowl",
    "query": "bowls",
    "product_category": "Home › Kitchen › Bowls",
    "small_description": "Oven safe",
    "pricing": "$10.00 to $20.00",
    "customization_options": "",
}
ROWS = [MUG, BOWL, {**MUG, "name": "twice"}, {**MUG, "asin": "TOO-LONG-ASIN"}, {**MUG, "asin": "nan"}]
TOLD = {
    MUG["asin"]: {
        "attributes": ["dishwasher safe", "stoneware"],
        "instruction": "Find me a stoneware mug",
        "instruction_attributes": ["stoneware"],
    },
    BOWL["asin"]: {"attributes": []},
}
PEOPLE = {
    MUG["asin"]: [
        {
            "instruction": "i want a mug for the dishwasher.",
            "instruction_attributes": ["dishwasher safe"],
            "instruction_options": ["blue | white"],
        },
        {"instruction": "a mug", "instruction_attributes": [], "instruction_options": []},
    ],
    BOWL["asin"]: [
        {
            "instruction": "a bowl, dishwasher proof",
            "instruction_attributes": ["oven safe", "dishwasher proof"],
            "instruction_options": ["green"],
        }
    ],
    "B000000OUT": [{"instruction": "?", "instruction_attributes": ["x"], "instruction_options": []}],
}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "webshop"
    made.mkdir()
    for name, value in (
        ("items_shuffle_1000", ROWS), ("items_ins_v2_1000", TOLD), ("items_human_ins", PEOPLE),
    ):  # fmt: skip
        (made / f"{name}.json").write_text(json.dumps(value))
    return made


def test_a_shop_in_webshops_files_is_played_with_peoples_goals(folder, tmp_path):
    out = ("--out", tmp_path / "out", "--json", tmp_path / "r.json")
    result = run("webshop", folder, "--model", "scripted:gold", *out)
    assert result.exception is None, result.output
    assert "WebShop's 2 products with our search" in result.output and "not comparable" in result.output
    rows = [json.loads(line) for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()]
    # The mug has all: (1 + 1 + 1) / 3. Of the bowl's two attributes one stands in its bullets, the option is not
    # offered: (1 + 0 + 1) / 4. The instruction without attributes and that of another product are none.
    assert [row["metrics"]["reward"] for row in rows] == [1.0, 0.5]
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    again = run("rescore", tmp_path / "out", "--data", folder, "--json", tmp_path / "again.json")
    assert again.exception is None, again.output
    assert json.loads((tmp_path / "again.json").read_text())["summary"] == summary
    without = run("rescore", tmp_path / "out").exception
    assert isinstance(without, InputError) and "--data" in without.hint


def test_products_are_read_as_webshop_reads_them(folder):
    shop, tasks = read_shop(folder)
    mug, bowl = shop.products.values()
    assert mug.options == {"color": ("blue | white", "red")} and bowl.options == {}
    assert (mug.query, mug.price, mug.bullets) == ("coffee mugs", 12.5, ("Dishwasher safe", "Holds heat"))
    assert 10 <= bowl.price <= 20 and bowl.bullets == ("Oven safe",)
    assert [t.setting["price_upper"] in (30.0, 40.0, 50.0) for t in tasks] == [True, True]
    first = tasks[0]
    assert re.fullmatch(
        r"i want a mug for the dishwasher, and price lower than [345]0\.00 dollars", first.goal
    )
    assert read_shop(folder)[1] == tasks

    (folder / "items_human_ins.json").unlink()
    made_up = read_shop(folder)[1]  # every combination of the mug's options; the bowl has no instruction
    assert [t.setting["options"] for t in made_up] == [{"color": "blue | white"}, {"color": "red"}]
    assert made_up[1].goal.startswith("Find me a stoneware mug with color: red, and price lower than ")


def test_files_that_are_missing_or_strange_are_named(folder):
    def refused(where):
        error = run("webshop", folder, "--model", "scripted:gold").exception
        assert isinstance(error, InputError) and error.exit_code == 2 and where in error.where, error
        return f"{error.what} {error.hint}"

    people = folder / "items_human_ins.json"
    people.write_text(json.dumps({MUG["asin"]: [{"instruction": "a mug"}]}))
    assert "not instructions of WebShop: KeyError" in refused("items_human_ins.json")
    products = folder / "items_shuffle_1000.json"
    products.write_text(json.dumps([MUG, {"asin": "B1"}]))
    assert "not a product of WebShop: KeyError" in refused("items_shuffle_1000.json[1]")
    products.write_text("{")
    assert "not JSON" in refused("items_shuffle_1000.json")
    products.write_text("{}")
    assert "a dict, not a list" in refused("items_shuffle_1000.json")
    products.write_text(json.dumps([BOWL]))
    people.unlink()
    assert "no instructions for these products" in refused("webshop")
    products.unlink()
    assert "there is items_ins_v2_1000.json" in refused("webshop")


def test_tasks_without_worlds_are_counted_and_not_played(tmp_path):
    row = {
        "goal": "Where?",
        "subgoals": ["x"],
        "difficulty": "hard",
        "additional_info": {"answer": "x", "init_config": None, "goal_type": 0, "tool": "movie"},
    }
    (tmp_path / "movie.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps({**row, "difficulty": "easy"}) + "\n"
    )
    result = run("toolquery", tmp_path, "--model", "scripted:gold")
    assert isinstance(result.exception, InputError) and "2 tasks" in result.exception.what
    assert "without the worlds" in result.exception.what and "TMDB" in result.output
    (tmp_path / "movie.jsonl").write_text(json.dumps(row) + "\n{}\n")
    error = run("toolquery", tmp_path, "--model", "scripted:gold").exception
    assert isinstance(error, InputError) and error.where.endswith("movie.jsonl:2")
    (tmp_path / "movie.jsonl").unlink()
    assert "no files of tasks" in run("toolquery", tmp_path, "--model", "scripted:gold").exception.what


def test_agentgyms_tasks_and_webshops_instructions():
    """776 tasks; 1,000 instructions without products."""
    result = run("toolquery", native_data.folder("toolquery"), "--model", "scripted:gold")
    assert isinstance(result.exception, InputError) and result.exception.what.startswith("776 tasks")
    counts = {kind: int(n) for kind, n in re.findall(r"│ (\w+) +│ +(\d+) │", result.output)}
    assert counts == {"academia": 20, "movie": 238, "sheet": 20, "todo": 155, "weather": 343}
    error = run("webshop", native_data.folder("webshop"), "--model", "scripted:gold").exception
    assert isinstance(error, InputError) and "items_ins_v2_1000.json" in error.what
