"""Values that stand for the result of an earlier call, in the spellings of the data sets that have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from xlam_jax.format.record import Record

_WORD = (
    r"(?:api_call|call|step|result|output|response|ref|var|variable|tool|func|function|node|task|action"
    r"|observation|answer)s?[._\[ -]?"
)
_PATH = r"[\w.\[\]'\"-]*"
_END = r"(?:_(?:result|output|response|value))?\b"
# Each alternative has one group, the number of a call. Not prices ($500, $.50), not shell variables ($HOME), not
# the placeholders of a mail's template ({{1}}, {{user.name}}).
_NUMBERED = re.compile(
    "|".join(
        (
            r"\bAPI_call_(\d+)\b" + _PATH,  # Seal-Tools
            rf"\$\{{?{_WORD}(\d+){_END}{_PATH}\}}?\$?",  # $call_1.result, ${step_2}; NESTFUL's $var1.x$
            rf"\$\{{?(\d+)(?=[.\[][A-Za-z_\"']){_PATH}\}}?",  # $0.x, ${1["x"]}
            rf"\$\.\[?{_WORD}(\d+)\b{_PATH}",  # $.call_0.x, $.steps[0].x
            rf"\$\.\[?(\d+)\]?(?=\[\d|[.\[][A-Za-z_\[\"']){_PATH}",  # $.0.x, $.[0].x, $.0[1].x
            rf"\$\[(\d+)\](?=[.\[]){_PATH}",  # $[0].x
            rf"\{{\{{\s*\$?{_WORD}(\d+)\b[^{{}}]*\}}\}}",  # {{call_0.x}}, {{ steps[0].x }}
            r"\{\{\s*\$?(\d+)\s*[.\[][^{}]*\}\}",  # {{0.x}}
            rf"<<\s*\$?(?:{_WORD})?(\d+)\b[^<>]*>>",  # <<1.x>>
            rf"<(?:tool_)?(?:node|call|step|result|output|response|task)[-_](\d+)\b{_PATH}>",  # TaskBench's <node-0>
            # {call_0.x}
            rf"(?<!\{{)\{{(?:call|step|result|output|response|node)s?[._\[-]?(\d+)\b{_PATH}\}}(?!\}})",
            r"<GENERATED>-(\d+)\b",  # HuggingGPT
            r"(?<![\w#&])#E(\d+)\b" + _PATH,  # ReWOO
        )
    ),
    re.IGNORECASE,
)
# The result of a function by its name: ToolAlpaca's ${id from search}, {{search.id}}, <<search.id>>, $search.id$.
_NAMED = re.compile(
    r"\$\{[\w ]+ from (\w+)\}|\$\{([A-Za-z_]\w*)\.[\w.\[\]]+\}"
    r"|\{\{\s*(\w+)[.\[][^{}]*\}\}|<<\s*(\w+)[.\[][^<>]*>>|\$(\w+)[.\[][^$\s]*\$"
)
_MARKS = ("$", "API_call_", "#E", "{", "<")
# Seal-Tools numbers the values that calls return, and a call may return several.
_VALUES_OF_A_CALL = 16


def is_reference(value: Any) -> bool:
    """Whether a value is a reference to the result of a call, and nothing beside it."""
    if not isinstance(value, str) or not _may_hold(value):
        return False
    return bool(_NUMBERED.fullmatch(value) or _NAMED.fullmatch(value))


def holds_reference(value: Any) -> bool:
    """Whether a text has a reference in it, or a text in a list or an object."""
    if isinstance(value, dict | list):
        return any(map(holds_reference, value.values() if isinstance(value, dict) else value))
    return (
        isinstance(value, str) and _may_hold(value) and bool(_NUMBERED.search(value) or _NAMED.search(value))
    )


def rename_references(value: Any, new: Mapping[str, str]) -> Any:
    """A value whose references by the name of a function, in all its texts, have the new names."""
    if isinstance(value, dict):
        return {k: rename_references(v, new) for k, v in value.items()}
    if isinstance(value, list):
        return [rename_references(v, new) for v in value]
    if not isinstance(value, str) or not _may_hold(value):
        return value

    def renamed(match: re.Match[str]) -> str:
        group = _group(match)
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:start] + new.get(match[group], match[group]) + match[0][end:]

    return _NAMED.sub(renamed, value)


def undefined_references(record: Record) -> Iterator[tuple[int, str, str]]:
    """`(step, argument, reference)` of values that point at the result of a call not made before.

    A reference is defined when something said or returned so far names it, or when so many calls went before
    (numbers may start at 0 or 1). One by name is defined when that function was called before; a name of no
    function is none's.
    """
    before: list[str] = []
    offered = {tool.name for tool in record.tools}
    for i, step in enumerate(record.steps):
        for call in step.tool_calls:
            for name, value in call.arguments.items():
                text = value if isinstance(value, str) else json.dumps(value) if _nested(value) else ""
                if not _may_hold(text):
                    continue
                undefined = [m for m in _NUMBERED.finditer(text) if not _is_defined(m, before)]
                # A name that is no function's may be a mail's placeholder, but no number's or list's.
                known = offered - set(before)
                untyped = isinstance(value, str) and not _NUMBERED.fullmatch(value)
                untyped = untyped and not _takes_text(record, call.name, name)
                undefined += [
                    m for m in _NAMED.finditer(text)
                    if _called(m) in known or (untyped and _called(m) not in offered and m[0] == value)
                ]  # fmt: skip
                for match in undefined:
                    if _head(match) not in _spoken(record, i):
                        yield i, name, match[0]
            before.append(call.name)


def _takes_text(record: Record, function: str, parameter: str) -> bool:
    """Whether a parameter may be a text, as far as its schema's type says."""
    for tool in record.tools:
        schema = (tool.parameters.get("properties") or {}).get(parameter) if tool.name == function else None
        kind = schema.get("type") if isinstance(schema, dict) else None
        if kind is not None:
            return "string" in (kind if isinstance(kind, list) else [kind])
    return True


def _may_hold(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def _is_defined(match: re.Match[str], before: list[str]) -> bool:
    number = int(match[_group(match)])
    if match[0].startswith("API_call_"):
        return number < _VALUES_OF_A_CALL * len(before)
    return number <= len(before) and len(before) > 0


def _called(match: re.Match[str]) -> str:
    return match[_group(match)]


def _head(match: re.Match[str]) -> str:
    """A reference up to its number or name: an observation that says so defines it with all its fields."""
    return match.string[match.start() : match.end(_group(match))]


def _group(match: re.Match[str]) -> int:
    return next(i for i, group in enumerate(match.groups(), 1) if group is not None)


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _spoken(record: Record, step: int) -> str:
    """What was said and returned before a step."""
    parts = [record.query, record.task_instruction]
    for earlier in record.steps[:step]:
        parts += [json.dumps(earlier.next_observation, ensure_ascii=False), earlier.user_input]
    return "\n".join(parts)
