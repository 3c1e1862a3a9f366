"""What is held out stays out: augment and build as typed, on copies of every kind."""

import hashlib
import json
import random
import re

import pytest

from tests import tiny_run
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.tokenize import load_tokenizer

# Each of its own words, so that no two say the same.
ROWS = 40


def _row(i):
    what = hashlib.sha256(str(i).encode()).hexdigest()[:6]
    tool = {
        "name": f"get_thing_{i}",
        "description": f"Looks up the {what} of a thing",
        "parameters": {"q": {"type": "str", "description": f"the {what} that is wanted"}},
    }
    other = {"name": f"send_mail_{i}", "description": f"Mails to office {what}{i}", "parameters": {}}
    calls = [{"name": tool["name"], "arguments": {"q": f"{what}"}}]
    return {"id": f"r{i}", "query": f"Please look up thing number {i} in {what}", "tools": [tool, other][: 1 + i % 2],
            "steps": [{"tool_calls": calls if i % 5 else []}]}  # fmt: skip


def _strangers_copy(row, rng):
    """As another data set masks or renames: no lineage, another id, another question."""
    text = json.dumps(row)
    for tool in row["tools"]:
        text = text.replace(f'"{tool["name"]}"', '"' + "".join(rng.choices("abcdefghij", k=9)) + '"')
    copy = json.loads(text.replace('"q"', '"zz"'))
    return {**copy, "id": row["id"] + "-copy", "query": "I would like to know: " + row["query"]}


@pytest.mark.parametrize(
    "rates", [("mask_functions=1",), ("irrelevance=1", "add_distractors=1"), ("all=0.6",)]
)
def test_no_copy_of_a_held_out_function_is_trained(tmp_path, xlam, rates):
    rows = [_row(i) for i in range(ROWS)]
    rng = random.Random(0)
    rows += [_strangers_copy(row, rng) for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = tiny_run.make_tokenizer(tmp_path / "tok")
    typed = [word for rate in rates for word in ("--rate", rate)]
    twice = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for source, target in zip((tmp_path / "rows.jsonl", twice[0]), twice, strict=True):
        got = xlam("data", "augment", source, target, "--copies", 1, *typed)  # copies of copies too
        assert got.code == 0, got.err
    (tmp_path / "data.yaml").write_text(
        f"inputs: [{twice[1]}]\ntokenizer: {tokenizer}\nout: {tmp_path / 'out'}\nseq_len: 2048\n"
        "validation: {functions: 0.3}\n"
    )
    got = xlam("data", "build", tmp_path / "data.yaml")
    assert got.code == 0, got.err
    parts = []
    for folder in ("out", "out-validation"):
        packed = PackedSource(tmp_path / folder)
        parts.append({id for i in range(len(packed)) for id in packed[i][1]})
    made_of = [{re.match(r"r\d+", id)[0] for id in part} for part in parts]
    assert len(made_of[0]) >= 15 and len(made_of[1]) >= 5 and not made_of[0] & made_of[1]
    assert any("#aug" in id for id in parts[0]) and any("#aug" in id for id in parts[1])
    # Nor is a held-out function offered beside others: what it says stands in no training row.
    packed, words = PackedSource(tmp_path / "out"), load_tokenizer(tokenizer)
    text = " ".join(words.decode(packed[i][0].tokens) for i in range(len(packed)))
    said = {i: rows[i]["tools"][0]["description"] for i in range(ROWS)}
    assert any(said[int(id[1:])] in text for id in made_of[0])
    assert not any(said[int(id[1:])] in text for id in made_of[1])
