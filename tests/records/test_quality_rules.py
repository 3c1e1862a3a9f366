"""Each rule on rows written by hand: what it must find, and the near misses it must let pass."""

import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.format import Record, Step, Tool, ToolCall
from xlam_jax.records.quality import grounding, pii
from xlam_jax.records.quality.cast import NoCast, cast, cast_call
from xlam_jax.records.quality.rules import Actions, RuleConfig, Rules
from xlam_jax.records.quality.schema_check import check_call, plainly_valid
from xlam_jax.records.quality.trajectory import is_error

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer", "minimum": 1, "maximum": 14},
    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    "tags": {"type": "array", "items": {"type": "string"}},
    "level": {"type": "number"},
    "live": {"type": "boolean"},
    "where": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
}
WEATHER = Tool("get_weather", "", {"type": "object", "properties": PROPERTIES, "required": ["city"]})
SEARCH = Tool("search_web", "", {"type": "object", "properties": {"q": {"type": "string"}}, "required": []})
QUERY = "What will the weather be in Oslo for 5 days?"
OSLO = {"city": "Oslo"}
# A failed step that a later one mends is a fault of the step, not of the row: it has a test of its own.
EVERYTHING = RuleConfig(
    actions=Actions(**dict.fromkeys(Actions.model_fields, "drop") | {"failed_step": "off"})
)


def row(*steps, query=QUERY, tools=(WEATHER, SEARCH), **more):
    return Record("1", query, tools, steps, **more)


def call(arguments=OSLO, name="get_weather", **more):
    return Step(tool_calls=(ToolCall(name, arguments),), **more)


def codes(record):
    return [f.code for f in Rules(EVERYTHING).find(record)]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (call(name="get_wether"), "undefined_function"),
        (call(name="Get_Weather"), "undefined_function"),
        (call({**OSLO, "town": "Oslo"}), "undefined_argument"),
        (call({"days": 5}), "missing_required"),
        (call({**OSLO, "days": "five"}), "wrong_type"),
        (call({**OSLO, "days": 5.0}), "wrong_type"),
        (call({**OSLO, "days": True}), "wrong_type"),
        (call({**OSLO, "tags": ["a", 1]}), "wrong_type"),
        (call({**OSLO, "where": {}}), "wrong_type"),
        (call({"city": None}), "wrong_type"),
        (call({**OSLO, "unit": "kelvin"}), "not_in_enum"),
        (call({**OSLO, "days": 15}), "out_of_bounds"),
        (call({"city": "API_call_0"}), "undefined_reference"),
        (call({"city": "$call_1.city"}), "undefined_reference"),
        (call({"city": "Atlantis"}), "ungrounded_argument"),
        (call({**OSLO, "level": 7}), "ungrounded_argument"),
        (call(next_observation={"error": "no key"}), "error_observation"),
        (call(thought="ok"), "low_quality_thought"),
        (call(thought="TODO"), "low_quality_thought"),
        (call(thought="I call it now. " * 5), "low_quality_thought"),
        (call(thought="None of the tools is needed, so I answer myself."), "low_quality_thought"),
        (call(thought="I will call search_web to find the forecast."), "low_quality_thought"),
    ],
)
def test_a_fault_has_its_code(step, code):
    found = codes(row(step))
    assert found[0] == code and set(found) <= {code, "ungrounded_argument"}


@pytest.mark.parametrize(
    "steps",
    [
        [call()],
        [call({**OSLO, "days": 5, "unit": "celsius", "live": False})],
        [call({**OSLO, "days": 14}, thought="Two weeks are the most that get_weather can do.")],
        [call({"city": "oslo"}, thought="The user wants the forecast for Oslo.")],
        [call(next_observation={"error": None, "temp": 3})],
        [call(next_observation="Error-free forecast: sunny")],
        [call(next_observation={"error": "x"}), call(next_observation={"temp": 3})],
        [call(next_observation='{"id": "X9"}'), call({"city": "X9"})],
        [call(user_input="And in Rome?"), call({"city": "Rome"})],
        [call(user_input="Once more, please."), call()],
        [call(next_observation="1"), call({"city": "$call_1.city"})],
        [call(next_observation="1"), call({**OSLO, "days": "API_call_0"})],
        [call({"q": "costs $500 or #5"}, name="search_web")],
        [Step("Hello! How can I help?")],
        [Step("Yes.")],
    ],
)
def test_a_near_miss_is_clean(steps):
    query = f"{QUERY} It costs $500 or #5. At most 14 days."
    assert codes(row(*steps, query=query)) == []


def test_texts_and_repetitions():
    assert codes(row(call(), query=" \n"))[:1] == ["empty_query"]
    assert codes(row(call(), query=QUERY + "x" * 140_000)) == ["too_long"]
    assert codes(row(call(), query=QUERY + "x" * 120_000)) == []
    assert codes(row(call(next_observation=1), call(next_observation=1))) == ["repeated_turn"]
    # A call made again after an error is a retry.
    assert codes(row(call(next_observation="Error: busy"), call(next_observation=1))) == []
    same = "I need the weather, so I ask for it."
    other = call({"city": "Oslo", "days": 5}, thought=same)
    assert codes(row(call(thought=same), other)) == ["low_quality_thought"]
    assert codes(row(call(), thought_free := call({**OSLO, "days": 5}))) == [] and thought_free
    required = RuleConfig(thoughts_required=True)
    assert [f.code for f in Rules(required).find(row(call()))] == ["low_quality_thought"]


@pytest.mark.parametrize(
    ("observation", "bad"),
    [
        ({"error": "x"}, True),
        ({"error": "", "response": "fine"}, False),
        ({"error": "Message error...", "response": "{'feed': 1}"}, False),
        ({"status": "error"}, True),
        ({"status": 200}, False),
        ({"status_code": 404}, True),
        ({"success": False}, True),
        ([{"error": "x"}, {"ok": True}], False),
        ([{"error": "x"}], True),
        ("", False),
        ([], False),
        ("Error: not found", True),
        ("HTTP 503", True),
        ("Traceback (most recent call last):", True),
        ('{"error": "cut o', True),
        ("The error rate is 5%", False),
        ("Errors found: 0", False),
        ("404 houses", False),
        ("No errors.", False),
    ],
)
def test_error_observations(observation, bad):
    assert is_error(observation) is bad


INT, NUM, BOOL, TEXT = ({"type": t} for t in ("integer", "number", "boolean", "string"))
TEXTS = {"type": "array", "items": TEXT}
NUMBERS = {"type": "array", "items": NUM}


@pytest.mark.parametrize(
    ("value", "schema", "wanted"),
    [
        ("5", INT, 5), ("-5", INT, -5), ("5.0", INT, 5), (5.0, INT, 5), (" 7 ", INT, 7),
        ("2.5", NUM, 2.5), ("5", NUM, 5), ("1e3", NUM, 1000.0),
        ("true", BOOL, True), ("False", BOOL, False),
        (5, TEXT, "5"), (2.5, TEXT, "2.5"),
        ("[1, 2]", NUMBERS, [1, 2]), ("['a', 'b']", TEXTS, ["a", "b"]), ("[v1, v2]", TEXTS, ["v1", "v2"]),
        (["1", 2], NUMBERS, [1, 2]), (3, NUMBERS, [3]),
        ('{"lat": "1.5"}', PROPERTIES["where"], {"lat": 1.5}),
        ("Celsius", PROPERTIES["unit"], "celsius"), ("CELSIUS ", PROPERTIES["unit"], "celsius"),
        ("2", {"type": "integer", "enum": [1, 2]}, 2), (2.0, {"type": "integer", "enum": [1, 2]}, 2),
        (2, {"type": "string", "enum": ["1", "2"]}, "2"),
        ("false", {"type": "boolean", "enum": [True, False]}, False),
        (True, {"type": "string", "enum": ["True", "False", "dontcare"]}, "True"),
        ("5", {"type": ["integer", "null"]}, 5), ("5", {"anyOf": [INT, BOOL]}, 5),
    ],
)  # fmt: skip
def test_casts_that_are_safe(value, schema, wanted):
    found = cast(value, schema)
    assert json.dumps(found) == json.dumps(wanted)
    jsonschema.validate(found, schema)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (2.5, INT), ("1,000", INT), (True, INT), ("five", INT), ("", INT), (None, INT), ("2.5", INT),
        ("1,5", NUM), ("nan", NUM), ("1e999", NUM), (True, NUM), (1e300, INT),
        (1, BOOL), ("yes", BOOL), (0, BOOL),
        (True, TEXT), (None, TEXT), (["a"], TEXT), ({"a": 1}, TEXT),
        ("a, b", TEXTS), ("[a, b", TEXTS), (None, TEXTS), ("[x, y]", NUMBERS), ("[1, 'x']", NUMBERS),
        ("text", PROPERTIES["where"]), ([1], PROPERTIES["where"]), ("[1]", PROPERTIES["where"]),
        ("kelvin", PROPERTIES["unit"]), ("a", {"enum": ["A", "a "]}),
        ("5", {"anyOf": [INT, TEXTS, NUMBERS, BOOL]} | {"anyOf": [INT, {"enum": ["5 "]}]}),
    ],
)  # fmt: skip
def test_casts_that_are_refused(value, schema):
    with pytest.raises(NoCast):
        cast(value, schema)


def test_repairs_are_noted_and_what_is_beyond_them_is_dropped():
    rules = Rules(RuleConfig())
    bad = call({"city": "Oslo", "days": "5", "unit": "Celsius", "level": None})
    fixed, entry = rules.apply(row(bad))
    assert (entry.verdict, entry.reason) == ("repaired", "wrong_type")
    assert fixed.steps[0].tool_calls[0].arguments == {"city": "Oslo", "days": 5, "unit": "celsius"}
    assert fixed.lineage == ("repaired:wrong_type",) and 'days: "5" -> 5' in entry.detail
    gone, entry = rules.apply(row(call({**OSLO, "days": "many", "town": "x"})))
    assert (gone is None and entry.reason == "wrong_type") or entry.reason == "undefined_argument"
    assert "wrong_type" in entry.detail and "undefined_argument" in entry.detail
    flagged, entry = rules.apply(row(call({"city": "Atlantis"})))
    assert (entry.verdict, flagged.lineage) == ("pass", ("flagged:ungrounded_argument",))
    off = RuleConfig(actions=Actions(undefined_function=False, wrong_type="drop"))
    assert Rules(off).apply(row(call(name="nothing")))[1].verdict == "pass"
    assert Rules(off).apply(row(bad))[1].verdict == "dropped"


def test_contradicting_choices_are_read_as_meant():
    tool = Tool("f", "", {"type": "object", "required": [], "properties": {
        "items": {"type": "array", "items": {"type": "string"}, "enum": ["a", "b"]},
        "n": {"type": "integer", "enum": ["1", "2", "any"]},
        "laundry": {"type": "boolean", "enum": ["True", "False", "dontcare"], "default": "dontcare"},
    }})  # fmt: skip
    tools = {"f": tool}
    assert not check_call(ToolCall("f", {"items": ["a"], "n": 2, "laundry": True}), tools)
    said = ToolCall("f", {"laundry": "true", "n": ""})
    assert cast_call(said, tool, ["laundry", "n"])[0].arguments == {"laundry": True}
    assert [f.code for f in check_call(ToolCall("f", {"items": ["c"], "n": 3}), tools)] == ["not_in_enum"] * 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("ab5", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null"])},
        optional={
            "enum": st.lists(st.text("ab5", max_size=2), min_size=1, max_size=2),
            "minimum": st.integers(-5, 5),
            "maximum": st.integers(-5, 5),
            "maxLength": st.integers(0, 2),
            "required": st.lists(st.sampled_from("ab"), max_size=1),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["array", "object"])},
        optional={"items": inner, "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2)},
    ),
    max_leaves=3,
)


@examples(400)
@given(JSON, SCHEMAS)
def test_the_fast_path_never_passes_what_jsonschema_refuses(value, schema):
    if plainly_valid(value, schema):
        jsonschema.Draft202012Validator(schema).validate(value)


@examples(400)
@given(JSON, SCHEMAS)
def test_a_cast_never_crashes_and_leaves_valid_values_alone(value, schema):
    try:
        found = cast(value, schema)
    except NoCast:
        return
    if plainly_valid(value, schema):
        assert json.dumps(found) == json.dumps(value)


@pytest.mark.parametrize(
    ("value", "said", "least", "most"),
    [
        ("New York", "weather in new york?", 1, 1),
        ("kilometers", "how many kilometer is that", 1, 1),
        ("San Francisco, CA", "a hotel in San Francisco", 0.6, 0.7),
        ("2023-05-01", "on May 1st, 2023", 1, 1),
        ("2023-05-02", "on May 1st, 2023", 0, 0),
        ("2023-05-02", "the day after tomorrow", 0.5, 0.5),
        ("14:00", "around 2 PM", 1, 1),
        ("art", "to start", 0, 0.8),
        ("EUR", "100 euros", 1, 1),
        ("肯德基", "我想在肯德基买", 1, 1),
        (5, "five apples", 1, 1),
        (25, "twenty-five apples", 1, 1),
        (300, "three hundred", 1, 1),
        (2000000, "2 million", 1, 1),
        (0.05, "at 5%", 1, 1),
        (1000, "1,000 euros", 1, 1),
        (2019, "songs from '19", 1, 1),
        (7, "five apples", 0, 0),
        (["Oslo", "Rome"], "in Oslo", 0, 0),
        ({"a": "Oslo"}, "in Oslo", 1, 1),
        (True, "", 1, 1),
        ("", "", 1, 1),
    ],
)
def test_grounding(value, said, least, most):
    assert least <= grounding.score(value, {}, grounding.Said(said)) <= most


def test_defaults_choices_and_descriptions_are_ground():
    said = grounding.Said("nothing of the kind")
    assert grounding.score("km", {"default": "km"}, said) == 1
    assert grounding.score("km", {"enum": ["km", "mi"]}, said) == 1
    assert grounding.score("km", {"description": "Unit, km by default."}, said) == 1
    assert grounding.score("Oslo", {"description": "A city (e.g. Oslo)."}, said) == 0


PEOPLE = [
    ("email", "mail jane.doe@fastmail.com now"),
    ("phone", "call (415) 836-2671 now"),
    ("phone", "call +44 20 7946 0958 now"),
    ("card", "charge 4539 1488 0343 6467 now"),
    ("ssn", "my SSN is 536-90-4399."),
    ("key", "use AKIAIOSFODNN7EXAMPLE here"),
    ("key", "use ghp_" + "a1B2" * 9 + " here"),
]
NOBODY = [
    "mail someone@example.com", "clone git@github.com:a/b.git", "call 555-555-0123", "on 2023-05-01 at 10",
    "charge 4539 1488 0343 6468", "order 12345678901234", "the number 3.14159265358979", "000-12-3456",
    "from 1990-2000", "id 123-45-678", "10.0.0.1", "a ratio of 1000 2000 3000",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), PEOPLE)
def test_pii_is_found_and_masked_alike_everywhere(kind, text):
    ((found, string),) = pii.find_pii(text)
    assert found == kind
    step = call({"city": string}, thought=text, next_observation={"x": [string]})
    masked, kinds = pii.mask(row(step, query=text))
    assert kinds == [kind] and string not in json.dumps(masked.to_json(), ensure_ascii=False)
    value = masked.steps[0].tool_calls[0].arguments["city"]
    assert value in masked.query and masked.steps[0].next_observation == {"x": [value]}
    assert pii.mask(masked) == (masked, [])


@pytest.mark.parametrize("text", NOBODY)
def test_reserved_and_other_numbers_are_nobody(text):
    assert pii.find_pii(text) == []


def test_a_failed_step_that_was_mended_is_context_as_it_stands():
    """Wrong arguments, the error they brought, and the right call: only the recovery is trained."""
    bad = call({"town": "Oslo", "days": "5"}, next_observation={"error": "unknown argument town"})
    good = call({"city": "Oslo", "days": 5}, next_observation={"celsius": 3})
    record = row(bad, good, Step("3 C."))
    fixed, entry = Rules(RuleConfig()).apply(record)
    assert (entry.verdict, entry.reason) == ("repaired", "failed_step")
    assert fixed.steps == (replace(bad, weight=0), good, Step("3 C."))
    again, entry = Rules(RuleConfig()).apply(fixed)
    assert again == fixed and entry.verdict == "pass"
    # Unmended, mended by another function only, or with one call of two: as before.
    assert Rules(RuleConfig()).apply(row(bad, Step("Sorry.")))[0] is None
    half = call(next_observation=[{"error": "x"}, {"celsius": 1}])
    half = replace(half, tool_calls=half.tool_calls * 2)
    assert [s.weight for s in Rules(RuleConfig()).apply(row(half, good))[0].steps] == [1, 1]
