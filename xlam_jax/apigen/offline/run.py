"""A synthesis run without a model, over a library folder: draw, check, write as it goes, count.

    draft (format -> execution -> semantic rule), in chunks by an engine -> duplicates -> rows

Files grow as chunks come. After each chunk the journal says how long every file is and what was counted: after a
kill the same command cuts the files there and goes on, to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from xlam_jax.apigen.generate import MixConfig
from xlam_jax.apigen.library import Split
from xlam_jax.apigen.offline.draft import Draft, Drawn, read_askable
from xlam_jax.apigen.verify import STAGES
from xlam_jax.errors import InputError
from xlam_jax.files import JOURNAL, sha256_of, whole_folder
from xlam_jax.format import Record
from xlam_jax.records.engine import RowEngine
from xlam_jax.records.quality.duplicates import Seen, fingerprint

Progress = Callable[[str, int, int], None]
_CHUNK = 128
_FILES = frozenset(
    (
        "train.jsonl",
        "dev.jsonl",
        "heldout.jsonl",
        "provenance.jsonl",
        "rejected.jsonl",
        "ledger.jsonl",
        "report.json",
    )
)
_NEAR = 0.8  # estimated Jaccard similarity from which two rows of one set of tools are near duplicates


@dataclass
class OfflineReport:
    """What a run made.

    Attributes:
      yields: a row a split: `split, generator, generated, fail_*, duplicates, verified, pass_rate`.
      styles, categories: verified rows by split and style, and by category.
      executors: calls of verified rows by the way they were run.
      apis: distinct APIs that verified rows are about, by door.
      reasons: dropped rows by `stage/reason`.
      refused: APIs that cannot be asked for, by reason.
      short: why there are fewer rows than wanted.
    """

    out: str
    yields: list[dict[str, Any]] = field(default_factory=list)
    styles: list[dict[str, Any]] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    executors: dict[str, int] = field(default_factory=dict)
    apis: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    short: str = ""

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


def run_offline(
    draft: Draft,
    rows: dict[Split, int],
    heldout_mix: MixConfig,
    attempts: float,
    engine: RowEngine,
    out: str | os.PathLike[str],
    progress: Progress | None = None,
) -> OfflineReport:
    """Writes a folder with train.jsonl, heldout.jsonl, provenance.jsonl, rejected.jsonl, ledger.jsonl, report.json.

    Args:
      draft: how rows are drawn and checked; its split and mix are those of the training rows.
      rows: verified rows wanted, by split.
      heldout_mix: weights of the styles of the other splits.
      attempts: most rows drawn per row wanted.

    Raises:
      InputError: no such library, nothing of it can be asked for, or another run's unfinished folder is there.
      WorkError: another process writes there.
    """
    start, folder = time.monotonic(), Path(out).resolve()
    if rows.get("train"):
        _need_apis(draft.library, *read_askable(draft.library, "train"))
    plan = json.dumps(
        [asdict_of(draft), rows, heldout_mix.model_dump(), attempts, _digest(Path(draft.library) / "apis.jsonl")],
        sort_keys=True, default=str,
    )  # fmt: skip
    report = OfflineReport(str(folder))
    _check_own(folder)
    with whole_folder(folder, resume=True, what="synthesis") as partial:
        with closing(
            _Files(partial, hashlib.sha256(plan.encode()).hexdigest(), [s for s, n in rows.items() if n])
        ) as files:
            for split, wanted in rows.items():
                if not wanted:
                    continue
                mix = draft.mix if split == "train" else heldout_mix
                of_split = Draft(**{**draft.__dict__, "split": split, "mix": mix, "_open": None})
                _split(of_split, wanted, attempts, engine, files, progress or (lambda *_: None), report)
            _tally(files.counts, report)
        report.seconds = round(time.monotonic() - start, 1)
        stable = {k: v for k, v in report.to_json().items() if k not in ("seconds", "out")}
        (partial / "report.json").write_text(json.dumps(stable, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (partial / JOURNAL).unlink()
    return report


def _check_own(folder: Path) -> None:
    """A finished run is made anew; what else lies in its folder is somebody's."""
    there = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    others = [name for name in there if name not in _FILES or "report.json" not in there]
    if others:
        raise InputError(
            f"the folder holds more than a synthesis: {', '.join(sorted(others)[:5])}", where=str(folder),
            hint="move that away, or name another out=",
        )  # fmt: skip


def asdict_of(draft: Draft) -> dict[str, Any]:
    """What decides the rows of a draft."""
    return {
        "library": draft.library, "seed": draft.seed, "mix": draft.mix.model_dump(), "limits": asdict(draft.limits),
        "calls": draft.calls.model_dump(),
    }  # fmt: skip


def _split(
    draft: Draft,
    wanted: int,
    attempts: float,
    engine: RowEngine,
    files: _Files,
    progress: Progress,
    report: OfflineReport,
) -> None:
    apis, refused = read_askable(draft.library, draft.split)
    for one in refused:
        report.refused[one.reason] = report.refused.get(one.reason, 0) + 1
    if len(apis) < 2:
        report.short = f"the library has no functions for {draft.split}"
        return
    seen = Seen(_NEAR)
    for record in files.kept(draft.split):
        seen.check(record.id, fingerprint(record, near=True))
    most, prefix = int(wanted * attempts), f"{draft.split}:"
    first = files.counts[prefix + "next"]
    done = files.counts[prefix + "verified"]
    progress(draft.split, done, wanted)
    if done < wanted and first < most:
        with ExitStack() as stack:
            stack.callback(draft.close)
            results = stack.enter_context(closing(engine.run(draft, range(first, most), _CHUNK)))
            for chunk in results:
                for drawn in chunk:
                    if files.counts[prefix + "verified"] == wanted:
                        break
                    _keep(drawn, draft.split, seen, files)
                files.checkpoint()
                done = files.counts[prefix + "verified"]
                progress(draft.split, done, wanted)
                if done == wanted:
                    break
    if done < wanted:
        report.short = (
            f"{done} of {wanted} {draft.split} rows passed, of {files.counts[prefix + 'next']} drawn"
        )


def _need_apis(library: str, apis: list[Any], refused: list[Any]) -> None:
    if len(apis) < 2:
        counts = Counter(one.reason for one in refused)
        raise InputError(
            "fewer than two APIs of the library can be asked for", where=library,
            hint=", ".join(f"{n} {r}" for r, n in counts.items()) or "xlam apigen library show",
        )  # fmt: skip


def _keep(drawn: Drawn, split: Split, seen: Seen, files: _Files) -> None:
    """Counts a drawn row and writes it where it belongs."""
    counts, row, prefix = files.counts, drawn.record, f"{split}:"
    style = next(m[6:] for m in row["lineage"] if m.startswith("style:"))
    category = next(m[9:] for m in row["lineage"] if m.startswith("category:"))
    counts[prefix + "next"] = drawn.index + 1
    counts[prefix + "generated"] += 1
    counts[f"{prefix}style:{style}:drawn"] += 1
    stage, fault = drawn.stage, drawn.fault
    reason, detail = (fault.reason, fault.detail) if fault else ("", "")
    if not stage and drawn.print_ is not None and (twin := seen.check(row["id"], drawn.print_)):
        stage, reason, detail = "duplicates", twin.code, twin.of
    for passed in STAGES:
        if passed == stage:
            break
        files.write("ledger.jsonl", {"id": row["id"], "source": row["source"], "stage": passed, "verdict": "pass",
                                     "reason": "", "detail": ""})  # fmt: skip
    if stage:
        counts[f"{prefix}fail:{stage}"] += 1
        counts[f"reason:{stage}/{reason}"] += 1
        entry = {
            "id": row["id"],
            "source": row["source"],
            "stage": stage,
            "verdict": "dropped",
            "reason": reason,
            "detail": detail,
        }
        files.write("ledger.jsonl", entry)
        files.write(
            "rejected.jsonl",
            {"id": row["id"], "stage": stage, "reason": reason, "detail": detail, "row": row},
        )
        return
    counts[prefix + "verified"] += 1
    counts[f"{prefix}style:{style}:verified"] += 1
    counts[f"category:{category}"] += 1
    for way in drawn.executors:
        counts[f"executor:{way}"] += 1
    checks = ("check:format", "check:execution", "check:semantic-rule")
    row["lineage"] += [*(f"executor:{w}" for w in sorted(set(drawn.executors))), *checks]
    files.write(f"{split}.jsonl", row)
    spans = [[asdict(s) for s in of_call] for of_call in drawn.spans]
    files.write("provenance.jsonl", {"id": row["id"], "calls": spans})


def _tally(counts: Counter[str], report: OfflineReport) -> None:
    """The tables of a run, from its counts."""
    for split in ("train", "dev", "heldout"):
        if not counts[f"{split}:generated"]:
            continue
        n, ok = counts[f"{split}:generated"], counts[f"{split}:verified"]
        failed = {f"fail_{s}": counts[f"{split}:fail:{s}"] for s in STAGES[:3]}
        report.yields.append(
            {"split": split, "generator": "frames", "generated": n, **failed,
             "duplicates": counts[f"{split}:fail:duplicates"], "verified": ok, "pass_rate": round(ok / n, 4)}
        )  # fmt: skip
        styles = sorted({k.split(":")[2] for k in counts if k.startswith(f"{split}:style:")})
        report.styles += [
            {"split": split, "style": s, "drawn": counts[f"{split}:style:{s}:drawn"],
             "verified": counts[f"{split}:style:{s}:verified"]}
            for s in styles
        ]  # fmt: skip

    def of(prefix: str) -> dict[str, int]:
        tally = {k.removeprefix(prefix): n for k, n in counts.items() if k.startswith(prefix) and n}
        return dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))

    report.categories, report.executors, report.reasons = of("category:"), of("executor:"), of("reason:")


def _digest(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


class _Files:
    """Files that grow together, and the journal that says how far they are good."""

    def __init__(self, folder: Path, plan: str, splits: list[Split]):
        self.folder, self.plan = folder, plan
        self.names = (*(f"{s}.jsonl" for s in splits), "provenance.jsonl", "rejected.jsonl", "ledger.jsonl")
        self.counts: Counter[str] = Counter()
        sizes = self._resume()
        self._files: dict[str, BinaryIO] = {}
        for name in self.names:
            file = (folder / name).open("ab")
            file.truncate(sizes.get(name, 0))
            self._files[name] = file
        self._journal = (folder / JOURNAL).open("ab")
        self.checkpoint()

    def _resume(self) -> dict[str, int]:
        path = self.folder / JOURNAL
        if not path.is_file():
            return {}
        whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        try:  # what follows the last line end was cut
            last: dict[str, Any] = json.loads(whole[-1]) if whole else {}
            sound = not last or ({"plan", "counts"} <= last.keys() and self._holds(last["sizes"]))
        except (ValueError, KeyError, AttributeError):
            last, sound = {}, False
        if not sound:
            raise InputError(
                "the unfinished run here is damaged", where=str(self.folder), hint="remove the folder to begin anew"
            )  # fmt: skip
        if last and last["plan"] != self.plan:
            raise InputError(
                "an unfinished run of another configuration is here", where=str(self.folder),
                hint="run that configuration to its end, name another out=, or remove the folder",
            )  # fmt: skip
        self.counts.update(last.get("counts", {}))
        return last.get("sizes", {})

    def _holds(self, sizes: dict[str, int]) -> bool:
        """Whether every file is as long as the journal says, or longer."""
        paths = {name: self.folder / name for name in sizes}
        return all(p.is_file() and p.stat().st_size >= sizes[name] for name, p in paths.items())

    def kept(self, split: Split) -> Iterator[Record]:
        """The rows written so far."""
        with (self.folder / f"{split}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                yield Record.from_json(json.loads(line))

    def write(self, name: str, row: dict[str, Any]) -> None:
        self._files[name].write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def checkpoint(self) -> None:
        """Everything written so far counts from now on."""
        sizes = {}
        for name, file in self._files.items():
            file.flush()
            sizes[name] = file.seek(0, os.SEEK_END)
        line = json.dumps({"plan": self.plan, "sizes": sizes, "counts": dict(self.counts)})
        self._journal.write(line.encode() + b"\n")
        self._journal.flush()

    def close(self) -> None:
        for file in (*self._files.values(), self._journal):
            file.close()
