"""What is known of where a model comes from: its base, its data, its training; from ledgers, never typed.

`provenance.json` in a folder: `{format_version, name, base, made, training, data, license, evaluations}`. A fact that
nobody wrote down is null there and "unknown" on the card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from xlam_jax.errors import InputError
from xlam_jax.files import read_object
from xlam_jax.records.sources import SOURCES, get_source
from xlam_jax.weights.carried import BASE_README, PROVENANCE, readme_of
from xlam_jax.weights.gguf import read_fields
from xlam_jax.weights.hf_out import read_xlam_json
from xlam_jax.weights.licences import UNKNOWN, Licence, Part, effective, licence
from xlam_jax.weights.peft_config import CONFIG as ADAPTER_CONFIG
from xlam_jax.weights.provenance_file import Base, Provenance, check, one_line
from xlam_jax.weights.source import ModelFolder, inspect, run_config
from xlam_jax.weights.stated_licence import stated_licence, statements, to_json

BASE_PROVENANCE = "base_provenance.json"
"""In a training run: what `base_facts` said of its base model when it was trained."""
FORMAT_VERSION = 1
_KEYS = ("name", "base", "made", "training", "data", "license")
_BASE_KEYS = ("model", "revision", "name", "folder", "license", "language", "weights_xxh3_128")
_CACHED = re.compile(r"models--(?P<owner>[^/]+)--(?P<name>[^/]+)/snapshots/(?P<revision>[0-9a-f]+)$")
_HUB = "https://huggingface.co/"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
"""OWNER/NAME."""


def provenance(src: str | Path, base_model: str = "") -> dict[str, Any]:
    """What is known of the model at `src`, which `weights.open_model` takes.

    Args:
      base_model: the base's name on the hub, where a person knows it better.

    Raises:
      InputError: no model there, or ledgers that are damaged.
    """
    src = Path(src)
    known = {"model": base_model, "name": base_model.partition("/")[2]} if base_model else {}
    if src.suffix == ".gguf":
        return _facts(base={**_gguf_base(src), **known})
    if (src / PROVENANCE).is_file():
        facts = _read(src / PROVENANCE)
        return {**facts, "base": {**facts["base"], **known}}
    if (src / ADAPTER_CONFIG).is_file():  # of adapters whose run is not there
        unknown = dict.fromkeys(_BASE_KEYS) | {"folder": "unknown", "language": []}
        return _facts(name=src.resolve().name, base={**unknown, **known})
    source = inspect(src)
    if source.kind == "run":
        return _run_facts(source, known)
    return _facts(base={**base_facts(source.folder), **known})


def base_facts(folder: str | Path) -> dict[str, Any]:
    """What a model that is trained from `folder` has to know of it: `{model, revision, name, folder, license, language,
    weights_xxh3_128}`.

    Raises:
      InputError: as `provenance`.
    """
    folder = Path(folder)
    cached = _CACHED.search(folder.absolute().as_posix())
    facts: dict[str, Any] = {
        "model": f"{cached['owner']}/{cached['name']}" if cached else None,
        "revision": cached["revision"] if cached else None,
        "name": cached["name"] if cached else None,
        "folder": folder.resolve().name,
        "weights_xxh3_128": read_xlam_json(folder).get("weights_xxh3_128"),
    }
    if (folder / PROVENANCE).is_file() or (folder / "config.yaml").is_file():
        known = provenance(folder)
        if known["training"] is None:
            return {**known["base"], "weights_xxh3_128": facts["weights_xxh3_128"]}
        return {
            **facts,
            "name": known["name"],
            "license": _own_licence(known),
            "language": known["base"]["language"],
        }
    stated, head = _stated(folder)
    return {**facts, "license": stated, "language": _listed(head.get("language"))}


def merged_facts(model: str | Path, adapter: str | Path) -> dict[str, Any]:
    """What is known of the model at `model` with the PEFT folder `adapter` merged into it; errors as `provenance`.

    Of an adapter of this package that is what its run knew; another one's licence counts beside the model's.
    """
    adapter = Path(adapter)
    name = one_line(adapter.resolve().name)
    made = f"The adapter {name} was merged into it."
    if (adapter / PROVENANCE).is_file():
        return {**_read(adapter / PROVENANCE), "made": made}
    base, (stated, _) = base_facts(model), _stated(adapter)
    if stated:
        own = base["license"] or to_json(Licence(UNKNOWN))
        said = [{**one, "found_in": f"{one['found_in']} of the adapter"} for one in statements(stated)]
        base = {**base, "license": {**own, "beside": [*own.get("beside", ()), *said]}}
    return _facts(name=name, base=base, made=made)


def _stated(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The licence that a folder states, and the front matter of its card."""
    card = readme_of(folder) or folder / BASE_README
    head = front_matter(card) if card.is_file() else {}
    return stated_licence(folder, head, card.name), head or {}


def front_matter(path: Path) -> dict[str, Any] | None:
    """The YAML at the head of a model card, {} where it has none; None where it names a licence and cannot be read."""
    text = path.read_text(encoding="utf-8-sig", errors="replace").lstrip()  # as the hub reads it
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.S)
    if match:
        try:
            header = yaml.safe_load(match[1]) or {}
        except (yaml.YAMLError, ValueError, RecursionError):  # the second of dates such as 2024-13-45
            header = None
        if isinstance(header, dict):
            return header
    return None if text.startswith("---") and re.search(r"^licen[cs]e\s*:", text, re.M) else {}


def parts(facts: Mapping[str, Any]) -> list[Part]:
    """The base model and each source of data, with their licences."""
    base = facts["base"]
    name = base["model"] or base["name"] or base["folder"]
    absent = " (its folder is not found from here)" if base.get("absent") else ""
    what, (first, *others) = f"base model {name}{absent}", statements(base["license"])
    parts = [Part(what, _licence(first))]
    parts += [Part(f"{what} in {other['found_in']}", _licence(other)) for other in others]
    for source in (facts["data"] or {}).get("sources", ()):
        parts += [Part(f"data of {source['name']}", licence(text)) for text in source["licences"]]
    return parts


def settle(facts: Mapping[str, Any], named: str = "", where: str = "") -> dict[str, Any]:
    """`facts` with the licence of the release: the one `named`, what was settled before, or the strictest.

    Raises:
      InputError: the licences of the parts conflict, and none is named.
    """
    if named:
        return {**facts, "license": {**to_json(licence(named)), "named": True}}
    if facts["license"]:
        return dict(facts)
    return {**facts, "license": {**to_json(effective(parts(facts), where)), "named": False}}


def _own_licence(facts: Mapping[str, Any]) -> dict[str, str] | None:
    try:
        return settle(facts)["license"]
    except InputError:  # nobody decided yet
        return None


def _facts(**known: Any) -> dict[str, Any]:
    facts = {"format_version": FORMAT_VERSION, **dict.fromkeys(_KEYS), "evaluations": [], **known}
    base = {key: facts["base"].get(key) for key in _BASE_KEYS}
    base |= {key: one_line(base[key]) for key in ("model", "name", "folder") if base[key]}
    if facts["base"].get("absent"):
        base["absent"] = True
    return facts | {"name": one_line(facts["name"] or base["name"] or base["folder"]), "base": base}


def _read(path: Path) -> dict[str, Any]:
    facts = read_object(path, "convert the model again, or remove the file: what it says will be unknown")
    version = facts.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError("written by a newer xlam-jax", where=str(path), hint="pip install -U xlam-jax")
    check(facts, Provenance, str(path))
    return _facts(**{key: facts[key] for key in (*_KEYS, "evaluations")})


# -- base models ----


def _gguf_base(path: Path) -> dict[str, Any]:
    fields = read_fields(path)
    stated = fields.get("general.license")
    repo = str(
        fields.get("general.source.huggingface.repository") or fields.get("general.source.repo_url") or ""
    )
    model = repo.removeprefix(_HUB) if HUB_NAME.fullmatch(repo.removeprefix(_HUB)) else None
    return {
        "model": model,
        "revision": None,
        "name": fields.get("general.name"),
        "folder": path.name,
        "weights_xxh3_128": None,
        "license": to_json(licence(str(stated)), "general.license") if stated else None,
        "language": _listed(fields.get("general.languages")),
    }


def _licence(stated: Mapping[str, Any]) -> Licence:
    return Licence(stated["name"], stated.get("link", ""))


def _listed(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [value] if isinstance(value, str) else []


# -- training runs ----


def _run_facts(source: ModelFolder, known: Mapping[str, Any]) -> dict[str, Any]:
    run, config = source.folder, run_config(source.folder)
    model = Path(config.get("model") or run)
    if (run / BASE_PROVENANCE).is_file():
        check(base := _object(run / BASE_PROVENANCE), Base, str(run / BASE_PROVENANCE))
    elif model != run and model.is_dir():
        base = base_facts(model)
    else:  # of a run without its ledgers nothing is known
        base = {**dict.fromkeys(_BASE_KEYS), "folder": model.name, "language": [], "absent": model != run}
    base = {**base, **known}
    step = int(source.params.parent.name) if source.params else None
    versions, plan = _object(run / "versions.json"), _object(run / "run.json")
    started = plan.get("started")
    metrics = [row for row in _lines(run / "metrics.jsonl") if step is None or row.get("step", 0) <= step]
    training = {
        "step": step,
        "total_steps": plan.get("total_steps"),
        "started": datetime.fromtimestamp(started, UTC).date().isoformat() if started else None,
        "config": _without_places(config),
        "versions": {k: v for k, v in versions.items() if k != "git"},
        "git": versions.get("git"),
        "loss": _last(metrics, "loss"),
        "eval_loss": _last(metrics, "eval_loss"),
    }
    kind = str((config.get("objective") or {}).get("kind") or "sft") if config else "trained"
    return _facts(
        name=f"{base['name'] or base['folder']}-{kind}",
        base=base,
        training=training,
        data=_data_facts(_object(run / "data.manifest.json")),
    )


def _data_facts(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    if not manifest:
        return None
    rows = manifest.get("source_licences")
    if rows is None:  # of before licences were counted by source
        names = ", ".join(manifest.get("sources") or ()) or "unknown"
        rows = {names: manifest.get("licences") or {"unknown": manifest.get("records", 0)}}
    keys = ("fingerprint", "kind", "rows", "records", "tokens", "target_tokens", "seq_len")
    sources = [
        {"name": name, "rows": sum(counts.values()), "licences": counts, "url": _url(name)}
        for name, counts in rows.items()
    ]
    return {**{key: manifest.get(key) for key in keys}, "sources": sources}


def _url(source: str) -> str | None:
    return get_source(source).url if source in SOURCES else None


def _without_places(value: Any) -> Any:
    """Of a path its last part only: where things lay on somebody's disk is nobody's business."""
    if isinstance(value, dict):
        return {key: _without_places(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_without_places(child) for child in value]
    return Path(value).name if isinstance(value, str) and "/" in value else value


def _last(rows: list[dict[str, Any]], key: str) -> float | None:
    return next((row[key] for row in reversed(rows) if row.get(key) is not None), None)


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:  # cut off at its end
            continue
    return rows
