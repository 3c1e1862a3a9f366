"""The textual call formats against other readers of their languages, and texts as models write them."""

# ruff: noqa: E501 - tables of texts as they are written

import ast
import json
import keyword
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import case
from tests.examples import examples
from xlam_jax.format import CALL_FORMATS, Answer, ParseError, ToolCall, call_formats
from xlam_jax.format.call_formats.python_literals import KEYWORDS
from xlam_jax.format.templates import jinja_source

FORMATS = CALL_FORMATS
STOP = "<|im_end|>"

# What every language here can hold: printable text, 64-bit integers, floats without exponents, no null.
printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]), max_size=15)
text = st.one_of(
    printable, st.sampled_from(["yes", "null", "1", "2024-01-01", 'a "b"\n\tc\\', "<a> & 'b'", "#x"])
)
scalar = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.sampled_from([0.5, -2.25, 1.0, 100000.125]), text
)
value = st.recursive(
    scalar, lambda v: st.lists(v, max_size=3) | st.dictionaries(text, v, max_size=3), max_leaves=6
)
names = st.from_regex(r"[a-z_][A-Za-z0-9_]{0,9}", fullmatch=True).map(
    lambda n: n + "_" if keyword.iskeyword(n) else n
)
keys = st.one_of(names, text.filter(bool))
calls = st.lists(st.builds(ToolCall, names, st.dictionaries(keys, value, max_size=4)), max_size=3).map(tuple)
many = examples(60)


def plain(calls):
    return [[call.name, call.arguments] for call in calls]


def rendered(name, calls, thought=None):
    return FORMATS[name].render(calls, thought).text


@many
@given(calls, text)
def test_yaml_as_pyyaml_reads_it(calls, thought):
    document = yaml.safe_load(rendered("yaml", calls, thought))
    assert [[c["name"], c["arguments"]] for c in document["tool_calls"]] == plain(calls)
    assert document.get("thought", "") == thought


@many
@given(calls, text)
def test_toml_as_tomllib_reads_it(calls, thought):
    document = tomllib.loads(rendered("toml", calls, thought))
    assert [[c["name"], c["arguments"]] for c in document["tool_calls"]] == plain(calls)
    assert document.get("thought", "") == thought


@many
@given(calls, text)
def test_xml_as_elementtree_reads_it(calls, thought):
    def read(text, kind):
        return json.loads(text) if kind == "json" else text or ""

    root = ET.fromstring(rendered("xml-elements", calls, thought))
    assert plain(calls) == [
        [
            call.findtext("name"),
            {
                a.findtext("name"): read(a.findtext("value"), a.find("value").get("type"))
                for a in call.find("arguments")
            },
        ]
        for call in root.findall("tool_call")
    ]
    assert (root.findtext("thought") or "") == thought
    root = ET.fromstring(rendered("xml-attributes", calls, thought))
    assert plain(calls) == [
        [call.get("name"), {a.get("name"): read(a.get("value"), a.get("type")) for a in call}]
        for call in root.findall("call")
    ]


def by_ast(node):
    """Name and arguments by Python's own parser."""
    arguments = {}
    for item in node.keywords:
        read = ast.literal_eval(item.value)
        arguments.update({item.arg: read} if item.arg else read)
    name = ast.literal_eval(node.args[0]) if node.args else ast.unparse(node.func)
    return [name, arguments]


@many
@given(calls, text.filter(lambda t: "\r" not in t))
def test_python_as_python_reads_it(calls, thought):
    body = ast.parse(rendered("python-calls", calls, thought)).body
    assert [by_ast(node.value) for node in body if isinstance(node, ast.Expr)] == plain(calls)
    if calls or not thought:
        source = ast.parse(rendered("python-list", calls, thought), mode="eval")
        assert [by_ast(node) for node in source.body.elts] == plain(calls)


def test_python_names():
    odd = (
        ToolCall("Get Weather", {"class": 1, "a b": None, "x": True}),
        ToolCall("a.b", {}),
        ToolCall("a.if", {}),
    )
    text = rendered("python-calls", odd)
    assert text == 'call("Get Weather", **{"class": 1}, **{"a b": None}, x=True)\na.b()\ncall("a.if")'
    assert [by_ast(n.value) for n in ast.parse(text).body] == plain(odd)


def test_keywords_in_python_and_jinja_agree():
    source = jinja_source("python-values")
    listed = source.split("python_keywords = ")[1].split(" -%}")[0]
    assert set(ast.literal_eval(listed)) == KEYWORDS == {*keyword.kwlist, "__debug__"}


EXACT = {
    "python-calls": '# why\nget_weather(city="Oslo", days=3)\nnow()',
    "python-list": '# why\n[get_weather(city="Oslo", days=3), now()]',
    "xml-elements": "<tool_calls>\n<thought>why</thought>\n<tool_call>\n<name>get_weather</name>\n<arguments>\n"
    "<argument><name>city</name><value>Oslo</value></argument>\n"
    '<argument><name>days</name><value type="json">3</value></argument>\n'
    "</arguments>\n</tool_call>\n<tool_call>\n<name>now</name>\n<arguments>\n</arguments>\n</tool_call>\n"
    "</tool_calls>",
    "xml-attributes": '<calls>\n<thought>why</thought>\n<call name="get_weather">\n<arg name="city" value="Oslo"/>'
    '\n<arg name="days" type="json" value="3"/>\n</call>\n<call name="now">\n</call>\n</calls>',
    "yaml": 'thought: "why"\ntool_calls:\n- name: get_weather\n  arguments:\n    city: "Oslo"\n    days: 3\n'
    "- name: now\n  arguments: {}\n...",
    "toml": 'thought = "why"\n[[tool_calls]]\nname = "get_weather"\n[tool_calls.arguments]\ncity = "Oslo"\ndays = 3\n'
    '[[tool_calls]]\nname = "now"\n[tool_calls.arguments]\n# end',
    "react": 'Thought: why\nAction: get_weather\nAction Input: {"city": "Oslo", "days": 3}\n'
    "Action: now\nAction Input: {}",
    "key-value": 'thought: why\ncall: get_weather\n  city = "Oslo"\n  days = 3\nend\ncall: now\nend',
}
NONE = {
    "python-calls": "# so\npass", "python-list": "so", "yaml": 'thought: "so"\ntool_calls: []\n...',
    "xml-elements": "<tool_calls>\n<thought>so</thought>\n</tool_calls>", "key-value": "thought: so\nno calls",
    "xml-attributes": "<calls>\n<thought>so</thought>\n</calls>", "react": "Final Answer: so",
    "toml": 'thought = "so"\ntool_calls = []',
}  # fmt: skip
OSLO = (ToolCall("get_weather", {"city": "Oslo", "days": 3}), ToolCall("now", {}))


@pytest.mark.parametrize("name", sorted(EXACT))
def test_exact_texts(name):
    assert rendered(name, OSLO, "why") == EXACT[name]
    assert rendered(name, (), "so") == NONE[name]


F = ToolCall("f", {"a": "x", "b": 1})
WRITTEN = [
    ("python-calls", "f(a='x', b=1)", "", (F,)),
    ("python-calls", "\n# first\n\nf(\n  a='x',\n  b=1,\n)\n# then\n\nf(a=\"x\",b=1) # ok\n", "first\nthen", (F, F)),
    ("python-calls", 'f(a="""x""", b=1)', "", (F,)),
    ("python-calls", "f(a=true, b=(1, -2.5), c={'k': None}, from='a,b)')", "",
     (ToolCall("f", {"a": True, "b": [1, -2.5], "c": {"k": None}, "from": "a,b)"}),)),
    ("python-list", " [ f(a='x', b=1) , f(b = 1) ]", "", (F, ToolCall("f", {"b": 1}))),
    ("python-list", "[Get Trend(a=1), market/v2/get-all()]", "",
     (ToolCall("Get Trend", {"a": 1}), ToolCall("market/v2/get-all", {}))),
    ("python-list", "No tool fits.\nSorry (really).", "No tool fits.\nSorry (really).", ()),
    ("python-list", "\\[1] says so", "[1] says so", ()),
    ("xml-elements", "<tool_calls> <tool_call><name>f</name><arguments><argument><name>a</name><value>x</value>"
     "</argument><argument><name>b</name><value type='json'> 1 </value></argument></arguments></tool_call>"
     "</tool_calls>", "", (F,)),
    ("xml-elements", '<?xml version="1.0"?>\n<tool_calls><tool_call><name>A&amp;T & co</name><arguments/></tool_call>'
     "</tool_calls>", "", (ToolCall("A&T & co", {}),)),
    ("xml-attributes", "<calls><call name='f'><arg value='x' name='a' /><arg name='b' value='1' type='json'></arg>"
     "</call><call name=\"g\"/></calls>", "", (F, ToolCall("g", {}))),
    ("yaml", "thought: I look\n  it up\ntool_calls:\n  - name: f\n    arguments:\n      a: x\n      b: 1\n...\n",
     "I look it up", (F,)),
    ("yaml", "```yaml\ntool_calls:\n- arguments: {a: x, b: 1}\n  name: f\n```", "", (F,)),
    ("yaml", "- name: f\n  arguments:\n    a: no\n    d: 2024-01-01\n    t: 12:30\n    z: 007\n    n: ~\n"
     "    l:\n      - 1.5\n      - Yes\n    s: |\n      one\n      two\n...", "",
     (ToolCall("f", {"a": "no", "d": "2024-01-01", "t": "12:30", "z": "007", "n": None, "l": [1.5, "Yes"],
                     "s": "one\ntwo"}),)),
    ("toml", "thought = '''why'''\n\n[[tool_calls]]\nname='f'\narguments = {a = 'x', b = 1}\n\n# end\n", "why", (F,)),
    ("toml", "```toml\n[[tool_calls]]\nname = \"f\"\n\n[tool_calls.arguments]\na = \"x\"\nb = 0x01\n```", "", (F,)),
    ("react", 'I look.\nAction: f\nAction Input: {\n  "a": "x",\n  "b": 1\n}\nObservation: 3', "I look.", (F,)),
    ("react", 'Thought: a\nAction: f\nAction Input: {"a": "x", "b": 1}\nThought: b\nAction: g\nAction Input:\n{}',
     "a\nb", (F, ToolCall("g", {}))),
    ("react", "Thought: I know\nFinal Answer: 42", "42", ()),
    ("react", "It is 42.", "It is 42.", ()),
    ("key-value", "call:f\n\ta=\"x\"\n\n  b  =  1\ncall: g\nend\n", "", (F, ToolCall("g", {}))),
    ("key-value", 'call: f\na = "x"\nb = 1\nend', "", (F,)),
    ("key-value", "thought: a\n  b\n\nno calls\n", "a\nb", ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "thought", "calls"), WRITTEN)
def test_as_models_write_it(name, text, thought, calls):
    answer = FORMATS[name].parse(text + STOP, STOP)
    assert answer == Answer(thought, calls)
    assert json.dumps(plain(answer.tool_calls)) == json.dumps(plain(calls))


AMID_WORDS = [
    ("python-calls", "I look it up:\nf(a='x', b=1)", "I look it up:", (F,)),
    ("python-calls", "I will call f(a=1)", "I will call f(a=1)", ()),
    ("python-calls", "passing on (twice)", "passing on (twice)", ()),
    ("python-list", "[f(a='x', b=1)] and more", "and more", (F,)),
    ("python-list", "<think>[f()]</think>[f(a='x', b=1)]", "<think>[f()]</think>", (F,)),
    ("xml-elements", "Sure: <tool_calls></tool_calls>\nDone. ", "Sure:\nDone.", ()),
    ("yaml", "Sure:\n\ntool_calls:\n- name: f\n  arguments: {a: x, b: 1}\n...\nDone.", "Sure:\nDone.", (F,)),
    ("toml", "Sure:\n```toml\n[[tool_calls]]\nname = 'f'\narguments = {a = 'x', b = 1}\n# end\n```", "Sure:", (F,)),
    ("react", "Action: f\nAction Input: {\"a\": \"x\", \"b\": 1}\nand so on", "and so on", (F,)),
    ("key-value", "Sure.\ncall: f\n  a = \"x\"\n  b = 1\nend\nso", "Sure.\nso", (F,)),
    ("json-lines", 'Sure: {"name": "f", "arguments": {"a": "x", "b": 1}} so', "Sure:\nso", (F,)),
    ("openai", '<think>{"content": "no"}</think> {"content": "Hm"}', '<think>{"content": "no"}</think>\nHm', ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "thought", "calls"), AMID_WORDS)
def test_words_around_calls(name, text, thought, calls):
    assert FORMATS[name].parse(text, STOP) == Answer(thought, calls)


REFUSED = [
    ("python-calls", ["f(a=1, a=2)", "f(1)", "f(a=b)", "f(a=1e400)", "f(a={1: 2})", "f(a={'k': 1, 'k': 2})", "f(a=1",
     "f(a=__import__('os'))", "f(a=1).b()", "f(a=1); g()", "f(a=f'{x}')", "f(a=b'x')", "f(a=1j)", "f(a=...)", "",
     "f()\npass", "f(a=1 if 1 else 2)", "f(a=)", "f(**1)", "f(*[1])", 'call("a", "b")',
     "f(a=" + "[" * 5000 + ")", "f(a=" + "[" * 70 + "]" * 70 + ")", "f(a=" + "-" * 5000 + "1)", "f(a={1})"]),
    ("python-list", ["[f(a=1)", "[f(a=1) g()]", "[1, 2]", "['f(a=1)']", "[f(a=[1)]]"]),
    ("xml-elements", ["<tool_calls>", "<calls></calls>", "<tool_calls>f</tool_calls>",
     "<tool_calls><tool_call></tool_call></tool_calls>", "",
     '<tool_calls><tool_call><name>f</name><arguments><argument><name>a</name><value type="json">1e400</value>'
     "</argument></arguments></tool_call></tool_calls>",
     "<tool_calls><tool_call><name>&#1114112;</name><arguments/></tool_call></tool_calls>",
     "<!DOCTYPE a [<!ENTITY b 'c'>]><tool_calls></tool_calls>"]),
    ("xml-attributes", ['<calls><call name="f"><arg name="a" value="1"/><arg name="a" value="2"/></call></calls>',
     '<calls><call name=""></call></calls>', "<calls><call/></calls>", '<calls><call name="f" name="g"/></calls>',
     '<calls><call name="f"><arg name="a"/></call></calls>', '<calls><call name="f"></calls>']),
    ("yaml", ["tool_calls:\n- name: f\n  arguments: {}", "tool_calls: []\n", "...", "",
     "- name: f\n  arguments: {a: .inf}\n...", "- name: f\n  arguments: {a: 1e400}\n...",
     "- name: f\n  arguments: &a {x: 1}\n- name: g\n  arguments: *a\n...", "- name: f\n  arguments: {a: !!set {b}}\n...",
     "- name: f\n  arguments: {a: 1, a: 2}\n...", "- name: f\n  arguments: [1]\n...", "- name: 1\n  arguments: {}\n...",
     "- name: f\n  arguments: {<<: {a: 1}}\n...", "- name: f\n  arguments:\n    a: " + "[" * 5000 + "\n...",
     "- name: f\n  args: {}\n..."]),
    ("toml", ['[[tool_calls]]\nname = "f"', "tool_calls = [1]", "", "# end", '[[tool_calls]]\nname = "f"\nx = 1\n# end',
     '[[tool_calls]]\nname = "f"\n[tool_calls.arguments]\na = 1e400\n# end',
     '[[tool_calls]]\nname = "f"\n[tool_calls.arguments]\na = 2024-01-01\n# end',
     '[[tool_calls]]\nname = "f"\n[tool_calls.arguments]\na = -inf\n# end',
     '[[tool_calls]]\nname = "f"\n[tool_calls.arguments]\na = 1\na = 2\n# end',
     '[[tool_calls]]\nname = "f"\n[tool_calls.arguments]\na = ' + "9" * 5000 + "\n# end",
     '[[tool_calls]]\nname = "f"\n[tool_calls.arguments]\na = ' + "[" * 5000 + "\n# end"]),
    ("react", ["Action: f", "Action: f\nAction Input: {", "Action: f\nAction Input: [1]", "Thought: hm", "", 'Action: f\nAction Input: {"a": 1e400}', "Action:\nAction Input: {}"]),
    ("key-value", ["call: f\n  a = 1", "call: f\n  a = x\nend", "call: f\n  a = 1\n  a = 2\nend", "",
     "call: f\n  a = 1e400\nend", "call:\nend"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "texts"), REFUSED, ids=[name for name, _ in REFUSED])
def test_refused(name, texts):
    for text in texts:
        with case(text), pytest.raises(ParseError):
            FORMATS[name].parse(text, STOP)


def test_thoughts_that_look_like_calls_and_stay_readable():
    """Escapes are minimal: ordinary text is written as it is, and marks get one backslash."""
    react = FORMATS["react"]
    shown = react.render(OSLO, "Action: I act.\nA plan\nAction: f\nAction Input: {}\n\\Action: g").text
    assert shown.startswith(
        "Thought: Action: I act.\nA plan\n\\Action: f\nAction Input: {}\n\\\\Action: g\nAction: get"
    )
    reply = "Well [1], (see f(a=1)) # no"
    assert FORMATS["python-list"].render((), reply).text == reply
    assert FORMATS["python-list"].render((), f"{reply}\n[f(a=1)]").text == f"\\{reply}\n[f(a=1)]"


def test_modules_import_the_standard_library_and_the_format_only():
    """So that a plug-in for a server can be made of their source."""
    for path in Path(call_formats.__file__).parent.glob("*.py"):
        if path.stem == "schema":  # for grammars only, which a plug-in has none of
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module.startswith("xlam_jax"):
                assert node.module.startswith(
                    (
                        "xlam_jax.format.call_formats.",
                        "xlam_jax.format.values",
                        "xlam_jax.format.templates",
                        "xlam_jax.format.call_keys",
                    )
                ) or (node.module == "xlam_jax.errors")
            elif isinstance(node, ast.Import):
                assert all(alias.name != "yaml" for alias in node.names)  # only where the text needs it
