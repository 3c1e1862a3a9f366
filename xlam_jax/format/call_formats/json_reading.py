"""JSON calls: written, read as they arrive, and their rules for a grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence, Set
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.call_formats.base import ParseError, Writer, dumps
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait
from xlam_jax.format.call_formats.under_way import BARE, JsonCall, read_text
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_keys import ARGUMENT_KEYS, arguments_of
from xlam_jax.format.values import Tool, ToolCall

_UP_TO_OBJECT = re.compile(r"[^{]*")
# All that a call without arguments has.
_NO_ARGUMENTS = {"name", "id", "call_id", "tool_call_id", "type", "index"}


def write_call(out: Writer, call: ToolCall) -> None:
    """`{"name": "f", "arguments": {...}}`."""
    out.add('{"name": ')
    out.add_string(call.name, "name")
    out.add(', "arguments": ')
    out.add(dumps(call.arguments, f"arguments of {call.name}"), "arguments")
    out.add("}")


def write_calls(out: Writer, calls: Sequence[ToolCall]) -> None:
    """The calls as a JSON list."""
    out.add("[")
    for i, call in enumerate(calls):
        out.add(", " if i else "")
        write_call(out, call)
    out.add("]")


def call_rules(values: Values, tools: Sequence[Tool]) -> None:
    """Adds the rule `call`, and `body` for what follows the brace of a call."""
    bodies = []
    for tool in tools:
        head = f'"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
        bodies.append((head, f'{values.arguments(tool)} "}}"'))
    if bodies:
        values.choice("body", bodies)
        values.add("call", '"{" body')


def call_of(source: TextSource, item: dict[str, Any], *outer: dict[str, Any]) -> ToolCall:
    """The call that an object is; arguments may be JSON text, as OpenAI writes them.

    A call without arguments is written in many ways: `{}`, null, an empty text, no key at all. Arguments stand under
    any key of `ARGUMENT_KEYS`; under an unknown one they are an error and no call without arguments.

    Args:
      outer: objects around it, which may hold them.
    """
    name = item.get("name")
    if not isinstance(name, str) or not name:
        source.fail("a call has no name")
    try:
        arguments = arguments_of(item, *outer)
    except InputError as e:
        source.fail(f"{name[:80]}: {e.what}")
    keys = {key.lower() for place in (item, *outer) for key in place}
    if keys.isdisjoint(ARGUMENT_KEYS) and item.keys() - _NO_ARGUMENTS:
        source.fail("an object without arguments is no call")
    if isinstance(arguments, str):
        arguments = source.json(arguments) if arguments.strip() else None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        source.fail(f"arguments of {name[:80]} are no object")
    return ToolCall(name, arguments)


def looks_like_call(source: TextSource, others: tuple[str, ...] = ()) -> Wait:
    """Whether the object that comes next is meant as a call, however it goes on; for `TextSource.shaped`.

    Args:
      others: keys of objects that stand among the calls.
    """
    alone = _NO_ARGUMENTS.union(ARGUMENT_KEYS, others)
    return (yield from has_key(source, ARGUMENT_KEYS, ("name", *others), alone))


def looks_like_calls(source: TextSource) -> Wait:
    """Whether a list of calls, an empty one, or a call alone comes next."""
    if (yield from source.accept("[")):
        yield from source.take(SPACE)
        if (yield from source.accept("]")):
            return True
    return (yield from looks_like_call(source))


def has_key(
    source: TextSource, keys: tuple[str, ...], behind: tuple[str, ...] = (), alone: Set[str] = frozenset()
) -> Wait:
    """Whether the object that comes next has one of `keys`; as soon as it is seen.

    Args:
      behind: one of these has to come before it, and is enough where the text breaks off behind it, or where no key
        but those of `alone` comes.
    """
    seen: set[str] = set()
    try:
        yield from source.expect("{")
        while True:
            yield from source.take(SPACE)
            key = yield from _read_value(source)
            if str(key).lower() in keys and not (behind and seen.isdisjoint(behind)):
                return True
            seen.add(str(key))
            yield from source.take(SPACE)
            yield from source.expect(":")
            yield from source.take(SPACE)
            yield from _read_value(source)
            yield from source.take(SPACE)
            if (yield from source.accept("}")):
                return not seen.isdisjoint(behind) and seen <= alone
            yield from source.expect(",")
    except ParseError:
        return not seen.isdisjoint(behind)


def read_object(source: TextSource) -> Wait:
    """The JSON object that comes next."""
    if (yield from source.peek(1)) != "{":
        source.fail("not JSON: a call is no object")
    return source.json((yield from source.balanced()))


def read_call(source: TextSource, call: Callable[[TextSource, dict[str, Any]], ToolCall] = call_of) -> Wait:
    """The call of the JSON object that comes next; other values are stepped over, and refused."""
    if (yield from source.peek(1)) != "{":
        yield from _read_value(source)
        source.fail("not JSON: a call is no object")
    return call(source, (yield from read_object(source)))


def read_calls(
    source: TextSource, call: Callable[[TextSource, dict[str, Any]], ToolCall] = call_of
) -> Reading:
    """Yields the calls of a JSON list."""
    yield from _mark(source, "[")
    yield from source.take(SPACE)
    yield from read_items(source, call)


def read_items(
    source: TextSource, call: Callable[[TextSource, dict[str, Any]], ToolCall] = call_of
) -> Reading:
    """Yields the calls of a JSON list whose bracket, and blanks after it, have been taken."""
    if (yield from source.accept("]")):
        return
    while True:
        yield from source.attempt(read_call(source, call), sketch=JsonCall)
        yield from source.take(SPACE)
        if not source.strict and (yield from source.peek(1)) not in (",", "]"):
            # A call broken off in its midst: the next object may be a whole one.
            yield from source.take(_UP_TO_OBJECT)
            if (yield from source.peek(1)):
                continue
        if (yield from source.accept("]")):
            return
        yield from _mark(source, ",")
        yield from source.take(SPACE)


def read_members(
    source: TextSource, said: str, call: Callable[[TextSource, dict[str, Any]], ToolCall] = call_of
) -> Reading:
    """Reads the object around a list `tool_calls`: yields its calls, and the text of the member `said`.

    Returns the other members; `tool_calls` among them tells that there was a list.
    """
    members: dict[str, Any] = {}
    yield from _mark(source, "{")
    yield from source.take(SPACE)
    if (yield from source.accept("}")):
        return members
    while True:
        key = yield from _read_value(source)
        if not isinstance(key, str) or key in members:
            source.fail("not JSON: a key is no text, or is given twice")
        yield from source.take(SPACE)
        yield from _mark(source, ":")
        yield from source.take(SPACE)
        if key == "tool_calls" and (yield from source.peek(1)) == "[":
            yield from read_calls(source, call)
            members[key] = []
        elif key == said and (yield from source.accept('"')):
            members[key] = yield from read_text(source)
        else:
            members[key] = yield from _read_value(source)
        yield from source.take(SPACE)
        if (yield from source.accept("}")):
            return members
        yield from _mark(source, ",")
        yield from source.take(SPACE)


def _read_value(source: TextSource) -> Wait:
    start = yield from source.peek(1)
    if start in ("{", "["):
        return source.json((yield from source.balanced()))
    if start == '"':
        source.skip(1)
        return source.json(start + (yield from source.quoted(start)))
    return source.json((yield from source.take(BARE)))


def _mark(source: TextSource, mark: str) -> Wait:
    if not (yield from source.accept(mark)):
        source.fail(f"not JSON: {mark!r} is missing")
