"""What a model folder says of its licence: on its card, and in licence files, which may say something else."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlam_jax.weights.carried import LICENCE, legal_files
from xlam_jax.weights.licences import (
    ATTRIBUTION,
    FREE,
    NON_COMMERCIAL,
    PERMISSIVE,
    SHARE_ALIKE,
    UNKNOWN,
    Licence,
    forbids_commerce,
    licence,
    licences_of_text,
)

_POLICY = re.compile(r"policy|terms", re.I)
_OF_MODEL, _OF_CODE = re.compile(r"model|weight", re.I), re.compile(r"(?<![a-z])(code|software)", re.I)


def stated_licence(folder: Path, head: Mapping[str, Any] | None, card: str) -> dict[str, Any] | None:
    """The first licence that is stated, `{name, link, found_in}`; others that are stated too stand under "beside".

    The card's come first, then those of the files. A file of the model's licence (LICENSE-MODEL) goes before those
    that name no part; one of the code's (LICENSE-CODE) says nothing about weights.

    Args:
      head: front matter of the card; None where it names a licence and cannot be read, which is one that nobody knows.
      card: its file's name.
    """
    stated = [(one, card) for one in ([Licence(UNKNOWN)] if head is None else _of_card(head))]
    for path, name in _files(folder):
        text, policy = _text(path), not _is_licence(path, name)
        stated += [(Licence(one, name), name) for one in ([] if policy else licences_of_text(text))]
        lenient = all(one.kind in (FREE, PERMISSIVE, ATTRIBUTION, SHARE_ALIKE) for one, _ in stated)
        forbids = forbids_commerce(text)
        if (not stated and not policy) or (lenient and forbids):
            stated.append(
                (Licence(f"{NON_COMMERCIAL}, see {name}" if forbids else f"see {name}", name), name)
            )
    by_name: dict[str, dict[str, Any]] = {}
    for one, where in stated:
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
    licences = []
    for name in stated if isinstance(stated, list) else [stated]:
        if isinstance(name, str) and name.strip().lower() not in ("", "unknown"):
            named = head.get("license_name") if name.strip().lower() == "other" else None
            licences.append(licence(str(named or name), link))
    return licences


def _files(folder: Path) -> list[tuple[Path, str]]:
    """Licence files, and after them the policies, which may forbid more; `(path, name in the folder)`."""
    legal = legal_files(folder)
    licences = [(path, name) for path, name in legal if _is_licence(path, name)]
    of_model = [(path, name) for path, name in licences if _OF_MODEL.search(name)]
    policies = [(path, name) for path, name in legal if _POLICY.search(name) and (path, name) not in licences]
    return [*(of_model or ((p, name) for p, name in licences if not _OF_CODE.search(name))), *policies]


def _is_licence(path: Path, name: str) -> bool:
    """By its own name, or by that of the folder it lies in."""
    return bool(LICENCE.match(name) or LICENCE.match(path.name))


def _text(path: Path) -> str:
    """What people read in a file, whichever way Unicode is stored in it."""
    raw = path.read_bytes()
    encoding = "utf-8-sig"
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif b"\0" in raw[:2]:
        encoding = "utf-16-be" if raw[0] == 0 else "utf-16-le"
    return raw.decode(encoding, "replace")


def to_json(stated: Licence, where: str = "") -> dict[str, str]:
    """As ledgers have it."""
    return {"name": stated.name, "link": stated.link, **({"found_in": where} if where else {})}
