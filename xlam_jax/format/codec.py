"""The codec: one object that turns Records into text with spans, and text into calls.

Three independent choices compose it: the layout of sections, the call format, and the chat template. The
text holds every special token literally (the beginning-of-sequence token too), so it is tokenised with
`add_special_tokens=False`. SmolLM2's ChatML is the trap this avoids: its beginning-of-sequence token is
`<|im_start|>`, and a tokenizer that adds one would write it twice.

User text is never escaped. A query that contains a marker or a special token's text stays as it is, and the
spans still point at the answers; whether such text may become a special token is decided at tokenisation.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from xlam_jax.errors import InputError, unknown
from xlam_jax.format.call_formats import CALL_FORMATS, Answer, CallFormat, Piece, StreamParser
from xlam_jax.format.call_formats.value_rules import callable_tools
from xlam_jax.format.history import with_history
from xlam_jax.format.instruction_texts import counterpart
from xlam_jax.format.layout import LAYOUTS, Layout
from xlam_jax.format.messages import messages_of, observation_of
from xlam_jax.format.opening import is_plain_chat, opening
from xlam_jax.format.record import Record, Step, Style, Tool, ToolCall
from xlam_jax.format.rendered import Rendered, Span
from xlam_jax.format.templates import TEMPLATES, ChatTemplate, chat_template
from xlam_jax.format.thinking import THINKING_TAGS, in_one_block, spoken, untagged
from xlam_jax.format.tools import openai_view
from xlam_jax.format.turn_stream import TurnStream

# Short: every prompt pays for it.
TASK_INSTRUCTION = "Answer the query by calling the tools. Call none if no tool fits."


@dataclass(frozen=True)
class Codec:
    """Renders and parses; make one with `get_codec`.

    A record without tools and without format instruction is an ordinary chat: its task instruction is the
    system text, and its answers without calls are plain text, whatever `thought` says.

    With `history`, what came before a step is no turns but a list inside its one prompt (see `history.py`),
    so each step of a record is a text of its own: `render` writes the last one, `texts` all.
    """

    format: CallFormat
    chat: ChatTemplate
    sections: Layout
    thought: bool = False
    task_instruction: str = TASK_INSTRUCTION
    own_format_instruction: str = ""
    history: bool = False

    @property
    def call_format(self) -> str:
        """Name of the call format."""
        return self.format.name

    @property
    def template(self) -> str:
        """Name of the chat template."""
        return self.chat.name

    @property
    def layout(self) -> str:
        """Name of the layout."""
        return self.sections.name

    @property
    def name(self) -> str:
        """All choices in one word, for manifests."""
        order = "" if self.order == LAYOUTS[self.layout].order else "(" + ", ".join(self.order).lower() + ")"
        name = "/".join((self.call_format, self.template, self.layout)) + order
        return name + ("+thought" if self.thought else "") + ("+history" if self.history else "")

    @property
    def order(self) -> tuple[str, ...]:
        """The order of the prompt's sections."""
        return self.sections.order

    @property
    def format_instruction(self) -> str:
        """The format instruction of records that bring none."""
        return self.own_format_instruction or self.format.instructions(self.thought)[0]

    def instruction_of(self, record: Record) -> str:
        """The record's own format instruction, empty where it has none.

        A wording of our own that asks for a thought where this codec writes none, or the other way round, is
        taken for its counterpart: the instruction says what the answer will be.
        """
        return counterpart(record.format_instruction, self.call_format, self.thought)

    @property
    def settings(self) -> dict[str, Any]:
        """What `get_codec` takes to make this codec again."""
        out: dict[str, Any] = {
            "call_format": self.call_format,
            "template": self.template,
            "layout": self.layout,
            "thought": self.thought,
        }
        if self.order != LAYOUTS[self.layout].order:
            out["sections"] = self.order
        if self.task_instruction != TASK_INSTRUCTION:
            out["task_instruction"] = self.task_instruction
        if self.own_format_instruction:
            out["format_instruction"] = self.own_format_instruction
        if self.history:
            out["history"] = True
        return out

    def styled(self, style: Style | None) -> Codec:
        """The codec that writes a record of this style: what the style leaves empty stays as it is.

        A format instruction of the codec's own goes when the call format changes, and an order of sections
        and a history when the layout does.

        Raises:
          InputError: unknown names, or an order that the layout cannot write.
        """
        if style is None:
            return self
        changed = self.settings
        if style.call_format and style.call_format != self.call_format:
            changed["call_format"] = style.call_format
            changed.pop("format_instruction", None)
        if style.layout and style.layout != self.layout:
            changed["layout"] = style.layout
            changed.pop("sections", None)
            changed.pop("history", None)
        if style.sections:
            changed["sections"] = style.sections
        return get_codec(**changed)

    @property
    def stop(self) -> str:
        """The token that ends an answer."""
        return self.chat.stop

    @property
    def bos(self) -> str:
        """The token the text begins with; empty when the template writes none."""
        return self.chat.bos

    def render(self, record: Record) -> Rendered:
        """The whole conversation with an `assistant` span for every step; the last step where there is a history.

        Raises:
          InputError: arguments that JSON cannot hold (names the record).
        """
        if self._as_history(record) and record.steps:
            return self._last(record, len(record.steps) - 1)
        chunks, spans = [self._opening(record)], []
        length = len(chunks[0])
        for i, step in enumerate(record.steps):
            turn, turn_spans = self._turn(record, step, i, length)
            chunks.append(turn)
            spans.extend(turn_spans)
            length += len(turn)
        return Rendered("".join(chunks), tuple(spans))

    def texts(self, record: Record) -> list[Rendered]:
        """The texts that teach all steps of a record: one, or one a step where there is a history."""
        if not self._as_history(record) or len(record.steps) < 2:
            return [self.render(record)]
        return [self._last(record, i) for i in range(len(record.steps))]

    def prompt(self, record: Record, step: int = 0) -> str:
        """The text a model is given to write step `step`; later steps are not looked at.

        Equals `render(record).text` up to the assistant span of that step, where there is one.

        Raises:
          InputError: fewer than `step` steps come before.
        """
        if not 0 <= step <= len(record.steps):
            raise InputError(f"step {step} of a record with {len(record.steps)}", where=f"record {record.id}")
        if step and self._as_history(record):
            now, history = with_history(record, step)
            end = self.chat.user[1] + self.chat.assistant
            return (self._opening(now) + self.chat.assistant).removesuffix(end) + history + end
        turns = (self._turn(record, s, i, 0)[0] for i, s in enumerate(record.steps[:step]))
        return self._opening(record) + "".join(turns) + self.chat.assistant

    def parse(self, text: str, strict: bool = True, words: bool = True) -> Answer:
        """Reads raw model output, with or without the stop token.

        Words around calls are the thought, words alone an answer without calls. What the chat template has around
        an answer goes; forgiven are a fence around the whole, and what a call format says.

        Args:
          strict: a malformed call is an error that says which one; otherwise it is left out.
          words: otherwise words are an error in the formats that have no place for them, as BFCL's decoders have it.

        Raises:
          ParseError: and nothing else, whatever the text.

        Example:
          >>> get_codec().parse('{"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}').tool_calls
          (ToolCall(name='f', arguments={'a': 1}),)
        """
        stream = self.stream(strict, words)
        stream.feed(text)
        return stream.close()

    def stream(self, strict: bool = True, words: bool = True) -> StreamParser:
        """Reads raw model output that arrives in chunks; the same answer as `parse` for every split.

        Example:
          >>> stream = get_codec().stream()
          >>> stream.feed('{"tool_calls": [{"name": "f", "arg')
          []
          >>> stream.feed('uments": {}}, {"na')
          [ToolCall(name='f', arguments={})]
        """
        inner = self.format.stream(self.chat.stop, strict, words)
        return TurnStream(inner, self.chat) if self.chat.lead or self.chat.before_stop else inner

    def render_calls(self, calls: Iterable[ToolCall], thought: str = "") -> str:
        """The answer alone, to a record that is no plain chat: without stop token and turn."""
        return self._piece(tuple(calls), thought).text

    def messages(self, record: Record) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The record as OpenAI chat messages and tools.

        A task instruction becomes the system message. Format instruction and few-shot examples have no
        place there: see `template_kwargs`.
        """
        return messages_of(record), [openai_view(tool) for tool in record.tools]

    def template_kwargs(self, record: Record) -> dict[str, Any]:
        """What `apply_chat_template` needs beside messages and tools to equal `render`."""
        kwargs: dict[str, Any] = {}
        if record.format_instruction:
            kwargs["format_instruction"] = self.instruction_of(record)
        if record.few_shot_examples:
            kwargs["few_shot_examples"] = list(record.few_shot_examples)
        return kwargs

    def jinja(self) -> str:
        """The chat template for `tokenizer.chat_template`; renders what `render` and `prompt` write."""
        return chat_template(
            self.chat,
            self.sections,
            self.format.jinja(),
            task_instruction=self.task_instruction,
            format_instruction=self.format_instruction,
            with_thought=self.thought,
            thinking_tags=THINKING_TAGS,
            words=dataclasses.asdict(self.format.words) if self.format.words else None,
            history=self.history,
        )

    def grammar(
        self, tools: Sequence[Tool], min_calls: int = 1, max_calls: int | None = 10, words: bool = True
    ) -> str:
        """Lark fragment of the answers that call these tools, for llguidance; its main rule is `answer`.

        Args:
          max_calls: at most this many calls, None for no limit; a weak model repeats one on and on.
          words: where no call is demanded, an answer may be words, too.

        Raises:
          InputError: calls are demanded where there are no tools, or none that can be called.
        """
        tools, left_out = callable_tools(tools, min_calls > 0)
        fragment = self.format.grammar(tools, min_calls, max_calls, self.thought) + left_out
        if min_calls or not words or self.thought or self.format.words is None:
            return fragment
        called = re.sub(r"^answer:", "called:", fragment, flags=re.MULTILINE)
        return f"answer: SAID | called\nSAID: {self.format.words.lark()}\n{called}"

    def _as_history(self, record: Record) -> bool:
        return self.history and not is_plain_chat(record)

    def _last(self, record: Record, step: int) -> Rendered:
        """Step `step` behind its prompt, and nothing after its answer."""
        prompt = self.prompt(record, step).removesuffix(self.chat.assistant)
        alone = dataclasses.replace(record.steps[step], next_observation="", user_input="")
        turn, spans = self._turn(record, alone, step, len(prompt))
        return Rendered(prompt + turn, tuple(spans))

    def _piece(self, calls: Sequence[ToolCall], thought: str, plain: bool = False) -> Piece:
        if not calls:
            thought = self.sections.words(in_one_block(thought))
            if plain:
                return Piece(thought, ((0, len(thought), "thought"),))
            thought = thought if self.thought else spoken(thought)
            if thought and not self.thought:
                return (
                    self.format.words.write(thought) if self.format.words else self.format.render((), thought)
                )
        if not self.thought:
            return self.format.render(calls, None)
        return self.format.render(calls, untagged(thought) if calls else thought)

    def _opening(self, record: Record) -> str:
        record = dataclasses.replace(record, format_instruction=self.instruction_of(record))
        return opening(record, self.chat, self.sections, self.task_instruction, self.format_instruction)

    def _turn(self, record: Record, step: Step, index: int, offset: int) -> tuple[str, list[Span]]:
        """Text of one step from the assistant's opening to the next user words; spans moved by `offset`."""
        chat = self.chat
        try:
            piece = self._piece(step.tool_calls, step.thought, is_plain_chat(record))
        except InputError as e:
            raise InputError(e.what, where=f"record {record.id}, step {index + 1}", hint=e.hint) from None
        start = offset + len(chat.assistant)
        content = start + len(chat.lead)
        content_end = content + len(piece.text)
        stop = content_end + len(chat.before_stop)
        end = stop + len(chat.stop)
        spans = [
            Span(start, end, "assistant", index, step.weight),
            Span(content, content_end, "content", index),
            *(Span(content + a, content + b, kind, index) for a, b, kind in piece.parts),
            Span(stop, end, "stop", index),
        ]
        text = chat.assistant + chat.lead + piece.text + chat.before_stop + chat.stop + chat.after
        if (observation := observation_of(step)) is not None:
            if chat.tool[0]:
                text += chat.tool[0] + observation + chat.tool[1]
            else:
                text += chat.user[0] + self.sections.section("OBSERVATION", observation) + chat.user[1]
        if step.user_input:
            text += chat.user[0] + self.sections.words(step.user_input) + chat.user[1]
        return text, spans


def get_codec(
    call_format: str = "xlam-json",
    template: str = "chatml",
    layout: str = "brackets",
    thought: bool = False,
    *,
    sections: Sequence[str] = (),
    task_instruction: str = TASK_INSTRUCTION,
    format_instruction: str = "",
    history: bool = False,
) -> Codec:
    """The codec of these choices; equal choices give the same object.

    Args:
      call_format: a key of `CALL_FORMATS`.
      template: a key of `TEMPLATES`.
      layout: a key of `LAYOUTS`.
      thought: whether answers carry the thought before the calls.
      sections: order of the prompt's sections, one of `legal_orders(layout)`; empty for the layout's own.
      task_instruction: for records that bring none.
      format_instruction: for records that bring none; empty for the call format's own.
      history: what came before a step is a list inside its prompt, as xLAM-1's client writes it.

    Raises:
      InputError: unknown name (the hint is the nearest known one), or an order no prompt can have.
    """
    return _make(
        call_format, template, layout, thought, tuple(sections), task_instruction, format_instruction, history
    )


@functools.lru_cache(maxsize=4096)
def _make(
    call_format: str,
    template: str,
    layout: str,
    thought: bool,
    sections: tuple[str, ...],
    task_instruction: str,
    format_instruction: str,
    history: bool,
) -> Codec:
    return Codec(
        _known("call format", call_format, CALL_FORMATS),
        _known("chat template", template, TEMPLATES),
        _known("layout", layout, LAYOUTS).ordered(sections),
        thought,
        task_instruction,
        format_instruction,
        history,
    )


T = TypeVar("T")


def _known(what: str, name: str, table: dict[str, T]) -> T:
    if name not in table:
        raise unknown(what, name, table)
    return table[name]
