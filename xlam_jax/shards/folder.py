"""A folder of packed rows: ArrayRecord shards and `manifest.json`.

A row is one record: a safetensors blob with the fields of `Batch`, or of `PairBatch` but the reference
(`[seq_len]` each), and `record_ids`, the JSON list of the record ids in the order of their segments as
uint8. The folder appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from xlam_jax.errors import InputError
from xlam_jax.extras import need
from xlam_jax.files import sha256_of, whole_folder
from xlam_jax.shards.batch import Batch, ForkBatch, PairBatch
from xlam_jax.shards.preference import describe_row

MANIFEST = "manifest.json"
VERSION = 2


def need_array_record() -> Any:
    """The ArrayRecord module, or an error that says what to install."""
    need("array_record")
    from array_record.python import array_record_module  # pyright: ignore

    return array_record_module


def pack_row(row: Batch | ForkBatch | PairBatch, record_ids: list[str]) -> bytes:
    """One row as bytes; see the module's head."""
    ids = np.frombuffer(json.dumps(record_ids).encode(), np.uint8)
    arrays = {name: array for name, array in row._asdict().items() if name != "reference"}
    return safetensors.save({**arrays, "record_ids": ids})


def unpack_row(blob: bytes) -> tuple[Any, list[str]]:
    """Inverse of `pack_row`: (Batch, ForkBatch or PairBatch, record ids); a reference is 0 everywhere."""
    arrays = safetensors.load(blob)
    ids = json.loads(arrays.pop("record_ids").tobytes())
    if "branches" in arrays:
        return PairBatch(**arrays, reference=np.zeros_like(arrays["loss_weights"])), ids
    return (ForkBatch if "forks" in arrays else Batch)(**arrays), ids


def write_shards(
    folder: Path,
    rows: Iterable[tuple[Batch | ForkBatch | PairBatch, list[str]]],
    manifest: dict,
    rows_per_shard: int = 4096,
) -> dict:
    """Writes rows as `rows-00000.arrayrecord`, ... and the manifest; returns the manifest with `shards`,
    `rows`, the token counts (`pairs`, where rows hold pairs) and `fingerprint` filled in.

    The folder is built beside its place and renamed; an earlier data folder there is replaced.

    Args:
      rows: each with the ids of its records, in the order of its segments.
      manifest: what it says beside the counts; needs `seq_len`.
      rows_per_shard: of every shard but the last.

    Raises:
      InputError: something that is no data folder stands at `folder`, or the disk is full. Nothing is left
        behind.
    """
    counts = {"rows": 0, "records": 0, "tokens": 0, "target_tokens": 0, "padding": 0}
    most = {"max_row_targets": 0, "max_row_records": 0, "max_row_segments": 0, "max_token_id": 0}
    pairs: Counter[str] = Counter()
    with replacing(folder) as partial:
        shards = []
        for name, chunk in _chunks(rows, rows_per_shard):
            path = partial / name
            # One row a group: rows are read one at a time, in random order.
            writer = need_array_record().ArrayRecordWriter(str(path), "group_size:1")
            n = 0
            for row, ids in chunk:
                writer.write(pack_row(row, ids))
                n += 1
                real = int((row.segment_ids > 0).sum())
                counts["records"] += len(ids)
                counts["tokens"] += real
                targets = int((row.loss_weights != 0).sum())
                counts["target_tokens"] += targets
                most["max_row_targets"] = max(most["max_row_targets"], targets)
                most["max_row_records"] = max(most["max_row_records"], len(ids))
                if isinstance(row, PairBatch):
                    pairs.update(describe_row(row))
                runs = 1 + int((np.diff(row.segment_ids) != 0).sum())  # padding is one of them
                most["max_row_segments"] = max(most["max_row_segments"], runs)
                most["max_token_id"] = max(
                    most["max_token_id"], int(row.tokens.max()), int(row.targets.max())
                )
                counts["padding"] += len(row.tokens) - real
            writer.close()
            counts["rows"] += n
            size = path.stat().st_size
            shards.append({"file": name, "rows": n, "bytes": size, "sha256": sha256_of(path)})
        fill = counts["tokens"] / max(1, counts["tokens"] + counts["padding"])
        manifest = {"version": VERSION, **manifest, **counts, **most, "fill_percent": round(100 * fill, 2)}
        if pairs:
            manifest["pairs"] = _pair_facts(pairs, counts)
        manifest["shards"] = shards
        manifest["fingerprint"] = fingerprint(manifest)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return manifest


def _pair_facts(pairs: Counter[str], counts: dict[str, int]) -> dict[str, float]:
    """`saved_percent`: positions not computed because both answers share them; `shareable_percent`: those of
    the `separate` layout that the `shared` one would save; `divergence`: answer tokens before they differ."""
    separate = counts["tokens"] + pairs["common"] - pairs["repeated"]
    return {
        "saved_percent": round(100 * (separate - counts["tokens"]) / separate, 2),
        "shareable_percent": round(100 * pairs["repeated"] / separate, 2),
        "divergence": round(pairs["answer_common"] / counts["records"], 2),
    }


def _chunks(
    rows: Iterable[tuple[Batch | ForkBatch | PairBatch, list[str]]], size: int
) -> Iterator[tuple[str, list[tuple[Batch | ForkBatch | PairBatch, list[str]]]]]:
    chunk: list[tuple[Batch | ForkBatch | PairBatch, list[str]]] = []
    k = 0
    for item in rows:
        chunk.append(item)
        if len(chunk) == size:
            yield f"rows-{k:05d}.arrayrecord", chunk
            chunk, k = [], k + 1
    if chunk:
        yield f"rows-{k:05d}.arrayrecord", chunk


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yields `folder.partial`, which takes the place of `folder` on success and vanishes on failure."""
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise InputError(
            "the output is there already and is no data folder", where=str(folder), hint="choose another"
        )
    with whole_folder(folder, what="output folder") as partial:
        yield partial


_READ = (
    "kind", "share_prompts", "pair_layout", "rows", "records", "tokens", "target_tokens",
    "max_row_targets", "max_row_records", "max_row_segments", "max_token_id",
)  # fmt: skip


def fingerprint(manifest: dict) -> str:
    """Names the data whatever folder it lies in: hash of the shards' hashes, and of what is read out of the
    manifest: shapes, limits that programs are compiled for, codec and tokenizer."""
    tokenizer = manifest.get("tokenizer") or {}
    facts = {
        "shards": [s["sha256"] for s in manifest["shards"]],
        "seq_len": manifest["seq_len"],
        "codec": manifest.get("codec"),
        "tokenizer": tokenizer.get("sha256"),
        **{key: manifest.get(key) for key in _READ},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: str | Path, *, full: bool = False) -> dict:
    """The manifest, after checking the shards: by size, with `full` by sha256 too.

    Raises:
      InputError: no data folder, another version, or a shard that is missing, cut or changed.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            "no packed data here (manifest.json is missing)", where=str(folder), hint="xlam data build CONFIG"
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
        version, shards, stated = manifest["version"], manifest["shards"], manifest["fingerprint"]
    except (ValueError, KeyError, TypeError) as e:
        raise InputError("the manifest is not readable", where=str(path), hint="build the data again") from e
    if version != VERSION:
        raise InputError(
            f"manifest version {version}, this program reads {VERSION}",
            where=str(path),
            hint="build the data again",
        )
    if stated != fingerprint(manifest):
        raise InputError("the manifest was edited by hand", where=str(path), hint="build the data again")
    for shard in shards:
        file = folder / shard["file"]
        if not file.is_file():
            raise InputError("a shard is missing", where=str(file), hint="build the data again")
        if file.stat().st_size != shard["bytes"]:
            raise InputError(
                f"the shard has {file.stat().st_size} bytes, the manifest says {shard['bytes']}",
                where=str(file),
                hint="build the data again",
            )
        if full and sha256_of(file) != shard["sha256"]:
            raise InputError("the shard was changed", where=str(file), hint="build the data again")
    return manifest
