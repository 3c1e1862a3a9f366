"""Draws rows and checks each alone: format, execution, meaning by a rule. Runs in whichever process works.

What rows have to do with each other (duplicates, how many are wanted) is `run`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xlam_jax.apigen.api import Refusal, read_library
from xlam_jax.apigen.executors import CallsConfig, Executed, Executors
from xlam_jax.apigen.generate import MixConfig
from xlam_jax.apigen.library import Split
from xlam_jax.apigen.offline.askable import Askable, askable, content_words, told_apart
from xlam_jax.apigen.offline.compose import Composer, rarity
from xlam_jax.apigen.offline.provenance import Span, trace_call
from xlam_jax.apigen.sandbox import Limits, Sandbox
from xlam_jax.apigen.verify import Rejection, call_key, check_count, check_grounding
from xlam_jax.format import Record
from xlam_jax.records.quality.duplicates import Fingerprint, fingerprint
from xlam_jax.records.quality.schema_check import check_call


@dataclass(frozen=True)
class Drawn:
    """A row and what became of it.

    Attributes:
      stage: where it failed; "" where it passed.
      spans: what each call's values come from.
      executors: the way each call was run.
    """

    index: int
    record: dict[str, Any]
    stage: str = ""
    fault: Rejection | None = None
    spans: tuple[tuple[Span, ...], ...] = ()
    executors: tuple[str, ...] = ()
    print_: Fingerprint | None = None


@dataclass
class Draft:
    """Work for an engine: chunks of indices to drawn rows.

    Attributes:
      library: a library folder.
      calls: how calls are run.
    """

    library: str
    split: Split
    seed: int
    mix: MixConfig
    limits: Limits
    calls: CallsConfig = field(default_factory=CallsConfig)
    _open: Any = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}  # a process opens its own

    def __call__(self, start: int, items: Sequence[int]) -> list[Drawn]:
        """Draws the rows of these indices; `start` is no matter."""
        if self._open is None:
            self._open = _Workshop(self)
        return self._open.rows(items)

    def close(self) -> None:
        """Ends the processes that run calls."""
        if self._open is not None:
            self._open.close()
            self._open = None


def read_askable(library: str, split: Split) -> tuple[list[Askable], list[Refusal]]:
    """The APIs of a split that can be asked for, and why the others cannot."""
    made = [askable(api) for api in read_library(library) if api.split == split]
    return told_apart([a for a in made if isinstance(a, Askable)]), [
        a for a in made if isinstance(a, Refusal)
    ]


class _Workshop:
    """What a process needs to work: the library, a sandbox."""

    def __init__(self, draft: Draft):
        apis, _ = read_askable(draft.library, draft.split)
        self.draft = draft
        self.composer = Composer(apis, draft.mix, draft.split, draft.seed)
        self.rarity = rarity(apis)
        paths = list(
            dict.fromkeys(a.api.run["path"] for a in apis if a.api.door == "python" and a.api.run["path"])
        )
        self.sandbox = Sandbox(
            draft.limits, paths=paths, kind=draft.calls.sandbox, trust=draft.calls.trust, workers=1
        )
        self.sandbox.__enter__()
        self.executors = Executors(self.sandbox, draft.calls, draft.limits.result_bytes)

    def close(self) -> None:
        self.executors.close()
        self.sandbox.__exit__(None, None, None)

    def rows(self, indices: Sequence[int]) -> list[Drawn]:
        drawn = [self.composer.compose(i) for i in indices]
        faults: list[Rejection | None] = []
        spans: list[tuple[tuple[Span, ...], ...]] = []
        for row in drawn:
            fault, row_spans = _format(row.record)
            faults.append(fault)
            spans.append(row_spans)
        jobs = [
            (row.by_name[call.name].api, call.arguments)
            for row, fault in zip(drawn, faults, strict=True) if fault is None
            for call in row.record.steps[0].tool_calls
        ]  # fmt: skip
        done = iter(self.executors.run(jobs))
        rows = []
        for index, row, fault, row_spans in zip(indices, drawn, faults, spans, strict=True):
            stage, results = "format" if fault else "", ()
            if fault is None:
                results = tuple(next(done) for _ in row.record.steps[0].tool_calls)
                if fault := _executed(results):
                    stage = "execution"
                elif fault := self._meant(row.record, row.by_name):
                    stage = "semantic"
            print_ = fingerprint(row.record, near=True) if fault is None else None
            ways = tuple(r.executor for r in results)
            rows.append(Drawn(index, row.record.to_json(), stage, fault, row_spans, ways, print_))
        return rows

    def _meant(self, record: Record, offered: dict[str, Askable]) -> Rejection | None:
        """A rule in the place of a judge: of the tools offered, those called share most with the query's words."""
        said = content_words(record.query)
        # Exact sums: a set has another order in another process.
        score = {
            name: math.fsum(self.rarity.get(w, 0.0) for w in api.words & said)
            for name, api in offered.items()
        }
        called = {call.name for call in record.steps[0].tool_calls}
        others = max((s for name, s in score.items() if name not in called), default=0.0)
        if called:
            best = max(score[name] for name in called)
            if others > best:
                return Rejection("another_tool_fits", f"{others:.1f} against {best:.1f}")
        elif "abstain:argument_missing" not in record.lineage and others > _ANSWERS * sum(
            self.rarity.get(w, 0.0) for w in said
        ):
            return Rejection("answerable", f"{others:.1f}")
        return None


_ANSWERS = 0.5  # share of what a query is about that a tool may share without passing for an answer


def _format(record: Record) -> tuple[Rejection | None, tuple[tuple[Span, ...], ...]]:
    """Stage 1: shape and number of the calls, and a span of the query for each value."""
    style = record.lineage[0].removeprefix("style:")
    tools, spans = {tool.name: tool for tool in record.tools}, []
    if not record.query.strip():
        return Rejection("empty_query"), ()
    for call in record.steps[0].tool_calls:
        if faults := check_call(call, tools):
            return Rejection(faults[0].code, f"{call.name}: {faults[0].detail}"[:300]), ()
        if fault := check_grounding(call, tools[call.name], record.query):
            return fault, ()
        call_spans, _ = trace_call(call, tools[call.name], record.query)
        spans.append(tuple(call_spans))
    for call in record.steps[0].tool_calls:
        texts = [v for v in call.arguments.values() if isinstance(v, str) and len(v) > 2 and not v.islower()]
        if len(set(texts)) < len(texts):
            return Rejection("repeated_value", f"{call.name}: {max(texts, key=texts.count)}"[:200]), ()
    calls = [call_key(call) for call in record.steps[0].tool_calls]
    if len(set(calls)) < len(calls):
        return Rejection("duplicate_call"), ()
    return check_count(style, record.steps[0].tool_calls), tuple(spans)


def _executed(results: Sequence[Executed]) -> Rejection | None:
    """Stage 2: every call ended well."""
    bad = next((r for r in results if r.outcome.status != "ok"), None)
    return Rejection(bad.outcome.status, f"{bad.executor}: {bad.outcome.error}"[:300]) if bad else None
