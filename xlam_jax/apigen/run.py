"""One synthesis run: draw, verify, write, count."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Literal, TextIO

import pydantic

from xlam_jax.apigen.ask_run import AskConfig
from xlam_jax.apigen.executors import CallsConfig
from xlam_jax.apigen.generate import STYLES, GenerateConfig, Generator, MixConfig, mask_names, separate
from xlam_jax.apigen.library import ApiFunction, Split, load_library
from xlam_jax.apigen.rejected import REJECTED, entry
from xlam_jax.apigen.sandbox import Limits, Sandbox, probe_determinism
from xlam_jax.apigen.verify import Deduplicator, Executor, check_format
from xlam_jax.config import Config
from xlam_jax.errors import WorkError
from xlam_jax.files import MARKER, check_beside
from xlam_jax.format import Record, write_records, xlam_view
from xlam_jax.ledger import Ledger

Progress = Callable[[str, int, int], None]
_CHUNK = 256


class LimitsConfig(Config):
    """Bounds of one call: wall-clock seconds, MiB of memory, bytes of JSON result.

    Attributes:
      seconds: of wall clock.
      memory_mib: MiB of memory.
      result_bytes: of the result as JSON.
    """

    seconds: float = pydantic.Field(default=2.0, gt=0)
    memory_mib: int = pydantic.Field(default=512, ge=64)
    result_bytes: int = pydantic.Field(default=16384, ge=16)


class RunConfig(Config):
    """A synthesis run.

    Attributes:
      out: folder of the results (used by the command line).
      seed: decides every draw.
      rows: verified training rows wanted.
      heldout_rows: verified rows wanted of held-out functions, for evaluation.
      dev_rows: verified rows wanted of a further set of functions kept from training, for choosing settings.
      heldout_mix: weights of the styles of held-out and development rows.
      attempts: most rows drawn per row wanted.
      observations: `short` stores the results of the calls in the steps, `none` leaves them out.
      rename: share of training rows whose function and parameter names are masked.
      library: functions that the rows call: `stdlib`, or a folder of `xlam apigen library build`.
      generate: how rows are drawn.
      calls: how calls of a library folder are run.
      ask: a language model that asks, for a library folder; without one, rows are made of its descriptions.
    """

    out: str = "runs/apigen"
    library: str = "stdlib"
    seed: int = 0
    rows: int = pydantic.Field(default=1500, ge=1)
    heldout_rows: int = pydantic.Field(default=120, ge=0)
    dev_rows: int = pydantic.Field(default=0, ge=0)
    generate: GenerateConfig = GenerateConfig()
    heldout_mix: MixConfig = MixConfig()
    attempts: float = pydantic.Field(default=4.0, ge=1)
    observations: Literal["none", "short"] = "none"
    rename: float = pydantic.Field(default=0.0, ge=0, le=1)
    limits: LimitsConfig = LimitsConfig()
    calls: CallsConfig = CallsConfig()
    ask: AskConfig | None = None

    def call_limits(self) -> Limits:
        """The bounds of one call."""
        return Limits(
            seconds=self.limits.seconds,
            memory_bytes=self.limits.memory_mib * 2**20,
            result_bytes=self.limits.result_bytes,
        )


@dataclass(frozen=True)
class Report:
    """What a run made.

    Attributes:
      yields: a row a split: `split, generated, verified, fail_format, fail_execution, duplicates, pass_rate`.
      reasons: dropped rows by `stage/reason`.
      styles: verified rows by split and style.
      calls, turns: numbers over the training rows.
      walls: the walls that calls ran behind, see `walls.kinds`.
    """

    yields: list[dict[str, Any]]
    reasons: dict[str, int]
    styles: dict[str, dict[str, int]]
    calls: int
    turns: int
    functions: dict[str, int]
    walls: str
    seconds: float
    out: str

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


def run(config: RunConfig, out_dir: str | os.PathLike[str], progress: Progress | None = None) -> Report:
    """Synthesises verified rows into `out_dir`: train.jsonl, dev.jsonl, heldout.jsonl, rejected.jsonl, ledger.jsonl,
    library.json.

    The files depend on the config alone: two runs are equal byte for byte. They appear together, when all are
    complete.

    Args:
      progress: called with (split, verified rows, wanted rows).

    Raises:
      InputError: unknown library, or somebody else's OUT.partial.
      WorkError: too few rows pass within `attempts`.
    """
    start = time.monotonic()
    out = Path(out_dir)
    limits = config.call_limits()
    library = probe_library(load_library(config.library), limits)
    check_beside(out)
    staging = out.with_name(out.name + ".partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    (staging / MARKER).touch()
    try:
        with (
            Ledger(staging / "ledger.jsonl") as ledger,
            (staging / REJECTED).open("w", encoding="utf-8") as rejected,
            Sandbox(limits) as sandbox,
        ):
            session = _Session(config, library, sandbox, ledger, rejected, progress or (lambda *_: None))
            wanted: dict[Split, int] = {
                "train": config.rows, "dev": config.dev_rows, "heldout": config.heldout_rows,
            }  # fmt: skip
            made = {split: session.split(split, rows) for split, rows in wanted.items()}
        if config.generate.ask == "separately":
            made["train"] = [one for record in made["train"] for one in separate(record)]
        for split, records in made.items():
            write_records(staging / f"{split}.jsonl", records)
        (staging / "library.json").write_text(_library_json(library), encoding="utf-8")
        out.mkdir(parents=True, exist_ok=True)
        (staging / MARKER).unlink()
        for path in sorted(staging.iterdir()):
            os.replace(path, out / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Report(
        yields=session.yields,
        reasons={f"{s}/{r}": n for (s, v, r), n in sorted(ledger.counts.items()) if v == "dropped"},
        styles={split: style_counts(records) for split, records in made.items() if records},
        calls=sum(len(step.tool_calls) for record in made["train"] for step in record.steps),
        turns=sum(len(record.steps) for record in made["train"]),
        functions=dict(Counter(api.split for api in library)),
        walls=sandbox.kind,
        seconds=round(time.monotonic() - start, 2),
        out=str(out),
    )


class _Session:
    """The state of a run: counters, ledger and caches shared by both splits."""

    def __init__(
        self,
        config: RunConfig,
        library: Sequence[ApiFunction],
        sandbox: Sandbox,
        ledger: Ledger,
        rejected: TextIO,
        progress: Progress,
    ):
        self.config, self.library, self.progress = config, library, progress
        self.ledger, self.rejected = ledger, rejected
        self.executor, self.seen = Executor(library, sandbox), Deduplicator()
        self.yields: list[dict[str, Any]] = []

    def split(self, split: Split, wanted: int) -> list[Record]:
        """Draws rows in order of their index until `wanted` have passed every stage."""
        if not wanted:
            return []
        generate = self.config.generate
        if split != "train":
            generate = generate.model_copy(update={"mix": self.config.heldout_mix, "edge_cases": 0.0})
        generator = Generator(self.library, generate, split, self.config.seed)
        most = int(wanted * self.config.attempts)
        kept: list[Record] = []
        fates: Counter[str] = Counter()
        for first in count(0, _CHUNK):
            if first >= most:
                raise WorkError(
                    f"only {len(kept)} of {wanted} {split} rows passed verification",
                    where=f"{most} rows were drawn",
                    hint="ask for fewer rows, or raise attempts",
                )
            for record in self._chunk(
                generator, range(first, min(first + _CHUNK, most)), fates, wanted - len(kept)
            ):
                kept.append(record)
            self.progress(split, len(kept), wanted)
            if len(kept) == wanted:
                break
        generated = sum(fates.values())
        self.yields.append(
            {
                "split": split,
                "generated": generated,
                "verified": fates["verified"],
                "fail_format": fates["format"],
                "fail_execution": fates["execution"],
                "duplicates": fates["duplicates"],
                "pass_rate": round(fates["verified"] / generated, 4),
            }
        )
        return kept

    def _chunk(self, generator: Generator, rows: range, fates: Counter[str], wanted: int) -> list[Record]:
        candidates = [generator.row(i) for i in rows]
        faults = [check_format(record) for record in candidates]
        self.executor.run(record for record, fault in zip(candidates, faults, strict=True) if fault is None)
        kept: list[Record] = []
        for record, fault in zip(candidates, faults, strict=True):
            if len(kept) == wanted:
                break  # what was drawn beyond the wanted rows never existed
            stages = (
                lambda f=fault: f,
                lambda x=record: self.executor.check(x),
                lambda x=record: self.seen.check(x),
            )
            for stage, check in zip(("format", "execution", "duplicates"), stages, strict=True):
                if (rejection := check()) is not None:
                    self.ledger.add(
                        record.id, record.source, stage, "dropped", rejection.reason, rejection.detail
                    )
                    self.rejected.write(entry(record.id, stage, rejection, record.to_json()))
                    fates[stage] += 1
                    break
                self.ledger.add(record.id, record.source, stage, "pass")
            else:
                fates["verified"] += 1
                kept.append(self._finish(record, generator.split))
        return kept

    def _finish(self, record: Record, split: Split) -> Record:
        if self.config.observations == "short":
            record = self.executor.observe(record)
        record = replace(record, lineage=(*record.lineage, "check:format", "check:execution"))
        r = Random(f"{self.config.seed}/mask/{record.id}")
        if split == "train" and r.random() < self.config.rename:
            record = mask_names(record, r)
        return record


def probe_library(library: Sequence[ApiFunction], limits: Limits = Limits()) -> tuple[ApiFunction, ...]:
    """Marks each function as deterministic or not, by running its examples in two processes."""
    jobs, owners = [], []
    for i, api in enumerate(library):
        n = max((len(values) for values in api.examples.values()), default=0)
        for k in range(n):
            jobs.append((api.target, {name: values[k] for name, values in api.examples.items()}))
            owners.append(i)
    verdicts: dict[int, list[bool]] = {}
    for i, same in zip(owners, probe_determinism(jobs, limits), strict=True):
        if same is not None:
            verdicts.setdefault(i, []).append(same)
    return tuple(
        replace(api, deterministic=all(verdicts[i]) if i in verdicts else None)
        for i, api in enumerate(library)
    )


def style_counts(records: Sequence[Record]) -> dict[str, int]:
    """Rows by style, read from their lineage."""
    counts = Counter(part[6:] for record in records for part in record.lineage if part.startswith("style:"))
    return {style: counts[style] for style in STYLES if counts[style]}


def _library_json(library: Sequence[ApiFunction]) -> str:
    rows = [
        {
            **xlam_view(api.tool),
            "category": api.category,
            "target": api.target,
            "split": api.split,
            "deterministic": api.deterministic,
            "queries": list(api.queries),
            "examples": dict(api.examples),
        }
        for api in library
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
