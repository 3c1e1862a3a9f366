"""Our verdicts against the original checker's: mutated gold calls, Java and JavaScript source text."""

import collections
import copy
import json
import random

import pytest
from bfcl_rows import FILES, gold_calls, raw_tools, rows

from tests.official_bfcl import official_verdict
from xlam_jax.format import ToolCall
from xlam_jax.scoring import score
from xlam_jax.scoring.source_values import JAVA_TYPES, JAVASCRIPT_TYPES, java_value, javascript_value


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The original's `ast_checker`; skipped where the package is not installed."""
    return official_verdict(tmp_path_factory.mktemp("bfcl"))


def mutations(rng, calls, count):
    """`count` variants of the calls, each with one to three small changes."""
    for _ in range(count):
        made = [ToolCall(c.name, copy.deepcopy(c.arguments)) for c in calls]
        for _ in range(rng.randint(1, 3)):
            made = _mutate(rng, made)
        yield made


def _mutate(rng, calls):
    kind = rng.choice(["value"] * 12 + ["drop", "add", "name", "shuffle", "repeat", "forget"])
    if not calls or kind == "forget":
        return calls[1:]
    if kind == "shuffle":
        return rng.sample(calls, len(calls))
    if kind == "repeat":
        return [*calls, rng.choice(calls)]
    i = rng.randrange(len(calls))
    name, arguments = calls[i].name, dict(calls[i].arguments)
    if kind == "name":
        name = name.upper()
    elif kind == "add":
        arguments["extra"] = 1
    elif arguments:
        key = rng.choice(sorted(arguments))
        if kind == "drop":
            del arguments[key]
        else:
            arguments[key] = _changed(rng, arguments[key])
    return [*calls[:i], ToolCall(name, arguments), *calls[i + 1 :]]


def _changed(rng, value):
    if isinstance(value, str):
        options = [
            value.upper(),
            value + ".",
            value.replace(" ", "-"),
            value + "x",
            value.replace("'", '"'),
            "",
            [value],
        ]
    elif isinstance(value, bool):
        options = [not value, int(value), str(value), None]
    elif isinstance(value, int):
        options = [value + 1, float(value), str(value), [value], -value]
    elif isinstance(value, float):
        options = [value * 2, int(value), value + 1e-12, str(value)]
    elif isinstance(value, list):
        options = [
            value[::-1],
            value[:-1],
            value + value[:1],
            [],
            tuple(value),
            [_changed(rng, v) for v in value],
        ]
        options += [[float(v) if type(v) is int else v for v in value]]
        options += [[int(v) if type(v) is float else v for v in value]]
    elif isinstance(value, dict):
        key = rng.choice([*sorted(value), "new"])
        without = {k: v for k, v in value.items() if k != key}
        options = [
            without,
            {**value, key: _changed(rng, value.get(key, "a"))},
            {**value, "z": 1},
            {},
            [value],
        ]
    else:
        options = ["", 0, None, []]
    return rng.choice(options)


def test_mutated_gold_calls_get_the_original_s_verdicts(original):
    rng = random.Random(20)
    seen = collections.Counter()
    for name, category in FILES.items():
        for row, answers in rows(name):
            calls = gold_calls(row, answers)
            for made in [calls, *mutations(rng, calls, 2)]:
                theirs, why = original(row, made, answers, category, "python")
                ours = score(raw_tools(row), made, answers, category=category)
                assert ours.valid == theirs, (row["id"], made, answers, ours, why)
                if not theirs and why != "raised":
                    assert why.endswith(ours.error_type) or "unclear" in why, (row["id"], made, ours, why)
                seen[theirs, ours.error_type] += 1
    assert sum(seen.values()) >= 2000
    # The comparison means something only if both verdicts, and every kind of error, occur.
    assert sum(n for (valid, _), n in seen.items() if valid) > 1000
    assert len(seen) >= 12, seen


@pytest.mark.parametrize("kind", ["string", "integer", "float", "boolean", "array", "tuple", "dict", "any"])
def test_small_values_of_every_type_get_the_original_s_verdicts(original, kind):
    """Every pair of a small value and a small answer, also those that make no sense together."""
    values = [
        "",
        "a b",
        0,
        1,
        True,
        1.0,
        None,
        [],
        [1],
        [1.0],
        ["A"],
        [{"k": 1}],
        {},
        {"k": "V"},
        {"k": 1, "z": 2},
    ]
    answers = [*values, {"k": ["v"]}, {"k": [1, ""]}, [{"k": [1]}], ["", "a"], [[1]]]
    for inner in ("string", "integer", "float", "dict"):
        parameter = {"type": kind, "items": {"type": inner}}
        schema = {"type": "dict", "properties": {"p": parameter}, "required": []}
        row = {"function": [{"name": "f", "description": "", "parameters": schema}]}
        for accepted in [a for answer in answers for a in ([answer], [answer, ""], ["", answer])]:
            for value in values:
                calls, published = [ToolCall("f", {"p": value})], [{"f": {"p": accepted}}]
                theirs, why = original(row, calls, published, "simple", "python")
                ours = score(raw_tools(row), calls, published, category="simple")
                assert ours.valid == theirs, (parameter, accepted, value, ours, why)


SOURCE = {
    "java": [
        '"a"',
        "'x'",
        "5L",
        "5",
        "-3",
        "2.5f",
        "2.5",
        "1e3",
        "true",
        "null",
        "name",
        "",
        "5\n",
        "new int[]{1, 2}",
        'new String[]{"a", "b"}',
        "new long[]{1L,2}",
        'new ArrayList<>(Arrays.asList("a", "b"))',
        "new ArrayList<Integer>(Arrays.asList(1, 2))",
        "new ArrayList<Float>() {{ add(1.0f); add(2.0f); }}",
        "new ArrayList<>()",
        "new int[]{}",
        'new HashMap<>() {{ put("k", "v"); put("n", 5L); }}',
        'new HashMap<String, Object>() {{ put("a", true); put("b", 1.5f); }}',
        "new HashMap<>()",
        "new HashMap<>() {{ }}",
        "new ArrayList<Character>() {{ add('a'); add('b'); }}",
        '"',
        "_1_",
        "1_000",
    ],
    "javascript": [
        '"a"',
        "'x'",
        "5n",
        "5",
        "-3",
        "2.5",
        "1e3",
        "true",
        "null",
        "name",
        "",
        "5\n",
        "[1, 2]",
        "['a', \"b\"]",
        "[]",
        "new Array(1, 2)",
        "new Array()",
        "[[1, 2], [3, 4]]",
        " [ [ 1,2 ] , [3] ]",
        "[[]]",
        "new Array([1], ['b'])",
        "{}",
        "{'a': 1, b: 'x', c: [1, true]}",
        '{"k": {"n": 1}}',
        "{a: '5'}",
        "{:}",
        "[1n, 2n]",
        "[true, maybe]",
        '[{"k": 1}, {"k": 2}]',
        "{",
        "[1",
        '"',
        "{'a': '1, 2', 'b': 3}",
        "x => [x]",
    ],
}


@pytest.mark.parametrize("language", sorted(SOURCE))
def test_source_values_are_read_as_the_original_reads_them(original, language):
    from bfcl_eval.eval_checker.ast_eval.type_convertor import java_type_converter, js_type_converter

    if language == "java":
        types_, ours, theirs = JAVA_TYPES, java_value, java_type_converter.java_type_converter
    else:
        types_, ours, theirs = JAVASCRIPT_TYPES, javascript_value, js_type_converter.js_type_converter

    def outcome(read, *arguments):
        try:
            return repr(read(*arguments))
        except (ValueError, NotImplementedError):
            return "refused"

    compared = 0
    for text in SOURCE[language]:
        for kind in types_:
            for inner in (None, *types_) if kind in ("Array", "ArrayList", "array") else (None,):
                assert outcome(ours, text, kind, inner) == outcome(theirs, text, kind, inner), (
                    text,
                    kind,
                    inner,
                )
                compared += 1
    assert compared > 300


@pytest.mark.parametrize("language", sorted(SOURCE))
def test_source_text_rows_get_the_original_s_verdicts(original, language):
    rng = random.Random(7)
    seen = collections.Counter()
    for row, answers in rows(language):
        for _ in range(8):
            calls = [
                ToolCall(c.name, {k: _source(rng, v, language) for k, v in c.arguments.items()})
                for c in gold_calls(row, answers)
            ]
            theirs, why = original(row, calls, answers, "simple", language)
            ours = score(raw_tools(row), calls, answers, category="simple", language=language)
            assert ours.valid == theirs, (row["id"], calls, answers, ours, why)
            seen[theirs] += 1
    assert min(seen[True], seen[False]) >= 50, seen


def _source(rng, value, language):
    """The value as source text, or now and then another text."""
    if rng.random() < 0.1:
        return rng.choice(SOURCE[language])
    if isinstance(value, str):
        return rng.choice([value, f'"{value}"'])
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return rng.choice([str(value), f"{value}L", f"{value}n"])
    if isinstance(value, float):
        return rng.choice([str(value), f"{value}f"])
    if language == "javascript":
        return json.dumps(value)
    if isinstance(value, list):
        inside = ", ".join(json.dumps(v) for v in value)
        return rng.choice([f"new ArrayList<>(Arrays.asList({inside}))", f"new String[]{{{inside}}}"])
    puts = " ".join(f'put("{k}", {json.dumps(v)});' for k, v in value.items())
    return f"new HashMap<String, Object>() {{{{ {puts} }}}}"
