"""The reference of config keys: complete, current, and true as typed."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from xlam_jax.cli.config import MODELS, model_of, page
from xlam_jax.config import make_config
from xlam_jax.config_reference import keys_of

REPO = Path(__file__).parents[2]
NEEDED = {
    "train": {"model": "m", "data": {"train": "d"}, "out": "o"},
    "data": {"inputs": ["a.jsonl"], "tokenizer": "t", "out": "o"},
    "pairs": {"inputs": ["a.jsonl"], "tokenizer": "t", "out": "o", "kind": "preference"},
    "augment": {},
    "verify": {},
    "apigen": {},
    "ablation": {"out": "o", "stages": {"eval": "eval"}, "arms": {"a": {}}},
}


def leaves(schema, node, prefix=""):
    """Dotted keys by pydantic's own JSON Schema, another walk over the models than ours."""
    for name, child in node.get("properties", {}).items():
        yield prefix + name
        todo = [child]
        while todo:
            one = todo.pop()
            todo += [*one.get("anyOf", ()), *([one["items"]] if isinstance(one.get("items"), dict) else [])]
            if "$ref" in one:
                yield from leaves(schema, schema["$defs"][one["$ref"].rsplit("/", 1)[1]], f"{prefix}{name}.")


@pytest.mark.parametrize("kind", MODELS)
def test_every_key_is_there_and_means_something(kind):
    schema = model_of(kind).model_json_schema()
    keys = list(keys_of(model_of(kind)))
    assert {k.name.replace("[]", "") for k in keys} == set(leaves(schema, schema))
    assert [k.name for k in keys if len(k.meaning) < 8] == []
    assert [k.name for k in keys if "object at" in k.default or "PydanticUndefined" in k.default] == []


def test_a_default_typed_as_it_is_printed_changes_nothing():
    assert NEEDED.keys() == MODELS.keys()
    for kind, values in NEEDED.items():
        plain = make_config(model_of(kind), values)
        for key in keys_of(model_of(kind)):
            parts = key.name.split(".")
            above = {".".join(parts[:n]) for n in range(1, len(parts))}
            optional = any(k.name in above and k.default in ("null", "[]") for k in keys_of(model_of(kind)))
            bound = key.name == "pair_layout"  # which may be named beside kind: preference only
            if key.default in ("required", "") or key.name in values or "[]" in key.name or optional or bound:
                continue
            assert make_config(model_of(kind), values, [f"{key.name}={key.default}"]) == plain, key


def test_the_page_is_current():
    found = (REPO / "docs/config.md").read_text()
    assert found == page(), (
        'python -c "from xlam_jax.cli.config import page; print(page(), end=str())" > docs/config.md'
    )


def test_as_typed(xlam, tmp_path):
    said = " ".join(xlam("config", "pairs").out.split())
    assert "kind: preference" in said and "pair_layout separate | shared [separate]" in said
    assert "number > 0" in xlam("config", "train", "optim.lr").out
    section = xlam("config", "data", "codec").out
    assert "codec.call_format text [xlam-json]" in section and "seq_len" not in section
    got = xlam("config", "train", "warmup_step")
    assert got.code == 2 and "no key 'warmup_step'" in got.err and "optim.warmup_steps" in got.err
    schema = json.loads(xlam("config", "train", "--schema").out)
    recipe = yaml.safe_load((REPO / "configs/demo/sft.yaml").read_text())
    jsonschema.validate(recipe, schema)
    with pytest.raises(jsonschema.ValidationError, match="optm"):
        jsonschema.validate({**recipe, "optm": {}}, schema)
    assert xlam("config", "apigen", "--json", tmp_path / "keys.json").code == 0
    assert "rows" in {row["name"] for row in json.loads((tmp_path / "keys.json").read_text())}
