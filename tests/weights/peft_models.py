"""Torch models with PEFT adapters that hold the values of ours."""

from __future__ import annotations

import re

import jax
import numpy as np
import torch
import transformers

from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.models.spec import hf_entries, path_name, state_dict_from_params


def torch_model(params, cfg):
    """A dense model of transformers with the values of `params`."""
    values = {k: v for k, v in config_to_hf(cfg).items() if k not in ("architectures", "torch_dtype")}
    config = transformers.AutoConfig.for_model(**values)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    )
    state = {k: torch.from_numpy(np.array(v)) for k, v in state_dict_from_params(params, cfg).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and not [n for n in missing if "rotary" not in n and n != "lm_head.weight"]
    return model.eval()


def set_adapters(model, adapters, cfg):
    """Writes our adapters into the LoRA parameters of a dense PEFT model."""
    flat = {path_name(p): np.asarray(x) for p, x in jax.tree_util.tree_leaves_with_path(adapters)}
    modules = {n.removesuffix(".weight"): e for n, e in hf_entries(cfg).items()}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if found := re.fullmatch(r"base_model\.model\.(.*)\.lora_(A|B)\.default\.weight", name):
                entry = modules[found[1]]
                p.copy_(torch.tensor(flat[f"{entry.path}.{found[2].lower()}"][entry.index].T))
    return model


def adapter_arrays(named, cfg):
    """LoRA tensors of a dense PEFT model by our names ("layers.attn.q.a"), stacked over layers."""
    modules = {n.removesuffix(".weight"): e for n, e in hf_entries(cfg).items()}
    found: dict[str, dict] = {}
    for name, p in named.items():
        if match := re.fullmatch(r"base_model\.model\.(.*)\.lora_(A|B)\.default\.weight", name):
            entry = modules[match[1]]
            array = p.detach().numpy().T.copy()
            found.setdefault(f"{entry.path}.{match[2].lower()}", {})[entry.index] = array
    return {name: np.stack([parts[i] for i in sorted(parts)]) for name, parts in found.items()}
