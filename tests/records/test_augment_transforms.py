"""Each transform against hand-written rows, and against the published BFCL rows."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.records.real_records import bfcl_records
from xlam_jax.errors import InputError
from xlam_jax.format import CALL_FORMATS, Record, Step, Style, Tool, ToolCall, get_codec
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.context import Context
from xlam_jax.records.augment.pool import ToolPool
from xlam_jax.records.augment.transforms import TRANSFORMS, calls_valid

WEATHER = Tool(
    "get_weather",
    "Weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "name of the city"},
            "max_days": {"type": "integer", "description": "how many days", "default": 3},
        },
        "required": ["city"],
    },
)
STOCK = Tool(
    "stock_price",
    "Latest price at the exchange.",
    {
        "type": "object",
        "properties": {"ticker": {"type": "string", "description": "symbol of the share"}},
        "required": ["ticker"],
    },
)
POEM = Tool("write_poem", "Verses about anything.", {"type": "object", "properties": {}, "required": []})
SHUFFLES = ("shuffle_tools", "shuffle_parameters", "shuffle_tool_fields", "shuffle_tool_calls")
OSLO = ToolCall("get_weather", {"city": "Oslo", "max_days": 2})
RECORD = Record("r", "What will it be like outside in Oslo, 2 days?", (WEATHER, STOCK), (Step("", (OSLO,)),))


def apply(name, record=RECORD, seed=0, pool=(), **config):
    context = Context(AugmentConfig(**config), ToolPool(tuple(pool)))
    return TRANSFORMS[name](record, np.random.default_rng(seed), context)


@pytest.fixture(scope="module")
def real():
    return bfcl_records()[::6]


def test_tools_change_places():
    assert apply("shuffle_tools") == replace(RECORD, tools=(STOCK, WEATHER))
    assert apply("shuffle_tools", replace(RECORD, tools=(WEATHER,))) == "fewer_than_two_tools"


def test_parameters_change_places_and_arguments_follow():
    changed = apply("shuffle_parameters")
    assert list(changed.tools[0].parameters["properties"]) == ["max_days", "city"]
    assert list(changed.steps[0].tool_calls[0].arguments.items()) == [("max_days", 2), ("city", "Oslo")]
    # Arguments in an order of their own keep it.
    odd = replace(RECORD, steps=(Step("", (ToolCall("get_weather", {"max_days": 2, "city": "Oslo"}),)),))
    assert list(apply("shuffle_parameters", odd).steps[0].tool_calls[0].arguments) == ["max_days", "city"]
    assert apply("shuffle_parameters", replace(RECORD, tools=(STOCK,))) == "fewer_than_two_parameters"


def test_fields_of_parameters_change_places():
    changed = apply("shuffle_tool_fields")
    assert changed == RECORD
    assert list(changed.tools[1].parameters["properties"]["ticker"]) == ["description", "type"]
    assert apply("shuffle_tool_fields", replace(RECORD, tools=(POEM,))) == "fewer_than_two_fields"


def test_parallel_calls_change_places_with_their_results():
    a, b = ToolCall("get_weather", {"city": "A"}), ToolCall("get_weather", {"city": "B"})
    both = replace(RECORD, query="A and B?", steps=(Step("", (a, b), ["sun", "rain"]),))
    assert apply("shuffle_tool_calls", both).steps == (Step("", (b, a), ["rain", "sun"]),)
    assert apply("shuffle_tool_calls") == "no_parallel_calls"
    assert apply("shuffle_tool_calls", replace(both, query="A, then B?")) == "order_is_told"
    told = replace(both, steps=(Step("", (a, b), "sun, then rain"),))
    assert apply("shuffle_tool_calls", told) == "dependent_calls"
    refers = replace(both, steps=(Step("", (a, ToolCall("get_weather", {"city": "$a.city"}))),))
    assert apply("shuffle_tool_calls", refers) == "dependent_calls"


def test_function_masks_follow_every_mention():
    step = Step("I call get_weather.", (OSLO,), {"tool": "get_weather"}, "And get_weather_now?")
    changed = apply("mask_functions", replace(RECORD, steps=(step,)))
    mask = changed.tools[0].name
    assert 5 <= len(mask) <= 15 and mask != "get_weather" and changed.tools[0].description
    # A longer name is another name.
    assert changed.steps == (
        Step(f"I call {mask}.", (replace(OSLO, name=mask),), {"tool": mask}, "And get_weather_now?"),
    )
    bare = replace(RECORD, tools=tuple(replace(t, description="") for t in RECORD.tools))
    assert apply("mask_functions", bare) == "no_description"
    assert apply("mask_functions", replace(RECORD, tools=(WEATHER, WEATHER))) == "ambiguous_names"


def test_parameter_masks_follow_calls_and_required():
    changed = apply("mask_parameters")
    city, days = changed.tools[0].parameters["properties"]
    assert {"city", "max_days"}.isdisjoint((city, days)) and 4 <= len(city) <= 10
    assert changed.tools[0].parameters["required"] == [city]
    assert changed.steps[0].tool_calls[0] == ToolCall("get_weather", {city: "Oslo", days: 2})
    assert changed.query == RECORD.query
    assert apply("mask_parameters", replace(RECORD, tools=(POEM,))) == "no_description"


def test_defaults_move_into_words():
    changed = apply("move_defaults").tools[0].parameters["properties"]["max_days"]
    assert "default" not in changed
    text = changed["description"]
    assert text.removeprefix("how many days. ") in ("Default: 3.", "Defaults to 3.", "If omitted, 3 is used.")
    assert apply("move_defaults", replace(RECORD, tools=(STOCK,))) == "no_defaults"


def test_distractors_are_unrelated():
    near = replace(WEATHER, name="weather_history")
    assert apply("add_distractors", pool=(near, WEATHER)) == "no_unrelated_tools"
    changed = apply("add_distractors", pool=(near, POEM))
    assert sorted(t.name for t in changed.tools) == ["get_weather", "stock_price", "write_poem"]
    assert changed.steps == RECORD.steps


def test_irrelevance_replaces_the_called_tool_and_refuses():
    changed = apply("irrelevance", pool=(WEATHER, POEM))
    assert changed.tools == (POEM, STOCK) and changed.query == RECORD.query
    assert changed.steps[0].thought and changed.steps[0].tool_calls == () and len(changed.steps) == 1
    assert apply("irrelevance", pool=(POEM,), refusal_text=False).steps == (Step(),)
    assert apply("irrelevance", pool=(WEATHER,)) == "no_unrelated_tools"


def test_a_removed_tool_leaves_nothing_that_could_stand_in():
    assert apply("remove_tool").tools == (STOCK,)
    assert apply("remove_tool").steps[0].tool_calls == ()
    assert apply("remove_tool", replace(RECORD, tools=(WEATHER,))) == "no_other_tool"
    twin = replace(RECORD, tools=(WEATHER, replace(WEATHER, name="weather_now")))
    assert apply("remove_tool", twin) == "related_tools"
    assert apply("remove_tool", replace(RECORD, steps=(Step("Hi"),))) == "no_calls"


def test_a_question_about_a_removed_tool_goes_with_it():
    """What was asked before the call served the call; small talk before the request stays."""
    ask = Step("Which city do you mean?", user_input="Oslo")
    asked = replace(RECORD, query="What will it be like outside?", steps=(ask, *RECORD.steps))
    by_topic = replace(
        asked, query="How is the weather?", steps=(Step("For when?", user_input="Now"), *RECORD.steps)
    )
    hello = Step("Hello! How can I help?", user_input="How is the weather in Oslo?")
    greeted = replace(RECORD, query="Hi there", steps=(hello, ask, *RECORD.steps))
    for name in ("remove_tool", "irrelevance"):
        for record in (asked, by_topic):
            assert len(apply(name, record, pool=(POEM,)).steps) == 1
        assert apply(name, greeted, pool=(POEM,)).steps[0] == hello
        assert len(apply(name, greeted, pool=(POEM,)).steps) == 2
        for question in ("For what place?", "In which town are you?", "<think>So.</think>Where to?"):
            alone = replace(
                asked, query="I need the temperature", steps=(replace(ask, thought=question), *RECORD.steps)
            )
            assert len(apply(name, alone, pool=(POEM,)).steps) == 1, question
        after = replace(
            greeted, steps=(hello, replace(ask, thought="Please tell me your location."), *RECORD.steps)
        )
        assert [s.thought for s in apply(name, after, pool=(POEM,)).steps][:-1] == [hello.thought]
        # A greeting is nothing to refuse.
        only = replace(greeted, steps=(replace(ask, thought="For what place?"), *RECORD.steps))
        assert apply(name, only, pool=(POEM,)) == "no_request_left"


@pytest.mark.parametrize(
    ("thought", "masked"),
    [
        ("I call get_weather with the place.", True),
        ("I use functions.get_weather now.", False),
        ("GET_WEATHER it is.", False),
        ("get_weather.run", False),
        ("The Get Weather tool fits.", False),
        ("I get weather for them.", False),
        ("I look it up.", True),
    ],
)
def test_masked_names_leave_no_trace_in_thoughts(thought, masked):
    record = replace(RECORD, tools=(WEATHER,), steps=(Step(thought, (OSLO,)),))
    changed = apply("mask_functions", record)
    assert changed == "name_in_texts" if not masked else "get_weather" not in repr(changed.steps)
    # A plain word that is a parameter's name stays that name where the assistant uses it.
    said = replace(record, steps=(Step(f"{thought} The City is Oslo.", (OSLO,)),))
    names = apply("mask_parameters", said).steps[0].tool_calls[0].arguments
    assert "city" in names and "max_days" not in names


def test_a_removed_argument_is_asked_for():
    asked = replace(RECORD, query="For 2 days, what will it be like outside in Oslo?")
    changed = apply("remove_argument", asked)
    assert changed.query == "For 2 days, what will it be like outside?"
    assert changed.steps[0].tool_calls == () and "city" in changed.steps[0].thought
    for query in (
        "Oslo, please tell me its weather",
        "Compare in Oslo with weather in Oslo, please",
        "In Oslo?",
        "What will it be like outside in Oslo, Norway?",
        "What will it be like from Oslo to Bergen?",
        "Which places are located in Oslo?",
    ):
        assert apply("remove_argument", replace(RECORD, query=query)) == "no_removable_value"
    schema = {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]}
    call = ToolCall("get_weather", {"where": "Oslo"})
    nameless = replace(asked, tools=(replace(WEATHER, parameters=schema),), steps=(Step("", (call,)),))
    assert apply("remove_argument", nameless) == "no_word_to_ask_with"


def test_styles_are_written_with_matching_instructions():
    for seed in range(40):
        record = RECORD
        for name in ("layout", "shuffle_sections", "call_format"):
            changed = apply(name, record, seed)
            record = record if isinstance(changed, str) else changed
        codec = get_codec().styled(record.style)
        prompt = codec.prompt(record)
        assert record.style.layout != "" and codec.order == (record.style.sections or codec.order)
        if record.style.call_format:
            assert record.format_instruction in CALL_FORMATS[record.style.call_format].instructions(False)
            assert prompt.count(record.format_instruction) == 1
        answer = codec.render_calls(record.steps[0].tool_calls)
        assert codec.render(record).text.startswith(prompt + answer)
        assert codec.parse(answer).tool_calls == (OSLO,)


def test_styles_leave_what_they_cannot_change():
    chat = Record("c", "Hi", (), (Step("Hello"),), "Be kind.")
    for name in ("layout", "shuffle_sections", "call_format", "task_instruction"):
        assert apply(name, chat) == "no_tools"
    assert apply("layout", layouts={"brackets": 1.0}) == "no_other_layout"
    assert apply("call_format", replace(RECORD, few_shot_examples=("x",))) == "few_shot_examples"
    assert apply("task_instruction", replace(RECORD, task_instruction="My own.")) == "own_task_instruction"
    assert apply("shuffle_sections", replace(RECORD, style=Style(layout="xlam-2"))) == "one_order"


def test_bad_names_say_the_nearest():
    with pytest.raises(InputError) as e:
        Context(AugmentConfig(layouts={"bracket": 1.0}))
    assert e.value.hint == "brackets"
    with pytest.raises(InputError) as e:
        Context(AugmentConfig(base_call_format="xlam-jsn"))
    assert e.value.hint == "xlam-json"


@pytest.mark.parametrize(
    "name", ["shuffle_tools", "shuffle_parameters", "shuffle_tool_fields", "shuffle_tool_calls"]
)
def test_shuffles_of_real_rows_keep_everything(real, name):
    applied = 0
    for i, record in enumerate(real):
        changed = apply(name, record, i)
        if isinstance(changed, str):
            continue
        applied += 1
        assert _bag(changed) == _bag(record)
        assert calls_valid(changed) == calls_valid(record)
        assert repr(changed) != repr(record)
        assert Record.from_json(changed.to_json()) == changed
    assert applied > 5


def _bag(record):
    calls = [sorted(map(_frozen, step.tool_calls), key=repr) for step in record.steps]
    return Counter(map(_frozen, record.tools)), repr(calls), record.query


def _frozen(value):
    """A value without the order of keys, and of `required`."""
    if isinstance(value, Tool):
        return value.name, value.description, _frozen(value.parameters)
    if isinstance(value, ToolCall):
        return value.name, _frozen(value.arguments)
    if isinstance(value, dict):
        items = ((k, sorted(v) if k == "required" and isinstance(v, list) else v) for k, v in value.items())
        return tuple(sorted(((k, _frozen(v)) for k, v in items), key=repr))
    return tuple(map(_frozen, value)) if isinstance(value, list) else repr(value)


@pytest.mark.parametrize("name", ["mask_functions", "mask_parameters"])
def test_masks_of_real_rows_can_be_undone(real, name):
    applied = 0
    for i, record in enumerate(real):
        changed = apply(name, record, i)
        if isinstance(changed, str):
            continue
        applied += 1
        assert calls_valid(changed) == calls_valid(record)
        back = {}
        for old, new in zip(record.tools, changed.tools, strict=True):
            if name == "mask_functions":
                back[new.name] = old.name
            else:
                back |= dict(zip(new.parameters["properties"], old.parameters["properties"], strict=True))
        # Masks are random words: no text holds one by chance, so plain replacement undoes them.
        text = repr(replace(changed, lineage=record.lineage))
        for mask in sorted((m for m in back if back[m] != m), key=len, reverse=True):
            assert mask not in repr(record)
            text = text.replace(mask, back[mask])
        assert text == repr(record)
    assert applied > len(real) / 3


def test_real_negatives_are_negative(real):
    pool = [tool for record in real for tool in record.tools]
    counts = Counter()
    for i, record in enumerate(real):
        called = {call.name for call in record.steps[0].tool_calls}
        for name in ("irrelevance", "remove_tool", "remove_argument"):
            changed = apply(name, record, i, pool)
            if isinstance(changed, str):
                continue
            counts[name] += 1
            assert not any(step.tool_calls for step in changed.steps)
            if name == "remove_argument":
                (call,) = record.steps[0].tool_calls
                gone = [
                    v for v in map(str, call.arguments.values()) if v.lower() not in changed.query.lower()
                ]
                assert any(v.lower() in record.query.lower() for v in gone)
            else:
                assert not called & {tool.name for tool in changed.tools}
    assert counts["irrelevance"] > 50 and counts["remove_tool"] > 10 and counts["remove_argument"] > 5
