"""Dialogues: a blueprint is checked, played by a scripted or a language model's agent, and kept where both end alike.

After APIGen-MT (arXiv 2504.03601): a blueprint has its calls executed and its final state known before anybody speaks;
a dialogue counts where the agent's calls lead to that state and its words hold what the customer was to be told.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlam_jax.apigen.dialogues.blueprints import Blueprint, blueprint
from xlam_jax.apigen.dialogues.shop import FUNCTIONS, READS, Shop, call
from xlam_jax.apigen.offline.provenance import leaves, needs_no_ground, trace
from xlam_jax.apigen.signature import tool_from_function
from xlam_jax.apigen.verify import Rejection
from xlam_jax.errors import WorkError
from xlam_jax.format import Codec, Record, Step, Tool, ToolCall, get_codec, write_records
from xlam_jax.ledger import Ledger
from xlam_jax.llm import LLM, LLMError
from xlam_jax.records.quality.schema_check import check_call

STAGES = ("blueprint", "play")
_MOST_STEPS = 8  # calls of an agent in one turn


@dataclass
class DialogueReport:
    """What a run made.

    Attributes:
      planned: blueprints drawn.
      kept: dialogues written.
      reasons: dropped ones by `stage/reason`.
      turns, calls: numbers over those kept.
    """

    out: str
    planned: int = 0
    kept: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    calls: int = 0


@functools.cache
def tools() -> tuple[Tool, ...]:
    """The shop's functions as a model sees them."""
    shop = Shop(0)
    return tuple(tool_from_function(getattr(shop, name)) for name in FUNCTIONS)


def run_dialogues(
    out: str | os.PathLike[str],
    rows: int,
    seed: int = 0,
    turns: tuple[int, int] = (2, 6),
    agent: LLM | None = None,
    attempts: float = 4.0,
    progress: Callable[[int], None] = lambda _: None,
) -> DialogueReport:
    """Writes `rows` dialogues as Records to `out`, and OUT's ledger beside it.

    Args:
      turns: fewest and most turns of the customer.
      agent: plays the assistant; a script of the planned calls without.
      attempts: most blueprints drawn, per row wanted.

    Raises:
      WorkError: too few are kept.
    """
    out, report = Path(out), DialogueReport(str(out))
    codec = get_codec(call_format="openai")
    kept: list[Record] = []
    with Ledger(f"{out}.ledger.jsonl") as ledger:
        while len(kept) < rows and report.planned < int(rows * attempts):
            plan = blueprint(seed, report.planned, *turns)
            id = f"shop-{seed}-{report.planned:06d}"
            report.planned += 1
            fault = check_blueprint(plan)
            if _fails(ledger, report, id, "blueprint", fault):
                continue
            record, shop = _scripted(id, plan) if agent is None else _played(id, plan, agent, codec)
            fault = None if agent is None else check_play(plan, record, shop)
            if not _fails(ledger, report, id, "play", fault):
                kept.append(record)
                progress(len(kept))
    write_records(out, kept)
    report.kept = len(kept)
    report.turns = sum(1 + sum(bool(s.user_input) for s in r.steps) for r in kept)
    report.calls = sum(len(s.tool_calls) for r in kept for s in r.steps)
    if len(kept) < rows:
        reasons = ", ".join(f"{n} {r}" for r, n in report.reasons.items())
        raise WorkError(
            f"{len(kept)} of {rows} dialogues were kept: {reasons}", where=str(out), hint="those are written"
        )
    return report


def _fails(ledger: Ledger, report: DialogueReport, id: str, stage: str, fault: Rejection | None) -> bool:
    verdict = "dropped" if fault else "pass"
    ledger.add(
        id, "apigen/shop", stage, verdict, fault.reason if fault else "", fault.detail if fault else ""
    )
    if fault:
        key = f"{stage}/{fault.reason}"
        report.reasons[key] = report.reasons.get(key, 0) + 1
    return fault is not None


def check_blueprint(plan: Blueprint) -> Rejection | None:
    """Whether a blueprint can be learned from.

    Every call fits its schema, is grounded in what was said or answered before it, and ends well; the same calls in
    another shop of the seed end alike; and no call that writes can be left out.
    """
    by_name = {tool.name: tool for tool in tools()}
    shop, known = Shop(plan.seed), ""
    for turn in plan.turns:
        known += f"\n{turn.said}"
        for name, arguments in turn.calls:
            planned = ToolCall(name, arguments)
            if faults := check_call(planned, by_name):
                return Rejection(faults[0].code, f"{name}: {faults[0].detail}")
            for key, value in arguments.items():
                schema = by_name[name].parameters["properties"][key]
                for path, leaf, inner in leaves(key, value, schema):
                    # Reasons and ways to pay are said in words of one's own, kinds in the plural.
                    free = key in ("reason", "payment") or f"{leaf}s" in known
                    said = free or needs_no_ground(leaf, inner) or trace(leaf, inner, key, known)
                    if not said:
                        return Rejection("ungrounded_value", f"{name}.{path} = {leaf!r}")
            answer = call(shop, name, arguments)
            if isinstance(answer, dict) and "error" in answer:
                return Rejection("raised", f"{name}: {answer['error']}")
            known += f"\n{json.dumps(answer)}"
    every = [planned for turn in plan.turns for planned in turn.calls]
    if _replayed(plan.seed, every) != shop.state():
        return Rejection("not_repeatable")
    for i, (name, _) in enumerate(every):
        if name not in READS and _replayed(plan.seed, [*every[:i], *every[i + 1 :]]) == shop.state():
            return Rejection("needless_call", name)
    return None


def _replayed(seed: int, calls: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The state that the calls lead to; {} where one of them cannot be done."""
    shop = Shop(seed)
    for name, arguments in calls:
        answer = call(shop, name, arguments)
        if isinstance(answer, dict) and "error" in answer:
            return {}
    return shop.state()


def check_play(plan: Blueprint, record: Record, shop: Shop) -> Rejection | None:
    """Whether a dialogue ended as planned: the shop's state, and the figures and ids that the customer was to hear."""
    truth = _replayed(plan.seed, [planned for turn in plan.turns for planned in turn.calls])
    if (state := shop.state()) != truth:
        return Rejection("other_state", ", ".join(key for key in truth if state[key] != truth[key]))
    words = [step.thought for step in record.steps if not step.tool_calls]
    if len(words) != len(plan.turns):
        return Rejection("unfinished", f"{len(words)} of {len(plan.turns)} turns")
    for turn, said in zip(plan.turns, words, strict=True):
        for figure in re.findall(r"\bA\d{4,}\b|\d+\.\d\d", turn.told):
            if figure not in said and str(float(figure) if "." in figure else figure) not in said:
                return Rejection("not_told", f"{figure} after {turn.said!r}")
    return None


def _scripted(id: str, plan: Blueprint) -> tuple[Record, Shop]:
    """The dialogue as planned."""
    shop, steps = Shop(plan.seed), []
    for i, turn in enumerate(plan.turns):
        for name, arguments in turn.calls:
            steps.append(
                Step(tool_calls=(ToolCall(name, arguments),), next_observation=call(shop, name, arguments))
            )
        following = plan.turns[i + 1].said if i + 1 < len(plan.turns) else ""
        steps.append(Step(thought=turn.told, user_input=following))
    return _record(id, plan, steps, "script"), shop


def _played(id: str, plan: Blueprint, agent: LLM, codec: Codec) -> tuple[Record, Shop]:
    """The dialogue as a language model's agent plays it; the customer keeps to the blueprint."""
    shop, steps = Shop(plan.seed), []
    for i in range(len(plan.turns)):
        for _ in range(_MOST_STEPS):
            messages, offered = codec.messages(_record(id, plan, steps, agent.model))
            for planned in (c for m in messages for c in m.get("tool_calls") or ()):
                arguments = planned["function"]["arguments"]
                planned["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
            (answer,) = agent.call_many([(messages, offered)])
            if isinstance(answer, LLMError):
                raise answer  # what came before is kept, and the same command goes on
            said = codec.parse(answer, strict=False)
            if not said.tool_calls:
                following = plan.turns[i + 1].said if i + 1 < len(plan.turns) else ""
                steps.append(Step(thought=said.thought, user_input=following))
                break
            results = [call(shop, c.name, c.arguments) for c in said.tool_calls]
            observed = results[0] if len(results) == 1 else results
            steps.append(Step(said.thought, said.tool_calls, observed))
        else:
            break
    return _record(id, plan, steps, agent.model), shop


def _record(id: str, plan: Blueprint, steps: list[Step], who: str) -> Record:
    counts = Counter(name for turn in plan.turns for name, _ in turn.calls)
    return Record(
        id, plan.turns[0].said, tools(), tuple(steps), source="apigen/shop", license="Apache-2.0",
        lineage=("style:multi_turn", f"turns:{len(plan.turns)}", f"agent:{who}", "check:state", "executor:python",
                 *(f"calls:{name}" for name in sorted(counts))),
    )  # fmt: skip
