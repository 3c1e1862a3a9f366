"""What a function-calling example is: Records, tools, and the codec between calls and text."""

from xlam_jax.format.call_formats import CALL_FORMATS, Answer, CallFormat, ParseError
from xlam_jax.format.call_formats.base import StreamParser
from xlam_jax.format.codec import TASK_INSTRUCTION, Codec, Rendered, Span, get_codec
from xlam_jax.format.layout import LAYOUTS, MARKER_STYLES, PROMPT_SECTIONS, Layout, legal_orders
from xlam_jax.format.pair import Pair, read_pairs, write_pairs
from xlam_jax.format.record import (
    Record,
    Step,
    Style,
    read_records,
    step_json,
    write_records,
)
from xlam_jax.format.templates import TEMPLATES, ChatTemplate
from xlam_jax.format.tools import normalise_tool, openai_view, python_type, xlam_view
from xlam_jax.format.values import Tool, ToolCall, check_json

__all__ = [
    "CALL_FORMATS",
    "LAYOUTS",
    "MARKER_STYLES",
    "PROMPT_SECTIONS",
    "TASK_INSTRUCTION",
    "TEMPLATES",
    "Answer",
    "CallFormat",
    "ChatTemplate",
    "Codec",
    "Layout",
    "Pair",
    "ParseError",
    "Record",
    "Rendered",
    "Span",
    "Step",
    "StreamParser",
    "Style",
    "Tool",
    "ToolCall",
    "check_json",
    "get_codec",
    "legal_orders",
    "normalise_tool",
    "openai_view",
    "python_type",
    "read_pairs",
    "read_records",
    "step_json",
    "write_pairs",
    "write_records",
    "xlam_view",
]
