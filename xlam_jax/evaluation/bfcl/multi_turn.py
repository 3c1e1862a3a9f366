"""BFCL's multi-turn rows: a model plays them behind the walls, and state and responses decide.

A turn is what the user says; a step is one answer of the model and the results of its calls. A turn ends with an answer
without calls, a row after its last turn, or by force after more than 20 steps of one turn (bfcl-eval's
MAXIMUM_STEP_LIMIT); a row that ended in its last turn is judged all the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.apigen.sandbox import Limits, Sandbox
from xlam_jax.errors import InputError, WorkError
from xlam_jax.evaluation.bfcl.categories import Category
from xlam_jax.evaluation.bfcl.data import FUNCTIONS, Data, read_rows
from xlam_jax.evaluation.bfcl.play import MODULES, parse_call
from xlam_jax.evaluation.harness import Case, CaseResult, Raw, judge
from xlam_jax.evaluation.turns import Game, Say, play_games, read_answer
from xlam_jax.extras import need
from xlam_jax.format import Codec, Record, Step, Tool, ToolCall
from xlam_jax.format.tools import normalise_tool

MOST_STEPS = 20
_PLAY = "xlam_jax.evaluation.bfcl.play"
# The one turn of a row that says nothing brings functions that were held back.
_MORE_FUNCTIONS = "There are more functions now. Please go on with what was asked."
# A row's published calls take hundredths of a second; numbers out of the air can ask for hours.
_LIMITS = Limits(seconds=5.0, result_bytes=8 << 20)


@dataclass(frozen=True)
class Play:
    """A row.

    Attributes:
      case: its id, category and first prompt, for reports and journals.
      said: the user's words of each turn.
      tools: what is offered in each turn.
      entry: what `play.World` takes.
      gold: the published calls of each turn, as Python writes them.
    """

    case: Case
    said: tuple[str, ...]
    tools: tuple[tuple[Tool, ...], ...]
    entry: dict[str, Any]
    gold: list[list[str]]


def plays(data: Data, wanted: Category) -> list[Play]:
    """All rows of a multi-turn category, in file order.

    Raises:
      InputError: missing files, or a line that is no row (names it).
    """
    answers = {
        row["id"]: row["ground_truth"] for _, row in read_rows(data.answers(wanted), ("id", "ground_truth"))
    }
    docs: dict[str, list[Tool]] = {}
    out = []
    for where, row in read_rows(data.file(wanted), ("id", "question", "initial_config", "involved_classes")):
        if row["id"] not in answers:
            raise InputError(f"no possible answer for {row['id']!r}", where=where)
        try:
            for name in row["involved_classes"]:
                docs[name] = docs.get(name) or _docs(data, name)
            out.append(_play(row, answers[row["id"]], docs, wanted))
        except (KeyError, TypeError, AttributeError) as e:
            raise InputError(f"not a multi-turn row: {type(e).__name__}: {e}", where=where) from e
    return out


def walls(trust: bool) -> Sandbox:
    """A sandbox for `play`; a context manager.

    Raises:
      InputError: bfcl-eval is not installed, or there are no walls and its classes are not trusted.
    """
    install = "pip install --no-deps bfcl-eval mpmath"
    need("bfcl_eval", install=install, where="multi-turn rows", instead="--category single_turn")
    sandbox = Sandbox(_LIMITS, trust=trust)
    if sandbox.kind == "none" and not trust:
        sandbox.close()
        raise InputError(
            "multi-turn rows run classes of bfcl-eval, which is not done without walls",
            where=sandbox.reason,
            hint="pip install 'xlam-jax[apigen]' (Linux), --trust, or --category single_turn",
        )
    return sandbox


def judge_play(play: Play, raw: Raw, codec: Codec, sandbox: Sandbox) -> CaseResult:
    """What BFCL's checks, and the strict rule beside them, make of the answers of all turns.

    Strict: no call in a turn where none is due.

    Args:
      raw: as `play_all` gives it: its text is JSON, the texts of the steps of each turn.
      codec: reads the calls of each text.
      sandbox: where the classes of bfcl-eval run, see `walls`.
    """
    if raw.refused or not raw.new_tokens:
        return judge(play.case, raw, codec)  # which says why it was not run
    turns = [
        [calls for text in turn if (calls := read_answer(text, codec)[0])]
        for turn in json.loads(raw.text or "[]")
    ]
    steps = [[[[c.name, [], c.arguments] for c in calls] for calls in turn] for turn in turns]
    (outcome,) = sandbox.run([(f"{_PLAY}:check", {"entry": play.entry, "turns": steps, "gold": play.gold})])
    if outcome.status == "ok":
        error, detail, unasked = (outcome.value[key] for key in ("error", "detail", "unasked"))
    elif outcome.status == "raised" and "ModuleNotFoundError" in outcome.error:
        raise WorkError(
            f"the classes of bfcl-eval cannot be imported: {outcome.error}", hint="pip install mpmath"
        )
    else:
        error, detail, unasked = outcome.status, outcome.error, -1
    strict_error = error or ("unexpected_call" if unasked >= 0 else "")
    case = play.case
    flat = [{"name": c.name, "arguments": c.arguments} for turn in turns for calls in turn for c in calls]
    return CaseResult(
        case.id, case.style, case.step, "wrong" if error else "right", error, detail, not error, flat, raw.text,
        raw.finish_reason, raw.prompt_tokens, raw.new_tokens, raw.seconds, not strict_error, strict_error,
    )  # fmt: skip


def gold_turns(play: Play) -> list[list[tuple[ToolCall, ...]]]:
    """The published calls, a step a turn, with their arguments named."""
    turns = []
    for due, tools in zip(play.gold, play.tools, strict=True):
        by_name = {tool.name: tool for tool in tools}
        turns.append([tuple(_named(parse_call(text), by_name) for text in due)] if due else [])
    return turns


def play_all(played: Sequence[Play], say: Say, codec: Codec, sandbox: Sandbox) -> list[Raw]:
    """What a model says to each row, turn by turn, all rows a step at a time.

    Args:
      say: answers to the prompts of cases.

    Returns:
      A `Raw` a row whose text is JSON: texts of the steps of each turn, fewer turns than the row has where it was ended
      by force or outgrew the model; tokens and seconds are sums.
    """
    return play_games([_Game(play, sandbox) for play in played], say, codec)


class _Game(Game):
    """One row being played."""

    def __init__(self, play: Play, sandbox: Sandbox):
        super().__init__(play.case, Record(play.case.id, play.said[0], play.tools[0], ()))
        self.play, self._sandbox = play, sandbox
        self.texts = [[]]
        self.steps: list[list[Any]] = []

    def outgrown(self) -> None:
        self.texts.pop()
        self.over = True

    def act(self, text: str, codec: Codec) -> None:
        self.texts[-1].append(text)
        calls, words, _ = read_answer(text, codec)
        if calls:
            self._run(calls)
        elif len(self.texts) == len(self.play.said):
            self.over = True
        else:
            turn = len(self.texts)
            self.texts.append([])
            self.remember(Step(thought=words, user_input=self.play.said[turn]), self.play.tools[turn])

    def _run(self, calls: tuple[ToolCall, ...]) -> None:
        now = [[c.name, [], c.arguments] for c in calls]
        job = {"entry": self.play.entry, "before": self.steps, "calls": now}
        (outcome,) = self._sandbox.run([(f"{_PLAY}:step", job)])
        results = (
            outcome.value
            if outcome.status == "ok"
            else [f"Error during execution: {outcome.error}"] * len(now)
        )
        self.steps.append(now)
        observation = results[0] if len(results) == 1 else results
        self.remember(Step(tool_calls=calls, next_observation=observation))
        self.over = len(self.texts[-1]) > MOST_STEPS


def _named(call: list[Any], by_name: dict[str, Tool]) -> ToolCall:
    name, positional, named = call
    order = list(by_name[name].parameters.get("properties", {})) if name in by_name else []
    return ToolCall(name, {**dict(zip(order, positional, strict=False)), **named})


def _docs(data: Data, name: str) -> list[Tool]:
    path = data.folder / FUNCTIONS / f"{MODULES[name]}.json"
    return [normalise_tool(row) for _, row in read_rows(path, ("name", "parameters"))]


def _play(row: dict[str, Any], gold: list[list[str]], docs: dict[str, list[Tool]], wanted: Category) -> Play:
    tools = [tool for name in row["involved_classes"] for tool in docs[name]]
    held = {name: int(turn) for turn, names in row.get("missed_function", {}).items() for name in names}
    said = tuple(
        "\n".join(m["content"] for m in turn if m["role"] == "user") if turn else _MORE_FUNCTIONS
        for turn in row["question"]
    )
    offered = tuple(tuple(t for t in tools if held.get(t.name, 0) <= turn) for turn in range(len(said)))
    entry = {
        "involved_classes": row["involved_classes"],
        "initial_config": row["initial_config"],
        "long_context": wanted.name == "multi_turn_long_context",
    }
    case = Case(row["id"], wanted.name, "multi_turn", "", offered[0])
    return Play(case, said, offered, entry, gold)
