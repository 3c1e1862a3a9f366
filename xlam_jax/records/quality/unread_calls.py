"""Words that mean a call but are none: what a converter did not read, or a model wrote in a format of its own.

As words such a row teaches a model to answer in that format, and its call counts as none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.format.values import Tool

_NAME_KEYS = (
    "name",
    "function",
    "tool",
    "tool_name",
    "function_name",
    "api_name",
    "action",
    "recipient_name",
    "api",
)
_ARGUMENT_KEYS = (
    "arguments",
    "parameters",
    "args",
    "kwargs",
    "params",
    "action_input",
    "tool_input",
    "input",
)
_WRAPPERS = ("tool_calls", "function_call", "tool_call", "tool_uses")

_REACT = re.compile(
    r"^[\s*#>]*Action(?: \d+)?[\s*]*:[^\n]*\n+[\s*#>]*Action[ _]Input(?: \d+)?[\s*]*:"
    r"|^\s*(?:Action|Act)(?: \d+)?\s*:\s*\w+\s*[\[(].*[\])]\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_TAGS = re.compile(
    r"<(?:tool_call|function_call|functioncall|toolcall|tool_use|function_calls|tool_code)>|<function=\w|"
    r"<invoke name=|\[TOOL_CALLS\]|<\|(?:python_tag|tool_call\w*|tool_calls_section_begin|action_start)\|>|<\uff5ctool|"
    r"<start_function_call>|\u273fFUNCTION\u273f|\bto=functions\.\w|\A>>>\w+\n",
    re.IGNORECASE,
)
_OBJECT = re.compile(
    rf"\{{\s*['\"](?:{'|'.join(_NAME_KEYS)})['\"]\s*:\s*['\"][\w./ -]+['\"]\s*,\s*"
    rf"['\"](?:{'|'.join(_ARGUMENT_KEYS)})['\"]\s*:\s*['\"{{]"
)
_TAGGED = re.compile(r"<(?:tool_call|function_call|functioncall|toolcall)>\s*[\[{]", re.IGNORECASE)
_BEGIN = re.compile(r"```[\w-]*\s*\n\s*[\[{]|[\[{]")
_FENCE = re.compile(r"\A```[\w-]*\s*\n(.*?)\n?```\s*\Z", re.DOTALL)
# An empty list where tools are offered is how some formats say that none fits.
_NO_CALLS = re.compile(r"""\A\s*(?:\[\s*\]|\{\s*["']tool_calls["']\s*:\s*\[\s*\]\s*\})\s*\Z""")
_SIGNS = re.compile(r"[\[{(<=]|action|name|input", re.IGNORECASE)
_ASSIGNED = re.compile(r"\A(?:\w+\s*=\s*)?(?:await\s+)?")


def unread_calls(record: Record) -> Iterator[tuple[int, str]]:
    """`(step, the words)` of steps without calls whose words mean one."""
    for i, step in enumerate(record.steps):
        if not step.tool_calls and step.thought and (words := call_in_words(step.thought, record.tools)):
            yield i, words


def calls_asked_with(record: Record) -> Iterator[tuple[int, str]]:
    """`(step before it, the words)` of what users said that ends in a call, or holds one in tags; -1 for the query."""
    said = [record.query, *(step.user_input for step in record.steps)]
    for i, text in enumerate(said):
        if text and (words := _call_asked(text.strip(), record.tools)):
            yield i - 1, words


def _call_asked(text: str, tools: Sequence[Tool]) -> str:
    if (call := _only_calls(text, tools)) or "{" not in text:
        return call
    if tagged := _TAGGED.search(text):
        return text[tagged.start() :][:80]
    begin = _BEGIN.search(text)
    return _only_calls(text[begin.start() :], tools) if begin else ""


def call_in_words(text: str, tools: Sequence[Tool] = ()) -> str:
    """The beginning of the call that the words mean, "" for ordinary words.

    Known are ReAct (`Action:`, `Action Input:`), the tags of models, JSON objects of a name and arguments, and
    Python-like calls: as all of a text, and among words where they name a parameter of an offered tool.
    """
    if not _SIGNS.search(text):
        return ""
    if call := _only_calls(text.strip(), tools):
        return call
    if tools and _NO_CALLS.match(text):
        return text.strip()
    for pattern in (_REACT, _TAGS, _OBJECT):
        if match := pattern.search(text):
            return text[match.start() : match.start() + 80]
    for tool in tools:
        if tool.name in text and (match := _mention(tool).search(text)):
            return text[match.start() : match.start() + 80]
    return ""


def _only_calls(text: str, tools: Sequence[Tool]) -> str:
    """The text's beginning where it is JSON of calls, or Python-like calls, and nothing else."""
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    if text[:1] in ("{", "["):
        values, rest = _values(text)
        names = {tool.name for tool in tools}
        if values and not rest and all(_is_call(value) or _is_of(value, names) for value in values):
            return text[:80]
        if re.fullmatch(r"\[\s*[\w.]+\(.*\)\s*\]", text, re.DOTALL):
            return text[:80]
    name, bracket, _ = _ASSIGNED.sub("", text).partition("(")
    if bracket and text.endswith(")") and any(tool.name == name.strip() for tool in tools):
        return text[:80]
    return ""


def _values(text: str) -> tuple[list[Any], str]:
    """JSON values one after the other, and what is left."""
    values, decoder = [], json.JSONDecoder()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            break
        values += value if isinstance(value, list) and value else [value]
        text = text[end:].lstrip(" \t\r\n,;")
    return values, text


def _is_call(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("function"), dict):
        return _is_call(value["function"])
    if any(isinstance(value.get(key), list | dict) and value[key] for key in _WRAPPERS):
        return True
    named = any(isinstance(value.get(key), str) and value[key] for key in _NAME_KEYS)
    return named and any(isinstance(value.get(key), dict | str) for key in _ARGUMENT_KEYS)


def _is_of(value: Any, names: set[str]) -> bool:
    """`{"name": NAME}`, or `{NAME: {...}}`, of an offered tool."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((key, item),) = value.items()
    return (key in names and isinstance(item, dict)) or (
        key in _NAME_KEYS and isinstance(item, str) and item in names
    )


def _mention(tool: Tool) -> re.Pattern[str]:
    """A call of the tool among words: as XML, YAML, JSON or Python, on a line of its own, or with a parameter."""
    name = re.escape(tool.name)
    names = "|".join(map(re.escape, tool.parameters.get("properties") or ())) or r"(?!)"
    keys = "|".join(_NAME_KEYS)
    inputs = r"(?i:(?:\w+[ _])?(?:arguments?|args|input|parameters|params))\s*[:=]"
    return re.compile(
        "|".join(
            (
                rf"\b(?i:{keys}|call)\s*:\s*[`'\"]?{name}[`'\"]?\s*[,;\n]+\s*{inputs}",
                rf"\b(?:{keys}|call)\s*[:=]\s*['\"]?{name}['\"]?\s*[\n,>]",
                rf"['\"](?:{keys})['\"]\s*:\s*['\"]{name}['\"]\s*,\s*['\"]",
                rf"<{name}\s*>|<(?i:{keys})>\s*{name}\s*</",
                rf"\bto=(?:functions\.)?{name}(?!\w)|\bcall\s*:\s*{name}\s*\{{",
                rf"(?<!\w){name}\(\s*(?:{names})\s*=",
                rf"(?<!\w){name}\s*:?\s*\{{\s*['\"]?(?:{names})['\"]?\s*[:=](?!\s*\{{)",
                rf"(?m:^)\s*{name}\s*(?:\n\s*\{{.*\}}|\[[^\]\n]+\])\s*(?m:$)",
                rf"(?m:^)\s*{name}[ \t]+(?:{names})\s*=",
            )
        )
    )
