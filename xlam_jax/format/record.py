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
import jsonschema_rs

from xlam_jax.errors import InputError
from xlam_jax.files import whole_file
from xlam_jax.format.values import Tool, ToolCall, check_json


@dataclass(frozen=True)
class Step:
    """What the model said (thought, calls), and what came back (observation, the user's next words).

    Attributes:
      weight: what the loss of what the model said counts; 0 where it is context to learn nothing from, such
        as a call that failed and was mended in the next step.
    """

    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    next_observation: Any = ""
    user_input: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class Style:
    """How a record wants to be written, where it differs from the codec it is rendered with.

    Augmentation sets it; `Codec.styled` applies it. Empty means: as the codec does it.

    Attributes:
      call_format: key of `CALL_FORMATS`.
      layout: key of `LAYOUTS`.
      sections: order of the sections, all of `SECTIONS` but OBSERVATION.
    """

    call_format: str = ""
    layout: str = ""
    sections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """One example: a query, the tools at hand, and the steps that answer it.

    Attributes:
      few_shot_examples: strings (shown as they are) or JSON values (shown as JSON).
      lineage: names of the transforms and checks the record has passed, oldest first.
      style: how it wants to be written; None leaves that to the codec.

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
    style: Style | None = None

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

        _check_shape(obj, where)
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
            lineage=tool_notes(tools, obj.get("lineage", ())),
            style=_style(obj.get("style")),
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
        if self.style:
            sections = list(self.style.sections)
            style = {"call_format": self.style.call_format, "layout": self.style.layout, "sections": sections}
            obj["style"] = {k: v for k, v in style.items() if v}
        return obj


def tool_notes(tools: Iterable[Tool], lineage: Iterable[str] = ()) -> tuple[str, ...]:
    """A lineage with what the readers of these tools did not understand, each once."""
    lineage = tuple(lineage)
    notes = dict.fromkeys(note for tool in tools for note in tool.notes)
    return (*lineage, *(note for note in notes if note not in lineage))


def step_json(step: Step, step_id: int) -> dict[str, Any]:
    """One step in v1's spelling: all five keys, also where they are empty, and a weight that is not 1."""
    weight = {} if step.weight == 1 else {"weight": step.weight}
    return {
        "step_id": step_id,
        "thought": step.thought,
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in step.tool_calls],
        "next_observation": step.next_observation,
        "user_input": step.user_input,
        **weight,
    }


def read_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yields the Records of a JSONL file (gzip when the name ends in `.gz`); blank lines are skipped.

    Raises:
      InputError: missing file, bad UTF-8 or JSON, or a bad record, each with `path:line`.
    """
    for obj, where in read_json_lines(path):
        yield Record.from_json(obj, where)


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[Any, str]]:
    """Yields `(value, "path:line")` of a JSONL file, as `read_records` reads it."""
    for line, where in read_lines(path):
        yield parse_line(line, where), where


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[bytes, str]]:
    """Yields `(line, "path:line")` of a text file (gzip by name), blank lines skipped, nothing parsed."""
    path = Path(path)
    if not path.is_file():
        raise InputError("records file not found", where=str(path), hint="check the path")
    number = 0
    try:
        with _open_bytes(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield line, f"{path}:{number}"
    except (gzip.BadGzipFile, EOFError) as e:
        raise InputError(f"not a whole gzip file: {e}", where=f"{path}:{number + 1}") from e


def write_records(path: str | os.PathLike[str], records: Iterable[Record]) -> int:
    """Writes JSONL (gzip when the name ends in `.gz`) and returns the number of records.

    The file appears under its name only when it is complete. Equal records give equal bytes.
    """
    return write_json_lines(path, (record.to_json() for record in records))


def write_json_lines(path: str | os.PathLike[str], values: Iterable[Any]) -> int:
    """Writes one JSON value a line, as `write_records` does."""
    lines = (json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values)
    return write_lines(path, lines)


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> int:
    """Writes lines (gzip by name) to a file that appears only when complete; returns their number."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with whole_file(path) as partial, partial.open("wb") as raw:
        # A gzip header holds a name and a time; both are left out so that bytes depend on content only.
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else None
        for line in lines:
            (packed or raw).write(f"{line}\n".encode())
            count += 1
        if packed:
            packed.close()
    return count


def parse_line(line: bytes, where: str) -> Any:
    """One line of JSON; InputError with `where` for bad UTF-8 or JSON."""
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise InputError(f"not valid UTF-8: {e}", where=where) from None
    except RecursionError:
        raise InputError("JSON is nested too deeply", where=where) from None
    except ValueError as e:
        raise InputError(f"not valid JSON: {e}", where=where, hint="one JSON object a line") from None


def _open_bytes(path: Path) -> io.BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _step(obj: dict[str, Any]) -> Step:
    observation = obj.get("next_observation", "")
    return Step(
        thought=obj.get("thought", ""),
        tool_calls=tuple(ToolCall(c["name"], c["arguments"]) for c in obj.get("tool_calls", ())),
        next_observation="" if observation is None else observation,
        user_input=obj.get("user_input", ""),
        weight=obj.get("weight", 1.0),
    )


def _style(obj: dict[str, Any] | None) -> Style | None:
    if not obj:
        return None
    return Style(obj.get("call_format", ""), obj.get("layout", ""), tuple(obj.get("sections", ())))


def _tool_json(tool: Tool) -> dict[str, Any]:
    obj: dict[str, Any] = {"name": tool.name}
    if tool.description:
        obj["description"] = tool.description
    obj["parameters"] = tool.parameters
    return obj


def _check_shape(obj: Any, where: str) -> None:
    fast, exact = _validators()
    try:
        if fast.is_valid(obj):
            return
    except ValueError:  # what cannot travel as JSON, which is told of by name later
        pass
    for error in exact.iter_errors(obj):
        raise _explain(error, where)


@functools.cache
def _validators() -> tuple[Any, jsonschema.Draft202012Validator]:
    """One that tells yes or no quickly, and one that tells why."""
    text = importlib.resources.files("xlam_jax.format").joinpath("schema/record.json").read_text("utf-8")
    schema = json.loads(text)
    return jsonschema_rs.Draft202012Validator(schema), jsonschema.Draft202012Validator(schema)


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
        actual = type(instance).__name__
        return InputError(f"field {path or 'record'!r}: expected {kinds}, found {actual}", where=where)
    return InputError(f"field {path!r}: {error.message[:200]}", where=where)
