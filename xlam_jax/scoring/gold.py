"""Is an answer as good as the gold answer? The one question of pairs and of verified rephrasing."""

from __future__ import annotations

from collections.abc import Sequence

from xlam_jax.errors import InputError
from xlam_jax.format import Tool, ToolCall
from xlam_jax.scoring.bfcl import Verdict, answers_of, score


def score_against(tools: Sequence[Tool], gold: Sequence[ToolCall], calls: Sequence[ToolCall]) -> Verdict:
    """Judges `calls` by BFCL's rules with the gold calls as the only answer, in any order.

    No gold calls means that no call is due. An optional parameter may be omitted or given where the gold
    calls hold its default (`answers_of`).

    Example:
      >>> tool = Tool("f", "", {"properties": {"a": {"type": "integer"}}, "required": ["a"]})
      >>> score_against([tool], [ToolCall("f", {"a": 1})], [ToolCall("f", {"a": 2})]).error_type
      'cannot_find_match'
    """
    if not gold:
        return score(tools, calls, [], category="irrelevance")
    try:
        answers = answers_of(tools, gold)
    except InputError as e:
        return Verdict(False, "unknown_function", e.what)
    return score(tools, calls, answers, category="parallel_multiple")
