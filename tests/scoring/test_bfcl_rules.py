"""BFCL's rules one by one: the verdicts the original checker gave on the same inputs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import Tool, ToolCall, normalise_tool
from xlam_jax.scoring import answers_of, score


def schema(kind, **more):
    if kind in ("array", "tuple"):
        more.setdefault("items", {"type": "string"})
    return {"type": kind, **more}


def judge(parameter, accepted, value, *, required=("p",), language="python"):
    tool = Tool("f", "", {"type": "dict", "properties": {"p": parameter}, "required": list(required)})
    arguments = {} if value is OMITTED else {"p": value}
    verdict = score(
        [tool], [ToolCall("f", arguments)], [{"f": {"p": accepted}}], category="simple", language=language
    )
    assert verdict.valid == (verdict.error_type == "")
    return verdict.error_type


OMITTED = object()
FLOATS = schema("array", items={"type": "float"})
STRINGS = schema("array")

GOLDEN = [
    (schema("integer"), [5], 5, ""),
    (schema("integer"), [5], 5.0, "type_error:simple"),
    (schema("integer"), [5], "5", "type_error:simple"),
    (schema("integer"), [1], True, "type_error:simple"),
    (schema("float"), [5.0], 5, ""),
    (schema("float"), [0.3], 0.1 + 0.2, "value_error:others"),
    (FLOATS, [[1.0, 2.0]], [1, 2], "type_error:nested"),
    (FLOATS, [[1.0, 2.0], ""], [1, 2], ""),  # "may be omitted" switches the element check off
    (FLOATS, [""], [], ""),
    (schema("string"), ["new york ny"], "New-York, NY", ""),
    (schema("string"), ["ab"], "a:b", "value_error:string"),
    (schema("string"), ['it"s'], "it's", ""),
    (schema("string"), ["1.0"], "10", ""),
    (schema("string"), ["5"], "-5", ""),
    (schema("boolean"), [True], True, ""),
    (schema("boolean"), [True], 1, "type_error:simple"),
    (STRINGS, [["y", "x"]], ["x", "y"], "value_error:list/tuple"),
    (schema("tuple", items={"type": "integer"}), [[1, 2]], (1, 2), ""),
    (schema("tuple", items={"type": "integer"}), [[1, 2]], [1, 2], ""),
    (schema("dict"), [{"k": ["v"], "m": [1]}], {"k": "V", "m": 1}, ""),
    (schema("dict"), [{"k": ["v"], "m": [1]}], {"k": "V", "m": 1.0}, ""),
    (schema("dict"), [{"k": ["v"], "m": [1]}], {"k": "V", "m": True}, ""),
    (schema("dict"), [{"k": ["v"], "m": [1, ""]}], {"k": "V"}, ""),
    (schema("dict"), [{"k": ["v"]}], {"k": "V", "z": 1}, "value_error:dict_key"),
    (schema("integer"), ["n"], "n", ""),
    (schema("integer"), ["n"], "N ", "value_error:others"),
    (schema("integer"), ["n"], 3, "value_error:others"),
]


@pytest.mark.parametrize(("parameter", "accepted", "value", "error"), GOLDEN)
def test_golden_values(parameter, accepted, value, error):
    assert judge(parameter, accepted, value) == error


@pytest.mark.parametrize(
    ("accepted", "value", "error"),
    [
        (["km", ""], OMITTED, ""),
        (["km", ""], "km", ""),
        (["km", ""], "mi", "value_error:string"),
        (["km", ""], "", ""),
        (["km", ""], None, "type_error:simple"),
        (["km"], OMITTED, "missing_optional"),
    ],
)
def test_golden_optional_parameter(accepted, value, error):
    assert judge(schema("string"), accepted, value, required=()) == error


def test_golden_calls():
    tool = Tool("f", "", {"type": "dict", "properties": {"p": schema("integer")}, "required": ["p"]})

    def error(*calls):
        return score([tool], calls, [{"f": {"p": [1]}}], category="simple").error_type

    assert error(ToolCall("f", {"p": 1})) == ""
    assert error(ToolCall("f", {"p": 1, "q": 2})) == "unexpected_param"
    assert error(ToolCall("f", {})) == "missing_required"
    assert error(ToolCall("F", {"p": 1})) == "wrong_func_name"
    assert error(ToolCall("f", {"p": 1}), ToolCall("f", {"p": 1})) == "wrong_count"
    assert error() == "wrong_count"


PARALLEL = Tool("f", "", {"type": "dict", "properties": {"p": schema("integer")}, "required": ["p"]})


@pytest.mark.parametrize(
    ("accepted", "values", "error"),
    [
        ([[1], [2]], [1, 2], ""),
        ([[1], [2]], [2, 1], ""),
        (
            [[1, 2], [1]],
            [1, 2],
            "cannot_find_match",
        ),  # greedy: the first answer eats the call the second needs
        ([[1, 2], [1]], [2, 1], ""),
        ([[1], [2]], [1, 1], "cannot_find_match"),
        ([[1], [2]], [1], "wrong_count"),
    ],
)
def test_golden_parallel(accepted, values, error):
    answers = [{"f": {"p": a}} for a in accepted]
    calls = [ToolCall("f", {"p": v}) for v in values]
    for category in ("parallel", "parallel_multiple"):
        assert score([PARALLEL], calls, answers, category=category).error_type == error


def test_multiple_looks_at_the_right_function():
    other = Tool("g", "", {"type": "dict", "properties": {"q": schema("string")}, "required": ["q"]})
    answers = [{"f": {"p": [1]}}]
    assert score([other, PARALLEL], [ToolCall("f", {"p": 1})], answers, category="multiple").valid
    wrong = score([other, PARALLEL], [ToolCall("g", {"q": "a"})], answers, category="multiple")
    assert wrong.error_type == "wrong_func_name"
    stray = score([other], [ToolCall("g", {"q": "a"})], [{"deck": {}}], category="multiple")
    assert stray.error_type == "checker_error"


def test_relevance_looks_only_at_whether_there_is_a_call():
    call = ToolCall("f", {"p": "nonsense"})
    assert score([PARALLEL], [], [], category="irrelevance").valid
    assert score([PARALLEL], [call], [], category="irrelevance").error_type == "unexpected_call"
    assert score([PARALLEL], [call], [], category="relevance").valid
    assert score([PARALLEL], [], [], category="relevance").error_type == "no_call"


DICTS = schema("array", items={"type": "dict"})


@pytest.mark.parametrize(
    ("accepted", "value", "error"),
    [
        ([[{"a": [1]}, {"b": ["x", ""]}]], [{"a": 1}, {}], ""),
        ([[{"a": [1]}, {"a": [2]}]], [{"a": 2}, {"a": 1}], "value_error:dict_value"),
        ([[{"a": [1]}]], [], "value_error:list_dict_count"),
        ([[{"a": [1]}], [{"a": [2]}]], [{"a": 2}], ""),
    ],
)
def test_lists_of_dicts(accepted, value, error):
    assert judge(DICTS, accepted, value) == error


@pytest.mark.parametrize(
    ("parameter", "accepted", "value", "error"),
    [
        (schema("integer"), [5], "5", ""),
        (schema("integer"), [5], 5, "type_error:java"),
        (schema("long"), [5], "5L", ""),
        (schema("long"), [5], "5", "type_error:simple"),
        (schema("float"), [1.5], "1.5f", ""),
        (schema("float"), [1.5], "1.5", "type_error:simple"),
        (schema("double"), [1500.0], "1.5e3", ""),
        (schema("boolean"), [True], "true", ""),
        (schema("boolean"), [True], "True", "type_error:simple"),
        (schema("Boolean"), [True], "true", "checker_error"),
        (schema("String"), ["Ab"], "a b", ""),
        (schema("char"), ["'x'"], "'x'", ""),
        (schema("any"), ["ctx"], "ctx", ""),
        (
            schema("ArrayList", items={"type": "String"}),
            [["a", "b"]],
            'new ArrayList<>(Arrays.asList("a","b"))',
            "",
        ),
        (
            schema("ArrayList", items={"type": "long"}),
            [[1, 2]],
            "new ArrayList<Long>() {{ add(1L); add(2L); }}",
            "",
        ),
        (schema("ArrayList", items={"type": "integer"}), [[]], "new ArrayList<Integer>()", ""),
        (schema("Array", items={"type": "integer"}), [[2, 7]], "new int[]{2, 7}", ""),
        (schema("Array", items={"type": "integer"}), [[2, 7]], "[2, 7]", "type_error:simple"),
        (schema("HashMap"), [{"k": ["v"]}], 'new HashMap<>() {{ put("k", "v"); }}', ""),
        (
            schema("HashMap"),
            [{"a": [True], "b": [5], "c": [1.5], "d": ["x"]}],
            'new HashMap<String, Object>() {{ put("a", true); put("b", 5L); put("c", 1.5f); put("d", x); }}',
            "",
        ),
        (schema("HashMap"), [{}], "new HashMap<String, String>()", ""),
        (schema("Set"), ["s"], "s", "checker_error"),
    ],
)
def test_java(parameter, accepted, value, error):
    assert judge(parameter, accepted, value, language="java") == error


@pytest.mark.parametrize(
    ("parameter", "accepted", "value", "error"),
    [
        (schema("integer"), [5], "5", ""),
        (schema("integer"), [5], 5, "type_error:js"),
        (schema("float"), [1.5], "1.5", ""),
        (schema("float"), [1500.0], "1.5e3", "type_error:simple"),
        (schema("Bigint"), [5], "5n", ""),
        (schema("Boolean"), [True], "true", ""),
        (schema("String"), ["a b"], "'A b'", ""),
        (schema("any"), ["cb"], "cb", ""),
        (schema("array", items={"type": "String"}), [["a", "b"]], "['a', 'b']", ""),
        (schema("array", items={"type": "integer"}), [[4, 5]], "new Array(4, 5)", ""),
        (schema("array", items={"type": "array"}), [[[1, 2], [3]]], "[ [1, 2], [3] ]", ""),
        (schema("array", items={"type": "integer"}), [[]], "[]", ""),
        (
            schema("dict"),
            [{"a": [1], "b": ["x"], "c": [[True, "y"]]}],
            "{a: '1', 'b': \"x\", c: [true, 'y']}",
            "",
        ),
        (schema("dict"), [{}], "{}", ""),
    ],
)
def test_javascript(parameter, accepted, value, error):
    assert judge(parameter, accepted, value, language="javascript") == error


def test_unknown_names_have_a_hint():
    with pytest.raises(InputError) as caught:
        score([PARALLEL], [], [], category="paralel")
    assert caught.value.hint == "parallel"
    with pytest.raises(InputError) as caught:
        score([PARALLEL], [], [], category="simple", language="javascrpt")
    assert caught.value.hint == "javascript"


MOVE = normalise_tool(
    {
        "name": "move",
        "parameters": {
            "type": "object",
            "properties": {
                "to": {"type": "array", "items": {"type": "number"}},
                "speed": {"type": "number", "default": 1.5},
                "tags": {"type": "object"},
                "stops": {"type": "array", "items": {"type": "object"}},
                "note": {"type": "string"},
                "free": {},
                "mixed": {"type": "array"},
            },
            "required": ["to"],
        },
    }
)
GOLD = ToolCall(
    "move", {"to": [1, 2.5], "tags": {"a": {"deep": [1]}, "b": "X"}, "stops": [{"at": 1}], "free": {"k": 1}}
)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, ""),
        ({"speed": 1.5}, ""),
        ({"speed": 2}, "value_error:others"),
        ({"to": [1, 2]}, "value_error:list/tuple"),
        ({"tags": {"a": {"deep": [1]}, "b": "x"}}, ""),
        ({"tags": {"a": {"deep": [2]}, "b": "x"}}, "value_error:dict_value"),
        ({"stops": [{"at": 2}]}, "value_error:dict_value"),
        ({"free": {"k": 2}}, "value_error:others"),
        ({"note": "added"}, "unexpected_param"),
        ({"free": OMITTED}, "missing_optional"),
        ({"to": OMITTED}, "missing_required"),
    ],
)
def test_answers_of_gold_calls(changes, error):
    answers = answers_of([MOVE], [GOLD])
    arguments = {k: v for k, v in {**GOLD.arguments, **changes}.items() if v is not OMITTED}
    assert score([MOVE], [ToolCall("move", arguments)], answers, category="simple").error_type == error


def test_answers_of_a_call_that_gives_the_default_accept_its_absence():
    answers = answers_of([MOVE], [ToolCall("move", {"to": [], "speed": 1.5})])
    assert score([MOVE], [ToolCall("move", {"to": []})], answers, category="simple").valid
    with pytest.raises(InputError):
        answers_of([MOVE], [ToolCall("mov", {})])


json_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)
)
json_values = st.recursive(
    json_scalars,
    lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.text(max_size=3), v, max_size=3)),
)
typed = {
    "integer": st.integers(),
    "number": st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)),
    "string": st.text(max_size=8),
    "boolean": st.booleans(),
    "object": st.dictionaries(st.text(max_size=3), json_values, max_size=3),
    "any": json_values,
}


@examples(200)
@given(st.data(), st.lists(st.sampled_from(sorted(typed)), min_size=1, max_size=3))
def test_a_gold_call_always_passes_its_own_answers(data, kinds):
    properties = {f"p{i}": {} if k == "any" else {"type": k} for i, k in enumerate(kinds)}
    tool = Tool("f", "", {"type": "object", "properties": properties, "required": sorted(properties)})
    calls = [ToolCall("f", {f"p{i}": data.draw(typed[k]) for i, k in enumerate(kinds)}) for _ in range(2)]
    for category, made in (("simple", calls[:1]), ("parallel", calls)):
        verdict = score([tool], made, answers_of([tool], made), category=category)
        assert verdict.valid or verdict.error_type == "cannot_find_match", verdict


@examples(200)
@given(json_values, json_values, st.sampled_from(["string", "float", "array", "dict", "any", "nonsense"]))
def test_no_value_crashes_the_rules(value, accepted, kind):
    judge({"type": kind, "items": {"type": "dict"}}, accepted, value)
