"""Writes the card of a released folder, of a model or of adapters, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xlam_jax.files import write_json
from xlam_jax.weights.adapter_card import adapter_card, is_adapter
from xlam_jax.weights.card import model_card
from xlam_jax.weights.carried import PROVENANCE, README
from xlam_jax.weights.checksums import CHECKSUMS, read_checksums, write_checksums


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes provenance.json and README.md into a released folder, of a model or of adapters, that is otherwise
    complete.

    Args:
      facts: of `provenance`, settled.
    """
    write_json(folder / PROVENANCE, facts)
    text = adapter_card(folder, facts) if is_adapter(folder) else model_card(folder, facts)
    (folder / README).write_text(text, encoding="utf-8")


def update_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """`write_card` in a finished folder, whose other checksums stay what they were."""
    known = read_checksums(folder) if (folder / CHECKSUMS).is_file() else {}
    write_card(folder, facts)
    write_checksums(folder, {name: sha for name, sha in known.items() if name not in (README, PROVENANCE)})


def add_evaluations(facts: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`facts` with further results; a repeated measurement replaces the earlier one."""
    key = ("dataset", "constrained")
    kept = [e for e in facts["evaluations"] if all(any(e[k] != f[k] for k in key) for f in found)]
    return {**facts, "evaluations": [*kept, *map(dict, found)]}
