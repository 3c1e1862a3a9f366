"""The feed-forward networks of a mixture of experts: `moe_ffn`, and the backends that compute it on one device."""

from xlam_jax.models.experts.block import BACKENDS, moe_ffn
from xlam_jax.models.experts.product import Experts, expert_product

__all__ = ["BACKENDS", "Experts", "expert_product", "moe_ffn"]
