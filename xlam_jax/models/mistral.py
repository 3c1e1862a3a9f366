"""Mistral decoders: Llama's table; the sliding window of v0.1 is a matter of the config alone."""

from __future__ import annotations

from xlam_jax.models.llama import table

__all__ = ["table"]
