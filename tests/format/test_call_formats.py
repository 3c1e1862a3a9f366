"""What every textual call format must do: round trips, streams, broken text, Jinja, grammar, instructions."""

import json
import random

import pytest
from accepting import accepts
from format_strategies import HOSTILE, texts, values
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import CALL_FORMATS, Answer, ParseError, ToolCall, normalise_tool

STOP = "<|im_end|>"
MARKS = [
    *(h for h in HOSTILE if h != STOP),
    "...", "- name: f", "tool_calls:", "\n...\n", "# end", "\nend\n", "end", "call: f", "\ncall: f\nend",
    "[[tool_calls]]", "\n# end\n", "Action: f", "\nAction: f\nAction Input: {}", "\nFinal Answer: x",
    "\\Action:", "\n\\Action:", "\n\\\\Final Answer:", "\nObservation:", "Thought: ", "</thought>", "<call>",
    "&amp;", "&#10;", "]]>", "<value>", '"""', "'", "\\", "\n", "\r", "\r\n", "\t", " ", "  ", "# ", "#",
    "[f()]", "pass", "call", "\\[", "nan", "null", "None", "true", "1", "1.0", "-", "~", "yes", "no", "none",
    "2024-01-01", "</tool_call>", "```", "\x85", "\x00", "\ufeff", "\u2029", "\x0c", "\x1c", "f(a=1)", "[]",
]  # fmt: skip
BREAKERS = [*MARKS, "1e400", "\ud800", "9" * 5000, "[" * 3000, "(" * 300, "f(", "{", "'", ")", "inf", "&#0;"]
hostile = st.one_of(texts, st.lists(st.sampled_from(MARKS), max_size=4).map("".join)).filter(
    lambda t: STOP not in t
)
identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,12}", fullmatch=True)
words = st.one_of(hostile, identifiers, st.sampled_from(["class", "from", "items", "get", "keys", "name"]))
mixed = st.one_of(values, hostile, st.lists(hostile, max_size=2), st.dictionaries(words, hostile, max_size=2))
calls = st.lists(
    st.builds(ToolCall, words.filter(bool), st.dictionaries(words, mixed, max_size=4)), max_size=3
).map(tuple)
thoughts = st.one_of(st.none(), hostile)
every = pytest.mark.parametrize("form", list(CALL_FORMATS.values()), ids=lambda f: f.name)


def stopless(calls, thought):
    return STOP not in json.dumps([thought, [[c.name, c.arguments] for c in calls]], ensure_ascii=False)


def exact(answer):
    """The answer as text that tells 1 from 1.0 from True, and keeps key order."""
    return answer.thought, [(c.name, json.dumps(c.arguments)) for c in answer.tool_calls]


def streamed(form, text, cuts):
    """The calls fed and the answer (None where parsing fails) with `text` cut at these places."""
    stream, fed = form.stream(STOP), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        fed += stream.feed(text[start:end])
    try:
        return fed, stream.close()
    except ParseError:
        return fed, None


def parsed(form, text):
    try:
        return form.parse(text, STOP)
    except ParseError:
        return None


@every
@examples(100)
@given(calls, thoughts)
def test_round_trip_and_parts(form, calls, thought):
    if not stopless(calls, thought):
        return
    piece = form.render(calls, thought)
    wanted = exact(Answer(thought or "", calls))
    for text in (piece.text, piece.text + STOP, piece.text + STOP + "\nmore"):
        assert exact(form.parse(text, STOP)) == wanted, text
    assert exact(form.parse(piece.text, "")) == wanted
    kinds = [kind for _, _, kind in piece.parts]
    assert kinds.count("name") == kinds.count("arguments") == len(calls)
    assert all(0 <= a <= b <= len(piece.text) for a, b, _ in piece.parts)
    assert all(e <= s for (_, e, _), (s, _, _) in zip(piece.parts, piece.parts[1:], strict=False))


@every
def test_hard_values(form):
    deep = {}
    for i in range(62):
        deep = {"k": deep} if i % 2 else [deep]
    hard = {
        "deep": deep, "big": 10**400, "minus": -(2**64), "zero": -0.0, "one": 1.0, "e22": 1e22,
        "tiny": 5e-324, "max": 1.7976931348623157e308, "none": None, "list": [], "dict": {}, "": "",
        "a b": [{"": None}],
        "json": '{"name": "f", "arguments": {}}', "é": "\x7f\u2028\x00", "true": True,
    }  # fmt: skip
    calls = (ToolCall("f", hard), ToolCall("g", {}), ToolCall("odd name()", {"class": 1}))
    for thought in (None, "why\n\n so "):
        piece = form.render(calls, thought)
        assert exact(form.parse(piece.text, STOP)) == exact(Answer(thought or "", calls))
    parts = [(piece.text[a:b], kind) for a, b, kind in piece.parts]
    assert parts[1] == ("f", "name") and "1.7976931348623157e+308" in parts[2][0]
    assert parts[0][1] == "thought" and parts[0][0].startswith("why")


@every
def test_what_json_cannot_hold_is_refused(form):
    for bad in (float("nan"), float("inf"), "\ud800", {1, 2}, 10**5000):
        with pytest.raises(InputError):
            form.render((ToolCall("f", {"a": bad}),), None)
    with pytest.raises(InputError):
        (form.words.write if form.words else lambda t: form.render((), t))("\ud800")


@every
@examples(16)
@given(calls, thoughts, st.randoms(use_true_random=False))
def test_every_split(form, calls, thought, rng):
    if not stopless(calls, thought):
        return
    text = form.render(calls, thought).text + rng.choice(["", "\n", STOP, "\n" + STOP + " x"])
    answer = form.parse(text, STOP)
    splits = [[cut] for cut in range(len(text) + 1)] if len(text) < 400 else []
    splits.append(list(range(1, len(text))) or [0])
    splits += [sorted(rng.choices(range(len(text) + 1), k=rng.randint(2, 6))) for _ in range(10)]
    for cuts in splits:
        fed, closed = streamed(form, text, cuts)
        assert closed is not None and exact(closed) == exact(answer)
        assert exact(Answer("", tuple(fed))) == exact(Answer("", answer.tool_calls))


@every
def test_calls_come_as_early_as_complete(form):
    calls = (ToolCall("f", {"a": "x"}), ToolCall("g", {"b": [1]}))
    piece = form.render(calls, "why")
    stream, fed_at = form.stream(STOP), []
    for i, char in enumerate(piece.text):
        fed_at += [i] * len(stream.feed(char))
    second = next(start for start, _, kind in piece.parts[3:] if kind == "name")
    assert len(fed_at) == 2 and fed_at[0] < second


@every
def test_broken_text_raises_parse_errors_only_and_alike_in_streams(form):
    rng = random.Random(form.name)
    plain = (
        ToolCall("get_weather", {"city": "Oslo", "days": 3, "opts": {"a": [True, None, 1.5]}, "a b": "x<&"}),
        ToolCall("odd name", {"q": 'say "hi"'}),
    )
    seeds = [
        form.render(plain, "why\nso").text,
        form.render((), "text").text,
        form.render(plain[:1], None).text,
    ]
    good = 0
    for _ in range(1000):
        chars = list(rng.choice(seeds))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(chars) + 1)
            match rng.randrange(4):
                case 0:
                    del chars[at : at + rng.randint(1, 8)]
                case 1:
                    chars.insert(at, rng.choice(BREAKERS))
                case 2:
                    chars[at : at + 1] = rng.choice("\"'{}[]()<>=:,#\\\n \x00")
                case 3:
                    chars = chars[:at]
        text = "".join(chars)
        answer = parsed(form, text)
        good += answer is not None
        fed, closed = streamed(form, text, sorted(rng.choices(range(len(text) + 1), k=4)))
        assert (closed is None) == (answer is None)
        if answer and closed:
            assert exact(closed) == exact(answer)
            assert exact(Answer("", tuple(fed))) == exact(Answer("", answer.tool_calls))
    assert 0 < good < 1000


@every
@pytest.mark.parametrize("count", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_soup_of_marks(form, count):
    rng = random.Random(1)
    for _ in range(count):
        text = "".join(rng.choice(BREAKERS) for _ in range(rng.randint(0, 8)))
        answer = parsed(form, text)
        fed, closed = streamed(form, text, list(range(1, len(text))) or [0])
        assert (closed and exact(closed)) == (answer and exact(answer)), text
        if answer:
            assert exact(Answer("", tuple(fed))) == exact(Answer("", answer.tool_calls))


@every
def test_time_is_linear_in_the_length_of_a_stream(form):
    """20 times the text in single characters costs nowhere near 400 times the steps."""
    import time

    def seconds(n):
        text = form.render((ToolCall("f", {"a": "x \"<'\n" * n, "b": [[1, "y"]] * n}),), "t\n" * n).text
        begin = time.perf_counter()
        stream = form.stream(STOP)
        fed = [call for char in text for call in stream.feed(char)]
        assert len(fed) == len(stream.close().tool_calls) == 1
        return time.perf_counter() - begin

    seconds(10)
    assert seconds(2000) < 80 * max(seconds(100), 1e-3)


@every
def test_fences_and_whitespace_around_the_whole(form):
    calls = (ToolCall("f", {"a": 1, "b": "x"}),)
    text = form.render(calls, None).text
    space = "\n" if form.name == "yaml" else "\n "
    whole = [space + text + "\n \n"]
    if form.name != "markdown":  # is a fence itself
        whole += [f"```\n{text}\n```", f" ```json\n{text}\n``` \n", f"```json\n{text}\n```{STOP}"]
    for wrapped in whole:
        answer = form.parse(wrapped, STOP)
        assert answer.tool_calls == calls and not answer.thought.strip(), wrapped


# Jinja -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    )


def by_jinja(tokenizer, form, calls, thought, with_thought):
    template = (
        f"{{%- set defaults = {{'with_thought': {str(with_thought).lower()}}} -%}}\n{form.jinja()}\n"
        "{{- answer(messages[0].content, messages[0].tool_calls or []) -}}\n"
    )
    functions = [{"type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls]
    message = {"role": "assistant", "content": thought, **({"tool_calls": functions} if calls else {})}
    return tokenizer.apply_chat_template([message], tokenize=False, chat_template=template)


@every
@examples(60)
@given(calls=calls, thought=hostile, with_thought=st.booleans())
def test_jinja_writes_the_same(tokenizer, form, calls, thought, with_thought):
    shown = thought if with_thought or not (form.words or calls) else None
    assert by_jinja(tokenizer, form, calls, thought, with_thought) == form.render(calls, shown).text


@every
def test_jinja_of_hard_calls(tokenizer, form):
    deep = {}
    for i in range(62):
        deep = {"k": deep} if i % 2 else [deep]
    calls = (
        ToolCall(
            "a.b",
            {"items": deep, "x": [1e22, -0.0, 10**30, True, None, "\x7f\x00\u2028</call>&\"'\r\t"]},
        ),
        ToolCall("a b\n", {"": {"é": {}}, "class": [], "get": "\\"}),
    )
    for thought in ("", "why\n# [f()]\nAction: x\n<b>&"):
        assert by_jinja(tokenizer, form, calls, thought, True) == form.render(calls, thought).text
    assert by_jinja(tokenizer, form, (), None, True) == form.render((), "").text


# Instructions ----------------------------------------------------------------------------------------------


@every
def test_instructions(form):
    for with_thought in (False, True):
        wordings = form.instructions(with_thought)
        assert len(set(wordings)) == len(wordings) >= 3
        assert all(w.isascii() and w == w.strip() and len(w) < 500 for w in wordings)
    assert not set(form.instructions(True)) & set(form.instructions(False))


# Grammar ---------------------------------------------------------------------------------------------------

TOOLS = [
    normalise_tool(tool)
    for tool in (
        {
            "name": "area",
            "parameters": {
                "type": "object",
                "properties": {
                    "sides": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3},
                    "unit": {"type": "string", "enum": ["m", 'f"<t']},
                    "box": {
                        "type": "object",
                        "properties": {"w": {"type": "integer"}, "h": {}},
                        "required": ["w"],
                    },
                    "free": {},
                    "odd key": {"type": "boolean"},
                    "text": {"type": ["string", "null"]},
                },
                "required": ["sides"],
            },
        },
        {
            "name": "two words",
            "parameters": {
                "type": "object",
                "properties": {
                    "first": {"type": "string"},
                    "class": {"type": "integer"},
                    "n": {"type": "number"},
                },
                "required": ["class"],
            },
        },
        {"name": "ping", "parameters": {"type": "object", "properties": {}}},
    )
]
NASTY = "é 東 \"q\" \\ \n\t<b>&amp; \x00 \u2028 's' ```"
GOOD = [
    (ToolCall("area", {"sides": [1, 2.5]}),),
    (ToolCall("area", {"sides": [-3e-7, 1e22], "text": NASTY}),),
    (ToolCall("area", {"sides": [1], "unit": 'f"<t', "box": {"w": -3}, "odd key": False, "text": None}),),
    (
        ToolCall(
            "area", {"sides": [1], "box": {"w": 0, "h": NASTY}, "free": {NASTY: [None, {"é": True}, []]}}
        ),
    ),
    (ToolCall("two words", {"class": 1}), ToolCall("ping", {})),
    (ToolCall("two words", {"first": "", "class": 1, "n": 1.5}), ToolCall("ping", {}), ToolCall("ping", {})),
]
BAD = [
    (ToolCall("aera", {"sides": []}),),
    (ToolCall("area", {}),),
    (ToolCall("area", {"sides": []}),),
    (ToolCall("area", {"sides": [1, 2, 3, 4]}),),
    (ToolCall("area", {"sides": ["1"]}),),
    (ToolCall("area", {"sides": 1}),),
    (ToolCall("area", {"sides": [1], "unit": "km"}),),
    (ToolCall("area", {"sides": [1], "more": 1}),),
    (ToolCall("area", {"unit": "m", "sides": [1]}),),
    (ToolCall("area", {"sides": [1], "box": {"w": 1.5}}),),
    (ToolCall("area", {"sides": [1], "box": {"h": 1}}),),
    (ToolCall("area", {"sides": [1], "odd key": "True"}),),
    (ToolCall("area", {"sides": [1], "text": 1}),),
    (ToolCall("two words", {"first": "a"}),),
    (ToolCall("two words", {"class": 1, "first": "a"}),),
    (ToolCall("ping", {"a": 1}),),
]


@every
def test_grammar_is_what_render_writes(form):
    for thought in (None, "why\nbecause é", ""):
        grammar = form.grammar(TOOLS, 1, 3, thought is not None)
        for calls in GOOD:
            text = form.render(calls, thought).text
            assert accepts(grammar, text), text
            assert not accepts(grammar, text[:-1])
            if thought is None:
                assert not accepts(grammar, text.replace("1", "1 ", 1) if " 1" in text else text + " "), text
        for calls in BAD:
            assert not accepts(grammar, form.render(calls, thought).text), calls
        assert not accepts(grammar, form.render((), thought).text)


@every
def test_grammar_counts_calls(form):
    pings = [(ToolCall("ping", {}),) * n for n in range(5)]

    def allowed(low, high):
        grammar = form.grammar(TOOLS, low, high, False)
        return [n for n in range(5) if accepts(grammar, form.render(pings[n], None).text)]

    assert allowed(0, None) == [0, 1, 2, 3, 4]
    assert allowed(1, 1) == [1]
    assert allowed(2, 3) == [2, 3]
    assert allowed(0, 2) == [0, 1, 2]
    assert allowed(0, 0) == [0]
    assert accepts(form.grammar([], 0, None, False), form.render((), None).text)
    assert not accepts(form.grammar([], 0, None, False), form.render(pings[1], None).text)
    with pytest.raises(InputError):
        form.grammar([], 1, None, False)
    if not form.words:
        assert accepts(form.grammar(TOOLS, 0, 2, False), form.render((), "No tool fits.\nSorry").text)
