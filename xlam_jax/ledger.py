"""The ledger: what happened to every row, and the yield table that adds up to the input.

One JSON object a line: `{id, source, stage, verdict, reason, detail}` with verdict `pass`, `repaired`
or `dropped`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
Verdict = Literal["pass", "repaired", "dropped"]


@dataclass(frozen=True)
class Entry:
    """One row's fate at one stage; `reason` is a code such as `unknown_function`, `detail` free text."""

    id: str
    source: str
    stage: str
    verdict: Verdict
    reason: str = ""
    detail: str = ""


class Ledger:
    """Counts fates, and writes them as JSON lines when given a path (complete only after `close`).

    Example:
      >>> with Ledger() as ledger:
      ...     ledger.add("a", "demo", "format", "pass")
      ...     ledger.add("b", "demo", "format", "dropped", "unknown_function", "foo")
      >>> ledger.table()[0]["in"], ledger.table()[0]["out"]
      (2, 1)
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self.path = Path(path) if path else None
        self.counts: Counter[tuple[str, Verdict, str]] = Counter()
        self._file: TextIO | None = None
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = self.path.with_name(self.path.name + ".partial")
            self._file = self._partial.open("w", encoding="utf-8")

    def add(
        self, id: str, source: str, stage: str, verdict: Verdict, reason: str = "", detail: str = ""
    ) -> None:
        """Records one fate; a `repaired` or `dropped` row must name its reason.

        Args:
          id: of the row.
          source: the data set that it came from.
          reason: a code; not needed for `pass`, where it is not counted.
          detail: free text.
        """
        self.add_entry(Entry(id, source, stage, verdict, reason, detail))

    def add_entry(self, entry: Entry) -> None:
        """`add` for an entry made elsewhere, such as in a worker."""
        passed = entry.verdict == "pass"
        if not passed and not entry.reason:
            raise ValueError(f"a {entry.verdict} row needs a reason code (row {entry.id}, {entry.stage})")
        self.counts[entry.stage, entry.verdict, "" if passed else entry.reason] += 1
        if self._file:
            self._file.write(_ENCODE(vars(entry)) + "\n")

    def table(self) -> list[dict]:
        """One row a stage, in order of appearance: `stage, in, out, repaired, dropped, reasons{code: n}`.

        `in == out + dropped` holds by construction.
        """
        stages = list(dict.fromkeys(stage for stage, _, _ in self.counts))
        rows = []
        for stage in stages:
            of = {k[1:]: n for k, n in self.counts.items() if k[0] == stage}
            total, dropped = sum(of.values()), sum(n for (v, _), n in of.items() if v == "dropped")
            reasons = Counter({r: n for (v, r), n in of.items() if v == "dropped"})
            rows.append(
                {
                    "stage": stage,
                    "in": total,
                    "out": total - dropped,
                    "repaired": sum(n for (v, _), n in of.items() if v == "repaired"),
                    "dropped": dropped,
                    "reasons": dict(reasons.most_common()),
                }
            )
        return rows

    def repairs(self) -> dict[str, int]:
        """Rows that were repaired, by reason."""
        by_reason: Counter[str] = Counter()
        for (_, verdict, reason), n in self.counts.items():
            if verdict == "repaired":
                by_reason[reason] += n
        return dict(by_reason.most_common())

    def close(self) -> None:
        """Makes the file visible under its own name."""
        if self._file and self.path:
            self._file.close()
            self._file = None
            os.replace(self._partial, self.path)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Closes; after an error nothing is left, because half a ledger adds up to nothing."""
        if error is None:
            self.close()
        elif self._file:
            self._file.close()
            self._file = None
            self._partial.unlink(missing_ok=True)
