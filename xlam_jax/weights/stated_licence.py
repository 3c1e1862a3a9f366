"""What a model folder says of its licence: on its card, and in licence files, which may say something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlam_jax.weights.licences import (
    ATTRIBUTION,
    FREE,
    PERMISSIVE,
    SHARE_ALIKE,
    UNKNOWN,
    Licence,
    forbids_commerce,
    licence,
    licence_of_text,
)

_FILE = re.compile(r"((model|weights?)[-_ .]?)?(licen[cs]e|copying)", re.I)
_OF_MODEL, _OF_CODE = re.compile(r"model|weight", re.I), re.compile(r"(?<![a-z])(code|software)", re.I)


def stated_licence(folder: Path, head: Mapping[str, Any], card: str) -> dict[str, Any] | None:
    """The first licence that is stated, `{name, link, found_in}`; others that are stated too stand under "beside".

    The card's come first, then those of the files. A file of the model's licence (LICENSE-MODEL) goes before those
    that name no part; one of the code's (LICENSE-CODE) says nothing about weights.

    Args:
      head: front matter of the card.
      card: its file's name.
    """
    found = [(one, card) for one in _of_card(head)]
    for path in _files(folder):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        name = licence_of_text(text)
        lenient = all(one.kind in (FREE, PERMISSIVE, ATTRIBUTION, SHARE_ALIKE) for one, _ in found)
        if name or not found or (lenient and forbids_commerce(text)):
            found.append((Licence(name or f"see {path.name}", path.name), path.name))
    by_name: dict[str, dict[str, Any]] = {}
    for one, where in found:
        by_name.setdefault(one.name, to_json(one, where))
    if len(by_name) > 1:
        by_name.pop("other", None)  # `license: other` without a name says only that the hub has none for it
    if not by_name:
        return None
    first, *others = by_name.values()
    return {**first, "beside": others} if others else first


def statements(stated: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Each licence of what `stated_licence` found, as it has them; one that is unknown where it found none."""
    if stated is None:
        return [to_json(Licence(UNKNOWN))]
    return [{k: v for k, v in stated.items() if k != "beside"}, *stated.get("beside", ())]


def _of_card(head: Mapping[str, Any]) -> list[Licence]:
    stated, link = head.get("license"), str(head.get("license_link") or "")
    found = []
    for name in stated if isinstance(stated, list) else [stated]:
        if isinstance(name, str) and name.strip().lower() not in ("", "unknown"):
            named = head.get("license_name") if name.strip().lower() == "other" else None
            found.append(licence(str(named or name), link))
    return found


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in paths if path.is_file() and _FILE.match(path.name)]
    of_model = [path for path in found if _OF_MODEL.search(path.name)]
    return of_model or [path for path in found if not _OF_CODE.search(path.name)]


def to_json(found: Licence, where: str = "") -> dict[str, str]:
    """As ledgers have it."""
    return {"name": found.name, "link": found.link, **({"found_in": where} if where else {})}
