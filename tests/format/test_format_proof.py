"""The long proof of the codec: 2,000 generated records, 20,000 broken texts. Counts are printed (`-s`)."""

import itertools
import json
import random
from collections import Counter

import pytest
from test_call_formats import BREAKERS, MARKS, exact

from xlam_jax.format import (
    CALL_FORMATS,
    LAYOUTS,
    TEMPLATES,
    ParseError,
    Record,
    Step,
    ToolCall,
    get_codec,
    legal_orders,
    normalise_tool,
)

pytestmark = pytest.mark.slow
RECORDS = 2000
MUTATIONS = 20_000
STOPS = sorted({template.stop for template in TEMPLATES.values()})
WORDS = ["Oslo", "rain", "é東京", "a b", "x", "", "1e400", "NaN", "-0", '"', "{", "}", "\\", "true", "\u2028"]
COMBINATIONS = list(itertools.product(LAYOUTS, TEMPLATES))


def text(rng: random.Random, long: int = 4) -> str:
    made = "".join(rng.choice(MARKS if rng.random() < 0.5 else WORDS) for _ in range(rng.randint(0, long)))
    # What spells a stop token ends the answer: such rows are refused at tokenisation.
    for stop in STOPS:
        made = made.replace(stop, "")
    return made


def value(rng: random.Random, depth: int = 0):
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind < 2:
        return text(rng)
    if kind == 2:
        return rng.choice([0, 1, -1, 7, 10**25, -(2**70), rng.randrange(10**6)])
    if kind == 3:
        return rng.choice([0.0, -0.0, 1.0, 1.5, 1e22, 5e-324, 1e-7, rng.random()])
    if kind == 4:
        return rng.choice([True, False, None])
    if kind == 5:
        return json.dumps({"name": text(rng, 1), "arguments": {}})
    if kind == 6:
        return {text(rng, 1): value(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]


def call(rng: random.Random) -> ToolCall:
    name = rng.choice(["get_weather", "f", "a.b", "odd name", "class", text(rng, 2) or "g"])
    return ToolCall(name, {text(rng, 1) or "k": value(rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))})


def record(seed: int) -> Record:
    rng = random.Random(seed)
    tools = tuple(
        normalise_tool({"name": f"tool_{i}", "description": text(rng), "parameters": {"x": {"type": "int"}}})
        for i in range(rng.choice([0, 1, 1, 2]))
    )
    steps = tuple(
        Step(
            text(rng),
            tuple(call(rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))),
            value(rng) if rng.random() < 0.3 else "",
            text(rng) if rng.random() < 0.5 else "",
        )
        for _ in range(rng.choice([1, 1, 2, 3]))
    )
    few = tuple(rng.choice([text(rng), {"q": text(rng)}]) for _ in range(rng.choice([0, 0, 1])))
    own = {"task_instruction": text(rng)} if rng.random() < 0.3 else {}
    own |= {"format_instruction": text(rng, 2)} if rng.random() < 0.3 else {}
    return Record(f"r{seed}", text(rng, 6), tools, steps, few_shot_examples=few, **own)


def codec(seed: int, number: int, call_format: str):
    """The codec of record `seed`: over the records each format meets each layout and template alike often."""
    place = (seed + 7 * number) % len(COMBINATIONS)
    layout, template = COMBINATIONS[place]
    orders = legal_orders(layout)
    # Two orders for each combination and format: another one for each record would be another template each, and
    # Jinja's translation of a template takes as long as thirty texts.
    order = orders[(31 * place + 17 * number + seed // 1000) % len(orders)]
    return get_codec(call_format, template, layout, thought=bool(seed & 1), sections=order)


def answers():
    """`(codec, record, step, the text of the answer, what it must parse to)`."""
    for seed in range(RECORDS):
        made = record(seed)
        for number, name in enumerate(CALL_FORMATS):
            chosen = codec(seed, number, name)
            rendered = chosen.render(made)
            turns = [s for s in rendered.spans if s.kind == "assistant"]
            for turn, step in zip(turns, made.steps, strict=True):
                yield chosen, made, step, rendered.text[turn.start : turn.end]


def plain(made: Record, step: Step) -> bool:
    return not (made.tools or made.format_instruction or step.tool_calls)


def wanted(chosen, step: Step):
    """Thoughts come back where the codec writes them, words without calls always."""
    words = chosen.sections.words(step.thought) if not step.tool_calls else step.thought
    kept = chosen.thought or not step.tool_calls
    return words if kept else "", [(c.name, json.dumps(c.arguments)) for c in step.tool_calls]


def test_parse_inverts_render_everywhere():
    met: Counter = Counter()
    checks = replies = 0
    for chosen, made, step, answer in answers():
        met[chosen.call_format, chosen.layout, chosen.template] += 1
        if plain(made, step):  # an ordinary chat's reply is its words, in no format
            words = chosen.sections.words(step.thought)
            assert (
                answer.removeprefix(chosen.chat.lead).removesuffix(chosen.chat.before_stop + chosen.stop)
                == words
            )
            replies += 1
            continue
        assert exact(chosen.parse(answer)) == wanted(chosen, step), (chosen.name, answer)
        checks += 1
    print(
        f"{RECORDS} records, {checks} answers parsed back and {replies} plain replies, in {len(met)} "
        f"combinations of format, layout and template, each at least {min(met.values())} times"
    )
    assert len(met) == len(CALL_FORMATS) * len(COMBINATIONS) and min(met.values()) >= 30


def test_every_split_gives_the_same_calls():
    rng = random.Random(1)
    splits: Counter = Counter()
    texts: Counter = Counter()
    for chosen, made, step, answer in answers():
        name = chosen.call_format
        if plain(made, step) or texts[name] >= 200 or len(answer) > 600:
            continue
        texts[name] += 1
        known = exact(chosen.parse(answer))
        cuts = [[i] for i in range(len(answer) + 1)]
        cuts += [list(range(1, len(answer)))]
        cuts += [sorted(rng.choices(range(len(answer) + 1), k=rng.randint(2, 8))) for _ in range(10)]
        for places in cuts:
            stream, fed = chosen.stream(), []
            for start, end in zip([0, *places], [*places, len(answer)], strict=True):
                fed += stream.feed(answer[start:end])
            closed = stream.close()
            assert exact(closed) == known, (chosen.name, places, answer)
            assert [(c.name, json.dumps(c.arguments)) for c in fed] == known[1]
            splits[name] += 1
    print(f"{sum(splits.values())} splits of {sum(texts.values())} answers, {min(texts.values())} a format")
    assert min(texts.values()) >= 200 and len(texts) == len(CALL_FORMATS)


def mutate(rng: random.Random, one: str, other: str) -> str:
    for _ in range(rng.randint(1, 3)):
        at, to = sorted(rng.randrange(len(one) + 1) for _ in range(2))
        one = rng.choice(
            [
                one[:at] + one[to:],
                one[:at] + one[at:to] * 2 + one[to:],
                one[:at] + rng.choice(BREAKERS) + one[at:],
                one[:at],
                one[:at] + other[rng.randrange(len(other) + 1) :],
                one[:at] + rng.choice("{}[]()<>\"'\\,:=\n") + one[at:],
                one[:at] + one[at:to][::-1] + one[to:],
            ]
        )
    return one


def test_broken_texts_raise_parse_errors_only():
    rng = random.Random(2)
    found = list(itertools.islice(answers(), 4000))
    codecs = [get_codec(name, template) for name in CALL_FORMATS for template in TEMPLATES]
    refused = 0
    for i in range(MUTATIONS):
        chosen = codecs[i % len(codecs)]
        same = [a for c, _, _, a in rng.sample(found, 30) if c.call_format == chosen.call_format]
        broken = mutate(rng, (same or [found[0][3]])[0], rng.choice(found)[3])
        stream = chosen.stream()
        at = rng.randrange(len(broken) + 1)
        try:
            known = chosen.parse(broken)
        except ParseError:
            known = None
            refused += 1
        fed = stream.feed(broken[:at]) + stream.feed(broken[at:])
        if known is None:
            with pytest.raises(ParseError):
                stream.close()
        else:
            assert exact(stream.close()) == exact(known), (chosen.name, broken)
            assert [c.name for c in fed] == [c.name for c in known.tool_calls]
    print(f"{MUTATIONS} broken texts: {refused} refused with ParseError, the rest read alike in chunks")
    assert MUTATIONS // 3 < refused < MUTATIONS


def test_jinja_equals_python_through_apply_chat_template():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    pairs = [
        (seed, name, codec(seed, number, name))
        for seed in range(RECORDS)
        for number, name in list(enumerate(CALL_FORMATS))[(seed + seed // 48) % 3 :: 3]
    ]
    pairs.sort(key=lambda pair: pair[2].jinja())  # transformers keeps the last 128 that it translated
    met: Counter = Counter()
    orders = set()
    for seed, name, chosen in pairs:
        made = record(seed)
        messages, tools = chosen.messages(made)
        settings = {
            "tools": tools, "chat_template": chosen.jinja(), "tokenize": False, **chosen.template_kwargs(made),
        }  # fmt: skip
        assert tokenizer.apply_chat_template(messages, **settings) == chosen.render(made).text, chosen.name
        first = tokenizer.apply_chat_template(
            messages[: 1 + (messages[0]["role"] == "system")], add_generation_prompt=True, **settings
        )
        assert first == chosen.prompt(made), chosen.name
        met[name, chosen.layout, chosen.template] += 1
        orders.add((chosen.layout, tuple(chosen.sections.order)))
    print(
        f"{2 * len(pairs)} texts of {RECORDS} records in {len(met)} combinations equal Jinja's byte for byte"
    )
    assert len(met) == len(CALL_FORMATS) * len(COMBINATIONS)
    wanted = {layout: len(legal_orders(layout)) for layout in LAYOUTS}
    print(f"{len(orders)} orders of sections of {sum(wanted.values())}: {wanted}")
