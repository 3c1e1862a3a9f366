"""Synthesis over a library of your own: a language model asks, three stages check, what passes is shown again.

    ask -> format -> execution -> semantics -> duplicates -> rows, and pairs that later requests show

Requests go out in rounds of one size, and a round is shown what passed before it, so the rows depend on the
answers alone. Answers are kept as they come: the same command after a kill asks only what is missing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pydantic

from xlam_jax.apigen import semantic
from xlam_jax.apigen.api import Api, read_library
from xlam_jax.apigen.ask import Asker, Pair, Request, read_pairs
from xlam_jax.apigen.executors import CallsConfig, Executed, Executors
from xlam_jax.apigen.generate import MixConfig
from xlam_jax.apigen.library import Split
from xlam_jax.apigen.rejected import entry
from xlam_jax.apigen.sandbox import Limits, Sandbox
from xlam_jax.apigen.verify import STAGES, Deduplicator, Rejection, check_count, check_grounding
from xlam_jax.config import Config
from xlam_jax.errors import InputError, WorkError
from xlam_jax.files import whole_file
from xlam_jax.format import Record, Step, write_records
from xlam_jax.ledger import Ledger
from xlam_jax.llm import LLM, LLMError
from xlam_jax.records.quality.schema_check import check_call

Progress = Callable[[str, int, int], None]
_ROUND = 16  # requests that are shown the same pairs


class EndpointConfig(Config):
    """An OpenAI-compatible endpoint.

    Attributes:
      base_url: such as `http://localhost:8000/v1`.
      model: its name there.
      api_key_env: variable that holds the key.
      temperature: of sampling.
      max_tokens: longest answer.
      concurrency: requests at a time.
      retries: of a request that failed.
      json_mode: ask for a JSON object, where the endpoint offers that.
      price: of a million tokens of requests, and of answers.
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = pydantic.Field(default=0.7, ge=0)
    max_tokens: int = pydantic.Field(default=2048, ge=16)
    concurrency: int = pydantic.Field(default=8, ge=1)
    retries: int = pydantic.Field(default=5, ge=0)
    json_mode: bool = False
    price: tuple[float, float] = (0.0, 0.0)

    def client(self, cache: Path, where: str) -> LLM:
        """A client that keeps its answers in `cache`; InputError where the endpoint is not named."""
        for key in ("base_url", "model"):
            if not getattr(self, key):
                hint = f"{where}.base_url=http://localhost:8000/v1 {where}.model=NAME"
                raise InputError("the endpoint is not named", where=f"{where}.{key}", hint=hint)
        return LLM(
            self.base_url, self.model, self.api_key_env, cache, self.temperature, self.max_tokens,
            self.concurrency, self.retries,
        )  # fmt: skip


class AskConfig(Config):
    """Questions by a language model.

    Attributes:
      generator: the endpoint that writes pairs.
      judge: the endpoint that checks their meaning; without one every value has to stand in the query (a rule in
        the place of a judge, and named so in the lineage).
      mix: weights of the styles.
      pairs: pairs a request.
      shots: most pairs that passed before that a request shows.
      license: of the rows.
    """

    generator: EndpointConfig = EndpointConfig()
    judge: EndpointConfig | None = None
    mix: MixConfig = MixConfig()
    pairs: int = pydantic.Field(default=4, ge=1, le=32)
    shots: int = pydantic.Field(default=3, ge=0, le=16)
    license: str = ""


@dataclass
class AskReport:
    """What a run made.

    Attributes:
      yields: one row a split: `split, generator, requests, pairs, fail_*, duplicates, verified, pass_rate`.
      styles: pairs and verified rows by split and style.
      executors: calls of verified rows by the way they were run.
      reasons: dropped pairs by `stage/reason`.
      costs: requests, tokens and price of this run by endpoint; answers that were kept cost nothing.
    """

    out: str
    yields: list[dict[str, Any]] = field(default_factory=list)
    styles: list[dict[str, Any]] = field(default_factory=list)
    executors: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    costs: list[dict[str, Any]] = field(default_factory=list)
    walls: str = ""
    seconds: float = 0.0
    short: str = ""


def run_asked(
    config: AskConfig,
    calls: CallsConfig,
    library: str | os.PathLike[str],
    rows: dict[Split, int],
    seed: int,
    attempts: float,
    limits: Limits,
    out: str | os.PathLike[str],
    progress: Progress | None = None,
) -> AskReport:
    """Writes train.jsonl, heldout.jsonl, rejected.jsonl and ledger.jsonl into `out`.

    Args:
      calls: how they are run.
      library: a library folder.
      rows: verified rows wanted, by split.
      attempts: most pairs asked for, per row wanted.

    Raises:
      InputError: no such library, or Python functions and no walls.
      WorkError: the endpoint answers nothing at all.
    """
    start, folder = time.monotonic(), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    apis = read_library(library)
    paths = list(dict.fromkeys(a.run["path"] for a in apis if a.run.get("path")))
    report = AskReport(str(folder))
    with (
        Sandbox(limits, paths=paths, kind=calls.sandbox, trust=calls.trust) as sandbox,
        whole_file(folder / "ledger.jsonl") as ledger_path,
        whole_file(folder / "rejected.jsonl") as rejected_path,
        Ledger(ledger_path) as ledger,
        rejected_path.open("w", encoding="utf-8") as rejected,
    ):
        session = _Session(config, folder, Executors(sandbox, calls, limits.result_bytes), ledger, rejected)
        for split, wanted in rows.items():
            mine = [api for api in apis if api.split == split]
            if wanted and mine:
                made = session.split(
                    split, mine, wanted, seed, attempts, progress or (lambda *_: None), report
                )
                with whole_file(folder / f"{split}.jsonl") as path:
                    write_records(path, made)
            elif wanted:
                report.short = f"the library has no functions for {split}"
        session.executors.close()
        report.costs = [
            {
                "endpoint": name, "model": llm.model, "requests": llm.asked, "prompt_tokens": llm.prompt_tokens,
                "completion_tokens": llm.completion_tokens,
                "price": round(sum(n * p / 1e6 for n, p in zip(
                    (llm.prompt_tokens, llm.completion_tokens), endpoint.price, strict=True)), 4),
            }
            for name, llm, endpoint in (
                ("generator", session.generator, config.generator), ("judge", session.judge, config.judge)
            )
            if llm is not None and endpoint is not None
        ]  # fmt: skip
        report.walls = sandbox.kind
    report.executors = dict(session.kinds)
    report.reasons = {f"{s}/{r}": n for (s, v, r), n in sorted(ledger.counts.items()) if v == "dropped"}
    report.seconds = round(time.monotonic() - start, 2)
    return report


class _Session:
    def __init__(self, config: AskConfig, folder: Path, executors: Executors, ledger: Ledger, rejected: Any):
        self.config, self.executors, self.ledger, self.rejected = config, executors, ledger, rejected
        self.generator = config.generator.client(folder / "answers.jsonl", "ask.generator")
        self.judge = config.judge.client(folder / "verdicts.jsonl", "ask.judge") if config.judge else None
        self.seen, self.kinds = Deduplicator(), Counter[str]()

    def split(
        self, split: Split, apis: Sequence[Api], wanted: int, seed: int, attempts: float, progress: Progress,
        report: AskReport,
    ) -> list[Record]:  # fmt: skip
        config = self.config
        asker = Asker(apis, config.mix, config.pairs, config.shots, seed)
        kept: list[Record] = []
        passed: list[dict[str, Any]] = []
        fates: Counter[str] = Counter()
        styles: dict[str, Counter[str]] = {}
        first, most = 0, max(1, round(wanted * attempts / config.pairs))
        while len(kept) < wanted and first < most:
            requests = [asker.request(i, passed) for i in range(first, min(first + _ROUND, most))]
            first += len(requests)
            fates["requests"] += len(requests)
            answers = self.generator.complete_many(
                [r.messages for r in requests], json_mode=config.generator.json_mode
            )
            if all(isinstance(a, LLMError) for a in answers):
                raise WorkError(
                    f"the generator answers nothing: {answers[0]}", where=config.generator.base_url,
                    hint="the same command goes on with what was answered before",
                )  # fmt: skip
            rows = list(self._rows(split, requests, answers, fates, styles))
            for record, calls in self._checked(rows, fates):
                if len(kept) == wanted:
                    break
                kept.append(record)
                passed.append({"query": record.query, "answers": calls})
                styles.setdefault(_style(record), Counter())["verified"] += 1
            progress(split, len(kept), wanted)
        report.yields.append(
            {
                "split": split, "generator": config.generator.model, "requests": fates["requests"],
                "pairs": fates["pairs"], **{f"fail_{s}": fates[s] for s in STAGES[:3]},
                "duplicates": fates["duplicates"], "verified": fates["verified"],
                "pass_rate": round(fates["verified"] / max(1, fates["pairs"]), 4),
            }
        )  # fmt: skip
        report.styles += [{"split": split, "style": s, **n} for s, n in sorted(styles.items())]
        if len(kept) < wanted:
            report.short = f"{len(kept)} of {wanted} {split} rows passed, of {fates['pairs']} pairs"
        return kept

    def _rows(
        self, split: Split, requests: Sequence[Request], answers: Sequence[str | LLMError], fates: Counter[str],
        styles: dict[str, Counter[str]],
    ) -> Any:  # fmt: skip
        """`(record, request, None)` of each pair, with the fault of what is no pair."""
        for request, answer in zip(requests, answers, strict=True):
            pairs = [f"no answer: {answer}"] if isinstance(answer, LLMError) else read_pairs(answer)
            for number, pair in enumerate(pairs):
                fates["pairs"] += 1
                styles.setdefault(request.style, Counter())["pairs"] += 1
                id = f"{split}-{request.index:06d}-{number}"
                if isinstance(pair, str):
                    self._drop(
                        id,
                        "format",
                        Rejection("bad_json", pair),
                        fates,
                        answer if isinstance(answer, str) else "",
                    )
                else:
                    yield self._record(id, request, pair), request

    def _record(self, id: str, request: Request, pair: Pair) -> Record:
        steps = (Step(tool_calls=pair.calls),)
        tools = tuple(api.tool for api in request.offered)
        lineage = (f"style:{request.style}", f"generator:{self.config.generator.model}")
        return Record(
            id, pair.query, tools, steps, source="apigen", license=self.config.license, lineage=lineage
        )

    def _checked(
        self, rows: Sequence[tuple[Record, Request]], fates: Counter[str]
    ) -> list[tuple[Record, list]]:
        """The rows that pass every stage, with their calls; each stage takes a whole round."""
        left = [
            (record, request)
            for record, request in rows
            if not self._fails(record, "format", self._format(record), fates)
        ]
        jobs = [
            ({a.tool.name: a for a in request.offered}[call.name], call.arguments)
            for record, request in left for call in record.steps[0].tool_calls
        ]  # fmt: skip
        done = iter(self.executors.run(jobs))
        ran: list[tuple[Record, list[Executed]]] = []
        for record, _ in left:
            results = [next(done) for _ in record.steps[0].tool_calls]
            bad = next((r for r in results if r.outcome.status != "ok"), None)
            fault = Rejection(bad.outcome.status, f"{bad.executor}: {bad.outcome.error}") if bad else None
            if not self._fails(record, "execution", fault, fates):
                ran.append((record, results))
        verdicts: list[Any] = [None] * len(ran)
        if self.judge is not None:
            answers = self.judge.complete_many([semantic.question(*row) for row in ran])
            verdicts = [
                Rejection("judge_failed", str(a)) if isinstance(a, LLMError) else semantic.verdict(a)
                for a in answers
            ]
        passed = []
        for (record, results), fault in zip(ran, verdicts, strict=True):
            if self._fails(record, "semantic", fault, fates) or self._fails(
                record, "duplicates", self.seen.check(record), fates
            ):
                continue
            fates["verified"] += 1
            ways = sorted({r.executor for r in results})
            self.kinds.update(r.executor for r in results)
            checks = (
                "check:format",
                "check:execution",
                "check:semantic" if self.judge else "check:grounding-rule",
            )
            lineage = (*record.lineage, *(f"executor:{w}" for w in ways), *checks)
            calls = [{"name": c.name, "arguments": c.arguments} for c in record.steps[0].tool_calls]
            passed.append((replace(record, lineage=lineage), calls))
        return passed

    def _format(self, record: Record) -> Rejection | None:
        if not record.query:
            return Rejection("empty_query")
        calls, tools = record.steps[0].tool_calls, {tool.name: tool for tool in record.tools}
        for call in calls:
            if faults := check_call(call, tools):
                return Rejection(faults[0].code, f"{call.name}: {faults[0].detail}"[:300])
            if self.judge is None and (fault := check_grounding(call, tools[call.name], record.query)):
                return fault
        return check_count(_style(record), calls)

    def _fails(self, record: Record, stage: str, fault: Rejection | None, fates: Counter[str]) -> bool:
        if fault is None:
            self.ledger.add(record.id, record.source, stage, "pass")
            return False
        self._drop(record.id, stage, fault, fates, record.to_json())
        return True

    def _drop(self, id: str, stage: str, fault: Rejection, fates: Counter[str], row: Any) -> None:
        fates[stage] += 1
        self.ledger.add(id, "apigen", stage, "dropped", fault.reason, fault.detail)
        self.rejected.write(entry(id, stage, fault, row))


def _style(record: Record) -> str:
    return record.lineage[0].removeprefix("style:")
