"""ToolACE rows: odd names, nested Python values, and everything that is no call."""

import json

import pytest

from tests.records.source_cases import made, refusal
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall

TOOLS = [
    {
        "name": "Get Weather (v2)/now",
        "description": "Weather.",
        "parameters": {
            "type": "dict",
            "properties": {
                "city": {"type": "string"},
                "at": {"type": "dict", "properties": {"lat": {"type": "float"}}},
            },
            "required": ["city"],
        },
        "required": None,
    },
    {
        "name": "user.list",
        "description": "",
        "parameters": {"type": "dict", "properties": {"max-items": {"type": "int"}}},
    },
]
SYSTEM = (
    "You are an expert in composing functions.\nPut the calls in the format of "
    "[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]\n"
    f"Here is a list of functions in JSON format that you can invoke:\n{json.dumps(TOOLS)}. \n"
    "NO other text MUST be included.\n"
)


def row(*turns, system=SYSTEM):
    return {"system": system, "conversations": [{"from": role, "value": value} for role, value in turns]}


def steps(*turns):
    return made("toolace", row(("user", "Please"), *turns)).steps


def calls(text):
    (step,) = steps(("assistant", text))
    assert step.thought == "" or not step.tool_calls
    return step.tool_calls


def test_a_whole_dialogue():
    native = row(
        ("user", "Weather in Oslo, and the users?"),
        ("assistant", '[Get Weather (v2)/now(city="Oslo", at={"lat": 59.9}), user.list(max-items=3)]'),
        (
            "tool",
            '[{"name": "Get Weather (v2)/now", "results": {"t": 3}}, {"name": "user.list", "results": []}]',
        ),
        ("assistant", "3 C; no users."),
        ("user", "And Rome?"),
        ("assistant", '[Get Weather (v2)/now(city="Rome")]'),
        ("tool", "it is sunny"),
    )
    got = made("toolace", native)
    place = {"type": "object", "properties": {"lat": {"type": "number"}}}
    weather = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "at": place},
        "required": ["city"],
    }
    users = {"type": "object", "properties": {"max-items": {"type": "integer"}}, "required": []}
    assert got == Record(
        id=got.id,
        query="Weather in Oslo, and the users?",
        tools=(Tool("Get Weather (v2)/now", "Weather.", weather), Tool("user.list", "", users)),
        steps=(
            Step(
                "",
                (
                    ToolCall("Get Weather (v2)/now", {"city": "Oslo", "at": {"lat": 59.9}}),
                    ToolCall("user.list", {"max-items": 3}),
                ),
                [{"t": 3}, []],
            ),
            Step("3 C; no users.", (), "", "And Rome?"),
            Step("", (ToolCall("Get Weather (v2)/now", {"city": "Rome"}),), "it is sunny"),
        ),
        source="toolace",
        license="Apache-2.0",
        lineage=("cut_native_prompt",),
    )


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[f()]", {}),
        ("[ f ( ) ]", {}),
        (
            "[f(a=1, b=-2.5, c=True, d=false, e=None, g=null)]",
            {"a": 1, "b": -2.5, "c": True, "d": False, "e": None, "g": None},
        ),
        ("[f(a=[1, [2, {'x': (3, 4)}]], b={})]", {"a": [1, [2, {"x": [3, 4]}]], "b": {}}),
        ("""[f(a='it\\'s, "so"', b="[f(x=1)]")]""", {"a": 'it\'s, "so"', "b": "[f(x=1)]"}),
        ('[f(a="x = 1, y)", b="é\\u00e9\\n")]', {"a": "x = 1, y)", "b": "éé\n"}),
        (
            '[f(class="first", from="a b", max results=2, a.b="c",)]',
            {"class": "first", "from": "a b", "max results": 2, "a.b": "c"},
        ),
        (r'[f(pattern="\\d+", path="a\/b")]', {"pattern": r"\d+", "path": "a/b"}),
        (r"[f(pattern='\d+')]", {"pattern": r"\d+"}),
    ],
)
def test_argument_values(text, arguments):
    assert calls(text) == (ToolCall("f", arguments),)


def test_tools_results_need_not_be_split():
    (step,) = steps(("assistant", "[f(a=1), g()]"), ("tool", '{"both": 1}'))
    assert step.next_observation == '{"both": 1}'
    (step,) = steps(("assistant", "[f(a=1)]"), ("tool", '[{"t": 3}]'))
    assert step.next_observation == '[{"t": 3}]'


@pytest.mark.parametrize(
    "text", ["[1] is a footnote.", "[see (a)]: no", "I cannot (yet).", "[a, b]", "f(a=1)"]
)
def test_words_are_no_calls(text):
    (step,) = steps(("assistant", text))
    assert step == Step(text)


@pytest.mark.parametrize(
    "text",
    [
        "[f(1)]",
        "[f(a=1, 2)]",
        "[f(a=1, a=2)]",
        "[f(a=b)]",
        "[f(a=1), g(b=[1)]",
        "[f(a=1) g(b=2)]",
        "[f(a='x)]",
        "[f(a=__import__('os').getcwd())]",
        "[f(a=1e999)]",
        "[f(a={1: 2})]",
        "[f(a={'b': 1, 'b': 2})]",
        "[f(a=b'x')]",
        "[f(=1)]",
        "[f(a=)]",
        "Sure: [user.list(max-items=3)]",
        "[user.list(max-items=3)] is what I would call.",
        "[user.list(max-items=3",
        "[f(a=" + "(" * 3000 + ")" * 3000 + ")]",
    ],
)
def test_broken_calls_are_refused(text):
    assert refusal("toolace", row(("user", "Please"), ("assistant", text))) == "bad_call"


def test_other_refusals():
    turns = (("user", "Hi"), ("assistant", "Ho"))
    assert refusal("toolace", row(*turns, system="No list here [x].")) == "no_tools"
    assert refusal("toolace", row(*turns, system="")) == "no_tools"
    assert refusal("toolace", row(("user", "Hi"), ("tool", "x"))) == "orphan_result"
    assert refusal("toolace", row(("assistant", "[f(a=1)]"), ("user", "Hi"))) == "no_user_turn"
