"""Every key of transformers' config classes is classed once, with the class's default."""

import dataclasses
import json

import pytest

from tests.cases import case
from xlam_jax.errors import InputError
from xlam_jax.models.config import FAMILIES
from xlam_jax.models.hf_config import config_from_hf, config_to_hf
from xlam_jax.models.hf_keys import ALIASES, ELSEWHERE, FAMILY_INERT, INERT, READ, REQUIRED, unknown_keys
from xlam_jax.models.hf_rope import _INERT, _KINDS
from xlam_jax.models.named import named_config

transformers = pytest.importorskip("transformers")
CLASSES = {family: type(transformers.AutoConfig.for_model(family)) for family in FAMILIES}
# Which of these names the file itself has to say is for the reader to demand: they differ from size to size.
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def tiny(family):
    return config_to_hf(named_config(f"tiny-{family.replace('_', '-')}"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_of_the_class_is_in_one_list(family):
    inert = {**INERT, **FAMILY_INERT.get(family, {})}
    for field in dataclasses.fields(CLASSES[family]):
        with case(field.name):
            assert (field.name in READ[family]) + (field.name in inert) == 1
    assert not set(READ[family]) & set(inert)
    assert {a: n for n, a in ALIASES.get(family, {}).items()} == {
        a: n for n, a in _aliases(CLASSES[family], family).items()
    }
    legacy = {"rope_scaling", "rope_theta", "torch_dtype", "output_attentions", "attn_implementation"}
    generation = transformers.GenerationConfig._get_default_generation_params()
    known = {*READ[family], *inert, *ELSEWHERE}
    assert legacy <= known and set(generation) <= known


def _aliases(kind, family):
    """Second name -> the name that is read, of a class's attribute map."""
    pairs = [sorted(pair, key=lambda n: n not in READ[family]) for pair in kind.attribute_map.items()]
    return {second: first for first, second in pairs if first in READ[family]}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_absent_key_means_the_default_of_the_class(family):
    fields = {f.name: f.default for f in dataclasses.fields(CLASSES[family])}
    demanded = set()
    for key, about in READ[family].items():
        with case(key):
            if key == "rope_theta":
                assert about.absent == CLASSES[family].default_theta
            elif about.absent is REQUIRED:
                demanded.add(key)
            elif key in fields:
                assert about.absent == fields[key] and type(about.absent) is type(fields[key])
    # The class of V2 has no default for this one either.
    assert demanded == {*SIZES, *(["num_experts_per_tok"] if family == "deepseek_v2" else [])}
    for key in demanded:
        with pytest.raises(InputError, match=f"'{key}' is missing"):
            config_from_hf({k: v for k, v in tiny(family).items() if k != key})


def test_rope_keys_are_those_of_transformers():
    from transformers.modeling_rope_utils import RopeParameters

    ours = {*_KINDS, *_INERT, "rope_type", "partial_rotary_factor"}
    assert set(RopeParameters.__annotations__) - ours == {"mrope_section"}  # of images; refused as unknown


@pytest.mark.parametrize("family", FAMILIES)
def test_inert_keys_change_nothing_and_the_others_something(family):
    values = tiny(family)
    cfg = config_from_hf(values)
    for key in {**INERT, **FAMILY_INERT.get(family, {})}:
        if key != "model_type":
            assert config_from_hf(values | {key: "x"}) == cfg, key
    for key, about in READ[family].items():
        with case(key):
            if about.only:
                with pytest.raises(InputError, match=key):
                    config_from_hf(values | {key: _other(about.only[0])})
            for wrong in ("64", [None], {"a": 1}, -7, float("nan")):
                if wrong == -7 and "token id" in about.kind:
                    continue
                with pytest.raises(InputError, match=key) as found:
                    config_from_hf(values | {key: wrong})
                assert len(str(found.value).splitlines()) <= 3 and found.value.exit_code == 2
    for key, free in ELSEWHERE.items():
        if key not in READ[family] and not (family == "qwen2" and key == "attention_bias"):
            for value in free:
                assert config_from_hf(values | {key: value}) == cfg, key
            with pytest.raises(InputError, match=key):
                config_from_hf(values | {key: 3})


def _other(value):
    return (
        not value
        if isinstance(value, bool)
        else "gelu"
        if isinstance(value, str)
        else [0]
        if value == []
        else 2
    )


def test_unknown_keys_are_named():
    for family in FAMILIES:
        assert unknown_keys(tiny(family)) == []
    assert unknown_keys(tiny("llama") | {"sliding_window": 8, "_foo": 1, "colour": "red"}) == [
        "colour",
        "sliding_window",
    ]


LINEAR, YARN = {"rope_type": "linear", "factor": 4.0}, {"rope_type": "yarn", "factor": 4.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rope_scaling": YARN}, ("yarn", 4.0)),  # beside "default", as people extend a context
        ({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": None}, ("linear", 2.0)),
        ({"rope_parameters": LINEAR}, ("linear", 4.0)),
        ({"rope_parameters": LINEAR, "rope_scaling": {}}, ("linear", 4.0)),
        ({"rope_parameters": LINEAR, "rope_scaling": LINEAR | {"type": "yarn"}}, ("linear", 4.0)),
        ({"rope_parameters": LINEAR, "rope_scaling": LINEAR | {"factor": 8}}, "contradict"),
        ({"rope_parameters": LINEAR, "rope_scaling": {"rope_type": "default"}}, "contradict"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, "rope_theta is 7"),
        ({"rope_scaling": YARN, "rope_theta": 7.0}, "rope_theta is 7"),
        ({"rope_parameters": "linear"}, "rope_parameters must be an object, found 'linear'"),
        ({"rope_scaling": LINEAR | {"factr": 2}}, "did you mean factor"),
        ({"rope_scaling": LINEAR | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_scaling": YARN | {"truncate": None}}, "truncate must be true or false, found None"),
        ({"rope_scaling": {"full_attention": LINEAR}}, "full_attention"),
        ({"rope_scaling": YARN, "original_max_position_embeddings": 64}, "transformers prefers"),
    ],
)
def test_spellings_of_rope(change, expected):
    values = json.loads(json.dumps(tiny("llama") | change))
    if isinstance(expected, str):
        with pytest.raises(InputError) as found:
            config_from_hf(values)
        assert expected in str(found.value)
        return
    cfg = config_from_hf(values)
    assert (cfg.rope_scaling.type, cfg.rope_scaling.factor) == expected
    # transformers takes the same.
    theirs = transformers.AutoConfig.for_model(**values).rope_parameters
    assert (theirs["rope_type"], theirs["factor"], theirs["rope_theta"]) == (*expected, cfg.rope_theta)
    assert config_from_hf(json.loads(json.dumps(config_to_hf(cfg)))) == cfg
