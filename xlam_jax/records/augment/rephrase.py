"""Rewrites by a model, each kept only when a model that answers the rewritten prompt makes the same calls.

The paper's rule for task instructions (arXiv 2409.03215, 3.2), used for queries too. The pass runs ahead of
the transforms, in one process, over the rows on which the rates fall; its verified texts are held in memory,
some hundred bytes each.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.format import CALL_FORMATS, LAYOUTS, TASK_INSTRUCTION, ParseError, Record, xlam_view
from xlam_jax.format.record import parse_line, read_lines
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.context import Context, Rewrite, drawn
from xlam_jax.records.augment.styles import format_instructions
from xlam_jax.scoring.gold import score_against

QUERY, TASK = "rephrase_query", "rephrase_task"
BATCH_ROWS = 64
_FORMAT = "xlam-json"
_LAYOUT = LAYOUTS["plain"]

_ASK = {
    QUERY: (
        "Rewrite the user's request in other words. Keep its language, its meaning, and every name, number, "
        "date and quoted text exactly as it is; add nothing and answer nothing. "
        "Reply with the rewritten request only."
    ),
    TASK: (
        "Rewrite the instruction for an assistant that calls tools, in other words. Keep every rule it "
        "states and add none. Reply with the rewritten instruction only."
    ),
}

Messages = list[dict[str, Any]]


class Client(Protocol):
    """What is asked of a model: `xlam_jax.llm.LLM`, or anything with this method."""

    def complete_many(
        self, messages: list[Messages], *, json_mode: bool = False, sample: int = 0
    ) -> Sequence[Any]:
        """One answer a conversation, in order: its text, or an error object where there is none."""
        ...


def rephrase_query(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """The query in a model's words, where a model that answers them makes the record's calls."""
    rewrite = context.rewrites.get((QUERY, *context.place), Rewrite(reason="not_asked"))
    return rewrite.reason or replace(record, query=rewrite.text)


def rephrase_task(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """The task instruction in a model's words, verified likewise."""
    rewrite = context.rewrites.get((TASK, *context.place), Rewrite(reason="not_asked"))
    return rewrite.reason or replace(record, task_instruction=rewrite.text)


@dataclass(frozen=True)
class Wish:
    """One rewrite that a copy asks for; `sample` tells the wishes for one text apart."""

    kind: str
    index: int
    copy: int
    record: Record
    sample: int

    @property
    def text(self) -> str:
        """The text to rewrite."""
        return self.record.query if self.kind == QUERY else self.record.task_instruction or TASK_INSTRUCTION

    def rewritten(self, text: str) -> Record:
        """The record with the new text."""
        if self.kind == QUERY:
            return replace(self.record, query=text)
        return replace(self.record, task_instruction=text)


def rewrite_file(
    source: Path, config: AugmentConfig, writer: Client, answerer: Client
) -> dict[tuple[str, int, int], Rewrite]:
    """Rewrites for every copy on which a rate of rephrasing falls.

    Args:
      writer: rewrites; some temperature gives different words to different samples.
      answerer: answers the rewritten prompts.

    Returns:
      `(transform, global row index, copy)` -> the verified text, or the reason why there is none:
      `no_tools`, `writer_failed`, `same_text`, `answerer_failed`, `unparsable_answer`, or `calls_differ`.
    """
    out: dict[tuple[str, int, int], Rewrite] = {}
    wishes = _wishes(source, config)
    while batch := list(itertools.islice(wishes, BATCH_ROWS)):
        for wish, rewrite in zip(batch, verify(batch, writer, answerer), strict=True):
            out[wish.kind, wish.index, wish.copy] = rewrite
    return out


def verify(wishes: Sequence[Wish], writer: Client, answerer: Client) -> list[Rewrite]:
    """Rewrites each text, has the rewritten prompt answered at every step that makes calls, and compares.

    A record whose steps make no calls is verified on its first step: the answer must make none.
    """
    texts: list[Rewrite] = [Rewrite(reason="no_tools")] * len(wishes)
    able = [i for i, wish in enumerate(wishes) if wish.record.tools and wish.record.steps]
    for sample in sorted({wishes[i].sample for i in able}):
        mine = [i for i in able if wishes[i].sample == sample]
        for i, answer in zip(
            mine, writer.complete_many([_ask(wishes[i]) for i in mine], sample=sample), strict=True
        ):
            texts[i] = _read_rewrite(answer, wishes[i].text)
    asked: list[tuple[int, int, Record]] = []
    for i, wish in enumerate(wishes):
        if texts[i].text:
            record = wish.rewritten(texts[i].text)
            calling = [k for k, step in enumerate(record.steps) if step.tool_calls] or [0]
            asked.extend((i, k, record) for k in calling)
    answers = answerer.complete_many([conversation(record, k) for _, k, record in asked]) if asked else []
    for (i, k, record), answer in zip(asked, answers, strict=True):
        if texts[i].text and (reason := _wrong(record, k, answer)):
            texts[i] = Rewrite(reason=reason)
    return texts


def conversation(record: Record, step: int) -> Messages:
    """Chat messages that ask for the answer of `step`, in words any model understands."""
    shots = "\n".join(
        s if isinstance(s, str) else json.dumps(s, ensure_ascii=False) for s in record.few_shot_examples
    )
    tools = json.dumps([xlam_view(tool) for tool in record.tools], ensure_ascii=False)
    opening = _LAYOUT.join(
        {
            "TASK INSTRUCTION": record.task_instruction or TASK_INSTRUCTION,
            "AVAILABLE TOOLS": tools,
            # The record's own may ask for a format that a general model was never shown.
            "FORMAT INSTRUCTION": format_instructions(_FORMAT, False)[0],
            "FEW-SHOT EXAMPLES": shots,
            "QUERY": record.query,
        }
    )
    messages: Messages = [{"role": "user", "content": opening}]
    for past in record.steps[:step]:
        if past.tool_calls:
            said = CALL_FORMATS[_FORMAT].render(past.tool_calls, None).text
        else:
            said = past.thought
        messages.append({"role": "assistant", "content": said})
        heard = past.next_observation
        parts = [past.user_input]
        if heard not in ("", None):
            text = heard if isinstance(heard, str) else json.dumps(heard, ensure_ascii=False)
            parts.insert(0, _LAYOUT.section("OBSERVATION", text))
        messages.append({"role": "user", "content": "\n\n".join(filter(None, parts))})
    return messages


def _wishes(source: Path, config: AugmentConfig) -> Iterator[Wish]:
    context = Context(config)
    for index, (line, where) in enumerate(read_lines(source)):
        try:
            record = Record.from_json(parse_line(line, where), where)
        except InputError:
            continue  # the transforms' pass puts it into the ledger
        for copy in range(1, config.copies + 1):
            for kind in (QUERY, TASK):
                if drawn(context, kind, index, copy) is not None:
                    wordings = config.rephrase.task_wordings if config.rephrase else 1
                    sample = copy if kind == QUERY else (index * config.copies + copy) % wordings
                    yield Wish(kind, index, copy, record, sample)


def _ask(wish: Wish) -> Messages:
    return [{"role": "system", "content": _ASK[wish.kind]}, {"role": "user", "content": wish.text}]


def _read_rewrite(answer: Any, old: str) -> Rewrite:
    if not isinstance(answer, str) or not answer.strip():
        return Rewrite(reason="writer_failed")
    text = answer.strip()
    # Models like to quote what they were asked for.
    if len(text) > 1 and text[0] == text[-1] == '"' and not old.startswith('"'):
        text = text[1:-1].strip()
    if not text:
        return Rewrite(reason="writer_failed")
    return Rewrite(reason="same_text") if text == old.strip() else Rewrite(text)


def _wrong(record: Record, step: int, answer: Any) -> str:
    if not isinstance(answer, str):
        return "answerer_failed"
    try:
        calls = CALL_FORMATS[_FORMAT].parse(answer, "").tool_calls
    except ParseError:
        return "unparsable_answer"
    verdict = score_against(record.tools, record.steps[step].tool_calls, calls)
    return "" if verdict.valid else "calls_differ"
