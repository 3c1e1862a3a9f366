"""Chat messages in OpenAI's manner -> a Record. Other chat formats are turned into these first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xlam_jax.format.record import Record, Step
from xlam_jax.format.thinking import in_one_block, parted, untagged, with_thinking
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.sources.base import Refused, as_json, call

_NO_RESULT = object()
_PART_KEYS = {"type", "text", "annotations", "cache_control", "_meta"}
_THINKING = ("thinking", "reasoning")  # types of a part of a content
_TEXT = ("text", "input_text", "output_text")
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")  # columns of a row


def record_from_messages(
    messages: Any,
    *,
    id: str,
    source: str,
    license: str = "",
    tools: tuple[Tool, ...] = (),
    task_instruction: str = "",
    lineage: tuple[str, ...] = (),
) -> Record:
    """One Record of a whole conversation.

    System and developer messages at the head become the task instruction. Each turn of the assistant is a
    step: its text and its reasoning the thought, its `tool_calls` (or legacy `function_call`) the calls, the `tool` (or
    `function`) messages after it the observation, the user's next words `user_input`. Results are matched
    by `tool_call_id`, else by the name of the function, else by order; those of several calls become a list
    in the order of the calls, and one result for all of them, or for one call, is the value itself. Messages
    of one role in a row are one turn, unless the assistant speaks after calls.

    Args:
      messages: a list of message objects, or its JSON text.
      task_instruction: stands before the text of system messages.

    Returns:
      The record. `lineage` also names what was left out or changed: `joined_turns`, `cut_leading_assistant`
      (a greeting), `cut_trailing_user` (nobody answered).

    Raises:
      Refused: `bad_message`, `unknown_role`, `not_text` (images and the like), `empty_turn`, `late_system`,
        `no_user_turn`, `no_answer`, `orphan_result`, `missing_result`, and those of `call`.
    """
    messages = as_json(messages)
    if not isinstance(messages, list):
        raise Refused("bad_message", f"messages are no list but {type(messages).__name__}")
    reader = _Reader(system=[task_instruction] if task_instruction else [])
    for number, message in enumerate(messages, 1):
        try:
            reader.read(message)
        except Refused as e:
            raise Refused(e.code, f"message {number}: {e.detail}".rstrip(": ")) from None
    query, steps = reader.finish()
    return Record(
        id=id,
        query=query,
        tools=tools,
        steps=steps,
        task_instruction="\n\n".join(reader.system),
        source=source,
        license=license,
        lineage=(*lineage, *reader.notes),
    )


def refuse_media(row: dict[str, Any]) -> None:
    """Refuses a row with pictures, sounds or films in columns of their own, which its text only points to.

    Raises:
      Refused: `not_text`.
    """
    if key := next((key for key in _MEDIA if row.get(key)), None):
        raise Refused("not_text", f"the row has {key}")


def text_of(content: Any) -> str:
    """The text of a message: null is none, text parts are put together.

    Raises:
      Refused: `not_text`.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    parts = [p for p in parts if not (isinstance(p, dict) and p.get("type") in _THINKING)]
    texts = [_text_in(p) if isinstance(p, dict) else p for p in parts]
    strings = [text for text in texts if isinstance(text, str)]
    if len(strings) < len(texts):
        raise Refused("not_text", str(content)[:80])
    return "\n".join(strings)


def _text_in(part: dict[str, Any]) -> Any:
    kind = part.get("type", "text")
    return part.get("refusal") if kind == "refusal" else part.get("text") if kind in _TEXT else part


@dataclass
class _Turn:
    """A turn of the assistant in the making; `ids` and `results` go along with the calls."""

    texts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    user: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    weight: float = 1.0

    @property
    def thought(self) -> str:
        """Reasoning, and words: before calls one text, before a reply apart from it in `<think>` tags."""
        thinks, words = "\n".join(self.thoughts), "\n".join(self.texts)
        if not thinks:
            return untagged(words) if self.calls else in_one_block(words)
        inner, said = parted(words)  # thinking in both places is often the same
        thinks = "\n".join(filter(None, dict.fromkeys((thinks, *inner))))
        return "\n".join(filter(None, (thinks, said))) if self.calls else with_thinking(thinks, said)

    def add_result(self, message: dict[str, Any]) -> None:
        """Puts a result in the place of its call."""
        open_calls = [i for i, result in enumerate(self.results) if result is _NO_RESULT]
        fitting, key = open_calls, message.get("tool_call_id")
        if key and any(self.ids):
            fitting = [i for i in open_calls if self.ids[i] == key]
        elif message.get("name") and len(self.calls) > 1:
            fitting = [i for i in open_calls if self.calls[i].name == message["name"]]
        if not fitting:
            raise Refused("orphan_result", f"no call waits for {key or message.get('name') or 'it'}")
        self.results[fitting[0]] = _result(message.get("content"))

    @property
    def observation(self) -> Any:
        """One result as it is, one for each call as a list."""
        came = [result for result in self.results if result is not _NO_RESULT]
        if len(came) == len(self.calls) > 1:
            return came
        if len(came) > 1 or (came and len(self.calls) > 1 and any(self.ids)):
            raise Refused("missing_result", f"{len(self.calls)} calls, {len(came)} results")
        return came[0] if came else ""


def _reasoning(message: dict[str, Any]) -> str:
    """The reasoning that stands in a field of its own, or in thinking parts of the content."""
    field = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
    field = field or message.get("thought")
    texts, content = [field], message.get("content")
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and part.get("type") in _THINKING:
            texts.append(_reasoned(part))
    if not field:
        texts += [
            _reasoned(part) for part in message.get("reasoning_details") or () if isinstance(part, dict)
        ]
    return "\n".join(text_of(text).strip() for text in texts if text)


def _reasoned(part: dict[str, Any]) -> Any:
    text = part.get("thinking") or part.get("reasoning") or part.get("text") or part.get("summary")
    if isinstance(text, list):
        return [p.get("text") if isinstance(p, dict) else p for p in text]
    return text


def _result(content: Any) -> Any:
    """A result is any JSON value; a list of text parts is their text."""
    if content is None:
        return ""
    if isinstance(content, list) and content and all(_is_part(part) for part in content):
        return text_of(content)
    return content


def _is_part(value: Any) -> bool:
    """A part of text, and what only speaks of showing or caching it."""
    if not isinstance(value, dict) or not {"type", "text"} <= value.keys() <= _PART_KEYS:
        return False
    return value["type"] == "text" and isinstance(value["text"], str)


@dataclass
class _Reader:
    system: list[str]
    query: list[str] = field(default_factory=list)
    turns: list[_Turn] = field(default_factory=list)
    greeting: bool = False
    notes: list[str] = field(default_factory=list)

    def read(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise Refused("bad_message", f"no object but {type(message).__name__}")
        role = message.get("role")
        if role in ("system", "developer"):
            self._system(text_of(message.get("content")))
        elif role == "user":
            self._user(text_of(message.get("content")))
        elif role == "assistant":
            self._assistant(message)
        elif role in ("tool", "function"):
            self._tool(message)
        else:
            raise Refused("unknown_role", repr(role))

    def finish(self) -> tuple[str, tuple[Step, ...]]:
        if not self.query:
            raise Refused("no_user_turn")
        if not self.turns:
            raise Refused("no_answer")
        if self.turns[-1].user:
            self.turns[-1].user.clear()
            self._note("cut_trailing_user")
        steps = []
        for turn in self.turns:
            user = "\n".join(turn.user)
            steps.append(Step(turn.thought, tuple(turn.calls), turn.observation, user, turn.weight))
        return "\n".join(self.query), tuple(steps)

    def _note(self, name: str) -> None:
        if name not in self.notes:
            self.notes.append(name)

    def _system(self, text: str) -> None:
        if self.query or self.turns or self.greeting:
            raise Refused("late_system")
        self.system += [text] if text.strip() else []

    def _user(self, text: str) -> None:
        if not text.strip():
            raise Refused("empty_turn", "user")
        said = self.turns[-1].user if self.turns else self.query
        if said:
            self._note("joined_turns")
        said.append(text)

    def _assistant(self, message: dict[str, Any]) -> None:
        weight = message.get("weight")
        if weight is not None and (
            isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1
        ):
            raise Refused("bad_message", f"weight {weight!r}, which is from 0 to 1")
        thought = _reasoning(message)
        text = text_of(message.get("content")) or text_of(message.get("refusal"))
        calls = message.get("tool_calls") or message.get("function_call") or []
        calls = as_json(calls)
        calls = calls if isinstance(calls, list) else [calls]
        if not calls and not text.strip():
            raise Refused("empty_turn", "assistant")
        if not self.query:
            if calls or self.turns:
                raise Refused("no_user_turn")
            self.greeting = True
            self._note("cut_leading_assistant")
            return
        turn = self._turn_for(text, bool(calls))
        weight = 1.0 if weight is None else weight
        if (turn.texts or turn.calls) and weight != turn.weight:
            self._note("joined_weights")  # the lower one: nothing is trained that was not to be
        turn.weight = min(turn.weight, weight)
        turn.thoughts += [thought] if thought else []
        turn.texts += [text] if text.strip() else []
        turn.calls += map(call, calls)
        turn.ids += [c.get("id") for c in calls]
        turn.results += [_NO_RESULT] * len(calls)

    def _turn_for(self, text: str, calls: bool) -> _Turn:
        """The last turn when this goes on with it, else a new one."""
        last = self.turns[-1] if self.turns else None
        waits = last and not last.user and all(result is _NO_RESULT for result in last.results)
        # Words before calls, or calls one by one; words after calls are a turn that had no result.
        if last and waits and (not last.calls or (calls and not text.strip())):
            self._note("joined_turns")
            return last
        self.turns.append(_Turn())
        return self.turns[-1]

    def _tool(self, message: dict[str, Any]) -> None:
        if not self.turns or self.turns[-1].user:
            raise Refused("orphan_result", "no call before it")
        self.turns[-1].add_result(message)
