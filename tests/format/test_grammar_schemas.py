"""Grammars of generated schemas, in every call format: valid arguments pass, a single violation does not."""

import jsonschema_rs
import pytest
from accepting import accepts
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import CALL_FORMATS, ToolCall, get_codec, normalise_tool
from xlam_jax.format.call_formats.value_rules import unsaid

PATTERNS = [
    ("^[A-Z]{3}$", "USD", "usd"),
    ("^\\d+/\\d+$", "1/2", "1-2"),
    ("[0-9]", "a1", "ab"),
    ("^(ab|c)", "cd", "bd"),
    ("^\\p{Lu}+$", "ÅB", "Ab"),
]
integers = st.integers(-1000, 1000)
quarters = st.integers(-4000, 4000).map(lambda n: n / 4)
plain = st.text(st.sampled_from("abc é<&\"'\\\n-"), max_size=6)


@st.composite
def leaves(draw):
    """`(schema, a value it admits, a value it does not)`."""
    kind = draw(
        st.sampled_from(["integer", "number", "string", "pattern", "boolean", "enum", "const", "null"])
    )
    if kind in ("integer", "number"):
        low, high = sorted((draw(integers), draw(integers)))
        good = draw(st.integers(low, high)) if kind == "integer" else draw(st.integers(low * 4, high * 4)) / 4
        schema = {"type": kind}
        bad = [str(good), None, [good]]
        if draw(st.booleans()):
            schema["minimum"] = low
            bad.append(low - 1)
        if draw(st.booleans()):
            schema["maximum"] = high
            bad.append(high + 1)
        return schema, good, draw(st.sampled_from(bad))
    if kind == "string":
        good = draw(plain)
        schema, bad = {"type": "string"}, [1, None, [good], {"a": good}]
        if good and draw(st.booleans()):
            schema["minLength"] = draw(st.integers(1, len(good)))
            bad.append(good[: schema["minLength"] - 1])
        if draw(st.booleans()):
            schema["maxLength"] = draw(st.integers(len(good), len(good) + 2))
            bad.append(good + "a" * 3)
        return schema, good, draw(st.sampled_from(bad))
    if kind == "pattern":
        pattern, good, bad = draw(st.sampled_from(PATTERNS))
        return {"type": "string", "pattern": pattern}, good, bad
    if kind == "boolean":
        return {"type": "boolean"}, draw(st.booleans()), draw(st.sampled_from([1, "true", None]))
    if kind == "enum":
        values = draw(st.lists(st.one_of(plain, integers, st.none()), min_size=1, max_size=4))
        return {"enum": values}, draw(st.sampled_from(values)), "none of them"
    if kind == "const":
        value = draw(st.one_of(plain, integers))
        return {"const": value}, value, "another"
    return {"type": "null"}, None, 0


@st.composite
def lists(draw, children):
    schema, good, bad = draw(children)
    values = [good] * draw(st.integers(0, 3))
    out, wrong = {"type": "array", "items": schema}, [[*values, bad], {"a": good}]
    if values and draw(st.booleans()):
        out["minItems"] = len(values)
        wrong.append(values[1:])
    if draw(st.booleans()):
        out["maxItems"] = len(values)
        wrong.append([*values, good])
    return out, values, draw(st.sampled_from(wrong))


@st.composite
def objects(draw, children, top=False):
    found = draw(st.dictionaries(plain.filter(bool) if not top else NAMES, children, min_size=1, max_size=3))
    required = [name for name in found if draw(st.booleans())]
    value = {name: good for name, (_, good, _) in found.items() if name in required or draw(st.booleans())}
    schema = {"type": "object", "properties": {n: s for n, (s, _, _) in found.items()}, "required": required}
    broken = draw(st.sampled_from(sorted(found)))
    wrong = [{n: found[n][2] if n == broken else value.get(n) for n in found if n in value or n == broken}]
    wrong += [{n: v for n, v in value.items() if n != name} for name in required]
    if not top:
        wrong.append("no object")
        others = draw(st.sampled_from([None, False, {"type": "integer"}]))
        if others is not None:
            schema["additionalProperties"] = others
            wrong.append({**value, "zz": "x"})
        if others is not False and draw(st.booleans()):
            value = {**value, "zz": 7}
    else:
        wrong.append({**value, "zz": 1})
    return schema, value, draw(st.sampled_from(wrong))


NAMES = st.from_regex(r"[a-y][a-z_]{0,5}", fullmatch=True)


@st.composite
def wrapped(draw, children):
    """The same values by other words."""
    schema, good, bad = draw(children)
    how = draw(st.sampled_from(["allOf", "anyOf", "nullable", "beside"]))
    if how == "allOf":
        return {"allOf": [schema, {}]}, good, bad
    if how == "anyOf":
        assume(bad is not None)
        return {"anyOf": [{"type": "null"}, schema]}, draw(st.sampled_from([good, None])), bad
    if how == "nullable":
        assume(bad is not None and isinstance(schema.get("type"), str))
        kinds = list(dict.fromkeys([schema["type"], "null"]))
        return {**schema, "type": kinds}, draw(st.sampled_from([good, None])), bad
    return {**schema, "anyOf": [{}, {"type": "string"}], "description": "d"}, good, bad


schemas = st.recursive(leaves(), lambda c: st.one_of(lists(c), objects(c), wrapped(c)), max_leaves=4)


@st.composite
def cases(draw):
    """A tool with some of its schemas behind references, arguments it admits, and arguments it does not."""
    schema, good, bad = draw(objects(schemas, top=True))
    names = [n for n in schema["properties"] if draw(st.booleans())]
    schema["$defs"] = {f"D{i}": schema["properties"][n] for i, n in enumerate(names)}
    for i, name in enumerate(names):
        schema["properties"][name] = {"$ref": f"#/$defs/D{i}"}
    # What hand-made violations claim is checked by another implementation.
    oracle = jsonschema_rs.Draft202012Validator({**schema, "additionalProperties": False})
    assume(oracle.is_valid(good) and not oracle.is_valid(bad))
    return {"name": "f", "parameters": schema}, good, bad


def judge(case, formats=tuple(CALL_FORMATS)):
    raw, good, bad = case
    tool = normalise_tool(raw)
    for name in formats:
        codec = get_codec(name)
        grammar = codec.grammar([tool])
        assert accepts(grammar, codec.render_calls([ToolCall("f", good)])), name
        assert not accepts(grammar, codec.render_calls([ToolCall("f", bad)])), name


@examples(120)
@given(cases())
def test_valid_arguments_pass_and_single_violations_do_not(case):
    judge(case)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(cases(), st.sets(st.sampled_from(sorted(CALL_FORMATS)), min_size=3, max_size=3))
def test_two_thousand_schemas(case, formats):
    judge(case, formats)


def offered(properties, **more):
    parameters = {"type": "object", "properties": properties, "required": list(properties), **more}
    return normalise_tool({"name": "f", "parameters": parameters})


TREE = {"type": "object", "properties": {"k": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
        "additionalProperties": False}  # fmt: skip
# schema of the parameter p; admitted values; others: what hypothesis does not draw
BY_HAND = {
    "recursion": ({"$ref": "#/$defs/T"}, [{}, {"k": [{"k": []}]}], [{"k": [1]}, {"a": 1}]),
    "two objects in one": ({"allOf": [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"properties": {"b": {"type": "string"}}, "required": ["b"]}]},
        [{"a": 1, "b": "x"}], [{"a": 1}, {"a": "1", "b": "x"}]),
    "patterns of names": ({"type": "object", "patternProperties": {"^x": {"type": "integer"}},
                           "additionalProperties": False}, [{"x1": 1}, {}], [{"x1": "a"}, {"y": 1}]),
    "tuple": ({"type": "array", "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": False},
              [[1, "a"], [1], []], [["a"], [1, "a", 1]]),
    "two patterns": ({"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "b$"}]}, ["ab"], ["a", "b"]),
    "alternatives with anchors": ({"type": "string", "pattern": "^a$|^b"}, ["a", "bc"], ["ac", "cb"]),
    "multiples": ({"allOf": [{"type": "integer", "multipleOf": 4}, {"multipleOf": 6}]}, [12, 0], [4, 6]),
    "OpenAPI": ({"type": "integer", "nullable": True, "minimum": 0, "exclusiveMinimum": True}, [None, 1], [0]),
    "choices and bounds": ({"enum": [1, 5, "x"], "type": "integer", "minimum": 2}, [5], [1, "x"]),
    "truths as text": ({"type": "boolean", "enum": ["True", "False", "any"]}, [True, False], ["True", "any"]),
    "boolean schema": (True, [1, {"a": [None]}], []),
    "number of keys": ({"type": "object", "minProperties": 1}, [{"a": 1}], [{}]),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_schemas_by_hand(name):
    schema, good, bad = BY_HAND[name]
    tool = offered({"p": schema}, **{"$defs": {"T": TREE}})
    for form in CALL_FORMATS:
        codec = get_codec(form)
        grammar = codec.grammar([tool])
        assert unsaid(grammar) == []
        for value in (*good, *bad):
            text = codec.render_calls([ToolCall("f", {"p": value})])
            assert accepts(grammar, text) == (value in good), (form, value)


def test_what_a_grammar_cannot_say_it_lists():
    tool = offered({
        "a": {"type": "array", "uniqueItems": True},
        "b": {"type": "string", "pattern": "(?=x)"},
        "c": {"type": "string", "format": "date", "description": "Not a constraint."},
        "d": {"$ref": "#/nowhere"},
    })  # fmt: skip
    for form in CALL_FORMATS:
        codec = get_codec(form)
        grammar = codec.grammar([tool])
        assert [line.rpartition(":")[0] for line in sorted(unsaid(grammar))] == [
            "f: #/properties/a/uniqueItems",
            "f: #/properties/b/pattern",
            "f: #/properties/d/$ref",
        ]
        text = codec.render_calls([ToolCall("f", {"a": [1, 1], "b": "y", "c": "now", "d": [{}]})])
        assert accepts(grammar, text)


def test_many_tools_and_choices_in_every_format():
    """Within llguidance's default limits: 2,000 tools, and 5,000 choices, are written as trees and lexemes."""
    many = [normalise_tool({"name": f"tool_{i}", "parameters": {"a": {"type": "int"}}}) for i in range(2000)]
    choices = offered({"p": {"enum": [f"choice {i}" for i in range(5000)]}})
    for form in CALL_FORMATS:
        codec = get_codec(form)
        grammar = codec.grammar(many)
        assert accepts(grammar, codec.render_calls([ToolCall("tool_1999", {"a": 1})])), form
        assert not accepts(grammar, codec.render_calls([ToolCall("tool_2000", {"a": 1})])), form
        grammar = codec.grammar([choices])
        assert accepts(grammar, codec.render_calls([ToolCall("f", {"p": "choice 4999"})])), form
        assert not accepts(grammar, codec.render_calls([ToolCall("f", {"p": "choice 5000"})])), form


@pytest.mark.parametrize("form", ["xlam-json", "toml"])
def test_what_no_grammar_can_hold_is_refused_by_name(form):
    huge = offered({"p": {"enum": list(range(20_001))}})
    with pytest.raises(InputError, match="20000 choices"):
        get_codec(form).grammar([huge])
    if form == "toml":
        with pytest.raises(InputError, match="no value"):
            get_codec(form).grammar([offered({"p": False})])


INT = {"type": "integer"}
NO_VALUE = {
    "bounds": {**INT, "minimum": 5, "maximum": 3},
    "nothing between": {**INT, "exclusiveMinimum": 1, "exclusiveMaximum": 2},
    "no multiple": {**INT, "minimum": 11, "maximum": 14, "multipleOf": 5},
    "lengths": {"type": "string", "minLength": 5, "maxLength": 3},
    "choices": {**INT, "enum": ["a", "b"]},
    "constant": {"type": "string", "const": 5},
    "parts": {"allOf": [INT, {"type": "string"}]},
    "counts": {"type": "array", "items": INT, "minItems": 3, "maxItems": 1},
    "inside": {"type": "object", "properties": {"a": {**INT, "minimum": 5, "maximum": 3}}, "required": ["a"]},
    "items": {"type": "array", "items": {**INT, "enum": ["a"]}, "minItems": 1},
    "by reference": {"$ref": "#/$defs/No"},
}


@pytest.mark.parametrize("schema", NO_VALUE.values(), ids=NO_VALUE)
def test_a_parameter_without_a_value_is_free_and_the_other_tools_stay(schema):
    defs = {"No": {"type": "string", "minLength": 2, "maxLength": 1}}
    odd = {"type": "object", "properties": {"x": schema, "y": INT}, "required": ["x"], "$defs": defs}
    tools = [
        normalise_tool({"name": "f", "parameters": odd}),
        normalise_tool({"name": "g", "parameters": {"y": INT}}),
    ]
    for form in CALL_FORMATS:
        codec = get_codec(form)
        grammar = codec.grammar(tools)
        assert any("f: #/" in line and "admits no value" in line for line in unsaid(grammar)), form
        assert accepts(grammar, codec.render_calls([ToolCall("g", {"y": 1})])), form
        assert not accepts(grammar, codec.render_calls([ToolCall("g", {"y": "1"})])), form
        values = ([1], {"a": 1}) if "type" in schema and schema["type"] in ("array", "object") else (1, "a")
        assert any(accepts(grammar, codec.render_calls([ToolCall("f", {"x": v})])) for v in values), form


def test_a_way_without_a_value_changes_nothing():
    tool = offered({"p": {"anyOf": [{**INT, "minimum": 5, "maximum": 3}, {"type": "string"}]}})
    for form in CALL_FORMATS:
        codec = get_codec(form)
        grammar = codec.grammar([tool])
        assert unsaid(grammar) == [] and accepts(grammar, codec.render_calls([ToolCall("f", {"p": "a"})])), (
            form
        )
        assert not accepts(grammar, codec.render_calls([ToolCall("f", {"p": 4})])), form


def test_a_tool_that_cannot_be_called_is_left_out_and_said():
    never, fine = offered({"p": False}), normalise_tool({"name": "g", "parameters": {"y": INT}})
    for form in CALL_FORMATS:
        codec = get_codec(form)
        grammar = codec.grammar([never, fine])
        assert unsaid(grammar) == ["f: parameter 'p' is required, but no value is allowed: left out"]
        assert accepts(grammar, codec.render_calls([ToolCall("g", {"y": 1})]))
        with pytest.raises(InputError, match="no value"):
            codec.grammar([never])
        assert accepts(codec.grammar([never], min_calls=0), codec.render_calls([])), form


@pytest.mark.parametrize("first", ["$ref", "allOf", "properties"])
def test_properties_of_parts_come_in_one_order_in_all_formats(first):
    """The grammar of JSON is llguidance's own; the other spellings follow it."""
    parts = {
        "$ref": "#/$defs/A",
        "allOf": [{"properties": {"c": {"type": "integer"}}}],
        "properties": {"b": {"type": "string"}},
    }
    schema = {first: parts[first], **{k: v for k, v in parts.items() if k != first}}
    raw = {
        "type": "object",
        "properties": {"p": schema},
        "$defs": {"A": {"properties": {"a": {"type": "integer"}}}},
    }
    tool = normalise_tool({"name": "f", "parameters": raw})
    orders = [dict.fromkeys(names, 1) | {"b": "x"} for names in ("abc", "acb", "bac", "cab", "cba", "bca")]
    calls = [ToolCall("f", {"p": value}) for value in orders]
    known = None
    for form in ("xlam-json", "python-list", "toml"):
        codec = get_codec(form)
        grammar = codec.grammar([tool])
        found = [accepts(grammar, codec.render_calls([call])) for call in calls]
        known = known or found
        assert found == known and sum(found) == 1, (form, found)
