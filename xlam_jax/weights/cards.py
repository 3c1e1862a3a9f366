"""Writes the card of a released folder, of a model or of adapters, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xlam_jax.files import write_json, write_text
from xlam_jax.weights.adapter_card import adapter_card, is_adapter
from xlam_jax.weights.card import model_card
from xlam_jax.weights.carried import PROVENANCE, README, no_part_of, release_files
from xlam_jax.weights.checksums import CHECKSUMS, read_checksums, write_checksums


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes provenance.json and README.md into a released folder, of a model or of adapters, that is otherwise
    complete.

    Args:
      facts: of `provenance`, settled.
    """
    text = adapter_card(folder, facts) if is_adapter(folder) else model_card(folder, facts)
    write_json(folder / PROVENANCE, facts)
    write_text(folder / README, text, 0o644)


def update_card(folder: Path, facts: Mapping[str, Any]) -> list[str]:
    """`write_card` in a finished folder, whose other checksums stay what they were; returns what they leave out.

    A folder without checksums gets those of the files that releases are made of.
    """
    known = read_checksums(folder) if (folder / CHECKSUMS).is_file() else {}
    written = {README, PROVENANCE}
    names = release_files(folder) | written
    write_card(folder, facts)
    write_checksums(folder, {name: sha for name, sha in known.items() if name not in written}, names)
    return no_part_of(folder, names | {CHECKSUMS})


def add_evaluations(facts: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`facts` with further results; a repeated measurement replaces the earlier one."""
    key = ("dataset", "constrained")
    kept = [e for e in facts["evaluations"] if all(any(e[k] != f[k] for k in key) for f in results)]
    return {**facts, "evaluations": [*kept, *map(dict, results)]}
