"""The rows of a BFCL run: single-turn cases and multi-turn plays, each put to a model and judged in its way."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from xlam_jax.errors import unknown
from xlam_jax.evaluation.bfcl.cases import category_cases, gold_calls, reachable
from xlam_jax.evaluation.bfcl.categories import Category
from xlam_jax.evaluation.bfcl.data import Data
from xlam_jax.evaluation.bfcl.multi_turn import Play, gold_turns, judge_play, play_all, plays, walls
from xlam_jax.evaluation.harness import Case, CaseResult, Generates, Raw, judge, sample
from xlam_jax.evaluation.journal import Ask
from xlam_jax.evaluation.scripted import SCRIPTS, random_calls, scripted_answers
from xlam_jax.evaluation.turns import Say, own_engine
from xlam_jax.format import Codec, ToolCall

Turns = list[list[tuple[ToolCall, ...]]]


class Rows:
    """A sample of the rows of some categories; a context manager where multi-turn rows are among them.

    Args:
      limit: most rows a category, drawn by `seed`; None for all.
      trust: run bfcl-eval's classes without walls where there are none.

    Raises:
      InputError: damaged or missing files; multi-turn rows without bfcl-eval or walls.
    """

    def __init__(
        self,
        data: Data,
        categories: Sequence[Category],
        codec: Codec,
        *,
        limit: int | None = None,
        seed: int = 0,
        trust: bool = False,
    ):
        self.codec, self.seed = codec, seed
        self.cases: list[Case] = []
        self._plays: dict[tuple[str, str, int], Play] = {}
        for category in categories:
            if category.kind == "multi_turn":
                drawn = sample(plays(data, category), limit, seed)
                self._plays |= {play.case.key: play for play in drawn}
                self.cases += [play.case for play in drawn]
            else:
                self.cases += sample(category_cases(data, category, codec), limit, seed)
        self._walls = walls(trust) if self._plays else None

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._walls is not None:
            self._walls.close()

    @property
    def about(self) -> dict[str, str]:
        """What verdicts depend on beside the files: the version of the classes that multi-turn rows run."""
        return {"classes": f"bfcl-eval {version('bfcl-eval')}"} if self._plays else {}

    def judge(self, case: Case, raw: Raw, codec: Codec | None = None) -> CaseResult:
        """The verdicts on what a model said to a case, read by `codec` or the run's own."""
        play = self._plays.get(case.key)
        if play is None or self._walls is None:
            return judge(case, raw, codec or self.codec)
        return judge_play(play, raw, codec or self.codec, self._walls)

    def best(self) -> set[tuple[str, str, int]]:
        """Keys of the single-turn rows whose published answer passes."""
        return reachable(case for case in self.cases if case.key not in self._plays)

    def scripted(self, name: str) -> Ask:
        """A model without weights, see `evaluation.scripted`; in multi-turn rows it answers a step a turn."""
        single = [case for case in self.cases if case.key not in self._plays]
        answers = scripted_answers(name, single, self.codec, gold_calls, self.seed)
        said = dict(zip((case.key for case in single), answers, strict=True))
        seen: Counter[str] = Counter()
        for key, play in self._plays.items():
            number = seen[play.case.style]
            seen[play.case.style] += 1
            texts = [
                [self.codec.render_calls(calls) for calls in turn] for turn in self._turns(name, play, number)
            ]
            said[key] = Raw(json.dumps(texts, ensure_ascii=False), "stop", new_tokens=1)
        return lambda part: [said[case.key] for case in part]

    def engine(self, engine: Generates, unsaid: list[str], **how: Any) -> Ask:
        """A model of our own engine.

        Args:
          unsaid: takes what the tools' schemas say that the grammars do not.
          how: of `harness.ask`.
        """

        return self.asking(own_engine(engine, self.codec, unsaid, **how))

    def asking(self, say: Say) -> Ask:
        """A model that answers prompts: asked once for a single-turn case, and step by step in multi-turn rows."""

        def asked(part: Sequence[Case]) -> list[Raw]:
            single = [case for case in part if case.key not in self._plays]
            games = [self._plays[case.key] for case in part if case.key in self._plays]
            said = dict(zip((case.key for case in single), say(single) if single else (), strict=True))
            if games and self._walls is not None:
                played = play_all(games, say, self.codec, self._walls)
                said |= dict(zip((play.case.key for play in games), played, strict=True))
            return [said[case.key] for case in part]

        return asked

    def _turns(self, name: str, play: Play, number: int) -> Turns:
        if name not in SCRIPTS:
            raise unknown("scripted model", name, SCRIPTS)
        if name == "empty":
            return [[()] for _ in play.said]
        if name == "random":
            rng = random.Random(f"{self.seed} {play.case.key}")
            return [[random_calls(play.case, rng)] for _ in play.said]
        turns = gold_turns(play)
        if name == "mutated" and number % 2:  # the last turn in which calls are due has none
            last = max(i for i, turn in enumerate(turns) if turn)
            turns[last] = []
        return turns
