"""Reference log-probabilities stored beside the pairs, and the key that says what they are of.

`DATA/reference/` holds `facts.json` and `part-00000.npy`, ...: float32 [rows, seq_len] in the order of the
data's rows, aligned with `targets`, 0 where nothing is trained. A part is there whole or not at all, so an
interrupted run goes on after the last one.

The facts name the data (whose fingerprint covers the rows, their ids, the codec and the tokenizer), the
weights and the dtypes. Log-probabilities under other facts are never used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.files import whole_file, write_text
from xlam_jax.models.params import Params
from xlam_jax.parallel.mesh import batch_share
from xlam_jax.parallel.rules import batch_sharding
from xlam_jax.shards.batch import PairBatch
from xlam_jax.shards.loader import PackedSource, eval_batches, to_device
from xlam_jax.training.preference.objective import PairModel, reference_logprobs

FOLDER, FACTS = "reference", "facts.json"
PART_ROWS = 256
_WHAT = {
    "data": "the pairs, their template or their tokenizer",
    "weights": "the weights of the model",
    "param_dtype": "precision.param_dtype",
    "compute_dtype": "precision.compute_dtype",
}


class PreferenceSource(PackedSource):
    """Packed pairs, with their stored reference log-probabilities when `reference` is set.

    Raises:
      InputError: data of another kind; with `reference`, none stored, not all rows, or not of these pairs.
    """

    def __init__(self, folder: str | Path, *, verify: bool = False, reference: bool = False):
        super().__init__(folder, verify=verify)
        if self.manifest.get("kind") != "preference":
            raise InputError(
                "the data holds no preference pairs",
                where=str(folder),
                hint="kind: preference in the config of xlam data build, or objective.kind=sft",
            )
        self.facts = read_facts(self.folder) if reference else {}
        if reference:
            if not self.facts:
                raise InputError("no reference log-probabilities here", where=self._where, hint=_hint(folder))
            check_facts({"data": self.fingerprint}, self.facts, self.folder)
            done = done_rows(self.folder)
            if done < len(self):
                raise InputError(
                    f"reference log-probabilities of {done} of {len(self)} rows",
                    where=self._where,
                    hint=f"{_hint(folder)}; it goes on where it stopped",
                )
        self._part = lru_cache(maxsize=64)(lambda k: np.load(_part(self.folder, k), mmap_mode="r"))

    @property
    def _where(self) -> str:
        return str(self.folder / FOLDER)

    def __getitem__(self, index: int) -> tuple[PairBatch, list[str]]:
        row, ids = super().__getitem__(index)
        if self.facts:
            row = row._replace(reference=np.asarray(self._part(index // PART_ROWS)[index % PART_ROWS]))
        return row, ids

    def pair_model(self, cfg: Any, **options: Any) -> PairModel:
        """The `PairModel` of these rows."""
        manifest = self.manifest
        # Rounded up, so that data that differs a little compiles to the same program.
        return PairModel(
            cfg,
            shared=manifest["pair_layout"] == "shared",
            max_targets=-(-manifest["max_row_targets"] // 64) * 64,
            max_pairs=-(-manifest["max_row_records"] // 4) * 4,
            # Apart, a pair is two documents; padding is one more.
            max_segments=-(-(2 * manifest["max_row_records"] + 1) // 8) * 8,
            **options,
        )


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of the reference stored with a data folder; {} when there is none."""
    path = folder / FOLDER / FACTS
    try:
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError:
        return {}


def check_facts(wanted: dict[str, Any], stored: dict[str, Any], folder: Path) -> None:
    """Raises InputError that names what differs: stale log-probabilities are never used."""
    changed = [what for key, what in _WHAT.items() if key in wanted and wanted[key] != stored.get(key)]
    if changed:
        raise InputError(
            f"the stored reference is stale: {', '.join(changed)} changed since it was computed",
            where=str(folder / FOLDER),
            hint=_hint(folder),
        )


def compute(
    source: PreferenceSource,
    params: Params,
    model: PairModel,
    facts: dict[str, Any],
    *,
    mesh: jax.sharding.Mesh,
    rows: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Fills `DATA/reference/`; goes on after the rows that are there under equal facts.

    Args:
      facts: `weights` (`weights_key`) and the dtypes; the data's are added.
      rows: of a batch over the whole mesh.
      progress: called with the number of rows done.

    Returns:
      the facts, with `rows` and `computed` (rows of this call).
    """
    folder = source.folder
    facts = {"data": source.fingerprint, **facts, "seq_len": source.seq_len}
    writes = jax.process_index() == 0
    if read_facts(folder) != facts and writes:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        (folder / FOLDER).mkdir()
        write_text(folder / FOLDER / FACTS, json.dumps(facts, indent=2) + "\n")
    _meet("reference facts")
    first = done_rows(folder)
    _meet("reference rows")
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    run = jax.jit(reference_logprobs(model), out_shardings=everywhere)
    part: list[np.ndarray] = []
    done = first
    for values in _batches(run, source, params, mesh, rows, first):
        for row in values[: len(source) - done]:
            part.append(row)
            done += 1
            if len(part) == PART_ROWS or done == len(source):
                if writes:
                    _save(_part(folder, (done - 1) // PART_ROWS), np.stack(part))
                part = []
        if progress:
            progress(done)
    _meet("reference done")
    return {**facts, "rows": done, "computed": done - first}


def _batches(
    run: Callable, source: PreferenceSource, params: Params, mesh: jax.sharding.Mesh, rows: int, first: int
) -> Iterator[np.ndarray]:
    place = batch_sharding(mesh)
    share = batch_share(mesh)
    for batch in eval_batches(source, rows, *share, first=first):
        pairs = to_device(PairBatch(*(field[0] for field in batch)), place, share[1])
        yield jax.device_get(run(params, pairs))


def done_rows(folder: Path) -> int:
    """Rows whose log-probabilities are stored, counted from the first."""
    count = 0
    while _part(folder, count // PART_ROWS).is_file() and count % PART_ROWS == 0:
        count += len(np.load(_part(folder, count // PART_ROWS), mmap_mode="r"))
    return count


def _part(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"part-{number:05d}.npy"


def _save(path: Path, values: np.ndarray) -> None:
    with whole_file(path) as partial, partial.open("wb") as f:
        np.save(f, values.astype(np.float32))


def _meet(name: str) -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def _hint(folder: str | Path) -> str:
    return f"xlam data reference {folder} --model MODEL"
