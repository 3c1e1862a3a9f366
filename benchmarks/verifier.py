"""The verifier measured: every class of error put into clean records, and what of it is found."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np
import typer

from xlam_jax.cli.common import JsonOption, print_table, working, write_json
from xlam_jax.cli.main import run
from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, read_records
from xlam_jax.records.quality.contamination import EvaluationIndex
from xlam_jax.records.quality.corrupt import CORRUPTIONS, Corruption, Pool
from xlam_jax.records.quality.duplicates import Seen, fingerprint
from xlam_jax.records.quality.rules import Actions, RuleConfig, Rules, argument_scores
from xlam_jax.records.quality.verify import VerifyConfig, VerifyTask

EVALUATION_SHARE = 10
GROUNDING = "ungrounded_argument"
THRESHOLDS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Clean:
    """Records that the rules find no fault with, a part of them set aside as an evaluation set.

    Attributes:
      excluded: code -> records of the input that are not clean for it (the first code counts).
      examples: code -> a few details, so that a reader can judge who errs, the record or the rule.
    """

    records: tuple[Record, ...]
    index: EvaluationIndex
    pool: Pool
    excluded: dict[str, int]
    examples: dict[str, list[str]]


def bench_verifier(
    paths: Sequence[Path],
    per_class: int = 1000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Injects each class of error into clean records and counts what the verifier finds.

    For each class, as many clean records stand beside the corrupted ones. A corrupted record counts as found
    when its code is among the findings. `first` is the share where it is the first one, which names the row's
    fate in the ledger; `mixed` is the precision of first codes where the corrupted rows of all classes are
    mixed. Grounding is no rule of yes and no: its curve goes over thresholds.

    Args:
      paths: Records files.

    Returns:
      `records, clean, excluded, classes, grounding, speed`.

    Raises:
      InputError: nothing clean to corrupt.
    """
    strict = RuleConfig(actions=Actions.model_validate(dict.fromkeys(Actions.model_fields, "drop")))
    records = [record for path in paths for record in read_records(path)]
    clean = choose_clean(records, strict)
    if not clean.records:
        raise InputError("no clean record to corrupt", where=", ".join(map(str, paths)))
    classes = []
    for corruption in CORRUPTIONS.values():
        if progress:
            progress(corruption.name)
        classes.append(_measure(corruption, clean, strict, per_class, seed))
    _add_mixed(classes)
    return {
        "records": len(records),
        "clean": len(clean.records),
        "excluded": clean.excluded,
        "examples": clean.examples,
        "classes": classes,
        "grounding": _grounding_curve(clean, per_class, seed),
        "speed": _speed(clean.records),
    }


def choose_clean(records: Sequence[Record], config: RuleConfig) -> Clean:
    """Splits records into clean ones, an evaluation set (one in ten of these), and excluded ones."""
    rules, seen = Rules(config), Seen(VerifyConfig().near_threshold)
    excluded: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    clean = []
    for record in records:
        faults = [f for f in rules.find(record) if f.code != GROUNDING]
        code, detail = (faults[0].code, faults[0].detail) if faults else ("", "")
        if not code and (found := seen.check(record.id, fingerprint(record, near=True))):
            code, detail = found.code, found.of
        if code:
            excluded[code] += 1
            if len(examples.setdefault(code, [])) < 5:
                examples[code].append(f"{record.id}: {detail}"[:240])
        else:
            clean.append(record)
    held = clean[::EVALUATION_SHARE]
    index = EvaluationIndex.of([("held out", [record.query for record in held])])
    rest = [r for i, r in enumerate(clean) if i % EVALUATION_SHARE]
    apart = [record for record in rest if index.find(record) is None]
    excluded["held out or overlapping with it"] = len(clean) - len(apart)
    pool = Pool.of(apart, [record.query for record in held])
    return Clean(tuple(apart), index, pool, dict(excluded), examples)


def _corrupted(corruption: Corruption, clean: Clean, count: int, seed: int) -> list[tuple[Record, Record]]:
    """`(clean, corrupted)` pairs, from records spread over the whole input."""
    order = np.random.default_rng([seed, crc32(b"order")]).permutation(len(clean.records))
    pairs = []
    for i in order:
        rng = np.random.default_rng([seed, crc32(corruption.name.encode()), int(i)])
        bad = corruption.apply(clean.records[i], rng, clean.pool)
        if bad is not None:
            pairs.append((clean.records[i], bad))
        if len(pairs) == count:
            break
    return pairs


def _measure(
    corruption: Corruption, clean: Clean, strict: RuleConfig, count: int, seed: int
) -> dict[str, Any]:
    pairs = _corrupted(corruption, clean, count, seed)
    good, bad = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if corruption.code in ("duplicate", "near_duplicate"):
        seen = Seen(VerifyConfig().near_threshold)
        on_good = [_duplicate_codes(seen, record) for record in good]
        on_bad = [_duplicate_codes(seen, record) for record in bad]
    elif corruption.code == "contaminated":
        on_good = [["contaminated"] if clean.index.find(r) else [] for r in good]
        on_bad = [["contaminated"] if clean.index.find(r) else [] for r in bad]
    else:
        rules = Rules(strict)
        on_good = [[f.code for f in rules.find(record)] for record in good]
        on_bad = [[f.code for f in rules.find(record)] for record in bad]
    code = corruption.code
    true, false = sum(code in codes for codes in on_bad), sum(code in codes for codes in on_good)
    first = Counter(codes[0] if codes else "nothing" for codes in on_bad)
    row: dict[str, Any] = {
        "firsts": dict(first),
        "class": corruption.name,
        "code": code,
        "rows": len(bad),
        "precision": true / (true + false) if true + false else None,
        "recall": true / len(bad) if bad else None,
        "first": first.pop(code, 0) / len(bad) if bad else None,
        "instead": dict(first.most_common(3)),
        "repaired": None,
    }
    if corruption.name == "castable_type":
        row["repaired"] = _repaired(pairs) / len(pairs) if pairs else None
    missed = [b for b, codes in zip(bad, on_bad, strict=True) if code not in codes]
    row["missed"] = [record.id for record in missed[:5]]
    return row


def _add_mixed(classes: list[dict[str, Any]]) -> None:
    """Precision where all classes are mixed and each row counts once, for its first code."""
    named: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for row in classes:
        firsts = row.pop("firsts")
        named.update(firsts)
        right[row["code"]] += firsts.get(row["code"], 0)
    for row in classes:
        row["mixed"] = right[row["code"]] / named[row["code"]] if named[row["code"]] else None


def _duplicate_codes(seen: Seen, record: Record) -> list[str]:
    found = seen.check(record.id, fingerprint(record, near=True))
    return [found[0]] if found else []


def _repaired(pairs: Iterable[tuple[Record, Record]]) -> int:
    """How many records the repair brings back exactly, int and float told apart."""
    rules = Rules(RuleConfig())

    def calls(record: Record | None) -> str:
        steps = record.steps if record else ()
        return json.dumps([[(c.name, c.arguments) for c in step.tool_calls] for step in steps])

    return sum(calls(rules.apply(bad)[0]) == calls(good) for good, bad in pairs)


def _grounding_curve(clean: Clean, count: int, seed: int) -> list[dict[str, float | None]]:
    pairs = _corrupted(CORRUPTIONS["hallucinated_argument"], clean, count, seed)
    good = np.array([_least_score(pair[0]) for pair in pairs])
    bad = np.array([_least_score(pair[1]) for pair in pairs])
    curve = []
    for threshold in THRESHOLDS:
        true, false = int((bad < threshold).sum()), int((good < threshold).sum())
        curve.append(
            {
                "threshold": threshold,
                "precision": true / (true + false) if true + false else None,
                "recall": true / len(bad) if len(bad) else None,
                "false_alarms": false / len(good) if len(good) else None,
            }
        )
    return curve


def _least_score(record: Record) -> float:
    return min((score for *_, score in argument_scores(record)), default=1.0)


def _speed(records: Sequence[Record]) -> dict[str, float]:
    """Records a second of one process: the rules alone, and whole lines with and without near duplicates."""
    sample = list(records[:2000])
    items = [(json.dumps(r.to_json(), ensure_ascii=False).encode(), "") for r in sample]
    rules = Rules(RuleConfig())
    exact = VerifyConfig(rules=RuleConfig(actions=Actions(near_duplicate="off")))
    timed = {
        "rules": lambda: [rules.apply(r, len(line)) for r, (line, _) in zip(sample, items, strict=True)],
        "lines": lambda: VerifyTask(exact)(0, items),
        "lines_with_near_duplicates": lambda: VerifyTask(VerifyConfig())(0, items),
    }
    return {name: len(sample) / min(_seconds(work) for _ in range(3)) for name, work in timed.items()}


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


app = typer.Typer(pretty_exceptions_enable=False)


@app.command(epilog="Example: python benchmarks/verifier.py configs/demo/records.jsonl --per-class 50")
def main(
    records: Annotated[list[Path], typer.Argument(metavar="RECORDS...", help="Records with gold calls.")],
    per_class: Annotated[int, typer.Option(min=1, help="Corrupted records of each class.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the corruptions.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """Inject every class of error into clean records: precision and recall of the verifier, and its speed."""
    with working("reading") as status:
        result = bench_verifier(records, per_class, seed, status)
    write_json(json_file, result)
    excluded = [{"code": code, "records": n} for code, n in result["excluded"].items()]
    print_table(f"{result['clean']} clean of {result['records']} records; left out", excluded)
    hidden = ("missed", "code")
    print_table("classes", [{k: v for k, v in row.items() if k not in hidden} for row in result["classes"]])
    print_table("grounding by threshold", result["grounding"])
    print_table("records a second, one process", [result["speed"]])


if __name__ == "__main__":
    run(app)
