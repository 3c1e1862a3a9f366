"""Mistral decoders: Llama's table; what differs is the sliding window of v0.1, which the attention reads from the config."""

from __future__ import annotations

from xlam_jax.models.llama import table

__all__ = ["table"]
