"""Chat templates: the text a model family puts around turns, with its special tokens written out.

`chat_template` composes the Jinja source that `tokenizer.apply_chat_template` takes from the same constants
the codec renders with, so the two cannot drift apart. The Jinja body is `jinja/chat.jinja`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
from dataclasses import dataclass
from typing import Any

from xlam_jax.format.layout import Layout
from xlam_jax.format.tools import tool_words


@dataclass(frozen=True)
class ChatTemplate:
    """Texts around turns.

    Attributes:
      bos: beginning-of-sequence token, written once at the head; empty where the template writes none.
      preamble: constant text after `bos`.
      system, user, tool: texts before and after a turn. Without `system` (empty texts) the system text stands
        before the first user text, a blank line between; without `tool` a tool's result becomes a user turn
        that holds an OBSERVATION section of the layout.
      assistant: text before the answer; it belongs to the prompt.
      lead: text the model itself writes before its answer. A space must stand here and not in `assistant`:
        a prompt that ends in a space tokenises unlike the same prompt followed by an answer.
      before_stop: text between answer and stop token; written, and learned, by the model.
      stop: the token that ends an answer.
      after: text after the stop token.
    """

    name: str
    user: tuple[str, str]
    stop: str
    bos: str = ""
    preamble: str = ""
    system: tuple[str, str] = ("", "")
    tool: tuple[str, str] = ("", "")
    assistant: str = ""
    lead: str = ""
    before_stop: str = ""
    after: str = ""


# The system line is DeepSeek's own, part of the text its instruct models were tuned on.
_DEEPSEEK_LINE = (
    "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, "
    "and you only answer questions related to computer science. For politically sensitive questions, "
    "security and privacy issues, and other non-computer science questions, you will refuse to answer\n"
)

TEMPLATES = {
    template.name: template
    for template in (
        ChatTemplate(
            name="chatml",
            system=("<|im_start|>system\n", "<|im_end|>\n"),
            user=("<|im_start|>user\n", "<|im_end|>\n"),
            tool=("<|im_start|>tool\n", "<|im_end|>\n"),
            assistant="<|im_start|>assistant\n",
            stop="<|im_end|>",
            after="\n",
        ),
        ChatTemplate(
            name="deepseek-coder",
            bos="<｜begin▁of▁sentence｜>",
            preamble=_DEEPSEEK_LINE,
            user=("### Instruction:\n", "\n"),
            assistant="### Response:\n",
            before_stop="\n",
            stop="<|EOT|>",
            after="\n",
        ),
        # The v1 tokenizer has no token for [INST]: the marks are plain text, and the spaces are written out
        # because a tokenizer adds a space at the start of the text only, not after a special token.
        ChatTemplate(name="mistral-v1", bos="<s>", user=(" [INST] ", " [/INST]"), lead=" ", stop="</s>"),
        ChatTemplate(name="mistral-v3", bos="<s>", user=("[INST] ", "[/INST]"), lead=" ", stop="</s>"),
        ChatTemplate(
            name="llama-3",
            bos="<|begin_of_text|>",
            system=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
            user=("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
            tool=("<|start_header_id|>ipython<|end_header_id|>\n\n", "<|eot_id|>"),
            assistant="<|start_header_id|>assistant<|end_header_id|>\n\n",
            stop="<|eot_id|>",
        ),
        ChatTemplate(
            name="plain",
            system=("System: ", "\n"),
            user=("User: ", "\n"),
            tool=("Tool: ", "\n"),
            assistant="Assistant:",
            lead=" ",
            stop="<|endoftext|>",
            after="\n",
        ),
    )
}


def chat_template(template: ChatTemplate, layout: Layout, answer: str, **defaults: Any) -> str:
    """The Jinja chat template, self-contained.

    Args:
      answer: Jinja source that defines `answer(thought, calls)`, from the call format.
      defaults: `task_instruction`, `format_instruction` (for conversations that bring none),
        `with_thought`.
    """
    settings = {
        "chat": {f: getattr(template, f) for f in template.__dataclass_fields__ if f != "name"},
        "layout": {k: v for k, v in dataclasses.asdict(layout).items() if k != "name"},
        "reading": tool_words(),
        "defaults": defaults,
    }
    # JSON of strings, numbers, booleans, lists and mappings is also a Jinja literal.
    head = "".join(f"{{%- set {k} = {json.dumps(v, ensure_ascii=False)} -%}}\n" for k, v in settings.items())
    parts = (head.rstrip(), answer, jinja_source("tools"), jinja_source("chat"))
    return "".join(part.rstrip() + "\n" for part in parts)


@functools.cache
def jinja_source(name: str) -> str:
    """The Jinja file `jinja/<name>.jinja` of this package."""
    return importlib.resources.files("xlam_jax.format").joinpath(f"jinja/{name}.jinja").read_text("utf-8")
