"""A client's raw tool in the exported chat template: the text that training writes, or a refusal."""

import gzip
import json
import os
from pathlib import Path

import jinja2
import pytest
from format_strategies import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import Record, get_codec

render = pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template
# One of each view of a tool: flags, nothing, the whole schema over several lines.
CODECS = [
    get_codec("xlam-json", "chatml", "brackets"),
    get_codec("xlam-json", "mistral-v1", "xlam-1"),
    get_codec("json-array", "llama-3", "xlam-2"),
]
SOURCES = [(codec, codec.jinja()) for codec in CODECS]


def served(source, tools):
    messages = [{"role": "user", "content": "q"}]
    return render([messages], tools=tools, chat_template=source, add_generation_prompt=True)[0][0]


def outcome(raw, source):
    """The template's text, or None where it refuses."""
    try:
        return served(source, [raw])
    except jinja2.TemplateError:
        return None


def trained(codec, raw):
    """The codec's text, or None where the tool is refused."""
    try:
        return codec.prompt(Record.from_json({"id": "1", "query": "q", "tools": [raw], "steps": []}))
    except InputError:
        return None


KINDS = [
    "string",
    "integer",
    "number",
    "boolean",
    "array",
    "object",
    "null",
    "int32",
    "Float",
    "dict",
    "any",
    "file",
]
kinds = st.one_of(st.sampled_from(KINDS), st.lists(st.sampled_from(KINDS[:7]), max_size=3), st.none())
scalars = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-2, 2), texts)
names = st.one_of(
    texts, st.sampled_from(["type", "properties", "required", "items", "keys", "get", "default"])
)
required = st.one_of(
    st.none(), st.booleans(), st.lists(names, max_size=3), st.sampled_from(["true", "no", "x", "optional", 1])
)


def objects(children):
    properties = st.dictionaries(names, st.one_of(children, st.booleans(), st.none()), max_size=3)
    return st.one_of(properties, properties, st.just([]), st.none())


def schemas():
    def deeper(children):
        return st.fixed_dictionaries(
            {},
            optional={
                "description": st.one_of(st.none(), texts),
                "type": kinds,
                "default": scalars,
                "const": scalars,
                "enum": st.one_of(st.none(), st.lists(scalars, max_size=2)),
                "minimum": st.sampled_from([0, "1", None]),
                "nullable": st.booleans(),
                "optional": st.sampled_from([True, False, "true", "no", 0, "x"]),
                "isRequired": st.sampled_from([True, False, "yes", "x"]),
                "format": texts,
                "properties": objects(children),
                "required": required,
                "items": st.one_of(children, st.booleans(), st.lists(children, max_size=2)),
                "additionalProperties": st.one_of(children, st.booleans()),
                "anyOf": st.lists(st.one_of(children, st.booleans()), max_size=2),
                "allOf": st.lists(children, max_size=2),
                "patternProperties": st.dictionaries(texts, children, max_size=1),
                "x-own": st.dictionaries(texts, scalars, max_size=2),
            },
        )

    return st.recursive(st.fixed_dictionaries({}, optional={"type": kinds}), deeper, max_leaves=4)


@st.composite
def raw_tools(draw):
    """A tool as clients send one, keys in any order."""
    schema = draw(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": objects(schemas())},
            optional={
                "required": required,
                "additionalProperties": st.booleans(),
                "$defs": st.dictionaries(texts, schemas(), max_size=1),
                "description": st.one_of(st.none(), texts),
                "title": texts,
                "anyOf": st.just([{"required": ["a"]}]),
            },
        )
    )
    function = {"name": draw(texts.filter(bool)), "description": draw(st.one_of(st.none(), texts))}
    others = {
        "strict": st.booleans(),
        "required": required,
        "title": texts,
        "x": schemas(),
        "returns": schemas(),
        "inputs": st.sampled_from([{}, [], ["a"], {"a": "int"}, '{"a": {}}', "words", 5]),
        "fields": st.lists(st.fixed_dictionaries({"name": texts, "type": kinds}), max_size=2),
        "args": st.sampled_from([{}, None, {"type": "object", "properties": {}}, {"a": {"type": "string"}}]),
    }
    function |= draw(st.fixed_dictionaries({}, optional=others))
    key = draw(st.sampled_from(["parameters", "parameters", "inputSchema", "input_schema", "arguments"]))
    if draw(st.integers(0, 9)):
        function[key] = dict(draw(st.permutations(list(schema.items()))))
    function = dict(draw(st.permutations(list(function.items()))))
    if draw(st.booleans()):
        return function
    outer = draw(st.fixed_dictionaries({}, optional={"required": required, "parameters": st.just({"a": {}})}))
    return {"type": "function", "function": function, **outer}


@examples(250)
@given(raw_tools())
def test_a_raw_tool_is_served_as_trained(raw):
    for codec, source in SOURCES:
        assert outcome(raw, source) == trained(codec, raw)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(raw_tools())
def test_two_thousand_raw_tools(raw):
    for codec, source in SOURCES:
        assert outcome(raw, source) == trained(codec, raw)


ROWS = {
    "a type the template does not know": {"a": {"type": "Literal[1, 2]"}},
    "a list in place of a parameter": {"a": ["x"]},
}


@pytest.mark.parametrize("properties", ROWS.values(), ids=ROWS)
def test_what_the_template_cannot_read_it_refuses(properties):
    raw = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    for _, source in SOURCES:
        with pytest.raises(jinja2.TemplateError):
            served(source, [raw])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "List[int]",
            "string[]",
            "Array<number>",
            "Dict[str, List[Dict[str, float]]]",
            "List[Any]",
            "file[]",
        ),
        *("Optional[List[str]]", "Set<Map<String, Object>>", "typing.List[bool]", "strings", "ndarray"),
    ],
)
def test_type_names_are_served_as_trained(name):
    properties = {"a": {"description": "x", "type": name, "default": []}, "b": {"items": {"type": name}}}
    raw = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    for codec, source in SOURCES:
        assert served(source, [raw]) == trained(codec, raw)


CITY, COUNT = {"type": "string", "description": "c"}, {"type": "int", "default": 5}
LOOSE = [
    {"city": CITY, "n": COUNT},
    {"city": {**CITY, "required": True}, "n": {"type": "int"}, "m": {"type": "Optional[int]"}},
    {"city": CITY, "n": {"type": "Optional[int]"}, "m": {"type": "list", "optional": True}, "o": None},
    {"city": CITY, "n": {"type": "int"}, "required": ["city"]},
    {"city": "string", "n": "List[int]", "required": "boolean"},
    {"properties": CITY, "type": CITY, "required": {"type": "bool", "required": "no"}},
    [{"name": "city", **CITY, "required": True}, {"name": "n", **COUNT}],
    {"$ref": "#/$defs/P", "$defs": {"P": {"type": "object", "properties": {"a": CITY}, "required": ["a"]}}},
]


@pytest.mark.parametrize("parameters", LOOSE, ids=range(len(LOOSE)))
def test_flat_parameters_are_served_as_trained(parameters):
    for raw in (
        {"name": "f", "parameters": parameters},
        {"name": "f", "args": parameters, "required": ["city"]},
    ):
        for codec, source in SOURCES:
            assert served(source, [raw]) == trained(codec, raw)


FULL = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
BESIDE = [
    {"name": "f", "parameters": {}, "inputSchema": FULL},
    {"name": "f", "parameters": {"type": "object", "properties": {}}, "input_schema": FULL},
    {"name": "f", "parameters": [], "args": FULL["properties"]},
    {"toolSpec": {"name": "f", "inputSchema": {"json": FULL}}},
    {"name": "f", "inputSchema": {"json": {**FULL, "required": ["b"]}}},
    {"type": "function", "function": {"name": "f", "parameters": FULL}, "required": ["a"]},
    {"type": "function", "function": {"name": "f", "description": "d"}, "parameters": FULL},
    {
        "name": "f",
        "parameters": {"a": {"type": "string", "required": 1}, "b": {"type": "string", "required": 0}},
    },
    {"name": "f", "parameters": {"a": {"type": "string", "is_required": True}, "b": {"type": "string"}}},
    {"name": "f", "parameters": {"a": {"type": "string"}, "b": {"type": "string", "optional": "true"}}},
]


@pytest.mark.parametrize("raw", BESIDE, ids=range(len(BESIDE)))
def test_what_stands_beside_an_empty_schema_is_served_as_trained(raw):
    for codec, source in SOURCES:
        assert '"a": ' in trained(codec, raw) and served(source, [raw]) == trained(codec, raw)


NOT_READ = [
    {"name": "f", "parameters": ["a"]},
    {"name": "f", "parameters": '{"a": {"type": "string"}}'},
    {"name": "f", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
    {"name": "f", "schema": {"a": {"type": "string"}}},
    {"name": "f", "schema": '{"type": "object", "properties": {"a": {"type": "string"}}}'},
    {"name": "f", "api_parameters": [{"name": "a", "type": "string"}]},
    {"name": "f", "parameters": {}, "inputs": {"a": "int"}},
    {"name": "f", "parameters": {"type": "object", "properties": {}}, "required_parameters": ["a"]},
    {"type": "function", "function": {"name": "f", "parameters": {}}, "inputs": ["a"]},
    {"name": "f", "parameters": {"a": {"type": "string"}}, "required": '["a"]'},
    {"name": "f", "parameters": {"$ref": "#/$defs/P", "$defs": {"P": {"properties": {"a": {}}}}}},
    {"name": "f", "parameters": {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]}},
]


@pytest.mark.parametrize("raw", NOT_READ)
def test_no_tool_becomes_one_without_parameters(raw):
    for _, source in SOURCES:
        with pytest.raises(jinja2.TemplateError):
            served(source, [raw])


def test_what_holds_no_parameters_is_no_reason_to_refuse_a_tool():
    for key, value in {
        "input_examples": [{"a": 1}],
        "tags": ["x"],
        "inputs": {},
        "outputSchema": FULL,
    }.items():
        raw = {"name": "f", "parameters": {"type": "object", "properties": {}}, key: value}
        for codec, source in SOURCES:
            assert served(source, [raw]) == trained(codec, raw) is not None


def published_tools():
    folder = os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data")
    path = Path(folder, "mcp_servers", "servers.jsonl.gz")
    if not path.exists():
        pytest.skip(f"public data folder not found: {path}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [tool for line in lines for tool in json.loads(line)["tools"]]


def differing(tools):
    """Those that are served in another way than trained, and the number of refused ones."""
    found, refused = [], set()
    for tool in tools:
        for codec, source in SOURCES:
            text = outcome(tool, source)
            if text != trained(codec, tool):
                found.append(tool["name"])
            if text is None:
                refused.add(json.dumps(tool))
    return found, len(refused)


def test_published_tools_are_served_as_trained():
    """Every fortieth of 5,734 tools of MCP servers as `tools/list` gave them; the slow test has them all."""
    assert differing(published_tools()[::40]) == ([], 1)


@pytest.mark.slow
def test_all_published_tools_are_served_as_trained():
    tools = published_tools()
    assert len(tools) == 5734
    # Six have a list in place of a parameter, a server's own mistake.
    assert differing(tools) == ([], 6)
