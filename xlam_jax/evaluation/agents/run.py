"""A benchmark of agents: its tasks as cases, models that play them, and verdicts by playing what they said again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.evaluation.agents.scripted import script
from xlam_jax.evaluation.agents.world import ERROR, Episode, Task, World
from xlam_jax.evaluation.harness import Case, CaseResult, Generates, Raw, judge
from xlam_jax.evaluation.journal import Ask
from xlam_jax.evaluation.turns import Game, Say, own_engine, play_games, read_answer
from xlam_jax.format import Codec, Record, Step


@dataclass(frozen=True)
class Benchmark:
    """Tasks, and a world for each.

    Attributes:
      title: how its numbers are to be called.
      world: makes the world of a name; the worlds' answers depend on nothing but the calls.
      note: what its numbers compare with.
    """

    title: str
    tasks: tuple[Task, ...]
    world: Callable[[str], World]
    note: str = "of our own, which compare with no published number"

    @property
    def fingerprint(self) -> str:
        """Changes with any goal, sub-goal or gold action: equal ones make numbers comparable."""
        rows = [
            [t.id, t.goal, t.subgoals, [[c.name, c.arguments] for c in t.gold], t.setting] for t in self.tasks
        ]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


class Agents:
    """A run of some tasks of a benchmark.

    Args:
      codec: writes the prompts and reads the answers.
      budget: most answers of a model in one task.
    """

    def __init__(self, benchmark: Benchmark, tasks: Sequence[Task], codec: Codec, budget: int):
        self.benchmark, self.codec, self.budget = benchmark, codec, budget
        self._tasks = {task.id: task for task in tasks}
        self.cases = [Case(t.id, t.world, "agent", "", benchmark.world(t.world).tools) for t in tasks]

    def level(self, row: CaseResult) -> str:
        """easy or hard."""
        return self._tasks[row.id].level

    def judge(self, case: Case, raw: Raw) -> CaseResult:
        """The verdict on what a model said, by doing it again in a fresh world.

        `detail` of a failure is the last observation of an action that could not be carried out; `metrics` are
        progress, grounding, steps, and those of the world.
        """
        if raw.refused or not raw.new_tokens:
            return judge(case, raw, self.codec)  # which says why it was not run
        episode = self._episode(case)
        calls, refusal = [], ""
        for text in json.loads(raw.text or "[]"):
            if episode.over:
                break
            answered, _, problem = read_answer(text, self.codec)
            calls += [{"name": c.name, "arguments": c.arguments} for c in answered]
            refusal = next(
                (s for s in reversed(episode.step(answered, problem)) if s.startswith(ERROR)), refusal
            )
        score = episode.score()
        detail = "" if score.success else refusal
        return CaseResult(
            case.id, case.style, case.step, "right" if score.success else "wrong", score.error, detail, score.success,
            calls, raw.text, raw.finish_reason, raw.prompt_tokens, raw.new_tokens, raw.seconds, score.success,
            score.error, {"progress": score.progress, **score.metrics},
        )  # fmt: skip

    def scripted(self, name: str, seed: int) -> Ask:
        """A model without weights, see `agents.scripted`.

        Raises:
          InputError: unknown name.
        """
        said = {}
        for number, case in enumerate(self.cases):
            task = self._tasks[case.id]
            answers = script(name, case, task, self.benchmark.world(task.world), self.budget, number, seed)
            texts = [self.codec.render_calls(calls) for calls in answers]
            said[case.key] = Raw(json.dumps(texts, ensure_ascii=False), "stop", new_tokens=1)
        return lambda part: [said[case.key] for case in part]

    def engine(self, engine: Generates, unsaid: list[str], **how: Any) -> Ask:
        """A model of our own engine.

        Args:
          unsaid: takes what the tools' schemas say that the grammars do not.
          how: of `harness.ask`.
        """

        return self.asking(own_engine(engine, self.codec, unsaid, **how))

    def asking(self, say: Say) -> Ask:
        """A model that answers prompts, asked step by step, all tasks of a part at a time."""

        def asked(part: Sequence[Case]) -> list[Raw]:
            return play_games([_Play(case, self._episode(case)) for case in part], say, self.codec)

        return asked

    def _episode(self, case: Case) -> Episode:
        task = self._tasks[case.id]
        return Episode(self.benchmark.world(task.world), task, self.budget)


class _Play(Game):
    """One task being played."""

    def __init__(self, case: Case, episode: Episode):
        goal = episode.task.goal
        query = f"{goal}\n\n{episode.first}" if episode.first else goal
        super().__init__(case, Record(case.id, query, case.tools, (), task_instruction=episode.instruction))
        self._episode = episode

    def act(self, text: str, codec: Codec) -> None:
        self.texts.append(text)
        calls, words, problem = read_answer(text, codec)
        seen = self._episode.step(calls, problem)
        if calls:
            self.remember(
                Step(words, calls[: len(seen)], next_observation=seen[0] if len(seen) == 1 else seen)
            )
        else:
            self.remember(Step(words, user_input=seen[0]))
        self.over = self._episode.over
