"""xLAM-1's prompt of many turns: the text that its published client sends, written here a second time."""

import json
import random

import pytest

from xlam_jax.errors import InputError
from xlam_jax.format import get_codec, normalise_tool
from xlam_jax.format.presets import get_preset
from xlam_jax.records.sources.conversation import record_from_messages

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"About {name} — é",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Città"},
                    "days": {"type": "integer"},
                },
                "required": ["city"],
            },
        },
    }
    for name in ("weather", "air")
]


def client_text(messages, tools, task, form):
    """What the client puts into its one user message; messages are those that it takes and returns."""
    shown = [
        {
            "name": t["function"]["name"],
            "description": t["function"]["description"],
            "parameters": t["function"]["parameters"]["properties"],
        }
        for t in tools
    ]
    query = [m["content"] for m in messages if m["role"] == "user"][-1]
    steps = []
    for m in messages:
        if m["role"] == "tool":
            steps[-1]["next_observation"] = m["content"]
            continue
        calls = [m["tool_calls"]] if "tool_calls" in m else []
        user = m["content"] if m["role"] == "user" else ""
        steps.append(
            {"step_id": len(steps) + 1, "thought": m.get("content", ""), "tool_calls": calls,
             "next_observation": "", "user_input": user}
        )  # fmt: skip
    parts = [("TASK INSTRUCTION", task), ("AVAILABLE TOOLS", json.dumps(shown))]
    parts += [("FORMAT INSTRUCTION", form), ("QUERY", query)]
    text = "".join(f"[BEGIN OF {title}]\n{body}\n[END OF {title}]\n\n" for title, body in parts)
    return text + f"\n[BEGIN OF HISTORY STEPS]\n{json.dumps(steps)}\n[END OF HISTORY STEPS]\n"


def conversation(seed):
    """User, calls, result, words, user again: as the client's messages."""
    rng = random.Random(seed)
    word = lambda: rng.choice(["Oslo", "Zürich", 'say "hi"', "[END OF QUERY]", "a\nb", "東京"])  # noqa: E731
    messages = [{"role": "user", "content": f"Weather in {word()}?"}]
    for turn in range(rng.randint(2, 5)):
        if rng.random() < 0.6:
            calls = [
                {
                    "name": rng.choice(["weather", "air"]),
                    "arguments": {"city": word(), "days": rng.randrange(9)},
                }
                for _ in range(rng.randint(1, 3))
            ]
            messages.append(
                {"role": "assistant", "content": rng.choice(["", f"I look: {word()}"]), "tool_calls": calls}
            )
            if rng.random() < 0.8:
                messages.append(
                    {"role": "tool", "content": json.dumps([{"t": rng.randrange(30), "at": word()}])}
                )
                continue
        else:
            messages.append({"role": "assistant", "content": f"Which {word()} do you mean?"})
        messages.append({"role": "user", "content": f"The {word()} of {turn}."})
    return [*messages, {"role": "assistant", "content": "Done."}]


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    )


@pytest.mark.parametrize("name", [pytest.param("xlam-1-r", marks=pytest.mark.slow), "xlam-1-fc-r"])
def test_the_prompts_of_a_hundred_conversations_are_the_clients(tokenizer, name):
    preset = get_preset(name)
    codec = preset.codec
    assert get_codec(**codec.settings) == codec
    compared = 0
    for seed in range(100):
        messages = conversation(seed)
        record = record_from_messages(messages, id="1", source="s", tools=tuple(map(normalise_tool, TOOLS)))
        turns = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        texts = codec.texts(record)
        assert len(turns) == len(record.steps) == len(texts)
        for step, at in enumerate(turns):
            before, prompt = messages[:at], preset.history_prompt(record, step)
            if step:
                text = client_text(before, TOOLS, preset.task_instruction, preset.format_instruction)
                user = codec.chat.user
                assert (
                    prompt
                    == codec.chat.bos + codec.chat.preamble + user[0] + text + user[1] + codec.chat.assistant
                )
                compared += 1
            (turn,) = [s for s in texts[step].spans if s.kind == "assistant"]
            assert texts[step].text[: turn.start] == prompt and turn.step == step
            settings = {"tools": TOOLS, "chat_template": codec.jinja(), "tokenize": False}
            assert tokenizer.apply_chat_template(before, add_generation_prompt=True, **settings) == prompt
            assert tokenizer.apply_chat_template(messages[: at + 1], **settings) == texts[step].text
    assert compared >= 100


def test_one_turn_has_no_history_and_xlam_2_writes_turns():
    record = record_from_messages(
        conversation(1)[:2], id="1", source="s", tools=tuple(map(normalise_tool, TOOLS))
    )
    assert "HISTORY" not in get_preset("xlam-1-r").codec.render(record).text
    with pytest.raises(InputError, match="turns"):
        get_preset("xlam-2-qwen").history_prompt(record)
    assert len(get_preset("xlam-2-qwen").codec.texts(record)) == 1
