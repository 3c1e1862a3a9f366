"""One change of config.json at a time, every key of every family: what we read of it against torch transformers.

Each change ends in one of these: `read` (the logits move, ours with theirs), `inert` (they stay, ours too),
`refused` (by name), `torch` (transformers itself cannot load it, and neither can we, or we do not mind). What must
not be is `silent`: both load, and the logits differ.
"""

import collections
import dataclasses
import json
import re
import typing
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.errors import InputError
from xlam_jax.models.config import FAMILIES, RopeScaling
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.hf_config import config_from_hf, config_to_hf
from xlam_jax.models.hf_keys import ALIASES, ELSEWHERE, FAMILY_INERT, INERT, READ
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import hf_entries, params_from_state_dict
from xlam_jax.weights.hf_in import open_tensors, read_config
from xlam_jax.weights.tensors import check_tensors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

TOKENS = np.random.default_rng(0).integers(4, 256, (1, 40))
ABSENT = object()
YARN = RopeScaling("yarn", 4.0, 16, beta_fast=3.0, beta_slow=0.25)
ROPES = {
    "linear": RopeScaling("linear", 4.0),
    "dynamic": RopeScaling("dynamic", 2.0),
    "llama3": RopeScaling("llama3", 8.0, 16, 1.0, 4.0),
    "yarn": YARN,
}


def tiny(family):
    return named_config(f"tiny-{family.replace('_', '-')}")


def numbers(name, shape):
    """The same tensor has the same numbers in every model, so that a change of the config alone is seen."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    return torch.from_numpy(0.3 * drawn + (1.0 if len(shape) == 1 and "bias" not in name else 0.0))


class World:
    """Folders of one family's tiny models, and the logits of the one that nothing was changed of."""

    def __init__(self, folder, values):
        self.folder, self.values = folder, values
        self.ours_of = {}
        self.base = self.theirs(values)

    def theirs(self, values):
        """[S, V] of transformers on a folder of these values; its tensors stay where they are what these say."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(values))
        whole = False
        if (self.folder / "model.safetensors").is_file():
            model, about = self.load(output_loading_info=True, ignore_mismatched_sizes=True)
            whole = not any(about[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        if not whole:
            self.write(values)
            model = self.load()
        with torch.no_grad():
            return model.eval()(torch.from_numpy(TOKENS), return_dict=True).logits[0].numpy()

    def load(self, **options):
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32, **options)

    def write(self, values):
        about = transformers.AutoConfig.from_pretrained(self.folder)
        model = transformers.AutoModelForCausalLM.from_config(about, dtype=torch.float32)
        with torch.no_grad():
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                if "rotary" not in name:
                    tensor.copy_(numbers(name, tuple(tensor.shape)))
        model.save_pretrained(self.folder)
        (self.folder / "config.json").write_text(json.dumps(values))

    def ours(self):
        """[S, V] of this package on the folder as it is."""
        cfg = read_config(self.folder)
        tensors = open_tensors(self.folder, cfg)
        check_tensors(tensors, cfg)
        params = params_from_state_dict({name: tensors.get(name) for name in hf_entries(cfg)}, cfg)
        # No logit depends on these, and a program of its own for each would only cost time.
        cfg = cfg.replace(bos_token_id=None, eos_token_ids=(), pad_token_id=None, initializer_range=0.02)
        if cfg.rope_scaling is None or cfg.rope_scaling.type != "dynamic":
            cfg = cfg.replace(max_position_embeddings=256)
        key = (cfg, tuple(x.shape for x in jax.tree.leaves(params)))
        if key not in self.ours_of:
            self.ours_of[key] = np.asarray(_ours(params, jnp.asarray(TOKENS), cfg))
        return self.ours_of[key]

    def verdict(self, shown, change):
        values = {k: v for k, v in (self.values | change).items() if v is not ABSENT}
        try:
            config_from_hf(values)
            try:
                theirs = self.theirs(values)
            except Exception as e:
                return f"torch: {type(e).__name__}"
            ours = self.ours()
        except InputError as e:
            names = {*change, *re.findall(r"\.(\w+)", shown)}
            return "refused" if any(name in str(e) for name in names) else f"silent: refused unnamed: {e}"
        apart = np.abs(ours - theirs).max() / np.abs(theirs).max()
        if not apart < 1e-4:
            return f"silent: apart by {apart:.2g}"
        moved = self.base.shape != theirs.shape or np.abs(theirs - self.base).max() > 1e-4
        return "read" if moved else "inert"


def _ours(params, tokens, cfg):
    positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]

    @jax.jit
    def run(params):
        hidden, _ = forward(params, tokens, positions, jnp.ones_like(tokens), cfg)
        return logits(params, hidden, cfg)[0]

    return run(params)


def keys_of(family):
    """Name -> annotation of everything that the class, its base, its readers or this package know."""
    kind = type(transformers.AutoConfig.for_model(family))
    hints = typing.get_type_hints(kind, localns={"torch": torch})
    found = {f.name: hints[f.name] for f in dataclasses.fields(kind)}
    found |= dict.fromkeys(kind.attribute_map, int)
    others = {*READ[family], *ALIASES.get(family, {}), *FAMILY_INERT.get(family, {}), *ELSEWHERE}
    if family == "llama":  # what no class names is dropped by the base of all of them
        others |= set(INERT)
    found |= {name: typing.Any for name in sorted(others) if name not in found}
    return {
        name: hint
        for name, hint in found.items()
        if name not in ("model_type", "rope_parameters", "rope_scaling")
    }


def changed(name, now, hint):
    """Another value of the kind that a key has now, or may have."""
    kinds = typing.get_args(hint) or (hint,)
    if name == "layer_types":
        return ["sliding_attention", "full_attention", "full_attention"]
    if isinstance(now, bool) or (now is None and bool in kinds):
        return not now
    if isinstance(now, int) or (now is None and int in kinds):
        return 2 * (now or 1)
    if isinstance(now, float):
        return now + 0.3
    if isinstance(now, list) or any(typing.get_origin(k) is list for k in kinds):
        return [0] if not now else now[:1]
    if any(typing.get_origin(k) is dict for k in kinds):
        return {"0": "a"}
    return "gelu" if hint is not typing.Any else 3


def changes_of(family, values):
    """(what is shown, change) of one key at a time: another value, null, and its absence."""
    for name, hint in keys_of(family).items():
        now = values.get(name, READ[family][name].absent if name in READ[family] else None)
        yield name, {name: changed(name, now, hint)}
        # Of what no class of these families has, one family's null is as good as another's.
        if name not in INERT and (family == "llama" or name in READ[family] or name not in ELSEWHERE):
            yield f"{name}: null", {name: None}
        if name in values:
            yield f"{name}: absent", {name: ABSENT}


def rope_changes(values):
    """The same of each key inside the rotary object, in both of its places."""
    from transformers.modeling_rope_utils import RopeParameters

    for key in ("type", *RopeParameters.__annotations__):
        now = values["rope_parameters"].get(key, {"truncate": True}.get(key))
        other = {
            "rope_type": "default",
            "type": "default",
            "mrope_section": [4, 4],
            "short_factor": [1.0],
            "long_factor": [1.0],
        }.get(key, changed(key, now, float if now is None else type(now)))
        if other == "gelu":
            other = 0.5
        for place in ("rope_parameters", "rope_scaling"):
            alone = {"rope_scaling": ABSENT, "rope_parameters": ABSENT}
            rope = values["rope_parameters"]
            yield f"{place}.{key}", alone | {place: rope | {key: other}}
            yield f"{place}.{key}: null", alone | {place: rope | {key: None}}
            if key in rope:
                yield f"{place}.{key}: absent", alone | {place: {k: v for k, v in rope.items() if k != key}}
            # As a person edits one of the two that an export writes.
            yield f"{place}.{key}, edited", {place: values[place] | {key: other}}


def walk(world, changes):
    """Verdict of each change."""
    found = {}
    for shown, change in changes:
        found[shown] = world.verdict(shown, change)
        if found[shown].startswith(("silent", "torch")):
            print(shown, found[shown], flush=True)
    return found


def table(rows):
    """Prints the counts."""
    for title, found in rows.items():
        counts = collections.Counter(v.split(":")[0] for v in found.values())
        print(
            f"\n{title:<18} {len(found):4} changes:", ", ".join(f"{n} {k}" for k, n in sorted(counts.items()))
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_key_is_silent(tmp_path, family):
    values = config_to_hf(tiny(family))
    found = walk(World(tmp_path / "m", values), changes_of(family, values))
    table({family: found})
    assert len(found) > 80 and {v.split(":")[0] for v in found.values()} >= {"read", "inert", "refused"}
    assert not [line for line in found.items() if line[1].startswith("silent")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", ["llama", "deepseek_v2", "deepseek_v3"])
@pytest.mark.parametrize("kind", ROPES)
def test_no_rotary_key_is_silent(tmp_path, family, kind):
    if family != "llama" and kind != "yarn":
        pytest.skip("one family is enough for what has no part of its own")
    cfg = tiny(family).replace(
        rope_scaling=ROPES[kind], max_position_embeddings=24 if kind == "dynamic" else 64
    )
    values = config_to_hf(cfg)
    found = walk(World(tmp_path / "m", values), rope_changes(values))
    table({f"{family}, {kind}": found})
    assert not [line for line in found.items() if line[1].startswith("silent")]
