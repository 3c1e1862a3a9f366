"""Tiny mixture-of-experts blocks of transformers in torch, and our parameters cut from them."""

import dataclasses

import numpy as np
import torch
import transformers

from xlam_jax.models.config import MoeConfig
from xlam_jax.models.experts import Experts

D, F = 32, 24
_BASE = {"hidden_size": D, "hidden_act": "silu", "num_hidden_layers": 1}
_V2 = {
    **_BASE,
    "n_routed_experts": 16,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": F,
    "n_shared_experts": 1,
    "routed_scaling_factor": 1.7,
    "norm_topk_prob": False,
}
_V3 = {**_V2, "n_group": 4, "topk_group": 2, "norm_topk_prob": True}


@dataclasses.dataclass
class Block:
    """`torch` maps [B, S, D] to the routed experts' output; `gate` gives (logits, weights, ids) of its tokens."""

    cfg: MoeConfig
    module: torch.nn.Module
    gate: torch.nn.Module
    experts: torch.nn.Module

    def routed(self, x_BSD):
        flat = x_BSD.reshape(-1, D)
        _, weights, ids = self.gate(flat)
        return self.experts(flat, ids, weights).reshape(x_BSD.shape)

    @property
    def router_DE(self):
        return numpy(self.gate.weight).T

    @property
    def bias_E(self):
        return numpy(self.gate.e_score_correction_bias) if self.cfg.selection_bias else None

    @property
    def matrices(self):
        return split(numpy(self.experts.gate_up_proj), numpy(self.experts.down_proj))

    @property
    def gradients(self):
        """(router_DE, Experts) after a backward pass."""
        experts = split(numpy(self.experts.gate_up_proj.grad), numpy(self.experts.down_proj.grad))
        return numpy(self.gate.weight.grad).T, experts


def split(gate_up_E2FD, down_EDF):
    return Experts(
        gate_up_E2FD[:, :F].swapaxes(1, 2), gate_up_E2FD[:, F:].swapaxes(1, 2), down_EDF.swapaxes(1, 2)
    )


def numpy(tensor):
    return tensor.detach().numpy().copy()


def _mixtral():
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = transformers.MixtralConfig(
        **_BASE, intermediate_size=F, num_local_experts=8, num_experts_per_tok=2
    )
    return MoeConfig(8, 2, F), MixtralSparseMoeBlock(config)


def _qwen(norm):
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    config = transformers.Qwen3MoeConfig(
        **_BASE, moe_intermediate_size=F, num_experts=16, num_experts_per_tok=4, norm_topk_prob=norm
    )
    return MoeConfig(16, 4, F, norm_topk=norm), Qwen3MoeSparseMoeBlock(config)


def _v2(**groups):
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe

    method = "group_limited_greedy" if groups else "greedy"
    config = transformers.DeepseekV2Config(**_V2, **groups, topk_method=method)
    return MoeConfig(16, 3, F, norm_topk=False, routed_scaling=1.7, **groups), DeepseekV2Moe(config)


def _v3():
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    cfg = MoeConfig(
        16,
        3,
        F,
        scoring="sigmoid",
        routed_scaling=1.7,
        n_group=4,
        topk_group=2,
        group_scoring="top2",
        selection_bias=True,
    )
    return cfg, DeepseekV3MoE(transformers.DeepseekV3Config(**_V3))


_MAKE = {
    "mixtral": _mixtral,
    "qwen3-moe": lambda: _qwen(True),
    "qwen3-moe-raw": lambda: _qwen(False),
    "deepseek-v2-lite": _v2,
    "deepseek-v2": lambda: _v2(n_group=4, topk_group=2),
    "deepseek-v3": _v3,
}
NAMES = tuple(_MAKE)


def make(name):
    """The block `name` with random weights, large enough that the router is not uniform."""
    torch.manual_seed(0)
    cfg, module = _MAKE[name]()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.3 * torch.randn_like(p))
        if cfg.selection_bias:
            module.gate.e_score_correction_bias.copy_(0.2 * torch.randn(cfg.num_experts))
    return Block(cfg, module.float().eval(), module.gate, module.experts)


def hidden(B=2, S=24, seed=1):
    return np.random.default_rng(seed).standard_normal((B, S, D)).astype(np.float32)
