"""API-Bank dialogues, joined with the descriptions of `all_apis.csv` above them.

Levels 1 and 2: a file is a dialogue, a line a turn of User, AI or API. What the AI says before a call is the
thought of that call's step, what it says to the user a step of its own. An argument stands there twice: as
text in the turn, and typed as it was executed (`result.input`); the latter is taken unless the API is
described as taking text. Offered are the APIs in the file's name and those that are called; the level of the
tool searcher offers that too. The table describes an older state of the APIs than the dialogues ran on
(`schedule_id` where the calls say `content`), so what the tool searcher says in any of the dialogues comes
first.

Level 3: a file is a task: scene, first words, facts, and the calls in their order. The facts (tokens, dates)
follow the first words, since the calls need them, and all calls make one step.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.sources.base import Refused, Row, Source, row_id, tool
from xlam_jax.records.sources.checked import checked
from xlam_jax.records.sources.python_text import python_call

CATALOGUE = "all_apis.csv"
SEARCHER = "ToolSearcher"
_SEARCHER_TOOL = {
    "description": "Searches the library for the tool that fits the keywords.",
    "input_parameters": {"keywords": {"type": "str", "description": "What the tool should do."}},
}


def rows(path: Path) -> Iterator[Row]:
    """Dialogues and tasks of a file or folder, each with the descriptions of the APIs as `extra`.

    Raises:
      InputError: nothing to read, or no catalogue in the folder or above.
    """
    if not path.exists():
        raise InputError("input not found", where=str(path), hint="check the path")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".jsonl", ".txt"))
    if not files:
        raise InputError("no dialogue in this folder", where=str(path), hint=".jsonl, .txt")
    catalogue = _catalogue(path.resolve())
    for file in files:
        yield Row(str(file), raw=file.read_bytes(), extra=catalogue)


def _catalogue(path: Path) -> dict[str, dict[str, Any]]:
    """Description and parameters by API; an entry whose text is no Python literals is left out."""
    catalogue_file = next((p / CATALOGUE for p in (path, *path.parents) if (p / CATALOGUE).is_file()), None)
    if catalogue_file is None:
        raise InputError(f"{CATALOGUE} not found", where=str(path), hint="keep it above the dialogues")
    apis: dict[str, dict[str, Any]] = {SEARCHER: _SEARCHER_TOOL}
    text = catalogue_file.read_text("utf-8-sig")
    for row in csv.reader(io.StringIO(text)):
        # By place: the class name is the seventh column and the description the last; heads are Chinese.
        try:
            body = ast.parse(row[-1]).body
            apis[row[6]] = {s.targets[0].id: ast.literal_eval(s.value) for s in body}  # type: ignore[attr-defined]
        except (SyntaxError, ValueError, IndexError, AttributeError):
            continue
    for file in sorted(catalogue_file.parent.rglob("*.jsonl")):
        apis.update(_searched(file.read_bytes()))
    return apis


def _searched(dialogue: bytes) -> dict[str, dict[str, Any]]:
    """The descriptions that the tool searcher returned in a dialogue."""
    out = {}
    for line in dialogue.splitlines():
        if SEARCHER.encode() not in line:
            continue
        try:
            returned = json.loads(line)["result"]["output"]
            for api in returned if isinstance(returned, list) else [returned]:
                out[api["name"]] = api
        except (ValueError, LookupError, TypeError):  # the dialogue itself is refused where it is converted
            continue
    return out


def convert(row: Row) -> Record:
    """One dialogue or task.

    Refused: `empty_dialogue`, `no_answer`, `unknown_api`, `bad_json`, `bad_call`.
    """
    assert row.raw is not None
    name = Path(row.where).stem
    text = row.raw.decode("utf-8", "replace")
    if row.where.endswith(".txt"):
        query, steps = _task(text)
        names = []
    else:
        turns = [
            Row(f"{row.where}:{i}", raw=line).obj
            for i, line in enumerate(row.raw.splitlines(), 1)
            if line.strip()
        ]
        if not turns:
            raise Refused("empty_dialogue")
        query, steps = _dialogue(turns, row.extra)
        names = [part for part in name.split("-") if part in row.extra]
        if "toolsearcher" in Path(row.where).parent.name:
            names.append(SEARCHER)
    if not steps:
        raise Refused("no_answer", "no turn of the AI")
    names += [call.name for step in steps for call in step.tool_calls]
    return checked(
        Record(
            id=row_id(SOURCE.name, row, f"{Path(row.where).parent.name}/{name}"),
            query=query,
            tools=tuple(_tool(name, row.extra) for name in dict.fromkeys(names)),
            steps=tuple(steps),
            source=SOURCE.name,
            license=SOURCE.license,
        )
    )


def _tool(name: str, catalogue: dict[str, dict[str, Any]]) -> Tool:
    if name not in catalogue:
        raise Refused("unknown_api", str(name))
    api = catalogue[name]
    given = api.get("input_parameters")
    # An API without parameters is written as None or {None}.
    parameters = given if isinstance(given, dict) else {}
    return tool({"name": name, "description": api.get("description"), "parameters": parameters})


def _dialogue(turns: list[dict[str, Any]], catalogue: dict[str, dict[str, Any]]) -> tuple[str, list[Step]]:
    """The first words of the user, and the steps."""
    said: list[str] = []
    while turns and turns[0].get("role") == "User":
        said.append(turns.pop(0)["text"])
    steps: list[Step] = []
    thought = ""
    for turn in turns:
        if turn["role"] == "AI":
            thought = "\n".join(filter(None, (thought, turn["text"])))
        elif turn["role"] == "API":
            steps.append(Step(thought, (_call(turn, catalogue),), _observation(turn["result"])))
            thought = ""
        elif turn["role"] == "User":
            if thought:
                steps.append(Step(thought))
                thought = ""
            if steps:
                last = steps.pop()
                words = "\n".join(filter(None, (last.user_input, turn["text"])))
                steps.append(Step(last.thought, last.tool_calls, last.next_observation, words))
        else:
            raise Refused("bad_role", str(turn["role"]))
    if thought:
        steps.append(Step(thought))
    return "\n".join(said), steps


def _call(turn: dict[str, Any], catalogue: dict[str, dict[str, Any]]) -> ToolCall:
    name, written, executed = turn["api_name"], turn["param_dict"], turn["result"].get("input")
    if not isinstance(executed, dict):
        return ToolCall(name, written)
    parameters = _tool(name, catalogue).parameters["properties"]
    as_text = {key for key in written if parameters.get(key, {}).get("type") == "string"}
    return ToolCall(name, {key: written[key] if key in as_text else value for key, value in executed.items()})


def _observation(result: dict[str, Any]) -> Any:
    failed = result.get("exception")
    return {"exception": failed} if failed else result.get("output", "")


def _task(text: str) -> tuple[str, list[Step]]:
    parts = re.fullmatch(
        r"\s*Scene:.*?First Utter[ae]nce:(.*?)\n(\W*Key Info:.*?)\n[- ]*(?:GT )?API Calls?:(.*)",
        text,
        re.DOTALL,
    )
    if not parts:
        raise Refused("bad_task", text[:80])
    # Behind a call may stand a note, after a colon.
    lines = re.findall(r"^\s*(\w+\(.*\))(?::.*)?\s*$", parts[3], re.MULTILINE)
    calls = tuple(python_call(line) for line in lines)
    if not calls:
        raise Refused("no_answer")
    return f"{parts[1].strip()}\n\n{parts[2].strip()}", [Step(tool_calls=calls)]


SOURCE = Source(
    name="api-bank",
    summary="API-Bank dialogues (levels 1 to 3), all_apis.csv above them",
    license="MIT",
    url="https://github.com/AlibabaResearch/DAMO-ConvAI/tree/main/api-bank",
    convert=convert,
    rows=rows,
)
