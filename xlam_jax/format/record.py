"""The Record: one function-calling example, however it came into being.

A Record has the modules of the unified format v1 (task instruction, tools, format instruction, few-shot
examples, query, steps) and its provenance. It travels as one JSON object a line; the shape is checked
against `schema/record.json`, and an unknown field is an error.
"""

from __future__ import annotations

import difflib
import functools
import gzip
import importlib.resources
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from xlam_jax.errors import InputError


@dataclass(frozen=True)
class ToolCall:
    """A call of the tool `name`; `arguments` maps parameter names to JSON values."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What the model said (thought, calls), and what came back (observation, the user's next words)."""

    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    next_observation: Any = ""
    user_input: str = ""


@dataclass(frozen=True)
class Tool:
    """A callable thing; `parameters` is a JSON Schema of type object with `properties` and `required`."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One example: a query, the tools at hand, and the steps that answer it.

    Attributes:
      few_shot_examples: strings (shown as they are) or JSON values (shown as JSON).
      lineage: names of the transforms and checks the record has passed, oldest first.

    Example:
      >>> record = Record.from_json({"id": "1", "query": "Hi", "tools": [], "steps": [{"tool_calls": []}]})
      >>> record.steps[0].tool_calls
      ()
    """

    id: str
    query: str
    tools: tuple[Tool, ...]
    steps: tuple[Step, ...]
    task_instruction: str = ""
    format_instruction: str = ""
    few_shot_examples: tuple[Any, ...] = ()
    source: str = ""
    license: str = ""
    lineage: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, obj: Any, where: str = "") -> Record:
        """Validates and reads one object; tools may come in any spelling `normalise_tool` knows.

        Args:
          obj: the parsed JSON object; `unique_trajectory_id` may stand for `id`.
          where: `file:line`, for the error.

        Raises:
          InputError: names the field and, when it is unknown, the nearest known one.
        """
        from xlam_jax.format.tools import normalise_tool

        for error in _validator().iter_errors(obj):
            raise _explain(error, where)
        if ("id" in obj) == ("unique_trajectory_id" in obj):
            raise InputError("a record needs exactly one of id and unique_trajectory_id", where=where)
        try:
            check_json(obj)
        except ValueError as e:
            raise InputError(f"record holds {e}", where=where) from None
        try:
            tools = tuple(normalise_tool(tool) for tool in obj.get("tools", ()))
        except InputError as e:
            raise InputError(e.what, where=f"{where}: {e.where}" if where else e.where, hint=e.hint) from None
        return cls(
            id=obj.get("id") or obj["unique_trajectory_id"],
            query=obj["query"],
            tools=tools,
            steps=tuple(_step(step) for step in obj.get("steps", ())),
            task_instruction=obj.get("task_instruction", ""),
            format_instruction=obj.get("format_instruction", ""),
            few_shot_examples=tuple(obj.get("few_shot_examples", ())),
            source=obj.get("source", ""),
            license=obj.get("license", ""),
            lineage=tuple(obj.get("lineage", ())),
        )

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object: v1's keys always, provenance only where there is some.

        `Record.from_json(record.to_json()) == record` for every record whose tools are normalised.
        """
        obj: dict[str, Any] = {
            "id": self.id,
            "task_instruction": self.task_instruction,
            "format_instruction": self.format_instruction,
            "few_shot_examples": list(self.few_shot_examples),
            "query": self.query,
            "tools": [_tool_json(tool) for tool in self.tools],
            "steps": [step_json(step, i) for i, step in enumerate(self.steps, 1)],
        }
        if self.source:
            obj["source"] = self.source
        if self.license:
            obj["license"] = self.license
        if self.lineage:
            obj["lineage"] = list(self.lineage)
        return obj


def step_json(step: Step, step_id: int) -> dict[str, Any]:
    """One step in v1's spelling: all five keys, also where they are empty."""
    return {
        "step_id": step_id,
        "thought": step.thought,
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in step.tool_calls],
        "next_observation": step.next_observation,
        "user_input": step.user_input,
    }


def read_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yields the Records of a JSONL file (gzip when the name ends in `.gz`); blank lines are skipped.

    Raises:
      InputError: missing file, bad UTF-8 or JSON, or a bad record, each with `path:line`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("records file not found", where=str(path), hint="check the path")
    number = 0
    try:
        with _open_bytes(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read_line(line, f"{path}:{number}")
    except (gzip.BadGzipFile, EOFError) as e:
        raise InputError(f"not a whole gzip file: {e}", where=f"{path}:{number + 1}") from e


def write_records(path: str | os.PathLike[str], records: Iterable[Record]) -> int:
    """Writes JSONL (gzip when the name ends in `.gz`) and returns the number of records.

    The file appears under its name only when it is complete. Equal records give equal bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    try:
        with partial.open("wb") as raw:
            # A gzip header holds a name and a time; both are left out so that bytes depend on content only.
            packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else None
            for record in records:
                line = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False) + "\n"
                (packed or raw).write(line.encode("utf-8"))
                count += 1
            if packed:
                packed.close()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def check_json(value: Any, max_depth: int = 64) -> None:
    """Raises ValueError for what cannot travel as JSON text: non-finite numbers, lone surrogates, depth.

    Nesting beyond `max_depth` is refused because parsers, template engines and grammars all have a
    recursion limit of their own, each at another depth.
    """
    level = [value]
    for _ in range(max_depth):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.keys())
                deeper.extend(item.values())
            elif isinstance(item, list | tuple):
                deeper.extend(item)
            elif isinstance(item, str):
                if not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item):
                    raise ValueError("a lone surrogate, which is no Unicode text")
            elif isinstance(item, float):
                if item - item != 0.0:
                    raise ValueError(f"the number {item}, which JSON cannot hold")
            elif item is not None and not isinstance(item, bool | int):
                raise ValueError(f"a {type(item).__name__}, which is no JSON value")
        if not deeper:
            return
        level = deeper
    raise ValueError(f"values nested deeper than {max_depth} levels")


def _read_line(line: bytes, where: str) -> Record:
    try:
        obj = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise InputError(f"not valid UTF-8: {e}", where=where) from None
    except RecursionError:
        raise InputError("JSON is nested too deeply", where=where) from None
    except ValueError as e:
        raise InputError(f"not valid JSON: {e}", where=where, hint="one JSON object a line") from None
    return Record.from_json(obj, where)


def _open_bytes(path: Path) -> io.BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _step(obj: dict[str, Any]) -> Step:
    observation = obj.get("next_observation", "")
    return Step(
        thought=obj.get("thought", ""),
        tool_calls=tuple(ToolCall(c["name"], c["arguments"]) for c in obj.get("tool_calls", ())),
        next_observation="" if observation is None else observation,
        user_input=obj.get("user_input", ""),
    )


def _tool_json(tool: Tool) -> dict[str, Any]:
    obj: dict[str, Any] = {"name": tool.name}
    if tool.description:
        obj["description"] = tool.description
    obj["parameters"] = tool.parameters
    return obj


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    text = importlib.resources.files("xlam_jax.format").joinpath("schema/record.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _explain(error: jsonschema.ValidationError, where: str) -> InputError:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path).lstrip(".")
    schema: Any = error.schema
    instance: Any = error.instance
    wanted: Any = error.validator_value
    inside = f"{path}." if path else ""
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = next(key for key in instance if key not in known)
        near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
        hint = near[0] if near else "known fields here: " + ", ".join(known)
        return InputError(f"unknown field {inside + unknown!r}", where=where, hint=hint)
    if error.validator == "required":
        missing = next(key for key in wanted if key not in instance)
        return InputError(f"missing field {inside + missing!r}", where=where)
    if error.validator == "type":
        kinds = wanted if isinstance(wanted, str) else " or ".join(wanted)
        found = type(instance).__name__
        return InputError(f"field {path or 'record'!r}: expected {kinds}, found {found}", where=where)
    return InputError(f"field {path!r}: {error.message[:200]}", where=where)
