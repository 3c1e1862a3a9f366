"""Mistral decoders: Llama's table. What differs is v0.1's sliding window, which attention reads from the config."""

from __future__ import annotations

from xlam_jax.models.llama import table

__all__ = ["table"]
